"""Whether a column is an angle in degrees, that jumps by a whole turn where it passes through north."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ssm_stream.autoconfig.roles import unit_of

TURN, NEAR_END, MIN_AT_END, MIN_TURNS, MIN_SMALL = 360.0, 10.0, 5, 3, 0.95
"""Degrees of a turn, and of what is near its ends; values there, and steps from one to the other, that show an angle;
share of the steps that are these or small."""
LOWEST = (0.0, -180.0)
"""Where a turn begins, in degrees."""
MAX_LARGER = 3.0
"""Times the other steps, by mean squares: what steps through north turn by. It is as much, and where a machine is
switched on it is what is left to 360."""


def is_angle(path: str, runs: Sequence[NDArray[np.float64]], steps: NDArray[np.float64]) -> bool:
    """Return whether numbers are degrees that pass from one end of a turn to the other, and turn by little otherwise.

    A machine that is switched on and off may jump as far: `pump_bar` from 2 to 350. It has a unit in its name, or one
    value at its lower end, or jumps by what it never turns by else.

    Args:
        path: name of the column
        runs: numbers of each entity, in the order of their times
        steps: differences between two of a run that are not zero
    """
    values = np.unique(np.concatenate(runs)) if runs else np.empty(0)
    if not len(values) or not TURN - NEAR_END <= values[-1] - values[0] <= TURN or unit_of(path):
        return False
    if not any(0.0 <= values[0] - low < NEAR_END and values[-1] - low <= TURN for low in LOWEST):
        return False
    ends = (np.count_nonzero(values < values[0] + NEAR_END), np.count_nonzero(values > values[-1] - NEAR_END))
    sizes = np.abs(steps)
    through = TURN - sizes[sizes > TURN - 2 * NEAR_END]
    small = sizes[sizes < TURN / 4]
    if min(ends) < MIN_AT_END or len(through) < MIN_TURNS or len(through) + len(small) < MIN_SMALL * len(sizes):
        return False
    return bool(len(small) and np.mean(through**2) <= MAX_LARGER**2 * np.mean(small**2))
