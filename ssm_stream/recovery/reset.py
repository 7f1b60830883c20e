"""Resets a state: moves the whole recovery directory aside, or deletes one entity from it.

Either way the ends of open episodes are sent once events come again.
"""

from __future__ import annotations

import contextlib
import pickle
import time
from collections.abc import Iterator
from pathlib import Path

from ssm_stream.config import Config
from ssm_stream.engine.engine import Engine, shard_of
from ssm_stream.kafka.records import shard_key
from ssm_stream.recovery.bytewax_db import RecoveryError, open_database, require_parts
from ssm_stream.recovery.checkpoint_files import FOLDER, ShardCheckpoints, referenced_file
from ssm_stream.recovery.directory import make_directory, prune, require_imported, roll_back
from ssm_stream.recovery.ended_episodes import find_open_episodes, write_ended
from ssm_stream.recovery.locking import lock
from ssm_stream.recovery.reader import StoredState, read_state, rebuild_config, require_directory, unknown_entity
from ssm_stream.recovery.replacement import finish_replacement


def move_aside(directory: Path) -> Path:
    """Rename a directory that this process has locked, or move its content where it is a mount point.

    Returns:
        the new folder
    """
    stamp = time.strftime("%Y%m%d-%H%M%S")
    name = next(name for i in range(1000) if not (name := _aside_name(directory, stamp, i)).exists())
    try:
        return directory.rename(name)
    except OSError:
        inside = directory / name.name
        inside.mkdir()
        for path in list(directory.iterdir()):
            if path not in (inside, directory / "lock") and not path.name.startswith(f"{directory.name}."):
                path.rename(inside / path.name)
        return inside


def _aside_name(directory: Path, stamp: str, i: int) -> Path:
    return directory.with_name(f"{directory.name}.{stamp}" + (f"-{i}" if i else ""))


def reset_state(config: Config, *, dry: bool = False) -> Path | None:
    """Move the content of the recovery directory aside; returns the new folder, or None with `dry`.

    Raises:
        RecoveryError: the directory is in use or does not exist.
    """
    directory = require_directory(config)
    if not directory.exists():
        raise RecoveryError(f"recovery.directory: {directory} does not exist: there is nothing to reset")
    try:
        held = lock(directory)
        with held:
            if dry:
                return None
            ended = find_open_episodes(directory, config)
            aside = move_aside(directory)
            if ended:
                make_directory(directory)
                write_ended(directory, ended)
            return aside
    except OSError as error:
        raise RecoveryError(f"recovery.directory: {directory} cannot be moved: {error}") from error


def reset_entity(config: Config, entity: str, *, dry: bool = False) -> str:
    """Delete one entity from the state; what other entities have learned from it stays. Returns its shard.

    Raises:
        RecoveryError: the directory is in use or damaged, or has no such entity.
        StateError: the state of its shard is damaged.
    """
    with locked_state(config, "there is nothing to reset", dry=dry) as stored:
        shard, engine, files = _find_shard(stored, config, entity)
        if not dry:
            engine.remove(entity)
            token = files.write(engine)
            files.finish()
            name_file(stored, shard, token)
    return shard


@contextlib.contextmanager
def locked_state(config: Config, absent: str, *, dry: bool) -> Iterator[StoredState]:
    """Yield the stored state, locked, and whole as a start would take it.

    Args:
        absent: what it means if there is none
        dry: change nothing

    Raises:
        RecoveryError: the directory is absent, in use or damaged.
    """
    directory = require_directory(config)
    if not directory.exists():
        raise RecoveryError(f"recovery.directory: {directory} does not exist: {absent}")
    with lock(directory):
        finish_replacement(directory)
        require_imported(directory)
        require_parts(directory)
        if not dry:
            roll_back(directory, prune(directory)[0])
        yield read_state(directory)


def _find_shard(stored: StoredState, config: Config, entity: str) -> tuple[str, Engine, ShardCheckpoints]:
    for shard in stored.chains:
        made = rebuild_config(stored.metadata(shard), config)
        if shard_key(shard_of(entity, made.state.shards)) == shard:
            files = ShardCheckpoints(stored.directory / FOLDER)
            engine = files.restore(made, stored.chains[shard][-1].name)
            if entity in engine:
                return shard, engine, files
    raise unknown_entity(entity, stored.place)


def name_file(stored: StoredState, shard: str, token: bytes) -> None:
    """Make the databases name another file as the shard's state. token: as `ShardCheckpoints.write` returns it"""
    rows = (row for row in stored.rows if row.key == shard and isinstance(row.value, bytes))
    row = next(row for row in rows if referenced_file(row.value))
    with open_database(stored.directory / f"part-{row.part}.sqlite3") as database:
        database.execute(
            "UPDATE snaps SET ser_change = ? WHERE step_id = ? AND state_key = ? AND snap_epoch = ?",
            (pickle.dumps(token), row.step, row.key, row.epoch),
        )
        database.commit()
