"""Is the target, hour for hour, where its context puts it? `monitor/hours.hpp`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

NUMBERS, SEASONS, CODES = 15, 2, 16
MORE = SEASONS + CODES
"""Columns of the context after the features: what is usual at this time of the week and of the day, codes."""
# columns of HoursState.number
HOUR, SUM, EVENTS, USUAL_EVENTS, SEEN, FIRST, MEAN, SQUARE, ALONG, GAP, FORMER, FAR, LATEST, EXPECTED, COMPARED = range(
    NUMBERS
)
LEARNED, SIZE, TAUGHT, NAMED_CODES = range(4)  # columns of HoursPoolState.learned


class HoursState(NamedTuple):
    """E entities, a row each; zeros are a fresh entity. D: columns of the context, the features first

    number (E, 15) float64: the hour since 1970; sum and number of its targets; targets of a usual one; hours; the first
        one; the usual mean; mean square of the gap, and mean product with the one before; the last two gaps, over what
        they were predicted to be; how far the last three are off, over the limit, with their sign; mean of the last
        hour, and what its context made it; hours compared
    sum, base (E, D) float64: of the context, the sums of the hour so far and the usual means; NaN: not known
    """

    number: NDArray[np.float64]
    sum: NDArray[np.float64]
    base: NDArray[np.float64]


class HoursPoolState(NamedTuple):
    """P pools, a row each.

    learned (P, 4): hours; mean size of gaps, mean square of those that teach; codes that have a column
    scatter (P, D, D): mean products of what the context is off the usual means of its entity
    product, weight (P, 2, D): its mean products with what the target is off, and with the size of its gap; the
        regressions of both
    place (P, 256) uint8: columns of codes, from 1; 0: none
    """

    learned: NDArray[np.float64]
    scatter: NDArray[np.float64]
    product: NDArray[np.float64]
    weight: NDArray[np.float64]
    place: NDArray[np.uint8]
