"""The sources of the dataflow: a partition of a topic is a Bytewax partition."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from ssm_stream.config import Config, Source
from ssm_stream.kafka.client import STOP, with_topic
from ssm_stream.kafka.consumer import PrefetchConsumer
from ssm_stream.kafka.partition_queue import Decode
from ssm_stream.kafka.records import offset_of
from ssm_stream.operators.failures import EXPECTED, report
from ssm_stream.operators.pacing import HeldMessages, Paced, Pacer
from ssm_stream.ops.observers import UNOBSERVED, RunObserver
from ssm_stream.recovery.bytewax_db import LABELS_PREFIX, parse_source_part, source_part

IDLE = timedelta(milliseconds=5)
"""Time between two polls of a partition that is at its end."""
BUSY = timedelta(milliseconds=1)
"""Time between two polls while messages are under way, or while the other topic is behind."""
RESTING = timedelta(milliseconds=50)
"""Time after which a partition that is not read may end, at most."""

SIGNALLED = threading.Event()
"""Set: a signal ends the process; not only the dataflow, as when its configuration changes."""


def interrupt_on_signals() -> None:
    """Make SIGTERM and SIGINT raise KeyboardInterrupt, as long as there is no dataflow to end."""
    if threading.current_thread() is not threading.main_thread():
        return  # a signal handler cannot be set here
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)


def stop_on_signals() -> None:
    """Make SIGTERM and SIGINT end the dataflow gracefully; Bytewax's own handling of them does not."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _on_signal)


def _on_signal(*_: object) -> None:
    SIGNALLED.set()
    STOP.set()


class KafkaSource(FixedPartitionedSource[Any, int]):
    """Partitions of a topic, of further topics of the same layout, and of the labels topic, if any; the state of each
    is the next offset.

    further: the sources of the other topics
    decoder: makes what decodes the chunks of one partition into items of the dataflow; by default chunks stay as they
        are
    resting: names of partitions that are not read, whose states stay as they are
    """

    def __init__(
        self,
        source: Source,
        partitions: tuple[int, ...],
        labels: KafkaSource | None = None,
        *,
        further: Sequence[KafkaSource] = (),
        decoder: Callable[[], Decode] = lambda: lambda chunk: [chunk],
        until_eof: bool = False,
        observers: RunObserver = UNOBSERVED,
        resting: Collection[str] = (),
    ) -> None:
        self.resting = resting
        self.source, self.partitions, self.decoder, self.labels = source, partitions, decoder, labels
        self.topics: list[KafkaSource] = [self, *further]
        self.consumer = PrefetchConsumer(source, partitions, until_eof=until_eof, observers=observers)
        for each in further if labels is None else (*further, labels):
            each.consumer.until_eof = until_eof
        self.pacer = Pacer()

    def list_parts(self) -> list[str]:
        parts = [source_part(i, partition) for i, each in enumerate(self.topics) for partition in each.partitions]
        labels = [] if self.labels is None else [LABELS_PREFIX + part for part in self.labels.list_parts()]
        return [*parts, *labels, *sorted(self.resting)]

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> StatefulSourcePartition[Any, int]:
        if for_part in self.resting:
            return RestingPartition(resume_state or 0, until_eof=self.consumer.until_eof)
        decode, of_labels = self.decoder(), for_part.startswith(LABELS_PREFIX)
        index, partition = parse_source_part(for_part.removeprefix(LABELS_PREFIX))
        if self.labels is None:
            return KafkaPartition(self.topics[index].consumer, partition, resume_state, decode)
        consumer = self.labels.consumer if of_labels else self.topics[index].consumer
        place = Paced(self.pacer, of_labels, consumer.source.topic, partition)
        return PacedPartition(consumer, place, resume_state, decode)


def labels_topic(config: Config) -> Source | None:
    """Return the settings that read the labels topic; None if labels come on the events topic, or not at all."""
    if config.labels is None or config.labels.topic is None:
        return None
    return with_topic(config.source, config.labels.topic)


def label_source(
    config: Config, partitions: tuple[int, ...], observers: RunObserver = UNOBSERVED
) -> KafkaSource | None:
    """Return the source of these partitions of the labels topic; None if there is no such topic."""
    source = labels_topic(config)
    return None if source is None else KafkaSource(source, partitions, observers=observers)


class KafkaPartition(StatefulSourcePartition[Any, int]):
    """Hands one partition to the dataflow, decoded ahead, from an offset on; commits up to where it is safe."""

    def __init__(self, consumer: PrefetchConsumer, partition: int, resume: int | None, decode: Decode) -> None:
        self._consumer, self._limit = consumer, consumer.source.batch
        self._queue = consumer.attach(partition, resume, decode)
        self.next = self._queue.first
        self._committed = self._durable = -1
        self._awake: datetime | None = None
        self._graceful = False

    def next_batch(self) -> list[Any]:
        try:
            items = None if STOP.is_set() else self._items()
        except EXPECTED as error:
            report(error)
            raise
        if items is None:
            self._graceful = True
            raise StopIteration
        return items

    def _items(self) -> list[Any] | None:
        """Return the items that are ready, and set the time of the next poll; None at the end of the input."""
        taken, at_end = self._consumer.take(self._queue, self._limit)
        if taken:
            self.next, self._awake = taken[-1].next, None
            return taken[0].items if len(taken) == 1 else [item for chunk in taken for item in chunk.items]
        if at_end and self._consumer.until_eof:
            return None
        self._sleep(BUSY if not at_end else IDLE)
        return []

    def _sleep(self, time: timedelta) -> None:
        self._awake = datetime.now(UTC) + time

    def next_awake(self) -> datetime | None:
        return self._awake

    def snapshot(self) -> int:
        # The epoch before this one is on disk by now: up to there the offsets are safe to commit.
        self._consumer.epoch_ended(self._queue.partition, self._durable)
        if self._durable > self._committed:
            self._committed = self._durable
            self._consumer.commit(self._queue, self._durable)
        self._durable = self.next
        return self.next

    def close(self) -> None:
        # After an error the broker may be away, and waiting for it would only delay the end.
        if self._durable > self._committed:
            self._consumer.commit(self._queue, self._durable)
        self._consumer.detach(self._queue, graceful=self._graceful)


class RestingPartition(StatefulSourcePartition[Any, int]):
    """Reads nothing, and keeps its position for when it is read again: Bytewax ends a start whose recovery has a
    partition that the source does not list."""

    def __init__(self, position: int, *, until_eof: bool) -> None:
        self._position, self._until_eof = position, until_eof
        self._awake: datetime | None = None

    def next_batch(self) -> list[Any]:
        if self._until_eof or STOP.is_set():
            raise StopIteration
        self._awake = datetime.now(UTC) + RESTING
        return []

    def next_awake(self) -> datetime | None:
        return self._awake

    def snapshot(self) -> int:
        return self._position


class PacedPartition(KafkaPartition):
    """A partition of events or labels that is read no faster than the other kind, and decoded when it is due."""

    def __init__(self, consumer: PrefetchConsumer, place: Paced, resume: int | None, decode: Decode) -> None:
        super().__init__(consumer, place.partition, resume, lambda chunk: list(chunk.messages))
        self._decode, self._held = decode, HeldMessages(place)

    def _items(self) -> list[Any] | None:
        at_end = False
        if not self._held:
            taken, at_end = self._consumer.take(self._queue, self._limit)
            self._held.add(taken)
        chunk = self._held.take_due(at_end=at_end)
        if chunk is not None:
            self.next, self._awake = offset_of(chunk.messages[-1]) + 1, None
            return self._decode(chunk)
        if not self._held and at_end and self._consumer.until_eof:
            return None
        self._sleep(BUSY if self._held or not at_end else IDLE)
        return []
