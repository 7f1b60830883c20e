"""The first messages of a topic: read before the dataflow starts, or inspected as they come; and its last ones."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ssm_stream.config import Config, ConfigError, Source
from ssm_stream.ingest.message_fields import MessageFields
from ssm_stream.ingest.missing_paths import FIRST, PathSearch
from ssm_stream.kafka.client import BrokerError
from ssm_stream.kafka.decoder import add_fields
from ssm_stream.kafka.formats.framing import schema_key
from ssm_stream.kafka.formats.messages import MessageFormat, message_format
from ssm_stream.kafka.formats.registry import UnknownSchemaError, open_registry
from ssm_stream.kafka.records import Chunk, Message
from ssm_stream.kafka.topic_reader import FROM_BEGINNING, open_topic

SOON = 60.0
"""Seconds after which missing paths are reported, however few messages have come."""
SHARE_LEAST = 100
"""Messages of each partition, however many there are, that are searched for paths."""


class Sample(NamedTuple):
    """documents: those that can be read; messages: that they are from; goes_on: whether the topic has later ones"""

    documents: list[Any]
    messages: list[Message]
    goes_on: bool


def sample_documents(config: Config, partitions: tuple[int, ...], n: int) -> Sample:
    """Return up to n messages from the beginning of the partitions, of what is there now and of a time of which all of
    them have theirs; no documents if the topic is empty or has none in `event.format`.

    Raises:
        BrokerError: the broker, or the schema registry, refuses or does not answer.
    """
    source = config.source
    head = _read_head(source, dict.fromkeys(partitions, FROM_BEGINNING), n, until_eof=True)
    messages = _of_common_time(head, n)
    if len(messages) < n // 2 and (since := _common_begin(head)) is not None:
        # Retention deletes of one partition more than of another: each is read from where all have messages.
        with open_topic(source) as reader:
            begins = {partition: span.begin for partition, span in reader.spans(partitions, since=since).items()}
        later = _of_common_time(_read_head(source, begins, n, until_eof=True), n)
        messages = max(messages, later, key=len)
    # Partitions that were filled one after another have no time in common.
    messages = messages or _in_turn(head, n)
    goes_on = len(messages) >= n or len(head.ended) < len(partitions)
    return Sample(parse_documents(messages, message_format(config), MessageFields(config)), messages, goes_on)


def last_documents(config: Config, partitions: tuple[int, ...], n: int) -> list[Any]:
    """Return documents of the last n messages of the partitions, from the time on of which all partitions have theirs:
    what is in none of these has not come since.

    Raises:
        BrokerError: the broker, or the schema registry, refuses or does not answer.
    """
    with open_topic(config.source) as reader:
        spans = reader.spans(partitions, last=-(-n // len(partitions)))
        messages = list(itertools.chain.from_iterable(reader.read(spans)))
    begins = dict[int | None, int]()
    for message in messages:
        begins.setdefault(message.partition(), message.timestamp()[1])
    since = max(begins.values(), default=0)
    messages = [message for message in messages if message.timestamp()[1] >= since]
    return parse_documents(messages, message_format(config), MessageFields(config))


def first_documents(config: Config, partitions: tuple[int, ...], n: int, *, until_eof: bool) -> list[Any]:
    """Return documents from the beginning of the partitions, from each as evenly as they come.

    With too few on the topic it waits for more, `source.wait` seconds at most, but with `until_eof` not at all.

    Raises:
        BrokerError: the broker, or the schema registry, refuses or does not answer, or no message came.
        ConfigError: no message can be read.
    """
    source = config.source
    messages = _first_messages(source, partitions, n, until_eof=until_eof)
    if documents := parse_documents(messages, message_format(config), MessageFields(config)):
        return documents
    on = f" on topic {source.topic!r}"
    nothing = f"event.features: auto: there is nothing to select features from{on}"
    if not messages:  # no fault of the configuration: producers may come later
        with open_topic(source) as reader:
            held = reader.held_back(partitions)
        if held is not None:
            raise BrokerError(f"{nothing.removesuffix(on)}: {held[0]}", held[1])
        raise BrokerError(f"{nothing}, which is empty", "start when there are events, or list the features")
    raise ConfigError(
        f"{nothing} (none of its first {len(messages)} messages is JSON, or in event.format): start when there are "
        "events, or list the features"
    )


def parse_documents(messages: list[Message], read: MessageFormat, fields: MessageFields | None = None) -> list[Any]:
    """Return the documents in messages, without those that cannot be read.

    Args:
        read: from `message_format`
        fields: of the messages, to be added to the documents

    Raises:
        RegistryError: the schema registry refuses, or does not answer.
    """
    values, headers = [message.value() for message in messages], [message.headers() for message in messages]
    documents, positions = read.parse(values, [], headers)  # the others will be dead letters
    if fields is not None:
        add_fields(fields, documents, messages, positions)
    return documents


def names_schema(message: Message) -> bool:
    """Return whether a message names a schema of a registry."""
    return schema_key(message.value(), message.headers()) is not None


def format_of(config: Config, messages: list[Message]) -> str:
    """Return the `event.format` that reads messages which `auto` reads: `auto` where they differ.

    Raises:
        RegistryError: the schema registry refuses, or does not answer.
    """
    if config.schema_registry is None:
        return "json"
    kinds, registry = set[str](), open_registry(config)
    for key in {schema_key(message.value(), message.headers()) for message in messages}:
        with contextlib.suppress(UnknownSchemaError):
            kinds.add("json" if key is None else registry.fetch(key).kind.lower())
    return kinds.pop() if len(kinds) == 1 else "auto"


class _Head(NamedTuple):
    """found: messages of each partition, in order; ended: partitions of which these are all that there are"""

    found: dict[int, list[Message]]
    ended: set[int]


def _first_messages(source: Source, partitions: tuple[int, ...], n: int, *, until_eof: bool) -> list[Message]:
    """Return up to n messages, the first of each partition before the second of any.

    Raises:
        BrokerError: no message came, and not all partitions are empty.
    """
    return _in_turn(_read_head(source, dict.fromkeys(partitions, FROM_BEGINNING), n, until_eof=until_eof), n)


def _read_head(source: Source, begins: Mapping[int, int], n: int, *, until_eof: bool) -> _Head:
    """Return at least n messages in all, up to n of each partition from its offset in `begins` on, where there are so
    many.

    Raises:
        BrokerError: no message came, and not all partitions are empty.
    """
    share = -(-n // len(begins))
    found: dict[int, list[Message]] = {partition: [] for partition in begins}
    ended: set[int] = set()
    deadline = time.monotonic() + source.wait
    with open_topic(source) as reader:
        for messages, at_end in reader.poll(begins, n):
            for message in messages:
                some = found[message.partition() or 0]
                if len(some) < n:
                    some.append(message)
                if len(some) == n:
                    reader.pause(message.partition() or 0)
            ended = ended.difference(message.partition() for message in messages) | at_end
            enough = sum(map(len, found.values())) >= n
            # A partition that has its share, or no more, need not be waited for.
            served = all(len(some) >= share or partition in ended for partition, some in found.items())
            if served and (enough or (until_eof and ended.issuperset(p for p in found if len(found[p]) < n))):
                break
            if time.monotonic() >= deadline:
                break
        if not any(found.values()) and len(ended) < len(begins):
            raise reader.silence()
    return _Head(found, {partition for partition in ended if len(found[partition]) < n})


def _in_turn(head: _Head, n: int) -> list[Message]:
    """Return up to n messages, the first of each partition before the second of any."""
    rounds = sorted((i, partition) for partition, some in head.found.items() for i in range(len(some)))
    return [head.found[partition][i] for i, partition in rounds[:n]]


def _common_begin(head: _Head) -> int | None:
    """Return the time from which all partitions that have messages have them, ms; None if none has."""
    return max((some[0].timestamp()[1] for some in head.found.values() if some), default=None)


def _of_common_time(head: _Head, n: int) -> list[Message]:
    """Return up to n messages in the order of their timestamps, of the time of which all partitions have theirs: taken
    evenly, those of a busy partition would end before the others do, and its machines would seem to end.

    None where a partition with messages would have none.
    """
    since = _common_begin(head)
    whole = [partition for partition, some in head.found.items() if some and partition not in head.ended]
    until = min((head.found[partition][-1].timestamp()[1] for partition in whole), default=None)
    timed = list[tuple[int, int, int]]()
    for partition, some in head.found.items():
        # A timestamp that goes back is taken for the latest before it: the order of a partition stays.
        times = list(itertools.accumulate((message.timestamp()[1] for message in some), max))
        kept = [
            (ms, partition, i)
            for i, ms in enumerate(times)
            if since is not None and ms >= since and (until is None or ms <= until)
        ]
        if some and not kept:
            return []
        timed += kept
    return [head.found[partition][i] for _, partition, i in sorted(timed)[:n]]


class FirstMessages:
    """Searches the first messages that a process reads for the configured paths, until each is found.

    Of each partition it searches as many as make `FIRST` in all, as what is read first is often of one partition, whose
    machines need not have what those of others have. After `FIRST` messages that are of all partitions, or after `SOON`
    seconds, in which a partition may have had none, the sentences on paths that none of them has are reported; once
    more if some of these are found later. Threads of several partitions may call it.

    report: takes the number of paths that are missing, and the sentences; partitions: of the events
    """

    def __init__(self, config: Config, report: Callable[[int, list[str]], object], partitions: int = 1) -> None:
        self._config, self._report, self._partitions = config, report, partitions
        self._search, self._fields = PathSearch(config, config.source.context_columns), MessageFields(config)
        self._format = message_format(config)
        self._lock, self._began = threading.Lock(), time.monotonic()
        self._share = max(-(-FIRST // partitions), SHARE_LEAST)
        self._searched = Counter[tuple[str, int]]()
        self._ended = False
        self._reported: int | None = None

    def __call__(self, chunk: Chunk) -> bool:
        """Search the messages of a chunk; return whether later ones need to be searched."""
        with self._lock:
            if self._ended:
                return False
            partition = chunk.topic, chunk.partition
            messages = chunk.messages[: self._share - self._searched[partition]]
            self._searched[partition] += len(messages)
            fits = [each for each in messages if len(each.value() or b"") <= self._config.source.max_message_bytes]
            self._search.add(parse_documents(fits, self._format, self._fields))
            missing = len(self._search.missing)
            late = time.monotonic() - self._began >= SOON
            of_all = late or len(self._searched) >= self._partitions
            self._ended = not missing or (of_all and self._searched.total() >= FIRST)
            due = self._ended or late
            if self._search.documents and (due if self._reported is None else missing != self._reported):
                self._reported = missing
                count = self._search.documents
                self._report(missing, self._search.sentences(f"the first {count:,} messages of {chunk.topic}"))
            return not self._ended
