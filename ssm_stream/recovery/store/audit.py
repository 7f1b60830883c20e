"""The audit of a group: a chain of records a partition, in the store, which moves with the partition.

A record is a file named by the snapshot that it belongs to, there before that snapshot is committed. Whoever takes a
partition over continues the record of the committed snapshot: what a member wrote that was believed dead, and epochs
that were not committed, are branches that nothing continues. The member that has the partition puts records that it has
committed together in larger files from time to time.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import orjson

from ssm_stream.ops.audit import (
    FIRST,
    AuditChain,
    AuditError,
    Fault,
    Summary,
    read_record,
    record_hash,
    verify_records,
)
from ssm_stream.ops.observers import LearnedBatch, ObservedShard, RunObserver
from ssm_stream.recovery.store.background import Background
from ssm_stream.recovery.store.blobs import Blobs, await_writes
from ssm_stream.recovery.store.head import read_heads

Record = dict[str, Any]
SINGLE, MANY = ".json", ".jsonl"
TOGETHER = 600
"""Records that are put together in a file."""
_WRITE, _JOIN = ThreadPoolExecutor(8, "audit"), Background(2, "audit-join")


class StoredChain(AuditChain):
    """The chain of one partition.

    Args:
        folder: of all partitions
        state: the snapshot whose record is continued; empty: there is none

    Raises:
        RecoveryError: the store refuses.
    """

    def __init__(self, blobs: Blobs, folder: str, config_hash: str, shard: str, state: str) -> None:
        super().__init__(config_hash, shard)
        self._blobs, self._folder = blobs, f"{folder}/{shard}"
        self._written: list[tuple[str, bytes]] = []  # key and line of each record since the last larger file
        self._writing: list[Future[None]] = []
        self._committed = 0
        if state:
            self._continue(state)

    def _continue(self, state: str) -> None:
        singles = {
            record["hash"]: (key, line, record)
            for key, line, record, _ in _lines(self._blobs, self._folder, SINGLE)
            if record is not None
        }
        there = next((hash_ for hash_, (_, _, record) in singles.items() if record["state"] == state), None)
        if there is None:
            last = [r for *_, r, _ in _lines(self._blobs, self._folder, MANY) if r is not None and r["state"] == state]
            if last:
                self._number, self._previous = int(last[-1]["number"]), str(last[-1]["hash"])
            return
        self._number, self._previous = int(singles[there][2]["number"]), there
        while there in singles:
            key, line, record = singles[there]
            self._written.insert(0, (key, line))
            there = str(record["previous"])
        self._committed = len(self._written)

    def _store(self, record: dict[str, Any]) -> None:
        key, line = f"{self._folder}/{record['state']}{SINGLE}", orjson.dumps(record)
        self._written.append((key, line))
        self._writing.append(_WRITE.submit(self._blobs.write, key, line))

    def wait(self) -> None:
        """Wait until all records are in the store.

        Raises:
            RecoveryError: one cannot be written.
        """
        await_writes(self._writing)

    def commit(self) -> None:
        """Note that the group has committed the latest record; put many together."""
        self._committed = len(self._written)
        if self._committed >= TOGETHER:
            done, self._written, self._committed = self._written, [], 0
            _JOIN.submit(self._join, done)

    def _join(self, done: list[tuple[str, bytes]]) -> None:
        first, last = (orjson.loads(line) for line in (done[0][1], done[-1][1]))
        name = f"{first['number']:010d}-{last['number']:010d}-{last['hash'][:16]}{MANY}"
        self._blobs.write(f"{self._folder}/{name}", b"".join(line + b"\n" for _, line in done))
        self._blobs.delete(key for key, _ in done)


class GroupAudit(RunObserver):
    """Writes the audit of the partitions that a member holds. folder: in the store"""

    def __init__(self, blobs: Blobs, folder: str, config_hash: str) -> None:
        self._blobs, self._folder, self._config_hash = blobs, folder, config_hash
        self._chains: dict[str, StoredChain] = {}

    def resume(self, shard: str, state: str) -> None:
        """Continue the chain of a partition that is taken over. state: its committed snapshot

        Raises:
            RecoveryError: the store refuses.
        """
        self._chains[shard] = StoredChain(self._blobs, self._folder, self._config_hash, shard, state)

    def on_batch(self, shard: ObservedShard, batch: LearnedBatch) -> None:
        """Note the entities and offsets of a batch."""
        assert shard.key is not None
        self._chains[shard.key].add(batch)

    def before_snapshot(self, shard: ObservedShard) -> None:
        """Compute the hashes while the entities are in memory: writing the state evicts some."""
        assert shard.key is not None
        self._chains[shard.key].compute_hashes(shard.engine)

    def on_snapshot(self, shard: ObservedShard, file: str, seconds: float, size: int) -> None:
        """Write the epoch's record."""
        assert shard.key is not None
        self._chains[shard.key].write(file)

    def wait(self, shard: str) -> None:
        """Wait until the records of a partition are in the store, before its commit.

        Raises:
            RecoveryError: one cannot be written.
        """
        self._chains[shard].wait()

    def commit(self, shard: str) -> None:
        """Note that a partition was committed."""
        self._chains[shard].commit()


def _lines(blobs: Blobs, folder: str, ending: str) -> Iterator[tuple[str, bytes, dict[str, Any] | None, str]]:
    """Yield key, line, record and fault of each record."""
    for each in blobs.find(folder):
        if each.key.endswith(ending):
            for line in (blobs.read(each.key) or b"").splitlines():
                record, fault = read_record(line)
                if record is not None and record["hash"] != record_hash(record):
                    fault = "its content does not match its hash: it was altered"
                yield each.key, line, record, fault


def verify_stored(blobs: Blobs, folder: str) -> Summary:
    """Check the chain of each partition from its committed snapshot back to its beginning, and all records.

    Returns:
        `again`: records that the chain does not have: of epochs that were not committed, or from before a rewind

    Raises:
        AuditError: there are no records.
        RecoveryError: the store refuses.
    """
    heads = {f"{partition:04d}": head.name for partition, head in read_heads(blobs).items()}
    shards = sorted({each.key.split("/")[1] for each in blobs.find(folder)})
    if not shards:
        raise AuditError(f"audit.directory: {blobs.place}/{folder} holds no audit: let a member end an epoch")
    rows, faults, aside = list[tuple[str, int, dict[str, Any] | None, str]](), list[Fault](), 0
    for shard in shards:
        by_hash: dict[str, Record] = {}
        for ending in (MANY, SINGLE):
            for key, _, record, fault in _lines(blobs, f"{folder}/{shard}", ending):
                if record is None or fault:
                    faults.append(Fault(key, 1, fault))
                else:
                    by_hash[record["hash"]] = record
        chain = _chain(by_hash, heads.get(shard), f"{folder}/{shard}", faults)
        aside += len(by_hash) - len(chain)
        rows += [(shard, record["number"], record, "") for record in chain]
        own = {record["hash"] for record in chain}
        rows += [(shard, r["number"], r, "") for r in by_hash.values() if r["hash"] not in own]
    found = verify_records(rows)
    return found._replace(again=aside, faults=[*faults, *found.faults])


def _chain(
    by_hash: dict[str, dict[str, Any]], state: str | None, place: str, faults: list[Fault]
) -> list[dict[str, Any]]:
    """Return the records up to the newest one of a committed snapshot, the first one first; append what is missing."""
    head = next((record for record in by_hash.values() if record["state"] == state), None)
    if head is None:
        head = max(by_hash.values(), key=lambda record: record["number"], default=None)
        if head is None:
            return []
    chain = [head]
    while chain[-1]["previous"] != FIRST:
        before = by_hash.get(chain[-1]["previous"])
        if before is None or before["number"] != chain[-1]["number"] - 1:
            text = f"it does not continue the record before (number {chain[-1]['number'] - 1}): records are missing"
            faults.append(Fault(place, chain[-1]["number"], text))
            break
        chain.append(before)
    if chain[-1]["previous"] == FIRST and chain[-1]["number"] != 1:
        faults.append(Fault(place, chain[-1]["number"], "it is not the first record, and continues none"))
    return chain[::-1]
