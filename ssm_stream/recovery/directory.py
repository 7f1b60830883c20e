"""The recovery directory: one process at a time (or one cluster), and no snapshot of an epoch that never ended.

Bytewax 0.21 keeps snapshots of an unfinished epoch after a crash and may load them at a later resume, which counts
events twice. `open_recovery` deletes them before each start. Then it sees to the files that the snapshots of the shards
name (`generations.py`): where the power failed before one was on the disk, the start goes back by one epoch, which
Bytewax keeps the snapshots of; files that nothing names are deleted.

The databases are closed before Bytewax opens them: two SQLite libraries in one process would undo each other's locks.

Beside the snapshots lies `picked.json`, where features were picked from the first events: the choice stays the same for
as long as the state does.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from datetime import timedelta
from pathlib import Path
from typing import IO, Any, NamedTuple

from bytewax.recovery import RecoveryConfig, init_db_dir

from ssm_stream.autoconfig.feature_selection import with_columns
from ssm_stream.config import Config
from ssm_stream.engine.snapshot_format import StateError
from ssm_stream.recovery.bytewax_db import (
    WAY_OUT,
    RecoveryError,
    named,
    newest,
    opened_database,
    parts_in,
    require_parts,
    resume_epoch,
)
from ssm_stream.recovery.checkpoint_files import FOLDER, chain_of, sync

__all__ = ["RecoveryError"]
IMPORTING = "importing"
"""Folder that is there while an export is imported."""
MARK = "initialised"
PARTITIONS = 4  # Bytewax loads a partition's snapshots in quadratic time; few entities' blobs a shard keep it short


class OpenRecovery(NamedTuple):
    """A locked, pruned directory. The lock is held until the process ends, however it ends; None: another's of the
    cluster. torn: epochs gone back, as the power failed before the last one was on the disk."""

    config: RecoveryConfig
    resume_epoch: int
    pruned: int
    torn: int
    lock: IO[str] | None


def open_recovery(config: Config) -> OpenRecovery | None:
    """Create or open the directory, lock it and prune it; None where recovery is off.

    Raises:
        RecoveryError: in use by another process, not writable, damaged, or parts of it are missing.
    """
    directory = config.recovery.directory
    if directory is None:
        return None
    try:
        make_directory(directory)
        held = lock(directory)
        require_imported(directory)
        _initialise(directory)
        require_parts(directory)
        ended, pruned = prune(directory)
        epoch = go_back(directory, ended)
        _tidy(directory)
        _require_writers(config, directory)
    except OSError as error:
        raise RecoveryError(f"recovery.directory: {directory} cannot be used: {error}") from error
    return OpenRecovery(_bytewax(config, directory), epoch, pruned, ended - epoch, held)


def make_directory(directory: Path) -> None:
    """Create the directory, where it is not there, for this user alone: Bytewax pickles what lies in its databases, so
    who can write here can run code as this user."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)


def writable_by_others(directory: Path) -> bool:
    """Whether any user of the machine may put something into the directory."""
    try:
        return bool(directory.stat().st_mode & 0o002)
    except OSError:
        return False


def join_recovery(config: Config) -> OpenRecovery | None:
    """The directory that the first process of this one's cluster opens; it may take as long as that needs.

    Raises:
        RecoveryError: it did not in time.
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
    # One epoch more than it needs, see `go_back`.
    return RecoveryConfig(str(directory), backup_interval=epoch_interval(config))


def _initialise(directory: Path) -> None:
    """Create the databases, all or none: a kill in between leaves some without the mark, and they are made anew."""
    mark = directory / MARK
    if mark.exists():
        return
    files = list(directory.glob("part-*.sqlite3*"))
    if not any(_has_run(file) for file in files if file.suffix == ".sqlite3"):
        if any((directory / FOLDER).glob("*.state")):
            raise RecoveryError(
                f"recovery.directory: {directory} holds states, but no part-*.sqlite3 that name them: {WAY_OUT}"
            )
        for file in files:
            file.unlink()
        init_db_dir(directory, PARTITIONS)
    mark.touch()


def require_imported(directory: Path) -> None:
    """Refuse what an import has left that was killed.

    Raises:
        RecoveryError: so it is here.
    """
    if (directory / IMPORTING).exists():
        raise RecoveryError(
            f"recovery.directory: an import into {directory} did not come to its end: repeat it (ssm-stream state "
            "import --force), or move the directory away to start anew (ssm-stream state reset)"
        )


def _has_run(file: Path) -> bool:
    """Whether an execution is noted in the database (it may be another tool that initialised it)."""
    with opened_database(file) as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        return "exs" in tables and database.execute("SELECT count(*) FROM exs").fetchone()[0] > 0


def lock(directory: Path) -> IO[str]:
    """The directory is ours until the file is closed, or the process ends, however that comes.

    Raises:
        RecoveryError: it is another process's.
    """
    file = (directory / "lock").open("a+")
    for left in range(5, -1, -1):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if left:
                time.sleep(0.02)  # somebody may only be asking, see `owner_of`
                continue
            file.seek(0)
            owner = file.read().strip() or "unknown"
            file.close()
            raise RecoveryError(
                f"recovery.directory: {directory} is in use by process {owner}: stop that one, or name another "
                "directory"
            ) from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def owner_of(directory: Path) -> str | None:
    """The process that holds the lock of a directory; None where none does."""
    try:
        file = (directory / "lock").open()
    except FileNotFoundError:
        return None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return file.read().strip() or "unknown"
    return None


def prune(directory: Path) -> tuple[int, int]:
    """Delete the snapshots of epochs that did not end.

    Returns:
        the epoch that the next execution resumes at, and the number of snapshots deleted
    """
    files = parts_in(directory)
    resume = resume_epoch(files)
    deleted = 0
    for file in files:
        with opened_database(file) as database:
            deleted += database.execute("DELETE FROM snaps WHERE snap_epoch >= ?", (resume,)).rowcount
            database.commit()
    return resume, deleted


def go_back(directory: Path, resume: int) -> int:
    """Make the execution resume at an earlier epoch, where a shard's state of the last one is torn.

    Returns:
        the epoch that it resumes at

    Raises:
        RecoveryError: what the earlier one needs is gone too.
    """
    folder, boot = directory / FOLDER, _boot()
    noted = directory / "boot"
    # While the machine runs, what was written can be read; files that were not on the disk are lost with its power.
    thoroughly = not boot or not noted.exists() or noted.read_text() != boot
    while torn := _torn(directory, folder, thoroughly=thoroughly):
        epoch, error = min(torn, key=lambda found: found[0])
        files = parts_in(directory)
        if epoch <= max(newest(file, "commits", "commit_epoch") for file in files):
            raise RecoveryError(
                f"recovery.directory: {error}, and no earlier state is kept: restore {directory} from a copy, or start "
                "with another recovery.directory (with source.start: earliest, all that the topic still holds is "
                "learned again)"
            )
        last = max(newest(file, "exs", "ex_num") for file in files)
        for file in files:
            with opened_database(file) as database:
                for table, column in (("fronts", "worker_frontier"), ("exs", "resume_epoch")):
                    database.execute(
                        f"UPDATE {table} SET {column} = ? WHERE ex_num = ? AND {column} > ?", (epoch, last, epoch)
                    )
                database.commit()
        resume, _ = prune(directory)
    if boot:
        noted.write_text(boot)
    return resume


def _boot() -> str:
    """What stands for this run of this machine's kernel; nothing where it does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:
        return ""


def _torn(directory: Path, folder: Path, *, thoroughly: bool) -> list[tuple[int, StateError]]:
    """Epochs of the latest states that cannot be used, and why."""
    torn = []
    for states in named(directory).values():
        epoch, name = states[-1]
        try:
            chain_of(folder, name, thoroughly=thoroughly)
        except StateError as error:
            torn.append((epoch, error))
    return torn


def _tidy(directory: Path) -> None:
    """See to it that what is needed is on the disk, and delete what is not."""
    folder = directory / FOLDER
    if not any(_has_run(file) for file in directory.glob("part-*.sqlite3")):
        return  # whoever wrote these files keeps their names elsewhere
    needed = set()
    for states in named(directory).values():
        for _, name in states:
            try:
                needed |= {generation.name for generation in chain_of(folder, name)}
            except StateError:
                continue  # an earlier one, which its shard has deleted already
    for file in folder.glob("*"):
        if file.name in needed:
            sync(file)
        else:
            file.unlink()


def _require_writers(config: Config, directory: Path) -> None:
    """Refuse fewer producers than the state knows, which the engine would only panic about.

    Raises:
        RecoveryError: so it is.
    """
    known = 0
    for file in parts_in(directory):
        with opened_database(file) as database:
            query = "SELECT DISTINCT state_key FROM snaps WHERE step_id LIKE '%.sink'"
            known = max([known, *(int(key) + 1 for (key,) in database.execute(query))])
    if known > config.writers:
        raise RecoveryError(
            f"sinks.writers: the state in {directory} was made with {known} writers (the smaller of sinks.writers and "
            f"state.shards), now there are {config.writers}: set it back, or start with another recovery.directory"
        )


PICKED = "picked.json"


def write_picked(directory: Path, config: Config, picked: Config) -> None:
    """Keep the inputs that were picked for `config`; the file is there whole or not at all, whenever the power fails.

    Raises:
        RecoveryError: it cannot be written.
    """
    content = {"for": _picked_for(config), "features": picked.event.numbers, "categories": picked.event.categories}
    write_json(directory / PICKED, content)


def write_json(file: Path, content: dict[str, Any]) -> None:
    """Write a small file that is there whole or not at all, whenever the power fails.

    Raises:
        RecoveryError: it cannot be written.
    """
    draft = file.with_suffix(".draft")
    try:
        with draft.open("w", encoding="utf-8") as out:
            json.dump(content, out, indent=1)
            out.flush()
            os.fsync(out.fileno())
        draft.replace(file)
        sync(file.parent)
    except OSError as error:
        raise RecoveryError(f"recovery.directory: {file} cannot be written: {error}") from error


def read_json(file: Path) -> Any:
    """What `write_json` wrote; None where there is no such file, or none that can be read."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


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
    return timedelta(seconds=config.epoch_interval)
