"""Copies a topic that is not keyed by entity into one that is: each message to the partition of its entity.

The copies and the positions up to which the topic is copied go out in one transaction. So every message is copied once,
and from then on the order of an entity's messages is fixed: what is made of them after a crash is the same.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from ssm_stream.config import Config
from ssm_stream.kafka.admin import max_message_bytes
from ssm_stream.kafka.client import (
    BrokerError,
    LastError,
    is_fenced,
    kafka_error,
    open_consumer,
    open_producer,
    redact_text,
    with_topic,
)
from ssm_stream.kafka.cluster import check_broker
from ssm_stream.kafka.records import Message, headers_of, offset_of, timestamp_of
from ssm_stream.kafka.repartition.entity_partitions import EntityPartitions
from ssm_stream.kafka.repartition.merge import PartitionMerge
from ssm_stream.ops.observers import PartitionPosition

T = TypeVar("T")
BATCH = 2_000
"""Messages of one poll."""
POLL = 0.02
"""Seconds that one poll waits."""
COMMIT_EVERY = 0.1
"""Seconds that a transaction is open while messages come."""
RENEW_EVERY = 3600.0
"""Seconds after which positions are committed again while nothing comes, so that the broker does not forget them."""
MAX_WAITING, RESUME_BELOW = 20_000, 10_000
"""Messages of a partition that wait for those of the others: from the first number on it is not fetched, until there
are fewer than the second."""
TIMEOUT = 60.0
"""Seconds that a transaction may last."""


class Copy(NamedTuple):
    """A message, and the partition that it is copied to."""

    message: Message
    partition: int


class Repartition:
    """Copies `source.repartition` into `source.topic`.

    Raises:
        BrokerError: a topic does not exist, the positions are lost, or the broker refuses or does not answer.
    """

    def __init__(self, config: Config) -> None:
        assert config.source.repartition is not None
        self._config, self._source = config, with_topic(config.source, config.source.repartition)
        self._into, self._wait = config.source.topic, config.source.wait
        self._name = f"{config.source.group_id}-repartition"
        self._last_error = LastError(config.source, config.sinks.kafka)
        cluster = check_broker(config.source)
        self._from = cluster.partitions_of(self._source.topic)
        into = cluster.partitions_of(self._into)
        self._choose = EntityPartitions(config, len(into))
        self._merge: PartitionMerge[Copy] = PartitionMerge(self._from)
        fixed = {
            "transactional.id": self._name,
            "transaction.timeout.ms": int(TIMEOUT * 1000),
            "message.timeout.ms": int(min(self._wait, TIMEOUT) * 1000),
            "message.max.bytes": max_message_bytes(config.source, [self._into]),
            "acks": "all",
            "enable.idempotence": True,
        }
        self._producer = open_producer(config, self._last_error, defaults={"linger.ms": 5}, fixed=fixed)
        self._opened = contextlib.ExitStack()
        more: dict[str, Any] = {
            "group.id": self._name,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "auto.offset.reset": "error",
        }
        self._consumer: Consumer = self._opened.enter_context(open_consumer(self._source, self._last_error, **more))
        self._call("init_transactions", lambda: self._producer.init_transactions(self._wait))
        self._copied = self._call("reading the positions", lambda: self._positions(into))
        self._read, self._paused, self._next = dict(self._copied), set[int](), dict[int, int]()
        self._open = False
        self._ends = set[int]()  # partitions that have been at their end since the start
        self._read_at = dict.fromkeys(self._from, time.time())
        self._committed = time.monotonic()
        self.copied = 0
        """Messages that were copied since the start."""

    def _positions(self, into: Iterable[int]) -> dict[int, int]:
        """Return the offset of each partition from which on it is to be copied, and assign the partitions."""
        places = [TopicPartition(self._source.topic, partition) for partition in self._from]
        self._group = self._consumer.consumer_group_metadata()
        found = {place.partition: place.offset for place in self._consumer.committed(places, self._wait)}
        spans = {p: self._span(self._source.topic, p) for p in self._from}
        if all(offset < 0 for offset in found.values()):
            if any(end > 0 for _, end in (self._span(self._into, p) for p in into)):
                raise BrokerError(
                    f"source.repartition: topic {self._into!r} has messages, and group {self._name!r} has no positions "
                    f"of {self._source.topic!r}: nobody knows what was copied",
                    f"if nothing was, name an empty topic in source.topic; else set the group's offsets "
                    f"(kafka-consumer-groups --reset-offsets --group {self._name})",
                )
            latest = self._config.source.start == "latest"
            found = {partition: span[latest] for partition, span in spans.items()}
            # From here on an absence of positions means that they are lost.
            first = [TopicPartition(self._source.topic, p, offset) for p, offset in found.items()]
            self._consumer.commit(offsets=first, asynchronous=False)
        begins = {p: offset if offset >= 0 else spans[p][0] for p, offset in found.items()}
        self._consumer.assign([TopicPartition(self._source.topic, p, offset) for p, offset in begins.items()])
        return begins

    def _span(self, topic: str, partition: int) -> tuple[int, int]:
        low, high = self._consumer.get_watermark_offsets(TopicPartition(topic, partition), self._wait)
        return low, high

    def run(self, stop: Callable[[], bool], *, to_end: bool = False) -> None:
        """Copy until `stop` returns True. to_end: or until all is copied that the topic holds now

        Raises:
            BrokerError: the broker refuses, or does not answer.
        """
        ends = {partition: self._span(self._source.topic, partition)[1] for partition in self._from} if to_end else {}
        while not stop():
            try:
                self._step()
            except KafkaException as error:
                raise self._error("copying", error) from error
            if ends and all(self._is_copied(partition, end) for partition, end in ends.items()):
                break
        self.commit()

    def _is_copied(self, partition: int, end: int) -> bool:
        done = self._copied[partition] if self._merge.waiting(partition) else self._read[partition]
        return done >= end

    def _step(self) -> None:
        """Read and copy what comes within a short time; commit if it is time."""
        messages, at_end = self._poll()
        if messages:
            for message, into in zip(messages, self._choose(messages), strict=True):
                partition, stamp = message.partition() or 0, timestamp_of(message)
                self._merge.add(partition, 0 if stamp is None else stamp[0], Copy(message, into))
                self._read[partition], self._read_at[partition] = offset_of(message) + 1, time.time()
        for partition, position in at_end.items():
            self._read[partition] = max(self._read[partition], position)
            self._merge.set_at_end(partition)
            self._ends.add(partition)
        for copy in self._merge.ready():
            self._produce(copy)
        self._producer.poll(0)
        self._throttle()
        idle = time.monotonic() - self._committed
        if idle >= (COMMIT_EVERY if self._open else RENEW_EVERY):
            self.commit()

    def _poll(self) -> tuple[list[Message], dict[int, int]]:
        """Return the messages of one poll, and the positions of the partitions whose end was reached."""
        messages, at_end = list[Message](), dict[int, int]()
        for message in self._consumer.consume(BATCH, POLL):
            error = message.error()
            if error is None:
                messages.append(message)
                at_end.pop(message.partition() or 0, None)
            elif error.code() == KafkaError._PARTITION_EOF:
                at_end[message.partition() or 0] = offset_of(message)
            elif not error.retriable():
                raise KafkaException(error)
        return messages, at_end

    def _throttle(self) -> None:
        """Fetch no more of the partitions that are far ahead of the others."""
        for partition in self._from:
            place, waiting = [TopicPartition(self._source.topic, partition)], self._merge.waiting(partition)
            if waiting >= MAX_WAITING and partition not in self._paused:
                self._consumer.pause(place)
                self._paused.add(partition)
            elif waiting < RESUME_BELOW and partition in self._paused:
                self._consumer.resume(place)
                self._paused.discard(partition)

    def _produce(self, copy: Copy) -> None:
        if not self._open:
            self._producer.begin_transaction()
            self._open, self._committed = True, time.monotonic()
        message = copy.message
        while True:
            try:
                # Its time is that of the copy: by an older one the broker might delete it before it is read.
                self._producer.produce(
                    self._into, message.value(), message.key(), copy.partition, headers=headers_of(message)
                )
                break
            except BufferError:
                self._producer.poll(0.1)
        self._copied[message.partition() or 0] = self._next[message.partition() or 0] = offset_of(message) + 1
        self.copied += 1

    def commit(self) -> None:
        """Commit what was copied, and the positions.

        Raises:
            BrokerError: the broker refuses, or does not answer.
        """
        self._committed = time.monotonic()
        places = [TopicPartition(self._source.topic, p, offset) for p, offset in self._copied.items()]
        if not self._open:
            self._call("committing", lambda: self._consumer.commit(offsets=places, asynchronous=False))
            return
        places = [place for place in places if place.partition in self._next]
        self._call("producing", lambda: self._producer.flush(self._wait))
        self._call(
            "send_offsets_to_transaction",
            lambda: self._producer.send_offsets_to_transaction(places, self._group, self._wait),
        )
        deadline = time.monotonic() + 2 * self._wait
        while True:
            try:
                self._producer.commit_transaction(self._wait)
                break
            except KafkaException as error:
                if not kafka_error(error).retriable() or time.monotonic() > deadline:
                    raise self._error("commit_transaction", error) from error
        self._open = False
        self._next.clear()

    away = False

    def positions(self) -> list[PartitionPosition]:
        """Return how far each partition is copied."""
        out = []
        for partition in self._from:
            waiting, read = self._merge.waiting(partition), self._read[partition]
            high = self._high(partition)
            lag = None if high is None else max(high - read, 0) + waiting
            position = self._copied[partition] if waiting else read
            place = self._source.topic, partition
            caught_up = lag == 0 or partition in self._ends
            out.append(PartitionPosition(*place, position, lag, caught_up, self._read_at[partition]))
        return out

    def _high(self, partition: int) -> int | None:
        """Return the end of a partition as it was last fetched; None while it is unknown."""
        try:
            place = TopicPartition(self._source.topic, partition)
            high = self._consumer.get_watermark_offsets(place, cached=True)[1]
        except (KafkaException, RuntimeError, TypeError):  # closed, or not fetched yet
            return None
        return int(high) if high >= 0 else None

    def close(self) -> None:
        """Leave the topics. What no transaction holds yet is copied at the next start. Does not raise."""
        if self._open:
            with contextlib.suppress(KafkaException):  # the next start aborts it
                self._producer.abort_transaction(1.0)
        with contextlib.suppress(KafkaException):
            self._opened.close()

    def _call(self, what: str, call: Callable[[], T]) -> T:
        try:
            return call()
        except KafkaException as error:
            raise self._error(what, error) from error

    def _cause(self, error: KafkaException) -> KafkaException:
        """Return the reason for which a transaction ended, which what fails afterwards does not have."""
        if kafka_error(error).code() not in (KafkaError._FATAL, KafkaError._STATE, KafkaError._PURGE_QUEUE):
            return error
        try:
            self._producer.begin_transaction()  # refused again, with the reason
        except KafkaException as refused:
            return refused
        return error

    def _error(self, what: str, error: KafkaException) -> BrokerError:
        reason, source = kafka_error(self._cause(error)), self._config.source
        text = redact_text(reason.str(), source.kafka, self._config.sinks.kafka)
        found = f"source.repartition: {what} of {self._source.topic!r} into {self._into!r}: {text}"
        if is_fenced(reason):
            cure = "another process with the same source.group copies the topic: end one of them, and start again"
        elif reason.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            cure = (
                "messages were deleted before they were copied, or the topic was created again: set the offsets of "
                f"group {self._name} (kafka-consumer-groups --reset-offsets), and lengthen the topic's retention"
            )
        else:
            cure = (
                "correct that and start again: no message is copied twice. The user needs the rights to read the one "
                f"topic, to write the other one, and to use the group and transactional id {self._name!r}"
            )
        return BrokerError(found, cure)
