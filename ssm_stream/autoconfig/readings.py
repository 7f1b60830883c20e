"""Samples whose rows are readings: one value of one signal of one entity each (`event.layout: readings`)."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.autoconfig.columns import Column, word_set
from ssm_stream.autoconfig.entity import name_score
from ssm_stream.autoconfig.quality_flags import Flags
from ssm_stream.autoconfig.tag_names import find_families, find_tag_names
from ssm_stream.config import Event
from ssm_stream.ingest.paths import path_getter

VALUES = word_set("value val reading measurement wert messwert valeur valor 値 測定値")
"""Words for the column with the value."""
SIGNALS = word_set(
    "tag tagname signal metric parameter param variable var varname point channel measure attribute quantity field タグ"
) | {"__name__"}
"""Words for the column with the name of the signal."""
MAX_SIGNALS = 64
"""Signals that are used: those with most readings."""
MIN_EACH = 3
"""Readings of a signal on average, without which a column of names is no column of signals."""
GRACES = (1, 2, 5, 10, 30, 60, 300, 900, 3600)
"""Lengths of `event.grace` that are proposed, s."""
DAY_PARTS = tuple(part for part in range(1, 86_401) if 86_400 % part == 0)
MAX_DEVIATION = 0.05
"""Times by which a day is divided, s; and by how much of a usual gap the time between rows on a grid may be off it."""
MIN_AFTER = 0.01
"""Share of readings that come after the row of their own time from which on rows wait for them."""
MIN_LATE, MAX_LATE_IN_FILE = 0.001, 0.01
"""Share of the readings that are behind, from which on they are to be waited for; and up to which those of a file are
in the order in which they came, as a backtest sorts one with more."""
ALIKE = 0.7
"""Share of the readings of the most frequent signal that one has which comes as often."""


class Readings(NamedTuple):
    """How readings are read.

    Attributes:
        signal: path of the name of the signal, or of the tag
        pattern: of the tag, if it has the entity, too
        value: path of the value
        signals: name of the signal of each name at `signal`, the most frequent ones
        entities: name of the entity of each tag, if it has the entity, too
        why: the reason
    """

    signal: str
    pattern: str | None
    value: str
    signals: dict[str, str]
    entities: dict[str, str]
    why: str

    def names(self, entity: str | None) -> Callable[[dict[str, Any]], tuple[str, Any] | None]:
        """Return what gives the signal and the entity of a row, None for a signal that is not used.

        entity: path of the entity's name, if it is not in the tag
        """
        tag, owner = path_getter(self.signal), None if entity is None else path_getter(entity)

        def names_of(row: dict[str, Any]) -> tuple[str, Any] | None:
            name = tag(row)
            signal = self.signals.get(name) if isinstance(name, str) else None
            if signal is None:
                return None
            if self.pattern is not None:
                return signal, self.entities[name]
            return signal, owner(row) if owner is not None else None

        return names_of


def find_readings(found: dict[str, Column], entity: str | None) -> Readings | None:
    """Return how the rows of a sample are readings; None if they are none. entity: path of its name, if it is chosen"""
    values = [column for column in found.values() if _is_value(column)]
    things = any(column.may_be_entity and name_score(column) >= 2.0 for column in found.values())
    names = [
        column
        for column in found.values()
        if column.kind == "text" and column.is_filled and column.distinct > 1 and column.path != entity
        and _names_signals(column, things) and MIN_EACH * column.distinct <= column.n
    ]  # fmt: skip
    if len(values) != 1 or not names:
        return None
    value, name = values[0].path, names[0]
    counts = Counter(name.values.values())
    tags = find_tag_names(list(counts), later_parts_first=False) or find_families(list(counts))
    if tags is not None and tags.size == len(counts):
        signal_of = {tag: signal for signals in tags.names.values() for signal, tag in signals.items()}
        why = f"a row is one value: `{name.path}` names its entity and its signal ({tags.pattern})"
        pattern = tags.pattern
        entity_of = {tag: each for each, signals in tags.names.items() for tag in signals.values()}
    else:
        signal_of, entity_of = {each: each for each in counts}, {}
        why, pattern = f"a row is one value: `{name.path}` names its signal", None
    by_signal = Counter[str]()
    for tag, count in counts.items():
        by_signal[signal_of[tag]] += count
    if len(by_signal) < 2:
        return None
    used = {signal for signal, _ in by_signal.most_common(MAX_SIGNALS)}
    chosen = {tag: each for tag, each in signal_of.items() if each in used}
    return Readings(name.path, pattern, value, chosen, entity_of, why)


def _names_signals(column: Column, things: bool) -> bool:
    """Return whether a column's name is that of names of signals. things: whether another column is named like a thing,
    whose items are signals then"""
    if (set(column.name) | {column.path.lower()}) & SIGNALS or ("data", "item") in pairwise(column.name):
        return True
    return things and column.name in (["item"], ["item", "id"], ["item", "name"])


def _is_value(column: Column) -> bool:
    numbers = sum(type(value) in (int, float) for value in column.values.values())
    return bool(set(column.name) & VALUES or column.path in VALUES) and 2 * numbers > len(column.values)


def depends_on_signal(column: Column, names: Column, values: Column) -> bool:
    """Return whether each signal has one value in a column, and not all the same: a unit or a description, no entity.

    Args:
        column: to be judged
        names: those of the signals; values: theirs, of which numbers count
    """
    if not column.distinct:
        return False
    rows = [i for i in column.values if i in names.values and type(values.values.get(i)) in (int, float)]
    pairs = {(names.values[i], column.values[i]) for i in rows}
    return len({value for _, value in pairs}) > 1 and len(pairs) == len({signal for signal, _ in pairs})


def unused_signals(readings: Readings, names: Column, rows: Rows) -> dict[str, str]:
    """Return the signals that are in no row, and why. names: those of the signals"""
    used = {path for document in rows.documents for path in document}
    more = f"more than {MAX_SIGNALS} signals: those with most readings are taken"
    absent = f"in no row: they are made at readings of `{rows.trigger}`, of what their entity had until then"
    left_out = {signal: absent for signal in readings.signals.values() if signal not in used}
    return left_out | {tag: more for tag in dict.fromkeys(names.values.values()) if tag not in readings.signals}


class Times(NamedTuple):
    """path: of the time; ts: times, ms"""

    path: str
    ts: NDArray[np.int64]


class Rows(NamedTuple):
    """documents: a row at each reading of the trigger, or in each part of the grid; trigger: the signal; every: s
    between rows, if on a grid"""

    documents: list[dict[str, Any]]
    trigger: str
    every: float | None


def as_rows(
    rows: Sequence[dict[str, Any]], times: Times, readings: Readings, entity: str | None, flags: Flags | None
) -> Rows:
    """Return readings as rows: at each reading of a signal, with the last values of the others; or, where signals come
    at different gaps, on a grid, as production makes them.

    The signal is the one at whose readings the others are youngest, so that rows hold what came together.

    Args:
        rows: the readings, with the fields of `readings`
        times: theirs
        entity: path of the entity's name, if it is not in the tag
        flags: of the values
    """
    timestamp = times.path
    names_of, value_of, when = readings.names(entity), path_getter(readings.value), path_getter(timestamp)
    flag = path_getter(flags.column) if flags is not None and flags.column is not None else None
    last: dict[Any, dict[str, int]] = defaultdict(dict)
    used: list[_Reading] = []
    counts = Counter[str]()
    ages: dict[str, list[float]] = defaultdict(list)
    gaps: dict[str, list[int]] = defaultdict(list)
    for i in np.argsort(times.ts, kind="stable").tolist():  # a file may have signal after signal
        row, time = rows[i], int(times.ts[i])
        if (names := names_of(row)) is None:
            continue
        signal, who = names
        known = last[who]
        if signal in known:
            gaps[signal].append(time - known[signal])
        good = flag is None or flags is None or flag(row) in flags.good
        known[signal] = time
        ages[signal] += [time - at for at in known.values()]
        counts[signal] += 1
        used.append(_Reading(who, signal, time, when(row), value_of(row) if good else None))
    most = max(counts.values())
    often = [signal for signal in counts if counts[signal] >= ALIKE * most]
    trigger = min(often, key=lambda signal: (float(np.mean(ages[signal])), signal))
    # Machines of another kind may lack the signal: their rows come on a grid.
    having = {reading.who for reading in used if reading.signal == trigger}
    lacking = readings.pattern is not None and having != last.keys()
    gap = _even(float(np.median(gaps[trigger])) / 1000) if gaps[trigger] else 0.0
    every = gap if (len(often) < len(counts) or lacking) and gap > 0 else None
    who_path = entity if readings.pattern is None else readings.signal
    documents = [
        {timestamp: at} | ({} if who_path is None else {who_path: who}) | values
        for who, at, values in (_at(used, trigger) if every is None else _on_grid(used, every))
    ]  # fmt: skip
    return Rows(documents, trigger, every)


class _Reading(NamedTuple):
    """time: ms; at: the time as it is written; value: None where it is not good"""

    who: Any
    signal: str
    time: int
    at: Any
    value: Any


def _at(used: Sequence[_Reading], trigger: str) -> Iterator[tuple[Any, Any, dict[str, Any]]]:
    """Yield entity, time and values of a row at each reading of a signal. used: in the order of their times"""
    known: dict[Any, dict[str, Any]] = defaultdict(dict)
    for each in used:
        known[each.who][each.signal] = each.value
        if each.signal == trigger:
            yield each.who, each.at, dict(known[each.who])


def _on_grid(used: Sequence[_Reading], every: float) -> Iterator[tuple[Any, Any, dict[str, Any]]]:
    """Yield entity, time and values of a row for each part of the grid in which an entity has a reading, at its last.

    Rows at the readings of one signal would lack the stops of a machine, where it is sent as it changes alone.

    Args:
        used: in the order of their times
        every: s from one part to the next
    """
    known: dict[Any, dict[str, Any]] = defaultdict(dict)
    last: dict[Any, tuple[float, Any]] = {}
    for each in used:
        part, own = math.ceil(each.time / (1000.0 * every)), known[each.who]
        if each.who in last and last[each.who][0] < part:
            yield each.who, last[each.who][1], dict(own)
        own[each.signal], last[each.who] = each.value, (part, each.at)
    for who, (_, at) in last.items():
        yield who, at, dict(known[who])


def _even(gap: float) -> float:
    """Return a gap, s, as a part of a day that is near: of irregular readings its digits mean nothing, and rows on a
    grid of whole minutes come at the same times each day.

    >>> _even(363.913), _even(59.98), _even(0.25), _even(50000.0)
    (360.0, 60.0, 0.25, 50000.0)
    """
    near = min(DAY_PARTS, key=lambda part: abs(part - gap))
    return float(near) if abs(near - gap) <= MAX_DEVIATION * gap else gap


class Behind(NamedTuple):
    """Readings that came after a later one of their entity. grace: s to wait for them, None: too long; why: in words"""

    grace: float | None
    why: str


def find_behind(
    rows: Sequence[dict[str, Any]], times: Times, readings: Readings, entity: str | None, *, as_they_came: bool
) -> Behind | None:
    """Return how readings come out of order; None if next to none do.

    Args:
        rows: in the order of their source
        times, readings, entity: as of `as_rows`
        as_they_came: their order is that of a topic; that of a file is so where few are behind, else it has signal
            after signal
    """
    names_of = readings.names(entity)
    latest, behind, used = dict[Any, int](), list[int](), 0
    for row, time in zip(rows, times.ts.tolist(), strict=True):
        if (names := names_of(row)) is None:
            continue
        used, who = used + 1, names[1]
        latest[who] = max(time, latest.get(who, time))
        if time < latest[who]:
            behind.append(latest[who] - time)
    if len(behind) <= MIN_LATE * used or (len(behind) > MAX_LATE_IN_FILE * used and not as_they_came):
        return None
    most = max(behind) / 1000
    why = f"{len(behind):,} of {used:,} readings came after a later one of their entity, by up to {most:g}s"
    return Behind(next((float(each) for each in GRACES if each >= 2 * most), None), why)


def find_after(
    rows: Sequence[dict[str, Any]], times: Times, readings: Readings, entity: str | None, trigger: str
) -> str | None:
    """Return in words that readings come after the one that makes the row of their time; None if few do.

    Args:
        rows: in the order of their source
        times, readings, entity: as of `as_rows`
        trigger: signal at whose readings rows are made
    """
    names_of = readings.names(entity)
    made, after, used = dict[Any, int](), 0, 0
    for i in np.argsort(times.ts, kind="stable").tolist():  # of one time, they stay in the order of their source
        if (names := names_of(rows[i])) is None:
            continue
        (signal, who), time = names, int(times.ts[i])
        used += 1
        if signal == trigger:
            made[who] = time
        else:
            after += made.get(who) == time
    if after <= MIN_AFTER * used:
        return None
    return f"{after:,} of {used:,} readings come after that of `{trigger}` with the same time: a row waits for them"


def with_layout(event: Event, readings: Readings, rows: Rows, flags: Flags | None) -> Event:
    """Return the section of the rows as one of readings."""
    given = event.model_dump()
    if event.watches_all and rows.trigger in event.features:  # of several targets, the first makes a row
        given["features"] = [rows.trigger, *(path for path in event.features if path != rows.trigger)]
    if readings.pattern is None:
        given["signal"] = readings.signal
    else:
        given["tag"] = {"field": readings.signal, "pattern": readings.pattern}
    if flags is not None and flags.column is not None:
        given["quality"] = {"column": flags.column, "good": flags.good}
    if rows.every is not None:
        given["every"] = rows.every
    return Event.model_validate({**given, "layout": "readings", "value": readings.value})
