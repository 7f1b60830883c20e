"""Starting afresh: the whole recovery directory is moved aside, or one entity of it begins anew."""

from __future__ import annotations

import pickle
import time
from pathlib import Path

from ssm_stream.config import Config
from ssm_stream.engine.engine import Engine, shard_of
from ssm_stream.kafka.codec import shard_key
from ssm_stream.recovery.bytewax_db import RecoveryError, opened_database, require_parts
from ssm_stream.recovery.checkpoint_files import FOLDER, ShardFiles, name_in
from ssm_stream.recovery.directory import go_back, lock, prune, require_imported
from ssm_stream.recovery.reader import Kept, directory_of, kept_in, settings_of, unknown


def set_aside(directory: Path) -> Path:
    """Move a directory that is locked by us away, or, where it is a volume's own, what is in it; returns where to."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    name = next(name for i in range(1000) if not (name := _aside(directory, stamp, i)).exists())
    try:
        return directory.rename(name)
    except OSError:
        inside = directory / name.name
        inside.mkdir()
        for path in list(directory.iterdir()):
            if path not in (inside, directory / "lock") and not path.name.startswith(f"{directory.name}."):
                path.rename(inside / path.name)
        return inside


def _aside(directory: Path, stamp: str, i: int) -> Path:
    return directory.with_name(f"{directory.name}.{stamp}" + (f"-{i}" if i else ""))


def reset_state(config: Config, *, dry: bool = False) -> Path | None:
    """Move all that the recovery directory keeps aside; returns where to, None where it was only asked for.

    Raises:
        RecoveryError: it is in use, or there is none.
    """
    directory = directory_of(config)
    if not directory.exists():
        raise RecoveryError(f"recovery.directory: {directory} is not there: there is nothing to reset")
    try:
        held = lock(directory)
        with held:
            return None if dry else set_aside(directory)
    except OSError as error:
        raise RecoveryError(f"recovery.directory: {directory} cannot be moved: {error}") from error


def reset_entity(config: Config, entity: str, *, dry: bool = False) -> str:
    """Let one entity start afresh; what it has taught others stays. Returns its shard.

    Raises:
        RecoveryError: the directory is in use or damaged, or there is no such entity.
        StateError: its shard's state is damaged.
    """
    directory = directory_of(config)
    if not directory.exists():
        raise RecoveryError(f"recovery.directory: {directory} is not there: there is nothing to reset")
    with lock(directory):
        require_imported(directory)
        require_parts(directory)
        if not dry:
            go_back(directory, prune(directory)[0])
        kept = kept_in(directory)
        shard, engine, files = _holder(kept, config, entity)
        if not dry:
            engine.remove(entity)
            token = files.write(engine)
            files.finish()
            _rename(kept, shard, token)
    return shard


def _holder(kept: Kept, config: Config, entity: str) -> tuple[str, Engine, ShardFiles]:
    for shard in kept.chains:
        made = settings_of(kept.words(shard), config)
        if shard_key(shard_of(entity, made.state.shards)) == shard:
            files = ShardFiles(kept.directory / FOLDER)
            engine = files.restore(made, kept.chains[shard][-1].name)
            if entity in engine:
                return shard, engine, files
    raise unknown(entity, kept.directory)


def _rename(kept: Kept, shard: str, token: bytes) -> None:
    """Let the databases name another file as the shard's state."""
    row = next(row for row in kept.rows if row.key == shard and isinstance(row.value, bytes) and name_in(row.value))
    with opened_database(kept.directory / f"part-{row.part}.sqlite3") as database:
        database.execute(
            "UPDATE snaps SET ser_change = ? WHERE step_id = ? AND state_key = ? AND snap_epoch = ?",
            (pickle.dumps(token), row.step, row.key, row.epoch),
        )
        database.commit()
