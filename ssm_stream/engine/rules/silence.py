"""What stops: entities without events, columns without a value, signals that repeat one (`core/monitor/silence.cpp`).

Each is a length, of a gap or of a run, judged by the lengths before it. An entity is overdue from the event of another
one on, of its source, at which the clock of that source has passed its deadline; so no batch, restart or wall clock
changes where. The arrays are this module's own: an entity keeps its row until it is removed.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssm_stream.config import Config
from ssm_stream.config.sections.alerts import SILENCE, STUCK
from ssm_stream.core import native
from ssm_stream.engine.alert_kinds import OTHER
from ssm_stream.engine.alerts import Alert
from ssm_stream.engine.entity_store import ResetEntity, shard_of
from ssm_stream.engine.rules.messages import rule_kind, rule_message
from ssm_stream.engine.rules.shared_signals import Change, SharedSignals
from ssm_stream.engine.rules.usual_blanks import UsualBlanks
from ssm_stream.ingest.events import Events
from ssm_stream.ingest.factorize import factorize
from ssm_stream.ingest.planned_stops import HELD

GONE, BACK, EMPTY, FILLED, FIXED, MOVES = range(6)
"""What the core finds."""
STARTS = (GONE, EMPTY, FIXED)
BEGINS = {EMPTY: EMPTY, FILLED: EMPTY, FIXED: FIXED, MOVES: FIXED}
"""Of a column: how what begins, or is over, began."""
ENTITY, COLUMN, SOURCE, LENGTHS = native.silence_sizes()
LAST, TS, DEADLINE, KEY, OF_SOURCE, IS_GONE = range(5, 11)
TAU, RING_ROWS, RING = 0, 5, 9
MISSED, SAME, VALUE, IS_STUCK, SIGNS, REST, LATEST = (ENTITY + i for i in (6, 13, 14, 15, 17, 18, 19))
"""Columns of an entity's row, and of its first column's part."""
LENGTHS_BEFORE = (0.1, 2.0, 1.0, 0.0)
"""Variance, start and mean of the tail, and number of the lengths of a source that has none yet."""
Found = tuple[int, int, int, int, float, float, float, float, float, float]
"""Event, row, what, column (−1: the entity), since (ms), value, how many columns stopped with it, when (ms), and in how
many entities of how many the column stands still (0: not in most)."""


class SilenceAlerts:
    """The state of all entities, and the alerts on those that stop.

    config: with `alerts.silence` or `alerts.stuck`
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        alerts, event = config.alerts, config.event
        self._silence, self._stuck = alerts.silence, alerts.stuck
        by_column = alerts.stuck or (alerts.silence is not None and alerts.silence.columns)
        self._numbers = len(event.numbers) if by_column else 0
        self.columns = [*event.numbers, *event.targets] if by_column else []
        watched = alerts.stuck if isinstance(alerts.stuck, list) else self.columns if alerts.stuck else []
        self._unwatched = [j for j, path in enumerate(self.columns) if path not in watched]
        """Columns that may repeat a value."""
        self._shared = {FIXED: SharedSignals(), EMPTY: SharedSignals()}
        budget = alerts.anomaly.budget
        after = 0.0 if alerts.silence is None or alerts.silence.after == "auto" else 1000.0 * alerts.silence.after
        self._rules = (budget.events, 1000.0 * budget.seconds, after)
        self._repeats = np.array([float(j not in self._unwatched) for j in range(len(self.columns))])
        self._width = ENTITY + COLUMN * len(self.columns)
        self._rows: dict[str, int] = {}
        self._names: list[str] = []
        self._entity = np.empty((0, self._width))
        self._sources: dict[int, int] = {}
        self._source = np.empty((0, SOURCE + 2 * LENGTHS * len(self.columns)))
        self._core = native.Silence()
        by_silence = self.columns and self._silence is not None and self._silence.columns
        self._blanks = UsualBlanks(event.categories, len(self.columns)) if by_silence else None

    @property
    def kinds(self) -> list[str]:
        """The `episode_kind` of each alert that there may be."""
        kinds = [SILENCE] if self._silence is not None else []
        kinds += [rule_kind(SILENCE, path) for path in self.columns if self._silence is not None]
        return kinds + [rule_kind(STUCK, path) for j, path in enumerate(self.columns) if j not in self._unwatched]

    def process(self, events: Events, source: int, resets: Sequence[ResetEntity]) -> list[Alert]:
        """Return the alerts of a batch, in the order of its events.

        Args:
            events: n events
            source: that they come from
            resets: the entities that started afresh in the batch; the ends of their episodes are the caller's
        """
        if not len(events):
            return []
        if events.empty is not None:
            return self._process_those(~events.empty, replace(events, empty=None), source, resets)
        if events.held is not None and not (fresh := _have_readings(events, events.held)).all():
            return self._process_those(fresh, events, source, resets)
        rows = self._rows_of(events.entity)
        at = self._source_of(source)
        values = self._values(events)
        if self._blanks is not None:
            first = len(self._config.event.numbers)
            self._blanks.mark(values, events.features[:, first:], source)
        marks = events.held if self.columns and events.held is not None else np.empty((len(events), 0), np.bool_)
        held = np.ascontiguousarray(marks)
        found: list[Any] = []
        leaving: dict[int, list[str]] = {0: [], len(events): []}
        for each in resets:
            leaving.setdefault(each.row, []).append(each.entity)
        for start, stop in pairwise(sorted(leaving)):
            for entity in leaving[start]:
                self.remove(entity)
            part = slice(start, stop)
            run: list[Any] = self._core.run(
                self._entity,
                self._source,
                at,
                rows[part],
                events.ts[part],
                values[part],
                held[part],
                self._repeats,
                *self._rules,
            )
            of_part: list[Any] = [(start + each[0], *each[1:]) for each in run]
            found += self._once(of_part, events, source, range(start, stop))
        alerts = [alert for each in found if (alert := self._alert(events, source, each)) is not None]
        return sorted(alerts, key=lambda alert: (alert.row, alert.suffix != OTHER, alert.message["entity"]))

    def _process_those(
        self, events_of: NDArray[np.bool_], events: Events, source: int, resets: Sequence[ResetEntity]
    ) -> list[Alert]:
        """Return the alerts of windows with events, or of rows with readings: others are no events for this rule.

        events_of: (n,) which they are
        """
        some = np.flatnonzero(events_of)
        own = [each._replace(row=int(np.searchsorted(some, each.row))) for each in resets]
        alerts = self.process(events.take(some), source, own)
        return [alert._replace(row=int(some[alert.row])) for alert in alerts]

    def _once(self, found: list[Found], events: Events, source: int, part: range) -> list[Found]:
        """Return what is found, of a signal that entities have in common once. part: the events"""
        kept, own = list[tuple[int, Found]](), dict[tuple[int, int, int], tuple[int, Found]]()
        changes: dict[int, list[Change]] = {begins: [] for begins in self._shared}
        for place, each in enumerate(found):
            event, row, what, column, since, value, *_ = each
            begins = BEGINS.get(what)
            # Without the latest value that it had, nothing shows that others have the same signal.
            if begins is None or (what == EMPTY and np.isnan(value)):
                kept.append((place, each))
                continue
            own[event, what, column] = (place, each)
            changes[begins].append(Change(event, (self._names[row], column), what == begins, value, since))
        for begins, shared in self._shared.items():
            for change, is_alert in shared.alerts(events.entity, events.ts, source, changes[begins], part):
                if is_alert:
                    name, column = change.place
                    what = begins if change.begins else begins + 1
                    at = float(events.ts[change.event])
                    new = (change.event, self._rows[name], what, column, change.since, change.value, 0.0, at, 0.0, 0.0)
                    kept.append(own.get((change.event, what, column), (len(found), new)))
        return [each for _, each in sorted(kept, key=lambda kept: (kept[1][0], kept[0]))]

    def _rows_of(self, entities: list[str]) -> NDArray[np.int64]:
        """Return the row of each entity; new ones get one."""
        rows = factorize(entities, self._rows)
        if len(self._rows) > len(self._names):
            new = list(self._rows)[len(self._names) :]
            self._names += new
            if len(self._names) > len(self._entity):
                grown = _new_rows(max(len(self._names), 2 * len(self._entity), 16), self._width)
                grown[: len(self._entity)] = self._entity
                self._entity = grown
        return rows

    def _source_of(self, source: int) -> int:
        if source not in self._sources:
            self._sources[source] = len(self._sources)
            new = np.zeros((1, self._source.shape[1]))
            for part in range(1 + 2 * len(self.columns)):
                start = SOURCE - LENGTHS + part * LENGTHS
                new[0, start : start + LENGTHS] = LENGTHS_BEFORE
            self._source = np.concatenate([self._source, new])
        return self._sources[source]

    def _values(self, events: Events) -> NDArray[np.float64]:
        if not self.columns:
            return np.empty((len(events), 0))
        values = np.ascontiguousarray(_measured(events, self._numbers))
        # Not judged: a machine that stands still repeats its values.
        if events.active is not None:
            values[events.idle] = np.inf
        if events.maintenance is not None:
            values[events.maintenance == HELD] = np.inf
        return values

    def _alert(self, events: Events, source: int, found: Found) -> Alert | None:
        event, row, what, column, since, value, others, at, still, machines = found
        kind = STUCK if what in (FIXED, MOVES) else SILENCE
        if (kind == STUCK and not self._stuck) or (kind == SILENCE and self._silence is None):
            return None
        if what in (EMPTY, FILLED) and self._silence is not None and not self._silence.columns:
            return None
        entity, phase = self._names[row], "started" if what in STARTS else "recovered"
        message = rule_message(
            self._config, kind, self.columns[column] if column >= 0 else None, entity, int(since), int(at)
        ) | {
            "phase": phase,
            "ended_by": "recovered" if phase == "recovered" else None,
            "value": None if what == EMPTY or np.isnan(value) else value,
        }
        pool = (shard_of(entity, self._config.state.shards), source)
        suffix, most = OTHER if what == GONE else "", (int(still), int(machines))
        return Alert(event, message, pool, suffix=suffix, others=int(others), still=most)

    def move(self, place: Callable[[str, int], int]) -> int:
        """Let entities be judged by the clock of another source; returns how many. place: entity, source → source"""
        numbers, moved = {row: source for source, row in self._sources.items()}, 0
        for row, name in enumerate(self._names):
            if np.isnan(self._entity[row, LAST]) or self._entity[row, IS_GONE]:
                continue
            was = numbers[int(self._entity[row, OF_SOURCE])]
            if (now := place(name, was)) != was:
                self._entity[row, OF_SOURCE] = self._source_of(now)
                moved += 1
        if moved:
            self._core.reset(self._entity, self._width)
        return moved

    def end(self, kind: str, entity: str | None = None) -> None:
        """End the episodes of a kind without an alert: of one entity, or of all. kind: see `episode_kind`"""
        if entity is not None and entity not in self._rows:
            return
        rows = slice(len(self._names)) if entity is None else self._rows[entity]
        name, _, column = kind.partition(" ")
        if kind == SILENCE and entity is not None:
            self.remove(entity)
        elif kind == SILENCE:
            self._entity[rows, IS_GONE] = 0.0
            self._entity[rows, DEADLINE] = np.inf  # until its next event
        elif column in self.columns:
            flag = MISSED if name == SILENCE else IS_STUCK
            at = self.columns.index(column)
            self._entity[rows, flag + COLUMN * at] = 0.0
            shared = self._shared[EMPTY if name == SILENCE else FIXED]
            if entity is None:
                shared.clear(at)
            else:
                shared.remove(entity, at)

    def remove(self, entity: str) -> None:
        """Let an entity start afresh. Its row is freed with the next snapshot."""
        row = self._rows.get(entity)
        if row is not None:
            self._entity[row] = _new_rows(1, self._width)[0]
            for each in self._shared.values():
                each.remove(entity)

    def _free_rows(self) -> None:
        """Free the rows of removed entities, and of those that have sent nothing for `state.ttl`, if they are many."""
        state, ttl = self._entity[: len(self._names)], self._config.state.ttl
        gone = np.isnan(state[:, LAST])
        if ttl is not None and len(self._source):
            now = self._source[state[:, OF_SOURCE].astype(np.int64), TAU]
            gone |= (now - state[:, LAST] > 1000.0 * ttl) & (state[:, IS_GONE] == 0.0)
        if 4 * int(gone.sum()) < len(gone):
            return
        place = np.where(gone, -1, np.cumsum(~gone) - 1)
        rings = self._source[:, RING_ROWS : RING_ROWS + RING]
        rings[:] = np.where(rings >= 0, np.append(place, -1)[rings.astype(np.int64)], rings)
        self._names = [name for name, out in zip(self._names, gone.tolist(), strict=True) if not out]
        self._rows = {name: i for i, name in enumerate(self._names)}
        self._entity = state[~gone].copy()
        self._core.reset(self._entity, self._width)

    def dump(self) -> dict[str, Any]:
        """Return the state as JSON has it."""
        self._free_rows()
        entity = self._entity[: len(self._names)].copy()
        entity[:, KEY] = np.inf  # of the queue, which is made anew: its keys depend on when that was
        return {
            "names": self._names,
            "columns": self.columns,
            "entity": _text(entity),
            "sources": list(self._sources),
            "source": _text(self._source),
            "shared": self._shared[FIXED].dump(),
            "missing": self._shared[EMPTY].dump(),
            "blanks": {} if self._blanks is None else self._blanks.dump(),
        }

    def load(self, content: dict[str, Any]) -> None:
        """Load what `dump` returned: by name, of the columns that are left; of another layout, all is counted anew.

        So they are where columns begin to be counted, or are counted no more.
        """
        columns = content["columns"]
        width, of_source = ENTITY + COLUMN * len(columns), SOURCE + 2 * LENGTHS * len(columns)
        sizes = [len(base64.b64decode(content[name])) // 8 for name in ("entity", "source")]
        expected = [len(content["names"]) * width, len(content["sources"]) * of_source]
        if sizes != expected or bool(columns) != bool(self.columns):
            return
        self._names = list(content["names"])
        self._rows = {name: i for i, name in enumerate(self._names)}
        self._entity = _new_rows(len(self._names), self._width)
        self._sources, self._source = {}, self._source[:0]
        for source in content["sources"]:
            self._source_of(source)
        places = {j: self.columns.index(path) for j, path in enumerate(columns) if path in self.columns}
        entity, of_sources = _array(content["entity"], width), _array(content["source"], of_source)
        for array, former, first, size in (
            (self._entity, entity, ENTITY, COLUMN),
            (self._source, of_sources, SOURCE, 2 * LENGTHS),
        ):
            array[:, :first] = former[:, :first]
            for j, now in places.items():
                array[:, first + now * size : first + (now + 1) * size] = former[:, first + j * size :][:, :size]
        for j in self._unwatched:  # that may have been watched before
            at = COLUMN * j
            self._entity[:, [SAME + at, IS_STUCK + at, SIGNS + at]] = 0.0
            self._entity[:, [VALUE + at, REST + at]] = np.nan
        for begins, name in ((FIXED, "shared"), (EMPTY, "missing")):
            kept = [
                [row[0], places[row[1]], row[2], places[row[3]], *row[4:]]
                for row in content.get(name, [])
                if row[1] in places and row[3] in places
            ]
            self._shared[begins].load([row for row in kept if begins != FIXED or row[1] not in self._unwatched])
        if self._blanks is not None:
            self._blanks.load(content.get("blanks", {}), places)
        self._core.reset(self._entity, self._width)


def _have_readings(events: Events, held: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which rows of readings have a newer one than the row before: on a grid, rows go on for as long as a value
    of any signal is believed. held: (n, k) marks of the values that are those of the row before"""
    targets = events.measured.size // len(events)
    fresh = np.isfinite(_measured(events, held.shape[1] - targets)) & ~held
    some: NDArray[np.bool_] = np.logical_or.reduce(fresh, axis=1)
    return some


def _measured(events: Events, numbers: int) -> NDArray[np.float64]:
    """Return the numbers that are inputs, so many of the features, and then the targets."""
    targets = events.measured.reshape(len(events), -1)
    values: NDArray[np.float64] = np.concatenate([events.features[:, :numbers], targets], axis=1)
    return values


def _new_rows(count: int, width: int) -> NDArray[np.float64]:
    rows = np.zeros((count, width))
    rows[:, [LAST, TS]] = np.nan
    rows[:, [DEADLINE, KEY]] = np.inf
    if width > ENTITY:
        rows[:, VALUE::COLUMN] = rows[:, REST::COLUMN] = rows[:, LATEST::COLUMN] = np.nan
    return rows


def _text(array: NDArray[np.float64]) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def _array(text: str, width: int) -> NDArray[np.float64]:
    return np.frombuffer(base64.b64decode(text), np.float64).reshape(-1, width).copy()
