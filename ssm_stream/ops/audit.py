"""The audit: a hash chain of the states of all entities, one file a shard, one line an epoch.

A line is JSON: `shard, number, config_hash, state` (the snapshot's file), `positions` (by partition: the epoch's first
and next offset), `entities` (by partition: name → hash of its state, as in alerts; only those that changed),
`previous` (hash of the line before), `hash`. Examples that an entity was primed with have a line of their own: with
`primed` (entity, file, sha256, examples, source, at, by), and no positions. A missing or altered line breaks the chain.
After a kill the unfinished epoch is processed again and has a line again: positions go back, and hashes at the same
offset must be the same.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import socket
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from ssm_stream.engine.engine import Engine
from ssm_stream.ops.disk import refused_by_disk
from ssm_stream.ops.observers import LearnedBatch, ObservedShard, RunObserver

ENDING = ".audit.jsonl"
FIRST = ""
"""`previous` of the first line."""


class AuditError(RuntimeError):
    """There is no audit in the directory, or the disk refuses it."""


def user_and_machine() -> str:
    """Return the user and the machine, for records of what somebody has done."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = f"uid {os.getuid()}"
    return f"{name}@{socket.gethostname()}"


def record_hash(record: dict[str, Any]) -> str:
    content = {name: value for name, value in record.items() if name != "hash"}
    return hashlib.blake2b(orjson.dumps(content, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()


class Audit(RunObserver):
    """Writes the audit of a run. folder: of its files"""

    def __init__(self, folder: Path, config_hash: str) -> None:
        self._folder, self._config_hash = folder, config_hash
        self._shards: dict[str, AuditFile] = {}

    def register_shard(self, shard: ObservedShard) -> None:
        """Open the file of a shard that resumes."""
        if shard.key is not None:
            self._of(shard.key)

    def on_batch(self, shard: ObservedShard, batch: LearnedBatch) -> None:
        """Note the entities and offsets of a batch."""
        assert shard.key is not None
        self._of(shard.key).add(batch)

    def before_snapshot(self, shard: ObservedShard) -> None:
        """Compute the hashes while the entities are in memory: writing the state evicts some."""
        if shard.key in self._shards:
            self._shards[shard.key].compute_hashes(shard.engine)

    def on_snapshot(self, shard: ObservedShard, file: str, seconds: float, size: int) -> None:
        """Write the epoch's line."""
        if shard.key in self._shards:
            self._shards[shard.key].write(file)

    def _of(self, shard: str) -> AuditFile:
        if shard not in self._shards:
            self._shards[shard] = AuditFile(self._folder, self._config_hash, shard)
        return self._shards[shard]


class AuditChain(ABC):
    """The audit of one shard: each record continues the one before.

    shard: its key; number, previous: of the record to be continued
    """

    def __init__(self, config_hash: str, shard: str, number: int = 0, previous: str = FIRST) -> None:
        self.shard, self._config_hash = shard, config_hash
        self._touched: dict[int, dict[str, None]] = {}
        self._positions: dict[int, list[int]] = {}
        self._hashes: dict[str, dict[str, str]] = {}
        self._number, self._previous = number, previous

    @abstractmethod
    def _store(self, record: dict[str, Any]) -> None:
        """Store a record."""

    def add(self, batch: LearnedBatch) -> None:
        """Note the entities and offsets of a batch."""
        self._touched.setdefault(batch.partition, {}).update(dict.fromkeys(batch.events.entity))
        at = self._positions.setdefault(batch.partition, [batch.first, batch.last + 1])
        at[1] = batch.last + 1

    def compute_hashes(self, engine: Engine) -> None:
        """Hash the entities that have changed since the last line."""
        self._hashes = {
            str(partition): {name: engine.state_hash(name, partition) for name in names if name in engine}
            for partition, names in sorted(self._touched.items())
        }

    def write(self, state: str) -> None:
        """Append the epoch's line; none if no event has come. state: file of the snapshot"""
        if not self._positions:
            return
        positions = {str(partition): at for partition, at in sorted(self._positions.items())}
        self._append({"state": state, "positions": positions, "entities": self._hashes})
        self._touched, self._positions = {}, {}

    def write_priming(self, state: str, primed: dict[str, Any], state_hash: str) -> None:
        """Append the line of a priming.

        Args:
            state: file of the snapshot
            primed: entity, file, sha256, examples, source, at, by
            state_hash: of the entity afterwards
        """
        entities = {str(primed["source"]): {primed["entity"]: state_hash}}
        self._append({"state": state, "positions": {}, "entities": entities, "primed": primed})

    def write_reset(self, state: str, entity: str) -> None:
        """Append the line of an entity that was deleted. state: file of the snapshot"""
        self._append({"state": state, "positions": {}, "entities": {}, "reset": entity})

    def _append(self, content: dict[str, Any]) -> None:
        record: dict[str, Any] = {
            "shard": self.shard,
            "number": self._number + 1,
            "config_hash": self._config_hash,
            **content,
            "previous": self._previous,
        }
        record["hash"] = record_hash(record)
        self._store(record)
        self._number, self._previous = record["number"], record["hash"]


class AuditFile(AuditChain):
    """A chain in a file, continued after its last line.

    folder: of all shards' files; shard: its key

    Raises:
        AuditError: the disk refuses to read or write it; so do its methods.
    """

    def __init__(self, folder: Path, config_hash: str, shard: str) -> None:
        super().__init__(config_hash, shard)
        self._file = folder / f"{shard}{ENDING}"
        last = b""
        with self._on_disk():
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if self._file.exists():
                content = self._file.read_bytes()
                whole = content.rfind(b"\n") + 1
                if whole < len(content):  # what a kill has left half written
                    with self._file.open("r+b") as file:
                        file.truncate(whole)
                last = content[:whole].rstrip(b"\n").rpartition(b"\n")[2]
        if last:
            try:
                record = orjson.loads(last)
                self._number, self._previous = int(record["number"]), str(record["hash"])
            except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
                self._previous = "unreadable"  # `verify_audit` reports the line before

    def _store(self, record: dict[str, Any]) -> None:
        with self._on_disk(), self._file.open("ab") as file:
            file.write(orjson.dumps(record) + b"\n")

    @contextmanager
    def _on_disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise AuditError(f"audit.directory: {refused_by_disk(self._file, error)}") from error


class Fault(NamedTuple):
    """A fault in a line of the audit."""

    file: str
    line: int
    text: str


class Summary(NamedTuple):
    """The result of verifying an audit."""

    lines: int
    shards: int
    entities: int  # different ones
    hashes: int
    again: int  # epochs processed again after a kill
    primed: int  # lines of examples
    faults: list[Fault]


def records(folder: Path) -> Iterator[tuple[str, int, dict[str, Any] | None, str]]:
    """Yield file, line number, record and fault (empty: none) of every line of every shard.

    Raises:
        AuditError: the folder has no audit.
        OSError: a file cannot be read.
    """
    files = sorted(folder.glob(f"*{ENDING}"))
    if not files:
        raise AuditError(
            f"audit.directory: {folder} holds no audit: set the key, and let `ssm-stream run` end an epoch"
        )
    for path in files:
        previous, number = FIRST, 0
        lines = path.read_bytes().split(b"\n")
        for i, line in enumerate(lines[:-1], 1):
            record, fault = read_record(line)
            if record is not None:
                if record["hash"] != record_hash(record):
                    fault = "its content does not match its hash: it was altered"
                elif record["previous"] != previous or record["number"] != number + 1:
                    fault = f"it does not continue the line before (number {number}): lines are missing or were moved"
                previous, number = record["hash"], record["number"]
            yield path.name, i, record, fault
        if lines[-1]:
            yield (
                path.name,
                len(lines),
                None,
                "it is half written: the process was killed and has not been started since",
            )


def read_record(line: bytes) -> tuple[dict[str, Any] | None, str]:
    """Return a line's record, and what is wrong with it; empty: nothing."""
    try:
        record = orjson.loads(line)
        complete = all(name in record for name in ("number", "positions", "entities", "previous", "hash"))
    except (orjson.JSONDecodeError, TypeError):
        complete = False
    return (record, "") if complete else (None, "it is no line of an audit")


def verify_audit(folder: Path) -> Summary:
    """Check every line against its hash, the line before, and earlier hashes of the same entity and offset.

    Raises:
        AuditError, OSError: as `records`.
    """
    return verify_records(records(folder))


def verify_records(found: Iterable[tuple[str, int, dict[str, Any] | None, str]]) -> Summary:
    """Check records against earlier hashes of the same entity and offset; as `records` yields them."""
    lines = again = hashes = primed = 0
    shards: set[str] = set()
    names: set[str] = set()
    faults: list[Fault] = []
    ends: dict[tuple[str, str], int] = {}
    first_hashes: dict[tuple[str, ...], str] = {}
    for file, line, record, fault in found:
        lines += 1
        if fault:
            faults.append(Fault(file, line, fault))
        if record is None:
            continue
        shards.add(file)
        primed += "primed" in record
        if "primed" in record or "reset" in record:  # what is processed again from here on has another state
            first_hashes = {key: value for key, value in first_hashes.items() if key[0] != file}
        for partition, (first, after) in record["positions"].items():
            before = ends.get((file, partition))
            if before is not None and first < before:
                again += 1
            ends[file, partition] = after
        for partition, entities in record["entities"].items():
            after = record["positions"].get(partition, (0, f"primed {line}"))[1]
            for name, value in entities.items():
                hashes += 1
                names.add(name)
                key = (file, str(record.get("config_hash")), partition, str(after), name)
                if first_hashes.setdefault(key, value) != value:
                    text = (
                        f"{name!r} at offset {after}: another state than the first time, unless it was reset in between"
                    )
                    faults.append(Fault(file, line, text))
    return Summary(lines, len(shards), len(names), hashes, again, primed, faults)


def primings(folder: Path, config_hash: str) -> list[dict[str, Any]]:
    """Return what the intact lines of a configuration have of primings (`primed`), in order.

    Raises:
        AuditError, OSError: as `records`.
    """
    found = (record for _, _, record, fault in records(folder) if record is not None and not fault)
    return [each["primed"] for each in found if "primed" in each and each["config_hash"] == config_hash]


def entity_hashes(folder: Path, partition: int, config_hash: str, entity: str | None) -> dict[int, dict[str, str]]:
    """Return next offset of a partition → hashes (of one entity, or of all), from the intact lines of a configuration.

    Raises:
        AuditError, OSError: as `records`.
    """
    found: dict[int, dict[str, str]] = {}
    for _, _, record, fault in records(folder):
        if record is None or fault or record["config_hash"] != config_hash or str(partition) not in record["positions"]:
            continue
        entities = record["entities"].get(str(partition), {})
        mine = entities if entity is None else {n: h for n, h in entities.items() if n == entity}
        if mine:
            found.setdefault(record["positions"][str(partition)][1], {}).update(mine)
    return found
