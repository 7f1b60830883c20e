"""Dead letters counted, and sent back to where they came from, each once.

A message that is sent back and a receipt for it, on the dead-letter topic, are one transaction: both are there, or
neither is. Before anything is sent, `init_transactions` shuts out another redrive of the same topic and ends what it
left open; then all receipts are read. So a letter is sent back once, however often and wherever this is started, and
whichever letters were chosen before.

A receipt lies in its letter's partition, behind it: while the topic keeps the letter, it keeps the receipt.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson
from confluent_kafka import KafkaException, Message

from ssm_stream.config import Config, Source
from ssm_stream.contract.headers import RECEIPT, REDRIVEN_FROM
from ssm_stream.kafka.client import (
    BrokerError,
    Cluster,
    KafkaProducer,
    LastError,
    check_broker,
    client_properties,
    fenced,
    kafka_error,
    scrubbed,
    unusable,
)
from ssm_stream.kafka.codec import offset_of
from ssm_stream.kafka.dead_letters import Judge, Letter, Refusal, letter_of, receipt_in
from ssm_stream.kafka.topic_scan import Span, scan, spans

TOGETHER, BYTES = 500, 8_000_000
"""Letters of a transaction, and bytes of their values, at most."""
LARGEST = 1_000_000_000
TIMEOUT = 60.0


class Chosen(NamedTuple):
    """Which letters: with one of these faults, at one of these stages (none named: any), from a time on (ms)."""

    faults: Collection[str] = ()
    stages: Collection[str] = ()
    since: int | None = None

    def __contains__(self, letter: object) -> bool:
        assert isinstance(letter, Letter)
        return (not self.faults or letter.fault in self.faults) and (not self.stages or letter.stage in self.stages)


@dataclass
class Group:
    """Letters of one topic, stage and fault. first, last: times, ms; sample: of the last one, and of those of the same
    millisecond the last by partition and offset: the order in which partitions are read is another each time"""

    topic: str
    stage: str
    fault: str
    count: int = 0
    redriven: int = 0
    first: int = 0
    last: int = 0
    sample: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """All fields as JSON has them."""
        return dict(vars(self))


@dataclass
class Report:
    """What a redrive came to: letters by fault, or by the fault that they would have now.

    foreign: messages on the topic that are no letters of this flow; missing: letters whose partition is no more
    """

    sent: Counter[str] = field(default_factory=Counter)
    failing: Counter[str] = field(default_factory=Counter)
    already: int = 0
    truncated: int = 0
    missing: int = 0
    foreign: int = 0

    def as_json(self) -> dict[str, Any]:
        """All fields as JSON has them."""
        return {**vars(self), "sent": dict(self.sent), "failing": dict(self.failing)}


def letters_of(config: Config) -> Source:
    """The dead-letter topic as a source of its own."""
    return config.source.model_copy(update={"topic": config.sinks.dead_letters, "partitions": None})


class DeadLetters:
    """The dead-letter topic of a configuration, as it is now.

    Raises:
        BrokerError: no such topic, or a broker that refuses or does not answer.
    """

    def __init__(self, config: Config) -> None:
        self.config, self.source = config, letters_of(config)
        self.cluster: Cluster = check_broker(self.source)
        self._partitions = self.cluster.partitions_of(self.source.topic)
        self._whole: dict[int, Span] = {}

    def look(self) -> None:
        """Take what the topic holds from now on, and all the receipts in it."""
        self._whole = spans(self.source, self._partitions)

    def receipts(self, on_progress: Callable[[int], None] | None = None) -> set[str]:
        """What receipts there are."""
        return {
            found
            for some in self._scan(self._whole, on_progress)
            for message in some
            if (found := receipt_in(message)) is not None
        }

    def size(self) -> int:
        """Messages that the topic holds, at most."""
        return sum(span.end - span.begin for span in self._whole.values())

    def letters(
        self, since: int | None = None, last: int | None = None, on_progress: Callable[[int], None] | None = None
    ) -> Iterator[list[Letter | Message]]:
        """Letters, and messages that are none; receipts are left out. last: of each partition"""
        wanted = self._whole
        if since is not None or last is not None:
            now = spans(self.source, self._partitions, since, last)
            wanted = {p: Span(now[p].begin, self._whole[p].end) for p in now}
        for some in self._scan(wanted, on_progress):
            yield [letter_of(message) or message for message in some if receipt_in(message) is None]

    def _scan(self, wanted: dict[int, Span], on_progress: Callable[[int], None] | None) -> Iterator[list[Message]]:
        done = 0
        for some in scan(self.source, wanted):
            yield some
            done += len(some)
            if on_progress is not None:
                on_progress(done)

    def find(self, partition: int, offset: int) -> Message | None:
        """The message there."""
        span = self._whole.get(partition)
        if span is None or not span.begin <= offset < span.end:
            return None
        for some in scan(self.source, {partition: Span(offset, offset + 1)}):
            return some[0]
        return None


def grouped(
    letters: DeadLetters, chosen: Chosen, last: int | None, on_progress: Callable[[int], None] | None = None
) -> tuple[list[Group], int]:
    """Letters counted by topic, stage and fault, the most first; and the number of messages that are no letters."""
    receipts = letters.receipts()
    groups: dict[tuple[str, str, str], Group] = {}
    lasts: dict[tuple[str, str, str], tuple[tuple[int, int, int], Letter]] = {}
    foreign = 0
    for some in letters.letters(chosen.since, last, on_progress):
        for letter in some:
            if not isinstance(letter, Letter):
                foreign += 1
            elif letter in chosen:
                key = (letter.topic, letter.stage, letter.fault)
                group = groups.setdefault(key, Group(*key))
                at = letter.message.timestamp()[1]
                group.first = at if not group.count else min(group.first, at)
                order = (at, letter.message.partition() or 0, offset_of(letter.message))
                if not group.count or order > lasts[key][0]:
                    lasts[key] = order, letter
                group.count += 1
                group.redriven += letter.receipt in receipts
    for key, ((at, *_), letter) in lasts.items():
        groups[key].last, groups[key].sample = at, _sample(letter)
    return sorted(groups.values(), key=lambda group: (-group.count, group.topic, group.stage, group.fault)), foreign


def _sample(letter: Letter) -> dict[str, Any]:
    value = letter.message.value() or b""
    head = (value.encode() if isinstance(value, str) else value)[:200]
    return {
        "place": letter.place,
        "origin": letter.origin,
        "reason": letter.reason,
        "value": head.decode("utf-8", "backslashreplace"),
    }


def redrive(
    config: Config,
    chosen: Chosen,
    *,
    send: bool,
    failing_too: bool = False,
    most: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Send letters back to their topics and partitions, or see what would be sent.

    Args:
        config: with its features
        chosen: which letters
        send: else nothing is written
        failing_too: send those, too, that the present configuration would refuse again
        most: letters to send
        on_progress: called with messages read, and how many there are at most

    Raises:
        BrokerError: no such topic, a broker that refuses, does not answer, or knows no transactions; another redrive
            of the same topic took over.
    """
    letters, judge, report = DeadLetters(config), Judge(config), Report()
    there = {
        topic: set(letters.cluster.partitions_of(topic)) for topic in judge.topics if topic in letters.cluster.topics
    }
    post = _Post(letters) if send else None  # before the look: what others have sent is committed or undone then
    letters.look()
    total = 2 * letters.size()

    def read(before: int) -> Callable[[int], None] | None:
        return None if on_progress is None else lambda done: on_progress(before + done, total)

    done = letters.receipts(read(0))
    for some in letters.letters(chosen.since, on_progress=read(letters.size())):
        usable = []
        for letter in some:
            if not isinstance(letter, Letter) or letter.topic not in judge.topics:
                report.foreign += 1
            elif letter not in chosen:
                continue
            elif letter.receipt in done:
                report.already += 1
            elif letter.truncated is not None:
                report.truncated += 1
            elif letter.partition not in there.get(letter.topic, ()):
                report.missing += 1
            else:
                usable.append(letter)
        usable.sort(key=lambda letter: (letter.topic, letter.partition, letter.offset))
        for letter, refusal in zip(usable, judge(usable), strict=True):
            if letter.receipt in done:  # a copy, which a crash has left
                report.already += 1
                continue
            if refusal is not None:
                report.failing[refusal.fault] += 1
            if refusal is not None and not failing_too:
                continue
            if most is not None and report.sent.total() >= most:
                break
            done.add(letter.receipt)
            report.sent[letter.fault] += 1
            if post is not None:
                post.put(letter)
        if most is not None and report.sent.total() >= most:
            break
    if post is not None:
        post.flush()
    return report


class _Post:
    """A producer of transactions: a message that is sent back, and its receipt."""

    def __init__(self, letters: DeadLetters) -> None:
        config, cluster = letters.config, letters.cluster
        if cluster.embedded:
            raise BrokerError(
                f"{cluster.asked} is an embedded (mock) broker, whose transactions may come apart: a letter could be "
                "sent twice",
                "use a broker with transactions",
            )
        self._config, self._topic = config, letters.source.topic
        self._remember = LastError(config.source, config.sinks.kafka)
        ours = {
            "transactional.id": f"ssm-stream-redrive-{self._topic}",
            "transaction.timeout.ms": int(TIMEOUT * 1000),
            "message.timeout.ms": int(min(config.source.wait, TIMEOUT) * 1000),
            "message.max.bytes": LARGEST,
            "acks": "all",
        }
        theirs = {**client_properties(config.source, error_cb=self._remember), **config.sinks.kafka}
        try:
            self._producer = KafkaProducer({**theirs, **ours})
            self._producer.init_transactions(config.source.wait)
        except (KafkaException, TypeError, ValueError) as error:
            if isinstance(error, KafkaException):
                raise self._refused("transactions", error) from error
            raise unusable(error, config.source, config.sinks.kafka) from None
        self._waiting: list[Letter] = []
        self._bytes = 0

    def put(self, letter: Letter) -> None:
        """Send it back, soon."""
        self._waiting.append(letter)
        self._bytes += len(letter.message.value() or b"")
        if len(self._waiting) >= TOGETHER or self._bytes >= BYTES:
            self.flush()

    def flush(self) -> None:
        """Send what waits, as one transaction.

        Raises:
            BrokerError: it was not sent whole, and so not at all; or the answer is missing, and the next run will know.
        """
        if not self._waiting:
            return
        try:
            self._producer.begin_transaction()
            for letter in self._waiting:
                for message in (self._again(letter), self._receipt(letter)):
                    self._produce(message)
            self._commit()  # which fails where a message was not delivered
        except KafkaException as error:
            if not kafka_error(error).fatal():
                with contextlib.suppress(KafkaException):  # the broker ends it in a minute, or the next redrive does
                    self._producer.abort_transaction(self._config.source.wait)
            raise self._refused("sending", error) from error
        self._waiting, self._bytes = [], 0

    def _commit(self) -> None:
        until = time.monotonic() + self._config.source.wait
        while True:
            try:
                self._producer.commit_transaction(self._config.source.wait)
                return
            except KafkaException as error:
                if not kafka_error(error).retriable() or time.monotonic() > until:
                    raise

    def _again(self, letter: Letter) -> dict[str, Any]:
        came = (REDRIVEN_FROM, f"{self._topic}-{letter.place}".encode())
        return {
            "topic": letter.topic,
            "partition": letter.partition,  # as it was: whatever chose it then, an entity stays where it is
            "key": letter.message.key(),
            "value": letter.message.value(),
            "headers": [*letter.own_headers, came],
        }

    def _receipt(self, letter: Letter) -> dict[str, Any]:
        told = {"redriven": letter.place, "to": letter.topic, "partition": letter.partition}
        return {
            "topic": self._topic,
            "partition": letter.message.partition(),
            "key": RECEIPT,
            "value": orjson.dumps(told),
            "headers": [(RECEIPT, letter.receipt.encode())],
        }

    def _produce(self, message: dict[str, Any]) -> None:
        while True:
            try:
                self._producer.produce(**message)
                return
            except BufferError:
                self._producer.poll(0.1)

    def _refused(self, what: str, error: KafkaException) -> BrokerError:
        reason = kafka_error(error)
        source = self._config.source
        text = scrubbed(reason.str(), source.kafka, self._config.sinks.kafka)
        if fenced(reason):
            return BrokerError(
                f"another redrive of topic {self._topic!r} has taken over: {text}",
                "let it finish, and start again: what was sent is not sent twice",
            )
        return BrokerError(
            f"{what}: {source.brokers}: {text}",
            "put that right and start again: what was sent is not sent twice. A user needs the right to write to the "
            "events topic, to the dead-letter topic, and to the transactional id ssm-stream-redrive-*",
        )


def judged(config: Config, letter: Letter) -> tuple[bool, Refusal | None]:
    """Whether the letter is of a topic that the configuration reads, and if so why it would be refused now."""
    judge = Judge(config)
    return (True, judge([letter])[0]) if letter.topic in judge.topics else (False, None)


def by_origin(letters: Iterable[list[Letter | Message]], origin: str) -> list[Letter]:
    """The letters of the message at TOPIC-PARTITION-OFFSET."""
    return [letter for some in letters for letter in some if isinstance(letter, Letter) and letter.origin == origin]
