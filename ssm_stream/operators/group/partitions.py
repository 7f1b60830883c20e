"""Takes partitions over: loads their states from the store, several at a time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import structlog

from ssm_stream.config import Config
from ssm_stream.engine.parallel.cores import cores
from ssm_stream.kafka.context.rows import RowFacts
from ssm_stream.kafka.membership.commit import Commit
from ssm_stream.kafka.records import shard_key
from ssm_stream.operators.shard_operator import ShardLogic
from ssm_stream.ops.observers import RunObserver
from ssm_stream.recovery.catch_up import CatchUp
from ssm_stream.recovery.ended_episodes import ended_of_source
from ssm_stream.recovery.store.audit import GroupAudit
from ssm_stream.recovery.store.flow_store import FlowStore
from ssm_stream.recovery.store.notes import StoredUndelivered, local_notes
from ssm_stream.recovery.store.partition import PartitionSnapshots

LOG = structlog.get_logger("ssm_stream")
MAX_AT_ONCE = 8
"""Partitions that are loaded at once, at most: a core each, while the store answers fast enough."""


@dataclass
class HeldPartition:
    """A partition with its state.

    committed: what the group has
    further: offset from which on the dataflow goes on, of each topic that goes along with the first one
    unowned: seconds from its last commit until this member read on, None if there was none
    """

    logic: ShardLogic
    snapshots: PartitionSnapshots
    committed: Commit
    unowned: float | None = None
    further: dict[str, int] = field(default_factory=dict)


class PartitionLoader:
    """Loads what members have committed of partitions.

    catch_up: what a rewind has left to be read again
    facts: joins context topics to rows; None where no row has facts
    """

    def __init__(
        self,
        config: Config,
        store: FlowStore,
        observers: RunObserver,
        catch_up: CatchUp | None,
        audit: GroupAudit | None,
        facts: RowFacts | None = None,
    ) -> None:
        self._config, self._store, self._observers = config, store, observers
        self._catch_up, self._audit, self._facts = catch_up, audit, facts

    def load(self, commits: Mapping[int, Commit]) -> dict[int, tuple[HeldPartition, Commit]]:
        """Return each partition with its state, and what it goes on from: its offset is None without a state.

        Raises:
            StateError: a state cannot be read.
            RecoveryError: the store refuses.
        """
        at_once = max(min(len(commits), cores(), MAX_AT_ONCE), 1)
        with ThreadPoolExecutor(at_once, "load") as pool:
            return dict(zip(commits, pool.map(self._load, commits, commits.values()), strict=True))

    def _load(self, partition: int, commit: Commit) -> tuple[HeldPartition, Commit]:
        head = self._store.head(partition)
        if commit.offset is None and head is not None:
            LOG.warning(
                "resumed_from_store", partition=partition, offset=head.offset, why="the group has no committed offset"
            )
            commit = Commit(head.offset, head.name, further=head.further)
        began, snapshots = time.perf_counter(), self._store.partition(partition)
        logic = ShardLogic(self._config, None, self._observers, self._facts)
        logic.key = shard_key(partition)
        if self._catch_up is not None:
            logic.follow_rewind(partial(StoredUndelivered, self._store.blobs, self._catch_up.number))
        if commit.snapshot:
            logic.set_engine(snapshots.restore(self._config, commit.snapshot))
        else:
            with local_notes(self._store.blobs) as notes:
                source = self._config.source
                for topic in source.names:
                    logic.engine.episodes.add_ended(ended_of_source(notes, source.number(topic, partition)))
        if not commit.snapshot and commit.offset is not None and not commit.member:
            LOG.warning("no_snapshot", partition=partition, offset=commit.offset, why="none was committed with it")
        if self._audit is not None:
            self._audit.resume(shard_key(partition), commit.snapshot)
        unowned = None if head is None else max(time.time() - head.at / 1000, 0.0)
        snapshots.written_at = 0.0 if head is None else head.at / 1000
        LOG.info(
            "partition_taken",
            partition=partition,
            offset=commit.offset,
            entities=len(logic.engine),
            bytes=snapshots.size,
            unowned_s=None if unowned is None else round(unowned, 1),
            seconds=round(time.perf_counter() - began, 3),
        )
        return HeldPartition(logic, snapshots, commit, unowned), commit
