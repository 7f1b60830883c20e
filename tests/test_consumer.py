"""One consumer for the partitions of a topic: in order, a bounded way ahead, and with its errors where they belong."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from brokers import MockKafka
from confluent_kafka import Consumer, TopicPartition
from patience import SLOWER

from ssm_stream.config import Source
from ssm_stream.core import native
from ssm_stream.kafka.client import BrokerError
from ssm_stream.kafka.consumer import PrefetchConsumer
from ssm_stream.kafka.partition_queue import AHEAD, FAR_AHEAD, PartitionQueue, adjust_pauses
from ssm_stream.kafka.records import Chunk, offset_of
from ssm_stream.kafka.wire.fetching import BatchFetcher, Fetched, Timed, fetcher_of

BATCH = 10


def offsets(chunk: Chunk) -> list[int]:
    return list(map(offset_of, chunk.messages))


def reader(kafka: MockKafka, counts: tuple[int, ...], *, until_eof: bool = False) -> PrefetchConsumer:
    """Of a topic with so many messages in its partitions."""
    topic = kafka.topic("events", len(counts))
    for partition, count in enumerate(counts):
        kafka.produce(topic, [b"%d" % i for i in range(count)], partition=partition)
    source = Source(brokers=kafka.bootstrap_servers, topic=topic, batch=BATCH, wait=10)
    return PrefetchConsumer(source, tuple(range(len(counts))), until_eof=until_eof)


def until(condition: Callable[[], bool], timeout: float = 20.0) -> None:
    deadline = time.monotonic() + SLOWER * timeout
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def drained(reading: PrefetchConsumer, feed: PartitionQueue) -> list[int]:
    """All items of a partition up to its end."""
    found: list[int] = []
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        taken, at_end = reading.take(feed, BATCH)
        found += [item for ready in taken for item in ready.items]
        if not taken and at_end:
            return found
        time.sleep(0.001)
    pytest.fail(f"no end after {len(found)} items")


class PausingReading:
    """Reads, and has the client pause and resume while a message is handed over, as its own thread does where a group
    moves partitions. linger: ms in which more messages may follow"""

    def __init__(self, reading: native.Reading, consumer: Consumer, place: TopicPartition, linger: int) -> None:
        self._reading, self._consumer, self._place, self._linger = reading, consumer, place, linger
        self.wait, self.add, self.close = reading.wait, reading.add, reading.close
        self.handed_over = Counter[int]()

    def read(self, most: int, _: int) -> list[Any]:
        if len(self.handed_over) > BATCH:
            self._consumer.pause([self._place])
            self._consumer.resume([self._place])
        found = self._reading.read(most, self._linger)
        self.handed_over.update(offset for _, messages, *_ in found if messages for offset in messages.offsets())
        return found


@pytest.mark.parametrize("linger", [0, 300])
def test_what_the_client_hands_over_twice_is_read_once(
    mock_kafka: MockKafka, monkeypatch: pytest.MonkeyPatch, linger: int
) -> None:
    """In the next batch, or in the same one."""
    pausing = list[PausingReading]()

    def fetcher(consumer: Consumer, topic: str) -> BatchFetcher:
        made = fetcher_of(consumer, topic)
        assert isinstance(made, BatchFetcher)
        pausing.append(PausingReading(made._reading, consumer, TopicPartition(topic, 0), linger))
        monkeypatch.setattr(made, "_reading", pausing[0])
        return made

    monkeypatch.setattr("ssm_stream.kafka.consumer.fetcher_of", fetcher)
    monkeypatch.setattr("ssm_stream.kafka.wire.fetching.BATCHES", 1)
    reading = reader(mock_kafka, (4 * BATCH,))
    feed = reading.attach(0, None, offsets)
    assert drained(reading, feed) == list(range(4 * BATCH))
    assert linger or max(pausing[0].handed_over.values()) == 2
    reading.detach(feed, graceful=True)


def test_a_partition_that_was_left_while_it_was_paused_is_read_when_it_comes_again(mock_kafka: MockKafka) -> None:
    """As a member's further topics are; another partition keeps the consumer."""
    reading = reader(mock_kafka, (5, 5))
    left, kept = reading.attach(0, None, offsets), reading.attach(1, None, offsets)
    until(lambda: left.waiting == 5)
    with reading._change:
        assert reading._consumer is not None
        adjust_pauses(reading._consumer, reading.source.topic, [left], 1, room=False)
        reading.detach(left, graceful=True)
        left = reading.attach(0, 3, offsets)
    until(lambda: left.waiting == 2)
    for feed in (left, kept):
        reading.detach(feed, graceful=True)


def test_what_was_in_hand_when_a_partition_was_left_is_not_read_when_it_comes_again(
    mock_kafka: MockKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = reader(mock_kafka, (20, 5))
    kept = reading.attach(1, None, offsets)
    until(lambda: kept.waiting == 5)
    fetch, ready, in_hand, goes_on = reading._fetcher.fetch, threading.Event(), threading.Event(), threading.Event()

    def slow(most: int, timed: Timed) -> list[Fetched]:
        ready.set()
        found = fetch(most, timed)
        if not in_hand.is_set() and any(each.partition == 0 and each.messages for each in found):
            in_hand.set()
            goes_on.wait(20)
        return found

    monkeypatch.setattr(reading._fetcher, "fetch", slow)
    assert ready.wait(20)
    left = reading.attach(0, 10, offsets)
    assert in_hand.wait(20)
    reading.detach(left, graceful=True)
    threading.Timer(0.2, goes_on.set).start()
    again = reading.attach(0, 3, offsets)
    assert drained(reading, again) == list(range(3, 20))
    for feed in (again, kept):
        reading.detach(feed, graceful=True)


def test_a_partition_is_read_when_it_comes_again_at_once(mock_kafka: MockKafka) -> None:
    """librdkafka stops its fetching later, and then undoes which queue its messages go to."""
    reading = reader(mock_kafka, (5, 5))
    again, kept = reading.attach(0, None, offsets), reading.attach(1, None, offsets)
    for before, first in pairwise((0, 3, 1, 4, 2, 3, 0, 4, 1, 2, 0)):
        until(lambda: again.waiting == 5 - before)  # noqa: B023  # called here
        reading.detach(again, graceful=True)
        again = reading.attach(0, first, offsets)
    until(lambda: again.waiting == 5)
    for feed in (again, kept):
        reading.detach(feed, graceful=True)


def test_every_partition_comes_in_order_and_whole(mock_kafka: MockKafka) -> None:
    reading = reader(mock_kafka, (700, 0, 3), until_eof=True)
    feeds = [reading.attach(0, None, offsets), reading.attach(1, None, offsets), reading.attach(2, 1, offsets)]
    assert [drained(reading, feed) for feed in feeds] == [list(range(700)), [], [1, 2]]
    for feed in feeds:
        reading.detach(feed, graceful=True)
    assert not [t for t in threading.enumerate() if t.name == f"read {reading.source.topic}"]


def test_it_reads_a_bounded_way_ahead(mock_kafka: MockKafka) -> None:
    """Of a topic whose other partitions are at their end, and of a partition that nobody takes from."""
    reading = reader(mock_kafka, (2_000, 0))
    feed, idle = reading.attach(0, None, offsets), reading.attach(1, None, offsets)
    until(lambda: idle.at_end and feed.waiting >= AHEAD * BATCH)
    time.sleep(0.3)
    assert feed.waiting <= max((AHEAD + 1) * BATCH, (FAR_AHEAD + 1) * BATCH)
    assert drained(reading, feed) == list(range(2_000))
    reading.detach(idle, graceful=False)
    reading.detach(feed, graceful=False)


def test_a_partition_that_nobody_takes_from_does_not_starve_the_others(mock_kafka: MockKafka) -> None:
    reading = reader(mock_kafka, (3_000, 3_000))
    stuck, other = reading.attach(0, None, offsets), reading.attach(1, None, offsets)
    assert drained(reading, other) == list(range(3_000))
    assert stuck.waiting <= 4 * FAR_AHEAD * BATCH
    assert drained(reading, stuck) == list(range(3_000))
    for feed in (stuck, other):
        reading.detach(feed, graceful=False)


def test_an_offset_that_is_gone_is_told_where_it_is_taken(mock_kafka: MockKafka) -> None:
    reading = reader(mock_kafka, (5, 5))
    gone, good = reading.attach(0, 10_000, offsets), reading.attach(1, None, offsets)
    assert drained(reading, good) == list(range(5))
    with pytest.raises(BrokerError, match=r"partition 0 .* offset 10000, where the recovery state continues"):
        drained(reading, gone)
    for feed in (gone, good):
        reading.detach(feed, graceful=False)


def test_an_error_of_the_decoder_comes_out_as_it_was(mock_kafka: MockKafka) -> None:
    def broken(chunk: Chunk) -> list[int]:
        raise ZeroDivisionError(f"chunk of {chunk.partition}")

    reading = reader(mock_kafka, (5, 0))
    feed = reading.attach(0, None, broken)
    with pytest.raises(ZeroDivisionError, match="chunk of 0"):
        drained(reading, feed)
    reading.detach(feed, graceful=False)


def test_it_starts_again_after_its_last_partition_was_left(mock_kafka: MockKafka) -> None:
    reading = reader(mock_kafka, (20,))
    for first in (0, 7, 19):
        feed = reading.attach(0, first, offsets)
        assert drained(reading, feed) == list(range(first, 20))
        reading.commit(feed, 20)
        reading.detach(feed, graceful=True)


def test_a_topic_that_is_gone_at_the_start_is_not_taken_for_a_broker_that_is_away(mock_kafka: MockKafka) -> None:
    """As where it is deleted while the start requests its offsets."""
    source = Source(brokers=mock_kafka.bootstrap_servers, topic=mock_kafka.topic("events", 1), wait=0.2)
    with pytest.raises(BrokerError, match="Unknown partition") as found:
        PrefetchConsumer(source, (0, 7)).attach(7, None, offsets)
    assert found.value.cure.startswith("the brokers answer, but have no such topic or partition")
