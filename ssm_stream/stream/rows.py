"""Many JSON messages of one schema, put together without the interpreter from texts written a column at a time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from ssm_stream.model.jit import inner, jit


@inner
def _copy(out: Any, at: int, source: Any, begin: int, end: int) -> int:
    for i in range(begin, end):
        out[at] = source[i]
        at += 1
    return at


@jit
def _assemble(
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


def assembled(
    templates: Sequence[Sequence[bytes]], names: Sequence[bytes], columns: Sequence[NDArray[Any]]
) -> list[bytes]:
    """n messages: each the pieces of a template with a name and then a number of each of K columns between them.

    Args:
        templates: K + 2 pieces each; they take turns
        names: n texts
        columns: K arrays (n,) of numbers or truth values, written as JSON; NaN as null
    """
    written = [orjson.dumps(np.ascontiguousarray(c), option=orjson.OPT_SERIALIZE_NUMPY)[1:-1] for c in columns]
    texts = b",".join([*written, b""])
    places = np.cumsum([0, *(len(text) + 1 for text in written[:-1])])
    pieces = b"".join(map(b"".join, templates))
    piece_ends = np.cumsum([len(piece) for template in templates for piece in template]).reshape(len(templates), -1)
    name_ends = np.cumsum(np.fromiter(map(len, names), np.int64, len(names)))
    joined = b"".join(names)
    out = np.empty(len(joined) + len(texts) + len(names) * max(map(len, map(b"".join, templates))), np.uint8)
    cuts = np.zeros(len(names) + 1, np.int64)
    _assemble(
        out, cuts, np.frombuffer(joined, np.uint8), name_ends, np.frombuffer(texts, np.uint8), places,
        np.frombuffer(pieces, np.uint8), piece_ends,
    )  # fmt: skip
    whole = out[: cuts[-1]].tobytes()
    return [whole[a:b] for a, b in pairwise(cuts.tolist())]
