"""Reads a recovery directory without changing it, whether or not a process runs on it.

While a process runs, the content read is the end of one epoch of all shards and sources, or it is read again.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import ValidationError

from ssm_stream.config import Config
from ssm_stream.config.earlier import adapt
from ssm_stream.core import frozen_weights
from ssm_stream.engine.engine import Engine, shard_of
from ssm_stream.engine.entity_report import (
    EntityReport,
    EntitySummary,
    entity_hash,
    hash_by_source,
    report_entity,
    summarize_entities,
)
from ssm_stream.engine.snapshot_format import StateError, damage_as_state_error
from ssm_stream.kafka.records import shard_key
from ssm_stream.recovery.bytewax_db import (
    LABELS_PREFIX,
    RecoveryError,
    SnapshotRow,
    database_files,
    parse_source_part,
    read_rows,
    require_parts,
    resume_epoch,
)
from ssm_stream.recovery.checkpoint_files import (
    FOLDER,
    Checkpoint,
    load_chain,
    open_checkpoint,
    read_chain,
    referenced_file,
)
from ssm_stream.recovery.directory import require_imported
from ssm_stream.recovery.locking import lock_owner

ATTEMPTS = 20
T = TypeVar("T")


class Position(NamedTuple):
    """The next offset to read of a topic's partition."""

    topic: str
    partition: int
    offset: int


class StoredState(NamedTuple):
    """The content of a recovery directory at the end of an epoch."""

    directory: Path
    epoch: int
    """The epoch that a start resumes at."""
    owner: str | None
    """Id of the process that holds the directory."""
    parts: int
    """Number of Bytewax's databases."""
    rows: list[SnapshotRow]
    """The snapshots that Bytewax would load."""
    chains: dict[str, list[Checkpoint]]
    """By shard's key: the files with its state, the whole one first."""
    state_files: Path | None = None
    """Folder of these files, where it is not in the directory."""
    store: str = ""
    """Place of a group's store."""

    @property
    def place(self) -> str:
        """Return what messages call it."""
        return self.store or str(self.directory)

    @property
    def files(self) -> Path:
        """Folder of the files with the state."""
        return self.state_files or self.directory / FOLDER

    @property
    def by_partition(self) -> bool:
        """Return True if each partition has a state of its own: it is a group's store."""
        return bool(self.rows) and not self.parts

    @property
    def empty(self) -> bool:
        """Return True if nothing is stored yet."""
        return not self.rows

    def metadata(self, shard: str) -> dict[str, Any]:
        """The header of a shard's whole snapshot."""
        with open_checkpoint(self.files, self.chains[shard][0].name) as reader:
            return reader.metadata

    def engine(self, shard: str, like: Config | None = None) -> Engine:
        """The engine of a shard, under the settings that made its state. like: as for `rebuild_config`"""
        engine = Engine(rebuild_config(self.metadata(shard), like))
        load_chain(engine, self.files, self.chains[shard])
        return engine

    def positions(self, config: Config) -> list[Position]:
        """The next offsets of the topics of a configuration that the state has read, sorted."""
        out = []
        for row in self.rows:
            if type(row.value) is int:
                index, partition = parse_source_part(row.key.removeprefix(LABELS_PREFIX))
                names = config.source.names
                topic = names[index] if index < len(names) else None
                if row.key.startswith(LABELS_PREFIX) and config.labels is not None:
                    topic = config.labels.topic or topic
                elif row.step.endswith("feedback") and config.alerts.feedback is not None:
                    topic = config.alerts.feedback.topic
                if topic is not None:  # else it was taken out of source.topics
                    out.append(Position(topic, partition, row.value))
        return sorted(out)


def require_directory(config: Config) -> Path:
    """The recovery directory of a configuration.

    Raises:
        RecoveryError: it has none.
    """
    if config.state.store is not None:
        raise RecoveryError("state.store: the state is in the store of a group, which this command does not change")
    if config.recovery.directory is None:
        raise RecoveryError("recovery.directory: null, so no state is stored: name a directory")
    return config.recovery.directory


def read_state(directory: Path) -> StoredState:
    """The content of the directory at the end of the last epoch.

    Raises:
        RecoveryError: the directory or a database is damaged.
        StateError: a state file is damaged.
    """
    require_imported(directory)
    if not database_files(directory) and not any((directory / FOLDER).glob("*.state")):
        return StoredState(directory, 1, lock_owner(directory), 0, [], {})
    require_parts(directory)
    return read_sound_state(directory)


def read_sound_state(directory: Path) -> StoredState:
    """`read_state` for databases that have been checked already.

    Raises:
        RecoveryError, StateError: as `read_state`.
    """
    for _ in range(ATTEMPTS):
        files = database_files(directory)
        epoch = resume_epoch(files)
        rows = read_rows(directory, epoch)
        if resume_epoch(files) == epoch:
            break
    else:
        raise RecoveryError(f"recovery.directory: {directory} changes faster than it can be read: try again")
    names = {row.key: name for row in rows if isinstance(row.value, bytes) and (name := referenced_file(row.value))}
    chains = {key: read_chain(directory / FOLDER, name) for key, name in sorted(names.items())}
    return StoredState(directory, epoch, lock_owner(directory), len(files), rows, chains)


def with_state(directory: Path, read: Callable[[StoredState], T]) -> T:
    """Call `read` with the content of the directory; again where a running process has replaced files meanwhile.

    Raises:
        RecoveryError, StateError: the directory or a file is damaged.
    """
    for _ in range(ATTEMPTS):
        try:
            return read(read_state(directory))
        except StateError:
            if lock_owner(directory) is None:
                raise
            time.sleep(0.05)
    return read(read_state(directory))


def rebuild_config(metadata: dict[str, Any], like: Config | None = None) -> Config:
    """The configuration that made a state, without topics.

    Args:
        metadata: the header of the state's full snapshot
        like: a configuration that may be the same, or that may name the same file of weights

    Raises:
        StateError: the header has no settings, or their weights are not available.
    """
    if like is not None and metadata["config"] == like.hash:
        return like
    with damage_as_state_error():
        if "settings" not in metadata:
            raise StateError(
                f"the state was made by configuration {metadata['config']} and does not hold its settings: use the "
                "configuration that made it"
            )
        model = dict(metadata["settings"]["model"])
        digest = model["weights"]
        paths = [None, Path(frozen_weights.UNTRAINED), *([like.model.weights] if like is not None else [])]
        available = {frozen_weights.content_digest(path): path for path in paths}
        if digest not in available:
            raise StateError(
                f"the state was made with the weights {digest}, which are not available: name their file in "
                "model.weights"
            )
        content = copy.deepcopy({**metadata["settings"], "model": {**model, "weights": available[digest]}})
        adapt(content)
        topics = {
            "source": {"brokers": "-", "topic": "none"},
            "sinks": {"predictions": None, "alerts": None, "dead_letters": "none-dead"},
            "recovery": {"directory": None},
        }
        try:
            config = Config.model_validate({**topics, **content})
        except ValidationError as error:
            raise StateError(f"this release cannot read the settings of the state: {error}") from error
        if config.hash != metadata["config"]:
            raise StateError("the snapshot is damaged: its settings do not have its configuration hash")
    return config


class EntityList(NamedTuple):
    """The first entities of all shards in some order, each with its shard's key; the number of all."""

    lines: list[tuple[str, EntitySummary]]
    total: int


SORT_KEYS: dict[str, Callable[[tuple[str, EntitySummary]], Any]] = {
    "name": lambda row: row[1].entity,
    "last": lambda row: (-(row[1].last if row[1].last is not None else -(1 << 62)), row[1].entity),
    "events": lambda row: (-row[1].n, row[1].entity),
    "shard": lambda row: (row[0], row[1].entity),
}
"""Orders of a list of entities: times and numbers descending."""


def list_entities(
    stored: StoredState, like: Config | None = None, *, by: str = "name", limit: int | None = None
) -> EntityList:
    """The entities of all shards with their hashes; one shard at a time is in memory.

    Args:
        by: a key of `SORT_KEYS`
        limit: number of entities, None for all
    """
    best: list[tuple[str, EntitySummary]] = []
    total = 0
    for shard in stored.chains:
        engine = stored.engine(shard, like)
        found = [(shard, line) for line in summarize_entities(engine)]
        total += len(found)
        best = sorted([*best, *found], key=SORT_KEYS[by])[:limit]
        best = [
            (key, replace(line, hash=entity_hash(engine, line.entity)) if key == shard else line) for key, line in best
        ]
    return EntityList(best, total)


class EntityDetails(NamedTuple):
    """The state of an entity."""

    entity: str
    shard: str
    bytes: int
    hashes: dict[int, str]
    """State hash by source partition."""
    targets: list[EntityReport]
    primed: dict[str, Any] | None
    """The examples that it was primed with last: file, sha256, examples, source, at, by; None: none."""

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        hashes = [{"source": source, "hash": value} for source, value in self.hashes.items()]
        return {**self._asdict(), "hashes": hashes, "targets": [asdict(each) for each in self.targets]}


def find_entity(
    stored: StoredState, entity: str, like: Config | None = None, source: int | None = None
) -> EntityDetails:
    """The state of one entity.

    Args:
        source: its source partition, for the names of categories; None for the first

    Raises:
        RecoveryError: there is no such entity.
    """
    for shard in stored.chains:
        config = rebuild_config(stored.metadata(shard), like)
        there = stored.by_partition or shard_key(shard_of(entity, config.state.shards)) == shard
        if there and entity in (engine := stored.engine(shard, like)):
            hashes = hash_by_source(engine, entity)
            targets = [
                found for each in engine.target_engines if (found := report_entity(each, entity, source)) is not None
            ]
            return EntityDetails(entity, shard, engine.bytes_per_entity, hashes, targets, engine.primed.get(entity))
    raise unknown_entity(entity, stored.place)


def unknown_entity(entity: str, place: str) -> RecoveryError:
    """The error for an entity that the state does not have."""
    return RecoveryError(f"the state in {place} has no entity {entity!r}: ssm-stream state ls lists them")
