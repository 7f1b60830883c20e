"""Reads events again after a rewind: none of their results is sent, and then what consumers see is brought up to date.

Up to the position that was delivered before the rewind the batches are marked (`again`). Behind it, each shard compares
the episodes that are open for consumers with those that its state has now.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ssm_stream.engine.alerts import Alert
from ssm_stream.engine.engine import Engine
from ssm_stream.engine.episodes.ids import EventIds
from ssm_stream.kafka.encoder import Encoder
from ssm_stream.kafka.partition_queue import Decode
from ssm_stream.kafka.records import (
    CaughtUp,
    Chunk,
    LabelBatch,
    OutputBatch,
    ProducerRecord,
    ShardBatch,
    offset_of,
    shard_key,
)
from ssm_stream.recovery.catch_up import CatchUp
from ssm_stream.recovery.positions import Positions


class CatchUpDecoder:
    """Decodes the chunks of one partition, and marks what was delivered before the rewind.

    decode: decodes chunks
    topic: of the events, behind whose delivered part the episodes are compared
    resume: where this run began to read
    """

    def __init__(self, decode: Decode, topic: str, catch_up: CatchUp, resume: Positions) -> None:
        self._decode, self._topic, self._catch_up, self._resume = decode, topic, catch_up, resume
        self._passed = False

    def __call__(self, chunk: Chunk) -> list[Any]:
        """Return the batches of a chunk by shard, and its dead letters."""
        place = chunk.topic, chunk.partition
        delivered = self._catch_up.delivered.get(place)
        if delivered is None or self._passed:
            return self._decode(chunk)
        caught_up = self._catch_up.caught_up.get(place, delivered)
        offsets = [offset_of(message) for message in chunk.messages]
        cuts = [int(np.searchsorted(offsets, each)) for each in (delivered, caught_up)]
        again, between, rest = (
            chunk._replace(messages=chunk.messages[begin:end])
            for begin, end in zip([0, *cuts], [*cuts, len(offsets)], strict=True)
        )
        out = [
            (key, item._replace(again=True)) for key, item in self._items(again) if not isinstance(item, OutputBatch)
        ]
        out += self._items(between)
        if rest.messages:
            self._passed = True
            if chunk.topic == self._topic and self._resume.get(place, 0) <= caught_up:
                out += self._caught_up(chunk.partition, offset_of(rest.messages[0]))
            out += self._items(rest)
        return out

    def _items(self, chunk: Chunk) -> list[tuple[str, Any]]:
        """Return the batches of a chunk, without the events that are in the state of their shard already."""
        if not chunk.messages:
            return []
        out, place = [], (chunk.topic, chunk.partition)
        for key, item in self._decode(chunk):
            read = self._catch_up.read.get(key, {}).get(place, 0)
            if isinstance(item, ShardBatch) and item.offsets[0] < read:
                begin = int(np.searchsorted(item.offsets, read))
                if begin == len(item.offsets):
                    continue
                item = item.slice(begin, len(item.offsets))
            elif isinstance(item, LabelBatch) and int(item.labels.position[0]) < read:
                rows = np.flatnonzero(item.labels.position >= read)
                if not len(rows):
                    continue
                item = item._replace(labels=item.labels.take(rows))
            out.append((key, item))
        return out

    def _caught_up(self, partition: int, offset: int) -> Iterator[tuple[str, CaughtUp]]:
        """Yield an item for each shard. offset: of the first message that was not delivered"""
        for key in self._catch_up.shards:
            mine = [
                each
                for each in self._catch_up.open
                if shard_key(each.started.pool[0]) == key and each.started.pool[1] == partition
            ]
            yield key, CaughtUp(int(key), self._topic, partition, offset, mine)


class Undelivered:
    """The episodes that begin in events that are read again: consumers may not have seen them."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._begun: dict[tuple[str, bool], list[ProducerRecord]] = {}

    def add(self, alerts: list[Alert], ids: EventIds) -> None:
        """Note the alerts of a batch whose results are not sent. ids: of its events"""
        for alert in alerts:
            key = (str(alert.message["episode"]), alert.suppressed_by is not None)
            if alert.message["phase"] == "started":
                self._begun[key] = self._encoder.alert_records([alert], ids)
            elif alert.message["phase"] == "recovered":
                self._begun.pop(key, None)

    def compare(self, engine: Engine, item: CaughtUp) -> list[OutputBatch]:
        """Let the engine end the episodes that are no more, and return the beginnings that consumers have not seen."""
        now = {
            (each.started.id, each.suppressed)
            for each in engine.episodes.open("rewind")
            if each.started.pool[1] == item.partition
        }
        seen = {(each.started.id, each.suppressed) for each in item.open}
        engine.episodes.add_ended([each for each in item.open if (each.started.id, each.suppressed) not in now])
        late = [key for key in self._begun if key in now and key not in seen]
        records = [record._replace(offset=item.offset) for key in late for record in self._begun.pop(key)]
        if not records:
            return []
        return [OutputBatch(item.topic, item.partition, item.offset, item.offset, records)]
