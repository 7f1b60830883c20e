"""Reads topics from one offset to another: committed messages only, in no group, and without moving any position."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from ssm_stream.config import Source
from ssm_stream.kafka.admin import group_denied
from ssm_stream.kafka.client import BrokerError, LastError, MissingRightError, kafka_error, open_consumer, topic_error
from ssm_stream.kafka.cluster import check_broker
from ssm_stream.kafka.outages.classify import is_retriable
from ssm_stream.kafka.outages.patience import committed, offsets_at, patiently, watermarks
from ssm_stream.kafka.records import Message, offset_of
from ssm_stream.kafka.watch.topic import TopicWatch
from ssm_stream.kafka.watch.transactions import describe_open

BATCH = 1000
FROM_BEGINNING = OFFSET_BEGINNING
"""As an offset: the first that the partition holds when the reading begins."""
GROUP_ERRORS = (KafkaError.GROUP_AUTHORIZATION_FAILED,)
"""Errors of the group that every consumer of the client library has by name: a reader does not use it."""
SETTLE = 3.0
"""Seconds in which the transactions of a producer that is at work end."""
POLL = 0.1
"""Seconds that one poll waits for messages."""


class Span(NamedTuple):
    """Offsets of a partition, [begin, end)."""

    begin: int
    end: int


class TopicReader:
    """Reads partitions of one topic; see `open_topic`."""

    def __init__(self, source: Source, client: Consumer, last_error: LastError) -> None:
        self.source, self._client, self._last_error = source, client, last_error
        self._watch = TopicWatch(source, 0)

    def spans(
        self,
        partitions: Iterable[int],
        *,
        since: int | None = None,
        until: int | None = None,
        last: int | None = None,
    ) -> dict[int, Span]:
        """Return what the partitions hold now.

        Args:
            since, until: timestamps of messages, ms since 1970: from the first that is not earlier than `since`, up to
                the first that is not earlier than `until`
            last: only so many offsets of each partition, from its end
        """
        out = dict[int, Span]()
        for partition in partitions:
            place = TopicPartition(self.source.topic, partition)
            begin, end = watermarks(self._client, place, self.source.wait)
            stop = end if until is None else min(end, self._offset_at(partition, until, end))
            if since is not None:
                begin = max(begin, self._offset_at(partition, since, end))
            out[partition] = Span(begin if last is None else max(begin, end - last), max(begin, stop))
        return out

    def _offset_at(self, partition: int, ms: int, end: int) -> int:
        """Return the offset of the first message that is not earlier; `end` if there is none."""
        place = TopicPartition(self.source.topic, partition, max(ms, 0))  # below 0: no time to a broker
        (found,) = offsets_at(self._client, [place], self.source.wait)
        return end if found.offset < 0 else int(found.offset)

    def held_back(self, partitions: Iterable[int]) -> tuple[str, str] | None:
        """Return in words what waits for a transaction of another program that stays open meanwhile, and the cure."""
        with open_topic(self.source, isolation="read_uncommitted") as everything:
            ends = {partition: span.end for partition, span in everything.spans(partitions).items()}
        deadline = time.monotonic() + SETTLE
        while True:
            committed_ends = {partition: span.end for partition, span in self.spans(ends).items()}
            ends = {partition: end for partition, end in ends.items() if committed_ends[partition] < end}
            if not ends or time.monotonic() > deadline:
                break
            time.sleep(POLL)
        if not ends:
            return None
        first = min(ends)
        found, cure = describe_open(self.source, first, committed_ends[first], ends[first] - committed_ends[first])
        return f"{found} (and of {len(ends) - 1} more partitions)" if len(ends) > 1 else found, cure

    def require_group(self, partitions: Iterable[int]) -> None:
        """Request the committed offsets of `source.group`.

        Raises:
            BrokerError: this user may not use the group, or the broker does not answer.
        """
        places, group = [TopicPartition(self.source.topic, partition) for partition in partitions], self.source.group_id
        try:
            committed(self._client, places, self.source.wait)
        except KafkaException as error:
            if kafka_error(error).code() == KafkaError._TIMED_OUT and group_denied(self.source, group):
                found = f"consumer group {group!r} on {self.source.brokers}: this user may not use it"
                raise MissingRightError(found, "Read", "consumer group", group) from error
            raise topic_error(self.source, error, self._last_error) from error

    def poll(
        self, begins: Mapping[int, int], batch: int = BATCH, wait: float = POLL
    ) -> Iterator[tuple[list[Message], set[int]]]:
        """Yield the messages from these offsets on as they come, and the partitions whose end was reached; neither of
        them after `wait` seconds in which nothing came. It does not end by itself."""
        self._client.assign([TopicPartition(self.source.topic, p, begins[p]) for p in sorted(begins)])
        while True:
            yield _consume(self._client, batch, wait)

    def require_there(self, partitions: Iterable[int]) -> None:
        """Request now and then whether the topic still has these partitions.

        Raises:
            BrokerError: it has not had them for `source.wait`.
        """
        if self._watch.is_due():
            self._watch.check(self._client, partitions)

    def pause(self, partition: int) -> None:
        """Fetch no more of a partition."""
        self._client.pause([TopicPartition(self.source.topic, partition)])

    def read(self, spans: Mapping[int, Span], batch: int = BATCH) -> Iterator[list[Message]]:
        """Yield the messages of these spans, those of a partition in order.

        Raises:
            BrokerError: nothing came for `source.wait` seconds.
        """
        left = {partition for partition, span in spans.items() if span.begin < span.end}
        if not left:
            return
        began = time.monotonic()
        for messages, ended in self.poll({p: spans[p].begin for p in left}, batch):
            left -= ended
            found = []
            for message in messages:
                partition, offset = message.partition() or 0, offset_of(message)
                if offset < spans[partition].end:
                    found.append(message)
                if offset + 1 >= spans[partition].end:
                    left.discard(partition)
            if found:
                yield found
            if not left:
                return
            if messages or ended:
                began = time.monotonic()
            elif time.monotonic() - began > self.source.wait:
                raise self.silence()

    def silence(self) -> BrokerError:
        """Return the error for a broker that does not answer."""
        source, reason = self.source, self._last_error.text
        found = f"topic {source.topic!r} on {source.brokers} did not answer for {source.wait:g} s (source.wait)"
        return BrokerError(f"{found}: {reason}" if reason else found, self._last_error.cure)


@contextlib.contextmanager
def open_topic(source: Source, *, reset: str = "earliest", isolation: str = "read_committed") -> Iterator[TopicReader]:
    """Open a reader of `source.topic`.

    Args:
        reset: `earliest` or `error`, for an offset that the topic no longer holds
        isolation: as librdkafka's `isolation.level`

    Raises:
        BrokerError: the broker refuses a request, here or within the context, or does not answer.
    """
    last_error = LastError(source)
    settings: dict[str, str | int | bool] = {
        # A client that had enough must fetch again soon, else it waits for a second with nothing to do.
        "fetch.queue.backoff.ms": 20,
        "enable.partition.eof": True,
        "isolation.level": isolation,
        "auto.offset.reset": reset,
    }
    with open_consumer(source, last_error, **settings) as client:
        try:
            # A client with the metadata starts at once.
            patiently("metadata", lambda left: client.list_topics(source.topic, timeout=left), source.wait)
            yield TopicReader(source, client, last_error)
        except KafkaException as error:
            raise topic_error(source, error, last_error) from error


def read_topic(source: Source, *, last: int | None = None) -> list[Message]:
    """Return the messages that a topic holds now, in the order of their timestamps.

    Args:
        last: only so many offsets of each partition, from its end

    Raises:
        BrokerError: the topic does not exist, or the broker refuses or does not answer.
    """
    partitions = check_broker(source).source_partitions(source)
    with open_topic(source) as reader:
        found = itertools.chain.from_iterable(reader.read(reader.spans(partitions, last=last)))
        return sorted(found, key=lambda message: message.timestamp()[1])


def follow_topics(source: Source, topics: Mapping[str, int]) -> Iterator[list[Message]]:
    """Yield the messages of topics (name → partitions) from offset 0 on as they come, and an empty list after 0.1 s
    without any. It does not end by itself.

    Raises:
        BrokerError: the broker refuses a request.
    """
    last_error = LastError(source)
    with open_consumer(source, last_error, **{"fetch.wait.max.ms": 50}) as client:
        client.assign([TopicPartition(topic, p, 0) for topic, n in topics.items() for p in range(n)])
        while True:
            try:
                yield _consume(client, 5 * BATCH)[0]
            except KafkaException as error:
                raise topic_error(source, error, last_error) from error


def _consume(client: Consumer, batch: int, wait: float = POLL) -> tuple[list[Message], set[int]]:
    """Return the messages of one poll, and the partitions whose end was reached.

    Raises:
        KafkaException: a fetch was refused; not for one that the client repeats by itself.
    """
    messages, ended = list[Message](), set[int]()
    for message in client.consume(batch, wait):
        error = message.error()
        if error is None:
            messages.append(message)
        elif error.code() == KafkaError._PARTITION_EOF:
            ended.add(message.partition() or 0)
        elif not is_retriable(error) and error.code() not in GROUP_ERRORS:
            raise KafkaException(error)
    return messages, ended
