"""The events topic as a Bytewax source: one topic partition is one Bytewax partition, one poll is one chunk."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections import deque
from datetime import UTC, datetime, timedelta

import structlog
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from ssm_stream.config import Config, Source
from ssm_stream.stream.broker import BrokerError, LastError, client_properties, scrubbed
from ssm_stream.stream.codec import Chunk

LOG = structlog.get_logger("ssm_stream.source")
IDLE = timedelta(milliseconds=5)
BESIDE = timedelta(milliseconds=1)  # between looks at whether the other topic has come as far
PROBE_EVERY = 2.0  # seconds between questions to a cluster that is away
NEW_PARTITIONS_EVERY = 60.0  # seconds between looks for partitions that were added

LABELS = "labels:"
"""Begins the names of the labels topic's parts."""

STOP = threading.Event()
"""Set: every source ends at its next poll, and the dataflow ends as at the end of its input, snapshots written."""


def stop_on_signals() -> None:
    """SIGTERM and SIGINT end the dataflow gracefully; Bytewax's own handling of them does not."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: STOP.set())


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


class KafkaSource(FixedPartitionedSource[Chunk, int]):
    """Partitions of the events topic, and of the labels' beside it; the state of each is the next offset."""

    def __init__(
        self,
        source: Source,
        partitions: tuple[int, ...],
        labels: KafkaSource | None = None,
        *,
        until_eof: bool = False,
    ) -> None:
        self.source, self.partitions, self.until_eof, self.labels = source, partitions, until_eof, labels
        self.pace: Pace | None = None
        if labels is not None:
            labels.until_eof = until_eof
            self.pace = labels.pace = Pace()

    def list_parts(self) -> list[str]:
        parts = [f"{partition:05d}" for partition in self.partitions]
        return parts if self.labels is None else parts + [LABELS + part for part in self.labels.list_parts()]

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> KafkaPartition:
        if self.labels is not None and for_part.startswith(LABELS):
            return KafkaPartition(self.labels, int(for_part.removeprefix(LABELS)), resume_state)
        return KafkaPartition(self, int(for_part), resume_state)


def labels_of(config: Config) -> Source | None:
    """The labels topic as a source of its own; None where labels come with the events, or on their topic."""
    if config.labels is None or config.labels.topic is None:
        return None
    return config.source.model_copy(update={"topic": config.labels.topic, "partitions": None})


def label_source(config: Config, partitions: tuple[int, ...]) -> KafkaSource | None:
    """These partitions of the labels topic."""
    source = labels_of(config)
    return None if source is None else KafkaSource(source, partitions)


class KafkaPartition(StatefulSourcePartition[Chunk, int]):
    """Reads one partition from an offset on."""

    def __init__(self, owner: KafkaSource, partition: int, resume: int | None) -> None:
        self.source, self.partition, self.until_eof = owner.source, partition, owner.until_eof
        self._watches = partition == owner.partitions[0]
        self._known = len(owner.partitions) if owner.source.partitions is None else 0
        self._last_error = LastError(owner.source)
        self._down_since: float | None = None
        self._next_probe = 0.0
        self._next_look = time.monotonic() + NEW_PARTITIONS_EVERY
        extra = {
            "group.id": self.source.group_id,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "enable.partition.eof": self.until_eof or owner.pace is not None,
            "isolation.level": "read_committed",
            "fetch.wait.max.ms": 20,
            "queued.min.messages": 100_000,
        }
        self._consumer = Consumer(
            {**extra, **client_properties(self.source, error_cb=self._on_error), "enable.auto.commit": False}
        )
        self.next = resume if resume is not None else self._start()
        self._committed = self._durable = -1
        self._consumer.assign([TopicPartition(self.source.topic, partition, self.next)])
        self._awake: datetime | None = None
        self._ended = self._graceful = self._at_end = False
        self._pace, self._held = owner.pace, deque[Message]()
        if self._pace is not None:
            self._pace.tell(self.source.topic, partition, -math.inf)

    def _start(self) -> int:
        """Where to begin without recovery state, as a number: an idle partition must have a place to resume at."""
        try:
            low, high = self._consumer.get_watermark_offsets(
                TopicPartition(self.source.topic, self.partition), timeout=self.source.wait
            )
        except KafkaException as error:
            raise self._error(error.args[0]) from error
        return int(low if self.source.start == "earliest" else high)

    def _on_error(self, error: KafkaError) -> None:
        self._last_error(error)
        if error.code() == KafkaError._ALL_BROKERS_DOWN and self._down_since is None:
            self._down_since = time.monotonic()
            LOG.warning("brokers_away", brokers=self.source.brokers, partition=self.partition)

    def next_batch(self) -> list[Chunk]:
        if STOP.is_set() or (self._ended and not self._held):
            self._graceful = True
            raise StopIteration
        if self._pace is None:
            messages = self._polled()
        else:
            if not self._held:
                self._held.extend(self._polled())
            messages = self._due()
        if self._held and not messages:
            self._awake = datetime.now(UTC) + BESIDE
            return []
        if messages:
            last = messages[-1].offset()
            assert last is not None
            self.next, self._awake, self._down_since = last + 1, None, None
            return [Chunk(self.source.topic, self.partition, messages)]
        if self._ended:
            self._graceful = True
            raise StopIteration
        self._awake = datetime.now(UTC) + IDLE
        self._look_around()
        return []

    def _polled(self) -> list[Message]:
        """What the client has; notes the partition's end."""
        messages = self._consumer.consume(self.source.batch, 0)
        self._at_end = self._at_end and not messages
        if messages and any(message.error() for message in messages):
            for message in messages:
                if (error := message.error()) is not None:
                    if error.code() != KafkaError._PARTITION_EOF:
                        raise self._error(error)
                    self._at_end = True  # told once, perhaps in the same batch as the last messages
                    self._ended = self.until_eof
            messages = [message for message in messages if message.error() is None]
        return messages

    def _due(self) -> list[Message]:
        """Of the messages held, those that the other topic's next message is not older than."""
        assert self._pace is not None
        limit, out = self._pace.limit(self.source.topic), []
        while self._held and self._held[0].timestamp()[1] <= limit:
            out.append(self._held.popleft())
        ahead = self._held[0].timestamp()[1] if self._held else math.inf if self._at_end else -math.inf
        self._pace.tell(self.source.topic, self.partition, ahead)
        return out

    def _look_around(self) -> None:
        """While nothing comes: is the cluster still there, are there new partitions?"""
        now = time.monotonic()
        if self._down_since is not None and now >= self._next_probe:
            self._next_probe = now + PROBE_EVERY
            self._probe(now - self._down_since)
        elif self._watches and self._known and now >= self._next_look:
            self._next_look = now + NEW_PARTITIONS_EVERY
            try:
                there = len(
                    self._consumer.list_topics(self.source.topic, timeout=1).topics[self.source.topic].partitions
                )
            except (KafkaException, KeyError):
                return  # the next look will tell; an absent broker is noticed elsewhere
            if there > self._known:
                LOG.warning("new_partitions", topic=self.source.topic, read=self._known, there=there, cure="restart")
                self._known = there

    def _probe(self, silent: float) -> None:
        try:
            self._consumer.get_watermark_offsets(
                TopicPartition(self.source.topic, self.partition), timeout=1, cached=False
            )
        except KafkaException as error:
            if silent >= self.source.wait:
                reason = self._last_error.text or scrubbed(str(error.args[0]), self.source.kafka)
                found = f"no broker at {self.source.brokers} has answered for {silent:.0f} s (source.wait): {reason}"
                raise BrokerError(found, self._last_error.cure) from error
            return
        LOG.info("brokers_back", brokers=self.source.brokers, partition=self.partition, silent_s=round(silent, 1))
        self._down_since = None

    def _error(self, error: KafkaError) -> BrokerError:
        where = f"topic {self.source.topic!r} partition {self.partition} on {self.source.brokers}"
        text = scrubbed(error.str(), self.source.kafka)
        if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            return BrokerError(
                f"{where}: offset {self.next}, where the recovery state goes on, is not there any more: {text}",
                "the events were deleted, or the topic was made anew: start with another recovery.directory",
            )
        return BrokerError(f"{where}: {text}", self._last_error.cure)

    def next_awake(self) -> datetime | None:
        return self._awake

    def snapshot(self) -> int:
        # The epoch before this one is on disk by now: that is how far lag tools may see us.
        self._commit(self._durable)
        self._durable = self.next
        return self.next

    def _commit(self, offset: int) -> None:
        if offset > self._committed:
            self._committed = offset
            self._consumer.commit(
                offsets=[TopicPartition(self.source.topic, self.partition, offset)], asynchronous=True
            )

    def close(self) -> None:
        # After an error the broker may be away, and waiting for it would only hold up the end.
        if self._graceful and self._durable > self._committed:
            try:
                position = TopicPartition(self.source.topic, self.partition, self._durable)
                self._consumer.commit(offsets=[position], asynchronous=False)
            except KafkaException as error:
                LOG.warning("position_not_committed", partition=self.partition, error=str(error.args[0]))
        self._consumer.close()
