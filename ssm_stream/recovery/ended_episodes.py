"""The episodes that a reset of the whole state ended: a file in the recovery directory; new shards send their ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ssm_stream.config import Config
from ssm_stream.engine.engine import Engine, shard_of
from ssm_stream.engine.episodes.ids import Ended, load_ended
from ssm_stream.engine.snapshot_format import StateError
from ssm_stream.kafka.records import shard_key
from ssm_stream.recovery.bytewax_db import RecoveryError
from ssm_stream.recovery.reader import StoredState, read_state
from ssm_stream.recovery.settings_files import read_json, write_json

FILE = "ended.json"


def find_open_episodes(directory: Path, like: Config) -> list[list[Any]]:
    """Return the open episodes of a state as JSON has them, those that an earlier reset ended and that are yet to be
    sent included; none of a state that cannot be read.

    Args:
        like: as of `rebuild_config`
    """
    try:
        stored = read_state(directory)
        rows = open_episodes(stored, like)
        waiting = (each for each in _read(directory) if shard_key(_shard(each, like.state.shards)) not in stored.chains)
        return rows + [each.to_json() for each in waiting]
    except (RecoveryError, StateError):
        return []


def open_episodes(stored: StoredState, like: Config) -> list[list[Any]]:
    """Return the open episodes of a state as JSON has them.

    Raises:
        StateError: it is damaged.
    """
    return [row for shard in stored.chains for row in stored.engine(shard, like).episodes.end_all()]


def ended_of_source(directory: Path, source: int) -> list[Ended]:
    """Return the ended episodes of a partition.

    Raises:
        RecoveryError: the file is damaged.
    """
    return [each for each in _read(directory) if each.started.pool[1] == source]


def write_ended(directory: Path, rows: list[list[Any]]) -> None:
    """Write the episodes that `find_open_episodes` returned. The directory must exist."""
    write_json(directory / FILE, {"episodes": rows})


def add_ended(engine: Engine, directory: Path, shard: int) -> None:
    """Add the ended episodes of a shard to its engine, which has no state yet: it sends them at its next events."""
    shards = engine.config.state.shards
    engine.episodes.add_ended([each for each in _read(directory) if _shard(each, shards) == shard])


def _read(directory: Path) -> list[Ended]:
    content = read_json(directory / FILE)
    try:
        return load_ended(content["episodes"]) if isinstance(content, dict) else []
    except (KeyError, TypeError, ValueError) as error:
        raise RecoveryError(f"recovery.directory: {directory / FILE} is damaged: remove it") from error


def _shard(ended: Ended, shards: int) -> int:
    """Return the shard that sends the end of an episode; a fleet's may be one that no longer exists."""
    if ended.key.scope == "entity":
        return shard_of(ended.key.entity, shards)
    shard = ended.started.pool[0]
    return shard if shard < shards else 0
