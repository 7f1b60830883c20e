"""Producers: the sink's, which delivers what the dataflow puts out, and one for single messages."""

from __future__ import annotations

import contextlib
import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import repeat
from operator import length_hint
from typing import Any

import structlog
from confluent_kafka import KafkaError, KafkaException, Message

from ssm_stream.config import Config
from ssm_stream.kafka.admin import DEFAULT_MAX_MESSAGE_BYTES
from ssm_stream.kafka.client import (
    BrokerError,
    KafkaProducer,
    LastError,
    grant_cure,
    kafka_error,
    open_producer,
    redact_text,
)
from ssm_stream.kafka.dead_letters import truncate
from ssm_stream.kafka.outages.classify import passes
from ssm_stream.kafka.records import OutputBatch, ProducerRecord, raw_message

LOG = structlog.get_logger("ssm_stream.sink")
CURE = "correct that and start again: the flow continues from the last epoch"
GONE = "create the topic again if it was deleted: ssm-stream doctor CONFIG --create-topics; then start again"
NO_TOPIC = (KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION, KafkaError.UNKNOWN_TOPIC_OR_PART)
AT_ONCE = 2500
"""Messages that are handed to the client at once, for each partition of their topic: less than one batch has."""
FEW = 1000
"""Messages that are handed over while as many are under way."""
CONNECTING = 0.05
"""Seconds until a new client that has the metadata has its connections."""
STALLED = 2.0
"""Seconds beyond twice `source.wait` without a report of any message, after which the client is given up."""
Marker = dict[tuple[str, int], int]
"""Source topic and partition → offset; what earlier messages have caused is on the broker."""


class OutputProducer:
    """Delivers the dataflow's output at least once.

    One thread calls `produce`, and another `deliver`, `explain` and `close`, never at the same time.

    fixed: properties that the configuration may not change

    Attributes:
        hurried: returns True while someone waits for `produce` to return, or it falls behind
    """

    def __init__(self, config: Config, fixed: Mapping[str, Any] | None = None) -> None:
        self.config = config
        self.hurried: Callable[[], bool] = lambda: False
        self._at_once = AT_ONCE
        self._last_error = LastError(config.source, config.sinks.kafka)
        self._failed: tuple[str, str, bool] | None = None  # topic, reason, whether it passes
        self._cure = CURE
        self._oversized: list[Message] = []
        defaults = {
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": 0.2,  # a chunk goes out whole; waiting for the next one gains nothing and costs 4 ms an event
            "compression.type": "lz4",
            "partitioner": "murmur2_random",  # the Java clients' choice: the same key, the same partition
            "message.max.bytes": DEFAULT_MAX_MESSAGE_BYTES,
            "message.timeout.ms": int(config.source.wait * 1000),
            "queue.buffering.max.messages": 1_000_000,
            "queue.buffering.max.kbytes": 262_144,
            "delivery.report.only.error": True,
            "on_delivery": self._on_failure,
        }
        self._producer = open_producer(config, self._last_error, defaults=defaults, fixed=fixed)
        chosen = {"message.timeout.ms", "delivery.timeout.ms"} & {*config.source.kafka, *config.sinks.kafka}
        ours = not chosen or "message.timeout.ms" in (fixed or {})
        self._stalled_after = 2 * config.source.wait + STALLED if ours else math.inf

    def fetch_metadata(self) -> None:
        """Request the metadata of an output topic: the first message is sent half a second sooner."""
        topic = self.config.sinks.predictions or self.config.sinks.alerts
        with contextlib.suppress(KafkaException, KeyError):
            partitions = self._producer.list_topics(topic, timeout=1).topics[topic].partitions
            self._at_once = AT_ONCE * max(len(partitions), 1)

    def connected(self) -> KafkaProducer:
        """Return the client once it has its connections.

        Before, it finds no coordinator for transactions, and searches again half a second later.
        """
        self.fetch_metadata()
        time.sleep(CONNECTING)
        return self._producer

    def produce(self, output: OutputBatch) -> OutputBatch:
        """Hand a batch to the client, and return what of it is produced.

        Raises:
            BrokerError: a message was refused, or the client has given up.
        """
        self._produce_predictions(output)
        for record in output.others:
            self._produce(record)
        return output

    def poll(self) -> None:
        """Process delivery reports.

        Raises:
            BrokerError: a message was refused, or the client has given up.
        """
        self._serve(self._producer.poll, 0)

    def deliver(self) -> Marker | None:
        """Wait until consumers can read the epoch's messages, and return the recovery state of the sink.

        Raises:
            BrokerError: a message was refused, or the client has given up.
        """
        self._flush()
        return None

    def explain(self, error: Exception) -> Exception:
        """Return the cause of an error of `produce` or `poll`, which may be known only now."""
        return error

    def close(self) -> None:
        """Wait a little for the last messages. Does not raise: `deliver` has reported every failure that matters."""
        try:
            left = self._producer.flush(5.0)
        except KafkaException:
            left = len(self._producer)
        if left:
            LOG.warning("messages_not_delivered", count=left, cure="they are produced again after the restart")

    def _produce_predictions(self, output: OutputBatch) -> None:
        """Produce the predictions without a step of the interpreter for each; one that the client does not take at once
        goes through `_produce`."""
        if output.predictions is None:
            return
        topic, keys, values, offsets = output.predictions, output.keys, output.values, output.offsets
        assert len(keys) == len(values) == len(offsets)
        at = 0
        while at < len(values):
            end = min(at + self._at_once, len(values))
            at += self._produce_some(topic, keys, values, at, end)
            if at < end:
                self._produce(ProducerRecord(topic, keys[at], values[at], None, offsets[at]))
                at += 1

    def _produce_some(self, topic: str, keys: list[str], values: Sequence[bytes], begin: int, end: int) -> int:
        """Produce [begin, end) until the client refuses one, and return the number of those before it."""
        if self._producer.takes_batches:
            self._wait_for_turn(FEW if end - begin < FEW else 0)
            return self._producer.hand_over(topic, keys, values, begin, end)
        left, left_keys = iter(values[begin:end]), iter(keys[begin:end])
        try:
            deque(map(self._producer.produce, repeat(topic), left, left_keys), 0)
        except (BufferError, KafkaException):
            return end - begin - length_hint(left) - 1
        return end - begin

    def _wait_for_turn(self, most: int) -> None:
        """Wait until the broker has all but `most` messages; where someone waits, all but those of two turns.

        An idempotent client sends one batch of a partition at a time. While the next one is ready, librdkafka 2.16
        polls without a pause for the answer, which costs as much CPU as the broker takes time. What waits here costs
        none, and its memory is that of the batch before.
        """
        self._wait_for_broker(lambda: 2 * self._at_once if self.hurried() else most, 0.01)

    def _produce(self, record: ProducerRecord) -> None:
        """Produce a message: wait while the client's queue is full, and truncate an oversized dead letter."""
        while True:
            try:
                self._producer.produce(record.topic, record.value, record.key, headers=record.headers)
                return
            except BufferError:
                self._serve(self._producer.poll, 0.1)
            except KafkaException as error:
                reason = kafka_error(error)
                if reason.code() == KafkaError._FATAL:  # as of an earlier message, whose report says why
                    self._serve(self._producer.poll, 0)
                    raise self._given_up(reason) from error
                oversized = reason.code() == KafkaError.MSG_SIZE_TOO_LARGE
                shorter = truncate(record) if oversized and record.topic == self.config.sinks.dead_letters else record
                if shorter is record:
                    self._note_failure(record.topic, reason)
                    self._raise_failure()
                record = shorter

    def _on_failure(self, error: KafkaError | None, message: Message) -> None:
        if error is None:
            return
        if error.code() == KafkaError.MSG_SIZE_TOO_LARGE and message.topic() == self.config.sinks.dead_letters:
            self._oversized.append(message)  # the broker's limit is below the client's: try again, shorter
        else:
            self._note_failure(str(message.topic()), error)

    def _note_failure(self, topic: str, error: KafkaError, text: str = "") -> None:
        """Keep the first error: what follows is often a consequence."""
        if self._failed is None:
            self._failed = (topic, text or error.str(), passes(error))
            if error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                self._cure = grant_cure("Write", "topic", topic)
            elif error.code() in NO_TOPIC:
                self._cure = GONE

    def _flush(self) -> None:
        """Wait until the broker has everything.

        Raises:
            BrokerError: as of `_wait_for_broker`, or a message was refused.
        """
        self._wait_for_broker(lambda: 0, 1.0)
        self._raise_failure()

    def _wait_for_broker(self, most: Callable[[], int], seconds: float) -> None:
        """Wait until the broker has all but `most` messages, which is evaluated every `seconds` at least.

        Raises:
            BrokerError: a message was refused, the client has given up, or nothing has moved for longer than the client
                may wait for one message: librdkafka 2.16 misses the timeout where a broker goes away within the same
                moment as the first message of a topic.
        """
        left, since = len(self._producer), math.inf
        while left > most():
            self._serve(self._producer.flush, seconds)
            before, left = left, len(self._producer)  # with the client's own events, which may become more
            since = time.monotonic() if left < before or since == math.inf else since
            if time.monotonic() - since > self._stalled_after:
                reason = self._redact(self._last_error.text or "the broker does not answer")
                found = f"{left} messages to {self.config.source.brokers} timed out: {reason}"
                raise BrokerError(found, CURE, passes=True)

    def _serve(self, call: Callable[[float], int], seconds: float) -> None:
        """Process delivery reports.

        Raises:
            BrokerError: a message was refused, or the client has given up.
        """
        try:
            call(seconds)
        except KafkaException as error:
            raise self._given_up(kafka_error(error)) from error
        self._raise_failure()

    def _given_up(self, reason: KafkaError) -> BrokerError:
        found = f"{self.config.source.brokers}: the client has given up: {self._redact(reason.str())}"
        return BrokerError(found, CURE, passes=passes(reason))

    def _raise_failure(self) -> None:
        while self._oversized:
            message = self._oversized.pop()
            record = ProducerRecord(str(message.topic()), *raw_message(message), -1)
            shorter = truncate(record)
            if shorter is record:
                self._failed = (record.topic, "a truncated dead letter is still too large for its topic", False)
                break
            self._produce(shorter)
        if self._failed is None and (refused := self._producer.failure()) is not None:
            self._note_failure(*refused)
        if self._failed is not None:
            topic, text, later = self._failed
            last = self._last_error.text
            reason = self._redact(f"{last} ({text})" if last and last != text else text)
            found = f"topic {topic!r} on {self.config.source.brokers} did not take a message: {reason}"
            raise BrokerError(found, self._cure, passes=later)

    def _redact(self, text: str) -> str:
        return redact_text(text, self.config.source.kafka, self.config.sinks.kafka)


class MessageProducer:
    """Sends single messages to a topic and waits until the broker has each."""

    def __init__(self, config: Config, topic: str, timeout: float) -> None:
        self._config, self._topic, self._timeout = config, topic, timeout
        self._last_error = LastError(config.source, config.sinks.kafka)
        fixed = {"acks": "all", "message.timeout.ms": int(timeout * 1000), "linger.ms": 0}
        self._producer = open_producer(config, self._last_error, fixed=fixed)

    def send(self, key: str, value: bytes) -> None:
        """Send a message.

        Raises:
            BrokerError: the broker does not have it.
        """
        failed: list[str] = []

        def on_delivery(error: KafkaError | None, _: Message) -> None:
            if error is not None:
                failed.append(error.str())

        try:
            self._producer.produce(self._topic, value, key, on_delivery=on_delivery)
            left = self._producer.flush(self._timeout + 1)
        except (BufferError, KafkaException) as error:
            failed.append(str(error))
            left = 0
        if left or failed:
            reason = self._last_error.text or (failed[0] if failed else "no answer")
            raise BrokerError(
                f"topic {self._topic!r} did not take the message: "
                f"{redact_text(reason, self._config.source.kafka, self._config.sinks.kafka)}",
                "check that the topic exists and that this user may write to it, and try again",
            )
