"""Predictions, alerts and dead letters to Kafka, through one sink: what belongs together goes out together.

An epoch counts as done only when the broker has every message of it; a message that it does not take stops the flow
with the broker's own words.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from itertools import repeat
from operator import length_hint
from typing import Any

import structlog
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition
from confluent_kafka import KafkaError, KafkaException, Message

from ssm_stream.config import Config
from ssm_stream.contract.headers import TRUNCATED
from ssm_stream.kafka.client import (
    BrokerError,
    KafkaProducer,
    LastError,
    client_properties,
    kafka_error,
    scrubbed,
    unusable,
)
from ssm_stream.kafka.codec import Encoder, Judged, Output, Record, raw_of
from ssm_stream.ops.metrics import Metrics

LOG = structlog.get_logger("ssm_stream.sink")
AHEAD = 4  # batches that wait to be encoded
TRUNCATED_TO = 100_000  # bytes that are kept of a dead letter too large for its topic; a fourth where that is too many
SHORTEST = 100
KAFKA_DEFAULT = 1_048_588  # a broker's max.message.bytes
CURE = "put that right and start again: the flow goes on from the last epoch"


Marker = dict[tuple[str, int], int]
"""Source topic and partition → offset; what earlier messages have caused is on the broker."""


class KafkaSink(FixedPartitionedSink[Judged | Output, Marker | None]):
    """A fixed number of producers; a shard's output always goes through the same one."""

    def __init__(self, config: Config, metrics: Metrics | None = None) -> None:
        self.config, self.metrics = config, metrics

    def list_parts(self) -> list[str]:
        return [f"{i:04d}" for i in range(self.config.writers)]

    def part_fn(self, item_key: str) -> int:
        return int(item_key)

    def build_part(self, step_id: str, for_part: str, resume_state: Marker | None) -> KafkaWriter:
        return KafkaWriter(self.config, metrics=self.metrics)


class KafkaWriter(StatefulSinkPartition[Judged | Output, Marker | None]):
    """One producer and a thread that encodes for it, beside the kernels.

    `write_batch` hands over, and waits only where more than a few batches are still to be encoded; `snapshot` waits
    until the broker has everything. What goes wrong in the thread is raised by either.

    properties: of the producer, beside the configuration's
    """

    def __init__(
        self, config: Config, properties: Mapping[str, Any] | None = None, metrics: Metrics | None = None
    ) -> None:
        self.config = config
        self._metrics = metrics or Metrics(config)
        self._epoch_began: float | None = None
        self._encode = Encoder(config)
        self._handed: queue.Queue[list[Judged | Output] | None] = queue.Queue(AHEAD)
        self._broken: Exception | None = None
        self._failed: tuple[str, str] | None = None
        self._last_error = LastError(config.source, config.sinks.kafka)
        self._oversized: list[Message] = []
        timeout = int(config.source.wait * 1000)
        ours = {
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": 5,
            "compression.type": "lz4",
            "partitioner": "murmur2_random",  # the Java clients' choice: the same key, the same partition
            "message.max.bytes": KAFKA_DEFAULT,
            "message.timeout.ms": timeout,
            "queue.buffering.max.messages": 1_000_000,
            "queue.buffering.max.kbytes": 262_144,
            "delivery.report.only.error": True,
            "on_delivery": self._on_failure,
        }
        theirs = {**client_properties(config.source, error_cb=self._last_error), **config.sinks.kafka}
        try:
            self._producer = KafkaProducer({**ours, **theirs, **(properties or {})})
        except (KafkaException, TypeError, ValueError) as error:
            raise unusable(error, config.source, config.sinks.kafka) from None
        self._prepare()
        self._thread = threading.Thread(target=self._run, name="write", daemon=True)
        self._thread.start()

    def _prepare(self) -> None:
        """What is to be done before the first message."""

    def write_batch(self, values: list[Judged | Output]) -> None:
        self._raise()
        self._handed.put(values)

    def _run(self) -> None:
        with contextlib.suppress(KafkaException):  # one that knows its topic sends half a second sooner
            self._producer.list_topics(self.config.sinks.predictions or self.config.sinks.alerts, timeout=1)
        while (values := self._handed.get()) is not None:
            try:
                if self._broken is None:
                    self._write(values)
            except Exception as error:  # noqa: BLE001  # it is raised again in the dataflow
                self._broken = error
            finally:
                self._handed.task_done()

    def _raise(self) -> None:
        if self._broken is not None:
            raise self._broken

    def _write(self, values: list[Judged | Output]) -> None:
        metrics, page = self._metrics, self._metrics.page
        for item in values:
            began = time.perf_counter()
            output = self._admit(self._encode(*item) if isinstance(item, Judged) else item)
            encoded = time.perf_counter()
            if (topic := output.predictions) is not None:
                self._produce_all(topic, output)
            for record in output.others:
                self._produce(record)
            if isinstance(item, Judged):
                metrics.took("encode", encoded - began)
                took, batch = time.perf_counter() - encoded, item.batch
                metrics.traced(
                    "produce", took, output.topic, batch.partition, batch.chunk, len(output.values) + len(output.others)
                )
                if output.values:
                    metrics.late(batch.stamps)
            if page is not None:
                if isinstance(item, Judged):
                    page.saw(item.batch.partition, item.batch.events, item.predictions)
                if output.others:
                    page.alerted(r.value for r in output.others if r.sent is not None and r.sent.what == "alert")
            metrics.sent(len(output.values), [r.sent for r in output.others if r.sent is not None])
        self._serve(self._producer.poll, 0)

    def _admit(self, output: Output) -> Output:
        """What of it is to be produced."""
        return output

    def _produce_all(self, topic: str, output: Output) -> None:
        """The predictions of a batch, without a step of the interpreter for each; one that the client does not take at
        once, as `_produce` does."""
        keys, values, offsets = output.keys, output.values, output.offsets
        assert len(keys) == len(values) == len(offsets)
        left, beside = iter(values), iter(keys)
        while length_hint(left):
            try:
                deque(map(self._producer.produce, repeat(topic), left, beside), 0)
            except (BufferError, KafkaException):
                at = len(values) - length_hint(left) - 1
                self._produce(Record(topic, keys[at], values[at], None, offsets[at]))

    def _produce(self, record: Record) -> None:
        """Wait while the client's queue is full; shorten an oversized dead letter."""
        while True:
            try:
                self._producer.produce(record.topic, record.value, record.key, headers=record.headers)
                return
            except BufferError:
                self._serve(self._producer.poll, 0.1)
            except KafkaException as error:
                reason = error.args[0]
                if reason.code() != KafkaError.MSG_SIZE_TOO_LARGE or record.topic != self.config.sinks.dead_letters:
                    raise self._error(record.topic, reason) from error
                shorter = shortened(record)
                if shorter is record:
                    raise self._error(record.topic, reason) from error
                record = shorter

    def _on_failure(self, error: KafkaError | None, message: Message) -> None:
        if error is None:
            return
        if error.code() == KafkaError.MSG_SIZE_TOO_LARGE and message.topic() == self.config.sinks.dead_letters:
            self._oversized.append(message)  # the broker's limit is below the client's: try again, shorter
        elif self._failed is None:
            self._failed = (str(message.topic()), error.str())

    def _serve(self, call: Callable[[float], int], seconds: float) -> None:
        """Take what the broker has said.

        Raises:
            BrokerError: a message was refused, or the client is of no use any more.
        """
        try:
            call(seconds)
        except KafkaException as error:
            text = self._scrubbed(kafka_error(error).str())
            raise BrokerError(f"{self.config.source.brokers}: the client has given up: {text}", CURE) from error
        self._check()

    def _check(self) -> None:
        while self._oversized:
            message = self._oversized.pop()
            record = Record(str(message.topic()), *raw_of(message), -1)
            shorter = shortened(record)
            if shorter is record:
                self._failed = (record.topic, "a shortened dead letter is still too large for its topic")
                break
            self._produce(shorter)
        if self._failed is not None:
            topic, text = self._failed
            raise BrokerError(
                f"topic {topic!r} on {self.config.source.brokers} did not take a message: "
                f"{self._scrubbed(self._last_error.text or text)} ({self._scrubbed(text)})",
                CURE,
            )

    def _error(self, topic: str, reason: KafkaError) -> BrokerError:
        return BrokerError(
            f"topic {topic!r} on {self.config.source.brokers}: {self._scrubbed(reason.str())}",
            CURE,
        )

    def _scrubbed(self, text: str) -> str:
        return scrubbed(text, self.config.source.kafka, self.config.sinks.kafka)

    def snapshot(self) -> Marker | None:
        with self._metrics.timed("deliver"):
            marker = self._deliver()
        now, before = time.monotonic(), self._epoch_began
        self._metrics.epoch_ended(None if before is None else now - before)
        self._epoch_began = now
        return marker

    def _deliver(self) -> Marker | None:
        """Wait until the epoch's messages are where consumers see them; returns what recovery is to know of it."""
        self._settle()
        return None

    def _settle(self) -> None:
        """Wait until the broker has everything."""
        self._handed.join()
        self._raise()
        while len(self._producer):
            self._serve(self._producer.flush, 1.0)
        self._check()

    def _end(self) -> None:
        """End the thread."""
        self._handed.put(None)
        self._thread.join()

    def close(self) -> None:
        # Called at the end of input and after an error in any step; an exception here would end the process unheard.
        self._end()
        try:
            left = self._producer.flush(5.0)
        except KafkaException:  # whatever it is, `snapshot` has told it or is not waited for
            left = len(self._producer)
        if left:
            LOG.warning("messages_not_delivered", count=left, cure="they are made again after the restart")


def shortened(record: Record) -> Record:
    """A dead letter with the head of its value only, and a header that says so; itself if it is short already."""
    if record.value is None or len(record.value) <= SHORTEST:
        return record
    size = len(record.value)
    headers = list(record.headers or [])
    if all(name != TRUNCATED for name, _ in headers):
        headers.append((TRUNCATED, str(size).encode()))
    return record._replace(value=record.value[: TRUNCATED_TO if size > TRUNCATED_TO else size // 4], headers=headers)
