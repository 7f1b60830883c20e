"""Sends dead letters back to the topics that they came from, each once.

A message that is sent back, and its receipt on the dead-letter topic, are one transaction: both are there, or neither.
Before anything is sent, `init_transactions` fences another redrive of the same topic and aborts the transaction that it
left open; then all receipts are read. So a letter is sent back once, however often and wherever this is started, and
whichever letters were chosen before.

A receipt is in its letter's partition, behind it: while the topic keeps the letter, it keeps the receipt.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from confluent_kafka import KafkaError, KafkaException

from ssm_stream.config import Config
from ssm_stream.contract.headers import RECEIPT, REDRIVEN_FROM
from ssm_stream.contract.message_schemas import redrivable_topics
from ssm_stream.ingest.control import ControlError, ControlReader
from ssm_stream.ingest.faults import Fault
from ssm_stream.ingest.verdicts import FeedbackError, FeedbackReader
from ssm_stream.kafka.client import (
    DENIED,
    BrokerError,
    LastError,
    MissingRightError,
    is_fenced,
    kafka_error,
    open_producer,
    redact_text,
)
from ssm_stream.kafka.dead_letter_topic import DeadLetterTopic, LetterFilter
from ssm_stream.kafka.dead_letters import DeadLetter, Refusal, refusal_of
from ssm_stream.kafka.decoder import Decoder
from ssm_stream.kafka.formats.messages import too_large_reason
from ssm_stream.kafka.records import Chunk, Message, OutputBatch, offset_of

MAX_LETTERS, MAX_BYTES = 500, 8_000_000
"""Letters of a transaction, and bytes of their values."""
MAX_MESSAGE_BYTES = 1_000_000_000
TIMEOUT = 60.0
"""Seconds that a transaction may last."""


class Redecoder:
    """Decodes dead letters again under the current configuration.

    Refusals at later stages (a label without an event, too many entities) depend on the state, and are not foreseen.
    """

    def __init__(self, config: Config) -> None:
        self._decoder, self._feedback = Decoder(config), FeedbackReader(config)
        self._max_bytes = config.source.max_message_bytes
        self._verdicts = config.alerts.feedback.topic if config.alerts.feedback else None
        self._control, self._stops = config.control_topic, ControlReader(config)
        self._alerts = config.sinks.alerts if config.notify else None
        self._targets = {name for name, _ in config.notify.named_targets()} if config.notify else set()
        self.topics = frozenset(redrivable_topics(config))
        """Topics that the configuration reads, those of `notify` among them."""

    def check(self, letters: Sequence[DeadLetter]) -> list[Refusal | None]:
        """Return for each letter, all of them of `topics`, why it would be refused; None if it would be read."""
        out: list[Refusal | None] = [None] * len(letters)
        groups: dict[tuple[str, int | None], list[int]] = {}
        for i, letter in enumerate(letters):
            groups.setdefault((letter.topic, letter.message.partition()), []).append(i)
        for (topic, _), rows in groups.items():
            if topic == self._verdicts:
                for i in rows:
                    out[i] = self._check_verdict(letters[i].message.value())
                continue
            if topic == self._alerts:
                for i in rows:
                    out[i] = self._check_alert(letters[i])
                continue
            if topic == self._control:
                for i in rows:
                    out[i] = self._check_stop(letters[i].message.value())
                continue
            at = {offset_of(letters[i].message): i for i in rows}
            for offset, refusal in self._decode(topic, [letters[i].message for i in rows]):
                out[at[offset]] = refusal
        return out

    def _decode(self, topic: str, messages: list[Message]) -> Iterable[tuple[int, Refusal]]:
        for _, item in self._decoder.decode(Chunk(topic, 0, messages)):
            if isinstance(item, OutputBatch):
                for record in item.others:
                    yield record.offset, refusal_of(record)

    def _check_verdict(self, value: bytes | None) -> Refusal | None:
        if value is not None and len(value) > self._max_bytes:
            return Refusal(str(Fault.TOO_LARGE), too_large_reason(len(value), self._max_bytes))
        try:
            self._feedback(value)
        except FeedbackError as error:
            return Refusal(str(error.fault), str(error))
        return None

    def _check_alert(self, letter: DeadLetter) -> Refusal | None:
        """Return why an alert cannot be sent again: it is none, or its target does not exist any more."""
        if letter.fault != Fault.UNDELIVERABLE:
            return Refusal(letter.fault, letter.reason)
        if letter.target not in self._targets:
            return Refusal(letter.fault, f"target {letter.target!r} is not in notify.targets")
        return None

    def _check_stop(self, value: bytes | None) -> Refusal | None:
        try:
            self._stops(value, "")
        except ControlError as error:
            return Refusal(str(error.fault), str(error))
        return None


def check_letter(config: Config, letter: DeadLetter) -> tuple[bool, Refusal | None]:
    """Return whether the configuration reads the letter's topic, and if so why it would be refused now."""
    redecoder = Redecoder(config)
    return (True, redecoder.check([letter])[0]) if letter.topic in redecoder.topics else (False, None)


@dataclass
class RedriveReport:
    """Numbers of letters: by fault, or by the fault that they would have now.

    foreign: messages on the topic that are no letters of this flow; missing: letters whose partition no longer exists;
    copies: letters of a message that has another one, as a crash leaves them
    """

    sent: Counter[str] = field(default_factory=Counter)
    failing: Counter[str] = field(default_factory=Counter)
    already: int = 0
    copies: int = 0
    truncated: int = 0
    missing: int = 0
    foreign: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return all fields as JSON has them."""
        return {**vars(self), "sent": dict(self.sent), "failing": dict(self.failing)}


def redrive(
    config: Config,
    chosen: LetterFilter,
    *,
    send: bool,
    failing_too: bool = False,
    limit: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> RedriveReport:
    """Send letters back to their topics and partitions, or count what would be sent.

    Args:
        config: with its features
        chosen: which letters
        send: otherwise nothing is written
        failing_too: send those, too, that the present configuration would refuse again
        limit: number of letters to send
        on_progress: called with messages read, and how many there are at most

    Raises:
        BrokerError: the topic does not exist; a broker refuses, does not answer, or has no transactions; another
            redrive of the same topic is running.
    """
    topic, redecoder = DeadLetterTopic(config), Redecoder(config)
    # Before the offsets are read: a transaction that another redrive left open is committed or aborted then.
    producer = _RedriveProducer(topic) if send else None
    topic.update_offsets()
    total = 2 * topic.size()

    def report_from(before: int) -> Callable[[int], None] | None:
        return None if on_progress is None else lambda done: on_progress(before + done, total)

    run = _Redrive(topic, redecoder, topic.receipts(report_from(0)), producer)
    for some in topic.letters(chosen.since, on_progress=report_from(topic.size())):
        letters = [letter for letter in run.select(some) if letter in chosen]
        if not run.send(run.sendable(letters), failing_too=failing_too, limit=limit):
            break
    if producer is not None:
        producer.flush()
    return run.report


class _Redrive:
    """One run over the letters. receipts: of letters that were sent back; producer: None where nothing is sent"""

    def __init__(
        self, topic: DeadLetterTopic, redecoder: Redecoder, receipts: set[str], producer: _RedriveProducer | None
    ) -> None:
        self.report = RedriveReport()
        self._redecoder, self._receipts, self._producer = redecoder, receipts, producer
        topics = topic.cluster.topics
        self._partitions = {name: set(topic.cluster.partitions_of(name)) for name in redecoder.topics & topics.keys()}

    def select(self, some: Sequence[DeadLetter | Message]) -> list[DeadLetter]:
        """Return the letters of this flow, and count the others."""
        letters = [item for item in some if isinstance(item, DeadLetter) and item.topic in self._redecoder.topics]
        self.report.foreign += len(some) - len(letters)
        return letters

    def sendable(self, letters: Iterable[DeadLetter]) -> list[DeadLetter]:
        """Return the letters that can be sent, in the order of their origins, and count the others."""
        out, report = [], self.report
        for letter in letters:
            if letter.receipt in self._receipts:
                report.already += 1
            elif letter.truncated is not None:
                report.truncated += 1
            elif letter.partition not in self._partitions.get(letter.topic, ()):
                report.missing += 1
            else:
                out.append(letter)
        return sorted(out, key=lambda letter: (letter.topic, letter.partition, letter.offset))

    def send(self, letters: list[DeadLetter], *, failing_too: bool, limit: int | None) -> bool:
        """Send the letters, or count them. Return False if the limit was reached."""
        report = self.report
        for letter, refusal in zip(letters, self._redecoder.check(letters), strict=True):
            if letter.receipt in self._receipts:
                report.copies += 1
                continue
            if limit is not None and report.sent.total() >= limit:
                break
            if refusal is not None:
                report.failing[refusal.fault] += 1
                if not failing_too:
                    continue
            self._receipts.add(letter.receipt)
            report.sent[letter.fault] += 1
            if self._producer is not None:
                self._producer.send(letter)
        return limit is None or report.sent.total() < limit


class _RedriveProducer:
    """Sends messages back, each with its receipt, in transactions."""

    def __init__(self, topic: DeadLetterTopic) -> None:
        config, cluster = topic.config, topic.cluster
        if cluster.embedded:
            raise BrokerError(
                f"{cluster.bootstrap_servers} is an embedded (mock) broker, which may split a transaction: a letter "
                "could be sent twice",
                "use a broker with transactions",
            )
        self._config, self._topic = config, topic.source.topic
        self._name = f"ssm-stream-redrive-{self._topic}"
        self._waiting: list[DeadLetter] = []
        self._bytes = 0
        self._last_error = LastError(config.source, config.sinks.kafka)
        fixed = {
            "transactional.id": self._name,
            "transaction.timeout.ms": int(TIMEOUT * 1000),
            "message.timeout.ms": int(min(config.source.wait, TIMEOUT) * 1000),
            "message.max.bytes": MAX_MESSAGE_BYTES,
            "acks": "all",
        }
        self._producer = open_producer(config, self._last_error, fixed=fixed)
        try:
            self._producer.init_transactions(config.source.wait)
        except KafkaException as error:
            raise self._error("transactions", error) from error

    def send(self, letter: DeadLetter) -> None:
        """Send the letter's message back, with one of the next transactions."""
        self._waiting.append(letter)
        self._bytes += len(letter.message.value() or b"")
        if len(self._waiting) >= MAX_LETTERS or self._bytes >= MAX_BYTES:
            self.flush()

    def flush(self) -> None:
        """Send the waiting letters as one transaction.

        Raises:
            BrokerError: nothing was sent; or the answer is missing, and the next run reads the outcome.
        """
        if not self._waiting:
            return
        try:
            self._producer.begin_transaction()
            for letter in self._waiting:
                for message in (self._message(letter), self._receipt(letter)):
                    self._produce(message)
            self._commit()  # which fails if a message was not delivered
        except KafkaException as error:
            if not kafka_error(error).fatal():
                with contextlib.suppress(KafkaException):  # the broker aborts it in a minute, or the next redrive does
                    self._producer.abort_transaction(self._config.source.wait)
            raise self._error("sending", error) from error
        self._waiting, self._bytes = [], 0

    def _commit(self) -> None:
        deadline = time.monotonic() + self._config.source.wait
        while True:
            try:
                self._producer.commit_transaction(self._config.source.wait)
                return
            except KafkaException as error:
                if not kafka_error(error).retriable() or time.monotonic() > deadline:
                    raise

    def _message(self, letter: DeadLetter) -> dict[str, Any]:
        origin = (REDRIVEN_FROM, f"{self._topic}-{letter.place}".encode())
        return {
            "topic": letter.topic,
            "partition": letter.partition,  # the same, whatever chose it: an entity stays in its partition
            "key": letter.message.key(),
            "value": letter.message.value(),
            "headers": [*letter.own_headers, origin],
        }

    def _receipt(self, letter: DeadLetter) -> dict[str, Any]:
        content = {"redriven": letter.place, "to": letter.topic, "partition": letter.partition}
        return {
            "topic": self._topic,
            "partition": letter.message.partition(),
            "key": RECEIPT,
            "value": orjson.dumps(content),
            "headers": [(RECEIPT, letter.receipt.encode())],
        }

    def _produce(self, message: dict[str, Any]) -> None:
        while True:
            try:
                self._producer.produce(**message)
                return
            except BufferError:
                self._producer.poll(0.1)

    def _error(self, what: str, error: KafkaException) -> BrokerError:
        reason = kafka_error(error)
        source = self._config.source
        text = redact_text(reason.str(), source.kafka, self._config.sinks.kafka)
        if is_fenced(reason):
            return BrokerError(
                f"another redrive of topic {self._topic!r} has taken over: {text}",
                "let it finish, and start again: what was sent is not sent twice",
            )
        found = f"{what}: {source.brokers}: {text}"
        if reason.code() in DENIED:
            targets = sorted({self._topic, *(letter.topic for letter in self._waiting)})
            names = targets if reason.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED else [self._name]
            return MissingRightError(found, "Write", DENIED[reason.code()], *names)
        return BrokerError(found, "correct that and start again: what was sent is not sent twice")
