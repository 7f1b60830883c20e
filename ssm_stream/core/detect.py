"""Has the relation changed? A Shiryaev–Roberts e-detector on the normal scores of errors: `monitor/drift.hpp`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.core import blocks, native

CHANGES = (
    "",
    "higher",
    "lower",
    "smaller",
    "larger",
    "creeping up",
    "creeping down",
    "creeping up",
    "creeping down",
    "higher",
    "lower",
)
"""What the winning bet implies for the errors: their level, their size, or a slow change of their level."""
SMALLER = "smaller"
"""Of these, errors that have become smaller: a change for which nothing is to be done."""
BY_DAYS, BY_HOURS = 7, 9
"""The first of those that the target's days, its hours have shown."""

NUMBERS = 34
# columns of DetectorState.number
(
    SEEN, CENTRE, SCALE, WARM, MEAN, SPREAD, CROSS, POWER, LAST, TOTAL, MASS, DITHER, Z_MEAN, Z_SQUARE, WAITING, CHANGE,
    TESTING, IN_BLOCK, BLOCK_SUM, BLOCK_TOTAL, BLOCK_MASS, BLOCK_SEEN, BLOCK_WAITING,
    CAUTION, WANDER, WANDER_SQUARE, LEVEL, LEVEL_CROSS, LEVEL_POWER, SIZE, SIZE_CROSS, SIZE_POWER, BLOCK_Z,
    BLOCK_WANDER,
) = range(NUMBERS)  # fmt: skip


class DetectorState(NamedTuple):
    """E entities, a row each; zeros are a fresh entity.

    number (E, 34) float64: events seen; centre and scale of the errors, the unit of the bins; events left of
        a warm-up or of the test after an alarm; running mean and mean absolute deviation of the error; lag-one and
        lag-zero products (clipped, for whitening); the last error (clipped); the histogram's total and the weight of
        its next entry; the dither; running mean of z and of z²; errors that wait; what the last alarm found (index of
        CHANGES); 1 while an alarm is tested; then of the blocks: events in the present one, their sum, the reference's
        total, the weight of its next entry, blocks seen, blocks that wait; log of what the threshold is raised by; how
        much more than of independent z the running means of z and z² move, over 1; the slow mean of z, and the products
        that show how much of it the next z follows; the same of z² − 1; running mean of the blocks' z, and how much
        more it moves than of independent ones, over 1
    bets (E, K) float64: Shiryaev–Roberts statistics R
    histogram (E, 2, BINS + COARSE) float32: decayed counts of errors and of blocks, times a growing weight; their sums
    waiting (E, LAG + BLOCK_LAG) float32: whitened errors and block means that have not joined yet, rings
    """

    number: NDArray[np.float64]
    bets: NDArray[np.float64]
    histogram: NDArray[np.float32]
    waiting: NDArray[np.float32]


def follows_last(number: NDArray[np.float64]) -> float:
    """Return how much of the last error the next one follows. number: (34,)"""
    return min(max(float(number[CROSS]) / (float(number[POWER]) + 1e-9), 0.0), 0.95)


def is_calm(number: NDArray[np.float64]) -> bool:
    """Return whether the latest errors fit the old ones again, as in `monitor/drift.hpp`. number: (34,)"""
    tested = float(number[WARM]) <= 0.0 and float(number[TESTING]) == 0.0
    return tested and abs(float(number[Z_MEAN])) < 0.5 and abs(float(number[Z_SQUARE]) - 1.0) < 0.7


def new_detector_state(E: int) -> DetectorState:
    """E fresh entities."""
    return blocks.zeros(DetectorState, "detector", E)


def observe(s: DetectorState, e: int, error: float, budget: float, hold: bool) -> float:
    """Learn one signed error; returns the evidence over the threshold: 1 or more is an alarm.

    Args:
        s: state of E entities
        e: the entity
        error: target − prediction, in any unit
        budget: mean events between false alarms
        hold: whether the old reference is kept after an alarm even if errors do not fit it
    """
    return native.drift_observe(s, e, error, budget, hold)


def observe_all(
    s: DetectorState, e: int, errors: NDArray[np.float64], budget: float, hold: bool
) -> NDArray[np.float64]:
    """`observe` of (n,) errors one after another: the evidence after each."""
    evidence = np.empty(len(errors))
    native.drift_observe_all(s, e, errors, budget, hold, evidence)
    return evidence
