"""One member of a group: the partitions that it holds, their states, and what is committed of them.

Kafka's reader assigns and takes away; the dataflow learns and, at the end of an epoch, delivers. Where partitions are
taken away the dataflow ends, its last epoch committed, and begins again with what is left: a planned crash. After an
error everything that is not committed is forgotten, and the member goes on from what is.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence

import structlog

from ssm_stream.config import Config
from ssm_stream.kafka.client import STOP
from ssm_stream.kafka.context.rows import RowFacts
from ssm_stream.kafka.membership.commit import Commit
from ssm_stream.kafka.membership.consumer import GroupConsumer
from ssm_stream.kafka.membership.further import first_left
from ssm_stream.kafka.membership.producer import CommittingProducer, GroupTransactions
from ssm_stream.kafka.partition_queue import Decode
from ssm_stream.kafka.records import LabelBatch, ShardBatch, shard_key
from ssm_stream.operators.catch_up import GroupCatchUpDecoder
from ssm_stream.operators.group.inputs import MemberInputs
from ssm_stream.operators.group.partitions import HeldPartition, PartitionLoader
from ssm_stream.operators.shard_operator import events_of
from ssm_stream.ops.observers import RunObserver
from ssm_stream.recovery.catch_up import CatchUp
from ssm_stream.recovery.positions import Positions
from ssm_stream.recovery.store.audit import GroupAudit
from ssm_stream.recovery.store.flow_store import FlowStore

LOG = structlog.get_logger("ssm_stream")


class Member:
    """Holds partitions between the reader and the dataflow; `Rebalances` of the reader.

    decoder: makes what decodes the chunks of a partition
    catch_up: what a rewind has left to be read again
    audit: of the partitions
    facts: joins context topics to rows; None where no row has facts
    """

    def __init__(
        self,
        config: Config,
        store: FlowStore,
        decoder: Callable[[], Decode],
        observers: RunObserver,
        catch_up: CatchUp | None = None,
        audit: GroupAudit | None = None,
        facts: RowFacts | None = None,
    ) -> None:
        self._audit = audit
        self._catch_up = catch_up
        self.resume: Positions = {}
        """Where each partition was read on."""
        self.config, self.observers = config, observers
        self._loader = PartitionLoader(config, store, observers, catch_up, audit, facts)
        self.held: dict[int, HeldPartition] = {}
        self.rebalances = 0
        self.positions: Positions = {}
        """Next offset of each partition at the end of the epoch; those without messages since the start are absent."""
        self.failure: Exception | None = None
        """What ended the dataflow, which goes on from what is committed."""
        self.aborted = False
        """Whether the last dataflow has ended without a commit of its last epoch."""
        self._change = threading.Condition()
        self._running = self._ending = self.lost = False
        self._leaving: set[int] = set()
        self._pending: dict[int, Commit] = {}
        self._commits = 0
        self.inputs = MemberInputs(config, self._following(decoder), observers)
        self.consumer = GroupConsumer(config, self, self.inputs.decoder, observers)
        self._producer: CommittingProducer | GroupTransactions | None = None
        self.discard_producer()

    def _following(self, decoder: Callable[[], Decode]) -> Callable[[], Decode]:
        """Return what makes decoders that mark what was delivered before a rewind."""
        found = self._catch_up
        if found is None:
            return decoder
        return lambda: GroupCatchUpDecoder(decoder(), self.config.source, found, self.resume)

    # The dataflow.

    def begin(self) -> bool:
        """Wait until no partitions are being taken away, and begin a dataflow. Return False where the process ends."""
        with self._change:
            while self._ending and not STOP.is_set() and self.consumer.broken is None:
                self._change.wait(0.1)
            if STOP.is_set():
                return False
            self.positions, self._pending, self.failure = {}, {}, None
            self._running = True
            return True

    def end(self) -> None:
        """The dataflow has ended."""
        with self._change:
            self.aborted = self.must_abort
            self._running = False
            self._change.notify_all()

    @property
    def must_end(self) -> bool:
        """Whether the dataflow ends with this epoch."""
        return self._ending or STOP.is_set()

    @property
    def must_abort(self) -> bool:
        """Whether the dataflow ends without another commit."""
        return self.lost or self.failure is not None

    @property
    def rebalancing(self) -> bool:
        """Whether partitions are being taken away."""
        return self._ending

    def fail(self, error: Exception) -> None:
        """End the dataflow: what it has not committed is done again."""
        self.failure = self.failure or error

    def producer(self) -> CommittingProducer | GroupTransactions:
        """Return the producer of the dataflow: the same, until a dataflow ends without a commit."""
        if self._producer is None:
            kind = GroupTransactions if self.config.delivery == "exactly_once" else CommittingProducer
            self._producer = kind(self.config, self.consumer, self.commits)
        return self._producer

    def discard_producer(self) -> None:
        """Have the next dataflow begin with another producer, whose transactions have another name."""
        self._producer = None
        if self.config.delivery == "exactly_once":
            if self.consumer.transactions:
                self.consumer.former.add(self.consumer.transactions)
            self.consumer.transactions = f"{self.config.source.group_id}-{uuid.uuid4().hex[:12]}"

    def write(self, partition: int) -> None:
        """Write the snapshot of a partition, at the end of an epoch."""
        held, began = self.held[partition], time.perf_counter()
        self.observers.before_snapshot(held.logic)
        held.logic.write_notes()
        name = held.snapshots.write(held.logic.engine, self._place(partition).number)
        self.observers.on_snapshot(held.logic, name, time.perf_counter() - began, held.snapshots.written)
        self.observers.on_evicted(held.logic.engine.pop_evicted_count())

    def write_ahead(self, partition: int, values: Sequence[ShardBatch | LabelBatch]) -> None:
        """Write what has changed while the epoch goes on. values: that were processed since the last call"""
        if self._audit is None:  # whose record has all that an epoch has changed
            held = self.held[partition]
            held.snapshots.write_ahead(held.logic.engine, events_of(values), held.committed.number)

    def _place(self, partition: int) -> Commit:
        """Return the offsets of a partition at the end of the epoch."""
        held = self.held[partition]
        before = self.consumer.first_of(partition) if held.committed.offset is None else held.committed.offset
        offset = self.positions.get((self.config.source.topic, partition), before)
        further = {topic: self.positions.get((topic, partition), first) for topic, first in held.further.items()}
        return Commit(offset, further=tuple(further.items()))

    def commits(self, produced: Mapping[tuple[str, int], int]) -> Mapping[int, Commit]:
        """Return what is to be committed at the end of an epoch; its snapshots are on the disk.

        produced: the last offset of each topic and partition whose results were produced
        """
        self._pending = {}
        beyond = [place for place, last in produced.items() if last >= self.positions.get(place, 0)]
        if beyond:
            raise RuntimeError(f"partitions {beyond}: results beyond the end of the epoch, which nothing may commit")
        for partition in sorted({partition for _, partition in self.positions}):
            held = self.held[partition]
            held.snapshots.wait()
            if self._audit is not None:
                self._audit.wait(shard_key(partition))
            found = self._place(partition)._replace(snapshot=held.snapshots.name)
            if found != held.committed._replace(transactions="", member=""):
                gone = STOP.is_set() or partition in self._leaving
                owner = ("", "") if gone else (self.consumer.transactions, self.consumer.member)
                self._pending[partition] = found._replace(transactions=owner[0], member=owner[1])
        return self._pending

    def committed(self) -> None:
        """What `commits` returned is committed."""
        self._commits += bool(self._pending)
        for partition, commit in self._pending.items():
            held = self.held[partition]
            held.committed, held.further = commit, dict(commit.further)
            if commit.snapshot:
                held.snapshots.commit(commit.offset or 0, commit.further)
                if self._audit is not None:
                    self._audit.commit(shard_key(partition))
            for topic, offset in ((self.config.source.topic, commit.offset or 0), *commit.further):
                self.observers.on_durable(topic, partition, offset)
        self._pending = {}

    @property
    def commit_count(self) -> int:
        """Epochs that were committed, so that a repeated failure without one is seen."""
        return self._commits

    def restart(self) -> None:
        """Go on from what is committed, after a failure.

        Raises:
            BrokerError, RecoveryError, StateError: as `GroupConsumer.restart`.
        """
        self.discard_producer()
        self.consumer.restart()

    # Rebalances.

    def assigned(self, commits: Mapping[int, Commit]) -> dict[int, Commit]:
        self.rebalances += 1
        found = self._loader.load(commits)
        goes_on = {}
        offsets = {p: commit.offset for p, (_, commit) in found.items() if commit.offset is not None}
        left = first_left(self.config.source, offsets)
        for partition, (held, commit) in found.items():
            if left.get(partition) != commit.offset:  # with all that was learned
                held.committed = commit = commit._replace(offset=left[partition])
            for topic, offset in ((self.config.source.topic, commit.offset or 0), *commit.further):
                self.resume[topic, partition] = offset
            held.further = self.inputs.attach(partition, dict(commit.further))
            goes_on[partition] = commit._replace(further=tuple(held.further.items()))
            self.held[partition] = held
        return goes_on

    def end_flow(self, partitions: Sequence[int], *, lost: bool) -> None:
        with self._change:
            self.rebalances += 1
            self._leaving, self._ending, self.lost = set(partitions), True, self.lost or lost
        LOG.info("partitions_lost" if lost else "partitions_revoked", partitions=list(partitions))

    @property
    def idle(self) -> bool:
        return not self._running

    def dropped(self, partitions: Sequence[int]) -> None:
        self.inputs.detach(list(partitions))
        with self._change:
            for partition in partitions:
                self.held.pop(partition, None)
            self._leaving, self._ending, self.lost = set(), False, False
            self._change.notify_all()
