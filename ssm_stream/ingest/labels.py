"""Labels: targets that come in messages of their own, after (or before) the events that they belong to."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from ssm_stream.config import MAX_NAME_LENGTH, Config
from ssm_stream.config import Labels as LabelsSection
from ssm_stream.ingest.events import EventReader, Events, RefusedDocument
from ssm_stream.ingest.faults import Fault
from ssm_stream.ingest.json_values import is_utf8
from ssm_stream.ingest.paths import path_getter

MAX_EARLY_LABELS = 100_000
"""Labels that wait for their events, over all entities: bounded, as their entities may never have events."""
RawLabel = tuple[bytes | None, bytes | None]
"""A message's key and value."""


def label_test(section: LabelsSection | None) -> Callable[[Any], bool] | None:
    """Return what distinguishes labels among the events from these, by `labels.marker`; None without it."""
    if section is None or section.marker is None:
        return None
    marker = path_getter(section.marker)
    return lambda document: type(document) is dict and marker(document) is not None


@dataclass(frozen=True, slots=True)
class Labels:
    """n labels in the order of their source. They are joined to events by `ts` or by `key`; the other is zeros."""

    entity: list[str]
    """n names"""
    ts: NDArray[np.int64]
    """(n,) times of the events, ms"""
    key: NDArray[np.int64]
    """(n,) hashes of the events' ids, see `hash_id`"""
    target: NDArray[np.float64]
    """(n,)"""
    position: NDArray[np.int64]
    """(n,) index of each among the documents read"""
    raw: list[RawLabel] | None = None
    """the messages, for labels that have to wait for their events"""

    def __len__(self) -> int:
        return len(self.entity)

    def take(self, rows: NDArray[np.intp]) -> Labels:
        """Return these rows, in this order."""
        at = rows.tolist()
        raw = None if self.raw is None else [self.raw[i] for i in at]
        return Labels(
            [self.entity[i] for i in at], self.ts[rows], self.key[rows], self.target[rows], self.position[rows], raw
        )


class UnmatchedLabel(NamedTuple):
    """A label without an event."""

    entity: str
    source: int
    """the stream that it came from"""
    position: int
    """its position there, see `Labels`"""
    raw: RawLabel | None
    reason: str
    row: int
    """index, in its batch, of the event or label at which it was given up"""


def hash_id(text: str) -> int:
    """Return the 64-bit hash (signed) of an id, the same in every process."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big", signed=True)


NO_TIME = "\0time"
"""Path of the time in labels that are joined by id and have none."""


class LabelReader:
    """Reads labels, and the ids of events, by the `labels` section of the configuration."""

    def __init__(self, config: Config, section: LabelsSection) -> None:
        event = config.event
        self.id, self.event_id = section.id, section.event_id or section.id
        self._target = section.target or event.targets[0]  # `Config` refuses labels of several
        paths = {
            "entity": section.entity or event.entity,
            "timestamp": NO_TIME if section.id else section.timestamp or event.timestamp,
            "target": self._target,
        }
        fixed: dict[str, object] = {"features": [], "categories": [], "lags": 1, "when": [], "quality": None}
        self._reader = EventReader(event.with_limits([]).model_copy(update={**paths, **fixed}))

    def read(self, documents: Sequence[Any]) -> tuple[Labels, list[RefusedDocument]]:
        """Return the labels among the documents, and the refused documents, both in order of position."""
        rows = [{**d, NO_TIME: 0} if type(d) is dict else d for d in documents] if self.id else documents
        found, refused = self._reader.read(rows)
        missing = np.isnan(found.target)
        refused += [
            RefusedDocument(i, Fault.MISSING_FIELD, f"target: `{self._target}` is missing or null in a label")
            for i in found.position[missing].tolist()
        ]
        keys = np.zeros(len(found), np.int64)
        if self.id:
            keys, nameless = self._hash_ids(documents, found.position, self.id)
            already = {each.position for each in refused}
            refused += [r for r in nameless if r.position not in already]
            missing = missing | np.isin(found.position, [r.position for r in nameless])
        good = np.flatnonzero(~missing)
        labels = Labels(found.entity, found.ts, keys, found.target, found.position).take(good)
        return labels, sorted(refused)

    def add_ids(self, documents: Sequence[Any], events: Events) -> tuple[Events, list[RefusedDocument]]:
        """Return the events with the hashes of their ids, and the documents refused because they have none."""
        if not self.event_id:
            return events, []
        keys, refused = self._hash_ids(documents, events.position, self.event_id)
        events = replace(events, key=keys)
        if refused:
            events = events.take(np.flatnonzero(~np.isin(events.position, [r.position for r in refused])))
        return events, refused

    @staticmethod
    def _hash_ids(
        documents: Sequence[Any], position: NDArray[np.int64], path: str
    ) -> tuple[NDArray[np.int64], list[RefusedDocument]]:
        get, refused = path_getter(path), []
        keys = np.zeros(len(position), np.int64)
        for i, at in enumerate(position.tolist()):
            value = get(documents[at])
            text = str(value) if type(value) in (str, int) else ""
            if not text or len(text) > MAX_NAME_LENGTH or not is_utf8([text]):
                refused.append(RefusedDocument(at, Fault.WRONG_ID, f"id: `{path}` must be text or a whole number"))
            else:
                keys[i] = hash_id(text)
        return keys, refused


class EarlyLabel(NamedTuple):
    """A label that waits for its event. since: event time, ms, from which it waits; None: that of the next event."""

    ts: int
    key: int
    target: float
    since: int | None
    source: int
    position: int
    raw: RawLabel | None


class EarlyLabels:
    """Labels that came before their events.

    Args:
        wait: a label waits until its entity's event time is so many ms later
        max_pending: labels of an entity that may wait
        by_id: labels are joined by the ids of events, not by their times

    Attributes:
        unmatched: labels that were given up; the caller empties the list
    """

    def __init__(self, wait: float, max_pending: int, *, by_id: bool) -> None:
        self.wait, self.max_pending, self.by_id = wait, max_pending, by_id
        self.unmatched: list[UnmatchedLabel] = []
        self._of: dict[str, list[EarlyLabel]] = {}
        self._count = 0
        self._idle: dict[str, list[list[int]]] = {}  # entity → time and id of idle events, whose labels are ignored

    def __len__(self) -> int:
        return self._count

    def give_up(self, entity: str, label: EarlyLabel, reason: str, row: int) -> None:
        """Add a label to `unmatched`, at that row of a batch."""
        self.unmatched.append(UnmatchedLabel(entity, label.source, label.position, label.raw, reason, row))

    def add(self, entity: str, label: EarlyLabel, row: int) -> None:
        """Let a label, at that row of a batch, wait; above the limits the oldest one is given up."""
        self._of.setdefault(entity, []).append(label)
        self._count += 1
        if len(self._of[entity]) > self.max_pending:
            self._expire(
                entity, 0, f"{self.max_pending} later labels wait for events of {entity!r} (labels.pending)", row
            )
        elif self._count > MAX_EARLY_LABELS:
            self._expire(next(iter(self._of)), 0, f"{MAX_EARLY_LABELS} later labels wait for their events", row)

    def match(self, events: Events, latest: dict[str, int]) -> NDArray[np.float64]:
        """Return the targets of the events, with waiting labels filled in; give up labels that waited too long.

        Args:
            events: n events, in order
            latest: time of the latest event of each entity that has labels waiting, ms; it is updated
        """
        target = events.target
        for t, name in enumerate(events.entity):
            if name not in self._of:
                continue
            ts = int(events.ts[t])
            now = latest[name] = max(ts, latest.get(name, ts))
            key = int(events.key[t]) if events.key is not None else 0
            at, free = 0, True
            while at < len(self._of.get(name, ())):
                label = self._of[name][at]
                if label.since is None:
                    label = self._of[name][at] = label._replace(since=ts)
                assert label.since is not None
                same = label.key == key if self.by_id else label.ts == ts
                if label.since < now - self.wait:
                    self._expire(name, at, "no event came for it while it waited (labels.wait)", t)
                elif same and free and np.isnan(target[t]):
                    if target is events.target:
                        target = target.copy()
                    target[t], free = label.target, False
                    self._remove(name, at)
                else:
                    at += 1
        return target

    def add_idle(self, entity: str, ts: int, key: int) -> None:
        """Ignore the label of an idle event, be it here already or still to come."""
        for at, label in enumerate(self._of.get(entity, ())):
            if label.key == key if self.by_id else label.ts == ts:
                self._remove(entity, at)
                return
        kept = [each for each in self._idle.get(entity, ()) if each[0] >= ts - self.wait]
        self._idle[entity] = [*kept, [ts, key]][-self.max_pending :]

    def is_idle(self, entity: str, ts: int, key: int) -> bool:
        """Return whether a label is one of an idle event, which it has just been found for."""
        for at, (then, own) in enumerate(self._idle.get(entity, ())):
            if own == key if self.by_id else then == ts:
                del self._idle[entity][at]
                return True
        return False

    def entities(self) -> Iterator[str]:
        """Return an iterator over the entities that have labels waiting."""
        return iter(self._of)

    def drop_entity(self, entity: str) -> None:
        """Remove an entity's labels; they are not reported as unmatched."""
        self._count -= len(self._of.pop(entity, []))
        self._idle.pop(entity, None)

    def dump(self) -> bytes:
        """Return all labels that wait, as JSON."""

        def text(value: bytes | None) -> str | None:
            return None if value is None else base64.b64encode(value).decode()

        rows: list[Any] = []
        for name, labels in self._of.items():
            for label in labels:
                raw = None if label.raw is None else [text(label.raw[0]), text(label.raw[1])]
                rows.append([name, *label[:-1], raw])
        return orjson.dumps({"labels": rows, "idle": self._idle} if self._idle else rows)

    def load(self, data: bytes) -> None:
        """Add the labels in the JSON that `dump` returned."""

        def blob(value: str | None) -> bytes | None:
            return None if value is None else base64.b64decode(value)

        content = orjson.loads(data)
        if isinstance(content, dict):
            self._idle, content = content["idle"], content["labels"]
        for name, ts, key, target, since, source, position, raw in content:
            message = None if raw is None else (blob(raw[0]), blob(raw[1]))
            label = EarlyLabel(ts, key, target, since, source, position, message)
            self._of.setdefault(name, []).append(label)
            self._count += 1

    def _remove(self, entity: str, at: int) -> EarlyLabel:
        self._count -= 1
        label = self._of[entity].pop(at)
        if not self._of[entity]:
            del self._of[entity]
        return label

    def _expire(self, entity: str, at: int, reason: str, row: int) -> None:
        self.give_up(entity, self._remove(entity, at), reason, row)
