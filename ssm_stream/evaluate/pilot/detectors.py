"""Alarms that need no model: fixed limits, EWMA and ADWIN on the value itself, with as many alarms as the product.

With several targets one threshold holds for all, and an entity has one episode, whichever of them are beyond it.

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

from ssm_stream.core import native
from ssm_stream.evaluate.engine_run import EngineRun, Flags, Floats, Ints
from ssm_stream.evaluate.pilot.split import Split

LAMBDA = 0.2
SIGMAS = 3.0
LADDER, HALVINGS = 40, 12
DETECTORS = ("sigma", "ewma", "adwin")


class Unit(NamedTuple):
    """The values of one target, entity after entity."""

    place: Ints
    """(k,) of their rows among those of `Signals`."""
    begin: Ints
    """(k,) 1 at an entity's first."""
    value: Floats
    """(k,) with the first part's range as 0 to 1."""


class Signals(NamedTuple):
    """The rows that may alarm, entity after entity, and their statistics: with several targets, the largest."""

    row: Ints
    """(m,) of the run."""
    begin: Ints
    """(m,) 1 at an entity's first row."""
    z: Floats
    """(m,) distance of the value from the mean of the first part, in its standard deviations."""
    ewma: Floats
    """(m,) the same of the moving mean."""
    units: list[Unit]
    """Of each target."""


def signals(run: EngineRun, split: Split) -> Signals:
    """Return the statistics of all rows that may alarm, of one target."""
    found: list[tuple[NDArray[Any], ...]] = []
    for e, rows in enumerate(split.rows):
        start = int(np.searchsorted(rows, split.first[e]))
        if split.first[e] >= len(run) or start >= len(rows) or start < 2:
            continue
        y = run.y[rows]
        before = y[:start]
        mean, deviation = float(before.mean()), float(before.std())
        low, high = float(before.min()), float(before.max())
        z = (y - mean) / (deviation or 1e-9 * abs(mean) or 1.0)
        moving = np.zeros(len(z))
        native.run_ewma(np.ascontiguousarray(z), start, LAMBDA, moving)
        begin = np.zeros(len(rows) - start, np.int64)
        begin[0] = 1
        found.append(
            (rows[start:], begin, np.abs(z[start:]), moving[start:], ((y - low) / ((high - low) or 1.0))[start:])
        )
    if not found:
        empty = np.empty(0)
        return Signals(empty.astype(np.int64), empty.astype(np.int64), empty, empty, [])
    row, begin, z, ewma, unit = map(np.concatenate, zip(*found, strict=True))
    return Signals(row, begin, z, ewma, [Unit(np.arange(len(row)), begin, unit)])


def together(parts: list[Signals], entity: Ints) -> Signals:
    """Return the statistics of several targets as one. entity: (n,) of each row of the run"""
    if len(parts) == 1:
        return parts[0]
    row = np.unique(np.concatenate([part.row for part in parts]))
    row = row[np.argsort(entity[row], kind="stable")]
    place = np.zeros(len(entity), np.int64)
    place[row] = np.arange(len(row))
    z, ewma, units = np.zeros(len(row)), np.zeros(len(row)), list[Unit]()
    for part in parts:
        at = place[part.row]
        z[at], ewma[at] = np.maximum(z[at], part.z), np.maximum(ewma[at], part.ewma)
        units += [each._replace(place=at) for each in part.units]
    begin = np.diff(entity[row], prepend=-1) != 0
    return Signals(row, begin.astype(np.int64), z, ewma, units)


def episode_starts(flag: Flags, begin: Ints, recover_after: int, cooldown: int) -> Ints:
    """Return the places at which an episode starts."""
    out = np.empty(len(flag), np.int64)
    return out[
        : native.run_episodes(np.ascontiguousarray(flag), np.ascontiguousarray(begin), recover_after, cooldown, out)
    ]


def adwin_flags(x: Floats, begin: Ints, delta: float) -> Flags:
    """Return where ADWIN finds a cut, entity by entity."""
    out = np.zeros(len(x), np.int64)
    edges = [*np.flatnonzero(begin).tolist(), len(x)]
    for left, right in itertools.pairwise(edges):
        native.run_adwin(np.ascontiguousarray(x[left:right]), delta, out[left:right])
    found: Flags = out == 1
    return found


def match_count(find: Callable[[float], Ints], low: float, high: float, count: int) -> tuple[float, Ints]:
    """Return the threshold in [low, high] with `count` alarms, or as near below that as can be, and their places.

    The search begins at the highest, as a very low one has few alarms again: they never end. Between the first with
    too many and the one before it, its logarithm is halved.

    Args:
        find: returns the places of the alarms at a threshold
    """
    ladder = np.geomspace(high, low, LADDER).tolist()
    best, places, above = high, find(high), high
    for step in ladder[1:]:
        here = find(step)
        if len(here) > count:
            low = step
            break
        if len(here) > len(places):
            best, places = step, here
        above = step
    else:
        return best, places
    for _ in range(HALVINGS):
        if len(places) == count:
            break
        middle = math.sqrt(low * above)
        here = find(middle)
        if len(here) > count:
            low = middle
            continue
        above = middle
        if len(here) > len(places):
            best, places = middle, here
    return best, places


def _any_adwin(s: Signals, delta: float) -> Flags:
    """Return at which rows ADWIN finds a cut in any target."""
    out = np.zeros(len(s.row), np.bool_)
    for unit in s.units:
        out[unit.place] |= adwin_flags(unit.value, unit.begin, delta)
    return out


class Detected(NamedTuple):
    """Alarms of a detector."""

    rows: Ints
    """Of the run."""
    threshold: float


def detect(s: Signals, count: int, recover_after: int, cooldown: int) -> dict[str, Detected]:
    """Return the alarms of `three_sigma`, as it is, and of `sigma`, `ewma` and `adwin` with `count` alarms each."""
    if not len(s.row):
        return {name: Detected(s.row, math.nan) for name in ("three_sigma", *DETECTORS)}

    def over(values: Floats) -> Callable[[float], Ints]:
        return lambda limit: episode_starts(values > limit, s.begin, recover_after, cooldown)

    # Of ADWIN the smaller the δ the fewer the alarms.
    finders: dict[str, tuple[Callable[[float], Ints], float, float]] = {
        "sigma": (over(s.z), 1e-2, max(float(s.z.max()), 1.0) * 1.01),
        "ewma": (over(s.ewma), 1e-2, max(float(s.ewma.max()), 1.0) * 1.01),
        "adwin": (
            lambda limit: episode_starts(_any_adwin(s, 1.0 / limit), s.begin, recover_after, cooldown),
            1.05,
            1e60,
        ),
    }
    out = {"three_sigma": Detected(s.row[over(s.z)(SIGMAS)], SIGMAS)}
    for name, (find, low, high) in finders.items():
        threshold, places = match_count(find, low, high, count)
        out[name] = Detected(s.row[places], 1.0 / threshold if name == "adwin" else threshold)
    return out
