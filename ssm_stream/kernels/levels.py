"""Have the levels of an entity's columns moved? Fast means against slow baselines, joined, scaled to a budget.

A column is the target or a feature, or the size of its steps, √|xₜ − xₜ₋₁| (the root tames heavy tails): a signal that
trembles more, or is stuck, need not have moved. Of each:

    gap = fast mean − baseline                     (exponential means over about 10 and 1,000 events)
    z   = gap / its own prequential rms
    w   = ν log(1 + z²/ν)                           about χ² with 1 degree of freedom, as z² is Student's t squared

(w is the leading term of Wallace's normalising transformation of t, 1959.) ν, the degrees of freedom that stand behind
the rms, is not the number of events: a gap that wanders slowly tells little about its own spread. It is counted as the
gap's zero crossings, of which white noise gives acos(1 − FAST)/π an event (Rice 1944). So a column that has drifted to
one side ever since, as a motor that warms up, does not alarm by going on, while a quiet one does by a small step.

Two statistics share the budget: the mean of w over columns, their steps left out (many that move a little), whose limit
is a χ² scaled to the mean and the variance that were observed (Box 1954; Nomikos & MacGregor 1995 for process
monitoring), which needs no covariance matrix; and the largest w, of a column or its steps (one that moves alone), whose
limit is χ² with 1 degree of freedom, by Bonferroni. The score is the larger of the two over its limit.

While the score is high, baseline and rms stand nearly still, so that a fault of hours does not become the new normal
while it lasts; a level that stays for thousands of events does, as there are no zero crossings then, so that ν falls.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.kernels.jit import inner, jit

FAST = 0.1
SLOW = 0.001
FAST_SETTLED, SLOW_SETTLED = 10, 1000  # events from which 1/(n + 1) is below the rate
HOLD = 0.5  # score from which the baseline is held: before the alarm, as a ramp would be absorbed otherwise
HELD = 0.1  # share of the baseline's rate while it is held
START = 30  # events before the gap is measured: fast mean and baseline are the same at first
WARMUP = 100  # events of a column before it counts
STEP_MOST = 1.0 / FAST  # rms of the gap: one event moves z by at most 1
W_MOST = 1.5  # of the largest w's limit; a mean that went further would take as long to come back
FARTHEST = 1e37  # from the first value, in float32
COUNT_MOST = 2000  # events; then events and crossings are halved, and old ones are forgotten
CROSSING = FAST * math.pi / math.acos(1.0 - FAST)  # degrees of freedom of one zero crossing

PRIOR = 1000.0  # events that the prior of the joint statistic counts for
PRIOR_DF = 4.0  # columns that count as independent of each other before more is known
VARIANCE_LEAST = 1e-3
SCORE_MOST = 1e3

# places of LevelsState.column, counts and number
ORIGIN, MEAN, BASE, RMS = range(4)  # numba's float() leaves a float32 as it is, hence np.float64 below
EVENTS, CROSSINGS = range(2)
SEEN, JOINT, JOINT_SQUARE = range(3)


class LevelsState(NamedTuple):
    """E entities, a row each, of D columns (features, then the target); zeros are a fresh entity. 24 + 44 D bytes.

    column (E, 2 D, 4) float32: the first value; fast mean, baseline, both from the first value on; rms of their gap;
        after the columns the sizes of their steps, whose first value is 0
    last (E, D) float32: the last value, from the first one on
    counts (E, 2 D, 2) uint16: events, zero crossings of the gap
    number (E, 3) float64: events of the entity; mean and mean square of the joint statistic, minus the prior's
    """

    column: NDArray[np.float32]
    last: NDArray[np.float32]
    counts: NDArray[np.uint16]
    number: NDArray[np.float64]


def new_levels_state(E: int, D: int) -> LevelsState:
    """E fresh entities; D counts the target too."""
    return LevelsState(
        np.zeros((E, 2 * D, 4), np.float32),
        np.zeros((E, D), np.float32),
        np.zeros((E, 2 * D, 2), np.uint16),
        np.zeros((E, 3)),
    )


@inner
def _chi_square_limit(mean: float, variance: float, events: float) -> float:
    """What a scaled χ² of this mean and variance exceeds in one event of `events`.

    Wilson & Hilferty 1931 for χ², Hastings 1955 (Abramowitz & Stegun 26.2.23) for the normal quantile.
    """
    df = 2.0 * mean * mean / variance
    r = math.sqrt(2.0 * math.log(max(events, 2.0)))
    z = r - (2.515517 + r * (0.802853 + r * 0.010328)) / (1.0 + r * (1.432788 + r * (0.189269 + r * 0.001308)))
    h = 2.0 / (9.0 * df)
    cube = max(1.0 - h + z * math.sqrt(h), 0.1)
    return mean * cube * cube * cube


@inner
def _rate(n: int, least: float, settled: int) -> float:
    """1/(n + 1), or `least` once that is more, from `settled` events on: without a division."""
    return least if n >= settled else max(least, 1.0 / (n + 1.0))


@inner
def _follow_value(c: Any, n: int, x: float) -> None:
    mean, rms = np.float64(c[MEAN]), np.float64(c[RMS])
    step = min(max(x - c[ORIGIN], -FARTHEST), FARTHEST) - mean
    if n >= WARMUP and rms > 0.0:
        # One wild reading is no level.
        step = min(max(step, -STEP_MOST * rms), STEP_MOST * rms)
    c[MEAN] = mean + _rate(n, FAST, FAST_SETTLED) * step


@inner
def _surprise(c: Any, crossings: int, most: float, least: float) -> float:
    """w of a column; 0 where it is less than `least`. Beyond `most` the fast mean is set back to where w is `most`."""
    base = np.float64(c[BASE])
    unit = c[RMS] + 1e-9 * (abs(np.float64(c[ORIGIN])) + abs(base)) + 1e-30
    gap = c[MEAN] - base
    if gap * gap < 0.999 * least * unit * unit:
        return 0.0  # as w ≤ z²: most need neither the division nor the logarithm
    df = max(CROSSING * crossings, 1.0)
    # Not log1p, which takes three times as long: what 1 + x rounds off is 1e-13 of w.
    w = df * math.log(1.0 + gap * gap / (unit * unit * df))
    if w > most:
        w = most
        far = math.copysign(math.sqrt(df * math.expm1(w / df)), gap) * unit
        c[MEAN] = min(max(base + far, -FARTHEST), FARTHEST)
    return w


@inner
def _follow_gap(c: Any, n: int, held: bool) -> None:
    base, rms = np.float64(c[BASE]), np.float64(c[RMS])
    gap = c[MEAN] - base
    if n >= START and not held:
        rate = _rate(n - START, SLOW, SLOW_SETTLED)
        # The square root of a mean square, as the squares of large values are beyond float32.
        c[RMS] = math.sqrt(max(rms * rms + rate * (gap * gap - rms * rms), 0.0))
    c[BASE] = base + _rate(n, SLOW, SLOW_SETTLED) * (HELD if held else 1.0) * gap


@inner
def _hear(c: Any, counts: Any, x: float, most: float, least: float) -> float:
    """The fast mean follows x; returns w (0 where it is less than `least`), −1 while the column is too young."""
    n, above, w = counts[EVENTS], c[MEAN] > c[BASE], -1.0
    _follow_value(c, n, x)
    if n >= WARMUP:
        w = _surprise(c, counts[CROSSINGS], most, least)
    if n >= START and above != (c[MEAN] > c[BASE]):
        counts[CROSSINGS] += 1
    return w


@inner
def _settle(c: Any, counts: Any, held: bool) -> None:
    """Baseline and rms follow; one event more."""
    _follow_gap(c, counts[EVENTS], held)
    counts[EVENTS] += 1
    if counts[EVENTS] >= COUNT_MOST:
        counts[EVENTS] = COUNT_MOST // 2
        counts[CROSSINGS] //= 2


@jit
def observe(s: LevelsState, e: int, value: float, columns: NDArray[np.float64], events: float) -> float:
    """Learn one event; returns how far the levels are off, over the limit: more than 1 is an alarm.

    value: the target; columns (D − 1,): the features; what is not finite is skipped; events: mean number of events
    between false alarms
    """
    number, D = s.number[e], len(columns) + 1
    number[SEEN] += 1.0
    single = _chi_square_limit(1.0, 2.0, 4.0 * D * events)
    total, largest, used = 0.0, 0.0, 0
    for j in range(D):
        x = columns[j] if j < D - 1 else value
        if not math.isfinite(x):
            continue
        c = s.column[e, j]
        first = s.counts[e, j, EVENTS] == 0
        if first:
            c[ORIGIN] = min(max(x, -FARTHEST), FARTHEST)
        w = _hear(c, s.counts[e, j], x, W_MOST * single, 0.0)
        if w >= 0.0:
            total += w
            largest = max(largest, w)
            used += 1
        off = min(max(x - c[ORIGIN], -FARTHEST), FARTHEST)
        if not first:
            step = math.sqrt(abs(off - s.last[e, j]))
            w = _hear(s.column[e, D + j], s.counts[e, D + j], step, W_MOST * single, largest)
            largest = max(largest, w)
        s.last[e, j] = off
    score = 0.0
    if used > 0:
        joint, variance = total / used, 2.0 / min(PRIOR_DF, used)
        mean, square = 1.0 + number[JOINT], 1.0 + variance + number[JOINT_SQUARE]
        limit = _chi_square_limit(mean, max(square - mean * mean, VARIANCE_LEAST), 2.0 * events)
        score = min(max(joint / limit, largest / single), SCORE_MOST)
        if score < 1.0:
            rate = max(SLOW, 1.0 / (number[SEEN] + PRIOR))
            number[JOINT] += rate * (joint - mean)
            number[JOINT_SQUARE] += rate * (joint * joint - square)
    for j in range(D):
        if math.isfinite(columns[j] if j < D - 1 else value):
            if s.counts[e, j, EVENTS] > 0:
                _settle(s.column[e, D + j], s.counts[e, D + j], score > HOLD)
            _settle(s.column[e, j], s.counts[e, j], score > HOLD)
    return score


@jit
def causes(s: LevelsState, e: int, out: NDArray[np.float64]) -> None:
    """Each column's part in the score, then each one's steps', out (2 D,): w with the sign of the gap."""
    for j in range(len(out)):
        c, out[j] = s.column[e, j], 0.0
        if s.counts[e, j, EVENTS] >= WARMUP:
            gap = c[MEAN] - np.float64(c[BASE])
            out[j] = math.copysign(_surprise(c, s.counts[e, j, CROSSINGS], math.inf, 0.0), gap)
