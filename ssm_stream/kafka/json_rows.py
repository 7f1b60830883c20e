"""Many JSON messages of one schema, assembled without the interpreter from texts encoded a column at a time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from ssm_stream.kernels.json_write import assemble


def assemble_rows(
    templates: Sequence[Sequence[bytes]], names: Sequence[bytes], columns: Sequence[NDArray[Any]]
) -> list[bytes]:
    """Return n messages: each the pieces of a template with a name and then a number of each of K columns between them.

    Args:
        templates: K + 2 pieces each; they take turns
        names: n texts
        columns: K arrays (n,) of numbers or truth values; NaN becomes null
    """
    texts_by_column = [orjson.dumps(np.ascontiguousarray(c), option=orjson.OPT_SERIALIZE_NUMPY)[1:-1] for c in columns]
    texts = b",".join([*texts_by_column, b""])
    places = np.cumsum([0, *(len(text) + 1 for text in texts_by_column[:-1])])
    pieces = b"".join(map(b"".join, templates))
    piece_ends = np.cumsum([len(piece) for template in templates for piece in template]).reshape(len(templates), -1)
    name_ends = np.cumsum(np.fromiter(map(len, names), np.int64, len(names)))
    joined = b"".join(names)
    out = np.empty(len(joined) + len(texts) + len(names) * max(map(len, map(b"".join, templates))), np.uint8)
    cuts = np.zeros(len(names) + 1, np.int64)
    assemble(
        out, cuts, np.frombuffer(joined, np.uint8), name_ends, np.frombuffer(texts, np.uint8), places,
        np.frombuffer(pieces, np.uint8), piece_ends,
    )  # fmt: skip
    whole = out[: cuts[-1]].tobytes()
    return [whole[a:b] for a, b in pairwise(cuts.tolist())]
