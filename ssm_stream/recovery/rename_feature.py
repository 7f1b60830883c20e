"""Renames an input or a target in a stored state: only its name changes, no bit of what was learned of it.

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
from ssm_stream.config.sections.alerts import LIMIT, SILENCE, STUCK
from ssm_stream.config.sections.targets import ALL
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
MEMBERS = 7
"""Place of the members in a row of `FleetAlerts.dump`."""


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
    """Rename a feature, a category or a target in the stored state.

    Args:
        config: names the recovery directory; it may have the old name or the new one
        dry: change nothing

    Raises:
        RecoveryError: the directory is in use, empty or damaged, nothing has this name, or something has the new one.
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
            metadata, _, names_ = _rename_settings(stored.metadata(shard), config, old, new)
            for checkpoint in chain:
                with open_checkpoint(stored.directory / FOLDER, checkpoint.name) as reader:
                    reader.check()
                    changed = {**reader.metadata, "config": metadata["config"], "after": name}
                    if checkpoint.whole:
                        changed["settings"] = metadata["settings"]
                    if "summaries" in changed:
                        changed["summaries"] = _rename_summaries(changed["summaries"], names_.kinds)
                    parts = _rename_parts(reader, digest, names_)
                name = _write(stored.directory / FOLDER, checkpoint.name, changed, parts, dry=dry)
            names[shard] = name
        if not dry:
            _use(stored, names, old, new)
    return Renamed(old, new, list(where), len(stored.chains), digest.hexdigest()[:16])


class _Names(NamedTuple):
    """What has another name in a state.

    kinds: `episode_kind` of rules, texts: of limits, by what they were
    readings: whether rows are made of them, so that their last values have the new name, too
    target: whether it is one of several targets, which alerts name
    """

    old: str
    new: str
    kinds: dict[str, str]
    texts: dict[str, str]
    readings: bool
    target: bool


def _rename_settings(
    metadata: dict[str, Any], config: Config, old: str, new: str
) -> tuple[dict[str, Any], list[str], _Names]:
    """Return the header of a whole snapshot with the new name, the settings that had the old one, and what it is in."""
    made = rebuild_config(metadata, config)  # checks the settings
    settings = orjson.loads(orjson.dumps(metadata["settings"]))
    event = settings["event"]
    if made.event.aggregate is not None and new in made.event.aggregate.columns:
        raise RecoveryError(f"the windows have a column {new!r} already: choose another name for {old!r}")
    targets = [] if event["target"] == ALL else made.event.targets
    known = [*dict.fromkeys([*event["features"], *event["categories"], *(event.get("inputs") or []), *targets])]
    if old not in known:
        named = f"it may have been renamed to {new!r} already, which it has; " if new in known else ""
        raise RecoveryError(f"the state has no input or target {old!r}: {named}they are {', '.join(known) or '(none)'}")
    if new in known:
        raise RecoveryError(f"the state has {new!r} already: choose another name for {old!r}")
    where = [f"event.{name}" for name in LISTS if old in (event.get(name) or [])]
    if old in targets:
        event["target"] = _replace(event["target"], {old: new})
        where.insert(0, "event.target")
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
    stuck = settings["alerts"].get("stuck")
    if isinstance(stuck, list) and old in stuck:
        settings["alerts"]["stuck"] = _replace(stuck, {old: new})
        where.append("alerts.stuck")
    for limit in settings["alerts"].get("limits", []):
        if limit["column"] == old:
            limit["column"] = new
            where.append("alerts.limits")
    renamed = {**metadata, "settings": settings, "config": settings_hash(settings)}
    now = rebuild_config(renamed, made)
    texts = {a.text: b.text for a, b in zip(made.alerts.limits, now.alerts.limits, strict=True) if a.text != b.text}
    kinds = {rule_kind(kind, old): rule_kind(kind, new) for kind in (SILENCE, STUCK)}
    kinds |= {rule_kind(LIMIT, was): rule_kind(LIMIT, text) for was, text in texts.items()}
    several = len(made.event.targets) > 1 and old in made.event.targets
    names = _Names(old, new, kinds, texts, config.event.layout == "readings", several)
    return renamed, list(dict.fromkeys(where)), names


def _replace(content: Any, names: dict[str, str]) -> Any:
    """Return JSON in which whole texts are replaced, keys and values."""
    if isinstance(content, dict):
        return {names.get(key, key): _replace(value, names) for key, value in content.items()}
    if isinstance(content, list):
        return [_replace(value, names) for value in content]
    return names.get(content, content) if isinstance(content, str) else content


def _rename_summaries(metadata: dict[str, Any], kinds: dict[str, str]) -> dict[str, Any]:
    """Return what the header has of summaries. kinds: as of `_Names`"""
    opened = {
        name: {kinds.get(kind, kind): each for kind, each in own.items()} for name, own in metadata["open"].items()
    }
    return {**metadata, "open": opened}


def _rename_parts(reader: SnapshotReader, digest: Any, names: _Names) -> list[ArrayPart]:
    """Return the arrays of a snapshot; the common episodes have the new name, all others are as they were."""
    parts, change = [], {names.old: names.new}
    for name in reader.names:
        array = reader.read(name)
        if name == "episodes":
            parts.append(bytes_part(name, orjson.dumps(_rename_episodes(orjson.loads(array.tobytes()), names))))
        elif name in ("joint", "fleet") and names.target:
            rows = orjson.loads(array.tobytes())
            renamed = _rename_joint(rows, change) if name == "joint" else _rename_fleet(rows, change)
            parts.append(bytes_part(name, orjson.dumps(renamed)))
        elif name == "rows" and names.readings:
            parts.append(bytes_part(name, rename_signal(array.tobytes(), names.old, names.new)))
        else:
            digest.update(array.tobytes())
            parts.append(ArrayPart(name, array))
    return parts


def _rename_episodes(content: dict[str, Any], names: _Names) -> dict[str, Any]:
    """Return the content of `AlertPipeline.dump`: kinds of rules, their columns, alerts that wait."""
    change = {names.old: names.new}
    for opened in ("sent", "suppressed", "ended"):
        content[opened] = [[row[0], names.kinds.get(row[1], row[1]), *row[2:]] for row in content[opened]]
    content["open"] = [
        [[entity, names.kinds.get(kind, kind), *more] for entity, kind, *more in own] for own in content["open"]
    ]
    if "silence" in content:
        content["silence"]["columns"] = _replace(content["silence"]["columns"], change)
        if blanks := content["silence"].get("blanks"):
            blanks["categories"] = _replace(blanks["categories"], change)
    if "limits" in content:
        content["limits"] = [[names.texts.get(text, text), *more] for text, *more in content["limits"]]
    if names.target:
        content["waiting"] = [
            [*row[:-1], [[_rename_message(message, change), *more] for message, *more in row[-1]]]
            for row in content["waiting"]
        ]
    return content


def _rename_joint(rows: list[list[Any]], change: dict[str, str]) -> list[list[Any]]:
    """Return the content of `MultiTargetAlerts.dump`."""
    out = []
    for name, kind, since, absorbed, items, *more in rows:
        opened = [[change.get(own, own), _rename_message(cause, change)] for own, cause in items]
        out.append([name, kind, since, absorbed, opened, *_replace_targets(more, change)])
    return out


def _replace_targets(more: list[Any], change: dict[str, str]) -> list[Any]:
    """Return the target of a start and those whose parts have ended, which older states lack."""
    if not more:
        return []
    target, ended = more
    return [change.get(target, target), [[change.get(own, own), how] for own, how in ended]]


def _rename_fleet(rows: list[list[Any]], change: dict[str, str]) -> list[list[Any]]:
    """Return the content of `FleetAlerts.dump`: of each member the target, and the alert that is withheld."""
    out = []
    for row in rows:
        members = [
            [*each[:4], *(change.get(target, target) for target in each[4:-1]), _rename_message(each[-1], change)]
            for each in row[MEMBERS]
        ]
        out.append([*row[:MEMBERS], members, *row[MEMBERS + 1 :]])
    return out


def _rename_message(message: Any, change: dict[str, str]) -> Any:
    """Return an alert, or a part of one, that names the targets that it is about; None as it is."""
    if message is None:
        return None
    out = dict(message)
    if "target" in out:
        out["target"] = change.get(out["target"], out["target"])
    if "targets" in out:
        out["targets"] = [_rename_message(each, change) for each in out["targets"]]
    return out


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
