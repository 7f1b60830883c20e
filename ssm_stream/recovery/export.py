"""Exports a state to one file and imports it.

The file is a snapshot (`engine/snapshot_format.py`) whose arrays are the bytes of other snapshots, one whole snapshot a
shard. Its header holds the rest of the recovery directory: positions in the topics, counts, and the settings that made
the state. Nothing in it is pickled.
"""

from __future__ import annotations

import base64
import contextlib
import fnmatch
import os
import pickle
import shutil
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ssm_stream.autoconfig.feature_selection import with_columns
from ssm_stream.config import Config, ConfigError
from ssm_stream.config.sections.holidays import Holidays, from_years
from ssm_stream.engine.engine import Engine
from ssm_stream.engine.snapshot import require_compatible_state
from ssm_stream.engine.snapshot_format import ArrayPart, SnapshotReader, StateError, damage_as_state_error, write
from ssm_stream.ingest.holidays import with_learned_holidays
from ssm_stream.kafka.context.first_start import FIRST_POSITIONS
from ssm_stream.kafka.records import shard_key
from ssm_stream.recovery.bytewax_db import LABELS_PREFIX, RecoveryError, SnapshotRow, parse_source_part
from ssm_stream.recovery.catch_up import CATCH_UP
from ssm_stream.recovery.checkpoint_files import FOLDER, TOKEN, referenced_file, sync
from ssm_stream.recovery.directory import IMPORTING, MARK, fill_databases, make_directory
from ssm_stream.recovery.ended_episodes import FILE
from ssm_stream.recovery.exclusions import EXCLUSIONS
from ssm_stream.recovery.locking import lock
from ssm_stream.recovery.reader import StoredState, read_state, rebuild_config, require_directory
from ssm_stream.recovery.reset import move_aside
from ssm_stream.recovery.settings_files import (
    FEATURE_SELECTION,
    HOLIDAYS,
    RUNTIME_SETTINGS,
    read_json,
    read_runtime_settings,
    write_json,
)
from ssm_stream.recovery.store.reading import with_stored_state

KIND = "ssm-stream export"
ASSIGNMENT = "assignment"
"""Of an export's header: how the state is divided, where each partition has one of its own."""
LAST_DAY = "9999-12-31"
REWOUND = {"exclusions": EXCLUSIONS, "catch_up": CATCH_UP}
"""Of an export's header → file of the directory, which rewinds have made."""


class ExportResult(NamedTuple):
    """What an export holds."""

    size: int
    """Bytes."""
    shards: int
    epoch: int
    owner: str | None
    """Id of the process that was writing to the directory meanwhile."""


def export_state(config: Config, file: Path) -> ExportResult:
    """Write the content of the recovery directory to one file, atomically.

    A process may run on the directory: the content is the end of one of its epochs.

    Raises:
        RecoveryError, StateError: the directory is empty or damaged.
        OSError: the file cannot be written.
    """
    return with_stored_state(config, lambda stored: _export(stored, config, file))


def _export(stored: StoredState, config: Config, file: Path) -> ExportResult:
    if stored.empty:
        raise RecoveryError(f"{stored.place} holds no state: there is nothing to export")
    # On the disk of the file, which needs as much.
    with tempfile.TemporaryDirectory(prefix=f".{file.name}-", dir=file.parent) as name:
        folder = Path(name)
        made: dict[str, dict[str, Any]] = {}
        parts = []
        for shard in stored.chains:
            metadata = stored.metadata(shard)
            made[shard] = {name: metadata[name] for name in ("config", "settings") if name in metadata}
            _write_whole(stored, shard, config, folder / shard)
            parts.append(ArrayPart(shard, np.memmap(folder / shard, np.uint8, "r")))
        metadata = {
            "kind": KIND,
            "release": version("ssm-stream"),
            "made": made,
            "runtime_settings": read_runtime_settings(stored.directory),
            "feature_selection": read_json(stored.directory / FEATURE_SELECTION),
            "holidays": read_json(stored.directory / HOLIDAYS),
            **{name: read_json(stored.directory / file) for name, file in REWOUND.items()},
            "context": {file.name: read_json(file) for file in sorted(stored.directory.glob(FIRST_POSITIONS))},
            **({ASSIGNMENT: "group"} if stored.by_partition else {}),
            "epoch": max(stored.epoch, 1),
            "parts": max(stored.parts, 1),
            "rows": [[row.part, row.step, row.key, row.epoch, _to_json(row)] for row in stored.rows],
        }
        draft = folder / "draft"
        with draft.open("wb") as out:
            write(out, metadata, parts)
            out.flush()
            os.fsync(out.fileno())
            size = out.seek(0, os.SEEK_END)
        draft.replace(file)
        sync(file.parent)
    return ExportResult(size, len(stored.chains), stored.epoch, stored.owner)


def _write_whole(stored: StoredState, shard: str, config: Config, file: Path) -> None:
    """Write the state of a shard as one whole snapshot.

    Raises:
        StateError: a running process has overwritten the file meanwhile.
    """
    chain = stored.chains[shard]
    if len(chain) > 1:
        engine = stored.engine(shard, config)
        with file.open("wb") as out:
            engine.write_snapshot(out, full=True)
        return
    shutil.copyfile(stored.files / chain[0].name, file)
    with file.open("rb") as copied:
        reader = SnapshotReader(copied)
        reader.check()
    if reader.name not in chain[0].name:
        raise StateError(f"{chain[0].name} was overwritten while it was read")


def _to_json(row: SnapshotRow) -> Any:
    """The value of a step's snapshot as a JSON value."""
    value = row.value
    if value is None or type(value) is int:
        return value
    if isinstance(value, bytes):
        return {"state": row.key} if referenced_file(value) else {"bytes": base64.b64encode(value).decode()}
    if isinstance(value, dict):
        return {"marker": [[topic, partition, offset] for (topic, partition), offset in sorted(value.items())]}
    raise RecoveryError(f"recovery.directory: this release cannot export the snapshot of {row.step} {row.key}")


def _from_json(value: Any, names: dict[str, str]) -> Any:
    """The value that `_to_json` encoded. names: of the state files, by shard"""
    if value is None or type(value) is int:
        return value
    ((kind, content),) = value.items()
    if kind == "state":
        return TOKEN + names[content].encode()
    if kind == "bytes":
        return base64.b64decode(content, validate=True)
    if kind == "marker":
        return {(str(topic), int(partition)): int(offset) for topic, partition, offset in content}
    raise ValueError(f"unknown kind of snapshot {kind!r}")


class Export:
    """An open export, checked.

    Raises:
        StateError: the file is not an export, or damaged.
    """

    def __init__(self, reader: SnapshotReader, file: Path) -> None:
        self.reader, self.metadata, self._file = reader, reader.metadata, file
        if self.metadata.get("kind") != KIND:
            raise StateError("it is a snapshot of one shard, not an export: export the whole directory")
        with damage_as_state_error():
            epoch, count = self.metadata["epoch"], self.metadata["parts"]
            if type(epoch) is not int or type(count) is not int or not 1 <= count <= 1024:
                raise StateError("the export is damaged: its epoch or number of databases is invalid")
            for part, step, key, at, value in self.metadata["rows"]:
                fits = type(part) is int and 0 <= part < count and type(at) is int and 0 <= at < epoch
                if not fits or not isinstance(step, str) or not isinstance(key, str):
                    raise StateError("the export is damaged: a row is invalid")
                _from_json(value, dict.fromkeys(reader.names, ""))
            if any(not name.isdigit() or shard_key(int(name)) != name for name in reader.names):
                raise StateError("the export is damaged: the name of a shard is invalid")

    def engines(self, like: Config | None = None) -> Iterator[tuple[dict[str, Any], Engine]]:
        """Header and engine of each shard, under the settings that made it, one after another."""
        folder = self._file.parent if os.access(self._file.parent, os.W_OK) else None
        for shard in self.reader.names:
            with tempfile.TemporaryFile(dir=folder) as copy:
                self.reader.copy(shard, copy)
                inner = SnapshotReader(copy)
                engine = Engine(rebuild_config(inner.metadata, like))
                engine.load(inner)
                engine.finish_load()
            yield inner.metadata, engine


@contextlib.contextmanager
def open_export(file: Path) -> Iterator[Export]:
    """Yield an export, checked.

    Raises:
        StateError: there is no such file, or it is no export, or damaged: the text has its name and the cure.
        OSError: it cannot be read.
    """
    with contextlib.ExitStack() as stack:
        with _named(file):
            reader = SnapshotReader(stack.enter_context(file.open("rb")))
            reader.check()
            export = Export(reader, file)
        yield export


@contextlib.contextmanager
def _named(file: Path) -> Iterator[None]:
    """Name the file, and where exports come from, in the errors on what it holds."""
    try:
        yield
    except FileNotFoundError:
        raise StateError(f"{file}: there is no such file; `ssm-stream state export CONFIG FILE` writes one") from None
    except StateError as error:
        cure = "copy the file again, or write another by `ssm-stream state export CONFIG FILE`"
        raise StateError(f"{file}: {error} ({cure})") from error


def read_engines(file: Path) -> Iterator[tuple[dict[str, Any], Engine]]:
    """Header and engine of each shard of an export, or of a snapshot of one shard.

    Raises:
        StateError: the file is neither, or damaged.
        OSError: it cannot be read.
    """
    with contextlib.ExitStack() as stack:
        with _named(file):
            reader = SnapshotReader(stack.enter_context(file.open("rb")))
            whole = reader.metadata.get("kind") == KIND
            if whole:
                reader.check()
        if whole:
            yield from Export(reader, file).engines()
            return
        engine = Engine(rebuild_config(reader.metadata))
        engine.load(reader)
        engine.finish_load()
        yield reader.metadata, engine


def load_exported_engines(file: Path, config: Config) -> tuple[dict[str, Engine], dict[int, int]]:
    """The engines of an export by shard's key, and the next offset by `Source.number` of the partition.

    Raises:
        StateError: the file is not an export, is damaged, or was made by another configuration.
        OSError: it cannot be read.
    """
    with open_export(file) as export:
        engines = {}
        for name, (metadata, engine) in zip(export.reader.names, export.engines(config), strict=True):
            if metadata["config"] != config.hash:
                raise StateError(f"{file} was made by configuration {metadata['config']}, this one is {config.hash}")
            engines[name] = engine
        rows = export.metadata["rows"]
        offsets = {
            config.source.number(config.source.names[index], partition): value
            for _, step, key, _, value in rows
            if step.endswith(".source") and isinstance(value, int) and not key.startswith(LABELS_PREFIX)
            for index, partition in [parse_source_part(key)]
            if index < len(config.source.names)
        }
        return engines, offsets


class ImportResult(NamedTuple):
    """What an import has filled the directory with."""

    shards: int
    epoch: int
    """The epoch that a start resumes at."""
    aside: Path | None
    """Folder with the former content of the directory."""


def import_state(config: Config, file: Path, *, force: bool = False) -> ImportResult:
    """Fill the recovery directory from an export, so that a start resumes at its positions with the same bits.

    After an interrupted import, the next start refuses the directory.

    Args:
        force: move the present content of the directory aside

    Raises:
        ConfigError: the features are `auto`, and the export was made with a list.
        StateError: the export is damaged, or made under settings that do not fit.
        RecoveryError: the directory holds a state, is in use or cannot be written.
        OSError: the file cannot be read.
    """
    directory = require_directory(config)
    with open_export(file) as export:
        if ASSIGNMENT in export.metadata:
            raise RecoveryError(f"{file}: the export of a group's state: import it with source.assignment: group")
        with damage_as_state_error():
            resolved = _with_features(config, export.metadata["feature_selection"])
            if days := export.metadata.get("holidays"):  # all of them: the next start decides on later ones
                resolved = with_learned_holidays(resolved, Holidays(days=from_years(days["days"])), LAST_DAY)
            for metadata in export.metadata["made"].values():
                require_compatible_state(metadata, resolved)
        make_directory(directory)
        held = lock(directory)
        aside = None
        try:
            if _is_used(directory):
                if not force:
                    raise RecoveryError(
                        f"recovery.directory: {directory} holds a state: name an empty directory, or move the state "
                        "aside (--force)"
                    )
                aside = move_aside(directory)
                make_directory(directory)
                held.close()
                held = lock(directory)
            _fill(directory, export)
        except OSError as error:
            raise RecoveryError(f"recovery.directory: {directory} cannot be written: {error}") from error
        finally:
            held.close()
    return ImportResult(len(_shards(export)), export.metadata["epoch"], aside)


def _shards(export: Export) -> list[str]:
    return [value["state"] for *_, value in export.metadata["rows"] if isinstance(value, dict) and "state" in value]


def _with_features(config: Config, selection: Any) -> Config:
    if config.event.features != "auto":
        return config
    if not selection:
        raise ConfigError("event.features: auto, but the export was made with a list of features: list them")
    return with_columns(config, selection["features"], selection["categories"])


def _is_used(directory: Path) -> bool:
    """Return True if the directory holds a state, a damaged one included."""
    if any((directory / FOLDER).glob("*.state")) or (directory / IMPORTING).exists():
        return True
    try:
        return not read_state(directory).empty
    except (RecoveryError, StateError):
        return True


def _fill(directory: Path, export: Export) -> None:
    folder, building = directory / FOLDER, directory / IMPORTING
    building.mkdir()
    folder.mkdir(exist_ok=True)
    for name in (MARK, "boot", FEATURE_SELECTION, HOLIDAYS, RUNTIME_SETTINGS, FILE, *REWOUND.values()):
        (directory / name).unlink(missing_ok=True)
    for file in (*directory.glob("part-*.sqlite3*"), *directory.glob(FIRST_POSITIONS)):
        file.unlink()
    names: dict[str, str] = {}
    for shard in export.reader.names:
        draft = building / shard
        with draft.open("w+b") as out:
            export.reader.copy(shard, out)
            out.flush()
            inner = SnapshotReader(out)
            inner.check()
        sync(draft)
        names[shard] = f"{shard}-{1:08d}-{inner.name}.state"
        draft.rename(folder / names[shard])
    sync(folder)
    metadata = export.metadata
    if metadata["feature_selection"]:
        write_json(directory / FEATURE_SELECTION, metadata["feature_selection"])
    if metadata.get("holidays"):
        write_json(directory / HOLIDAYS, metadata["holidays"])
    for name, path in REWOUND.items():
        if metadata.get(name):
            write_json(directory / path, metadata[name])
    for name, content in metadata.get("context", {}).items():
        if fnmatch.fnmatchcase(name, FIRST_POSITIONS) and "/" not in name:
            write_json(directory / name, content)
    if metadata["runtime_settings"]:
        settings = {"release": metadata["release"], "settings": metadata["runtime_settings"]}
        write_json(directory / RUNTIME_SETTINGS, settings)
    rows = [
        (part, step, key, at, pickle.dumps(_from_json(value, names))) for part, step, key, at, value in metadata["rows"]
    ]
    fill_databases(building, metadata["parts"], metadata["epoch"], rows)
    for part in range(metadata["parts"]):
        (building / f"part-{part}.sqlite3").rename(directory / f"part-{part}.sqlite3")
    sync(directory)
    (directory / MARK).touch()
    shutil.rmtree(building)
    sync(directory)
