"""Has the relation changed? A Shiryaev–Roberts e-detector on the normal scores of whitened errors.

error → whitened by an online AR(1) → rank p among the entity's own past → z = Φ⁻¹(p), standard normal while nothing
changes → likelihood ratios of shifted and of rescaled normals against N(0, 1), `R ← (R + 1)·LR(z)`. A weighted mean of
the R is an e-detector: while the z are independent and standard normal, the mean number of events to a false alarm is
at least the threshold (Shin, Ramdas & Rinaldo 2022). Whitening makes that nearly so for a model's errors; not for any
data. A second scale does the same with the means of blocks of errors, not whitened, and a longer memory: for what
creeps too slowly for the first.

An error joins the reference that later ones are ranked in after a lag, so that a change does not hide itself. The lag
is a share of the reference's size: ranks in a small reference that stands still share its error, ranks in one that
grows at once do not (conformal p-values: Vovk, Gammerman & Shafer 2005).

The errors of a model that still learns get smaller all the time, and that is no change. So while an entity is young,
the centre and the scale that its errors are ranked by follow them, at a rate that falls with the number of events seen,
and what the reference holds weighs the more the later it came. Learning slows down in the same way. What is sudden
beside it, be it that errors shrink, is still a change.

After an alarm the next errors are still ranked in the old reference. If they fit it (a false alarm, a fault that has
passed, or a change that the learner has taken up), it stays; if not, a new reference is made of them. Where it stays,
the threshold is raised for a while: errors whose size comes in clusters then keep the budget in the long run too, which
no threshold for independent scores would.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.kernels.jit import inner, jit

BINS, COARSE = 128, 8  # of the reference; its sums over BINS / COARSE bins each
BLOCK = 32  # events of a block
LAG, BLOCK_LAG = 256, 16  # most errors (blocks) that wait to join the reference
LAG_SHARE = 1 / 8  # of the reference's size that waits at most
GROWTH = 2.0 ** (1.0 / 4000.0)  # half-life of the reference: 4,000 events
BLOCK_GROWTH = 2.0 ** (1.0 / 500.0)  # 16,000 events
RESCALE = 1e20
SETTLE = 50  # events that fix the histogram's centre and scale
FIRST, BLOCK_FIRST = 250, 16  # errors (blocks) of the first reference before the first bet
AGAIN = 100  # events after an alarm that are held against the old reference; the last half of them makes a new one
YOUNG = 4000  # events of an entity's life in which centre and scale follow its errors
FOLLOW, FOLLOW_FIRST = 2.0, 4.0  # how fast: so many events' worth of those seen; while the first reference is made
AT_FIRST = 0.5  # caution of a young entity, whose reference is small
AR_RATE = 1 / 1000
Z_RATE = 0.04
GOLDEN = 0.6180339887498949
OVERSHOOT = 0.45
"""The evidence passes the threshold by a jump: at OVERSHOOT × budget alarms come a little less than once in a budget
(simulated for these bets on 10 million normal scores; `benchmarks/alerts.py` measures it)."""
STEP_CAUTION = 0.5  # of the threshold's log, a false alarm; taken back in a budget's worth of events
CAUTION_MOST = 3.0
BETS = 10  # on events: shifts ±¼, ±½, ±1; standard deviations ½, √½, √2, 2
BLOCK_BETS = 4  # on block means: shifts ±½, ±1
K = BETS + BLOCK_BETS
WEIGHTS = np.array([2.0, 1.0, 1.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5]) / 14.0
CHANGES = ("", "higher", "lower", "smaller", "larger", "creeping up", "creeping down")
"""What the winning bet says of the errors: their level, their size, or a slow change of their level."""

NUMBERS = 24
# columns of DetectorState.number
(
    SEEN, CENTRE, SCALE, WARM, MEAN, SPREAD, CROSS, POWER, LAST, TOTAL, MASS, DITHER, Z_MEAN, Z_SQUARE, WAITING, CHANGE,
    TESTING, IN_BLOCK, BLOCK_SUM, BLOCK_TOTAL, BLOCK_MASS, BLOCK_SEEN, BLOCK_WAITING,
    CAUTION,
) = range(NUMBERS)  # fmt: skip


class DetectorState(NamedTuple):
    """E entities, a row each; zeros are a fresh entity.

    number (E, 24) float64: events seen; centre and scale of the errors, the unit of the bins; events left of
        a warm-up or of the test after an alarm; running mean and mean absolute deviation of the error; lag-one and
        lag-zero products (clipped, for whitening); the last error (clipped); the histogram's total and the weight of
        its next entry; the dither; running mean of z and of z²; errors that wait; what the last alarm said (index of
        CHANGES); 1 while an alarm is tested; then of the blocks: events in the present one, their sum, the reference's
        total, the weight of its next entry, blocks seen, blocks that wait; log of what the threshold is raised by
    bets (E, K) float64: Shiryaev–Roberts statistics R
    histogram (E, 2, BINS + COARSE) float32: decayed counts of errors and of blocks, times a growing weight; their sums
    waiting (E, LAG + BLOCK_LAG) float32: whitened errors and block means that have not joined yet, rings
    """

    number: NDArray[np.float64]
    bets: NDArray[np.float64]
    histogram: NDArray[np.float32]
    waiting: NDArray[np.float32]


def new_detector_state(E: int) -> DetectorState:
    """E fresh entities."""
    return DetectorState(
        np.zeros((E, NUMBERS)),
        np.zeros((E, K)),
        np.zeros((E, 2, BINS + COARSE), np.float32),
        np.zeros((E, LAG + BLOCK_LAG), np.float32),
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


@inner
def _bin(value: float) -> int:
    # asinh, in a third of its time; what it loses near 0 is less than 1e-15 of a bin.
    place = math.copysign(math.log(abs(value) + math.sqrt(value * value + 1.0)), value)
    return min(max(int((place + 5.0) * (BINS / 10.0)), 0), BINS - 1)


@inner
def _insert(histogram: Any, b: int, mass: float) -> None:
    histogram[b] += np.float32(mass)
    histogram[BINS + b // (BINS // COARSE)] += np.float32(mass)


@inner
def _age(number: Any, histogram: Any, total: int, mass: int, growth: float) -> None:
    """Later entries weigh more than those before. total, mass: places of the histogram's total and next weight"""
    number[mass] *= growth
    if number[mass] > RESCALE:
        for i in range(BINS + COARSE):
            histogram[i] /= np.float32(number[mass])
        number[total] /= number[mass]
        number[mass] = 1.0


@inner
def _score(histogram: Any, b: int, total: float, mass: float, dither: float) -> float:
    """z of an error in bin b: its rank among the reference and itself, dithered, as a normal quantile."""
    each = BINS // COARSE
    below, c = 0.0, b // each
    for j in range(BINS, BINS + c):
        below += histogram[j]
    for j in range(c * each, b):
        below += histogram[j]
    p = (below + dither * (histogram[b] + mass)) / (total + mass)
    least = 0.5 * mass / (total + mass)
    return normal_quantile(min(max(p, least), 1.0 - least))


@inner
def _bet(R: Any, z: float) -> None:
    """R ← (R + 1)·LR(z) for the bets on events: exp(δz − δ²/2), and exp(½z²(1 − 1/σ²))/σ."""
    up, h = math.exp(0.25 * z), math.exp(0.125 * z * z)
    down, up2, h2 = 1.0 / up, up * up, h * h
    down2, h4 = down * down, h2 * h2
    R[0] = (R[0] + 1.0) * up * 0.9692332344763441  # exp(−1/32)
    R[1] = (R[1] + 1.0) * up2 * 0.8824969025845955  # exp(−1/8)
    R[2] = (R[2] + 1.0) * up2 * up2 * 0.6065306597126334  # exp(−1/2)
    R[3] = (R[3] + 1.0) * down * 0.9692332344763441
    R[4] = (R[4] + 1.0) * down2 * 0.8824969025845955
    R[5] = (R[5] + 1.0) * down2 * down2 * 0.6065306597126334
    R[6] = (R[6] + 1.0) * 2.0 / (h4 * h4 * h4)
    R[7] = (R[7] + 1.0) * 1.4142135623730951 / h4
    R[8] = (R[8] + 1.0) * h2 * 0.7071067811865476
    R[9] = (R[9] + 1.0) * h2 * h * 0.5


@inner
def _bet_block(R: Any, z: float) -> None:
    up = math.exp(0.5 * z)
    down = 1.0 / up
    R[BETS] = (R[BETS] + 1.0) * up * 0.8824969025845955
    R[BETS + 1] = (R[BETS + 1] + 1.0) * up * up * 0.6065306597126334
    R[BETS + 2] = (R[BETS + 2] + 1.0) * down * 0.8824969025845955
    R[BETS + 3] = (R[BETS + 3] + 1.0) * down * down * 0.6065306597126334


@inner
def _phi(number: Any) -> float:
    """Autocorrelation. A negative one stays: taking it out would raise slow waves, which look like shifts."""
    return min(max(number[CROSS] / (number[POWER] + 1e-9), 0.0), 0.95)


@inner
def _follow(number: Any, x: float) -> None:
    """Centre and scale move with the learner. x: the error in their unit, clipped; 1.25: |x| is 0.8 in the mean."""
    rate = (FOLLOW_FIRST if number[WARM] > 0.0 else FOLLOW) / number[SEEN]
    number[CENTRE] += rate * x * number[SCALE]
    number[SCALE] *= 1.0 + rate * (1.25 * abs(x) - 1.0)


@inner
def _restart(s: DetectorState, e: int, events: int) -> None:
    """A new reference, centred and scaled on the latest errors, of the last of those that wait."""
    number, phi = s.number[e], _phi(s.number[e])
    centre, scale = number[MEAN], 1.25 * number[SPREAD]
    moved, wider = (1.0 - phi) * (number[CENTRE] - centre), number[SCALE]
    if number[SCALE] > 0.0:
        number[LAST] = min(max((number[LAST] * number[SCALE] + number[CENTRE] - centre) / scale, -4.0), 4.0)
    number[CENTRE], number[SCALE], number[WARM] = centre, scale, events
    number[TOTAL], number[MASS], number[BLOCK_TOTAL], number[BLOCK_MASS] = 0.0, 1.0, 0.0, 1.0
    number[IN_BLOCK] = number[BLOCK_SUM] = number[BLOCK_SEEN] = 0.0
    for i in range(BINS + COARSE):
        s.histogram[e, 0, i] = s.histogram[e, 1, i] = 0.0
    seen, few = int(number[SEEN]), min(int(number[WAITING]), AGAIN // 2)
    for i in range(seen - few, seen):
        _insert(s.histogram[e, 0], _bin((s.waiting[e, i % LAG] * wider + moved) / scale), 1.0)
    number[TOTAL], number[WAITING] = few, 0.0


@inner
def _alarm(s: DetectorState, e: int) -> None:
    """What the alarm says; from here on errors are held against the old reference, and those that wait are dropped."""
    number, best = s.number[e], 0
    for i in range(K):
        if WEIGHTS[i] * s.bets[e, i] > WEIGHTS[best] * s.bets[e, best]:
            best = i
    if best < 6:
        number[CHANGE] = 1.0 if best < 3 else 2.0
    elif best < BETS:
        number[CHANGE] = 3.0 if best < 8 else 4.0
    else:
        number[CHANGE] = 5.0 if best < BETS + 2 else 6.0
    for i in range(K):
        s.bets[e, i] = 0.0
    number[TESTING], number[WARM] = 1.0, AGAIN
    number[WAITING] = number[BLOCK_WAITING] = number[IN_BLOCK] = number[BLOCK_SUM] = 0.0


@inner
def _join(s: DetectorState, e: int, w: float) -> None:
    """The whitened error waits, and joins the reference once too many do."""
    number = s.number[e]
    seen = int(number[SEEN])
    s.waiting[e, (seen - 1) % LAG] = np.float32(w)
    number[WAITING] = min(number[WAITING] + 1.0, LAG)
    if number[TESTING] > 0.0:
        return
    while number[WAITING] > 0.0 and number[WAITING] > min(LAG_SHARE * number[TOTAL] / number[MASS], LAG - 1.0):
        _insert(s.histogram[e, 0], _bin(s.waiting[e, (seen - int(number[WAITING])) % LAG]), number[MASS])
        number[TOTAL] += number[MASS]
        number[WAITING] -= 1.0


@inner
def _end_block(s: DetectorState, e: int) -> None:
    """A block is full: its mean is ranked, bet on, and waits."""
    number, R = s.number[e], s.bets[e]
    w = number[BLOCK_SUM] / (BLOCK / 4)
    number[IN_BLOCK] = number[BLOCK_SUM] = 0.0
    if number[BLOCK_TOTAL] >= BLOCK_FIRST * number[BLOCK_MASS]:
        number[DITHER] = (number[DITHER] + GOLDEN) % 1.0
        z = _score(s.histogram[e, 1], _bin(w), number[BLOCK_TOTAL], number[BLOCK_MASS], number[DITHER])
        _bet_block(R, z)
    seen = int(number[BLOCK_SEEN])
    number[BLOCK_SEEN] += 1.0
    s.waiting[e, LAG + seen % BLOCK_LAG] = np.float32(w)
    number[BLOCK_WAITING] = min(number[BLOCK_WAITING] + 1.0, BLOCK_LAG)
    most = min(LAG_SHARE * number[BLOCK_TOTAL] / number[BLOCK_MASS], BLOCK_LAG - 1.0)
    while number[BLOCK_WAITING] > 0.0 and number[BLOCK_WAITING] > most:
        oldest = s.waiting[e, LAG + (seen + 1 - int(number[BLOCK_WAITING])) % BLOCK_LAG]
        _insert(s.histogram[e, 1], _bin(oldest), number[BLOCK_MASS])
        number[BLOCK_TOTAL] += number[BLOCK_MASS]
        number[BLOCK_WAITING] -= 1.0
    _age(number, s.histogram[e, 1], BLOCK_TOTAL, BLOCK_MASS, max(BLOCK_GROWTH, 1.0 + BLOCK / number[SEEN]))


@inner
def _fits(number: Any) -> bool:
    return abs(number[Z_MEAN]) < 0.5 and abs(number[Z_SQUARE] - 1.0) < 0.7


@jit
def observe(s: DetectorState, e: int, error: float, budget: float, hold: bool) -> float:
    """Learn one signed error; returns the evidence over the threshold: 1 or more is an alarm.

    Args:
        s: state of E entities
        e: the entity
        error: target − prediction, in any unit
        budget: mean events between false alarms
        hold: whether the old reference is kept after an alarm even if errors do not fit it
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
            number[CAUTION] = AT_FIRST
        return 0.0
    x = min(max((error - number[CENTRE]) / number[SCALE], -1000.0), 1000.0)
    clipped = min(max(x, -4.0), 4.0)
    w = x - _phi(number) * number[LAST]
    rate = max(AR_RATE, 1.0 / (seen - SETTLE + 3.0))
    if number[TESTING] == 0.0:  # an offset that lasts would pass for autocorrelation
        number[CROSS] += rate * (clipped * number[LAST] - number[CROSS])
        number[POWER] += rate * (clipped * clipped - number[POWER])
    number[LAST] = clipped
    if seen < YOUNG and number[TESTING] == 0.0:
        _follow(number, clipped)
    evidence = 0.0
    if number[WARM] > 0.0 and number[TESTING] == 0.0:
        number[WARM] -= 1.0
        _insert(s.histogram[e, 0], _bin(w), number[MASS])
        number[TOTAL] += number[MASS]
    else:
        number[DITHER] = (number[DITHER] + GOLDEN) % 1.0
        z = _score(s.histogram[e, 0], _bin(w), number[TOTAL], number[MASS], number[DITHER])
        number[Z_MEAN] += Z_RATE * (z - number[Z_MEAN])
        number[Z_SQUARE] += Z_RATE * (z * z - number[Z_SQUARE])
        _join(s, e, w)
        if number[TESTING] > 0.0:
            number[WARM] -= 1.0
            if number[WARM] <= 0.0:
                number[TESTING] = 0.0
                if _fits(number):
                    number[CAUTION] = min(number[CAUTION] + STEP_CAUTION, CAUTION_MOST)
                else:
                    evidence = 1.0  # it is no false alarm: said once more, should the change have come after it
                    if hold:
                        number[TESTING], number[WARM] = 1.0, AGAIN
                    else:
                        _restart(s, e, 0)
        else:
            number[BLOCK_SUM] += min(max(x, -8.0), 8.0)
            number[IN_BLOCK] += 1.0
            R = s.bets[e]
            _bet(R, z)
            if number[IN_BLOCK] >= BLOCK:
                _end_block(s, e)
            total = 0.0
            for i in range(K):
                total += WEIGHTS[i] * R[i]
            number[CAUTION] = max(number[CAUTION] - STEP_CAUTION / budget, 0.0)
            evidence = total / (OVERSHOOT * budget * math.exp(number[CAUTION]))
            if evidence >= 1.0:
                _alarm(s, e)
    _age(number, s.histogram[e, 0], TOTAL, MASS, max(GROWTH, 1.0 + 1.0 / number[SEEN]))
    return evidence


@jit
def is_calm(s: DetectorState, e: int) -> bool:
    """Are the latest scores standard normal again (mean 0, mean square 1, over about 25 events)?"""
    number = s.number[e]
    return number[WARM] <= 0.0 and number[TESTING] == 0.0 and _fits(number)
