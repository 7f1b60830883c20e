"""JSON messages of one schema, put together from columns of text: the compiled part of `kafka/json_rows.py`."""

from __future__ import annotations

from typing import Any

from ssm_stream.kernels.jit import inner, jit


@inner
def _copy(out: Any, at: int, source: Any, begin: int, end: int) -> int:
    for i in range(begin, end):
        out[at] = source[i]
        at += 1
    return at


@jit
def assemble(
    out: Any, cuts: Any, names: Any, name_ends: Any, texts: Any, places: Any, pieces: Any, piece_ends: Any
) -> None:
    """Rows piece, name, piece, number, …, piece into `out`; row i ends at cuts[i + 1].

    texts: all columns' numbers, a comma after each; places (K,): where the next number of each column begins
    piece_ends (templates, K + 2): the templates take turns
    """
    at, name, count = 0, 0, len(piece_ends)
    for row in range(len(name_ends)):
        turn = row % count
        piece = piece_ends[turn - 1, -1] if turn else 0
        at = _copy(out, at, pieces, piece, piece_ends[turn, 0])
        at = _copy(out, at, names, name, name_ends[row])
        name = name_ends[row]
        for k in range(len(places)):
            at = _copy(out, at, pieces, piece_ends[turn, k], piece_ends[turn, k + 1])
            i = places[k]
            while texts[i] != 44:
                out[at] = texts[i]
                at += 1
                i += 1
            places[k] = i + 1
        at = _copy(out, at, pieces, piece_ends[turn, -2], piece_ends[turn, -1])
        cuts[row + 1] = at
