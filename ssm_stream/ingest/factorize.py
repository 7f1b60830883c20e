"""Names to whole numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ssm_stream.core import native


def factorize(names: list[str], codes: dict[str, int]) -> NDArray[np.int64]:
    """Return the code (n,) of each name, and add the next codes for new names, in order of appearance."""
    out = np.empty(len(names), np.int64)
    native.factorize(names, codes, out)
    return out
