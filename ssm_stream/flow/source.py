"""The events topic as a Bytewax source: one topic partition is one Bytewax partition."""

from __future__ import annotations

import math
import signal
import threading
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from confluent_kafka import Message

from ssm_stream.config import Config, Source
from ssm_stream.kafka.codec import Chunk, offset_of
from ssm_stream.kafka.partition_reader import Decode, Reader
from ssm_stream.ops.metrics import Metrics
from ssm_stream.recovery.bytewax_db import LABELS_PREFIX

LOG = structlog.get_logger("ssm_stream.source")
IDLE = timedelta(milliseconds=5)
SOON = timedelta(milliseconds=1)  # between looks for what is under way, or at whether the other topic has come as far

STOP = threading.Event()
"""Set: every source ends at its next poll, and the dataflow ends as at the end of its input, snapshots written."""
SIGNALLED = threading.Event()
"""Set: a signal has asked the process to end; not only the dataflow, as when its configuration is to be another."""


def stop_on_signals() -> None:
    """SIGTERM and SIGINT end the dataflow gracefully; Bytewax's own handling of them does not."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _on_signal)


def _on_signal(*_: object) -> None:
    SIGNALLED.set()
    STOP.set()


class Pace:
    """Keeps events and labels side by side while there is a backlog of both: by the times that their messages have.

    Each part in this process says the time of its next message, ms: −∞ while it does not know, ∞ where there is none.
    """

    def __init__(self) -> None:
        self._next: dict[tuple[str, int], float] = {}

    def tell(self, topic: str, partition: int, ts: float) -> None:
        """The time of a part's next message."""
        self._next[topic, partition] = ts

    def limit(self, topic: str) -> float:
        """How far this topic may be read: to the earliest next message of the other."""
        # The values are copied at once: parts of other workers come and go meanwhile.
        return min((ts for (name, _), ts in list(self._next.items()) if name != topic), default=math.inf)


class KafkaSource(FixedPartitionedSource[Any, int]):
    """Partitions of the events topic, and of the labels' beside it; the state of each is the next offset.

    decoder: makes what turns the chunks of one partition into items of the dataflow; by default they stay as they are
    """

    def __init__(
        self,
        source: Source,
        partitions: tuple[int, ...],
        labels: KafkaSource | None = None,
        *,
        decoder: Callable[[], Decode] = lambda: lambda chunk: [chunk],
        until_eof: bool = False,
        metrics: Metrics | None = None,
    ) -> None:
        self.source, self.partitions, self.decoder, self.labels = source, partitions, decoder, labels
        self.reader = Reader(source, partitions, until_eof=until_eof, metrics=metrics)
        if labels is not None:
            self.pace = Pace()
            labels.reader.until_eof = until_eof

    def list_parts(self) -> list[str]:
        parts = [f"{partition:05d}" for partition in self.partitions]
        return parts if self.labels is None else parts + [LABELS_PREFIX + part for part in self.labels.list_parts()]

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> KafkaPartition:
        decode = self.decoder()
        if self.labels is None:
            return KafkaPartition(self.reader, int(for_part), resume_state, decode)
        reader = self.labels.reader if for_part.startswith(LABELS_PREFIX) else self.reader
        return PacedPartition(reader, int(for_part.removeprefix(LABELS_PREFIX)), resume_state, decode, self.pace)


def labels_of(config: Config) -> Source | None:
    """The labels topic as a source of its own; None where labels come with the events, or on their topic."""
    if config.labels is None or config.labels.topic is None:
        return None
    return config.source.model_copy(update={"topic": config.labels.topic, "partitions": None})


def label_source(config: Config, partitions: tuple[int, ...], metrics: Metrics | None = None) -> KafkaSource | None:
    """These partitions of the labels topic."""
    source = labels_of(config)
    return None if source is None else KafkaSource(source, partitions, metrics=metrics)


class KafkaPartition(StatefulSourcePartition[Any, int]):
    """Hands one partition to the dataflow, decoded ahead, from an offset on; commits how far it is safe."""

    def __init__(self, reader: Reader, partition: int, resume: int | None, decode: Decode) -> None:
        self._reader, self._most = reader, reader.source.batch
        self._feed = reader.attach(partition, resume, decode)
        self.next = self._feed.first
        self._committed = self._durable = -1
        self._awake: datetime | None = None
        self._graceful = False

    def next_batch(self) -> list[Any]:
        items = None if STOP.is_set() else self._items()
        if items is None:
            self._graceful = True
            raise StopIteration
        return items

    def _items(self) -> list[Any] | None:
        """What is there now; None where nothing will come any more. Says when to look again."""
        taken, at_end = self._reader.take(self._feed, self._most)
        if taken:
            self.next, self._awake = taken[-1].next, None
            return taken[0].items if len(taken) == 1 else [item for ready in taken for item in ready.items]
        if at_end and self._reader.until_eof:
            return None
        self._rest(soon=not at_end)
        return []

    def _rest(self, *, soon: bool) -> None:
        self._awake = datetime.now(UTC) + (SOON if soon else IDLE)

    def next_awake(self) -> datetime | None:
        return self._awake

    def snapshot(self) -> int:
        self._reader.epoch_ended()
        # The epoch before this one is on disk by now: that is how far lag tools may see us.
        if self._durable > self._committed:
            self._committed = self._durable
            self._reader.commit(self._feed, self._durable)
        self._durable = self.next
        return self.next

    def close(self) -> None:
        # After an error the broker may be away, and waiting for it would only hold up the end.
        if self._durable > self._committed:
            self._reader.commit(self._feed, self._durable)
        self._reader.detach(self._feed, graceful=self._graceful)


class PacedPartition(KafkaPartition):
    """Events beside a topic of labels, or labels beside events: no faster than the other. Decoded when they are due."""

    def __init__(self, reader: Reader, partition: int, resume: int | None, decode: Decode, pace: Pace) -> None:
        super().__init__(reader, partition, resume, lambda chunk: chunk.messages)
        self._decode, self._pace, self._held = decode, pace, deque[Message]()
        self._pace.tell(reader.source.topic, partition, -math.inf)

    def _items(self) -> list[Any] | None:
        at_end = False
        if not self._held:
            taken, at_end = self._reader.take(self._feed, self._most)
            self._held.extend(message for ready in taken for message in ready.items)
        messages = self._due(at_end=at_end)
        if messages:
            self.next, self._awake = offset_of(messages[-1]) + 1, None
            return self._decode(Chunk(self._reader.source.topic, self._feed.partition, messages))
        if not self._held and at_end and self._reader.until_eof:
            return None
        self._rest(soon=bool(self._held) or not at_end)
        return []

    def _due(self, *, at_end: bool) -> list[Message]:
        """Of the messages held, those that the other topic's next message is not older than."""
        topic = self._reader.source.topic
        limit, out = self._pace.limit(topic), []
        while self._held and self._held[0].timestamp()[1] <= limit:
            out.append(self._held.popleft())
        ahead = self._held[0].timestamp()[1] if self._held else math.inf if at_end else -math.inf
        self._pace.tell(topic, self._feed.partition, ahead)
        return out
