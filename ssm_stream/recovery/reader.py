"""What a recovery directory keeps, read without a change to it, whether or not a process runs on it.

A process that runs goes on meanwhile: what is read is the end of one epoch, of all shards and sources alike, or it is
read again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import ValidationError

from ssm_stream.config import Config
from ssm_stream.config.changes import Change, diff_model_settings
from ssm_stream.engine.engine import Engine, shard_of
from ssm_stream.engine.entity_report import (
    EntityReport,
    EntitySummary,
    entity_hash,
    entity_sources,
    report_entity,
    summarize_entities,
)
from ssm_stream.engine.snapshot_format import StateError, sound
from ssm_stream.kafka.codec import shard_key
from ssm_stream.kernels import frozen_weights
from ssm_stream.recovery.bytewax_db import (
    LABELS_PREFIX,
    RecoveryError,
    Row,
    parts_in,
    require_parts,
    resume_epoch,
    rows_in,
)
from ssm_stream.recovery.checkpoint_files import FOLDER, Generation, chain_of, name_in, opened
from ssm_stream.recovery.directory import owner_of, require_imported

ATTEMPTS = 20
T = TypeVar("T")


class Position(NamedTuple):
    """How far a partition of a topic has been read: the next offset."""

    topic: str
    partition: int
    offset: int


class Kept(NamedTuple):
    """A recovery directory at the end of an epoch.

    epoch: that a start would go on with; owner: process that holds it; parts: number of databases; rows: what Bytewax
    would load; chains: shard's key → files with its state, the whole one first
    """

    directory: Path
    epoch: int
    owner: str | None
    parts: int
    rows: list[Row]
    chains: dict[str, list[Generation]]

    @property
    def empty(self) -> bool:
        """Nothing is kept yet."""
        return not self.rows

    def words(self, shard: str) -> dict[str, Any]:
        """What the whole snapshot of a shard says of itself."""
        with opened(self.directory / FOLDER, self.chains[shard][0].name) as reader:
            return reader.metadata

    def engine(self, shard: str, like: Config | None = None) -> Engine:
        """The engine of a shard, under the settings that made it. like: a configuration that may be that"""
        engine = Engine(settings_of(self.words(shard), like))
        for generation in self.chains[shard]:
            with opened(self.directory / FOLDER, generation.name) as reader:
                engine.load(reader)
        engine.finish_load()
        return engine

    def positions(self, config: Config) -> list[Position]:
        """How far the topics have been read."""
        out = []
        for row in self.rows:
            if type(row.value) is int:
                beside = row.key.startswith(LABELS_PREFIX) and config.labels is not None and config.labels.topic
                feedback = row.step.endswith("feedback") and config.alerts.feedback and config.alerts.feedback.topic
                topic = beside or feedback or config.source.topic
                out.append(Position(topic, int(row.key.removeprefix(LABELS_PREFIX)), row.value))
        return sorted(out)


def directory_of(config: Config) -> Path:
    """The recovery directory of a configuration.

    Raises:
        RecoveryError: it has none.
    """
    if config.recovery.directory is None:
        raise RecoveryError("recovery.directory: null; without one no state is kept")
    return config.recovery.directory


def kept_in(directory: Path) -> Kept:
    """What the directory keeps at the end of the last epoch.

    Raises:
        RecoveryError: it is damaged.
        StateError: a file with a state is.
    """
    require_imported(directory)
    if not parts_in(directory) and not any((directory / FOLDER).glob("*.state")):
        return Kept(directory, 1, owner_of(directory), 0, [], {})
    require_parts(directory)
    return kept_by(directory)


def kept_by(directory: Path) -> Kept:
    """`kept_in`, where the databases have been checked already.

    Raises:
        RecoveryError, StateError: as `kept_in`.
    """
    for _ in range(ATTEMPTS):
        files = parts_in(directory)
        epoch = resume_epoch(files)
        rows = rows_in(directory, epoch)
        if resume_epoch(files) == epoch:
            break
    else:
        raise RecoveryError(f"recovery.directory: {directory} changes faster than it can be read: try again")
    named = {row.key: name for row in rows if isinstance(row.value, bytes) and (name := name_in(row.value))}
    chains = {key: chain_of(directory / FOLDER, name) for key, name in sorted(named.items())}
    return Kept(directory, epoch, owner_of(directory), len(files), rows, chains)


def read_kept(directory: Path, read: Callable[[Kept], T]) -> T:
    """What `read` makes of what the directory keeps; again where a running process has replaced the files meanwhile.

    Raises:
        RecoveryError, StateError: it is damaged.
    """
    for _ in range(ATTEMPTS):
        try:
            return read(kept_in(directory))
        except StateError:
            if owner_of(directory) is None:
                raise
            time.sleep(0.05)
    return read(kept_in(directory))


def settings_of(words: dict[str, Any], like: Config | None = None) -> Config:
    """The configuration that made a state, with no topics. words: of its whole snapshot

    Args:
        like: one that may be that, or that may name its file of weights

    Raises:
        StateError: the state does not tell, or its weights are not at hand.
    """
    if like is not None and words["config"] == like.hash:
        return like
    with sound():
        if "settings" not in words:
            raise StateError(
                f"the state was made by configuration {words['config']} and does not tell its settings: use the "
                "configuration that made it"
            )
        model = dict(words["settings"]["model"])
        wanted = model["weights"]
        paths = [None, Path(frozen_weights.UNTRAINED), *([like.model.weights] if like is not None else [])]
        at_hand = {frozen_weights.content_digest(path): path for path in paths}
        if wanted not in at_hand:
            raise StateError(
                f"the state was made with the weights {wanted}, which are not at hand: name their file in model.weights"
            )
        content = {**words["settings"], "model": {**model, "weights": at_hand[wanted]}}
        topics = {
            "source": {"brokers": "-", "topic": "none"},
            "sinks": {"predictions": None, "alerts": None, "dead_letters": "none-dead"},
            "recovery": {"directory": None},
        }
        try:
            config = Config.model_validate({**topics, **content})
        except ValidationError as error:
            raise StateError(f"the settings of the state cannot be read by this release: {error}") from error
        if config.hash != words["config"]:
            raise StateError("the snapshot is damaged: its settings are not those of its configuration hash")
    return config


# Lists of entities.


class Listed(NamedTuple):
    """Entities of a shard or of all, sorted; their number before it was limited."""

    lines: list[tuple[str, EntitySummary]]
    total: int


KEYS: dict[str, Callable[[tuple[str, EntitySummary]], Any]] = {
    "name": lambda row: row[1].entity,
    "last": lambda row: (-(row[1].last if row[1].last is not None else -(1 << 62)), row[1].entity),
    "events": lambda row: (-row[1].n, row[1].entity),
    "shard": lambda row: (row[0], row[1].entity),
}
"""What a list may be sorted by: times and numbers with the largest first."""


def listed(kept: Kept, like: Config | None = None, *, by: str = "name", limit: int | None = None) -> Listed:
    """The entities of all shards with their shard's key, the first of them with their hashes; one shard is in memory
    at a time."""
    best: list[tuple[str, EntitySummary]] = []
    total = 0
    for shard in kept.chains:
        engine = kept.engine(shard, like)
        mine = [(shard, line) for line in summarize_entities(engine)]
        total += len(mine)
        best = sorted([*best, *mine], key=KEYS[by])[:limit]
        best = [
            (key, replace(line, hash=entity_hash(engine, line.entity)) if key == shard else line) for key, line in best
        ]
    return Listed(best, total)


class Found(NamedTuple):
    """An entity: its shard's key, bytes of its state, state hash by source, and what each target knows of it."""

    entity: str
    shard: str
    bytes: int
    hashes: dict[int, str]
    targets: list[EntityReport]

    def as_json(self) -> dict[str, Any]:
        """As JSON has it."""
        hashes = [{"source": source, "hash": value} for source, value in self.hashes.items()]
        return {**self._asdict(), "hashes": hashes, "targets": [asdict(each) for each in self.targets]}


def entity_in(kept: Kept, entity: str, like: Config | None = None, source: int | None = None) -> Found:
    """What is known of one entity.

    Args:
        source: the stream that it comes from, for the names of categories; None: the first

    Raises:
        RecoveryError: there is no such entity.
    """
    for shard in kept.chains:
        made = settings_of(kept.words(shard), like)
        if shard_key(shard_of(entity, made.state.shards)) == shard and entity in (engine := kept.engine(shard, like)):
            hashes = {each: engine.state_hash(entity, each) for each in entity_sources(engine, entity)}
            known = [
                found for each in engine.target_engines if (found := report_entity(each, entity, source)) is not None
            ]
            return Found(entity, shard, engine.bytes_per_entity, hashes, known)
    raise unknown(entity, kept.directory)


def unknown(entity: str, directory: Path) -> RecoveryError:
    """No such entity."""
    return RecoveryError(f"{entity!r} is no entity of the state in {directory}: ssm-stream state ls lists them")


# Differences.


class Told(NamedTuple):
    """Entities of a state with their hashes, and the configuration that made it: its hash, its settings if known."""

    config: str
    settings: dict[str, Any] | None
    entities: dict[str, str]


class Difference(NamedTuple):
    """Entities that only one of two states has, or that differ; how many are the same; settings that differ."""

    only_first: list[str]
    only_second: list[str]
    differ: list[str]
    same: int
    changes: list[Change]

    @property
    def any(self) -> bool:
        """Whether an entity is not the same in both."""
        return bool(self.only_first or self.only_second or self.differ)


def told_by(directory: Path, like: Config | None = None) -> Told:
    """A recovery directory's entities.

    Raises:
        RecoveryError, StateError: it is damaged, or keeps nothing.
    """

    def read(kept: Kept) -> Told:
        if not kept.chains:
            raise RecoveryError(f"recovery.directory: {directory} keeps no state")
        return told_of((kept.words(shard), kept.engine(shard, like)) for shard in kept.chains)

    return read_kept(directory, read)


def told_of(shards: Iterator[tuple[dict[str, Any], Engine]]) -> Told:
    """The entities of shards, of each its words and its engine, one after another."""
    entities: dict[str, str] = {}
    config, settings = "", None
    for words, engine in shards:
        config, settings = words["config"], words.get("settings")
        entities |= {name: entity_hash(engine, name) for name in engine.names}
    return Told(config, settings, entities)


def difference(first: Told, second: Told) -> Difference:
    """How two states differ."""
    a, b = first.entities, second.entities
    both = sorted(a.keys() & b.keys())
    differ = [name for name in both if a[name] != b[name]]
    changes = diff_model_settings(first.settings, second.settings) if first.settings and second.settings else []
    return Difference(
        sorted(a.keys() - b.keys()), sorted(b.keys() - a.keys()), differ, len(both) - len(differ), changes
    )
