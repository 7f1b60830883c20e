"""Reads the dead-letter topic: letters, receipts, and counts of letters by topic, stage and fault."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ssm_stream.config import Config, ConfigError
from ssm_stream.kafka.client import with_topic
from ssm_stream.kafka.cluster import Cluster, check_broker
from ssm_stream.kafka.dead_letters import DeadLetter, parse_dead_letter, parse_receipt
from ssm_stream.kafka.records import Message, offset_of
from ssm_stream.kafka.topic_reader import Span, open_topic

PLACE = re.compile(r"(?:(.+)-)?(\d+)-(\d+)")
OnProgress = Callable[[int], None]
"""Called with the number of messages read."""


class LetterError(LookupError):
    """The topic has no such letter."""


class LetterFilter(NamedTuple):
    """Letters with one of these faults, at one of these stages (none given: any), from a time on (ms)."""

    faults: Collection[str] = ()
    stages: Collection[str] = ()
    since: int | None = None

    def __contains__(self, letter: object) -> bool:
        assert isinstance(letter, DeadLetter)
        return (not self.faults or letter.fault in self.faults) and (not self.stages or letter.stage in self.stages)


@dataclass
class LetterGroup:
    """Letters of one topic, stage and fault.

    first, last: times, ms
    sample: of the last letter; among those of the same millisecond the last by partition and offset, because the order
        in which partitions are read varies
    """

    topic: str
    stage: str
    fault: str
    count: int = 0
    redriven: int = 0
    first: int = 0
    last: int = 0
    sample: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return all fields as JSON has them."""
        return dict(vars(self))


class DeadLetterTopic:
    """The dead-letter topic of a configuration.

    Raises:
        BrokerError: the topic does not exist, or a broker refuses or does not answer.
    """

    def __init__(self, config: Config) -> None:
        self.config, self.source = config, with_topic(config.source, config.sinks.dead_letters)
        self.cluster: Cluster = check_broker(self.source)
        self._partitions = self.cluster.partitions_of(self.source.topic)
        self._spans: dict[int, Span] = {}

    def update_offsets(self) -> None:
        """Set what the other methods read: the messages that the topic holds now."""
        self._spans = self._current_spans()

    def receipts(self, on_progress: OnProgress | None = None) -> set[str]:
        """Return the receipts on the topic."""
        return {
            found
            for messages in self._read(self._spans, on_progress)
            for message in messages
            if (found := parse_receipt(message)) is not None
        }

    def size(self) -> int:
        """Return the number of offsets, of which some may have no message."""
        return sum(span.end - span.begin for span in self._spans.values())

    def letters(
        self, since: int | None = None, last: int | None = None, on_progress: OnProgress | None = None
    ) -> Iterator[list[DeadLetter | Message]]:
        """Yield letters, and messages that are none, without receipts. last: only so many offsets of each partition"""
        spans = self._spans
        if since is not None or last is not None:
            spans = {p: Span(span.begin, spans[p].end) for p, span in self._current_spans(since, last).items()}
        for messages in self._read(spans, on_progress):
            yield [parse_dead_letter(message) or message for message in messages if parse_receipt(message) is None]

    def find(self, partition: int, offset: int) -> Message | None:
        """Return the message at an offset; None if there is none."""
        span = self._spans.get(partition)
        if span is None or not span.begin <= offset < span.end:
            return None
        return next((messages[0] for messages in self._read({partition: Span(offset, offset + 1)})), None)

    def find_letter(self, which: str) -> DeadLetter:
        """Return the letter at PARTITION-OFFSET, or the last one of the message at TOPIC-PARTITION-OFFSET.

        Raises:
            ConfigError: `which` is neither.
            LetterError: there is no such letter.
        """
        place = PLACE.fullmatch(which)
        if not place:
            raise ConfigError(
                f"found {which!r}; write PARTITION-OFFSET, or TOPIC-PARTITION-OFFSET of the message itself"
            )
        self.update_offsets()
        topic = self.source.topic
        if place[1] not in (None, topic):
            letters = self.find_by_origin(which)
            if not letters:
                raise LetterError(f"topic {topic}: no dead letter of {which}: ssm-stream dlq ls lists them")
            return letters[-1]
        message = self.find(int(place[2]), int(place[3]))
        if message is None:
            raise LetterError(f"topic {topic} has no message at partition {place[2]}, offset {place[3]}, or no longer")
        letter = parse_dead_letter(message)
        if letter is None:
            what = "the receipt of a redrive" if parse_receipt(message) else "not a dead letter of ssm-stream"
            raise LetterError(f"topic {topic}, partition {place[2]}, offset {place[3]}: {what}")
        return letter

    def find_by_origin(self, origin: str) -> list[DeadLetter]:
        """Return the letters of the message at TOPIC-PARTITION-OFFSET."""
        letters = (letter for some in self.letters() for letter in some)
        return [letter for letter in letters if isinstance(letter, DeadLetter) and letter.origin == origin]

    def _current_spans(self, since: int | None = None, last: int | None = None) -> dict[int, Span]:
        with open_topic(self.source) as reader:
            return reader.spans(self._partitions, since=since, last=last)

    def _read(self, spans: dict[int, Span], on_progress: OnProgress | None = None) -> Iterator[list[Message]]:
        done = 0
        with open_topic(self.source) as reader:
            for messages in reader.read(spans):
                yield messages
                done += len(messages)
                if on_progress is not None:
                    on_progress(done)


def group_letters(
    topic: DeadLetterTopic, chosen: LetterFilter, last: int | None, on_progress: OnProgress | None = None
) -> tuple[list[LetterGroup], int]:
    """Return the letters counted by topic, stage and fault, the largest group first, and the number of messages that
    are no letters."""
    receipts = topic.receipts()
    groups: dict[tuple[str, str, str], LetterGroup] = {}
    lasts: dict[tuple[str, str, str], tuple[tuple[int, int, int], DeadLetter]] = {}
    foreign = 0
    for some in topic.letters(chosen.since, last, on_progress):
        for letter in some:
            if not isinstance(letter, DeadLetter):
                foreign += 1
            elif letter in chosen:
                key = (letter.topic, letter.stage, letter.fault)
                group = groups.setdefault(key, LetterGroup(*key))
                time = letter.message.timestamp()[1]
                group.first = time if not group.count else min(group.first, time)
                order = (time, letter.message.partition() or 0, offset_of(letter.message))
                if not group.count or order > lasts[key][0]:
                    lasts[key] = order, letter
                group.count += 1
                group.redriven += letter.receipt in receipts
    for key, ((time, *_), letter) in lasts.items():
        groups[key].last, groups[key].sample = time, _sample(letter)
    return sorted(groups.values(), key=lambda group: (-group.count, group.topic, group.stage, group.fault)), foreign


def _sample(letter: DeadLetter) -> dict[str, Any]:
    value = letter.message.value() or b""
    head = (value.encode() if isinstance(value, str) else value)[:200]
    return {
        "place": letter.place,
        "origin": letter.origin,
        "reason": letter.reason,
        "value": head.decode("utf-8", "backslashreplace"),
    }
