"""Does the target creep from day to day? `monitor/days.hpp`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

NUMBERS = 27
# columns of DaysState.number, and of each of its two comparisons
DAY, SUM, EVENTS, USUAL_EVENTS, DAYS, ANEW, LATEST, BY_INPUTS, SINCE, PLAIN, WITH_INPUTS = *range(10), 18
BASE, SQUARE, CROSSED, GAP, FAR = range(5)
# events of a usual day below which several may be joined
FEW_EVENTS = 12.0


class DaysState(NamedTuple):
    """E entities, a row each; zeros are a fresh entity. F: features

    number (E, 27) float64: weekday, from 1; sum and number of its targets; targets of a usual day, or of the days that
        are joined; such days; 1 where the baselines are to begin anew; mean of the last whole one; 1 where inputs
        count; days since an alert of them, from 1; then two comparisons, without and with inputs, each: the baseline
        of the means, mean square and zero crossings of the gap, the last gap, how far the last two are off, over the
        limit, with their sign, days on its side that the mean square has not learned yet, and the sum of their squares;
        baseline and mean square before that alert
    mean, base (E, F) float64: of the features, the means of the day so far and of the days before; NaN: not known
    """

    number: NDArray[np.float64]
    mean: NDArray[np.float64]
    base: NDArray[np.float64]


class DaysPoolState(NamedTuple):
    """P pools, a row each.

    events (P,): events learned
    scatter (P, F + 1, F + 1): mean products of what features and target are off the means of their entity's day
    fourth (P, F): means of the fourth power of what features are off them
    """

    events: NDArray[np.float64]
    scatter: NDArray[np.float64]
    fourth: NDArray[np.float64]


def judged(number: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the comparison that is reported, (5,). number: (18,)"""
    at = WITH_INPUTS if number[BY_INPUTS] > 0.0 else PLAIN
    return number[at : at + FAR + 1]
