"""Events as dicts → batches of columns, one a shard: the first step of `monitor` in a dataflow of dicts.

An event is a dict, or a pair of its entity and a dict. An entry `PLACE` in the dict is where the event comes from,
[topic, partition, offset]: `decode` puts it there, steps that copy the dict keep it. Results then have the ids of
`ssm-stream run`, and entities learn together by partition. Without it, all events of a monitor are of partition 0, and
the shard numbers them in the order in which they arrive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple, TypeGuard

import numpy as np
import orjson
from numpy.typing import NDArray

from ssm_stream.config import Config
from ssm_stream.config.sections import Source
from ssm_stream.engine.engine import shard_of
from ssm_stream.ingest.events import Events, RefusedDocument
from ssm_stream.ingest.json_values import abbreviated, plain_dicts, show
from ssm_stream.ingest.labels import LabelReader, RawLabel, label_test
from ssm_stream.ingest.rows.reader import MessageReader
from ssm_stream.kafka.bounded_cache import BoundedCache
from ssm_stream.kafka.dead_letters import make_dead_letter
from ssm_stream.kafka.records import LabelBatch, OutputBatch, RawMessage, ShardBatch, rows_by_shard, shard_key
from ssm_stream.operators.failures import ItemError

PLACE = "ssm_stream.place"
"""Entry of an event: topic, partition and offset of the message that it comes from."""
NO_OFFSET = -1
"""Offset of an event without a place."""
MAX_TEXT = 1000
"""Characters of an event that JSON cannot hold, in its dead letter."""
Place = tuple[str, int, int]


class MessageTopic(str):
    """The topic in the place of an event, with the message that the event comes from: its dead letter repeats that.

    A text like any other, so that steps of one's own may compare, copy, pickle and write places as ever.
    """

    message: RawMessage

    @classmethod
    def of(cls, topic: str, message: RawMessage) -> MessageTopic:
        """Return the name of a topic, with a message of it."""
        named = cls(topic)
        named.message = message
        return named


class EventBatch(NamedTuple):
    """Events of one shard and partition that were given as dicts.

    topic: None: the configuration's; offsets: None: the shard numbers them
    raw: their messages, or the events as JSON, where the shard may still refuse one
    """

    events: Events
    partition: int = 0
    topic: str | None = None
    offsets: list[int] | None = None
    raw: list[RawMessage] | None = None


Batch = EventBatch | ShardBatch | LabelBatch
Item = tuple[str, Batch | OutputBatch]
"""A shard's key, and a batch for it, or dead letters."""


def is_batch(item: Item) -> TypeGuard[tuple[str, Batch]]:
    """Return whether an item is for the shard, and not a dead letter."""
    return not isinstance(item[1], OutputBatch)


class DocumentReader:
    """Reads the items of a monitor's stream into batches by shard and partition, and dead letters.

    Raises:
        ItemError: an item is undecoded (bytes, text or a message), or its place is none. Other items that are no events
            are dead letters.
    """

    def __init__(self, step: str, config: Config) -> None:
        self._step, self.config = step, config
        self._reader = MessageReader(config.event)
        self._shards: BoundedCache[int] = BoundedCache(partial(shard_of, shards=config.state.shards))
        self._labels = LabelReader(config, config.labels) if config.labels else None
        self._is_marked = label_test(config.labels)
        full = config.state.max_entities is not None and config.state.when_full == "refuse"
        self._keep_raw = full or config.event.makes_rows

    def __call__(self, items: list[Any]) -> list[Item]:
        """Return the batches of the items of one activation; batches among them pass unchanged."""
        kinds = set(map(type, items))
        if kinds == {dict}:
            return self._read(None, items)
        if kinds == {tuple}:
            inner = {type(item[1]) if len(item) == 2 else None for item in items}
            if not inner & {ShardBatch, LabelBatch, OutputBatch}:
                keyed = [item for item in items if len(item) == 2 and type(item[0]) is str]
                if len(keyed) == len(items):
                    keys, documents = zip(*items, strict=True)
                    return self._read(list(keys), list(documents))
            elif inner <= {ShardBatch, LabelBatch, OutputBatch}:
                return items
        out: list[Item] = []
        for kind, run in groupby(items, _kind):
            members = list(run)
            if kind == "batch":
                out += members
            elif kind == "keyed":
                out += self._read([key for key, _ in members], [document for _, document in members])
            else:
                out += self._read(None, members)
        return out

    def _read(self, names: list[str] | None, documents: list[Any]) -> list[Item]:
        """Return the batches of documents, in their order. names: their entities, if the stream is keyed"""
        for each in documents:
            if type(each) is not dict and (isinstance(each, bytes | str) or hasattr(each, "value")):
                raise ItemError(
                    f"step {self._step!r}: an event is a dict, found {type(each).__name__}: decode messages first, as "
                    "by ssm_stream.operators.decode"
                )
        documents = plain_dicts(documents)
        places = [self._place(each[PLACE]) if type(each) is dict and PLACE in each else None for each in documents]
        if self._labels is None:
            return self._events(names, documents, places)
        out: list[Item] = []
        at = 0
        for label, run in groupby(map(self._is_label, documents, places)):
            end = at + len(list(run))
            part = (None if names is None else names[at:end], documents[at:end], places[at:end])
            out += self._labels_of(self._labels, *part) if label else self._events(*part)
            at = end
        return out

    def _place(self, value: Any) -> Place | None:
        """Return the place of an event; as JSON has it, it is a list."""
        if value is None:
            return None
        kinds = [type(each) for each in value] if isinstance(value, tuple | list) else []
        topic = value[0] if kinds in ([str, int, int], [MessageTopic, int, int]) else ""
        if topic and all(0 <= number < 2**63 for number in value[1:]):
            return str(topic), value[1], value[2]
        raise ItemError(
            f"step {self._step!r}: {PLACE!r} of an event is (topic, partition, offset), a text and two whole numbers "
            f"from 0 on, found {abbreviated(value)}: keep what ssm_stream.operators.decode puts there, or leave the "
            "entry out"
        )

    def _is_label(self, document: Any, place: Place | None) -> bool:
        assert self.config.labels is not None
        if self.config.labels.topic is not None:
            return place is not None and place[0] == self.config.labels.topic
        return self._is_marked is not None and self._is_marked(document)

    def _events(self, names: list[str] | None, documents: list[Any], places: list[Place | None]) -> list[Item]:
        events, refused = self._reader.read(documents, names)
        if self._labels is not None:
            events, nameless = self._labels.add_ids(documents, events)
            refused = sorted(refused + nameless)
        out: list[Item] = []
        for (topic, number), rows in _by_partition(events, places, self.config.source):
            some = events if rows is None else events.take(rows)
            at = some.position.tolist()
            offsets = None if number is None else [places[i][2] for i in at]
            raw = [_raw(documents[i]) for i in at] if self._keep_raw else None
            batch = EventBatch(some, number or 0, topic, offsets, raw)
            shards = self._shards.values_of(some.entity)
            out += [(key, _rows_of(batch, mine)) for key, mine in rows_by_shard(shards)]
        return out + self._letters(documents, places, refused)

    def _labels_of(
        self, reader: LabelReader, names: list[str] | None, documents: list[Any], places: list[Place | None]
    ) -> list[Item]:
        if names is not None:
            path = (self.config.labels and self.config.labels.entity) or self.config.event.entity
            documents = [
                {path: name, **each} if type(each) is dict else each
                for name, each in zip(names, documents, strict=True)
            ]
        labels, refused = reader.read(documents)
        at = labels.position.tolist()
        found = [places[i] for i in at]
        offsets = np.array([NO_OFFSET if place is None else place[2] for place in found], np.int64)
        raw: list[RawLabel] = [_raw_label(documents[i]) for i in at]
        labels = replace(labels, position=offsets, raw=raw)
        out: list[Item] = []
        for key, rows in rows_by_shard(self._shards.values_of(labels.entity)):
            # Labels are few: those of one partition at a time, in their order.
            for number, mine in groupby(rows.tolist(), lambda row: 0 if (place := found[row]) is None else place[1]):
                out.append((key, LabelBatch(number, labels.take(np.array(list(mine))))))
        return out + self._letters(documents, places, refused)

    def _letters(
        self, documents: list[Any], places: list[Place | None], refused: Sequence[RefusedDocument]
    ) -> list[Item]:
        """Return the dead letters of what is no event."""
        if not refused:
            return []
        records = []
        for position, fault, reason in refused:
            place = places[position] or (self.config.source.topic, 0, NO_OFFSET)
            records.append(make_dead_letter(self.config, _raw(documents[position]), place, "decode", fault, reason))
        offsets = [record.offset for record in records]
        return [(shard_key(0), OutputBatch(self.config.source.topic, 0, min(offsets), max(offsets), records))]


def is_decoded(item: Any) -> bool:
    """Return whether an item is a batch with its shard's key: of events, of labels, or of dead letters."""
    return type(item) is tuple and len(item) == 2 and isinstance(item[1], ShardBatch | LabelBatch | OutputBatch)


def _kind(item: Any) -> str:
    """Return what an item of the stream is: a batch, a keyed event, or an event."""
    if is_decoded(item):
        return "batch"
    return "keyed" if type(item) is tuple and len(item) == 2 and type(item[0]) is str else "event"


def _rows_of(batch: EventBatch, rows: NDArray[np.intp]) -> EventBatch:
    if len(rows) == len(batch.events):
        return batch
    at = rows.tolist()
    return batch._replace(
        events=batch.events.take(rows),
        offsets=None if batch.offsets is None else [batch.offsets[i] for i in at],
        raw=None if batch.raw is None else [batch.raw[i] for i in at],
    )


def _by_partition(
    events: Events, places: list[Place | None], source: Source
) -> list[tuple[tuple[str | None, int | None], NDArray[np.intp] | None]]:
    """Return topic and partition of the events, None without a place, and the rows of each; rows None: all of them.

    Those that count as one source, as of topics that are not configured, keep their order, and so do all where an
    entity comes by several: then they are cut where the place changes.
    """
    if not len(events):
        return []
    if not any(places):
        return [((None, None), None)]
    keys = [(None, None) if (place := places[at]) is None else place[:2] for at in events.position.tolist()]
    numbers = {key: source.number(key[0], key[1] or 0) for key in dict.fromkeys(keys)}
    if len(numbers) == 1:
        return [(keys[0], None)]
    own: dict[str, int] = {}
    apart = all(own.setdefault(e, numbers[key]) == numbers[key] for e, key in zip(events.entity, keys, strict=True))
    found: dict[int, list[tuple[tuple[str | None, int | None], list[int]]]] = {}
    for row, key in enumerate(keys):
        runs = found.setdefault(numbers[key] if apart else 0, [])
        if not runs or runs[-1][0] != key:
            runs.append((key, []))
        runs[-1][1].append(row)
    return [(key, np.array(rows)) for runs in found.values() for key, rows in runs]


def _raw_label(document: Any) -> RawLabel:
    """Return key and value of `_raw`, as a label keeps them."""
    key, value, _ = _raw(document)
    return key.encode("utf-8", "surrogatepass") if isinstance(key, str) else key, value


def _raw(document: Any) -> RawMessage:
    """Return the message that a dead letter repeats: that of the event, or else the event as JSON."""
    if type(document) is dict and PLACE in document:
        place = document[PLACE]
        if isinstance(place, tuple | list) and place and isinstance(place[0], MessageTopic):
            return place[0].message
        document = {key: value for key, value in document.items() if key != PLACE}
    try:
        return RawMessage(None, orjson.dumps(document, default=repr, option=orjson.OPT_NON_STR_KEYS), [])
    except (orjson.JSONEncodeError, RecursionError):
        return RawMessage(None, show(document)[:MAX_TEXT].encode("utf-8", "backslashreplace"), [])
