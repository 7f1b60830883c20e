"""Compares two states entity by entity, by the hashes of their entities' states."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from ssm_stream.config import Config, load_config
from ssm_stream.config.changes import Change, diff_model_settings
from ssm_stream.engine.engine import Engine
from ssm_stream.engine.entity_report import hash_by_source
from ssm_stream.recovery.bytewax_db import RecoveryError
from ssm_stream.recovery.export import read_engines
from ssm_stream.recovery.reader import StoredState, with_state
from ssm_stream.recovery.settings_files import require_stored_features
from ssm_stream.recovery.store.reading import with_stored_state


class EntityHashes(NamedTuple):
    """The entities of a state with their hashes, and the configuration that made it."""

    config: str
    """Its hash."""
    settings: dict[str, Any] | None
    """None where the state does not hold them."""
    entities: dict[str, dict[int, str]]
    """By source partition of a state: the entity's own, and the pool's that it would learn with."""


class StateDifference(NamedTuple):
    """Entities that only one of two states has or that differ, the number of equal ones, and settings that differ."""

    only_first: list[str]
    only_second: list[str]
    differ: list[str]
    same: int
    changes: list[Change]

    @property
    def any(self) -> bool:
        """Return True if an entity differs or is only in one of them."""
        return bool(self.only_first or self.only_second or self.differ)


def hash_state(path: Path) -> EntityHashes:
    """The entity hashes of a recovery directory, of the state of a configuration file, or of an export.

    Raises:
        ConfigError, RecoveryError, StateError: there is no state, or it is damaged.
        OSError: the file cannot be read.
    """
    if path.is_dir():
        return hash_directory(path)
    if path.suffix in (".yaml", ".yml", ".json"):
        config = load_config(path)
        like = require_stored_features(config)
        return with_stored_state(config, lambda stored: _hash_stored(stored, like))
    return hash_file(path)


def hash_directory(directory: Path, like: Config | None = None) -> EntityHashes:
    """The entity hashes of a recovery directory. like: as for `rebuild_config`

    Raises:
        RecoveryError, StateError: it is damaged or empty.
    """

    return with_state(directory, lambda stored: _hash_stored(stored, like))


def _hash_stored(stored: StoredState, like: Config | None) -> EntityHashes:
    if not stored.chains:
        raise RecoveryError(f"{stored.place} holds no state")
    return _hash_engines((stored.metadata(shard), stored.engine(shard, like)) for shard in stored.chains)


def hash_file(file: Path) -> EntityHashes:
    """The entity hashes of an export, or of a snapshot of one shard.

    Raises:
        StateError: it is neither, or damaged.
        OSError: it cannot be read.
    """
    return _hash_engines(read_engines(file))


def _hash_engines(shards: Iterable[tuple[dict[str, Any], Engine]]) -> EntityHashes:
    """The entity hashes of shards, given as header and engine."""
    entities: dict[str, dict[int, str]] = {}
    config, settings = "", None
    for metadata, engine in shards:
        config, settings = metadata["config"], metadata.get("settings")
        for name in engine.names:  # in a group's store, an entity may be in several partitions
            entities.setdefault(name, {}).update(hash_by_source(engine, name))
    return EntityHashes(config, settings, entities)


def compare(first: EntityHashes, second: EntityHashes) -> StateDifference:
    """The differences between two states."""
    a, b = first.entities, second.entities
    both = sorted(a.keys() & b.keys())
    differ = [name for name in both if not _agree(a[name], b[name])]
    changes = diff_model_settings(first.settings, second.settings) if first.settings and second.settings else []
    return StateDifference(
        sorted(a.keys() - b.keys()), sorted(b.keys() - a.keys()), differ, len(both) - len(differ), changes
    )


def _agree(first: dict[int, str], second: dict[int, str]) -> bool:
    """Return whether an entity is the same in two states: in the partitions that both have. A group's store has a state
    of each partition by itself, with the entity in its own only, where one process has the pools of all."""
    both = first.keys() & second.keys()
    return bool(both) and all(first[source] == second[source] for source in both)
