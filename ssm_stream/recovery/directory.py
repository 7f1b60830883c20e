"""The recovery directory: opened by one process (or one cluster) at a time, without snapshots of unfinished epochs.

After a crash, Bytewax 0.21 keeps the snapshots of the unfinished epoch and may load them at a later resume, which
counts events twice. `open_recovery` deletes them before each start. Then it checks the state files that the snapshots
of the shards name (`checkpoint_files.py`): if the power failed before one was on the disk, the start goes back by one
epoch, whose snapshots Bytewax still has. Files that no snapshot names are deleted.

The databases are closed before Bytewax opens them: two SQLite libraries in one process release each other's locks.
"""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from typing import IO, NamedTuple

from bytewax.recovery import RecoveryConfig, init_db_dir

from ssm_stream.config import Config
from ssm_stream.engine.snapshot_format import StateError
from ssm_stream.recovery.bytewax_db import (
    REMEDY,
    RecoveryError,
    database_files,
    max_value,
    on_disk,
    on_disk_of_bytewax,
    open_database,
    referenced_files,
    require_parts,
    require_service,
    resume_epoch,
)
from ssm_stream.recovery.checkpoint_files import FOLDER, read_chain, sync
from ssm_stream.recovery.locking import lock
from ssm_stream.recovery.replacement import finish_replacement, require_replaced

IMPORTING = "importing"
"""Folder that exists while an import is under way."""
MARK = "initialised"
RUNNING = "running"
"""File that exists while a run has not come to a clean end."""
PARTITIONS = 4
"""Databases. Bytewax loads the snapshots of one in quadratic time."""


class OpenRecovery(NamedTuple):
    """A locked and pruned directory."""

    config: RecoveryConfig
    resume_epoch: int
    pruned: int
    """Deleted snapshots of an unfinished epoch."""
    torn: int
    """Epochs that the start goes back, as state files of the last ones are torn."""
    lock: IO[str] | None
    """Held until it is closed or the process ends; None where another process of the cluster holds it."""
    interrupted: bool = True
    """Whether a run before may have passed on events past the positions: it came to no clean end, or is not known."""
    why_torn: str = ""
    """What is known of it: the file, and whether the machine was started again."""


def open_recovery(config: Config) -> OpenRecovery | None:
    """Create or open the directory, lock it and prune it; returns None where recovery is off.

    Raises:
        RecoveryError: another process holds it, it is not writable or damaged, or parts of it are missing.
    """
    directory = config.recovery.directory
    if directory is None:
        return None
    with on_disk(directory), on_disk_of_bytewax(directory):
        make_directory(directory)
        held = lock(directory)
        finish_replacement(directory)
        require_imported(directory)
        _initialise(directory)
        require_parts(directory)
        require_service(directory)
        ended, pruned = prune(directory)
        epoch, why = roll_back(directory, ended)
        _clean_up(directory)
        _require_writers(config, directory)
        interrupted = (directory / RUNNING).exists()
        (directory / RUNNING).touch()
    return OpenRecovery(_bytewax(config, directory), epoch, pruned, ended - epoch, held, interrupted, why)


def note_clean_end(directory: Path) -> None:
    """Note that all that a run has passed on lies before the positions of its last snapshot.

    Raises:
        RecoveryError: the disk refuses it.
    """
    with on_disk(directory):
        (directory / RUNNING).unlink(missing_ok=True)


def make_directory(directory: Path) -> None:
    """Create the directory, accessible to this user alone.

    Bytewax unpickles the content of its databases: whoever can write here can run code as this user.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)


def writable_by_others(directory: Path) -> bool:
    """Return True if every user of the machine may write to the directory."""
    try:
        return bool(directory.stat().st_mode & 0o002)
    except OSError:
        return False


def join_recovery(config: Config) -> OpenRecovery | None:
    """Wait for the first process of the cluster to open the directory; returns None where recovery is off.

    Raises:
        RecoveryError: it has not done so in time.
    """
    directory = config.recovery.directory
    if directory is None:
        return None
    deadline = time.monotonic() + 2 * config.source.wait
    while not (directory / MARK).exists():
        if time.monotonic() > deadline:
            raise RecoveryError(
                f"recovery.directory: the first process has not set up {directory}: start it, or name a folder that "
                "all processes of the cluster share"
            )
        time.sleep(0.1)
    return OpenRecovery(_bytewax(config, directory), 0, 0, 0, None)


def _bytewax(config: Config, directory: Path) -> RecoveryConfig:
    # One epoch more than Bytewax itself needs, for `roll_back`.
    return RecoveryConfig(str(directory), backup_interval=epoch_interval(config))


def _initialise(directory: Path) -> None:
    """Create the databases unless they are there; those of an unfinished attempt (without MARK) are replaced."""
    mark = directory / MARK
    if mark.exists():
        return
    files = list(directory.glob("part-*.sqlite3*"))
    if not any(_has_run(file) for file in files if file.suffix == ".sqlite3"):
        if any((directory / FOLDER).glob("*.state")):
            raise RecoveryError(
                f"recovery.directory: {directory} holds state files, but no part-*.sqlite3 that name them: {REMEDY}"
            )
        for file in files:
            file.unlink()
        init_db_dir(directory, PARTITIONS)
    mark.touch()


def require_imported(directory: Path) -> None:
    """Refuse a directory whose import, or rewind, was interrupted.

    Raises:
        RecoveryError: names the cure.
    """
    require_replaced(directory)
    if (directory / IMPORTING).exists():
        raise RecoveryError(
            f"recovery.directory: an import into {directory} was interrupted: repeat it (ssm-stream state "
            "import --force), or move the directory away to start anew (ssm-stream state reset)"
        )


def fill_databases(folder: Path, parts: int, epoch: int, rows: list[tuple[int, str, str, int, bytes]]) -> None:
    """Write databases as a run of one worker would leave them after the epoch before `epoch`.

    rows: part, step, key, epoch and pickled value of each snapshot
    """
    init_db_dir(folder, parts)
    for part in range(parts):
        with open_database(folder / f"part-{part}.sqlite3") as database:
            insert = "INSERT INTO snaps (step_id, state_key, snap_epoch, ser_change) VALUES (?, ?, ?, ?)"
            database.executemany(insert, [row[1:] for row in rows if row[0] == part])
            database.execute("INSERT INTO commits (part_index, commit_epoch) VALUES (?, ?)", (part, epoch - 1))
            if part == parts - 1:
                database.execute("INSERT INTO exs (ex_num, worker_count, resume_epoch) VALUES (0, 1, ?)", (epoch,))
                database.execute(
                    "INSERT INTO fronts (ex_num, worker_index, worker_frontier) VALUES (0, 0, ?)", (epoch,)
                )
            database.commit()


def _has_run(file: Path) -> bool:
    """Return True if the database has an execution; another tool may have initialised it without one."""
    with open_database(file) as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        return "exs" in tables and database.execute("SELECT count(*) FROM exs").fetchone()[0] > 0


def prune(directory: Path) -> tuple[int, int]:
    """Delete the snapshots of unfinished epochs.

    Returns:
        the epoch that the next execution resumes at, and the number of deleted snapshots
    """
    files = database_files(directory)
    resume = resume_epoch(files)
    deleted = 0
    for file in files:
        with open_database(file) as database:
            deleted += database.execute("DELETE FROM snaps WHERE snap_epoch >= ?", (resume,)).rowcount
            database.commit()
    return resume, deleted


def roll_back(directory: Path, resume: int) -> tuple[int, str]:
    """Make the next execution resume at an earlier epoch if a shard's state file of the last one is torn.

    Returns:
        the epoch that it resumes at, and why it is an earlier one

    Raises:
        RecoveryError: no earlier state is left.
    """
    why, folder, boot = "", directory / FOLDER, _boot_id()
    boot_file = directory / "boot"
    # What was written can be read while the machine runs. Checksums are needed only after it was started again: writes
    # that were not on the disk are lost with the power.
    known = boot_file.read_text() if boot and boot_file.exists() else ""
    verify = not boot or known != boot
    while torn := _torn(directory, folder, verify=verify):
        epoch, error = min(torn, key=lambda found: found[0])
        files = database_files(directory)
        if epoch <= max(max_value(file, "commits", "commit_epoch") for file in files):
            raise RecoveryError(
                f"recovery.directory: {error}, and no earlier state is left: restore {directory} from a copy, or start "
                "with another recovery.directory (with source.start: earliest, all that the topic still has is "
                "learned again)"
            )
        last = max(max_value(file, "exs", "ex_num") for file in files)
        for file in files:
            with open_database(file) as database:
                for table, column in (("fronts", "worker_frontier"), ("exs", "resume_epoch")):
                    database.execute(
                        f"UPDATE {table} SET {column} = ? WHERE ex_num = ? AND {column} > ?", (epoch, last, epoch)
                    )
                database.commit()
        resume, _ = prune(directory)
        why = f"{error}; {_when(known, boot)}"
    if boot:
        boot_file.write_text(boot)
    return resume, why


def _when(known: str, boot: str) -> str:
    """Return what the ids of the boots, when the directory was last opened and now, show of a file that is torn."""
    if not known or not boot:
        return "whether the machine has been started again since it was written is not known"
    if known == boot:
        return "the machine has run all the time, so no power failure did it: something else did, look at the disk"
    return "the machine has been started again since, and what was not on the disk yet is lost with the power"


def _boot_id() -> str:
    """The id of the machine's present boot, or an empty string where the kernel has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:
        return ""


def _torn(directory: Path, folder: Path, *, verify: bool) -> list[tuple[int, StateError]]:
    """Epoch and error of each shard whose latest state cannot be used."""
    torn = []
    for states in referenced_files(directory).values():
        epoch, name = states[-1]
        try:
            read_chain(folder, name, verify=verify)
        except StateError as error:
            torn.append((epoch, error))
    return torn


def _clean_up(directory: Path) -> None:
    """Sync the needed state files to the disk and delete the others."""
    folder = directory / FOLDER
    if not any(_has_run(file) for file in directory.glob("part-*.sqlite3")):
        return  # the names of these files are stored elsewhere
    needed = set()
    for states in referenced_files(directory).values():
        for _, name in states:
            try:
                needed |= {checkpoint.name for checkpoint in read_chain(folder, name)}
            except StateError:
                continue  # an earlier state, which its shard has already deleted
    for file in folder.glob("*"):
        if file.name in needed:
            sync(file)
        else:
            file.unlink()


def _require_writers(config: Config, directory: Path) -> None:
    """Refuse fewer producers than the state has, on which Bytewax would panic.

    Raises:
        RecoveryError: names both numbers and the cure.
    """
    writers = 0
    for file in database_files(directory):
        with open_database(file) as database:
            query = "SELECT DISTINCT state_key FROM snaps WHERE step_id = 'monitor.sink'"
            writers = max([writers, *(int(key) + 1 for (key,) in database.execute(query))])
    if writers > config.writers:
        raise RecoveryError(
            f"state.shards: the state in {directory} was made with {writers} writers (as many as state.shards, at "
            f"most four), now there are {config.writers}: set it back, or start with another "
            "recovery.directory"
        )


def epoch_interval(config: Config) -> timedelta:
    """Time between snapshots, which is an epoch of Bytewax."""
    return timedelta(seconds=config.epoch_interval)
