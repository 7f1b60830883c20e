"""The feedback topic: the step of the dataflow that counts operators' verdicts, and the same count over all of it.

Acknowledgements pass through it to the observers; they count nothing.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import structlog
from bytewax.operators import StatefulBatchLogic

from ssm_stream.config import Config, Source
from ssm_stream.ingest.faults import Fault
from ssm_stream.ingest.verdicts import AlertAcknowledgement, FeedbackError, FeedbackReader, Verdict, VerdictCounts
from ssm_stream.kafka.client import with_topic
from ssm_stream.kafka.dead_letters import make_dead_letter
from ssm_stream.kafka.formats.messages import too_large_reason
from ssm_stream.kafka.records import (
    Chunk,
    OutputBatch,
    PredictedBatch,
    ProducerRecord,
    offset_of,
    raw_message,
    shard_key,
)
from ssm_stream.kafka.topic_reader import read_topic
from ssm_stream.ops.observers import UNOBSERVED, RunObserver

LOG = structlog.get_logger("ssm_stream.feedback")
KEY = "feedback"
"""Of the one place in which all verdicts are counted, whatever their partition."""
Feedback = Verdict | AlertAcknowledgement
LOG_EVERY = 1.0
"""Minimum seconds between log lines."""


def feedback_topic(config: Config) -> Source | None:
    """Return the feedback topic as a source of its own; None if none is configured."""
    if config.alerts.feedback is None:
        return None
    # Verdicts are few, and none is too old to count.
    return with_topic(config.source, config.alerts.feedback.topic).model_copy(update={"start": "earliest"})


class FeedbackDecoder:
    """Decodes chunks of the feedback topic."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._read = FeedbackReader(config)

    def __call__(self, chunk: Chunk) -> list[tuple[str, list[Feedback] | OutputBatch]]:
        """Return the feedback of a chunk under one key, and dead letters for other messages keyed by partition."""
        feedback: list[Feedback] = []
        letters: list[ProducerRecord] = []
        for message in chunk.messages:
            try:
                value = message.value()
                if value is not None and len(value) > self.config.source.max_message_bytes:
                    raise FeedbackError(
                        Fault.TOO_LARGE, too_large_reason(len(value), self.config.source.max_message_bytes)
                    )
                feedback.append(self._read(value))
            except FeedbackError as error:
                place = (chunk.topic, chunk.partition, offset_of(message))
                letters.append(
                    make_dead_letter(self.config, raw_message(message), place, "feedback", error.fault, str(error))
                )
        out: list[tuple[str, list[Feedback] | OutputBatch]] = [(KEY, feedback)] if feedback else []
        if letters:
            first, last = letters[0].offset, letters[-1].offset
            key = shard_key(chunk.partition % self.config.state.shards)
            out.append((key, OutputBatch(chunk.topic, chunk.partition, first, last, letters)))
        return out


class FeedbackLogic(StatefulBatchLogic[list[Feedback], PredictedBatch | OutputBatch, bytes]):
    """Counts verdicts and logs the precision of each rule. They change no prediction and no alert."""

    def __init__(self, resume_state: bytes | None, observers: RunObserver = UNOBSERVED) -> None:
        self._observers = observers
        self._precision = VerdictCounts() if resume_state is None else VerdictCounts.load(resume_state)
        self._changed: dict[str, None] = {}
        self._next = 0.0

    def on_batch(self, values: list[list[Feedback]]) -> tuple[Iterable[PredictedBatch | OutputBatch], bool]:
        for feedback in values:
            counted = [each for each in feedback if isinstance(each, Verdict) and self._precision.add(each)]
            for each in feedback:
                if isinstance(each, AlertAcknowledgement):
                    self._observers.on_acknowledged(each)
            self._changed |= {verdict.rule: None for verdict in counted}
            for verdict in counted:
                self._observers.on_verdict(verdict)
        if time.monotonic() >= self._next:
            self._log()
        return (), StatefulBatchLogic.RETAIN

    def on_notify(self) -> tuple[Iterable[PredictedBatch | OutputBatch], bool]:
        self._log()
        return (), StatefulBatchLogic.RETAIN

    def on_eof(self) -> tuple[Iterable[PredictedBatch | OutputBatch], bool]:
        return self.on_notify()

    def notify_at(self) -> datetime | None:
        if not self._changed:
            return None
        return datetime.now(UTC) + timedelta(seconds=max(self._next - time.monotonic(), 0.0))

    def _log(self) -> None:
        for rule in self._changed:
            LOG.info("feedback", **self._precision.of(rule))
        if self._changed:
            self._changed, self._next = {}, time.monotonic() + LOG_EVERY

    def snapshot(self) -> bytes:
        return self._precision.dump()


def count_feedback(config: Config, source: Source) -> tuple[VerdictCounts, int]:
    """Read the feedback topic to its present end and count its verdicts in the order of their timestamps.

    Returns:
        the counts, and the number of messages that are no feedback

    Raises:
        BrokerError: the topic does not exist, or the broker refuses or does not answer.
    """
    read, counted, refused = FeedbackReader(config), VerdictCounts(), 0
    for message in read_topic(source):
        try:
            found = read(message.value())
            if isinstance(found, Verdict):
                counted.add(found)
        except FeedbackError:
            refused += 1
    return counted, refused


def read_verdicts(config: Config, source: Source) -> dict[str, bool]:
    """Read the feedback topic to its present end; return whether an alert was true by its id, the last verdict of each.

    Raises:
        BrokerError: as of `count_feedback`.
    """
    read, out = FeedbackReader(config), dict[str, bool]()
    for message in read_topic(source):
        with contextlib.suppress(FeedbackError):
            found = read(message.value())
            if isinstance(found, Verdict):
                out[found.alert] = found.true
    return out
