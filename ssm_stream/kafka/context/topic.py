"""Context topics (`source.context`): read whole at the start, then as far as the events to be joined require.

An event waits until the topics are read up to `grace` after its time, or after its arrival if its time is ahead of the
clock. Facts of the past are there anyway, so that a backlog does not wait.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from operator import methodcaller
from typing import Any, NamedTuple

import structlog
from confluent_kafka import KafkaException

from ssm_stream.config import Config
from ssm_stream.config.quantities import format_duration
from ssm_stream.config.sections.kafka import Context
from ssm_stream.ingest.context.table import ContextTable, LateFact
from ssm_stream.ingest.context.table import Message as ContextMessage
from ssm_stream.ingest.events import RefusedDocument
from ssm_stream.ingest.faults import Fault
from ssm_stream.ingest.message_fields import decode_text
from ssm_stream.ingest.timestamps import ms_to_iso
from ssm_stream.kafka.client import LastError, topic_error, with_topic
from ssm_stream.kafka.cluster import check_broker
from ssm_stream.kafka.context.first_start import first_positions
from ssm_stream.kafka.dead_letters import make_dead_letter
from ssm_stream.kafka.formats.messages import message_format
from ssm_stream.kafka.records import Message, ProducerRecord, RawMessage, offset_of, raw_message, timestamp_of
from ssm_stream.kafka.topic_reader import open_topic

LOG = structlog.get_logger("ssm_stream.context")
MAX_RAW = 1_000
"""Messages of a topic that are kept as they came, the last ones, for the dead letters of those that are late."""


class Refused(NamedTuple):
    """A message that is no fact, or a late one. partition, offset: its place"""

    partition: int
    offset: int
    fault: Fault
    reason: str


class ContextTopic:
    """One context topic, read up to now.

    Args:
        config: with `source.context`
        section: the part of it for the topic
        flow: this is the flow: its first start counts, and what cannot be used is logged and becomes a dead letter

    Raises:
        BrokerError: the topic does not exist, or the broker refuses or does not answer.
        ConfigError: the positions of the first start cannot be read or written.
    """

    def __init__(self, config: Config, section: Context, *, flow: bool = False) -> None:
        self._config, self._section, self._flow = config, section, flow
        self._format = message_format(config, labels=True)
        self._source = with_topic(config.source, section.topic)
        self._partitions = check_broker(self._source).partitions_of(section.topic)
        self._opened = contextlib.ExitStack()
        self._reader = self._opened.enter_context(open_topic(self._source))
        self._read_at = time.time()
        self._raw: OrderedDict[tuple[int, int], RawMessage] = OrderedDict()
        self._letters: list[ProducerRecord] = []
        spans = self._reader.spans(self._partitions)
        self._next = {partition: span.end for partition, span in spans.items()}
        self.table = ContextTable(config, section, first_positions(config, section.topic, self._next, keep=flow))
        for messages in self._reader.read(spans):
            for refused in self._add(messages):
                self._log(refused)
        self._coming = self._reader.poll(self._next)

    def wait(self, due: float) -> float:
        """Wait until a time, ms, if the topic is not read up to it; return it, s."""
        now = time.time()
        at = min(due / 1000, now + 1.5 * self._section.grace)  # a clock that is ahead does not stop the flow
        if now < at and self._read_at < at:
            time.sleep(at - now)
        return at

    def read_to(self, due: float) -> None:
        """Read until all facts are there that the broker got before a time, ms; wait for it if need be.

        Raises:
            BrokerError: the broker refuses, or does not answer.
        """
        if self._read_at >= self.wait(due):
            return
        self._read_at = time.time()
        try:
            self._read()
        except KafkaException as error:
            raise topic_error(self._source, error, LastError(self._source)) from error

    def _read(self) -> None:
        """Add what the topic holds by now."""
        ends = {partition: span.end for partition, span in self._reader.spans(self._partitions).items()}
        left = {partition for partition, end in ends.items() if self._next[partition] < end}
        deadline = time.monotonic() + self._source.wait
        while left:
            messages, at_end = next(self._coming)
            if self._flow:
                self._raw.update(((m.partition() or 0, offset_of(m)), raw_message(m)) for m in messages)
            for refused in self._add(messages):
                self._refuse(refused)
            for message in messages:
                self._next[message.partition() or 0] = offset_of(message) + 1
            for partition in at_end:
                self._next[partition] = max(self._next[partition], ends[partition])
            left = {partition for partition in left if self._next[partition] < ends[partition]}
            if time.monotonic() > deadline:
                raise self._reader.silence()

    def _add(self, messages: Sequence[Message]) -> list[Refused]:
        """Add messages to the table; return those that cannot be used."""
        refused: list[RefusedDocument] = []
        tombstones = [i for i, message in enumerate(messages) if message.value() is None]
        values = [b"{}" if message.value() is None else message.value() for message in messages]
        headers = list(map(methodcaller("headers"), messages)) if self._format.needs_headers else None
        at = [i for i in range(len(messages)) if i not in set(tombstones)] if tombstones else list(range(len(messages)))
        given = None if headers is None else [headers[i] for i in at]
        documents, places = self._format.parse([values[i] for i in at], refused, given)
        refused = [each._replace(position=at[each.position]) for each in refused]
        found = [(at[i], each) for i, each in zip(range(len(at)) if places is None else places, documents, strict=True)]
        rows = sorted([*found, *((i, None) for i in tombstones)], key=lambda row: row[0])
        facts = [self._fact(messages[i], document) for i, document in rows]
        refused += [each._replace(position=rows[each.position][0]) for each in self.table.add(facts)]
        return [
            Refused(
                messages[each.position].partition() or 0, offset_of(messages[each.position]), each.fault, each.reason
            )
            for each in sorted(refused)
        ]

    @staticmethod
    def _fact(message: Message, document: Any) -> ContextMessage:
        stamp = timestamp_of(message)
        place, key = (message.partition() or 0, offset_of(message)), decode_text(message.key())
        return ContextMessage(*place, key, 0 if stamp is None else stamp[0], document)

    def _log(self, refused: Refused) -> None:
        if self._flow:
            what = "context_late" if refused.fault is Fault.LATE else "context_refused"
            place = f"{self._source.topic}-{refused.partition}-{refused.offset}"
            LOG.warning(what, message=place, why=refused.reason)

    def _refuse(self, refused: Refused) -> None:
        """Log a message, and make a dead letter of it if it came since the start."""
        self._log(refused)
        raw = self._raw.get((refused.partition, refused.offset))
        if raw is not None:
            place = (self._source.topic, refused.partition, refused.offset)
            letter = make_dead_letter(self._config, raw, place, "context", refused.fault, refused.reason)
            self._letters.append(letter)

    def pop_letters(self) -> list[ProducerRecord]:
        """Return the dead letters of facts that are late or cannot be used, since the last call."""
        for late in self.table.pop_late():
            self._refuse(Refused(late.place.partition, late.place.offset, Fault.LATE, self._why_late(late)))
        while len(self._raw) > MAX_RAW:
            self._raw.popitem(last=False)
        letters, self._letters = self._letters, []
        return letters

    def _why_late(self, late: LateFact) -> str:
        grace = format_duration(self._section.grace)
        return (
            f"the fact of {late.entity!r} from {ms_to_iso(late.place.ts)} came {format_duration(late.behind / 1000)} "
            f"after the event of {ms_to_iso(late.event)}, which is joined without it, could wait no longer; grace is "
            f"{grace}: lengthen it, or write facts before they hold"
        )


class ContextTopics:
    """Joins the facts of all context topics to events. Thread-safe.

    Args:
        config: with `source.context`
        flow: as of `ContextTopic`
    """

    def __init__(self, config: Config, *, flow: bool = False) -> None:
        self._topics = [ContextTopic(config, section, flow=flow) for section in config.source.context]
        self._lock = threading.Lock()

    def __call__(self, documents: Sequence[Any], came: Sequence[int | None] | None = None) -> list[ProducerRecord]:
        """Set the context columns of the documents that are events; return the dead letters of facts.

        came: when the broker got the message of each document, ms

        Raises:
            BrokerError: a topic cannot be read.
        """
        letters: list[ProducerRecord] = []
        with self._lock:
            for topic in self._topics:
                due = topic.table.due(documents, came)
                if due is None:
                    return letters
                topic.read_to(due)
                topic.table.join(documents, came)
                letters += topic.pop_letters()
        return letters


def context_of(config: Config, *, flow: bool = False) -> ContextTopics | None:
    """Return what joins the context topics to events; None without any, or where they are joined to rows of messages.

    Args:
        flow: as of `ContextTopic`

    Raises:
        BrokerError: a topic does not exist, or the broker refuses or does not answer.
        ConfigError: as of `ContextTopic`.
    """
    return ContextTopics(config, flow=flow) if config.source.context and not config.event.facts else None
