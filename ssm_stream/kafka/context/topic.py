"""Context topics (`source.context`): read whole at the start, then as far as the events to be joined require.

An event waits until the topics are read up to `grace` after its time, or after its arrival if its time is ahead of the
clock. Facts of the past are there anyway, so that a backlog does not wait.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import orjson
import structlog
from confluent_kafka import KafkaException

from ssm_stream.config import Config
from ssm_stream.config.sections.kafka import Context
from ssm_stream.ingest.message_fields import decode_text
from ssm_stream.kafka.client import LastError, topic_error, with_topic
from ssm_stream.kafka.cluster import check_broker
from ssm_stream.kafka.context.table import ContextTable
from ssm_stream.kafka.context.table import Message as ContextMessage
from ssm_stream.kafka.formats.framing import strip_frame
from ssm_stream.kafka.records import Message, offset_of, timestamp_of
from ssm_stream.kafka.topic_reader import open_topic

LOG = structlog.get_logger("ssm_stream.context")
Report = Callable[..., object]
"""Takes the name of a line of the log, and its values."""
LATE = "came after events of their time had been joined without them; a longer grace would wait for them"


def _ignore(name: str, **_: Any) -> None:
    return None


class ContextTopic:
    """One context topic, read up to now. report: of facts that come late or cannot be used

    Raises:
        BrokerError: the topic does not exist, or the broker refuses or does not answer.
    """

    def __init__(self, config: Config, section: Context, report: Report = _ignore) -> None:
        self.table, self._grace, self._report = ContextTable(config, section), section.grace, report
        self._source = with_topic(config.source, section.topic)
        self._partitions = check_broker(self._source).partitions_of(section.topic)
        self._opened = contextlib.ExitStack()
        self._reader = self._opened.enter_context(open_topic(self._source))
        self._read_at = time.time()
        spans = self._reader.spans(self._partitions)
        for messages in self._reader.read(spans):
            self._add(messages)
        self._next = {partition: span.end for partition, span in spans.items()}
        self._coming = self._reader.poll(self._next)

    def read_to(self, ms: int) -> None:
        """Read until all facts are there that came within `grace` of an event's time, ms; wait for it if need be.

        Raises:
            BrokerError: the broker refuses, or does not answer.
        """
        now = time.time()
        due = min(ms / 1000, now) + self._grace
        if self._read_at >= due:
            return
        if due > now:
            time.sleep(due - now)
        self._read_at = time.time()
        try:
            self._read()
        except KafkaException as error:
            raise topic_error(self._source, error, LastError(self._source)) from error

    def _read(self) -> None:
        """Add what the topic holds by now."""
        ends = {partition: span.end for partition, span in self._reader.spans(self._partitions).items()}
        left = {partition for partition, end in ends.items() if self._next[partition] < end}
        deadline, late = time.monotonic() + self._source.wait, self.table.late
        while left:
            messages, at_end = next(self._coming)
            self._add(messages)
            for message in messages:
                self._next[message.partition() or 0] = offset_of(message) + 1
            for partition in at_end:
                self._next[partition] = max(self._next[partition], ends[partition])
            left = {partition for partition in left if self._next[partition] < ends[partition]}
            if time.monotonic() > deadline:
                raise self._reader.silence()
        if self.table.late > late:
            self._report("context_late", topic=self._source.topic, facts=self.table.late - late, what=LATE)

    def _add(self, messages: Sequence[Message]) -> None:
        """Add messages to the table; log those that cannot be used."""
        found = list[ContextMessage]()
        for message in messages:
            place = (message.partition() or 0, offset_of(message))
            value = strip_frame(message.value())
            try:
                document = None if value is None else orjson.loads(value)
            except orjson.JSONDecodeError as error:
                self._refuse(*place, f"not JSON: {error}")
                continue
            stamp = timestamp_of(message)
            found.append(ContextMessage(*place, decode_text(message.key()), 0 if stamp is None else stamp[0], document))
        for refusal in self.table.add(found):
            self._refuse(found[refusal.position].partition, found[refusal.position].offset, refusal.reason)

    def _refuse(self, partition: int, offset: int, why: str) -> None:
        self._report("context_refused", message=f"{self._source.topic}-{partition}-{offset}", why=why)


class ContextTopics:
    """Joins the facts of all context topics to events. Thread-safe.

    Args:
        config: with `source.context`
        log: whether facts that come late or cannot be used are logged
    """

    def __init__(self, config: Config, *, log: bool = False) -> None:
        report = LOG.warning if log else _ignore
        self._topics = [ContextTopic(config, section, report) for section in config.source.context]
        self._lock = threading.Lock()

    def __call__(self, documents: Sequence[Any]) -> None:
        """Set the context columns of the documents that are events.

        Raises:
            BrokerError: a topic cannot be read.
        """
        latest = self._topics[0].table.latest_time(documents)
        if latest is None:
            return
        with self._lock:
            for topic in self._topics:
                topic.read_to(latest)
                topic.table.join(documents)


def context_of(config: Config, *, log: bool = False) -> ContextTopics | None:
    """Return what joins the context topics; None without any. log: as of `ContextTopics`

    Raises:
        BrokerError: a topic does not exist, or the broker refuses or does not answer.
    """
    return ContextTopics(config, log=log) if config.source.context else None
