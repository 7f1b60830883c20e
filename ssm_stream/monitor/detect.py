"""Has the relation changed? A Shiryaev–Roberts e-detector on the normal scores of whitened errors.

error → whitened by an online AR(1) → rank p in a decayed histogram of the entity's own past → z = Φ⁻¹(p), standard
normal while nothing changes → likelihood ratios of shifted and of rescaled normals, `R ← (R + 1)·LR(z)`. Their mean is
an e-detector: while the z are independent and standard normal, the mean number of events to a false alarm is at least
the threshold (Shin, Ramdas & Rinaldo 2022). Whitening makes that nearly so for a model's errors; not for any data.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.model.jit import jit

BINS = 128
LAG = 256  # events before an error joins the reference, so that a change does not hide itself
GROWTH = 2.0 ** (1.0 / 4000.0)  # half-life of the reference: 4,000 events
RESCALE = 1e20
SETTLE = 50  # events that fix the histogram's centre and scale
FIRST = 250  # events of the first reference after that
AGAIN = 100  # events of a new reference after an alarm
AR_RATE = 0.002
GOLDEN = 0.6180339887498949
SHIFTS = np.array([0.25, 0.5, 1.0, -0.25, -0.5, -1.0])
SCALES = np.array([0.5, 0.7, 1.4, 2.0])
K = len(SHIFTS) + len(SCALES)

# columns of DetectorState.number
SEEN, CENTRE, SCALE, WARM, MEAN, SPREAD, CROSS, POWER, LAST, TOTAL, MASS, DITHER, Z_MEAN, Z_SQUARE = range(14)


class DetectorState(NamedTuple):
    """E entities, a row each; zeros are a fresh entity.

    number (E, 14) float64: events seen; centre and scale of the histogram; events of warm-up left; running mean and
        mean absolute deviation of the error; lag-one and lag-zero products (clipped, whitening); the last error;
        the histogram's total and the weight of its next entry; the dither; running mean of z and of z²
    bets (E, K) float64: Shiryaev–Roberts statistics R
    histogram (E, BINS) float32: decayed counts, times a growing weight
    waiting (E, LAG) int16: bins of the errors that have not joined yet, plus one; 0 is empty
    """

    number: NDArray[np.float64]
    bets: NDArray[np.float64]
    histogram: NDArray[np.float32]
    waiting: NDArray[np.int16]


def new_detector_state(E: int) -> DetectorState:
    """E fresh entities."""
    return DetectorState(
        np.zeros((E, 14)), np.zeros((E, K)), np.zeros((E, BINS), np.float32), np.zeros((E, LAG), np.int16)
    )


@jit
def normal_quantile(p: float) -> float:
    """Φ⁻¹(p) to about 1e-7, 0 < p < 1 (Wichura 1988, algorithm AS 241, PPND7)."""
    q = p - 0.5
    if abs(q) <= 0.425:
        r = 0.180625 - q * q
        top = ((59.109374720 * r + 159.29113202) * r + 50.434271938) * r + 3.3871327179
        return q * top / (((67.187563600 * r + 78.757757664) * r + 17.895169469) * r + 1.0)
    r = math.sqrt(-math.log(p if q < 0.0 else 1.0 - p))
    if r <= 5.0:
        r -= 1.6
        top = ((0.17023821103 * r + 1.3067284816) * r + 2.7568153900) * r + 1.4234372777
        x = top / ((0.12021132975 * r + 0.73700164250) * r + 1.0)
    else:
        r -= 5.0
        top = ((0.017337203997 * r + 0.42868294337) * r + 3.0812263860) * r + 6.6579051150
        x = top / ((0.012258202635 * r + 0.24197894225) * r + 1.0)
    return -x if q < 0.0 else x


@jit
def _bin(value: float) -> int:
    return min(max(int((math.asinh(value) + 5.0) * (BINS / 10.0)), 0), BINS - 1)


@jit
def _insert(s: DetectorState, e: int, b: int) -> None:
    number = s.number[e]
    s.histogram[e, b] += np.float32(number[MASS])
    number[TOTAL] += number[MASS]


@jit
def _restart(s: DetectorState, e: int, events: int) -> None:
    """A new reference, centred and scaled on the latest errors."""
    number = s.number[e]
    number[CENTRE], number[SCALE], number[WARM] = number[MEAN], 1.25 * number[SPREAD], events
    number[TOTAL], number[MASS], number[Z_MEAN], number[Z_SQUARE] = 0.0, 1.0, 0.0, 1.0
    for i in range(K):
        s.bets[e, i] = 0.0
    for i in range(BINS):
        s.histogram[e, i] = 0.0
    for i in range(LAG):
        s.waiting[e, i] = 0


@jit
def _score(s: DetectorState, e: int, b: int) -> float:
    """z of an error in bin b: its rank among the reference, dithered within the bin, as a normal quantile."""
    number = s.number[e]
    below = 0.0
    for j in range(b):
        below += s.histogram[e, j]
    number[DITHER] = (number[DITHER] + GOLDEN) % 1.0
    entries = number[TOTAL] / number[MASS]
    p = (below + number[DITHER] * s.histogram[e, b] + 0.5 * number[MASS]) / (number[TOTAL] + number[MASS])
    least = 0.5 / (entries + 1.0)
    return normal_quantile(min(max(p, least), 1.0 - least))


@jit
def _bet(s: DetectorState, e: int, z: float) -> float:
    total = 0.0
    for i in range(len(SHIFTS)):
        s.bets[e, i] = (s.bets[e, i] + 1.0) * math.exp(SHIFTS[i] * z - 0.5 * SHIFTS[i] * SHIFTS[i])
        total += s.bets[e, i]
    for i in range(len(SCALES)):
        k, size = len(SHIFTS) + i, SCALES[i]
        s.bets[e, k] = (s.bets[e, k] + 1.0) * math.exp(0.5 * z * z * (1.0 - 1.0 / (size * size))) / size
        total += s.bets[e, k]
    return total / K


@jit
def observe(s: DetectorState, e: int, error: float, threshold: float) -> float:
    """Learn one signed error; returns the evidence over the threshold (in events): 1 or more is an alarm.

    After an alarm the reference starts again on the new regime.
    """
    number = s.number[e]
    seen = number[SEEN]
    number[SEEN] = seen + 1.0
    rate = max(1.0 / (seen + 1.0), 0.02)
    step = error - number[MEAN]
    if seen > 30.0:
        step = min(max(step, -10.0 * number[SPREAD]), 10.0 * number[SPREAD])
    number[MEAN] += rate * step
    number[SPREAD] += rate * (abs(step) - number[SPREAD])
    if number[SCALE] <= 0.0:
        if seen + 1.0 >= SETTLE and number[SPREAD] > 0.0:
            _restart(s, e, FIRST)
        return 0.0
    x = min(max((error - number[CENTRE]) / number[SCALE], -1000.0), 1000.0)
    clipped = min(max(x, -4.0), 4.0)
    phi = min(max(number[CROSS] / (number[POWER] + 1e-9), -0.95), 0.95)
    b = _bin(x - phi * number[LAST])
    rate = max(AR_RATE, 1.0 / (seen - SETTLE + 3.0))
    number[CROSS] += rate * (clipped * number[LAST] - number[CROSS])
    number[POWER] += rate * (clipped * clipped - number[POWER])
    number[LAST] = clipped
    evidence = 0.0
    if number[WARM] > 0.0:
        number[WARM] -= 1.0
        _insert(s, e, b)
    else:
        z = _score(s, e, b)
        number[Z_MEAN] += 0.02 * (z - number[Z_MEAN])
        number[Z_SQUARE] += 0.02 * (z * z - number[Z_SQUARE])
        evidence = _bet(s, e, z) / threshold
        at = int(seen) % LAG
        if s.waiting[e, at] > 0:
            _insert(s, e, s.waiting[e, at] - 1)
        s.waiting[e, at] = b + 1
        if evidence >= 1.0:
            _restart(s, e, AGAIN)
    number[MASS] *= GROWTH
    if number[MASS] > RESCALE:
        for i in range(BINS):
            s.histogram[e, i] /= np.float32(number[MASS])
        number[TOTAL] /= number[MASS]
        number[MASS] = 1.0
    return evidence


@jit
def is_calm(s: DetectorState, e: int) -> bool:
    """Are the latest scores standard normal again (mean 0, mean square 1, over about 50 events)?"""
    number = s.number[e]
    return number[WARM] <= 0.0 and abs(number[Z_MEAN]) < 0.4 and abs(number[Z_SQUARE] - 1.0) < 0.6
