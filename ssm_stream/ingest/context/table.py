"""Context: slowly changing facts of an entity, joined to its events as of their time.

A fact is one message of a context topic: from its time on, its columns have its values, until the entity's next fact or
for `max_age`. Which facts an event gets depends on the times of both alone, and on the times at which the broker got
them: a fact that came later than the event could wait for is not joined to it, however often the event is read again.
Facts that were there when the flow first began are joined whenever they came.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.config import Config
from ssm_stream.config.sections.kafka import Context as ContextSection
from ssm_stream.ingest.events import EventReader, RefusedDocument
from ssm_stream.ingest.paths import path_getter
from ssm_stream.ingest.timestamps import UNITS_PER_MS, ms_to_iso

MAX_FACTS = 10_000
"""Facts of an entity that are kept, the latest ones."""
MAX_JOINED = 1_000_000
"""Entities whose latest event is remembered: bounded, so that unlimited distinct names cannot exhaust memory."""
MARGIN = 0.25
"""Share of the grace for which an event waits in addition, for facts that are on their way to the broker."""
NO_TARGET = "\0target"


class Place(NamedTuple):
    """The order of facts: by time, ms; between equal times by the place of the message."""

    ts: int
    partition: int
    offset: int


class Message(NamedTuple):
    """A message of a context topic. key: as text; ms: its Kafka timestamp; document: None for a tombstone; there: it is
    known to have been there when the flow first began"""

    partition: int
    offset: int
    key: str | None
    ms: int
    document: Any
    there: bool = False


class LateFact(NamedTuple):
    """A fact that came after an event of its time, or a later one, had been joined without it.

    place: of the message; event: time of the event, ms; behind: ms that the fact came too late for it
    """

    place: Place
    entity: str
    event: int
    behind: int


class Joined(NamedTuple):
    """An event that was joined: its time, and the time up to which facts could come for it, ms."""

    ts: int
    deadline: int


class _Entity:
    """The facts of an entity, in order of time.

    came: when the broker got each, ms; None: it was there when the flow first began
    late: places of facts that some event has not got
    """

    __slots__ = ("came", "late", "places", "values")

    def __init__(self) -> None:
        self.places: list[Place] = []
        self.values: list[tuple[Any, ...]] = []
        self.came: list[int | None] = []
        self.late = set[Place]()


class ContextTable:
    """The facts of one context topic. For the rows of readings and windows their values are codes, as of `Events`.

    Attributes:
        texts: of codes

    Args:
        config: with `source.context`
        section: the part of it for the topic
        first: by partition, the offset before which facts were there when the flow first began; None: all are
    """

    def __init__(self, config: Config, section: ContextSection, first: Mapping[int, int] | None = None) -> None:
        event = config.event
        self.columns, self._late = section.columns, list[LateFact]()
        self._coded = event.makes_rows
        self.first = first
        self._grace, self._margin = round(1000 * section.grace), round(1000 * MARGIN * section.grace)
        self._max_age = None if section.max_age is None else int(section.max_age * 1000)
        self._entity = section.entity or (event.entity if event.tag is None else "entity")
        self._time = section.timestamp or event.timestamp
        self._form = event.timestamp_format
        self._get_entity, self._get_time = path_getter(self._entity), path_getter(self._time)
        self._getters = [path_getter(path) for path in section.columns]
        fixed: dict[str, object] = {
            "features": [], "categories": [], "derive": {}, "lags": 1, "when": [], "quality": None, "target": NO_TARGET,
            "inputs": None, "layout": "events", "tag": None, "aggregate": None,
        }  # fmt: skip
        bare = event.with_limits([]).model_copy(update=fixed)
        self._events = EventReader(bare)
        # A value that its events would be refused for makes the fact unusable, not them: it may hold for many.
        known = () if event.features == "auto" else event.read_numbers
        numbers = [path for path in self.columns if path in known]
        names = [path for path in self.columns if path not in numbers]
        own: dict[str, object] = {"entity": self._entity, "timestamp": self._time}
        own |= {"features": numbers, "categories": names}
        self._place = [[*numbers, *names].index(path) for path in self.columns]
        self._facts = EventReader(bare.model_copy(update=own))
        self.texts: dict[float, str] = {}
        self._unknown: tuple[Any, ...] = (math.nan if self._coded else None,) * len(self.columns)
        self._of: dict[str, _Entity] = {}
        self._joined: dict[str, Joined] = {}  # the latest event of each entity

    def pop_late(self) -> list[LateFact]:
        """Return the facts that were found to be late since the last call."""
        late, self._late = self._late, []
        return late

    def deadline(self, ts: int, came: int | None) -> int:
        """Return until when facts may come for an event: `grace` after its time, or shortly before it came if that is
        later. An event whose clock is ahead has the time at which it came.

        Args:
            ts: of the event, ms
            came: when the broker got the event, ms; None: at its time
        """
        came = ts if came is None or came <= 0 else came
        return max(min(ts, came) + self._grace, came - self._margin)

    def add(self, messages: Sequence[Message]) -> list[RefusedDocument]:
        """Add facts, in any order; return the messages that are none, or have a value of the wrong type."""
        documents = list(map(self._document, messages))
        found, refused = self._facts.read(documents)
        if self._coded and found.category_texts:
            self.texts |= found.category_texts
        for i, (position, name, ts) in enumerate(
            zip(found.position.tolist(), found.entity, found.ts.tolist(), strict=True)
        ):
            message, document = messages[position], documents[position]
            if self._coded:
                values = tuple(found.features[i, self._place].tolist())
            else:
                values = tuple(get(document) for get in self._getters)
            first = None if self.first is None else self.first.get(message.partition, 0)
            came = None if message.there or first is None or message.offset < first else message.ms
            self._insert(name, Place(ts, message.partition, message.offset), values, came)
        return refused

    def _document(self, message: Message) -> Any:
        """Return the document of a message, with its key and Kafka's timestamp where it has no entity and no time."""
        document = {} if message.document is None else message.document
        if type(document) is not dict:
            return document
        more: dict[str, Any] = {}
        if self._get_entity(document) is None:
            more[self._entity] = message.key
        if self._get_time(document) is None:
            iso = self._form == "iso"
            more[self._time] = ms_to_iso(message.ms) if iso else message.ms * UNITS_PER_MS.get(self._form, 1)
        return document | more

    def _insert(self, name: str, place: Place, values: tuple[Any, ...], came: int | None) -> None:
        entity = self._of.setdefault(name, _Entity())
        at = bisect_left(entity.places, place)
        if at < len(entity.places) and entity.places[at] == place:
            return  # read again
        if at and entity.values[at - 1] == values:
            values = entity.values[at - 1]  # once in memory
        entity.places.insert(at, place)
        entity.values.insert(at, values)
        entity.came.insert(at, came)
        joined = self._joined.get(name)
        if joined is not None and came is not None and place.ts <= joined.ts and came > joined.deadline:
            self._note(name, entity, at, joined)
        if len(entity.places) > MAX_FACTS:
            entity.late.discard(entity.places[0])
            del entity.places[0], entity.values[0], entity.came[0]

    def _note(self, name: str, entity: _Entity, at: int, event: Joined) -> None:
        """Note once that a fact is late for an event."""
        place, came = entity.places[at], entity.came[at]
        if came is not None and place not in entity.late:
            entity.late.add(place)
            self._late.append(LateFact(place, name, event.ts, came - event.deadline))

    def join(self, documents: Sequence[Any], came: Sequence[int | None] | None = None) -> None:
        """Set the columns of the documents that are events to the values as of their time, null where unknown.

        came: when the broker got the message of each document, ms
        """
        events, _ = self._events.read(documents)
        for position, name, ts in zip(events.position.tolist(), events.entity, events.ts.tolist(), strict=True):
            found = self.as_of(name, ts, None if came is None else came[position])
            documents[position].update(zip(self.columns, found, strict=True))

    def as_of(self, name: str, ts: int, came: int | None = None) -> tuple[Any, ...]:
        """Return the values of the columns of an entity at a time, ms. came: as of `deadline`"""
        entity = self._of.get(name)
        event = Joined(ts, self.deadline(ts, came))
        if name not in self._joined and len(self._joined) >= MAX_JOINED:
            self._joined.clear()
        self._joined[name] = max(event, self._joined.get(name, event))
        if entity is None:
            return self._unknown
        at = bisect_right(entity.places, ts, key=lambda place: place.ts) - 1
        while at >= 0 and (came_at := entity.came[at]) is not None and came_at > event.deadline:
            self._note(name, entity, at, event)
            at -= 1
        if at < 0 or (self._max_age is not None and ts - entity.places[at].ts > self._max_age):
            return self._unknown
        return entity.values[at]

    def facts(self) -> Iterator[tuple[str, Place, int | None, dict[str, Any]]]:
        """Yield each fact: its entity, its place, when the broker got it (None: it was there when the flow first
        began), and its document, for a reader of the same configuration."""
        for name, entity in sorted(self._of.items()):
            for place, values, came in zip(entity.places, entity.values, entity.came, strict=True):
                iso = self._form == "iso"
                time = ms_to_iso(place.ts) if iso else place.ts * UNITS_PER_MS.get(self._form, 1)
                known = {path: each for path, each in zip(self.columns, values, strict=True) if each == each}
                named = {path: self.texts.get(each, each) for path, each in known.items()}
                yield name, place, came, {self._entity: name, self._time: time, **named}

    def due_of_rows(self, ts: NDArray[np.int64], came: NDArray[np.int64] | None) -> float | None:
        """Return what `due` does, for the times of messages that rows are made of; None without any."""
        if not len(ts):
            return None
        at = ts if came is None else np.where(came > 0, came, ts)
        ends = np.maximum(np.minimum(ts, at) + self._grace, at - self._margin)
        return float(ends.max()) + self._margin

    def due(self, documents: Sequence[Any], came: Sequence[int | None] | None = None) -> float | None:
        """Return up to when facts must have been read for the events among documents, ms; None without events."""
        events, _ = self._events.read(documents)
        times = zip(events.position.tolist(), events.ts.tolist(), strict=True)
        ends = [self.deadline(ts, None if came is None else came[position]) for position, ts in times]
        return max(ends) + self._margin if ends else None


class JoinedTables:
    """Joins the facts of some tables to rows: a `JoinFacts`."""

    def __init__(self, tables: Sequence[ContextTable]) -> None:
        self._tables = tables

    def __call__(
        self, entity: list[str], ts: NDArray[np.int64], came: NDArray[np.int64] | None
    ) -> tuple[NDArray[np.float64], dict[float, str]]:
        """Return the columns of rows, and their texts; see `JoinFacts`."""
        width = sum(len(table.columns) for table in self._tables)
        out, texts, times = np.empty((len(entity), width)), dict[float, str](), ts.tolist()
        arrived = [None] * len(entity) if came is None else came.tolist()
        begin = 0
        for table in self._tables:
            end = begin + len(table.columns)
            found = [table.as_of(*row) for row in zip(entity, times, arrived, strict=True)]
            if found:
                out[:, begin:end] = found
            texts |= table.texts
            begin = end
        return out, texts
