"""Reads Bytewax's recovery databases with SQLite: which files there are, the epoch to resume at, the snapshots.

Tables: `parts` (index of this part and number of parts), `exs` (executions: number of workers and resume epoch),
`fronts` (the epoch that each worker reached), `commits` (the epoch up to which older snapshots are deleted), `snaps` (a
pickled snapshot of a step, key and epoch). A step's key is always in the same part, for any number of workers.
"""

from __future__ import annotations

import io
import pickle
import re
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from ssm_stream.ops.disk import refused_by_disk
from ssm_stream.recovery.checkpoint_files import referenced_file

LABELS_PREFIX = "labels:"
"""Prefix of the label topic's partitions among the names of Bytewax's source partitions."""
SOURCE_STEP = ".source"
"""End of the name of the step that reads events and labels."""
SERVICE_STEPS = tuple(f"monitor.{step}" for step in ("source", "learn", "sink", "feedback", "count_feedback"))
"""Steps of the service's dataflow whose snapshots a recovery directory has."""


def source_part(index: int, partition: int) -> str:
    """Return the name of a partition of an events topic among Bytewax's source partitions. index: of the topic"""
    return f"{partition:05d}" if not index else f"{index}:{partition:05d}"


def parse_source_part(part: str) -> tuple[int, int]:
    """Return the index of the topic, and the partition, that have this name."""
    index, _, partition = part.rpartition(":")
    return int(index or 0), int(partition)


_OF_DISK = ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")
_PANIC = re.compile(
    r"SqliteFailure\(Error \{ code: (?:DiskFull|SystemIoFailure|ReadOnly|CannotOpen|PermissionDenied),"
    r'.*?Some\("([^"]*)"'
)
"""The text with which Bytewax panics where the disk refuses what it writes into a database."""
REMEDY = (
    "restore the whole directory from a copy or from an export (ssm-stream state import), or move it away to start "
    "anew (ssm-stream state reset)"
)


class RecoveryError(RuntimeError):
    """The recovery directory cannot be used; the text names the cause and the cure."""


def _refused(place: Path, reason: OSError | str) -> RecoveryError:
    """Return the error of what the disk refuses."""
    return RecoveryError(f"recovery.directory: {refused_by_disk(place, reason)}")


@contextmanager
def on_disk(directory: Path) -> Iterator[None]:
    """Raise what the disk refuses inside the block as an error with the place and the cure.

    Raises:
        RecoveryError: the disk is full, read-only or broken.
    """
    try:
        yield
    except OSError as error:
        raise _refused(directory, error) from error


@contextmanager
def on_disk_of_bytewax(directory: Path) -> Iterator[None]:
    """`on_disk`, for what Bytewax writes by itself: its databases. It panics.

    Raises:
        RecoveryError: the disk is full, read-only or broken.
    """
    try:
        yield
    except BaseException as error:  # a panic is no Exception
        if (found := _PANIC.search(str(error))) is None:
            raise
        raise _refused(directory, found[1]) from error


@contextmanager
def open_database(file: Path) -> Iterator[sqlite3.Connection]:
    """Connect to a database; the connection is closed, not only committed, at the end of the block.

    Raises:
        RecoveryError: the file is missing, damaged or cannot be read.
    """
    try:
        # mode=rw: a missing database must not become an empty one.
        database = sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", uri=True)
        try:
            yield database
        finally:
            database.close()
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorname", "").startswith(_OF_DISK) and file.exists():
            raise _refused(file, str(error)) from error
        busy = isinstance(error, sqlite3.OperationalError) and "no such table" not in str(error)
        what = f"cannot be used ({error})" if busy else f"is damaged ({error}): {REMEDY}"
        raise RecoveryError(f"recovery.directory: {file} {what}") from error


def require_parts(directory: Path) -> None:
    """Check that all databases are there and undamaged.

    Raises:
        RecoveryError: names the file and the cure.
    """
    present, count = set(), 0
    for file in database_files(directory):
        with open_database(file) as database:
            row = database.execute("SELECT part_index, part_count FROM parts").fetchone()
            if row is None or file.name != f"part-{row[0]}.sqlite3":
                raise sqlite3.DatabaseError("its part number differs from its name")
            result = database.execute("PRAGMA quick_check(1)").fetchone()[0]
            if result != "ok":
                raise sqlite3.DatabaseError(result)
        present.add(row[0])
        count = max(count, row[1])
    if not present:
        raise RecoveryError(f"recovery.directory: part-*.sqlite3 in {directory} are missing: {REMEDY}")
    if missing := sorted(set(range(count)) - present):
        names = ", ".join(str(directory / f"part-{number}.sqlite3") for number in missing)
        raise RecoveryError(f"recovery.directory: {names} is missing: {REMEDY}")


def _of_service(step: str) -> bool:
    return ".".join(step.split(".")[:2]) in SERVICE_STEPS


def require_service(directory: Path, steps: Collection[str] | None = None) -> None:
    """Refuse a directory in which all snapshots are of another dataflow than the service's.

    steps: of its snapshots, where they are known

    Raises:
        RecoveryError: names some of its steps and the cure.
    """
    if steps is None:
        steps = set[str]()
        for file in database_files(directory):
            with open_database(file) as database:
                steps |= {step for (step,) in database.execute("SELECT DISTINCT step_id FROM snaps")}
    if steps and not any(map(_of_service, steps)):
        some = ", ".join(sorted(steps)[:3])
        raise RecoveryError(
            f"recovery.directory: {directory} has the state of another dataflow (steps {some}), which is not that of "
            "ssm-stream run: name another folder"
        )


FIRST_EPOCH = 1
"""At which a run begins that has nothing to go on from."""


def database_files(directory: Path) -> list[Path]:
    """The database files of a recovery directory, sorted."""
    return sorted(directory.glob("part-*.sqlite3"))


def resume_epoch(files: list[Path]) -> int:
    """The epoch that the next execution resumes at: the smallest frontier among the workers of the last one."""
    executions: dict[int, tuple[int, int]] = {}
    frontiers: dict[tuple[int, int], int] = {}
    for file in files:
        with open_database(file) as database:
            for number, workers, epoch in database.execute("SELECT ex_num, worker_count, resume_epoch FROM exs"):
                executions[number] = (workers, epoch)
            for number, worker, front in database.execute("SELECT ex_num, worker_index, worker_frontier FROM fronts"):
                frontiers[number, worker] = max(front, frontiers.get((number, worker), 0))
    resume = FIRST_EPOCH
    if executions:
        last = max(executions)
        workers, epoch = executions[last]
        resume = min(max(epoch, frontiers.get((last, worker), 0)) for worker in range(workers))
    return resume


def max_value(file: Path, table: str, column: str) -> int:
    """The largest number in a column, or −1 if the table is empty."""
    with open_database(file) as database:
        found: int | None = database.execute(f"SELECT max({column}) FROM {table}").fetchone()[0]
    return -1 if found is None else found


def referenced_files(directory: Path) -> dict[tuple[str, str], list[tuple[int, str]]]:
    """By step and key of each shard: epoch and state file of its snapshots, the latest last."""
    found: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for file in database_files(directory):
        with open_database(file) as database:
            query = "SELECT step_id, state_key, snap_epoch, substr(ser_change, 1, 200) FROM snaps ORDER BY snap_epoch"
            for step, key, epoch, change in database.execute(query):
                name = None if change is None else referenced_file(change)
                if name is not None:
                    found.setdefault((step, key), []).append((epoch, name))
    return found


class SnapshotRow(NamedTuple):
    """The latest snapshot of a step's key from a finished epoch."""

    part: int
    """Index of the database."""
    step: str
    key: str
    epoch: int
    value: Any
    """An offset, the name of a state file (bytes), a count, or a transaction marker."""


def read_rows(directory: Path, resume: int) -> list[SnapshotRow]:
    """The snapshots of the service that an execution resuming at this epoch loads, sorted by step and key.

    Raises:
        RecoveryError: a database is damaged, a snapshot is not a plain value, or all are of another dataflow.
    """
    found: dict[tuple[str, str], SnapshotRow] = {}
    query = "SELECT step_id, state_key, snap_epoch, ser_change FROM snaps WHERE snap_epoch < ? ORDER BY snap_epoch"
    for file in database_files(directory):
        part = int(file.stem.removeprefix("part-"))
        with open_database(file) as database:
            for step, key, epoch, change in database.execute(query, (resume,)):
                if change is None:
                    found.pop((step, key), None)
                else:
                    found[step, key] = SnapshotRow(part, step, key, epoch, change)
    require_service(directory, {step for step, _ in found})
    return [row._replace(value=_unpickle(row)) for _, row in sorted(found.items()) if _of_service(row.step)]


class _PlainUnpickler(pickle.Unpickler):
    """Loads numbers, text, bytes and containers of them; refuses classes, so that no code can run."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name} is not a plain value")


def _unpickle(row: SnapshotRow) -> Any:
    try:
        return _PlainUnpickler(io.BytesIO(row.value)).load()
    except Exception as error:  # on invalid bytes the unpickler raises many types
        raise RecoveryError(
            f"recovery.directory: the snapshot of {row.step} {row.key} in part-{row.part}.sqlite3 cannot be read "
            f"({error}): {REMEDY}"
        ) from error
