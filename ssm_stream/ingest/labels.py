"""Labels: targets that come by themselves, after (or before) the events that they belong to."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from ssm_stream.config import MAX_NAME_LENGTH, Config
from ssm_stream.config import Labels as Section
from ssm_stream.ingest.events import EventReader, Events, Refused, is_text, value_at

EARLY_MOST = 100_000
"""Labels that wait for their events, over all entities: a bound, should labels come of entities that have none."""
Raw = tuple[bytes | None, bytes | None]
"""A message's key and value."""


@dataclass(frozen=True, slots=True)
class Labels:
    """n labels in the order of their source.

    entity: n names; ts (n,) int64 ms: time of the event, or key (n,) int64: the code of its id (see `id_code`), the
    other being zeros; target (n,) float64; position (n,) int64: where each stood among the documents read; raw: the
    messages, kept for those that have to wait for their events
    """

    entity: list[str]
    ts: NDArray[np.int64]
    key: NDArray[np.int64]
    target: NDArray[np.float64]
    position: NDArray[np.int64]
    raw: list[Raw] | None = None

    def __len__(self) -> int:
        return len(self.entity)

    def take(self, rows: NDArray[np.intp]) -> Labels:
        """Those rows, in that order."""
        at = rows.tolist()
        raw = None if self.raw is None else [self.raw[i] for i in at]
        return Labels(
            [self.entity[i] for i in at], self.ts[rows], self.key[rows], self.target[rows], self.position[rows], raw
        )


class Unmatched(NamedTuple):
    """A label without an event. source, position: the stream that it came from and its place there; see `Labels`.
    row: of the event or label, in its batch, at which it was given up."""

    entity: str
    source: int
    position: int
    raw: Raw | None
    reason: str
    row: int


def id_code(text: str) -> int:
    """64 bits (signed) that stand for an id, the same in every process."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big", signed=True)


NO_TIME = "\0time"
"""Stands for the time in labels that are joined by id and have none."""


class LabelReader:
    """Reads documents that are labels by the `labels` section of the configuration, and the ids of events."""

    def __init__(self, config: Config, section: Section) -> None:
        event = config.event
        self.id, self.event_id = section.id, section.event_id or section.id
        self._target = section.target or event.targets[0]  # `Config` refuses labels of several
        paths = {
            "entity": section.entity or event.entity,
            "timestamp": NO_TIME if section.id else section.timestamp or event.timestamp,
            "target": self._target,
        }
        fixed: dict[str, object] = {"features": [], "categories": [], "lags": 1}
        self._reader = EventReader(event.model_copy(update={**paths, **fixed}))

    def read(self, documents: Sequence[Any]) -> tuple[Labels, list[Refused]]:
        """Columns of the labels among the documents, and the refusals, both in order of position."""
        rows = [{**d, NO_TIME: 0} if type(d) is dict else d for d in documents] if self.id else documents
        found, refused = self._reader.read(rows)
        missing = np.isnan(found.target)
        refused += [
            Refused(i, "MissingField", f"target: `{self._target}` is missing or null in a label")
            for i in found.position[missing].tolist()
        ]
        keys = np.zeros(len(found), np.int64)
        if self.id:
            keys, nameless = self._codes(documents, found.position, self.id)
            refused += [r for r in nameless if r.position not in {known.position for known in refused}]
            missing = missing | np.isin(found.position, [r.position for r in nameless])
        good = np.flatnonzero(~missing)
        labels = Labels(found.entity, found.ts, keys, found.target, found.position).take(good)
        return labels, sorted(refused)

    def identify(self, documents: Sequence[Any], events: Events) -> tuple[Events, list[Refused]]:
        """The events with the codes of their ids, and those that have none as refusals."""
        if not self.event_id:
            return events, []
        keys, refused = self._codes(documents, events.position, self.event_id)
        events = replace(events, key=keys)
        if refused:
            events = events.take(np.flatnonzero(~np.isin(events.position, [r.position for r in refused])))
        return events, refused

    @staticmethod
    def _codes(
        documents: Sequence[Any], position: NDArray[np.int64], path: str
    ) -> tuple[NDArray[np.int64], list[Refused]]:
        get, refused = value_at(path), []
        keys = np.zeros(len(position), np.int64)
        for i, at in enumerate(position.tolist()):
            value = get(documents[at])
            text = str(value) if type(value) in (str, int) else ""
            if not text or len(text) > MAX_NAME_LENGTH or not is_text([text]):
                refused.append(Refused(at, "WrongId", f"id: `{path}` must be text or a whole number"))
            else:
                keys[i] = id_code(text)
        return keys, refused


class Early(NamedTuple):
    """A label that waits for its event. since: the time that its wait counts from, ms; None: that of the next event."""

    ts: int
    key: int
    target: float
    since: int | None
    source: int
    position: int
    raw: Raw | None


class EarlyLabels:
    """Labels that came before their events: at most `most` an entity, each until the entity is `wait` ms further.

    unmatched: those given up; whoever reads them empties the list
    """

    def __init__(self, wait: float, most: int, *, by_id: bool) -> None:
        self.wait, self.most, self.by_id = wait, most, by_id
        self.unmatched: list[Unmatched] = []
        self._of: dict[str, list[Early]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def refuse(self, entity: str, label: Early, why: str, row: int) -> None:
        """Give a label up, at that row of a batch."""
        self.unmatched.append(Unmatched(entity, label.source, label.position, label.raw, why, row))

    def add(self, entity: str, label: Early, row: int) -> None:
        """Keep a label, that row of a batch; the entity's oldest goes where there are too many."""
        self._of.setdefault(entity, []).append(label)
        self._count += 1
        if len(self._of[entity]) > self.most:
            self._drop(entity, 0, f"{self.most} later labels wait for events of {entity!r} (labels.pending)", row)
        elif self._count > EARLY_MOST:
            self._drop(next(iter(self._of)), 0, f"{EARLY_MOST} later labels wait for their events", row)

    def meet(self, events: Events, last: dict[str, int]) -> NDArray[np.float64]:
        """Targets of the events, those of waiting labels put in.

        Args:
            events: n events, in order
            last: time of the latest event of each entity that has labels waiting, ms; it is moved on
        """
        target = events.target
        for t, name in enumerate(events.entity):
            if name not in self._of:
                continue
            ts = int(events.ts[t])
            now = last[name] = max(ts, last.get(name, ts))
            key = int(events.key[t]) if events.key is not None else 0
            at, free = 0, True
            while at < len(self._of.get(name, ())):
                label = self._of[name][at]
                if label.since is None:
                    label = self._of[name][at] = label._replace(since=ts)
                assert label.since is not None
                same = label.key == key if self.by_id else label.ts == ts
                if label.since < now - self.wait:
                    self._drop(name, at, "no event came for it while it waited (labels.wait)", t)
                elif same and free and np.isnan(target[t]):
                    if target is events.target:
                        target = target.copy()
                    target[t], free = label.target, False
                    self._remove(name, at)
                else:
                    at += 1
        return target

    def entities(self) -> Iterator[str]:
        """Names of those that have labels waiting."""
        return iter(self._of)

    def forget(self, entity: str) -> None:
        """Drop an entity's labels, without a word."""
        self._count -= len(self._of.pop(entity, []))

    def dump(self) -> bytes:
        """All that waits, as JSON."""

        def text(value: bytes | None) -> str | None:
            return None if value is None else base64.b64encode(value).decode()

        rows: list[Any] = []
        for name, labels in self._of.items():
            for label in labels:
                raw = None if label.raw is None else [text(label.raw[0]), text(label.raw[1])]
                rows.append([name, *label[:-1], raw])
        return orjson.dumps(rows)

    def load(self, data: bytes) -> None:
        """What `dump` wrote."""

        def blob(value: str | None) -> bytes | None:
            return None if value is None else base64.b64decode(value)

        for name, ts, key, target, since, source, position, raw in orjson.loads(data):
            message = None if raw is None else (blob(raw[0]), blob(raw[1]))
            label = Early(ts, key, target, since, source, position, message)
            self._of.setdefault(name, []).append(label)
            self._count += 1

    def _remove(self, entity: str, at: int) -> Early:
        self._count -= 1
        label = self._of[entity].pop(at)
        if not self._of[entity]:
            del self._of[entity]
        return label

    def _drop(self, entity: str, at: int, why: str, row: int) -> None:
        self.refuse(entity, self._remove(entity, at), why, row)
