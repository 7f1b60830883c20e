"""Renames an input in a stored state: only its name changes, no bit of what was learned of it.

State files hold the settings that made them, by which a configuration is compared with them. They are written again
with the new name, and count, for all shards at once, from the moment at which the databases name them.
"""

from __future__ import annotations

import hashlib
import pickle
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from ssm_stream.config import Config, input_changes
from ssm_stream.config.config import settings_hash
from ssm_stream.config.sections.alerts import SILENCE, STUCK
from ssm_stream.engine.rules.messages import rule_kind
from ssm_stream.engine.snapshot_format import ArrayPart, SnapshotReader, bytes_part, write
from ssm_stream.ingest.rows.reading_state import rename_signal
from ssm_stream.recovery.bytewax_db import RecoveryError
from ssm_stream.recovery.checkpoint_files import FOLDER, TOKEN, open_checkpoint, referenced_file, sync
from ssm_stream.recovery.directory import fill_databases
from ssm_stream.recovery.reader import StoredState, rebuild_config
from ssm_stream.recovery.replacement import replacement
from ssm_stream.recovery.reset import locked_state
from ssm_stream.recovery.settings_files import FEATURE_SELECTION, read_json, write_json

LISTS = ("features", "categories", "inputs")
"""Settings of `event` that list inputs."""


class Renamed(NamedTuple):
    """What was renamed, or would be.

    where: in which settings; shards: of the state; arrays: SHA-256 over all arrays of the learner, before and after
    """

    old: str
    new: str
    where: list[str]
    shards: int
    arrays: str


def rename_feature(config: Config, old: str, new: str, *, dry: bool = False) -> Renamed:
    """Rename a feature or a category in the stored state.

    Args:
        config: names the recovery directory; it may have the old name or the new one
        dry: change nothing

    Raises:
        RecoveryError: the directory is in use, empty or damaged, or no input has this name, or one has the new one.
        StateError: the state is damaged, or its settings would be invalid with the new name.
    """
    with locked_state(config, "there is nothing to rename", dry=dry) as stored:
        if stored.empty or not stored.chains:
            raise RecoveryError(f"the state in {stored.directory} is empty: there is nothing to rename")
        where = dict[str, None]()
        for shard in stored.chains:
            where |= dict.fromkeys(_rename_settings(stored.metadata(shard), config, old, new)[1])
        names, digest = dict[str, str](), hashlib.sha256()
        for shard, chain in stored.chains.items():
            name = ""
            metadata, _ = _rename_settings(stored.metadata(shard), config, old, new)
            for checkpoint in chain:
                with open_checkpoint(stored.directory / FOLDER, checkpoint.name) as reader:
                    reader.check()
                    changed = {**reader.metadata, "config": metadata["config"], "after": name}
                    if checkpoint.whole:
                        changed["settings"] = metadata["settings"]
                    readings = config.event.layout == "readings"
                    parts = _rename_parts(reader, digest, old, new, readings=readings)
                name = _write(stored.directory / FOLDER, checkpoint.name, changed, parts, dry=dry)
            names[shard] = name
        if not dry:
            _use(stored, names, old, new)
    return Renamed(old, new, list(where), len(stored.chains), digest.hexdigest()[:16])


def _rename_settings(metadata: dict[str, Any], config: Config, old: str, new: str) -> tuple[dict[str, Any], list[str]]:
    """Return the header of a whole snapshot with the new name, and the settings that had the old one."""
    made = rebuild_config(metadata, config)  # checks the settings
    settings = orjson.loads(orjson.dumps(metadata["settings"]))
    event = settings["event"]
    if event.get("target") == "all":
        raise RecoveryError(
            f"with `target: all` {old!r} would be a target, too: a target cannot be renamed: have the producer send "
            f"{old!r} as well, or start anew under the new name with another recovery.directory"
        )
    if made.event.aggregate is not None and new in made.event.aggregate.columns:
        raise RecoveryError(f"the windows have a column {new!r} already: choose another name for {old!r}")
    known = [*event["features"], *event["categories"]]
    if old not in known:
        named = f"it may have been renamed to {new!r} already, which it has; " if new in known else ""
        raise RecoveryError(f"the state has no input {old!r}: {named}its inputs are {', '.join(known) or '(none)'}")
    if new in known:
        raise RecoveryError(f"the state has an input {new!r} already: choose another name for {old!r}")
    where = [f"event.{name}" for name in LISTS if old in (event.get(name) or [])]
    for name in LISTS:
        if event.get(name):
            event[name] = [new if each == old else each for each in event[name]]
    if input_changes.uses(event.get("derive", {}), old):
        event["derive"] = _replace(event["derive"], {old: new})
        where.append("event.derive")
    if old in event.get("aggregate", {}).get("columns", {}):
        columns = event["aggregate"]["columns"]
        event["aggregate"]["columns"] = {new if path == old else path: each for path, each in columns.items()}
        where.append("event.aggregate.columns")
    if isinstance(event.get("max_age"), dict) and old in event["max_age"]:
        event["max_age"] = {new if path == old else path: age for path, age in event["max_age"].items()}
        where.append("event.max_age")
    for limit in settings["alerts"].get("limits", []):
        if limit["column"] == old:
            limit["column"] = new
            where.append("alerts.limits")
    renamed = {**metadata, "settings": settings, "config": settings_hash(settings)}
    rebuild_config(renamed, made)
    return renamed, list(dict.fromkeys(where))


def _replace(content: Any, names: dict[str, str]) -> Any:
    """Return JSON in which whole texts are replaced, keys and values."""
    if isinstance(content, dict):
        return {names.get(key, key): _replace(value, names) for key, value in content.items()}
    if isinstance(content, list):
        return [_replace(value, names) for value in content]
    return names.get(content, content) if isinstance(content, str) else content


def _rename_parts(reader: SnapshotReader, digest: Any, old: str, new: str, *, readings: bool) -> list[ArrayPart]:
    """Return the arrays of a snapshot; the common episodes have the new name, all others are as they were.

    readings: whether rows are made of them, so that their last values have the new name, too
    """
    parts = []
    for name in reader.names:
        array = reader.read(name)
        if name == "episodes":
            kinds = {rule_kind(kind, old): rule_kind(kind, new) for kind in (SILENCE, STUCK)}
            content = _replace(orjson.loads(array.tobytes()), kinds)
            if "silence" in content:
                content["silence"]["columns"] = _replace(content["silence"]["columns"], {old: new})
            parts.append(bytes_part(name, orjson.dumps(content)))
        elif name == "rows" and readings:
            parts.append(bytes_part(name, rename_signal(array.tobytes(), old, new)))
        else:
            digest.update(array.tobytes())
            parts.append(ArrayPart(name, array))
    return parts


def _write(folder: Path, name: str, metadata: dict[str, Any], parts: list[ArrayPart], *, dry: bool) -> str:
    """Write a state file in place of the one of this name, which stays for now; returns its own name."""
    shard, number, _ = name.split("-")
    if dry:
        return f"{shard}-{number}-{write(BytesIO(), metadata, parts)}.state"
    draft = folder / f"{shard}.renamed"
    with draft.open("w+b") as file:
        content = write(file, metadata, parts)
    written = f"{shard}-{number}-{content}.state"
    sync(draft)
    draft.rename(folder / written)
    return written


def _use(stored: StoredState, names: dict[str, str], old: str, new: str) -> None:
    """Let the databases name the new files. names: of the latest file of each shard"""
    sync(stored.directory / FOLDER)
    rows = [
        (row.part, row.step, row.key, row.epoch, pickle.dumps(TOKEN + names[row.key].encode()))
        if isinstance(row.value, bytes) and referenced_file(row.value)
        else (row.part, row.step, row.key, row.epoch, pickle.dumps(row.value))
        for row in stored.rows
    ]
    with replacement(stored.directory) as folder:
        fill_databases(folder, stored.parts, stored.epoch, rows)
        selected = read_json(stored.directory / FEATURE_SELECTION)
        if isinstance(selected, dict):
            write_json(folder / FEATURE_SELECTION, _replace(selected, {old: new}))
