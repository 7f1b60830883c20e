"""The feedback topic: a step of the dataflow that counts what operators said, and the same count from the beginning."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import structlog
from bytewax.operators import StatefulBatchLogic
from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, Message, TopicPartition

from ssm_stream.config import Config, Source
from ssm_stream.ingest.verdicts import FeedbackReader, NoFeedbackError, Precision, Verdict
from ssm_stream.kafka.client import BrokerError, LastError, check_broker, metadata_client, scrubbed
from ssm_stream.kafka.codec import Chunk, Judged, Output, Record, dead_letter, offset_of, raw_of, shard_key, too_large
from ssm_stream.ops.metrics import Metrics

LOG = structlog.get_logger("ssm_stream.feedback")
KEY = "feedback"
"""All verdicts are counted in one place, whichever partition they come by."""
LOG_EVERY = 1.0
"""Seconds between log lines, at least."""


def feedback_of(config: Config) -> Source | None:
    """The feedback topic as a source of its own; None where there is none."""
    if config.alerts.feedback is None:
        return None
    # Verdicts are few, and none is too old to count.
    return config.source.model_copy(
        update={"topic": config.alerts.feedback.topic, "partitions": None, "start": "earliest"}
    )


class FeedbackDecoder:
    """Chunks of the feedback topic to verdicts and dead letters."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._read = FeedbackReader(config)

    def __call__(self, chunk: Chunk) -> list[tuple[str, list[Verdict] | Output]]:
        """The chunk's verdicts, and what is none as dead letters, which go by partition."""
        verdicts: list[Verdict] = []
        letters: list[Record] = []
        for message in chunk.messages:
            try:
                value = message.value()
                if value is not None and len(value) > self.config.event.max_bytes:
                    raise NoFeedbackError("TooLarge", too_large(len(value), self.config.event.max_bytes))
                verdicts.append(self._read(value))
            except NoFeedbackError as error:
                place = (chunk.topic, chunk.partition, offset_of(message))
                letters.append(dead_letter(self.config, raw_of(message), place, "feedback", error.fault, str(error)))
        out: list[tuple[str, list[Verdict] | Output]] = [(KEY, verdicts)] if verdicts else []
        if letters:
            first, last = letters[0].offset, letters[-1].offset
            key = shard_key(chunk.partition % self.config.state.shards)
            out.append((key, Output(chunk.topic, chunk.partition, first, last, letters)))
        return out


class FeedbackLogic(StatefulBatchLogic[list[Verdict], Judged | Output, bytes]):
    """Counts verdicts, and says in the log what they come to. Nothing else changes by them."""

    def __init__(self, resume_state: bytes | None, metrics: Metrics | None = None) -> None:
        self._metrics = metrics
        self._precision = Precision() if resume_state is None else Precision.load(resume_state)
        self._changed: dict[str, None] = {}
        self._next = 0.0

    def on_batch(self, values: list[list[Verdict]]) -> tuple[Iterable[Judged | Output], bool]:
        for verdicts in values:
            counted = [verdict for verdict in verdicts if self._precision.add(verdict)]
            self._changed |= {verdict.rule: None for verdict in counted}
            if self._metrics is not None:
                for verdict in counted:
                    self._metrics.judged(verdict.rule, true=verdict.true)
                    if self._metrics.page is not None:
                        self._metrics.page.judged(verdict.alert, verdict.true)
        if time.monotonic() >= self._next:
            self._say()
        return (), StatefulBatchLogic.RETAIN

    def on_notify(self) -> tuple[Iterable[Judged | Output], bool]:
        self._say()
        return (), StatefulBatchLogic.RETAIN

    def on_eof(self) -> tuple[Iterable[Judged | Output], bool]:
        return self.on_notify()

    def notify_at(self) -> datetime | None:
        if not self._changed:
            return None
        return datetime.now(UTC) + timedelta(seconds=max(self._next - time.monotonic(), 0.0))

    def _say(self) -> None:
        for rule in self._changed:
            LOG.info("feedback", **self._precision.of(rule))
        if self._changed:
            self._changed, self._next = {}, time.monotonic() + LOG_EVERY

    def snapshot(self) -> bytes:
        return self._precision.dump()


def count_feedback(config: Config, source: Source) -> tuple[Precision, int]:
    """The feedback topic from its beginning to its present end: verdicts counted in the order of their times, and the
    number of messages that are none.

    Raises:
        BrokerError: no such topic, or a broker that refuses or does not answer.
    """
    partitions = check_broker(source).source_partitions(source)
    remember = LastError(source)
    try:
        messages = all_messages(source, partitions, remember)
    except KafkaException as error:
        reason = scrubbed(str(error.args[0]), source.kafka)
        raise BrokerError(f"topic {source.topic!r} on {source.brokers}: {reason}", remember.cure) from error
    read, counted, refused = FeedbackReader(config), Precision(), 0
    for message in sorted(messages, key=lambda m: m.timestamp()[1]):
        try:
            counted.add(read(message.value()))
        except NoFeedbackError:
            refused += 1
    return counted, refused


def all_messages(source: Source, partitions: tuple[int, ...], remember: LastError) -> list[Message]:
    """A topic from its beginning to its present end.

    Raises:
        KafkaException: the broker refuses.
        BrokerError: it does not answer.
    """
    found: list[Message] = []
    ended: set[int | None] = set()
    settings: dict[str, str | bool] = {"enable.partition.eof": True, "isolation.level": "read_committed"}
    with metadata_client(source, remember, **settings) as client:
        client.list_topics(source.topic, timeout=source.wait)  # a client that knows the topic starts at once
        client.assign([TopicPartition(source.topic, partition, OFFSET_BEGINNING) for partition in partitions])
        heard = time.monotonic()
        while not ended.issuperset(partitions):
            for message in client.consume(10_000, 0.1):
                heard, error = time.monotonic(), message.error()
                if error is None:
                    found.append(message)
                elif error.code() == KafkaError._PARTITION_EOF:
                    ended.add(message.partition())
                elif not error.retriable():
                    raise KafkaException(error)
            if time.monotonic() - heard > source.wait:
                text = f"topic {source.topic!r} on {source.brokers} did not answer for {source.wait:g} s (source.wait)"
                raise BrokerError(text + (f": {remember.text}" if remember.text else ""), remember.cure)
    return found
