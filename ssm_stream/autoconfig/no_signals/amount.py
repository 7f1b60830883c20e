"""Amounts since something came, again and again, as the weight of the coil that is wound."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

AMOUNT = (
    "it only grows, and begins anew near zero again and again: an amount since the last coil, batch or reset, no "
    "signal; what it grew by since the row before is one: send that as a column"
)
MIN_ANEW, MIN_STEPS = 5, 10
"""How often an amount begins anew at least, and how often it grows before it does, on average."""
MIN_NEAR_ZERO, MIN_VARIED = 0.9, 0.1
"""Share of the resets that are to near zero; relative interquartile range of the values before them: what is emptied
when it is full, as a tank, is a level."""


def begins_anew_near_zero(runs: Sequence[NDArray[np.float64]]) -> bool:
    """Return whether numbers never fall but to begin anew near zero, from other values each time, and grow at most rows
    at which they are not zero, as what is switched on, such as a speed without noise, does not.

    Args:
        runs: the numbers of each entity, in the order of their times
    """
    resets = near_zero = rises = positive = 0
    varied = []
    for run in runs:
        steps = np.diff(run)
        fallen = np.flatnonzero(steps < 0)
        before, after = run[fallen], run[fallen + 1]
        if run.min(initial=0.0) < 0.0 or np.any(2.0 * after > before):
            return False
        resets, rises = resets + len(fallen), rises + int(np.count_nonzero(steps > 0))
        near_zero += int(np.count_nonzero(after <= steps.max(initial=0.0)))
        positive += int(np.count_nonzero(run > 0))
        if len(fallen) >= MIN_ANEW:
            low, middle, high = np.quantile(before, [0.25, 0.5, 0.75])
            varied.append(float((high - low) / middle))
    often = bool(varied) and near_zero >= MIN_NEAR_ZERO * resets and rises >= MIN_STEPS * resets
    return often and 2 * rises > positive and float(np.median(varied)) > MIN_VARIED
