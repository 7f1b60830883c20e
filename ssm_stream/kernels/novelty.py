"""Is this value new for the entity? Distance from everything that it did before, scaled to a false-alarm budget.

Errors of one step miss much: after a jump to a new level the next prediction is right again. Here a value is compared
with all values of the last 8,000 to 16,000 events, on 13 **channels**:

* four signals: the value, its asinh (small values beside large ones), and each of the two minus what is usual at this
  hour of the week; each as it is and as running means over about 4 and 16 events (a small shift that stays);
* a fifth, the log of the mean absolute step (a line that goes flat, a noise that grows).

A channel keeps which of 64 bins were visited: an **occupancy** bitmap. Novelty of x is its distance to the nearest
visited bin over the visited range, at most 1; so outliers and values inside a gap between two regimes both count, and
nothing is assumed about the distribution. New bins count as visited only after up to 60 events, so that what creeps
away does not hide itself. The raw score is the mean of √novelty, in [0, 1]; the five signals weigh the same. Maps of
which values occurred are the idea of the detector CAD OSE (Smirnov 2016, Numenta Anomaly Benchmark).

**Budget.** Stationary data set new records too, of k events with a rate of c/k. So peaks of the raw score over `FLOOR`
are modelled (peaks over threshold; Pickands 1975): their rate is c/k, their excess, in units of what k standard normal
events give (`_unit_excess`), is generalised Pareto. c and the tail are the entity's own, from a prior that standard
normal events fit: entities with heavy tails or many regimes get a higher bound.

Time and space: no loop over bins; bit operations find the nearest visited one.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba.cpython.unsafe import numbers
from numpy.typing import NDArray

from ssm_stream.kernels.jit import inner, jit

SETTLE = 50  # events that fix the centre and the unit
WARMUP = 100  # events before the first score
GENERATION = 8000  # events of a bitmap; it is kept for as many more
REST = 60  # events of one peak of the raw score

BINS = 64
FINEST = 1e-6  # a new channel's bins, in units of the entity's spread: they grow by doubling
SPANS = 3
RATES = np.array([1.0, 2.0 / 5.0, 2.0 / 17.0])  # running means over 1, 4 and 16 events
SIGNALS = 4
CHANNELS = SIGNALS * SPANS + 1
LARGEST = 1e300  # differences of larger values would overflow
FARTHEST = 1e15  # spreads from the centre: beyond, squares and float32 would overflow
ASINH_UNIT = 3.0  # spreads: up to about here asinh is linear
QUIET = 1e-3  # of the asinh: smaller mean steps are all alike

WEEK = 604_800.0  # s
CELLS = 168  # hours of a week
CELL_RATE = 0.2
SLOW_RATE = 0.01  # of the mean that stands in for cells without events

FLOOR = 0.02
PEAKS = 5.0  # c of standard normal events, rounded up (2.7 to 4.6 for k from 100 to 16,000)
EXPOSURE = 2.0  # the prior's weight for c: as many peaks as it expects from k to e²·k events
EXPOSURE_MOST = 30.0  # about 360,000 events
PRIOR = 10.0  # peaks that the prior of the excess counts for
PRIOR_SQUARE = 2.25  # mean square of a generalised Pareto of mean 1 and shape 0.1
SHAPE_MOST = 0.45
SHAPE_MORE = 0.1  # of few peaks, moments find the shape too low
BOUND_MOST = 0.9  # of a raw score that ends at 1
SCORE_MOST = 1e3

# columns of NoveltyState.number
SEEN, CENTRE, SPREAD, AGE, LAST, ACTIVITY, PEAK, LEFT, COUNT, EXPOSED, MEAN, SQUARE = range(12)


class NoveltyState(NamedTuple):
    """E entities, a row each; zeros are a fresh entity. 2.2 KB an entity.

    number (E, 12) float64: events seen; centre (the value's unit) and mean absolute deviation of the first events;
        events of the current generation; the last asinh; mean absolute step of it; highest raw score of the current
        peak and events until it ends; peaks and the sum of 1/k, decayed; mean and mean square of the peaks' excess,
        minus the prior's
    smooth (E, SIGNALS, SPANS) float64: running means, in spreads
    slow (E, 2) float64: slow means of the value and of its asinh, in spreads
    cell (E, CELLS, 2) float32: running means by hour of the week, in spreads
    cell_events (E, CELLS) uint8: events of each, at most 255
    grid (E, CHANNELS, 2) float64: lowest edge and width of the bins
    visited (E, CHANNELS, 3) uint64: bitmaps of this generation, of the last, and of what still waits
    """

    number: NDArray[np.float64]
    smooth: NDArray[np.float64]
    slow: NDArray[np.float64]
    cell: NDArray[np.float32]
    cell_events: NDArray[np.uint8]
    grid: NDArray[np.float64]
    visited: NDArray[np.uint64]


def new_novelty_state(E: int) -> NoveltyState:
    """E fresh entities."""
    return NoveltyState(
        np.zeros((E, 12)),
        np.zeros((E, SIGNALS, SPANS)),
        np.zeros((E, 2)),
        np.zeros((E, CELLS, 2), np.float32),
        np.zeros((E, CELLS), np.uint8),
        np.zeros((E, CHANNELS, 2)),
        np.zeros((E, CHANNELS, 3), np.uint64),
    )


# Bitmaps. Shifts and masks must be of the same unsigned type, or numba makes floats of them.

NONE, ONE, HALF, QUARTER = np.uint64(0), np.uint64(1), np.uint64(32), np.uint64(16)
TOP = np.uint64(63)
leading_zeros: Any = numbers.leading_zeros  # an instruction each; numba's types do not say how they are called
trailing_zeros: Any = numbers.trailing_zeros
LOW = np.uint64(0xFFFFFFFF)
SHIFTS = np.array([16, 8, 4, 2, 1], np.uint64)
MASKS = np.array(
    [0x0000FFFF0000FFFF, 0x00FF00FF00FF00FF, 0x0F0F0F0F0F0F0F0F, 0x3333333333333333, 0x5555555555555555], np.uint64
)


@inner
def _merged(bits: Any) -> Any:
    """Neighbouring bins as one: 64 bins in the lower 32."""
    bits = (bits | (bits >> ONE)) & MASKS[4]
    for i in range(3, -1, -1):
        bits = (bits | (bits >> SHIFTS[i + 1])) & MASKS[i]
    return (bits | (bits >> SHIFTS[0])) & LOW


@inner
def _split(bits: Any) -> Any:
    """The lower 32 bins in two each. Both halves count as visited: coarser than it was, but never a false novelty."""
    for i in range(5):
        bits = (bits | (bits << SHIFTS[i])) & MASKS[i]
    return bits | (bits << ONE)


@inner
def _visit(grid: Any, visited: Any, x: float, finest: float) -> float:
    """Novelty of x, which is then marked."""
    if grid[1] == 0.0:
        grid[0], grid[1] = x - 0.5 * BINS * finest, finest
    place = (x - grid[0]) / grid[1]
    while not 0.0 <= place < BINS:
        for i in range(3):
            bits = _merged(visited[i])
            visited[i] = bits << HALF if place < 0.0 else bits
        if place < 0.0:
            grid[0] -= BINS * grid[1]
        grid[1] *= 2.0
        place = (x - grid[0]) / grid[1]
    known, mark = visited[0] | visited[1], ONE << np.uint64(place)
    visited[2] |= mark
    if known == NONE or known & mark != NONE:
        return 0.0
    near = float(BINS)
    below, above = known & (mark - ONE), known & ~(mark - ONE)
    if below != NONE:
        near = place - float(TOP - leading_zeros(below)) - 1.0
    if above != NONE:
        near = min(near, float(trailing_zeros(above)) - place)
    span = float(TOP - leading_zeros(known)) - float(trailing_zeros(known)) + 1.0
    return min(max(near, 0.0) / span, 1.0)


@inner
def _forget(s: Any, e: int) -> None:
    """The older generation goes. Where one outlier had widened the bins, they are narrowed again."""
    for c in range(CHANNELS):
        bits, grid = s.visited[e, c, 0] | s.visited[e, c, 2], s.grid[e, c]
        while bits != NONE and grid[1] >= 2.0 * FINEST:
            lowest, highest = trailing_zeros(bits), TOP - leading_zeros(bits)
            if highest < HALF:
                start = NONE
            elif lowest >= HALF:
                start = HALF
            elif lowest >= QUARTER and highest < HALF + QUARTER:
                start = QUARTER
            else:
                break
            bits = _split((bits >> start) & LOW)
            grid[0] += float(start) * grid[1]
            grid[1] *= 0.5
        s.visited[e, c, 0], s.visited[e, c, 1], s.visited[e, c, 2] = NONE, bits, NONE


# The signals.


@inner
def _raw(s: Any, e: int, value: float, week_seconds: float) -> float:
    number = s.number[e]
    spread = max(number[SPREAD], 1e-9 * abs(number[CENTRE]), 1e-300)
    plain = min(max((value - number[CENTRE]) / spread, -FARTHEST), FARTHEST)
    bent = math.asinh(plain / ASINH_UNIT)
    hour = min(max(int(week_seconds * (CELLS / WEEK)), 0), CELLS - 1) if math.isfinite(week_seconds) else 0
    count, total, first = s.cell_events[e, hour], 0.0, number[SEEN] == SETTLE
    for i in range(SIGNALS):
        x = bent if i % 2 else plain
        if i >= 2:
            usual = x
            if first:
                s.slow[e, i - 2] = x
            x -= s.cell[e, hour, i - 2] if count > 0 else s.slow[e, i - 2]
            s.cell[e, hour, i - 2] += np.float32(max(CELL_RATE, 1.0 / (count + 1.0)) * (usual - s.cell[e, hour, i - 2]))
            s.slow[e, i - 2] += SLOW_RATE * (usual - s.slow[e, i - 2])
        for k in range(SPANS):
            if first:
                s.smooth[e, i, k] = x
            s.smooth[e, i, k] += RATES[k] * (x - s.smooth[e, i, k])
            c = i * SPANS + k
            total += math.sqrt(_visit(s.grid[e, c], s.visited[e, c], s.smooth[e, i, k], FINEST))
    s.cell_events[e, hour] = min(count + 1, 255)
    if not first:
        rate = max(RATES[SPANS - 1], 1.0 / (number[SEEN] - SETTLE))
        number[ACTIVITY] += rate * (abs(bent - number[LAST]) - number[ACTIVITY])
        activity = math.log(number[ACTIVITY] + QUIET)
        total += SPANS * math.sqrt(_visit(s.grid[e, CHANNELS - 1], s.visited[e, CHANNELS - 1], activity, FINEST))
    number[LAST] = bent
    return total / ((SIGNALS + 1) * SPANS)


# The budget.


@inner
def _unit_excess(k: float) -> float:
    """Mean excess of the raw score's peaks over FLOOR, at k standard normal events (measured, k from 100 to 16,000)."""
    return 0.017 + 8.0 / k


@inner
def _bound(s: Any, e: int, k: float, events: float) -> float:
    """The raw score whose peaks come once in `events` events, while k events are remembered."""
    number = s.number[e]
    mean, square = 1.0 + number[MEAN], PRIOR_SQUARE + number[SQUARE]
    variance = max(square - mean * mean, 1e-12)
    shape = min(max(0.5 * (1.0 - mean * mean / variance), 0.0), SHAPE_MOST)
    size = mean * (1.0 - shape)
    shape += SHAPE_MORE
    peaks = (EXPOSURE * PEAKS + number[COUNT]) / (EXPOSURE + number[EXPOSED])
    ratio = max(peaks / k * events, 1.0)
    excess = size / shape * (ratio**shape - 1.0)
    return min(FLOOR + _unit_excess(k) * excess, BOUND_MOST)


@inner
def _learn_peak(s: Any, e: int, k: float, events: float) -> None:
    number = s.number[e]
    unit = _unit_excess(k)
    # What lies beyond the bound may be a fault, which must not become the new normal.
    most = 3.0 * (_bound(s, e, k, events) - FLOOR) + unit
    excess = min(number[PEAK] - FLOOR, most) / unit
    weight = 1.0 / (number[COUNT] + PRIOR + 1.0)
    number[MEAN] += weight * (excess - 1.0 - number[MEAN])
    number[SQUARE] += weight * (excess * excess - PRIOR_SQUARE - number[SQUARE])
    number[COUNT] += 1.0


@jit
def observe(s: NoveltyState, e: int, value: float, week_seconds: float, events: float) -> float:
    """Learn one value; returns its novelty over the bound: more than 1 is an alarm.

    value: not finite is skipped; week_seconds: seconds since Monday 00:00, NaN without a calendar; events: mean number
    of events between false alarms, an alarm being followed by 60 events of silence
    """
    number = s.number[e]
    if not math.isfinite(value):
        return 0.0
    n, value = number[SEEN], min(max(value, -LARGEST), LARGEST)
    if n < SETTLE:
        step = value - number[CENTRE]
        number[CENTRE] += step / (n + 1.0)
        if n > 0.0:
            number[SPREAD] += (abs(step) - number[SPREAD]) / n
        number[SEEN] += 1.0
        return 0.0
    raw = _raw(s, e, value, week_seconds)
    k = number[AGE] + (float(GENERATION) if n - SETTLE >= GENERATION else 0.0)
    number[SEEN] += 1.0
    number[AGE] += 1.0
    if number[AGE] >= GENERATION:
        number[AGE] = 0.0
        _forget(s, e)
    elif number[AGE] % REST == 0.0:
        for c in range(CHANNELS):
            s.visited[e, c, 0] |= s.visited[e, c, 2]
            s.visited[e, c, 2] = NONE
    if n < WARMUP:
        return 0.0
    number[EXPOSED] += 1.0 / k
    if number[EXPOSED] > EXPOSURE_MOST:
        number[COUNT] *= 1.0 - 1.0 / k / EXPOSURE_MOST
        number[EXPOSED] = EXPOSURE_MOST
    score = 0.0
    if raw > FLOOR:
        score = min(raw / _bound(s, e, k, events), SCORE_MOST)
        if number[LEFT] <= 0.0:
            number[PEAK], number[LEFT] = 0.0, float(REST)
        number[PEAK] = max(number[PEAK], raw)
    if number[LEFT] > 0.0:
        number[LEFT] -= 1.0
        if number[LEFT] <= 0.0:
            _learn_peak(s, e, k, events)
    return score
