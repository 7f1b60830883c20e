"""Context: slowly changing facts of an entity, joined to its events as of their time.

A fact is one message of a context topic: from its time on, its columns have its values, until the entity's next fact or
for `max_age`. What an event gets depends on the facts and the event's time alone, not on the order in which they came.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Any, NamedTuple

from ssm_stream.config import Config
from ssm_stream.config.sections.kafka import Context as ContextSection
from ssm_stream.ingest.events import EventReader, RefusedDocument
from ssm_stream.ingest.paths import path_getter
from ssm_stream.ingest.timestamps import UNITS_PER_MS, ms_to_iso

MAX_FACTS = 10_000
"""Facts of an entity that are kept, the latest ones."""
NO_TARGET = "\0target"


class Place(NamedTuple):
    """The order of facts: by time, ms; between equal times by the place of the message."""

    ts: int
    partition: int
    offset: int


class Message(NamedTuple):
    """A message of a context topic. key: as text; ms: its Kafka timestamp; document: None for a tombstone"""

    partition: int
    offset: int
    key: str | None
    ms: int
    document: Any


class _Entity:
    """The facts of an entity, in order of time. joined: latest time of an event that was joined, ms"""

    __slots__ = ("joined", "places", "values")

    def __init__(self) -> None:
        self.places: list[Place] = []
        self.values: list[tuple[Any, ...]] = []
        self.joined: int | None = None


class ContextTable:
    """The facts of one context topic.

    Attributes:
        late: facts that came after an event of their time, or a later one, had been joined without them
    """

    def __init__(self, config: Config, section: ContextSection) -> None:
        event = config.event
        self.columns, self.late = section.columns, 0
        self._max_age = None if section.max_age is None else int(section.max_age * 1000)
        self._entity, self._time = section.entity or event.entity, section.timestamp or event.timestamp
        self._form = event.timestamp_format
        self._get_entity, self._get_time = path_getter(self._entity), path_getter(self._time)
        self._getters = [path_getter(path) for path in section.columns]
        fixed: dict[str, object] = {
            "features": [], "categories": [], "derive": {}, "lags": 1, "when": [], "quality": None, "target": NO_TARGET,
            "inputs": None,
        }  # fmt: skip
        bare = event.with_limits([]).model_copy(update=fixed)
        self._events = EventReader(bare)
        self._facts = EventReader(bare.model_copy(update={"entity": self._entity, "timestamp": self._time}))
        self._unknown = (None,) * len(self.columns)
        self._of: dict[str, _Entity] = {}

    def add(self, messages: Sequence[Message]) -> list[RefusedDocument]:
        """Add facts, in any order; return the messages that are none."""
        documents = list(map(self._document, messages))
        found, refused = self._facts.read(documents)
        for position, name, ts in zip(found.position.tolist(), found.entity, found.ts.tolist(), strict=True):
            message, document = messages[position], documents[position]
            values = tuple(get(document) for get in self._getters)
            self._insert(name, Place(ts, message.partition, message.offset), values)
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

    def _insert(self, name: str, place: Place, values: tuple[Any, ...]) -> None:
        entity = self._of.setdefault(name, _Entity())
        if entity.joined is not None and place.ts <= entity.joined:
            self.late += 1
        at = bisect_left(entity.places, place)
        if at < len(entity.places) and entity.places[at] == place:
            return  # read again
        entity.places.insert(at, place)
        entity.values.insert(at, values)
        if len(entity.places) > MAX_FACTS:
            del entity.places[0], entity.values[0]

    def join(self, documents: Sequence[Any]) -> None:
        """Set the columns of the documents that are events to the values as of their time, null where unknown."""
        events, _ = self._events.read(documents)
        for position, name, ts in zip(events.position.tolist(), events.entity, events.ts.tolist(), strict=True):
            documents[position].update(zip(self.columns, self.as_of(name, ts), strict=True))

    def as_of(self, name: str, ts: int) -> tuple[Any, ...]:
        """Return the values of the columns of an entity at a time, ms."""
        entity = self._of.get(name)
        if entity is None:
            return self._unknown
        if entity.joined is None or ts > entity.joined:
            entity.joined = ts
        at = bisect_right(entity.places, ts, key=lambda place: place.ts) - 1
        if at < 0 or (self._max_age is not None and ts - entity.places[at].ts > self._max_age):
            return self._unknown
        return entity.values[at]

    def latest_time(self, documents: Sequence[Any]) -> int | None:
        """Return the latest time of the events among documents, ms; None without events."""
        events, _ = self._events.read(documents)
        return int(events.ts.max()) if len(events) else None
