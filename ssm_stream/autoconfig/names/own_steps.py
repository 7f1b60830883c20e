"""Machines that send upon a change, at no common times and in no turn: each goes on from its own row before."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from ssm_stream.autoconfig.columns import MIN_FILLED, Column

MIN_NAMES = 3
"""Names from which rows are of machines: two that alternate may be the strokes of one."""
MIN_STEPS = 50
"""Steps in each half of the sample by which they are judged."""
MAX_STEP = 0.5
"""Of a number's usual step from row to row: at most its step from the name's own row before."""


def alternates(column: Column) -> bool:
    """Return whether most rows have another value than the row before, and values come again, as the names of machines
    that all send do. A mode, a product or a lot stays for some rows."""
    n = len(column.values)
    if not column.may_be_entity or not MIN_NAMES <= column.distinct <= n / 2:
        return False
    codes = _codes(column)
    return 2 * int(np.count_nonzero(np.diff(codes))) > n


def own_step(column: Column, numbers: Iterable[Column]) -> float:
    """Return the least, over the numbers, of the usual step from the row before of the same value of `column`, divided
    by that from the row before; infinite where nothing can be judged.

    Measured from the value's mean, as each product, too, has a level of its own: what one machine makes in turn leaves
    its numbers to go on from row to row, so that the last row of the same product is no nearer than the row before.
    """
    codes = _codes(column)
    return min((_ratio(codes, other) for other in numbers if other.path != column.path), default=float("inf"))


def _codes(column: Column) -> NDArray[np.int64]:
    """A number for each value (n,)."""
    texts = [str(column.values.get(i)) for i in range(column.n)]
    return np.unique(texts, return_inverse=True)[1].astype(np.int64)


def _ratio(codes: NDArray[np.int64], number: Column) -> float:
    """The ratio of `own_step` of one number, in the half of the sample where it is larger. codes: (n,)"""
    known = np.flatnonzero(np.isfinite(number.numbers))
    if len(known) < MIN_FILLED * len(codes):
        return float("inf")
    of, x = codes[known], number.numbers[known]
    x = x - (np.bincount(of, x) / np.maximum(np.bincount(of), 1))[of]
    order = np.argsort(of, kind="stable")  # those of each value one after another, in their order
    same = of[order][1:] == of[order][:-1]
    at, own = order[1:][same], np.abs(np.diff(x[order]))[same]
    steps = np.abs(np.diff(x, prepend=np.nan))
    worst = 0.0
    for late in (False, True):
        chosen = (at >= len(x) // 2) == late
        if np.count_nonzero(chosen) < MIN_STEPS:
            return float("inf")
        usual = float(np.nanmedian(steps[at[chosen]]))
        worst = max(worst, float(np.median(own[chosen])) / usual if usual > 0.0 else float("inf"))
    return worst
