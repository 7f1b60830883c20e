"""Reads a topic from the positions that a group has committed, with what came before as history, and commits what is
processed.

No group is joined: all partitions are assigned, so that one process has everything.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from ssm_stream.config import Source
from ssm_stream.kafka.client import LastError, open_consumer, topic_error
from ssm_stream.kafka.cluster import check_broker
from ssm_stream.kafka.groups.positions import Positions
from ssm_stream.kafka.outages.classify import is_retriable
from ssm_stream.kafka.outages.patience import committed, offsets_at, watermarks
from ssm_stream.kafka.records import Message, offset_of

BATCH = 500
UNDEFINED = 0
"""Offsets below it, in an answer for a group, stand for none."""


class Place(NamedTuple):
    """Where a message is."""

    partition: int
    offset: int


class GroupMessage(NamedTuple):
    """A message, and whether the group has processed it before."""

    place: Place
    message: Message
    processed: bool


class GroupReader:
    """Reads a topic for a group; see `open_group`.

    new_group: the group had no position; it begins at the end of the topic
    """

    def __init__(self, source: Source, client: Consumer, last_error: LastError, since: int | None) -> None:
        self.source, self._client, self._last_error = source, client, last_error
        self.partitions = check_broker(source).partitions_of(source.topic)
        found = committed(client, self._places(self.partitions), source.wait)
        self.new_group = all(place.offset < UNDEFINED for place in found)
        self._positions: dict[int, Positions] = {}
        self._ends: dict[int, int] = {}
        self._committed: dict[int, tuple[int, str]] = {}
        begins = list[TopicPartition]()
        for place in found:
            low, high = watermarks(client, self._place(place.partition), source.wait)
            position = place.offset if place.offset >= UNDEFINED else high if self.new_group else low
            if not low <= position <= high:  # the topic no longer holds it, or was created again
                position = low
            metadata = (place.metadata or "") if position == place.offset else ""
            self._positions[place.partition] = Positions(position, metadata)
            begins.append(self._place(place.partition, self._history_offset(place.partition, since, low, position)))
            if begins[-1].offset < high:
                self._ends[place.partition] = high
        client.assign(begins)

    def _places(self, partitions: Iterable[int]) -> list[TopicPartition]:
        return [self._place(partition) for partition in partitions]

    def _place(self, partition: int, offset: int = -1001) -> TopicPartition:
        return TopicPartition(self.source.topic, partition, offset)

    def _history_offset(self, partition: int, since: int | None, low: int, position: int) -> int:
        """Return the offset from which on messages are read: of `since`, and not behind the position."""
        if since is None:
            return position
        (found,) = offsets_at(self._client, [self._place(partition, max(since, 0))], self.source.wait)
        return min(position, max(low, found.offset)) if found.offset >= UNDEFINED else position

    @property
    def caught_up(self) -> bool:
        """Whether all has been read that the topic had when the reading began."""
        return not self._ends

    @property
    def waiting(self) -> int:
        """Messages that are read and not processed."""
        return sum(positions.waiting for positions in self._positions.values())

    def poll(self, wait: float) -> list[GroupMessage]:
        """Return the messages that have come within `wait` seconds; those that are new count as not processed until
        `end`.

        Raises:
            BrokerError: a fetch was refused.
        """
        out = list[GroupMessage]()
        for message in self._client.consume(BATCH, wait):
            error, partition = message.error(), message.partition() or 0
            if error is None:
                offset, positions = offset_of(message), self._positions[partition]
                processed = positions.is_processed(offset)
                (positions.skip if processed else positions.begin)(offset)
                out.append(GroupMessage(Place(partition, offset), message, processed))
                if offset + 1 >= self._ends.get(partition, offset + 2):
                    del self._ends[partition]
            elif error.code() == KafkaError._PARTITION_EOF:
                self._ends.pop(partition, None)
            elif not is_retriable(error):
                raise topic_error(self.source, KafkaException(error), self._last_error)
        return out

    def end(self, places: Iterable[Place]) -> None:
        """Note that messages are processed."""
        for place in places:
            self._positions[place.partition].end(place.offset)

    def commit(self, *, wait: bool = False) -> None:
        """Commit the positions that have moved. wait: until the broker has them"""
        moved = dict[int, tuple[int, str]]()
        for partition, positions in self._positions.items():
            now = positions.committable
            if now != self._committed.get(partition):
                moved[partition] = now
        if not moved:
            return
        offsets = [
            TopicPartition(self.source.topic, partition, offset, metadata=metadata)
            for partition, (offset, metadata) in moved.items()
        ]
        with contextlib.suppress(KafkaException):  # what is not committed is read again
            if wait:
                self._client.commit(offsets=offsets, asynchronous=False)
            else:
                self._client.commit(offsets=offsets, asynchronous=True)
            self._committed |= moved


@contextlib.contextmanager
def open_group(source: Source, *, since: int | None = None) -> Iterator[GroupReader]:
    """Open a reader of `source.topic` for the group `source.group`.

    Args:
        since: ms since 1970; messages from then on up to the group's position come first, as processed

    Raises:
        BrokerError: the topic does not exist, or the broker refuses or does not answer.
    """
    last_error = LastError(source)
    settings: dict[str, str | int | bool] = {
        "fetch.queue.backoff.ms": 20,
        "fetch.wait.max.ms": 50,
        "enable.partition.eof": True,
        "isolation.level": "read_committed",
        "auto.offset.reset": "earliest",
    }
    with open_consumer(source, last_error, **settings) as client:
        try:
            yield GroupReader(source, client, last_error, since)
        except KafkaException as error:
            raise topic_error(source, error, last_error) from error


class TopicActivity:
    """Counts what is written to a topic, by the ends of its partitions: messages, and ends of transactions."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._before = self._end()

    def _end(self) -> int | None:
        """Return the sum of the ends; None if the broker does not answer, or there is no such topic."""
        last_error = LastError(self._source)
        try:
            with open_consumer(self._source, last_error) as client:
                found = client.list_topics(self._source.topic, timeout=2.0).topics[self._source.topic]
                if found.error is not None:
                    return None
                places = [TopicPartition(self._source.topic, partition) for partition in found.partitions]
                return sum(client.get_watermark_offsets(place, timeout=2.0)[1] for place in places)
        except (KafkaException, KeyError):
            return None

    def since_last(self) -> int | None:
        """Return the number of offsets since the last call; None where it is not known."""
        before, self._before = self._before, self._end()
        return None if before is None or self._before is None else self._before - before
