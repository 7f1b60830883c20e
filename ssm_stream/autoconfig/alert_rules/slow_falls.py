"""Whole numbers that only fall, slowly: the charge of a battery in percent.

Such a number stays at one value for days, and the longer the older the battery is: that it repeats a value for longer
than it ever did is no fault.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SLOW_FALL = "a whole number that falls slowly, as a battery does, and so stays at one value ever longer"
MIN_ROWS = 60
"""Rows of a machine that show how a number goes."""
MIN_FALL, MIN_FALLING, MIN_ROWS_A_UNIT = 0.25, 0.5, 20
"""Of the mean, from the first third of a machine's rows to the last; share of the machines whose number falls so far;
and rows in which it falls by one, at least."""
FLAPS, MAX_ABOVE = 1.0, 0.05
"""How far it may be above what it has been down to, as it changes to and fro between two whole numbers; and the share
of the rows in which it may be more."""


def falls_slowly(runs: Sequence[NDArray[np.float64]]) -> bool:
    """Return whether a number is whole, and falls slowly or stays as it is.

    runs: its finite values of each machine, in the order of their times
    """
    runs = [run for run in runs if len(run) >= MIN_ROWS]
    falls, above, rows = 0, 0, 0
    for run in runs:
        third = len(run) // 3
        fall = float(run[:third].mean() - run[-third:].mean())
        if (run != np.round(run)).any() or fall < -MIN_FALL or 1.5 * fall * MIN_ROWS_A_UNIT > len(run):
            return False
        falls += fall >= MIN_FALL
        above += int(np.count_nonzero(run - np.minimum.accumulate(run) > FLAPS))
        rows += len(run)
    return falls >= max(MIN_FALLING * len(runs), 1) and above <= MAX_ABOVE * rows
