"""Alarms that need no model: fixed limits, EWMA and ADWIN on the value itself, with as many alarms as the product.

Fixed limits  |y − mean| ≥ k standard deviations, both of the entity's first part
EWMA          |mean of the last values| ≥ k standard deviations of that mean (Roberts 1959), λ = 0.2
ADWIN         two parts of an adaptive window differ in their means (Bifet & Gavaldà 2007), with δ

Each alarm starts an episode that ends, and rests, by the configuration's `recover_after` and `cooldown`. For the
comparison at an equal budget each gets the threshold, found afterwards, at which it raises as many alarms as the
product, or as near below that as it can: better than anyone would have chosen it before.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.evaluate.pilot_baselines import Split
from ssm_stream.evaluate.pilot_run import Floats, Ints, Tape
from ssm_stream.model.jit import jit

LAMBDA = 0.2
SIGMAS = 3.0
DELTA = 0.002
ROWS, BUCKETS = 32, 6
"""Of an ADWIN window: exponents of bucket sizes, and buckets of a size (5, and the one that makes it too many)."""
EVERY, LEAST, SHORTEST = 32, 10, 5
"""Events between looks for a cut, of a window that is looked at, and of a part of it; as in River, where a window
begins anew after a cut."""
LADDER, HALVINGS = 40, 12
DETECTORS = ("sigma", "ewma", "adwin")


class Signals(NamedTuple):
    """The rows that may alarm, entity after entity, and their statistics.

    row (m,): of the tape; begin (m,): 1 at an entity's first; z (m,): the value in standard deviations of the first
    part; ewma (m,): the same of the moving mean; unit (m,): the value with the first part's range as 0 to 1
    """

    row: Ints
    begin: NDArray[np.int64]
    z: Floats
    ewma: Floats
    unit: Floats


@jit
def run_ewma(z: Any, start: int, rate: float, out: Any) -> None:
    """|Moving mean| over its standard deviation; z: of an entity; the mean is 0 at `start`."""
    mean, keep = 0.0, 1.0
    for t in range(start, len(z)):
        mean += rate * (z[t] - mean)
        keep *= (1.0 - rate) * (1.0 - rate)
        out[t] = abs(mean) / math.sqrt(rate / (2.0 - rate) * (1.0 - keep))


@jit
def run_episodes(flag: Any, begin: Any, recover: int, rest: int, out: Any) -> int:
    """out: the places at which an episode starts; returns how many. begin: 1 where an entity begins"""
    open_, calm, quiet, found = 0, 0, 0, 0
    for t in range(len(flag)):
        if begin[t]:
            open_, calm, quiet = 0, 0, 0
        if open_:
            calm = 0 if flag[t] else calm + 1
            if calm >= recover:
                open_, quiet = 0, max(rest - 1, 0)  # as `lifecycle.step` counts
        elif quiet > 0:
            quiet -= 1
        elif flag[t]:
            out[found] = t
            found += 1
            open_, calm = 1, 0
    return found


@jit
def run_adwin(x: Any, delta: float, total: Any, spread: Any, count: Any, out: Any) -> None:
    """out (m,): 1 where a cut was found. total, spread (ROWS, BUCKETS), count (ROWS,): scratch, all zeros.

    A bucket of row r holds 2^r values: their sum, and their squared distance from their mean. Newest first in a row.
    """
    width, mass, variance, ticks = 0.0, 0.0, 0.0, 0
    for t in range(len(x)):
        ticks += 1
        for j in range(count[0], 0, -1):
            total[0, j], spread[0, j] = total[0, j - 1], spread[0, j - 1]
        total[0, 0], spread[0, 0] = x[t], 0.0
        count[0] += 1
        if width > 0.0:
            variance += width * (x[t] - mass / width) * (x[t] - mass / width) / (width + 1.0)
        width += 1.0
        mass += x[t]
        for r in range(ROWS - 1):
            if count[r] < BUCKETS:
                break
            size = float(2**r)
            a, b = count[r] - 1, count[r] - 2
            gap = total[r, a] / size - total[r, b] / size
            for j in range(count[r + 1], 0, -1):
                total[r + 1, j], spread[r + 1, j] = total[r + 1, j - 1], spread[r + 1, j - 1]
            total[r + 1, 0] = total[r, a] + total[r, b]
            spread[r + 1, 0] = spread[r, a] + spread[r, b] + size / 2.0 * gap * gap
            count[r + 1] += 1
            count[r] -= 2
        if ticks % EVERY or width <= LEAST:
            continue
        n0, m0, cut = 0.0, 0.0, False
        lean = math.log(2.0 * math.log(width) / delta)
        for r in range(ROWS - 1, -1, -1):
            for j in range(count[r] - 1, -1, -1):
                n0 += float(2**r)
                m0 += total[r, j]
                n1 = width - n0
                if n0 < SHORTEST or n1 < SHORTEST:
                    continue
                harmonic = 1.0 / (n0 - SHORTEST + 1.0) + 1.0 / (n1 - SHORTEST + 1.0)
                bound = math.sqrt(2.0 * harmonic * (variance / width) * lean) + 2.0 / 3.0 * harmonic * lean
                if abs(m0 / n0 - (mass - m0) / n1) > bound:
                    cut = True
        if cut:
            out[t] = 1
            width, mass, variance, ticks = 0.0, 0.0, 0.0, 0
            for r in range(ROWS):
                count[r] = 0


def signals(tape: Tape, parts: Split) -> Signals:
    """The statistics of all rows that may alarm."""
    found: list[tuple[NDArray[Any], ...]] = []
    for e, rows in enumerate(parts.rows):
        start = int(np.searchsorted(rows, parts.first[e]))
        if parts.first[e] >= len(tape) or start >= len(rows) or start < 2:
            continue
        y = tape.y[rows]
        before = y[:start]
        mean, deviation = float(before.mean()), float(before.std())
        low, high = float(before.min()), float(before.max())
        z = (y - mean) / (deviation or 1e-9 * abs(mean) or 1.0)
        moving = np.zeros(len(z))
        run_ewma(np.ascontiguousarray(z), start, LAMBDA, moving)
        begin = np.zeros(len(rows) - start, np.int64)
        begin[0] = 1
        found.append(
            (rows[start:], begin, np.abs(z[start:]), moving[start:], ((y - low) / ((high - low) or 1.0))[start:])
        )
    if not found:
        empty = np.empty(0)
        return Signals(empty.astype(np.int64), empty.astype(np.int64), empty, empty, empty)
    return Signals(*map(np.concatenate, zip(*found, strict=True)))


def starts(flag: NDArray[np.bool_], begin: Ints, recover: int, rest: int) -> Ints:
    """Places at which an episode starts."""
    out = np.empty(len(flag), np.int64)
    return out[: run_episodes(np.ascontiguousarray(flag), np.ascontiguousarray(begin), recover, rest, out)]


def adwin_flags(x: Floats, begin: Ints, delta: float) -> NDArray[np.bool_]:
    """Where ADWIN finds a cut, entity by entity."""
    out = np.zeros(len(x), np.int64)
    edges = [*np.flatnonzero(begin).tolist(), len(x)]
    for left, right in itertools.pairwise(edges):
        room, held = np.zeros((2, ROWS, BUCKETS + 1)), np.zeros(ROWS, np.int64)
        run_adwin(np.ascontiguousarray(x[left:right]), delta, room[0], room[1], held, out[left:right])
    found: NDArray[np.bool_] = out == 1
    return found


def matched(find: Callable[[float], Ints], low: float, high: float, wanted: int) -> tuple[float, Ints]:
    """The threshold between two with `wanted` alarms, or as near below that as can be.

    It is looked for from the highest down, as a very low one has few alarms again: they never end. Between the first
    that has too many and the one before it, its logarithm is halved.

    Args:
        find: places of the alarms at a threshold
    """
    ladder = np.geomspace(high, low, LADDER).tolist()
    best, places, above = high, find(high), high
    for step in ladder[1:]:
        here = find(step)
        if len(here) > wanted:
            low = step
            break
        if len(here) > len(places):
            best, places = step, here
        above = step
    else:
        return best, places
    for _ in range(HALVINGS):
        if len(places) == wanted:
            break
        middle = math.sqrt(low * above)
        here = find(middle)
        if len(here) > wanted:
            low = middle
            continue
        above = middle
        if len(here) > len(places):
            best, places = middle, here
    return best, places


class Found(NamedTuple):
    """Alarms of a detector: the tape's rows, and its threshold."""

    rows: Ints
    threshold: float


def detected(s: Signals, wanted: int, recover: int, rest: int) -> dict[str, Found]:
    """`three_sigma`, as it is; `sigma`, `ewma` and `adwin` with as many alarms as are wanted."""
    if not len(s.row):
        return {name: Found(s.row, math.nan) for name in ("three_sigma", *DETECTORS)}

    def over(values: Floats) -> Callable[[float], Ints]:
        return lambda limit: starts(values > limit, s.begin, recover, rest)

    # Of ADWIN the smaller the δ the fewer the alarms.
    finders: dict[str, tuple[Callable[[float], Ints], float, float]] = {
        "sigma": (over(s.z), 1e-2, max(float(s.z.max()), 1.0) * 1.01),
        "ewma": (over(s.ewma), 1e-2, max(float(s.ewma.max()), 1.0) * 1.01),
        "adwin": (
            lambda limit: starts(adwin_flags(s.unit, s.begin, 1.0 / limit), s.begin, recover, rest),
            1.05,
            1e60,
        ),
    }
    out = {"three_sigma": Found(s.row[over(s.z)(SIGMAS)], SIGMAS)}
    for name, (find, low, high) in finders.items():
        threshold, places = matched(find, low, high, wanted)
        out[name] = Found(s.row[places], 1.0 / threshold if name == "adwin" else threshold)
    return out
