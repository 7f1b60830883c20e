"""Which signals drive the others, and which only follow the same causes: a symptom must not be an input of a symptom.

A bearing that wears shows in vibration and in temperature. With vibration as an input the model of the temperature
explains the fault away. What distinguishes drivers and symptoms in a sample without faults is what they add: load and
ambient temperature explain vibration, current and temperature; beyond them, vibration adds nothing to the temperature.

Drivers are chosen one by one, as principal variables are (McCabe 1984): next comes the signal with the most information
on all the others beyond those chosen, until none explains a fifth of what is left of any. Explained is what regressions
predict in both halves of the sample, each fitted to the other half: on the signal, its square, its ranges, its most
frequent value (a pump that stands still) and its running means. The hour of the day and categories are taken out first,
as the model has them anyway; names by entity, as a recipe sets one machine higher and another lower: what it sets on a
machine moves together, and no part of that drives another.

Where every signal is a target, what is named a response (a current, a temperature) is no driver, however much it
explains. How busy a machine is stands for its load where nothing named drives it, what it takes where nothing else
does, or else what explains several others: one alone may share its cause. Of two signals that explain each other and
nothing else, neither is known to drive.

What is measured of a command (`rpm` of `rpm_cmd`) is no driver, though it may explain more of the others: what it has
beyond the command is noise or a fault, and only with the command as an input is a belt that slips seen.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.autoconfig.roles import (
    drives_machine,
    is_answer,
    is_named_driver,
    is_outcome,
    is_utilisation,
    is_weather,
    may_follow,
    role_of,
    stands_for_load,
    stem_of,
)

Floats = NDArray[np.float64]
MIN_ROWS = 500
"""Rows below which nothing is concluded."""
MAX_ROWS, MAX_SIGNALS, MAX_DRIVERS = 6_000, 40, 12
"""Rows and signals that are examined at most, and drivers that are chosen."""
MIN_GAIN = 0.2
"""Share of what is left of a signal that a driver must explain."""
MIN_DRIVEN, MAX_BACK = -math.log(1.0 - MIN_GAIN), 0.5
"""The information of that; and how much of it a signal may have on what alone has it on the signal: of a driver less
comes back."""
MIN_ALIKE = 0.9
"""Of the information that one of two signals which explain each other has on the others and on it, that of the other
one, from which on neither is known to be the driver."""
MAX_EXPLAINED, MAX_CALENDAR, MIN_LEFT = 0.9, 0.995, 1e-6
"""More than this share counts as this: what copies of it add is no evidence. A signal that the hour of the day explains
to the second is a part of the calendar; and of less than the third share, left by hour and categories, nothing is
known: what a recipe sets has the noise of its measurement left, by which one signal drives another or does not."""
MIN_FOLLOWED = 0.7
"""Share of a signal that drivers, hour and categories must explain for it to follow them; and of what the hour leaves,
drivers and categories must explain `MIN_GAIN`: what has only its daily course in common with them follows the sun."""
MIN_HELD, MAX_ALONE = 0.25, 0.05
"""A signal that another repeats but for noise is its command: it holds its value while the other moves in at least this
share of the rows, and moves while the other holds in at most this share of those."""
RANGES = 8
"""Ranges of equal numbers of rows, each with a level of its own."""
RATES = (1 / 8, 1 / 64)
"""Of the running means: effects that arrive late."""
MIN_DEVIATION = 1e-13
"""Of values as shares of the largest: less is rounding. A carrier of 1 GHz may move by 1e-9 of itself."""
CLIP = 5.0
"""Standard deviations from the mean at which values are clipped."""
RIDGE = 1e-3
MIN_CELL, MAX_CELLS = 20, 300
"""Rows of an entity with a name that have a level of their own; and levels of all, those of most rows."""
HOUR = 3_600_000
MIN_HOURS = 72.0
"""Hours that a sample must span for the hour of the day to be taken out."""


class Sample(NamedTuple):
    """n rows in the order of their source.

    signals: path → numbers (n,), NaN where a row has none; groups: the rows of each entity; ts (n,): ms
    categories: codes (n,) of each category; names: of those that name things, such as tools, which may set each entity
        otherwise. A number of few values may be a level that all share, and moves with the wear of one
    """

    signals: dict[str, Floats]
    groups: Sequence[NDArray[np.int64]]
    ts: NDArray[np.int64]
    categories: Sequence[NDArray[np.int64]] = ()
    names: Sequence[NDArray[np.int64]] = ()


class Drivers(NamedTuple):
    """What drives the signals of a sample.

    chosen: the drivers, the one with most information first
    followed: other signal → share of it that drivers, hour and categories explain, in the half where they explain more,
        as the other may have a fault
    beyond_hour: other signal → share that drivers and categories explain of what the hour leaves
    added: other signal → shares that drivers explain of what hour and categories leave: in the half where they explain
        less, and in the other
    """

    chosen: list[str]
    followed: dict[str, float]
    beyond_hour: dict[str, float]
    added: dict[str, tuple[float, float]]

    def symptoms(self) -> list[str]:
        """Return the signals that follow the drivers, the one that follows most first."""
        if not self.chosen:
            return []
        followed = sorted(self.followed, key=lambda path: -self.followed[path])
        return [
            path
            for path in followed
            if self.followed[path] >= MIN_FOLLOWED
            and min(self.beyond_hour[path], self.added[path][1]) >= MIN_GAIN
            and may_follow(path, [*self.chosen, *self.followed])
        ]


def find_drivers(sample: Sample, targets: Sequence[str] = (), given: Collection[str] = ()) -> Drivers | None:
    """Return the drivers among the signals; None where the sample is too small to conclude anything, or has no
    two signals that are neither constant nor a part of the calendar.

    Args:
        sample: the signals
        targets: those that are to be predicted, which are no drivers; empty: each is predicted by the others
        given: those that are inputs in any case, and come first; categories may be among them
    """
    n = len(sample.ts)
    if n < MIN_ROWS:
        return None
    complete = sorted(
        sample.signals, key=lambda path: (path not in (*targets, *given), np.isnan(sample.signals[path]).sum())
    )
    names = [path for path in sample.signals if path in complete[:MAX_SIGNALS]]
    rows = np.arange(0, n, -(-n // MAX_ROWS))
    nuisance, hours = _nuisance(sample, rows), _nuisance(sample._replace(categories=(), names=()), rows)
    values = {path: _standardized(sample.signals[path], sample.groups) for path in names}
    left = {path: _without(nuisance, z[rows, None]) for path, z in values.items()}
    # A constant, what a category sets exactly, or a part of the calendar, is neither driver nor symptom.
    total = {path: float((z[rows] ** 2).sum()) for path, z in values.items()}
    by_clock = {path: float((_without(hours, z[rows, None]) ** 2).sum()) for path, z in values.items()}
    names = [path for path in names if by_clock[path] > (1.0 - MAX_CALENDAR) * total[path]]
    names = [path for path in names if float((left[path] ** 2).sum()) > MIN_LEFT * total[path]]
    if len(names) < 2 + bool(targets):
        return None
    places = [names.index(path) for path in targets if path in names]
    parts = [_basis(values[path], sample.signals[path], sample.groups)[rows] for path in names]
    explained = _Explained(np.concatenate([left[path] for path in names], 1), [_without(nuisance, x) for x in parts])
    measured = _measured(sample, names, explained, places)
    able = [j for j in range(len(names)) if j not in places and not is_outcome(names[j])]
    chosen = [j for j in able if names[j] in given]
    able = [j for j in able if j not in (*chosen, *measured)]
    if targets:
        chosen = _add(chosen, names, explained, able, pairs=True)
    else:
        chosen = _choose(chosen, names, explained, able, driven=any(map(drives_machine, given)))
    rest = [j for j in range(len(names)) if j not in chosen and j not in places]
    halves = np.sort(explained.halves(chosen).clip(0.0, 1.0), axis=0)
    followed, beyond_hour, added = dict[str, float](), dict[str, float](), dict[str, tuple[float, float]]()
    for j in rest:
        low, high = halves[:, j].tolist()
        unknown = (1.0 - high) * float((left[names[j]] ** 2).sum())
        followed[names[j]] = 1.0 - unknown / total[names[j]]
        beyond_hour[names[j]] = 1.0 - unknown / max(by_clock[names[j]], unknown, 1e-300)
        added[names[j]] = low, high
    return Drivers([names[k] for k in chosen], followed, beyond_hour, added)


def _measured(sample: Sample, names: Sequence[str], explained: _Explained, targets: Sequence[int]) -> list[int]:
    """Return the signals that are measured of a command among the others, by their names or by what they hold.

    targets: the signals that are no drivers, so that what is measured of them may be one
    """
    alone = np.stack([explained.halves([k]).min(0) for k in range(len(names))])
    stems = [stem_of(path) for path in names]
    out = []
    for j in range(len(names)):
        for k in set(range(len(names))) - {j, *targets}:
            if stems[j][0] or alone[k, j] < MIN_FOLLOWED:
                continue
            named = stems[k][0] and stems[k][1] == stems[j][1]
            same = min(alone[k, j], alone[j, k]) >= MAX_EXPLAINED
            if named or (same and _is_held(sample.signals[names[k]], sample.signals[names[j]], sample.groups)):
                out.append(j)
                break
    return out


def _is_held(command: Floats, measured: Floats, groups: Sequence[NDArray[np.int64]]) -> bool:
    """Return whether one signal holds its values while the other moves, and not the other way."""
    rows = [own[np.isfinite(command[own]) & np.isfinite(measured[own])] for own in groups]
    holds, moves = (np.concatenate([np.diff(x[own]) == 0 for own in rows]) for x in (command, measured))
    held, alone = np.count_nonzero(holds & ~moves), np.count_nonzero(moves & ~holds)
    return bool(held >= MIN_HELD * len(holds) and alone <= MAX_ALONE * held)


def _choose(
    given: Sequence[int], names: Sequence[str], explained: _Explained, able: Sequence[int], *, driven: bool
) -> list[int]:
    """Return the drivers where every signal is a target: no responses, or those that stand for a load.

    given: the first ones; names: of the signals; explained: their shares; able: those that may be one
    driven: whether some of the given, or a category, drives the machines
    """
    answers = [k for k in able if role_of(names[k], names) == "response"]
    others = [k for k in able if k not in answers]
    chosen = _add(given, names, explained, others, pairs=False)
    if not driven and not any(drives_machine(names[k]) for k in chosen):
        busy = _add(given, names, explained, [k for k in answers if is_utilisation(names[k])], pairs=False)
        chosen = _add(busy, names, explained, others, pairs=False)
    # Weather explains no fault away: it need not explain more than a setpoint that follows it, in this sample.
    weather = [k for k in able if k not in chosen and is_weather(names[k])]
    chosen += [k for k in weather if np.delete(explained.by([k]), [k, *chosen]).max(initial=0.0) >= MIN_GAIN]
    if len(chosen) > len(given) or driven:
        return chosen
    chosen = _add(given, names, explained, [k for k in answers if stands_for_load(names[k], names)], pairs=False)
    rest = [k for k in able if not is_answer(names[k]) and (np.delete(explained.by([k]), k) >= MIN_GAIN).sum() > 1]
    return chosen or _add(given, names, explained, rest, pairs=False)


def _add(
    given: Sequence[int], names: Sequence[str], explained: _Explained, able: Sequence[int], *, pairs: bool
) -> list[int]:
    """Return the drivers, in the order in which they were chosen.

    given: the first ones; names: of the signals; explained: their shares; able: those that may be one
    pairs: whether what explains one other alone, and is explained by it, may be one
    """
    named = [is_named_driver(path) for path in names]
    chosen, unclear = list(given), list[int]()
    while len(chosen) < MAX_DRIVERS:
        left = explained.by(chosen)
        best, most = -1, (False, 0.0)
        for k in able:
            # What explains the weather, or a command, does not drive it.
            others = [j for j in range(len(names)) if j != k and j not in chosen and named[j] <= named[k]]
            if k in chosen or k in unclear or not others:
                continue
            gains = np.log((1.0 - left[others]) / (1.0 - explained.by([*chosen, k])[others])).clip(0.0)
            gained = named[k], float(gains.sum())
            if gains.max() < MIN_DRIVEN or gained <= most:
                continue
            if not named[k] and not pairs and np.count_nonzero(gains >= MIN_DRIVEN) == 1:
                j = others[int(gains.argmax())]
                back = np.log((1.0 - left[k]) / (1.0 - explained.by([*chosen, j])[k]))
                if back >= MAX_BACK * gains.max():
                    continue
            best, most = k, gained
        if best < 0:
            break
        # What stands for a load is the only trace of it: one of several is as good as another.
        certain = pairs or named[best] or stands_for_load(names[best], names)
        if chosen and not certain and (equal := _equals(best, explained, chosen, able)):
            unclear += [best, *equal]  # none is an input, and what they explain is no evidence for a further one
        chosen.append(best)
    return [k for k in chosen if k not in unclear]


def _equals(k: int, explained: _Explained, chosen: Sequence[int], able: Sequence[int]) -> list[int]:
    """Return those that may be drivers and explain one, are explained by it, and all the others as it does.

    A valve and its flow: which of them comes first hangs on the sample, and the other is a symptom of the same.
    """
    left, own, out = explained.by(chosen), explained.by([*chosen, k]), list[int]()
    for j in set(able) - {k, *chosen}:
        other = explained.by([*chosen, j])
        there, back = math.log((1.0 - left[j]) / (1.0 - own[j])), math.log((1.0 - left[k]) / (1.0 - other[k]))
        if min(there, back) < max(MIN_DRIVEN, MAX_BACK * max(there, back)):
            continue
        by_one, by_other = (
            np.delete(np.log((1.0 - left) / (1.0 - x)).clip(0.0), [at, *chosen]).sum()
            for x, at in ((own, k), (other, j))
        )
        if by_other >= MIN_ALIKE * by_one:
            out.append(j)
    return out


class _Explained:
    """Shares of signals that others explain.

    y: signals (n, d); parts: the columns that each is used by, (n, b) each
    """

    def __init__(self, y: Floats, parts: Sequence[Floats]) -> None:
        half = len(y) // 2
        x = np.concatenate(parts, axis=1)
        ends = np.cumsum([0, *(part.shape[1] for part in parts)])
        self._columns = [np.arange(start, stop) for start, stop in pairwise(ends.tolist())]
        self._signals = y.shape[1]
        self._halves = [
            (x[part].T @ x[part], x[part].T @ y[part], (y[part] ** 2).sum(0), len(y[part]))
            for part in (slice(0, half), slice(half, None))
        ]

    def halves(self, chosen: Sequence[int]) -> Floats:
        """Return the share of each signal that the chosen explain in each half (2, d), fitted to the other one."""
        if not chosen:
            return np.zeros((2, self._signals))
        at = np.concatenate([self._columns[k] for k in chosen])
        shares = []
        for (gram, cross, _, count), (others, crossed, total, _) in (self._halves, self._halves[::-1]):
            b = np.linalg.solve(gram[np.ix_(at, at)] + RIDGE * count * np.eye(len(at)), cross[at])
            left = total - 2.0 * (b * crossed[at]).sum(0) + (b * (others[np.ix_(at, at)] @ b)).sum(0)
            shares.append(1.0 - left / np.maximum(total, 1e-12))
        return np.stack(shares)

    def by(self, chosen: Sequence[int]) -> Floats:
        """Return the share of each signal (d,) that the chosen explain in either half, from 0 to `MAX_EXPLAINED`."""
        explained: Floats = np.clip(self.halves(chosen).min(0), 0.0, MAX_EXPLAINED)
        return explained


def _standardized(x: Floats, groups: Sequence[NDArray[np.int64]]) -> Floats:
    """Return values in standard deviations from their entity's mean, clipped; 0 where a row has none."""
    out = np.zeros(len(x))
    for rows in groups:
        own = rows[np.isfinite(x[rows])]
        values = x[own] / max(float(np.abs(x[own]).max(initial=0.0)), 1e-300)  # squares of large ones are finite then
        if len(own) > 1 and (deviation := values.std()) > MIN_DEVIATION:
            out[own] = np.clip((values - values.mean()) / deviation, -CLIP, CLIP)
    return out


def _basis(z: Floats, x: Floats, groups: Sequence[NDArray[np.int64]]) -> Floats:
    """Return the columns by which a signal explains others. z: standardised; x: as it is"""
    edges = np.unique(np.quantile(z, np.arange(1, RANGES) / RANGES))
    ranges = np.eye(len(edges) + 1)[np.searchsorted(edges, z)]
    seen, counts = np.unique(x[np.isfinite(x)], return_counts=True)
    frequent = (x == seen[counts.argmax()]).astype(np.float64)
    smooth = np.zeros((len(z), len(RATES)))
    for rows in groups:
        for i, rate in enumerate(RATES):
            smooth[rows, i] = _running_mean(z[rows], rate)
    return np.concatenate([np.stack([z, z * z, frequent], 1), ranges, smooth], axis=1)


def _running_mean(z: Floats, rate: float) -> Floats:
    out, mean = np.empty(len(z)), 0.0
    for i, value in enumerate(z.tolist()):
        mean += rate * (value - mean)
        out[i] = mean
    return out


def spans_days(sample: Sample) -> bool:
    """Return whether a sample is long enough for the hour of the day to be taken out of its signals."""
    return bool(sample.ts.max() - sample.ts.min() >= MIN_HOURS * HOUR)


def _nuisance(sample: Sample, rows: NDArray[np.int64]) -> Floats:
    """Return orthonormal columns (rows, …) that span the levels of categories, of names by entity and, where the
    sample spans some days, of hours.
    """
    codes = list(sample.categories)
    if spans_days(sample):
        codes.append(sample.ts // HOUR % 24)
    columns = [np.ones((len(rows), 1))]
    for each in codes:
        _, code = np.unique(each[rows], return_inverse=True)
        columns.append(np.eye(code.max() + 1)[code][:, 1:])
    columns.append(_cells(sample, rows))
    x = np.concatenate(columns, axis=1)
    values, vectors = np.linalg.eigh(x.T @ x)
    used = values > 1e-9 * values[-1]
    spanned: Floats = x @ (vectors[:, used] / np.sqrt(values[used]))
    return spanned


def _cells(sample: Sample, rows: NDArray[np.int64]) -> Floats:
    """Return indicators (rows, …) of the values of each category in each entity, of categories that are names."""
    entity = np.zeros(len(sample.ts), np.int64)
    for i, own in enumerate(sample.groups):
        entity[own] = i
    cells = []
    for each in sample.names if len(sample.groups) > 1 else ():
        _, code = np.unique(each[rows], return_inverse=True)
        _, cell, counts = np.unique(entity[rows] * (code.max() + 1) + code, return_inverse=True, return_counts=True)
        cells += [(int(counts[k]), cell, k) for k in np.flatnonzero(counts >= MIN_CELL).tolist()]
    largest = sorted(cells, key=lambda item: -item[0])[:MAX_CELLS]
    out = np.zeros((len(rows), len(largest)))
    for j, (_, cell, k) in enumerate(largest):
        out[cell == k, j] = 1.0
    return out


def _without(nuisance: Floats, x: Floats) -> Floats:
    """Return columns minus what the orthonormal ones explain of them."""
    return x - nuisance @ (nuisance.T @ x)
