"""How large an error may be: a prediction interval that keeps its coverage, and the bound of the anomaly level.

Both are online quantiles of |error| over its running mean, so that they follow the entity's unit and its noise:

* the interval's half-width is moved by the pinball loss's gradient on a log scale (adaptive conformal inference,
  Gibbs & Candès 2021): up at a miss, down at a hit, so that in the long run misses make up 1 − level;
* the anomaly level (one event in 10,000, say) is too rare to be tracked so. Errors beyond the 98 % quantile are taken
  as generalised Pareto (peaks over threshold; Pickands 1975) with decayed moments: the bound in closed form. What the
  closed form gets wrong (few exceedances, other tails) is taken back by the same pinball steps on the bound's log, one
  up an alarm, one down a budget's worth of events, so that in the long run alarms come at the budget's rate.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.kernels.jit import inner, jit

SCALE_RATE = 0.01
STEP = 0.07  # of the log half-width an event; the long-run coverage error is (change of log width) / (STEP · events)
TAIL_STEP = 0.02  # of the log of the tail's threshold
TAIL = 0.02  # share of errors that the tail model is fitted to
TAIL_RATE = 1 / 400  # of the tail's moments, an exceedance
STEP_BOUND = 0.1  # of the bound's log, an alarm
BOUND_MOST = 0.5  # of that correction, so that entities that are often at fault stay audible
YOUNG = 100  # errors before the bound is corrected
REST = 50  # events after an alarm in which others are the same one
PRIOR = 10.0  # exceedances that the prior (a Laplace tail, a little heavier) counts for
SHAPE_MAX = 0.45
EXCESS_MOST = 100.0  # running means of |error|, before there is a bound


class IntervalState(NamedTuple):
    """E entities, a row each; zeros are a fresh entity.

    scale (E,): running mean of |error|, in the target's unit
    width (E,): log of the interval's half-width over scale
    tail (E, 6): log of the tail's threshold over scale; mean and mean square of the excess; exceedances, at most
        1 / TAIL_RATE; correction of the anomaly bound (log); events of rest left after an alarm
    """

    scale: NDArray[np.float64]
    width: NDArray[np.float64]
    tail: NDArray[np.float64]


def new_interval_state(E: int) -> IntervalState:
    """E fresh entities."""
    return IntervalState(np.zeros(E), np.zeros(E), np.zeros((E, 6)))


@jit
def half_width(s: IntervalState, e: int) -> float:
    """Distance from the prediction to the interval's bounds, in the target's unit."""
    return s.scale[e] * math.exp(s.width[e])


@jit
def anomaly_bound(s: IntervalState, e: int, rate: float) -> float:
    """|error| that one event in 1/rate exceeds while nothing changes, in the target's unit."""
    mean, square = s.tail[e, 1], s.tail[e, 2]
    variance = max(square - mean * mean, 1e-12)
    shape = min(max(0.5 * (1.0 - mean * mean / variance), 0.0), SHAPE_MAX)
    size = mean * (1.0 - shape)
    ratio = max(TAIL / rate, 1.0)
    excess = size * math.log(ratio) if shape < 1e-6 else size / shape * (ratio**shape - 1.0)
    return s.scale[e] * (math.exp(s.tail[e, 0]) + excess) * math.exp(s.tail[e, 4])


@inner
def _learn_tail(tail: Any, excess: float) -> None:
    weight = max(1.0 / (tail[3] + PRIOR + 1.0), TAIL_RATE)
    tail[1] += weight * (excess - tail[1])
    tail[2] += weight * (excess * excess - tail[2])
    tail[3] = min(tail[3] + 1.0, 1.0 / TAIL_RATE)


@jit
def observe(s: IntervalState, e: int, n: int, error: float, level: float, rate: float) -> None:
    """Learn one error (absolute, in the target's unit); n errors of the entity came before."""
    if n == 0 or s.scale[e] == 0.0:
        s.width[e] = math.log(-math.log(1.0 - level))
        s.tail[e, 0] = math.log(-math.log(TAIL))
        s.tail[e, 1], s.tail[e, 2] = 1.0, 2.25
        s.scale[e] = error
        return
    step, tail_step = max(STEP, 1.0 / (n + 10.0)), max(TAIL_STEP, 1.0 / (n + 10.0))
    s.tail[e, 5] -= 1.0
    if n >= YOUNG:
        s.tail[e, 4] = max(s.tail[e, 4] - STEP_BOUND * rate, -BOUND_MOST)
    missed = 1.0 if error > s.scale[e] * math.exp(s.width[e]) else 0.0
    s.width[e] = min(max(s.width[e] + step * (missed - (1.0 - level)), -7.0), 7.0)
    excess = error / s.scale[e] - math.exp(s.tail[e, 0])
    if excess > 0.0:
        # What lies beyond the bound teaches the tail nothing: a few spikes must not make the next one normal. If they
        # are no faults, the correction follows.
        beyond = n >= YOUNG and error > anomaly_bound(s, e, rate)
        if beyond and s.tail[e, 5] <= 0.0:
            s.tail[e, 4] = min(s.tail[e, 4] + STEP_BOUND, BOUND_MOST)
            s.tail[e, 5] = REST
        if not beyond:
            _learn_tail(s.tail[e], min(excess, EXCESS_MOST))
        s.tail[e, 0] += tail_step * (1.0 - TAIL)
    else:
        s.tail[e, 0] -= tail_step * TAIL
    s.tail[e, 0] = min(max(s.tail[e, 0], -7.0), 7.0)
    weight = max(1.0 / (n + 1.0), SCALE_RATE)
    if n > 30:
        error = min(error, 10.0 * s.scale[e])
    s.scale[e] += weight * (error - s.scale[e])
