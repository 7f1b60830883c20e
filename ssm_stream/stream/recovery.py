"""The recovery directory: one process at a time, and no snapshot of an epoch that never ended.

Bytewax 0.21 keeps snapshots of an unfinished epoch after a crash and may load them at a later resume, which counts
events twice. `open_recovery` deletes them before each start.

Beside the snapshots lies `picked.json`, where features were picked from the first events: the choice stays the same for
as long as the state does.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
from datetime import timedelta
from pathlib import Path
from typing import IO, NamedTuple

from bytewax.recovery import RecoveryConfig, init_db_dir

from ssm_stream.config import Config
from ssm_stream.pick import with_columns

PARTITIONS = 4  # Bytewax loads a partition's snapshots in quadratic time; few entities' blobs a shard keep it short


class RecoveryError(RuntimeError):
    """The recovery directory cannot be used; the text says why and what to do."""


class OpenRecovery(NamedTuple):
    """A locked, pruned directory. The lock is held until the process ends, however it ends."""

    config: RecoveryConfig
    resume_epoch: int
    pruned: int
    lock: IO[str]


def open_recovery(config: Config) -> OpenRecovery | None:
    """Create or open the directory, lock it and prune it; None where recovery is off.

    Raises:
        RecoveryError: in use by another process, not writable, damaged, or parts of it are missing.
    """
    directory = config.recovery.directory
    if directory is None:
        return None
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = _lock(directory)
        _initialise(directory)
        epoch, pruned = prune(directory)
    except OSError as error:
        raise RecoveryError(f"recovery.directory: {directory} cannot be used: {error}") from error
    except sqlite3.DatabaseError as error:
        raise RecoveryError(
            f"recovery.directory: a database in {directory} is damaged ({error}): restore the directory from a copy, "
            "or move it away to start anew"
        ) from error
    return OpenRecovery(RecoveryConfig(str(directory)), epoch, pruned, lock)


def _initialise(directory: Path) -> None:
    """Create the databases, all or none: a kill in between leaves some without the mark, and they are made anew."""
    mark = directory / "initialised"
    if mark.exists():
        return
    files = list(directory.glob("part-*.sqlite3*"))
    if not any(_has_run(file) for file in files if file.suffix == ".sqlite3"):
        for file in files:
            file.unlink()
        init_db_dir(directory, PARTITIONS)
    mark.touch()


def _has_run(file: Path) -> bool:
    """Whether an execution is noted in the database (it may be another tool that initialised it)."""
    with _open(file) as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        return "exs" in tables and database.execute("SELECT count(*) FROM exs").fetchone()[0] > 0


def _lock(directory: Path) -> IO[str]:
    file = (directory / "lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        owner = file.read().strip() or "unknown"
        file.close()
        raise RecoveryError(
            f"recovery.directory: {directory} is in use by process {owner}: stop that one, or name another directory"
        ) from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def prune(directory: Path) -> tuple[int, int]:
    """Delete the snapshots of epochs that did not end.

    The resume epoch is the smallest frontier among the workers of the last execution.

    Returns:
        the epoch that the next execution resumes at, and the number of snapshots deleted
    """
    files = sorted(directory.glob("part-*.sqlite3"))
    executions: dict[int, tuple[int, int]] = {}
    frontiers: dict[tuple[int, int], int] = {}
    for file in files:
        with _open(file) as database:
            for number, workers, epoch in database.execute("SELECT ex_num, worker_count, resume_epoch FROM exs"):
                executions[number] = (workers, epoch)
            for number, worker, front in database.execute("SELECT ex_num, worker_index, worker_frontier FROM fronts"):
                frontiers[number, worker] = max(front, frontiers.get((number, worker), 0))
    resume = 1
    if executions:
        last = max(executions)
        workers, epoch = executions[last]
        resume = min(max(epoch, frontiers.get((last, worker), 0)) for worker in range(workers))
    deleted = 0
    for file in files:
        with _open(file) as database:
            deleted += database.execute("DELETE FROM snaps WHERE snap_epoch >= ?", (resume,)).rowcount
            database.commit()
    return resume, deleted


class _open:  # noqa: N801  (reads as the function that it is)
    """A database that is closed, not only committed, at the end of the block."""

    def __init__(self, file: Path) -> None:
        self._database = sqlite3.connect(file)

    def __enter__(self) -> sqlite3.Connection:
        return self._database

    def __exit__(self, *_: object) -> None:
        self._database.close()


PICKED = "picked.json"


def write_picked(directory: Path, config: Config, picked: Config) -> None:
    """Keep the inputs that were picked for `config`; the file is there whole or not at all, whenever the power fails.

    Raises:
        RecoveryError: it cannot be written.
    """
    content = {"for": _picked_for(config), "features": picked.event.numbers, "categories": picked.event.categories}
    file = directory / PICKED
    draft = file.with_suffix(".draft")
    try:
        with draft.open("w", encoding="utf-8") as out:
            json.dump(content, out, indent=1)
            out.flush()
            os.fsync(out.fileno())
        draft.replace(file)
        folder = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise RecoveryError(f"recovery.directory: {file} cannot be written: {error}") from error


def read_picked(directory: Path, config: Config) -> Config | None:
    """`config` with the inputs that were picked for it when its recovery state began; None where none were.

    Raises:
        RecoveryError: the file is damaged, or was made for another entity, time, target or other categories.
    """
    file = directory / PICKED
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        wanted, features, categories = content["for"], content["features"], content["categories"]
        if not all(isinstance(path, str) for path in [*features, *categories]):
            raise TypeError("a path is no text")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecoveryError(
            f"recovery.directory: {file} cannot be read ({error!r}): restore it from a copy, or start with another "
            "recovery.directory"
        ) from error
    now = _picked_for(config)
    if wanted != now:
        changed = [f"{name} {wanted.get(name)!r} → {now[name]!r}" for name in now if wanted.get(name) != now[name]]
        raise RecoveryError(
            f"recovery.directory: the features in {file} were picked under other settings of `event` "
            f"({', '.join(changed)}): undo the change, or start with another recovery.directory"
        )
    return with_columns(config, features, categories)


def _picked_for(config: Config) -> dict[str, str | list[str]]:
    """The settings that decide what is picked."""
    event = config.event
    return {
        "entity": event.entity,
        "timestamp": event.timestamp,
        "target": event.target,
        "categories": event.categories,
    }


def epoch_interval(config: Config) -> timedelta:
    """Time between snapshots."""
    return timedelta(seconds=config.recovery.epoch_interval)
