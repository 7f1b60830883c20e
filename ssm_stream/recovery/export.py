"""A state as one file, and back: export and import.

The file is a snapshot (`state.py`) whose arrays are the bytes of other snapshots, a whole one a shard, and whose words
are the rest of the recovery directory: positions in the topics, counts, and what the state was made with. Nothing in it
is pickled, and nothing of it is a class.
"""

from __future__ import annotations

import base64
import os
import pickle
import shutil
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from bytewax.recovery import init_db_dir

from ssm_stream.autoconfig.feature_selection import with_columns
from ssm_stream.config import Config, ConfigError
from ssm_stream.engine.engine import Engine, require_compatible_state
from ssm_stream.engine.snapshot_format import ArrayPart, SnapshotReader, StateError, sound, write
from ssm_stream.kafka.codec import shard_key
from ssm_stream.recovery.bytewax_db import RecoveryError, Row, opened_database
from ssm_stream.recovery.checkpoint_files import FOLDER, TOKEN, name_in, sync
from ssm_stream.recovery.compatibility import SETTINGS, read_settings
from ssm_stream.recovery.directory import IMPORTING, MARK, PICKED, lock, make_directory, read_json, write_json
from ssm_stream.recovery.reader import Kept, Told, directory_of, kept_in, read_kept, settings_of, told_of
from ssm_stream.recovery.reset import set_aside

KIND = "ssm-stream export"


class Exported(NamedTuple):
    """What was written: bytes, shards, epoch, and the process that went on meanwhile, if any."""

    size: int
    shards: int
    epoch: int
    owner: str | None


def export_state(config: Config, file: Path) -> Exported:
    """Write all that the recovery directory keeps into one file, which is there whole or not at all.

    A process may run on it: what is written is the end of one of its epochs.

    Raises:
        RecoveryError, StateError: the directory keeps nothing, or is damaged.
        OSError: the file cannot be written.
    """
    directory = directory_of(config)
    return read_kept(directory, lambda kept: _export(kept, config, file))


def _export(kept: Kept, config: Config, file: Path) -> Exported:
    if kept.empty:
        raise RecoveryError(f"recovery.directory: {kept.directory} keeps no state: there is nothing to export")
    # Beside the file, which will need as much.
    with tempfile.TemporaryDirectory(prefix=f".{file.name}-", dir=file.parent) as name:
        folder = Path(name)
        made: dict[str, dict[str, Any]] = {}
        parts = []
        for shard in kept.chains:
            words = kept.words(shard)
            made[shard] = {name: words[name] for name in ("config", "settings") if name in words}
            _write_whole(kept, shard, config, folder / shard)
            parts.append(ArrayPart(shard, np.memmap(folder / shard, np.uint8, "r")))
        words = {
            "kind": KIND,
            "release": version("ssm-stream"),
            "made": made,
            "beside": read_settings(kept.directory),
            "picked": read_json(kept.directory / PICKED),
            "epoch": kept.epoch,
            "parts": kept.parts,
            "rows": [[row.part, row.step, row.key, row.epoch, _as_json(row)] for row in kept.rows],
        }
        draft = folder / "draft"
        with draft.open("wb") as out:
            write(out, words, parts)
            out.flush()
            os.fsync(out.fileno())
            size = out.seek(0, os.SEEK_END)
        draft.replace(file)
        sync(file.parent)
    return Exported(size, len(kept.chains), kept.epoch, kept.owner)


def _write_whole(kept: Kept, shard: str, config: Config, file: Path) -> None:
    """The state of a shard as one snapshot. A file that a running process writes over meanwhile is noticed."""
    chain = kept.chains[shard]
    if len(chain) > 1:
        engine = kept.engine(shard, config)
        with file.open("wb") as out:
            engine.write_snapshot(out, full=True)
        return
    shutil.copyfile(kept.directory / FOLDER / chain[0].name, file)
    with file.open("rb") as copied:
        reader = SnapshotReader(copied)
        reader.check()
    if reader.name not in chain[0].name:
        raise StateError(f"{chain[0].name} was written over while it was read")


def _as_json(row: Row) -> Any:
    """What a step keeps, as JSON has it."""
    value = row.value
    if value is None or type(value) is int:
        return value
    if isinstance(value, bytes):
        return {"state": row.key} if name_in(value) else {"bytes": base64.b64encode(value).decode()}
    if isinstance(value, dict):
        return {"marker": [[topic, partition, offset] for (topic, partition), offset in sorted(value.items())]}
    raise RecoveryError(f"recovery.directory: what {row.step} {row.key} keeps is unknown to this release")


def _as_kept(value: Any, names: dict[str, str]) -> Any:
    """What `_as_json` made JSON of. names: of the states' files, by shard"""
    if value is None or type(value) is int:
        return value
    ((kind, content),) = value.items()
    if kind == "state":
        return TOKEN + names[content].encode()
    if kind == "bytes":
        return base64.b64decode(content, validate=True)
    if kind == "marker":
        return {(str(topic), int(partition)): int(offset) for topic, partition, offset in content}
    raise ValueError(f"a step keeps {kind!r}, which this release does not know")


class _Export:
    """An export, opened. words: as `_export` wrote them; names: of the files that the shards' states go into

    Raises:
        StateError: it is none, or damaged.
    """

    def __init__(self, reader: SnapshotReader, file: Path) -> None:
        self.reader, self.words, self._file = reader, reader.metadata, file
        if self.words.get("kind") != KIND:
            raise StateError(f"{file} is no export but a snapshot of one shard: export the whole directory")
        with sound():
            epoch, count = self.words["epoch"], self.words["parts"]
            if type(epoch) is not int or type(count) is not int or not 1 <= count <= 1024:
                raise StateError("the export is damaged: its epoch and parts are none")
            for part, step, key, at, value in self.words["rows"]:
                fits = type(part) is int and 0 <= part < count and type(at) is int and 0 <= at < epoch
                if not fits or not isinstance(step, str) or not isinstance(key, str):
                    raise StateError("the export is damaged: its rows are none")
                _as_kept(value, dict.fromkeys(reader.names, ""))
            if any(not name.isdigit() or shard_key(int(name)) != name for name in reader.names):
                raise StateError("the export is damaged: its shards are none")

    def engines(self, like: Config | None = None) -> Iterator[tuple[dict[str, Any], Engine]]:
        """Words and engine of each shard, under the settings that made it, one after another."""
        beside = self._file.parent if os.access(self._file.parent, os.W_OK) else None
        for shard in self.reader.names:
            with tempfile.TemporaryFile(dir=beside) as copy:
                self.reader.copy(shard, copy)
                inner = SnapshotReader(copy)
                engine = Engine(settings_of(inner.metadata, like))
                engine.load(inner)
                engine.finish_load()
            yield inner.metadata, engine


def told_by_file(file: Path, like: Config | None = None) -> Told:
    """The entities of an export, or of a snapshot of one shard.

    Raises:
        StateError: it is neither, or damaged.
        OSError: it cannot be read.
    """
    with file.open("rb") as content:
        reader = SnapshotReader(content)
        if reader.metadata.get("kind") != KIND:
            engine = Engine(settings_of(reader.metadata, like))
            engine.load(reader)
            engine.finish_load()
            return told_of(iter([(reader.metadata, engine)]))
        reader.check()
        return told_of(_Export(reader, file).engines(like))


def exported_engines(file: Path, config: Config) -> tuple[dict[str, Engine], dict[int, int]]:
    """By shard's key, the engines of an export under the present configuration; by partition of the events topic, the
    next offset.

    Raises:
        StateError: it is none, is damaged, or was made by another configuration.
        OSError: it cannot be read.
    """
    with file.open("rb") as content:
        reader = SnapshotReader(content)
        reader.check()
        export = _Export(reader, file)
        engines = {}
        for name, (words, engine) in zip(reader.names, export.engines(config), strict=True):
            if words["config"] != config.hash:
                raise StateError(f"{file} was made by configuration {words['config']}, this one is {config.hash}")
            engines[name] = engine
        rows = export.words["rows"]
        at = {
            int(key): value
            for _, step, key, _, value in rows
            if step.endswith(".source") and isinstance(value, int) and key.isdigit()
        }
        return engines, at


class Imported(NamedTuple):
    """What was taken over: shards, and the epoch that a start goes on with. aside: where what was there has gone"""

    shards: int
    epoch: int
    aside: Path | None


def import_state(config: Config, file: Path, *, force: bool = False) -> Imported:
    """Fill the recovery directory from an export: a start goes on from its positions, with its bits.

    Nothing is there before all of it is: killed in between, the next start refuses the directory.

    Args:
        force: what the directory keeps is moved aside first

    Raises:
        ConfigError: the features are to be picked, and those of the export were listed.
        StateError: the export is damaged, or this configuration cannot go on with it.
        RecoveryError: the directory keeps a state, is in use or cannot be written.
        OSError: the file cannot be read.
    """
    directory = directory_of(config)
    with file.open("rb") as content:
        reader = SnapshotReader(content)
        reader.check()
        export = _Export(reader, file)
        with sound():
            resolved = _with_picked(config, export.words["picked"])
            for words in export.words["made"].values():
                require_compatible_state(words, resolved)
        make_directory(directory)
        held = lock(directory)
        aside = None
        try:
            if _is_used(directory):
                if not force:
                    raise RecoveryError(
                        f"recovery.directory: {directory} keeps a state: name an empty one, or move what is there "
                        "aside (--force)"
                    )
                aside = set_aside(directory)
                make_directory(directory)
                held.close()
                held = lock(directory)
            _fill(directory, export)
        except OSError as error:
            raise RecoveryError(f"recovery.directory: {directory} cannot be written: {error}") from error
        finally:
            held.close()
    return Imported(len(_shards(export)), export.words["epoch"], aside)


def _shards(export: _Export) -> list[str]:
    return [value["state"] for *_, value in export.words["rows"] if isinstance(value, dict) and "state" in value]


def _with_picked(config: Config, picked: Any) -> Config:
    if config.event.features != "auto":
        return config
    if not picked:
        raise ConfigError("event.features: auto, but the features of the export were listed, not picked: list them")
    return with_columns(config, picked["features"], picked["categories"])


def _is_used(directory: Path) -> bool:
    """Whether there is a state, or what might be one."""
    if any((directory / FOLDER).glob("*.state")) or (directory / IMPORTING).exists():
        return True
    try:
        return not kept_in(directory).empty
    except (RecoveryError, StateError):
        return True


def _fill(directory: Path, export: _Export) -> None:
    folder, building = directory / FOLDER, directory / IMPORTING
    building.mkdir()
    folder.mkdir(exist_ok=True)
    for name in (MARK, "boot", PICKED, SETTINGS):
        (directory / name).unlink(missing_ok=True)
    for file in directory.glob("part-*.sqlite3*"):
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
    words = export.words
    if words["picked"]:
        write_json(directory / PICKED, words["picked"])
    if words["beside"]:
        write_json(directory / SETTINGS, {"release": words["release"], "settings": words["beside"]})
    init_db_dir(building, words["parts"])
    _write_rows(building, words, names)
    for part in range(words["parts"]):
        (building / f"part-{part}.sqlite3").rename(directory / f"part-{part}.sqlite3")
    sync(directory)
    (directory / MARK).touch()
    shutil.rmtree(building)
    sync(directory)


def _write_rows(building: Path, words: dict[str, Any], names: dict[str, str]) -> None:
    """The databases as a run of one worker leaves them that has ended with the epoch before."""
    epoch, last = words["epoch"], words["parts"] - 1
    for part in range(words["parts"]):
        with opened_database(building / f"part-{part}.sqlite3") as database:
            rows = [
                (step, key, at, pickle.dumps(_as_kept(value, names)))
                for home, step, key, at, value in words["rows"]
                if home == part
            ]
            insert = "INSERT INTO snaps (step_id, state_key, snap_epoch, ser_change) VALUES (?, ?, ?, ?)"
            database.executemany(insert, rows)
            database.execute("INSERT INTO commits (part_index, commit_epoch) VALUES (?, ?)", (part, epoch - 1))
            if part == last:
                database.execute("INSERT INTO exs (ex_num, worker_count, resume_epoch) VALUES (0, 1, ?)", (epoch,))
                database.execute(
                    "INSERT INTO fronts (ex_num, worker_index, worker_frontier) VALUES (0, 0, ?)", (epoch,)
                )
            database.commit()
