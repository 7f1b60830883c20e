"""One consumer and one thread a topic and process: they read and decode ahead of the dataflow, a bounded number of
chunks, whatever the number of partitions and workers.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from ssm_stream.config import Source
from ssm_stream.kafka.client import BrokerError, LastError, client_properties, scrubbed
from ssm_stream.kafka.codec import Chunk
from ssm_stream.ops.metrics import Metrics
from ssm_stream.ops.observers import PartitionPosition

LOG = structlog.get_logger("ssm_stream.source")
LINGER = 0.002  # seconds in which messages that come one by one are put together
LOOK = 0.02  # seconds without a message after which the cluster is looked at
QUIET = 10.0  # seconds without a failed fetch after which the next one is a new trouble
LEAVE = 1.0  # seconds for leaving the group after an error
PROBE_EVERY = 2.0  # seconds between questions to a cluster that is away
MEASURE_EVERY = 1.0  # seconds between looks at how far the partitions go
NEW_PARTITIONS_EVERY = 60.0  # seconds between looks for partitions that were added
AHEAD = 4  # chunks that are decoded ahead of the dataflow, over all partitions
FAR_AHEAD = 16  # chunks of one partition at which it is paused, while others have none

BROKEN = (
    KafkaError._TRANSPORT,
    KafkaError._DESTROY_BROKER,
    KafkaError._UNKNOWN_PARTITION,  # its leader, rather: the start has seen the partition
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
)
"""What a question ends with whose connection breaks meanwhile."""

PASSING = (
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.REPLICA_NOT_AVAILABLE,
    KafkaError.NETWORK_EXCEPTION,
    KafkaError._TRANSPORT,
    KafkaError._TIMED_OUT,
)
"""What the client tells of a fetch, and tries again by itself."""

Decode = Callable[[Chunk], list[Any]]
"""What turns the chunks of one partition into items of the dataflow."""


class Ready(NamedTuple):
    """What one chunk became. next: the offset after it; messages: how many there were"""

    items: list[Any]
    next: int
    messages: int


class Feed:
    """What was read of one partition, and not yet taken.

    first, next: offset that was begun at, and that is read next; at_end: the topic had no more when last looked
    taken: offset that is taken next; high: where the partition ended when last looked, None: not known
    caught_up: what is there has been taken, but for less than a batch, at some time since the beginning
    error: what ended the reading, once all that was read before is taken
    troubled, failed: since when fetches have failed in passing, and when one did last, seconds
    """

    def __init__(self, partition: int, first: int, decode: Decode) -> None:
        self.partition, self.first, self.next, self.decode = partition, first, first, decode
        self.taken, self.caught_up = first, False
        self.high: int | None = None
        self.ready: deque[Ready] = deque()
        self.waiting = 0  # messages in `ready`
        self.at_end = self.paused = False
        self.error: Exception | None = None
        self.troubled: float | None = None
        self.failed = 0.0


class Reader:
    """Reads partitions of one topic for their `Feed`s, from the first that is attached to the last that is detached."""

    def __init__(
        self, source: Source, partitions: tuple[int, ...], *, until_eof: bool = False, metrics: Metrics | None = None
    ) -> None:
        self.source, self.until_eof, self._metrics = source, until_eof, metrics
        self._feeds: dict[int, Feed] = {}
        self._change = threading.Condition()
        self._safe: dict[int, int] = {}  # offsets to be committed
        self._graceful = True
        self._consumer: Consumer | None = None
        self._thread = threading.Thread()
        self._broken: Exception | None = None  # what ended the thread
        # One process looks for partitions that are added: the one that reads the first.
        self._first, self._known = partitions[0], len(partitions) if source.partitions is None else 0
        self._last_error = LastError(source)
        self._down_since: float | None = None
        self._next_probe = self._next_look = self._next_measure = 0.0
        if metrics is not None:
            metrics.ask_reader(self)

    def positions(self) -> list[PartitionPosition]:
        """How far each partition is processed, and what is behind that."""
        with self._change:
            return [
                PartitionPosition(self.source.topic, feed.partition, feed.taken, self._lag(feed), feed.caught_up)
                for feed in self._feeds.values()
            ]

    @staticmethod
    def _lag(feed: Feed) -> int | None:
        if feed.at_end and not feed.ready:
            return 0  # what is left are notes of transactions
        return None if feed.high is None else max(feed.high - feed.taken, 0)

    @property
    def away(self) -> bool:
        """No broker has answered lately."""
        return self._down_since is not None

    def attach(self, partition: int, resume: int | None, decode: Decode) -> Feed:
        """Begin to read a partition.

        Raises:
            BrokerError: the broker does not tell where the partition begins.
        """
        with self._change:
            consumer = self._consumer or self._connected()
            # A number even without recovery state: an idle partition must have a place to resume at.
            first = resume if resume is not None else self._start(consumer, partition)
            feed = self._feeds[partition] = Feed(partition, first, decode)
            feed.error = self._broken
            consumer.incremental_assign([TopicPartition(self.source.topic, partition, first)])
            if self._consumer is None:
                self._consumer = consumer
                name = f"read {self.source.topic}"
                self._thread = threading.Thread(target=self._run, args=(consumer,), name=name, daemon=True)
                self._thread.start()
        return feed

    def _connected(self) -> Consumer:
        self._next_look = time.monotonic() + NEW_PARTITIONS_EVERY
        extra = {
            "group.id": self.source.group_id,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "fetch.wait.max.ms": 20,
            # Of all partitions together. The client looks again soon after it had enough: a long wait would starve us.
            "queued.min.messages": max(5 * self.source.batch, 1000),
            "fetch.queue.backoff.ms": 20,
            # Some brokers answer with all that a partition holds, whatever they are asked for.
            "receive.message.max.bytes": 1_000_000_000,
        }
        ours = client_properties(self.source, error_cb=self._on_error)
        consumer = Consumer({**extra, **ours, "enable.auto.commit": False})
        # One that knows the topic before it is assigned starts half a second sooner.
        with contextlib.suppress(KafkaException):  # an absent broker is noticed elsewhere
            consumer.list_topics(self.source.topic, timeout=1)
        return consumer

    def _start(self, consumer: Consumer, partition: int) -> int:
        place, deadline = TopicPartition(self.source.topic, partition), time.monotonic() + self.source.wait
        while True:
            try:
                low, high = consumer.get_watermark_offsets(place, timeout=max(deadline - time.monotonic(), 0.1))
                return int(low if self.source.start == "earliest" else high)
            except KafkaException as error:
                # A connection that breaks while the question is under way is made anew by itself.
                if error.args[0].code() not in BROKEN or time.monotonic() > deadline:
                    raise self._error(error.args[0], partition) from error
                time.sleep(LOOK)

    def take(self, feed: Feed, most: int) -> tuple[list[Ready], bool]:
        """The next chunks of a feed, one at least if there is one, together `most` messages or fewer; and whether
        that is all that the topic has.

        Raises:
            BrokerError: what ended the reading, in the broker's words.
        """
        with self._change:
            taken: list[Ready] = []
            count = 0
            while feed.ready and (not taken or count + feed.ready[0].messages <= most):
                taken.append(feed.ready.popleft())
                count += taken[-1].messages
            feed.waiting -= count
            if taken:
                feed.taken = taken[-1].next
                self._change.notify_all()
            elif feed.error is not None:
                raise feed.error
            return taken, feed.at_end and not feed.ready

    def commit(self, feed: Feed, offset: int) -> None:
        """Tell lag tools how far a partition is safe, at the next opportunity."""
        with self._change:
            self._safe[feed.partition] = offset

    def epoch_ended(self) -> None:
        """An epoch is over, whether anything came in it or not."""
        if self._metrics is not None:
            self._metrics.epoch_ended(None)

    def detach(self, feed: Feed, *, graceful: bool) -> None:
        """Read a partition no longer. With the last one the thread and the consumer end.

        Args:
            graceful: wait until the broker has taken note of what `commit` was told
        """
        with self._change:
            del self._feeds[feed.partition]
            self._graceful = self._graceful and graceful
            if self._feeds:
                if not (feed.at_end and self.until_eof):
                    self._leave(feed.partition)
                return
            consumer, self._consumer = self._consumer, None  # which ends the thread
            thread, graceful = self._thread, self._graceful
            self._change.notify_all()
        thread.join()
        assert consumer is not None
        # Both wait for an answer, for most of a minute where the broker is away.
        leaving = threading.Thread(target=self._close, args=(consumer, graceful), name="leave", daemon=True)
        leaving.start()
        leaving.join(self.source.wait if graceful else LEAVE)
        if leaving.is_alive() and graceful:
            LOG.warning("positions_not_committed", topic=self.source.topic, error="the broker does not answer")

    def _close(self, consumer: Consumer, graceful: bool) -> None:
        if graceful:
            self._commit(consumer, wait=True)
        consumer.close()

    def _commit(self, consumer: Consumer, *, wait: bool = False) -> None:
        # Never while another thread polls, which takes the answer that this one then waits for.
        with self._change:
            safe, self._safe = self._safe, {}
        places = [TopicPartition(self.source.topic, partition, offset) for partition, offset in safe.items()]
        try:
            if places and wait:
                consumer.commit(offsets=places, asynchronous=False)
            elif places:
                consumer.commit(offsets=places, asynchronous=True)
        except KafkaException as error:
            LOG.warning(
                "positions_not_committed",
                topic=self.source.topic,
                error=scrubbed(str(error.args[0]), self.source.kafka),
            )

    def _leave(self, partition: int) -> None:
        assert self._consumer is not None
        self._consumer.incremental_unassign([TopicPartition(self.source.topic, partition)])

    def _run(self, consumer: Consumer) -> None:
        try:
            while self._room(consumer):
                self._commit(consumer)
                if time.monotonic() >= self._next_measure:
                    self._measure(consumer)
                # The first message at once, and those that are there already or follow it within a moment.
                first = consumer.poll(LOOK)
                if first is None:
                    self._look_around(consumer)
                    continue
                self._down_since = None
                began = time.perf_counter()
                rest = consumer.consume(self.source.batch - 1, LINGER) if self.source.batch > 1 else []
                self._took("read", began)
                self._distribute([first, *rest])
        except Exception as error:  # noqa: BLE001  # it is raised again where the dataflow takes from the feeds
            with self._change:
                self._broken = error
                for feed in self._feeds.values():
                    feed.error = feed.error or error

    def _took(self, stage: str, began: float) -> None:
        if self._metrics is not None:
            self._metrics.took(stage, time.perf_counter() - began)

    def _measure(self, consumer: Consumer) -> None:
        """Where the partitions end, by what the client has been told with the messages."""
        self._next_measure = time.monotonic() + MEASURE_EVERY
        with self._change:
            feeds = list(self._feeds.values())
        for feed in feeds:
            place = TopicPartition(self.source.topic, feed.partition)
            with contextlib.suppress(KafkaException):  # not told yet
                high = consumer.get_watermark_offsets(place, cached=True)[1]
                feed.high = high if high >= 0 else feed.high
            lag = self._lag(feed)
            feed.caught_up = feed.caught_up or (lag is not None and lag < self.source.batch)

    def _room(self, consumer: Consumer) -> bool:
        """Wait until something may be read; false: no longer."""
        batch, topic = self.source.batch, self.source.topic
        with self._change:
            while self._consumer is consumer:
                feeds = list(self._feeds.values())
                starving = any(not (feed.waiting or feed.at_end or feed.error) for feed in feeds)
                if starving or sum(feed.waiting for feed in feeds) < AHEAD * batch:
                    for feed in feeds:
                        if starving and feed.waiting >= FAR_AHEAD * batch and not feed.paused:
                            consumer.pause([TopicPartition(topic, feed.partition)])
                            feed.paused = True
                        elif feed.paused and feed.waiting < batch:
                            consumer.resume([TopicPartition(topic, feed.partition)])
                            feed.paused = False
                    return True
                self._change.wait(LOOK)
            return False

    def _distribute(self, messages: list[Message]) -> None:
        """Decode what was read, and put it into the feeds."""
        partitions = list(map(Message.partition, messages))
        if any(map(Message.error, messages)):
            for partition in dict.fromkeys(partitions):
                self._judge([m for m, at in zip(messages, partitions, strict=True) if at == partition], partition)
        elif partitions.count(partitions[0]) == len(partitions):
            self._put(messages, partitions[0])
        else:
            for partition in dict.fromkeys(partitions):
                self._put([m for m, at in zip(messages, partitions, strict=True) if at == partition], partition)

    def _judge(self, messages: list[Message], partition: int | None) -> None:
        """Messages of one partition, the client's own words among them: its end, or what is wrong."""
        told = [error for message in messages if (error := message.error()) is not None]
        self._put([message for message in messages if message.error() is None], partition)
        with self._change:
            # What concerns no partition of ours concerns them all.
            mine = [self._feeds[partition]] if partition in self._feeds else list(self._feeds.values())
            for error in told:
                if error.code() != KafkaError._PARTITION_EOF:
                    for feed in mine:
                        if not self._passes(error, feed):
                            feed.error = feed.error or self._error(error, feed.partition)
                elif partition in self._feeds and (self.until_eof or messages[-1].error() is not None):
                    self._feeds[partition].at_end = True
                    if self.until_eof:
                        self._leave(partition)

    def _passes(self, error: KafkaError, feed: Feed) -> bool:
        """Whether the client goes on by itself, and has not tried for too long."""
        if error.code() not in PASSING:
            return False
        now = time.monotonic()
        # A fetch that brings nothing is not told of: that no other has failed for a while has to do.
        if feed.troubled is None or now - feed.failed > QUIET:
            feed.troubled = now
        feed.failed = now
        LOG.info("fetch_failed", topic=self.source.topic, partition=feed.partition, error=error.str())
        return now - feed.troubled < self.source.wait

    def _put(self, messages: list[Message], partition: int | None) -> None:
        feed = self._feeds.get(partition) if partition is not None else None
        if feed is None or not messages or (feed.at_end and self.until_eof):
            return  # read before the partition was left
        last = messages[-1].offset()
        assert last is not None
        began = time.perf_counter()
        items = feed.decode(Chunk(self.source.topic, feed.partition, messages))
        if self._metrics is not None:
            took, first = time.perf_counter() - began, messages[0].offset() or 0
            self._metrics.traced("decode", took, self.source.topic, feed.partition, first, len(messages))
            self._metrics.read(self.source.topic, len(messages))
        with self._change:
            feed.at_end, feed.next, feed.troubled = False, last + 1, None
            feed.waiting += len(messages)
            feed.ready.append(Ready(items, last + 1, len(messages)))

    def _on_error(self, error: KafkaError) -> None:
        self._last_error(error)
        if error.code() == KafkaError._ALL_BROKERS_DOWN and self._down_since is None:
            self._down_since = time.monotonic()
            LOG.warning("brokers_away", brokers=self.source.brokers, topic=self.source.topic)

    def _look_around(self, consumer: Consumer) -> None:
        """While nothing comes: is the cluster still there, are there new partitions?"""
        now = time.monotonic()
        if self._down_since is not None and now >= self._next_probe:
            self._next_probe = now + PROBE_EVERY
            self._probe(consumer, now - self._down_since)
        elif self._known and now >= self._next_look and self._first in self._feeds:
            self._next_look = now + NEW_PARTITIONS_EVERY
            try:
                there = len(consumer.list_topics(self.source.topic, timeout=1).topics[self.source.topic].partitions)
            except (KafkaException, KeyError):
                return  # the next look will tell; an absent broker is noticed elsewhere
            if there > self._known:
                LOG.warning("new_partitions", topic=self.source.topic, read=self._known, there=there, cure="restart")
                self._known = there

    def _probe(self, consumer: Consumer, silent: float) -> None:
        feed = next(iter(self._feeds.values()), None)
        if feed is None:
            return
        try:
            place = TopicPartition(self.source.topic, feed.partition)
            consumer.get_watermark_offsets(place, timeout=1, cached=False)
        except KafkaException as error:
            if silent >= self.source.wait:
                reason = self._last_error.text or scrubbed(str(error.args[0]), self.source.kafka)
                found = f"no broker at {self.source.brokers} has answered for {silent:.0f} s (source.wait): {reason}"
                raise BrokerError(found, self._last_error.cure) from error
            return
        LOG.info("brokers_back", brokers=self.source.brokers, topic=self.source.topic, silent_s=round(silent, 1))
        self._down_since = None

    def _error(self, error: KafkaError, partition: int) -> BrokerError:
        where = f"topic {self.source.topic!r} partition {partition} on {self.source.brokers}"
        text = scrubbed(error.str(), self.source.kafka)
        if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            at = self._feeds[partition].next
            return BrokerError(
                f"{where}: offset {at}, where the recovery state goes on, is not there any more: {text}",
                "the events were deleted, or the topic was made anew: start with another recovery.directory",
            )
        return BrokerError(f"{where}: {text}", self._last_error.cure)
