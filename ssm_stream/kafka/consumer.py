"""One consumer and one thread per topic and process: they read and decode ahead of the dataflow, a bounded number of
chunks, whatever the number of partitions and workers.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from ssm_stream.config import Source
from ssm_stream.kafka.client import (
    ABSENT,
    PROPERTY_ERRORS,
    BrokerError,
    LastError,
    client_properties,
    kafka_error,
    property_error,
    read_error,
    redact_text,
)
from ssm_stream.kafka.outages.classify import is_retriable
from ssm_stream.kafka.outages.patience import watermarks
from ssm_stream.kafka.partition_queue import Decode, DecodedChunk, PartitionQueue, adjust_pauses, has_room
from ssm_stream.kafka.records import Chunk
from ssm_stream.kafka.watch.topic import TopicWatch
from ssm_stream.kafka.watch.transactions import TransactionWatch
from ssm_stream.kafka.wire.fetching import IDLE_POLL, Fetched, Fetcher, fetcher_of
from ssm_stream.kafka.wire.library import with_plugin
from ssm_stream.kafka.wire.messages import ReadMessage, unread
from ssm_stream.ops.observers import UNOBSERVED, ChunkPlace, PartitionPosition, RunObserver

LOG = structlog.get_logger("ssm_stream.source")
QUIET = 10.0  # seconds without a failed fetch after which the next one counts as the first
LEAVE_TIMEOUT = 1.0  # seconds for leaving the group after an error
PROBE_INTERVAL = 2.0  # seconds between requests to a cluster that is away
MEASURE_INTERVAL = 1.0  # seconds between measurements of the partitions' ends


class PrefetchConsumer:
    """Reads partitions of one topic into their queues, from the first that is attached to the last that is detached."""

    def __init__(
        self,
        source: Source,
        partitions: tuple[int, ...],
        *,
        until_eof: bool = False,
        observers: RunObserver = UNOBSERVED,
    ) -> None:
        self.source, self.until_eof, self._observers = source, until_eof, observers
        self._queues: dict[int, PartitionQueue] = {}
        self._defaults: dict[str, Any] = {}  # more properties, which the configuration may change
        self._change = threading.Condition()
        self._safe: dict[int, int] = {}  # offsets to be committed
        self.note = ""  # what commits carry: the folder of the state, see `earlier_runs`
        self._left = set[int]()  # partitions that were left while the thread may have had messages of them in hand
        self._graceful = True
        self._consumer: Consumer | None = None
        self._fetcher: Fetcher
        self._thread = threading.Thread()
        self._broken: Exception | None = None  # what ended the thread
        self._watch = TopicWatch(source, len(partitions) if source.partitions is None else 0)
        self._transactions, self._last_error = TransactionWatch(source), LastError(source)
        self._down_since: float | None = None
        self._next_probe = self._next_measure = 0.0
        observers.register_reader(self)

    def queues(self) -> list[PartitionQueue]:
        """Return the queues of the partitions that are read."""
        with self._change:
            return list(self._queues.values())

    def positions(self) -> list[PartitionPosition]:
        """Return how far each partition is processed, and its lag."""
        with self._change:
            return [self._position(queue) for queue in self._queues.values()]

    def _position(self, q: PartitionQueue) -> PartitionPosition:
        return PartitionPosition(self.source.topic, q.partition, q.taken, q.lag, q.caught_up, q.read_at)

    @property
    def away(self) -> bool:
        """Whether no broker answers at the moment."""
        return self._down_since is not None

    def attach(self, partition: int, resume: int | None, decode: Decode) -> PartitionQueue:
        """Begin to read a partition.

        Raises:
            BrokerError: the broker does not report where the partition begins.
        """
        with self._change:
            while partition in self._left and self._thread.is_alive():  # until it has put away what was read before
                self._change.wait(IDLE_POLL)
            consumer = self._consumer or self._connect()
            # A number even without recovery state: an idle partition must have a place to resume at.
            first = resume if resume is not None else self._start_offset(consumer, partition)
            self._begin(consumer, {partition: first}, lambda: decode)
            if self._consumer is None:
                self._consumer = consumer
                name = f"read {self.source.topic}"
                self._thread = threading.Thread(target=self._run, args=(consumer,), name=name, daemon=True)
                self._thread.start()
            return self._queues[partition]

    def _begin(self, consumer: Consumer, firsts: Mapping[int, int], decoder: Callable[[], Decode]) -> None:
        """Begin to read partitions. firsts: offset by partition; decoder: makes what decodes the chunks of one"""
        with self._change:
            for partition, first in firsts.items():
                self._queues[partition] = queue = PartitionQueue(partition, first, decoder())
                queue.error = self._broken
        self._fetcher.add(self.source.topic, firsts)
        consumer.incremental_assign([TopicPartition(self.source.topic, p, first) for p, first in firsts.items()])
        self._fetcher.add(self.source.topic, firsts)  # again: where one was left just now, its stop undoes it later
        consumer.resume([TopicPartition(self.source.topic, p) for p in firsts])  # one left while paused is paused still

    def _connect(self) -> Consumer:
        defaults = {
            "group.id": self.source.group_id,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "fetch.wait.max.ms": 20,
            # Of all partitions together. A client that had enough must fetch again soon, else the dataflow starves.
            "queued.min.messages": max(5 * self.source.batch, 1000),
            "fetch.queue.backoff.ms": 20,
            # Some brokers answer with all that a partition holds, whatever the request's limit.
            "receive.message.max.bytes": 1_000_000_000,
        }
        configured = client_properties(self.source, error_cb=self._on_error)
        try:
            consumer = Consumer(with_plugin({**defaults, **self._defaults, **configured, "enable.auto.commit": False}))
        except PROPERTY_ERRORS as error:
            raise property_error(error, self.source) from None
        self._fetcher = fetcher_of(consumer, self.source.topic)
        # One with the topic's metadata before the assignment starts half a second sooner.
        with contextlib.suppress(KafkaException):  # an absent broker is noticed elsewhere
            consumer.list_topics(self.source.topic, timeout=1)
        return consumer

    def _start_offset(self, consumer: Consumer, partition: int) -> int:
        try:
            low, high = watermarks(consumer, TopicPartition(self.source.topic, partition), self.source.wait)
        except KafkaException as error:
            raise self._error(kafka_error(error), partition) from error
        return low if self.source.start == "earliest" else high

    def take(self, queue: PartitionQueue, limit: int) -> tuple[list[DecodedChunk], bool]:
        """Return the next chunks of a partition, together `limit` messages or fewer but at least one chunk if there is
        one; and whether the partition has no more.

        Raises:
            BrokerError: what ended the reading, in the broker's words.
        """
        with self._change:
            taken = queue.take(limit)
            if taken:
                self._change.notify_all()
            elif queue.error is not None:
                raise queue.error
            return taken, queue.at_end and not queue.ready

    def commit(self, queue: PartitionQueue, offset: int) -> None:
        """Commit, at the next opportunity, up to where a partition is safe, for tools that show the lag."""
        with self._change:
            self._safe[queue.partition] = offset

    def epoch_ended(self, partition: int, durable: int) -> None:
        """Count an epoch, whether it had messages or not. durable: offset up to which the state is on the disk"""
        self._observers.on_epoch(None)
        if durable >= 0:
            self._observers.on_durable(self.source.topic, partition, durable)

    def detach(self, queue: PartitionQueue, *, graceful: bool) -> None:
        """Stop reading a partition. With the last one the thread and the consumer end.

        Args:
            graceful: wait until the broker has the offsets of `commit`
        """
        with self._change:
            self._observers.on_left(self._position(self._queues.pop(queue.partition)))
            self._graceful = self._graceful and graceful
            if self._queues:
                self._left.add(queue.partition)
                if not (queue.at_end and self.until_eof):
                    self._unassign(queue.partition)
                return
            consumer, self._consumer = self._consumer, None  # which ends the thread
            thread, graceful, fetcher = self._thread, self._graceful, self._fetcher
            self._change.notify_all()
        thread.join()
        assert consumer is not None
        # Commit and close wait for an answer, for most of a minute if the broker is away.
        leaving = threading.Thread(target=self._close, args=(consumer, fetcher, graceful), name="leave", daemon=True)
        leaving.start()
        leaving.join(self.source.wait if graceful else LEAVE_TIMEOUT)
        if leaving.is_alive() and graceful:
            LOG.warning("positions_not_committed", topic=self.source.topic, error="the broker does not answer")

    def _close(self, consumer: Consumer, fetcher: Fetcher, graceful: bool) -> None:
        if graceful:
            self._commit(consumer, wait=True)
        fetcher.close()
        consumer.close()

    def _commit(self, consumer: Consumer, *, wait: bool = False) -> None:
        # Never while another thread polls, which takes the answer that this one then waits for.
        with self._change:
            safe, self._safe = self._safe, {}
        places = [TopicPartition(self.source.topic, part, offset, self.note) for part, offset in safe.items()]
        try:
            if places and wait:
                consumer.commit(offsets=places, asynchronous=False)
            elif places:
                consumer.commit(offsets=places, asynchronous=True)
        except KafkaException as error:
            refused = read_error(self.source, kafka_error(error).str(), kafka_error(error), self._last_error)
            text = redact_text(refused.found, self.source.kafka)
            LOG.warning("positions_not_committed", topic=self.source.topic, error=text, cure=refused.cure)

    def _unassign(self, partition: int) -> None:
        assert self._consumer is not None
        self._consumer.incremental_unassign([TopicPartition(self.source.topic, partition)])

    def _run(self, consumer: Consumer) -> None:
        try:
            fetcher = self._fetcher
            while self._wait_for_room(consumer):
                self._commit(consumer)
                self._measure(consumer)
                self._process(consumer, fetcher.fetch(self.source.batch, self._observers.timed))
        except Exception as error:  # noqa: BLE001  # raised again where the dataflow takes from the queues
            with self._change:
                self._broken = error
                for queue in self._queues.values():
                    queue.error = queue.error or error

    def _process(self, consumer: Consumer, fetched: Sequence[Fetched]) -> None:
        """Put what has come into the queues; while nothing comes, check the cluster."""
        if not fetched:
            self._check_cluster(consumer)
            return
        self._down_since = None
        for each in fetched:
            self._put(each.messages, each.partition)
            if each.errors:
                self._note(each)

    def _measure(self, consumer: Consumer) -> None:
        """Update where the partitions end, from what the broker sent with the messages, and whether they are there.

        Raises:
            BrokerError: the topic is gone.
        """
        if self._watch.is_due() and self._down_since is None:
            self._watch.check(consumer, [queue.partition for queue in self.queues()], until_eof=self.until_eof)
        if (now := time.monotonic()) < self._next_measure:
            return
        self._next_measure = now + MEASURE_INTERVAL
        for queue in self.queues():
            self._measure_end(consumer, queue)
            if not self.until_eof:
                self._transactions.note(queue.partition, queue.end, queue.held_back)
            lag = queue.lag
            queue.caught_up = queue.caught_up or (lag is not None and lag < self.source.batch)

    def _measure_end(self, consumer: Consumer, queue: PartitionQueue) -> None:
        """Update where a partition ends, from what the broker sent with the messages."""
        with contextlib.suppress(KafkaException):  # nothing came yet
            place = TopicPartition(self.source.topic, queue.partition)
            high = consumer.get_watermark_offsets(place, cached=True)[1]
            queue.high = high if high >= 0 else queue.high

    def _wait_for_room(self, consumer: Consumer) -> bool:
        """Wait until the queues have room for another chunk, pause or resume partitions. Return False at the end."""
        batch = self.source.batch
        with self._change:
            while self._consumer is consumer:
                self._left.clear()  # here the thread has no messages in hand
                queues = list(self._queues.values())
                if has_room(queues, batch):
                    adjust_pauses(consumer, self.source.topic, queues, batch, room=True)
                    return True
                self._change.wait(IDLE_POLL)
            return False

    def _note(self, fetched: Fetched) -> None:
        """Note events of the client: a partition's end, or an error."""
        partition = fetched.partition
        with self._change:
            # An error without a partition of ours concerns them all.
            mine = [self._queues[partition]] if partition in self._queues else list(self._queues.values())
            for error in fetched.errors:
                if error.code() != KafkaError._PARTITION_EOF:
                    for queue in mine:
                        if not self._is_transient(error, queue):
                            queue.error = queue.error or self._error(error, queue.partition)
                elif partition in self._queues and (self.until_eof or fetched.ends):
                    queue = self._queues[partition]
                    queue.at_end, queue.end = True, max(fetched.end, queue.next)
                    if self.until_eof:
                        assert self._consumer is not None
                        self._measure_end(self._consumer, queue)
                        self._transactions.note_end(partition, queue.end, queue.held_back)
                        self._unassign(partition)

    def _is_transient(self, error: KafkaError, queue: PartitionQueue) -> bool:
        """Return True if the client repeats the fetch by itself, and has done so for less than `source.wait`."""
        if not is_retriable(error):
            return False
        now = time.monotonic()
        # A fetch that succeeds without messages is not reported: a time without failures counts as success.
        if queue.failing_since is None or now - queue.failed > QUIET:
            queue.failing_since = now
        queue.failed = now
        LOG.info("fetch_failed", topic=self.source.topic, partition=queue.partition, error=error.str())
        # Whether the topic is gone is for the watch to find, which requests it by itself.
        return error.code() in ABSENT or now - queue.failing_since < self.source.wait

    def _put(self, messages: Sequence[ReadMessage], partition: int | None) -> None:
        """Decode messages, and put them into the queue of their partition."""
        queue = self._queues.get(partition) if partition is not None else None
        if queue is None or not messages or (queue.at_end and self.until_eof):
            return  # read before the partition was left
        if not (messages := unread(messages, queue.next)):
            return
        last = messages[-1].offset()
        assert last is not None
        began = time.perf_counter()
        items: list[Any] = queue.decode(Chunk(self.source.topic, queue.partition, messages))
        chunk = ChunkPlace(self.source.topic, queue.partition, messages[0].offset() or 0, len(messages))
        self._observers.observe_stage("decode", time.perf_counter() - began, chunk)
        self._observers.on_read(self.source.topic, len(messages))
        with self._change:
            queue.put(items, last, len(messages))

    def _on_error(self, error: KafkaError) -> None:
        self._last_error(error)
        if error.code() == KafkaError._ALL_BROKERS_DOWN and self._down_since is None:
            self._down_since = time.monotonic()
            LOG.warning("brokers_away", brokers=self.source.brokers, topic=self.source.topic)

    def _check_cluster(self, consumer: Consumer) -> None:
        """Check while nothing comes whether a broker that was away answers."""
        now = time.monotonic()
        if self._down_since is not None and now >= self._next_probe:
            self._next_probe = now + PROBE_INTERVAL
            self._probe(consumer, now - self._down_since)

    def _probe(self, consumer: Consumer, seconds: float) -> None:
        """Request something of the broker that has been away for so long.

        Raises:
            BrokerError: it does not answer, and `source.wait` is over.
        """
        queue = next(iter(self._queues.values()), None)
        if queue is None:
            return
        try:
            place = TopicPartition(self.source.topic, queue.partition)
            consumer.get_watermark_offsets(place, timeout=1, cached=False)
        except KafkaException as error:
            if seconds >= self.source.wait:
                reason = self._last_error.text or redact_text(kafka_error(error).str(), self.source.kafka)
                found = f"no broker at {self.source.brokers} has answered for {seconds:.0f} s (source.wait): {reason}"
                raise BrokerError(found, self._last_error.cure) from error
            return
        LOG.info("brokers_back", brokers=self.source.brokers, topic=self.source.topic, silent_s=round(seconds, 1))
        self._down_since = None

    def _error(self, error: KafkaError, partition: int) -> BrokerError:
        where = f"topic {self.source.topic!r} partition {partition} on {self.source.brokers}"
        text = redact_text(error.str(), self.source.kafka)
        if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            at = self._queues[partition].next
            return BrokerError(
                f"{where}: offset {at}, where the recovery state continues, no longer exists: {text}",
                "the events were deleted, or the topic was created again. To go on with all that was learned: "
                "ssm-stream state resume CONFIG --from earliest; or set source.on_gap: resume",
                passes=self.source.on_gap == "resume",  # the next start resumes
            )
        found = read_error(self.source, f"{where}: {text}", error, self._last_error)
        found.passes = False  # it was waited for
        return found
