"""Reads events again after a rewind: none of their results is sent, and then what consumers see is brought up to date.

Up to the position that was delivered before the rewind the batches are marked (`again`). Behind it, each shard compares
the episodes that are open for consumers with those that its state has now.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import structlog

from ssm_stream.config import Source
from ssm_stream.engine.alerts import Alert
from ssm_stream.engine.engine import Engine
from ssm_stream.engine.episodes.ids import EventIds
from ssm_stream.kafka.encoder import Encoder, alert_body
from ssm_stream.kafka.partition_queue import Decode
from ssm_stream.kafka.records import (
    CaughtUp,
    Chunk,
    LabelBatch,
    OutputBatch,
    ShardBatch,
    offset_of,
    shard_key,
)
from ssm_stream.recovery.catch_up import CatchUp, UndeliveredFile
from ssm_stream.recovery.positions import Positions

LOG = structlog.get_logger("ssm_stream.source")


class CatchUpDecoder:
    """Decodes the chunks of one partition, and marks what was delivered before the rewind.

    decode: decodes chunks
    source: of the events, behind whose delivered part the episodes are compared
    resume: where this run began to read
    """

    def __init__(self, decode: Decode, source: Source, catch_up: CatchUp, resume: Positions) -> None:
        self._decode, self._source, self._catch_up, self._resume = decode, source, catch_up, resume
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
            if chunk.topic in self._source.names and self._resume.get(place, 0) <= caught_up:
                offset = offset_of(rest.messages[0])
                out += self._caught_up(*place, offset)
                LOG.info("caught_up", topic=chunk.topic, partition=chunk.partition, offset=offset)
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

    def _caught_up(self, topic: str, partition: int, offset: int) -> Iterator[tuple[str, CaughtUp]]:
        """Yield an item for each shard. offset: of the first message that was not delivered"""
        source = self._source.number(topic, partition)
        for key in self._catch_up.shards:
            mine = [
                each
                for each in self._catch_up.open
                if shard_key(each.started.pool[0]) == key and each.started.pool[1] == source
            ]
            yield key, CaughtUp(int(key), topic, partition, offset, mine)


class GroupCatchUpDecoder(CatchUpDecoder):
    """The same where a partition's state is its own."""

    def _caught_up(self, topic: str, partition: int, offset: int) -> Iterator[tuple[str, CaughtUp]]:
        source = self._source.number(topic, partition)
        mine = [each for each in self._catch_up.open if each.started.pool[1] == source]
        yield shard_key(partition), CaughtUp(partition, topic, partition, offset, mine)


class Undelivered:
    """The episodes that begin in events that are read again: consumers may not have their beginning.

    Args:
        directory: the recovery directory; None: nothing is ever read again, but for what `stored` opens
        stored: opens the file of a shard that is elsewhere
    """

    def __init__(
        self, encoder: Encoder, directory: Path | None, stored: Callable[[str], UndeliveredFile] | None = None
    ) -> None:
        self._encoder, self._directory, self._stored = encoder, directory, stored
        self._file: UndeliveredFile | None = None

    def add(self, shard: str, alerts: list[Alert], ids: EventIds) -> None:
        """Note the alerts of a batch whose results are not sent. ids: of its events"""
        for alert in alerts:
            phase, sinks = alert.message["phase"], self._encoder.config.sinks
            suppressed = alert.suppressed_by is not None
            if phase == "started" and (sinks.suppressed if suppressed else sinks.alerts) is not None:
                self._open(shard).add(alert_body(alert, ids))
            elif phase == "recovered":
                self._open(shard).remove(alert.message["episode"], suppressed=suppressed)

    def compare(self, shard: str, engine: Engine, item: CaughtUp) -> list[OutputBatch]:
        """Let the engine end the episodes that are no more, and return the beginnings that consumers do not have."""
        source = self._encoder.config.source.number(item.topic, item.partition)
        now = {
            (each.started.id, each.suppressed)
            for each in engine.episodes.open("rewind")
            if each.started.pool[1] == source
        }
        there = {(each.started.id, each.suppressed) for each in item.open}
        engine.episodes.add_ended([each for each in item.open if (each.started.id, each.suppressed) not in now])
        late = [
            each
            for each in self._open(shard).alerts
            if (key := (each["episode"], "suppressed_by" in each)) in now and key not in there
        ]
        if not late:
            return []
        records = [self._encoder.alert_record(each, item.offset) for each in late]
        return [OutputBatch(item.topic, item.partition, item.offset, item.offset, records)]

    def write(self) -> None:
        """Write the file, before the snapshot of the shard."""
        if self._file is not None:
            self._file.write()

    def _open(self, shard: str) -> UndeliveredFile:
        if self._file is None and self._stored is not None:
            self._file = self._stored(shard)
        if self._file is None:
            assert self._directory is not None, "only a state in files is read again"
            self._file = UndeliveredFile(self._directory, shard)
        return self._file
