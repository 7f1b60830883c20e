"""Names to whole numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def factorize(names: list[str], codes: dict[str, int]) -> NDArray[np.int64]:
    """Return the code (n,) of each name, and add the next codes for new names, in order of appearance."""
    if names and names.count(names[0]) == len(names):
        return np.full(len(names), codes.setdefault(names[0], len(codes)))
    try:
        return np.fromiter(map(codes.__getitem__, names), np.int64, len(names))
    except KeyError:
        for name in dict.fromkeys(names):
            codes.setdefault(name, len(codes))
        return np.fromiter(map(codes.__getitem__, names), np.int64, len(names))
