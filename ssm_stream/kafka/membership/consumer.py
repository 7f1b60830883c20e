"""Reads the partitions that the group assigns to this member, from the offsets that the group has committed.

One thread polls and decodes ahead of the dataflow. It calls the consumer alone, rebalances included: other threads give
it what they need done (`_in_reader`). While partitions are taken away it waits until the dataflow has ended.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from ssm_stream.config import Config
from ssm_stream.engine.snapshot_format import StateError
from ssm_stream.kafka.client import BrokerError, kafka_error, open_consumer
from ssm_stream.kafka.consumer import LEAVE_TIMEOUT, PrefetchConsumer
from ssm_stream.kafka.membership.commit import Commit, parse_commit, places_of
from ssm_stream.kafka.membership.fencing import end_transactions
from ssm_stream.kafka.membership.further import DELETED
from ssm_stream.kafka.partition_queue import Decode, DecodedChunk, adjust_pauses, has_room
from ssm_stream.kafka.wire.fetching import IDLE_POLL
from ssm_stream.ops.observers import UNOBSERVED, RunObserver

LOG = structlog.get_logger("ssm_stream.source")
T = TypeVar("T")
STALLED = 1.0
"""Seconds without room after which the partitions are paused, so that rebalances go on."""
RETRY = 0.2
"""Seconds between two requests for the committed offsets, while the broker refuses them."""
UNSTABLE = 0.5
"""Seconds for which a transaction that ends by itself may hold back the committed offsets."""
COOPERATIVE = {
    "partition.assignment.strategy": "cooperative-sticky",
    "session.timeout.ms": 10_000,
    "heartbeat.interval.ms": 500,
}
"""Properties of a member, unless `source.kafka` has others."""


class Rebalances(Protocol):
    """Who holds what a member has of its partitions. All but `idle` are called by the reader's thread."""

    def assigned(self, commits: Mapping[int, Commit]) -> dict[int, Commit]:
        """Load the states of partitions, and return what each goes on from: its offset is None without a state."""

    def end_flow(self, partitions: Sequence[int], *, lost: bool) -> None:
        """Have the dataflow end. lost: others may hold the partitions already, so nothing may be committed"""

    @property
    def idle(self) -> bool:
        """Whether no dataflow runs."""

    def dropped(self, partitions: Sequence[int]) -> None:
        """Forget partitions, and let the dataflow begin again."""


def member_defaults(source_kafka: Mapping[str, Any]) -> dict[str, Any]:
    """Return the properties of a member by default: with `group.protocol: consumer` the broker has them."""
    return {} if source_kafka.get("group.protocol") == "consumer" else dict(COOPERATIVE)


class GroupConsumer(PrefetchConsumer):
    """Reads the partitions that the group assigns, from `join` until `leave`."""

    def __init__(
        self, config: Config, rebalances: Rebalances, decoder: Callable[[], Decode], observers: RunObserver = UNOBSERVED
    ) -> None:
        super().__init__(config.source, (), observers=observers)  # the group finds partitions that are added
        self._config, self._rebalances, self._decoder = config, rebalances, decoder
        self._defaults = member_defaults(config.source.kafka)
        self._requests: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = queue.SimpleQueue()
        self._leaving = self._rebalanced = False
        self._polled = 0.0
        self._after = -1  # the partition that was taken from last
        self.joined = False
        self.topic_partitions = 0
        """Partitions that the topic had at the last rebalance."""
        self.member = self.transactions = ""
        """Ids of this member in the group, and of its transactions."""
        self.former = set[str]()
        """Ids of transactions that it has given up."""

    def join(self) -> None:
        """Join the group and begin to read what it assigns."""
        self._consumer = consumer = self._connect()
        consumer.subscribe(
            [self.source.topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )
        self._thread = threading.Thread(
            target=self._run, args=(consumer,), name=f"read {self.source.topic}", daemon=True
        )
        self._thread.start()

    def leave(self, *, graceful: bool = True) -> None:
        """Leave the group: its other members take the partitions over at once. The dataflow has ended before."""
        self._leaving = True
        with self._change:
            self._change.notify_all()
        self._thread.join(self.source.wait)
        consumer, self._consumer = self._consumer, None
        if consumer is None:
            return
        # An answer may take most of a minute if the broker is away.
        self._fetcher.close()
        closing = threading.Thread(target=consumer.close, name="leave", daemon=True)
        closing.start()
        closing.join(self.source.wait if graceful else LEAVE_TIMEOUT)
        self.joined = False

    # What the dataflow does.

    def take_next(self, limit: int) -> tuple[int, list[DecodedChunk]] | None:
        """Return the next chunks of one of the partitions, in turn; None if there are none.

        Raises:
            BrokerError: what ended the reading, in the broker's words.
        """
        with self._change:
            ordered = sorted(self._queues.values(), key=lambda each: (each.partition <= self._after, each.partition))
            for each in ordered:
                if taken := each.take(limit):
                    self._after = each.partition
                    self._change.notify_all()
                    return each.partition, taken
            broken = self._broken or next((each.error for each in ordered if each.error is not None), None)
            if broken is not None:
                raise broken
            return None

    def first_of(self, partition: int) -> int:
        """Return the offset from which on a partition is read."""
        with self._change:
            return self._queues[partition].first

    @property
    def at_end(self) -> bool:
        """Whether all partitions were at their end when they were read last."""
        with self._change:
            return all(each.at_end for each in self._queues.values())

    @property
    def broken(self) -> Exception | None:
        """What ended the reading."""
        return self._broken

    def commit_group(self, commits: Mapping[int, Commit]) -> None:
        """Commit offsets, without a transaction.

        Raises:
            BrokerError: the broker refuses, as when the group has given the partitions to others.
        """
        self._in_reader(lambda: self._commit_places(commits))

    def metadata(self) -> Any:
        """Return what names this member and its generation to the broker; None if it is no member."""
        return self._in_reader(lambda: self._consumer and self._consumer.consumer_group_metadata())

    def restart(self) -> None:
        """Begin anew with all partitions that are held, from what is committed: nothing else is kept.

        Raises:
            BrokerError: the broker does not answer.
            StateError, RecoveryError: a state cannot be loaded.
        """
        self._in_reader(self._restart)

    def _restart(self) -> None:
        with self._change:
            held = sorted(self._queues)
        assert self._consumer is not None
        if held:
            self._consumer.incremental_unassign([self._place(partition) for partition in held])
            self._forget(held)
            self._assign(self._consumer, held)

    # The reader's thread.

    def _run(self, consumer: Consumer) -> None:
        try:
            while not self._leaving:
                self._serve()
                if not self._has_room(consumer):
                    continue
                self._measure(consumer)
                fetched = self._fetcher.fetch(self.source.batch, self._observers.timed)
                if self._broken is not None:
                    raise self._broken  # of a rebalance
                if self._rebalanced:
                    self._count_partitions(consumer)
                self.joined = self.joined or (not fetched and bool(consumer.memberid()))
                self._process(consumer, fetched)
        except Exception as error:  # noqa: BLE001  # raised again where the dataflow takes from the queues
            with self._change:
                self._broken = self._broken or error
            self._serve()

    def _count_partitions(self, consumer: Consumer) -> None:
        """Count the topic's, for the metrics.

        Not within a callback: it would undo what the client keeps of the call that runs callbacks, and the next one
        would end the process.
        """
        self._rebalanced = False
        with contextlib.suppress(KafkaException):  # the next rebalance has it
            found = consumer.list_topics(self.source.topic, timeout=1.0).topics[self.source.topic]
            self.topic_partitions = len(found.partitions)

    def _has_room(self, consumer: Consumer) -> bool:
        """Return whether to poll: there is room for another chunk, or else rebalances must go on."""
        batch, now = self.source.batch, time.monotonic()
        with self._change:
            queues = list(self._queues.values())
            room = has_room(queues, batch)
            if not room and now - self._polled < STALLED:
                self._change.wait(IDLE_POLL)
                return False
            adjust_pauses(consumer, self.source.topic, queues, batch, room=room)
            self._polled = now if room else self._polled
            return True

    def _serve(self) -> None:
        """Do what other threads have requested."""
        while True:
            try:
                call, answer = self._requests.get_nowait()
            except queue.Empty:
                return
            try:
                if self._broken is not None:
                    raise self._broken
                answer.set_result(call())
            except Exception as error:  # noqa: BLE001  # raised again in the thread that waits
                answer.set_exception(self._explain(error))

    def _in_reader(self, call: Callable[[], T]) -> T:
        """Return the result of a call in the reader's thread. What it raises is raised here."""
        answer = Future[T]()
        self._requests.put((call, answer))
        while True:
            try:
                return answer.result(0.2)
            except TimeoutError:
                if answer.done():
                    raise
                if not self._thread.is_alive():
                    raise self._broken or BrokerError(
                        f"the group {self.source.group_id!r} was left", "start again"
                    ) from None

    # Rebalances: called within `poll` and `close`.

    def _on_assign(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        partitions = sorted(place.partition for place in places)
        self.joined = self._rebalanced = True
        try:
            if partitions:
                self._assign(consumer, partitions)
        except Exception as error:  # noqa: BLE001  # ends the reading
            self._broken = self._broken or self._explain(error)

    def _on_revoke(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        self._take_away(consumer, places, lost=False)

    def _on_lost(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        self._take_away(consumer, places, lost=True)

    def _take_away(self, consumer: Consumer, places: list[TopicPartition], *, lost: bool) -> None:
        partitions = sorted(place.partition for place in places)
        self._rebalances.end_flow(partitions, lost=lost)
        while not self._rebalances.idle:
            self._serve()
            time.sleep(0.002)
        self._forget(partitions)
        consumer.incremental_unassign(places)

    def _forget(self, partitions: Sequence[int]) -> None:
        with self._change:
            for partition in partitions:
                self._queues.pop(partition, None)
        self._rebalances.dropped(partitions)

    def _assign(self, consumer: Consumer, partitions: Sequence[int]) -> None:
        commits = self._committed(consumer, partitions)
        try:
            found = self._rebalances.assigned(commits)
        except StateError:
            # A member that hung here finds the files of its commits gone: others have gone on meanwhile.
            if (later := self._committed(consumer, partitions)) == commits:
                raise
            found = self._rebalances.assigned(later)
        firsts = {p: self._start_offset(consumer, p) if c.offset is None else c.offset for p, c in found.items()}
        self._begin(consumer, firsts, self._decoder)
        self.member = consumer.memberid() or ""
        self._claim({p: found[p]._replace(offset=first) for p, first in firsts.items()})

    def _claim(self, commits: Mapping[int, Commit]) -> None:
        """Commit that the partitions are this member's, so that a successor can end its transactions."""
        mine = {p: c._replace(transactions=self.transactions, member=self.member) for p, c in commits.items()}
        try:
            if self.transactions:
                self._commit_places(mine)
        except BrokerError as error:
            LOG.warning("partitions_not_claimed", partitions=sorted(mine), error=str(error))

    def _committed(self, consumer: Consumer, partitions: Sequence[int]) -> dict[int, Commit]:
        """Return what the group has committed, after the transactions of members that are gone have been ended.

        Raises:
            BrokerError: the broker refuses, or does not answer for `source.wait`.
        """
        deadline = time.monotonic() + self.source.wait
        while True:
            try:
                return self._read_commits(consumer, partitions)
            except KafkaException as error:  # the coordinator may move meanwhile
                if time.monotonic() > deadline or self._leaving:
                    raise self._explain(error) from error
                time.sleep(RETRY)

    def _read_commits(self, consumer: Consumer, partitions: Sequence[int]) -> dict[int, Commit]:
        places = [self._place(partition) for partition in partitions]
        try:
            found = _commits(consumer.committed(places, timeout=UNSTABLE))
        except KafkaException:  # a transaction holds the offsets back: see whose
            unstable = {"isolation.level": "read_uncommitted"}
            with open_consumer(self.source, self._last_error, **unstable) as other:
                held = _commits(other.committed(places, timeout=self.source.wait))
            self._end_transactions(held)
            return _commits(consumer.committed(places, timeout=self.source.wait))
        self._end_transactions(found)
        return found

    def _end_transactions(self, commits: Mapping[int, Commit]) -> None:
        if ended := end_transactions(self._config, commits.values(), self.transactions, self.former):
            LOG.info("transactions_ended", of=ended, why="their member has left the group, or has given them up")

    def _commit_places(self, commits: Mapping[int, Commit]) -> None:
        assert self._consumer is not None
        try:
            for place in self._consumer.commit(offsets=places_of(self.source.topic, commits), asynchronous=False):
                if place.error is not None:
                    raise KafkaException(place.error)
        except KafkaException as error:
            raise self._explain(error) from error

    def _error(self, error: KafkaError, partition: int) -> BrokerError:
        if error.code() not in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            return super()._error(error, partition)
        queue = self._queues.get(partition)
        where = f"topic {self.source.topic!r} partition {partition} on {self.source.brokers}"
        return BrokerError(
            f"{where}: offset {'' if queue is None else queue.next}, where the group goes on, no longer exists",
            DELETED,
        )

    def _explain(self, error: Exception) -> Exception:
        if not isinstance(error, KafkaException):
            return error
        found = f"group {self.source.group_id!r} on {self.source.brokers}: {kafka_error(error).str()}"
        return BrokerError(found, self._last_error.cure)

    def _place(self, partition: int, *more: Any) -> TopicPartition:
        return TopicPartition(self.source.topic, partition, *more)


def _commits(places: Sequence[TopicPartition]) -> dict[int, Commit]:
    """Return what is committed by partition."""
    for place in places:
        if place.error is not None:
            raise KafkaException(place.error)
    return {place.partition: parse_commit(place.offset, place.metadata) for place in places}
