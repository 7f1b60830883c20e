"""Bytewax's recovery databases, as SQLite has them: which are there, how far the last execution came, what they name.

Tables: `parts` (which of how many this is), `exs` (executions: workers, and the epoch that each resumed at), `fronts`
(how far each worker came), `commits` (up to which epoch older snapshots are deleted), `snaps` (a pickled snapshot of a
step, key and epoch). A step's key is always in the same part, however many workers there are.
"""

from __future__ import annotations

import io
import pickle
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from ssm_stream.recovery.checkpoint_files import name_in

LABELS_PREFIX = "labels:"
"""Prefix of the names of the label topic's partitions among Bytewax's source partitions."""
WAY_OUT = (
    "restore the whole directory from a copy, or from an export (ssm-stream state import), or move it away to start "
    "anew (ssm-stream state reset)"
)


class RecoveryError(RuntimeError):
    """The recovery directory cannot be used; the text says why and what to do."""


@contextmanager
def opened_database(file: Path) -> Iterator[sqlite3.Connection]:
    """A database, which is closed, not only committed, at the end of the block.

    Raises:
        RecoveryError: it is damaged, or cannot be read; the text names it.
    """
    try:
        # Never made anew: a missing one must not become an empty one.
        database = sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", uri=True)
        try:
            yield database
        finally:
            database.close()
    except sqlite3.DatabaseError as error:
        busy = isinstance(error, sqlite3.OperationalError) and "no such table" not in str(error)
        what = f"cannot be used ({error})" if busy else f"is damaged ({error}): {WAY_OUT}"
        raise RecoveryError(f"recovery.directory: {file} {what}") from error


def require_parts(directory: Path) -> None:
    """Refuse databases of which one is missing, or damaged.

    Raises:
        RecoveryError: which file it is, and what can be done.
    """
    there, count = set(), 0
    for file in parts_in(directory):
        with opened_database(file) as database:
            row = database.execute("SELECT part_index, part_count FROM parts").fetchone()
            if row is None or file.name != f"part-{row[0]}.sqlite3":
                raise sqlite3.DatabaseError("it is another part than its name says")
            said = database.execute("PRAGMA quick_check(1)").fetchone()[0]
            if said != "ok":
                raise sqlite3.DatabaseError(said)
        there.add(row[0])
        count = max(count, row[1])
    if not there:
        raise RecoveryError(f"recovery.directory: part-*.sqlite3 in {directory} are missing: {WAY_OUT}")
    if missing := sorted(set(range(count)) - there):
        names = ", ".join(str(directory / f"part-{number}.sqlite3") for number in missing)
        raise RecoveryError(f"recovery.directory: {names} is missing: {WAY_OUT}")


def parts_in(directory: Path) -> list[Path]:
    """The databases of a recovery directory."""
    return sorted(directory.glob("part-*.sqlite3"))


def resume_epoch(files: list[Path]) -> int:
    """The smallest frontier among the workers of the last execution."""
    executions: dict[int, tuple[int, int]] = {}
    frontiers: dict[tuple[int, int], int] = {}
    for file in files:
        with opened_database(file) as database:
            for number, workers, epoch in database.execute("SELECT ex_num, worker_count, resume_epoch FROM exs"):
                executions[number] = (workers, epoch)
            for number, worker, front in database.execute("SELECT ex_num, worker_index, worker_frontier FROM fronts"):
                frontiers[number, worker] = max(front, frontiers.get((number, worker), 0))
    resume = 1
    if executions:
        last = max(executions)
        workers, epoch = executions[last]
        resume = min(max(epoch, frontiers.get((last, worker), 0)) for worker in range(workers))
    return resume


def newest(file: Path, table: str, column: str) -> int:
    """The largest number in a column; −1 where the table is empty."""
    with opened_database(file) as database:
        found: int | None = database.execute(f"SELECT max({column}) FROM {table}").fetchone()[0]
    return -1 if found is None else found


def named(directory: Path) -> dict[tuple[str, str], list[tuple[int, str]]]:
    """Epoch and file of all snapshots of each shard that name one, the latest last."""
    found: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for file in parts_in(directory):
        with opened_database(file) as database:
            query = "SELECT step_id, state_key, snap_epoch, substr(ser_change, 1, 200) FROM snaps ORDER BY snap_epoch"
            for step, key, epoch, change in database.execute(query):
                name = None if change is None else name_in(change)
                if name is not None:
                    found.setdefault((step, key), []).append((epoch, name))
    return found


class Row(NamedTuple):
    """The latest snapshot of a step's key, of an epoch that has ended, and the part that it is in.

    value: what was kept: an offset, a name of a state's file (bytes), a count, a marker
    """

    part: int
    step: str
    key: str
    epoch: int
    value: Any


def rows_in(directory: Path, resume: int) -> list[Row]:
    """All that an execution that resumes at this epoch would load, sorted by step and key.

    Raises:
        RecoveryError: a database is damaged, or holds more than plain values.
    """
    found: dict[tuple[str, str], Row] = {}
    query = "SELECT step_id, state_key, snap_epoch, ser_change FROM snaps WHERE snap_epoch < ? ORDER BY snap_epoch"
    for file in parts_in(directory):
        part = int(file.stem.removeprefix("part-"))
        with opened_database(file) as database:
            for step, key, epoch, change in database.execute(query, (resume,)):
                if change is None:
                    found.pop((step, key), None)
                else:
                    found[step, key] = Row(part, step, key, epoch, change)
    return [row._replace(value=_plain(row)) for _, row in sorted(found.items())]


class _Plain(pickle.Unpickler):
    """Numbers, text, bytes and what holds them: never a class, so that nothing can be called."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name} is no plain value")


def _plain(row: Row) -> Any:
    try:
        return _Plain(io.BytesIO(row.value)).load()
    except Exception as error:  # bytes that are no pickle make the unpickler raise whatever it likes
        raise RecoveryError(
            f"recovery.directory: the snapshot of {row.step} {row.key} in part-{row.part}.sqlite3 cannot be read "
            f"({error}): {WAY_OUT}"
        ) from error
