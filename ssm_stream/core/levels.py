"""Have the levels of an entity's columns moved? Fast means against slow baselines: `monitor/mean_shift.hpp`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.core import blocks, native


class LevelsState(NamedTuple):
    """E entities, a row each, of D columns (features, then the target); zeros are a fresh entity. 48 + 52 D bytes.

    number (E, 6) float64: correction of the limits' log; mean, mean square of the joint statistic, minus the prior's;
        events in a row in which the baseline is held; 1 if one of them was an alarm; events until
        the levels are known that a category or a setpoint moves
    origin (E, D) float32: the first value; last (E, D) float32: the last value, from the first one on; quantum (E, D)
        float32: the smallest step, 0 while there is none
    mean, base, rms, visit (E, 2 D) float32: fast mean and baseline, both from the first value on; rms of their gap, and
        what it is once the excursion that lasts is over. Of the columns, then of the sizes of their steps
    events, crossings (E, 2 D) uint16: events, zero crossings of the gap
    """

    number: NDArray[np.float64]
    origin: NDArray[np.float32]
    last: NDArray[np.float32]
    quantum: NDArray[np.float32]
    mean: NDArray[np.float32]
    base: NDArray[np.float32]
    rms: NDArray[np.float32]
    visit: NDArray[np.float32]
    events: NDArray[np.uint16]
    crossings: NDArray[np.uint16]


def new_levels_state(E: int, D: int) -> LevelsState:
    """E fresh entities; D counts the target too."""
    return blocks.zeros(LevelsState, "levels", E, None, D)


def observe(
    s: LevelsState,
    e: int,
    values: NDArray[np.float64],
    columns: NDArray[np.float64],
    events: float,
    absorb: float = 1000.0,
) -> NDArray[np.float64]:
    """Learn events in order; returns how far off the levels are, over the limit, (n,): more than 1 is an alarm.

    Args:
        values: targets (n,); columns: features (n, D − 1); what is not finite is skipped
        events: mean number of events between false alarms
        absorb: events in a row after which what is held off is normal
    """
    out = np.empty(len(values))
    rows = np.ascontiguousarray(columns)
    native.levels_observe(s, e, np.ascontiguousarray(values), rows, rows.shape[1], events, absorb, out)
    return out


def causes(s: LevelsState, e: int, out: NDArray[np.float64]) -> None:
    """Each column's part in the score, then each one's steps', out (2 D,): w with the sign of the gap."""
    native.levels_causes(s, e, out)
