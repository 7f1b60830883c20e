"""Have the levels of the columns moved? Fast means against slow baselines, joined over columns, scaled to a budget."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.model.jit import inner, jit

FAST = 0.1
SLOW = 0.001
HELD = 0.1
START = 60
WARMUP = 100
PRIOR = 1000.0
PRIOR_DF = 4.0
CLUSTER = 1.0
HOLD = 0.5
CROSS = FAST * math.pi / math.acos(1.0 - FAST)
STEP_MOST = 1.0 / FAST

ORIGIN, MEAN, BASE, RMS = range(4)
SEEN, Q_MEAN, Q_SQUARE, SCORE = range(4)


class LevelsState(NamedTuple):
    column: NDArray[np.float32]
    count: NDArray[np.uint16]
    number: NDArray[np.float64]


def new_levels_state(E: int, D: int) -> LevelsState:
    return LevelsState(np.zeros((E, D, 4), np.float32), np.zeros((E, D, 2), np.uint16), np.zeros((E, 4)))


@inner
def _bound(mean: float, variance: float, events: float) -> float:
    c, df = 0.5 * variance / mean, 2.0 * mean * mean / variance
    tail = min(CLUSTER / events, 0.5)
    r = math.sqrt(-2.0 * math.log(tail))
    z = r - (2.515517 + 0.802853 * r + 0.010328 * r * r) / (1.0 + 1.432788 * r + 0.189269 * r * r + 0.001308 * r * r * r)
    h = 2.0 / (9.0 * df)
    return c * df * (1.0 - h + z * math.sqrt(h)) ** 3


@inner
def _column(c: Any, n: int, crossings: int, x: float, most: float) -> float:
    if n == 0:
        c[ORIGIN] = x
    mean, base, rms = float(c[MEAN]), float(c[BASE]), float(c[RMS])
    step = min(max(x - c[ORIGIN], -1e37), 1e37) - mean
    if n >= WARMUP and rms > 0.0:
        step = min(max(step, -STEP_MOST * rms), STEP_MOST * rms)
    mean += max(FAST, 1.0 / (n + 1.0)) * step
    if n < WARMUP:
        c[MEAN] = mean
        return 0.0
    unit = rms + 1e-9 * (abs(c[ORIGIN]) + abs(base)) + 1e-30
    z = (mean - base) / unit
    df = max(CROSS * crossings, 1.0)
    w = df * math.log1p(z * z / df)
    if w > most:
        w = most
        z = math.copysign(math.sqrt(df * (math.exp(min(w / df, 80.0)) - 1.0)), z)
        mean = base + min(max(z * unit, -1e37), 1e37)
    c[MEAN] = mean
    return w


@inner
def _follow(c: Any, n: int, held: bool) -> None:
    gap = float(c[MEAN]) - float(c[BASE])
    if n >= START and not held:
        rms = float(c[RMS])
        c[RMS] = math.sqrt(rms * rms + max(1.0 / (n - START + 1.0), SLOW) * (gap * gap - rms * rms))
    c[BASE] = float(c[BASE]) + max(SLOW, 1.0 / (n + 1.0)) * (HELD if held else 1.0) * gap


@jit
def observe(s: LevelsState, e: int, value: float, columns: NDArray[np.float64], events: float) -> float:
    D = len(columns)
    number = s.number[e]
    number[SEEN] += 1.0
    total, used, largest = 0.0, 0, 0.0
    single = _bound(1.0, 2.0, events * (D + 1) * 2)
    for j in range(D + 1):
        x = columns[j] if j < D else value
        if math.isfinite(x):
            n = s.count[e, j, 0]
            c = s.column[e, j]
            before = c[MEAN] > c[BASE]
            w = _column(c, n, s.count[e, j, 1], x, 1.5 * single)
            if n >= START and before != (c[MEAN] > c[BASE]):
                s.count[e, j, 1] += 1
            total += w
            largest = max(largest, w)
            if n >= WARMUP:
                used += 1
    score, bound = 0.0, 1.0
    if used > 0:
        q = total / used
        df = min(PRIOR_DF, used)
        mean, square = 1.0 + number[Q_MEAN], 1.0 + 2.0 / df + number[Q_SQUARE]
        bound = _bound(mean, max(square - mean * mean, 1e-3), 2 * events)
        score = max(q / bound, largest / single)
        if score < 1.0:
            r = max(SLOW, 1.0 / (number[SEEN] + PRIOR))
            number[Q_MEAN] += r * (q - 1.0 - number[Q_MEAN])
            number[Q_SQUARE] += r * (q * q - 1.0 - 2.0 / df - number[Q_SQUARE])
    held = score > HOLD
    for j in range(D + 1):
        x = columns[j] if j < D else value
        if math.isfinite(x):
            n = s.count[e, j, 0]
            _follow(s.column[e, j], n, held)
            s.count[e, j, 0] = n + 1
            if n >= 2000:
                s.count[e, j, 0] = 1000
                s.count[e, j, 1] //= 2
    return score
