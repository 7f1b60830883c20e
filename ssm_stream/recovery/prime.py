"""Primes an entity of a stored state: its learner learns chosen examples, as if they had come as its next events.

No prediction and no alert is sent, and no episode stays open. What the entity's pool learns from the examples stays, as
with events. The snapshot has a record of the priming, and so has the audit.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.config import Config, ConfigError
from ssm_stream.engine.alert_kinds import KINDS
from ssm_stream.engine.engine import Engine, shard_of
from ssm_stream.engine.target_engine import TargetEngine
from ssm_stream.evaluate.pools import partition_of
from ssm_stream.evaluate.recordings import Recording, RecordingError
from ssm_stream.ingest.events import EventReader, Events
from ssm_stream.ingest.labels import Labels
from ssm_stream.ingest.paths import path_getter
from ssm_stream.kafka.records import shard_key
from ssm_stream.ops.audit import AuditFile, user_and_machine
from ssm_stream.recovery.bytewax_db import RecoveryError
from ssm_stream.recovery.checkpoint_files import FOLDER, ShardCheckpoints, referenced_file
from ssm_stream.recovery.reader import StoredState, rebuild_config
from ssm_stream.recovery.reset import locked_state, name_file

NO_ENTITY = "\0entity"
"""Path of the entity in the rows of examples: all are of the entity that is primed."""
COMPARED = 10
"""Examples at each end whose errors are reported."""


class ErrorChange(NamedTuple):
    """Mean |y − yhat| of a target over the first and over the last examples, each predicted before it was learned."""

    target: str
    first: float
    last: float


class Priming(NamedTuple):
    """What was learned from a file of examples, or would be.

    shard, source: of the entity; new: it had no state before; examples: events learned; compared: at each end
    record: of the snapshot: file, sha256, examples, source, at (UTC), by; audited: the audit has it, too
    hash: of the entity's state, as in alerts
    """

    entity: str
    shard: str
    source: int
    new: bool
    examples: int
    compared: int
    errors: list[ErrorChange]
    record: dict[str, Any]
    audited: bool
    hash: str

    def as_json(self) -> dict[str, Any]:
        """Return the content for `--json`."""
        return {**self._asdict(), "errors": [each._asdict() for each in self.errors]}


def prime_entity(config: Config, entity: str, file: Path, *, source: int | None = None, dry: bool = False) -> Priming:
    """Let an entity learn the examples of a file, in the stored state.

    Args:
        entity: its name; it may be new
        file: a recording whose rows are examples of it, in order
        source: the partition that its events come from; None: the only one, or the one that Java's clients choose
        dry: change nothing

    Raises:
        RecoveryError: the directory is in use or damaged, or has no state of the entity's shard yet.
        RecordingError: the file cannot be read, or has rows that are no examples.
        ConfigError: a column is missing.
        StateError: the state of the shard is damaged.
    """
    with locked_state(config, "let `ssm-stream run` make a state first", dry=dry) as stored:
        shard, made = _find_shard(stored, config, entity)
        source = _source(stored, config, entity, source)
        events = read_examples(made, entity, file)
        files = ShardCheckpoints(stored.directory / FOLDER)
        engine = files.restore(made, stored.chains[shard][-1].name)
        new = entity not in engine
        errors, compared = learn_examples(engine, events, source)
        record = {
            "file": file.name,
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
            "examples": len(events),
            "source": source,
            "at": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            "by": user_and_machine(),
        }
        engine.primed[entity] = record
        state_hash, audit = engine.state_hash(entity, source), config.audit.directory
        if not dry:
            token = files.write(engine)
            files.finish()
            if audit is not None:  # before the state is in use: a priming that no audit has would be worse
                written = AuditFile(audit, made.hash, shard)
                written.write_priming(referenced_file(token) or "", {"entity": entity, **record}, state_hash)
            name_file(stored, shard, token)
    audited = audit is not None and not dry
    return Priming(entity, shard, source, new, len(events), compared, errors, record, audited, state_hash)


def _find_shard(stored: StoredState, config: Config, entity: str) -> tuple[str, Config]:
    """Return the key of an entity's shard, and the configuration that made its state."""
    for shard in stored.chains:
        made = rebuild_config(stored.metadata(shard), config)
        if shard_key(shard_of(entity, made.state.shards)) == shard:
            return shard, made
    raise RecoveryError(
        f"the state in {stored.directory} has nothing of the shard of {entity!r} yet, which begins with the first "
        "event of any of its entities: let `ssm-stream run` process some events first"
    )


def _source(stored: StoredState, config: Config, entity: str, source: int | None) -> int:
    """Return the partition that an entity's events come from."""
    topics = config.source.names
    known = [config.source.number(at.topic, at.partition) for at in stored.positions(config) if at.topic in topics]
    if source is None and len(topics) > 1 < len(known):
        raise RecoveryError(f"there are several topics ({', '.join(topics)}): name {entity!r}'s partition by --source")
    if source is None:
        source = known[0] if len(known) == 1 else partition_of(entity, max(known, default=0) + 1)
    if known and source not in known:
        raise RecoveryError(
            f"the state in {stored.directory} has read nothing from partition {source} of {', '.join(topics)}; it "
            f"has read {', '.join(map(str, known))}: name the one of {entity!r} with --source"
        )
    return source


def read_examples(config: Config, entity: str, file: Path) -> Events:
    """Return the rows of a file as events of the entity.

    Raises:
        RecordingError: the file cannot be read, a row is no event, the rows name several entities, or have no target.
        ConfigError: a column is missing.
    """
    if config.event.makes_rows:
        key = "event.layout: readings" if config.event.aggregate is None else "event.aggregate"
        raise ConfigError(
            f"{key}: examples are rows, which such messages are made into one after another: an entity cannot be "
            "primed; replay its history onto the topic instead"
        )
    recording = Recording(file).of_event(config.event)
    recording.check_columns(config.replace(event=config.event.model_copy(update={"entity_default": entity})))
    rows = list(recording)
    get = path_getter(config.event.entity)
    if len(names := sorted({str(name) for row in rows if (name := get(row)) is not None})) > 1:
        raise RecordingError(
            f"{file}: examples of {len(names)} entities ({', '.join(names[:5])}, …); choose the rows of one of them, "
            f"which are then taken for {entity!r}"
        )
    reader = EventReader(config.event.model_copy(update={"entity": NO_ENTITY}))
    events, refused = reader.read(rows, [entity] * len(rows))
    if refused:
        first = refused[0]
        raise RecordingError(
            f"{file}: {len(refused)} of {len(rows)} rows are no examples, the first is row {first.position + 1}: "
            f"{first.reason}; correct or remove them"
        )
    if not len(events) or np.isnan(events.target).all():
        raise RecordingError(
            f"{file}: no row has a target (`{config.event.targets[0]}`): nothing can be learned from it"
        )
    return events


def learn_examples(engine: Engine, events: Events, source: int) -> tuple[list[ErrorChange], int]:
    """Let an engine learn events of one entity without alerts; an episode that is open ends by a reset.

    Returns:
        the errors by target, and over how many examples at each end

    Raises:
        RecoveryError: the entity is new, and `state.max_entities` leaves no room.
    """
    entity, limit = events.entity[0], engine.config.state.max_entities
    if entity in engine:
        engine.episodes.remove(entity)
    elif engine.fullness is not None and engine.fullness >= 1.0:
        raise RecoveryError(f"{entity!r} is new, and {limit} entities have a state (state.max_entities): raise it")
    events, refused = engine.admit(events, source)
    assert not refused, "there was room"
    engine.windows.fill(events, source)
    changes, compared = list[ErrorChange](), 0
    for j, (each, target) in enumerate(zip(engine.target_engines, engine.config.event.targets, strict=True)):
        errors = _learn(each, engine.inputs.select(j, events), source)
        for kind in KINDS:
            each.store.end_episodes(kind, entity)
        compared = max(min(COMPARED, len(errors) // 2), min(len(errors), 1))
        if compared:
            changes.append(ErrorChange(target, float(errors[:compared].mean()), float(errors[-compared:].mean())))
    return changes, compared


def _learn(engine: TargetEngine, events: Events, source: int) -> NDArray[np.float64]:
    """Let an engine learn events with their targets; return |y − yhat| of those that had a prediction, in order."""
    if engine.delayed is None:
        errors = np.abs(events.target - engine.process(events, source)[0].yhat)
    elif not engine.delayed.rules.labels:  # a horizon
        engine.process(events, source)
        errors = np.abs(engine.resolved.y - engine.resolved.yhat)
    else:
        found = []
        for i in range(len(events)):
            one, key = events.take(np.array([i])), np.array([i])
            engine.process(replace(one, target=np.full(1, np.nan), key=key), source)
            if not np.isnan(one.target[0]):
                engine.learn(Labels(one.entity, one.ts, key, one.target, key), source)
                found.append(np.abs(engine.resolved.y - engine.resolved.yhat))
        errors = np.concatenate(found) if found else np.empty(0)
    known: NDArray[np.float64] = errors[~np.isnan(errors)]
    return known
