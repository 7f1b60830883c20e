"""Windows of events → rows (`event.aggregate`); the state and its rules are in `core/aggregate/windows.cpp`."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from ssm_stream.config import Event
from ssm_stream.config.quantities import format_duration
from ssm_stream.config.sections.aggregate import Aggregate
from ssm_stream.config.sections.conditions import Test
from ssm_stream.core import native
from ssm_stream.ingest.conditions import met
from ssm_stream.ingest.context.facts import JoinFacts
from ssm_stream.ingest.events import Events, RefusedDocument
from ssm_stream.ingest.factorize import factorize
from ssm_stream.ingest.faults import Fault
from ssm_stream.ingest.rows.builder import Rows
from ssm_stream.ingest.rows.columns import RowColumns

LOG = logging.getLogger("ssm_stream")
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
OPERATIONS = ("count", "met", "share", "sum", "mean", "min", "max", "last", "quantile")
"""As the core numbers them; `met` counts the events that meet a condition."""
UNLIMITED = 2**62
LATE = 0
"""Why the core refuses an event: its window is closed; else its time is far beyond those of its entity."""


def window_event(event: Event) -> Event:
    """Return the section by which the events of windows are read: what is aggregated, and no target."""
    assert event.aggregate is not None
    numbers = event.aggregate.numbers
    names = [path for path in event.aggregate.fields if path not in numbers]
    plain: dict[str, Any] = {"aggregate": None, "derive": {}, "when": [], "inputs": None}
    return event.model_copy(update={**plain, "features": numbers, "categories": names, "target": []})


class _Source:
    """The windows of one partition. columns: number of them; names: of the core's rows"""

    def __init__(self, windows: native.Windows, columns: int) -> None:
        self.windows, self.columns = windows, columns
        self.rows: dict[str, int] = {}
        self.names: list[str] = []

    def rows_of(self, entities: list[str]) -> tuple[Ints, list[str]]:
        """Return the core's row of each entity, and the names of the new ones."""
        rows, new = factorize(entities, self.rows), list[str]()
        if len(self.rows) > len(self.names):
            new = list(self.rows)[len(self.names) :]
            self.names += new
        return rows, new

    def compact(self) -> None:
        """Drop the names of entities that the core has forgotten, where they are many."""
        found = self.windows.compact(False)
        if found is not None:
            place = np.frombuffer(found, np.int64)
            self.names = [self.names[i] for i in np.flatnonzero(place >= 0).tolist()]
            self.rows = {name: i for i, name in enumerate(self.names)}


class _Closed(NamedTuple):
    """k windows in the order in which they were closed.

    entity: names; message (k,): places of the messages that closed them; window, size (k,): index, and number of
    events; values (k, c): columns
    """

    entity: list[str]
    message: Ints
    window: Ints
    size: Ints
    values: Floats

    @staticmethod
    def of(source: _Source, closed: bytes, values: bytes) -> _Closed:
        """Return what the core has closed."""
        message, row, window, size = np.frombuffer(closed, np.int64).reshape(-1, 4).T
        columns = np.frombuffer(values, np.float64).reshape(len(row), source.columns)
        return _Closed([source.names[i] for i in row.tolist()], message, window, size, columns)


class WindowBuilder:
    """Makes a row of each window of an entity. It is a `RowBuilder`.

    ttl: ms of event time without events after which an entity has no empty windows any more"""

    def __init__(self, event: Event, ttl: float | None = None) -> None:
        assert event.aggregate is not None
        self._silence = event.silence
        self._aggregate: Aggregate = event.aggregate
        self._every, self._grace = round(1000 * self._aggregate.every), round(1000 * self._aggregate.grace)
        self._empty = UNLIMITED if ttl is None or math.isinf(ttl) else max(int(ttl // self._every), 1)
        self._out = RowColumns(event)
        columns = list(self._aggregate.columns)
        self._places = [columns.index(name) for name in self._out.names]
        self._numbers = self._aggregate.numbers
        self._read = [*self._numbers, *(path for path in self._aggregate.fields if path not in self._numbers)]
        self._conditions = self._aggregate.conditions
        self._tests = [_as_json(condition) for condition in self._conditions]
        self._core_columns = self._described()
        self._sources: dict[int, _Source] = {}
        self._warned = False

    def _described(self) -> list[tuple[int, int, int]]:
        """Return operation, place of the number or condition, and parts of 100,000 of each column, for the core."""
        found, conditions = list[tuple[int, int, int]](), 0
        for each in self._aggregate.columns.values():
            operation, place = str(each.operation), 0
            if each.condition is not None:
                operation, place = ("met" if operation == "count" else "share"), conditions
                conditions += 1
            elif each.path is not None:
                place = self._numbers.index(each.path)
            found.append((OPERATIONS.index(operation), place, round(1000 * each.percent)))
        return found

    def _source(self, partition: int) -> _Source:
        if partition not in self._sources:
            sizes = (len(self._numbers), len(self._conditions))
            windows = native.Windows(self._every, self._grace, self._empty, *sizes, self._core_columns)
            if self._silence is not None:
                windows.until_silent(*self._silence)
            self._sources[partition] = _Source(windows, len(self._core_columns))
        return self._sources[partition]

    def add(self, messages: Events, offsets: Sequence[int], partition: int) -> Rows:
        """Return the rows of the windows that these messages close. See `RowBuilder.add`."""
        source = self._source(partition)
        n, k = len(messages), len(self._numbers)
        numbers = np.ascontiguousarray(messages.features[:, :k])
        flags = np.empty((n, len(self._conditions)), np.bool_)
        for j, condition in enumerate(self._conditions):
            flags[:, j] = met(condition, lambda path: messages.features[:, self._read.index(path)], n)
        rows, new = source.rows_of(messages.entity)
        self._warn_of_several(new, partition)
        closed, values, refused = source.windows.add(rows, messages.ts, numbers, flags, len(source.names))
        part = _Closed.of(source, closed, values)
        late = [self._refused(*each) for each in np.frombuffer(refused, np.int64).reshape(-1, 3).tolist()]
        source.compact()
        came = None if messages.came is None else messages.came[part.message]
        return Rows(self._events([part], came), [offsets[i] for i in part.message.tolist()], late)

    def join_facts(self, join: JoinFacts) -> None:
        """Set what joins the facts of context topics; see `RowBuilder`."""
        if self._out.join is not None:
            self._out.join = join

    def _warn_of_several(self, names: list[str], partition: int) -> None:
        """Log once that an entity comes in several partitions. names: that are new in this one"""
        for other, source in self._sources.items():
            twice = next((name for name in names if name in source.rows), None) if other != partition else None
            if twice is not None and not self._warned:
                self._warned = True
                LOG.warning(
                    "events of %r come in partitions %d and %d: each has windows of its own, which hold only a part of "
                    "them; key the topic by the entity, or name it in source.repartition",
                    twice, other, partition,
                )  # fmt: skip

    def flush(self) -> Rows:
        """Return the rows of all windows with events: at the end of a file."""
        parts = [_Closed.of(source, *source.windows.flush()[:2]) for _, source in sorted(self._sources.items())]
        events = self._events(parts or [_Closed.of(self._source(0), b"", b"")])
        return Rows(events, [-1] * len(events))

    def _events(self, parts: list[_Closed], came: Ints | None = None) -> Events:
        entity = [name for part in parts for name in part.entity]
        window = np.concatenate([part.window for part in parts])
        size, values = (np.concatenate([getattr(part, name) for part in parts]) for name in ("size", "values"))
        # The learner computes some of its arrays in 32 bits: a sum may be beyond them.
        usable = np.where(np.abs(values) <= native.MAX_NUMBER, values, np.nan)[:, self._places]
        events = self._out.events(entity, (window + 1) * self._every - 1, usable, numbered=True, came=came)
        return replace(events, empty=size == 0)

    def _refused(self, position: int, why: int, behind: int) -> RefusedDocument:
        if why == LATE:
            reason = (
                f"the window of the event's time was closed before: it lies {format_duration(behind / 1000)} before "
                f"the end of the entity's last one (event.aggregate.grace: {format_duration(self._aggregate.grace)})"
            )
            return RefusedDocument(position, Fault.LATE, reason)
        reason = f"the event's time lies {format_duration(-behind / 1000)} beyond the others of its entity"
        return RefusedDocument(position, Fault.AHEAD, reason)

    @property
    def overtaken(self) -> int:
        """No event is: one that comes too late is refused."""
        return 0

    @property
    def memory(self) -> int:
        """Bytes of the open windows and their entities."""
        return sum(source.windows.memory() for source in self._sources.values())

    def dump(self) -> bytes:
        """Return the state: a line of JSON, and the windows of each partition as the core has them."""
        found = [(partition, source, source.windows.dump()) for partition, source in sorted(self._sources.items())]
        sources = [[partition, source.names, len(state)] for partition, source, state in found]
        head = {"sources": sources, "fields": self._numbers, "conditions": self._tests}
        return orjson.dumps(head) + b"\n" + b"".join(state for _, _, state in found)

    def load(self, data: bytes) -> None:
        """Load what `dump` returned, of these columns or of others.

        Open windows keep what is gathered of fields and conditions that both have. What a column needs beyond that is
        unknown in them.

        Raises:
            ValueError: it is damaged, or of windows of another length.
        """
        line, _, states = data.partition(b"\n")
        head = orjson.loads(line)
        fields, conditions = _places(head["fields"], self._numbers), _places(head["conditions"], self._tests)
        self._sources, at = {}, 0
        for partition, names, size in head["sources"]:
            source = self._source(partition)
            source.windows.load(states[at : at + size], fields, conditions)
            at += size
            if len(names) != len(source.windows):
                raise ValueError(f"{len(names)} names of {len(source.windows)} entities")
            source.names, source.rows = names, {name: i for i, name in enumerate(names)}
        if at != len(states):
            raise ValueError(f"windows: {len(states)} bytes, expected {at}")


def _as_json(condition: dict[str, Test]) -> dict[str, Any]:
    return {path: test.model_dump(mode="json") for path, test in condition.items()}


def _places(former: list[Any], present: list[Any]) -> list[int]:
    """Return the place of each among the former ones; −1: it is new."""
    return [former.index(each) if each in former else -1 for each in present]
