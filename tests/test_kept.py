"""What a recovery directory keeps: listed, moved, compared, reset, damaged. Bytewax itself runs, without a broker."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sqlite3
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import bytewax.operators as op
import numpy as np
import pytest
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.testing import TestingSink, cluster_main
from forked import Forked
from typer.testing import CliRunner

from ssm_stream.cli.app import app
from ssm_stream.config import Config, load_config
from ssm_stream.engine.engine import Engine, shard_of
from ssm_stream.engine.entity_report import entity_hash, hash_by_source
from ssm_stream.engine.snapshot_format import StateError
from ssm_stream.ingest.events import Events
from ssm_stream.kafka.records import PredictedBatch, ShardBatch, shard_key
from ssm_stream.operators.shard_operator import ShardLogic
from ssm_stream.recovery.bytewax_db import RecoveryError
from ssm_stream.recovery.checkpoint_files import ShardCheckpoints, flush
from ssm_stream.recovery.comparison import hash_directory, hash_file
from ssm_stream.recovery.directory import open_recovery
from ssm_stream.recovery.export import export_state, import_state
from ssm_stream.recovery.reader import read_state
from ssm_stream.recovery.reset import reset_entity

PARTITIONS, ENTITIES, CHUNK = 2, 24, 40
N = 2_000
FILE = """\
source: {{brokers: "localhost:9", topic: events}}
event: {{entity: e, timestamp: t, features: [a, b]}}
state: {{shards: {shards}, ttl: null}}
recovery: {{directory: {directory}}}
{more}
"""
Told = dict[tuple[int, int], float]
"""Partition and offset → yhat."""


def written(folder: Path, name: str = "monitor", *, shards: int = 3, more: str = "") -> Path:
    """A configuration file, whose recovery directory is beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.yaml"
    path.write_text(FILE.format(directory=folder / name, shards=shards, more=more))
    return path


def events_of(partition: int) -> Events:
    """Each partition has entities of its own."""
    rng = np.random.default_rng(partition)
    every = [f"m{i}" for i in range(ENTITIES)]
    mine = [name for name in every if zlib.crc32(name.encode(), 7) % PARTITIONS == partition]
    names = [mine[i] for i in rng.integers(0, len(mine), N).tolist()]
    features = rng.normal(size=(N, 2))
    y = features @ [1.0, -2.0] + 0.1 * rng.normal(size=N) + 30 * (rng.random(N) < 0.01)
    return Events(names, 1_700_000_000_000 + 60_000 * np.arange(N), features, y, np.arange(N), np.zeros(N, np.int64))


class Partition(StatefulSourcePartition[tuple[str, ShardBatch], int]):
    def __init__(self, config: Config, partition: int, resume: int | None, stop: int) -> None:
        self.config, self.partition, self.next, self.stop = config, partition, resume or 0, stop
        self.events = events_of(partition)

    def next_batch(self) -> list[tuple[str, ShardBatch]]:
        if self.next >= self.stop:
            raise StopIteration
        at = np.arange(self.next, min(self.next + CHUNK, self.stop))
        part, shards = self.events.take(at), self.config.state.shards
        self.next = int(at[-1]) + 1
        out: dict[int, list[int]] = {}
        for i, name in enumerate(part.entity):
            out.setdefault(shard_of(name, shards), []).append(i)
        return [
            (shard_key(shard), ShardBatch(self.partition, part.take(np.array(rows)), at[rows].tolist()))
            for shard, rows in out.items()
        ]

    def snapshot(self) -> int:
        return self.next


class Partitions(FixedPartitionedSource[tuple[str, ShardBatch], int]):
    def __init__(self, config: Config, stop: int) -> None:
        self.config, self.stop = config, stop

    def list_parts(self) -> list[str]:
        return [f"{partition:05d}" for partition in range(PARTITIONS)]

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> Partition:
        return Partition(self.config, int(for_part), resume_state, self.stop)


def run(path: Path, stop: int, workers: int = 1) -> Told:
    """Bytewax over the events up to an offset, from wherever the recovery directory is."""
    config, out = load_config(path), list[tuple[str, PredictedBatch]]()
    recovery = open_recovery(config)
    assert recovery is not None
    assert recovery.lock is not None
    flow = Dataflow("monitor")
    read = op.input("source", flow, Partitions(config, stop))
    learned = op.stateful_batch("learn", read, lambda state: ShardLogic(config, state))
    op.output("sink", learned, TestingSink(out))
    cluster_main(
        flow, [], 0, recovery_config=recovery.config, epoch_interval=timedelta(0), worker_count_per_proc=workers
    )
    flush()  # files that no longer serve go on another thread, and a copy would miss one
    recovery.lock.close()
    told: Told = {}
    for _, (batch, predictions, *_) in out:
        for offset, yhat in zip(batch.offsets, predictions.yhat.tolist(), strict=True):
            assert (batch.partition, offset) not in told
            told[batch.partition, offset] = yhat
    return told


def replayed(config: Config, stops: list[int], of: Callable[[Engine, str], Any] = hash_by_source) -> dict[str, Any]:
    """Entity → hashes (`of`) in engines that read the same events in memory, shard by shard."""
    hashes = {}
    for shard in range(config.state.shards):
        engine = Engine(config)
        for partition, stop in enumerate(stops):
            part = events_of(partition).take(np.arange(stop))
            mine = [i for i, name in enumerate(part.entity) if shard_of(name, config.state.shards) == shard]
            if mine:
                engine.process(part.take(np.array(mine)), partition)
        hashes |= {name: of(engine, name) for name in engine.names}
    return hashes


def command(*arguments: str | Path, code: int = 0) -> str:
    """What a command says on both streams."""
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    assert result.exit_code == code, result.output
    return result.output


def hashes_of(path: Path) -> dict[str, dict[int, str]]:
    directory = load_config(path).recovery.directory
    assert directory is not None
    return hash_directory(directory).entities


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration whose directory keeps the state of half of the events."""
    path = written(tmp_path_factory.mktemp("half"))
    run(path, N // 2, workers=2)
    return path


@pytest.fixture(scope="module")
def rest(half: Path, tmp_path_factory: pytest.TempPathFactory) -> Told:
    """The predictions of the other half, undisturbed."""
    path = copied(half, tmp_path_factory.mktemp("rest"))
    return run(path, N)


def copied(path: Path, folder: Path) -> Path:
    """A copy of a configuration and its directory: a back-up while nothing runs."""
    shutil.copytree(path.with_suffix(""), folder / path.stem)
    return written(folder, path.stem)


# Lists.


def test_ls_lists_entities_shards_and_positions(half: Path) -> None:
    found = json.loads(command("state", "ls", half, "--json", "--sort", "events", "--limit", "5"))
    assert (found["process"], found["total"], len(found["entities"])) == (None, ENTITIES, 5)
    assert sorted(found["shards"]) == ["0000", "0001", "0002"]
    assert found["positions"] == [{"topic": "events", "partition": p, "offset": N // 2} for p in range(PARTITIONS)]
    counts = [each["n"] for each in found["entities"]]
    assert counts == sorted(counts, reverse=True)
    hashes = replayed(load_config(half), [N // 2] * PARTITIONS, entity_hash)
    every = json.loads(command("state", "ls", half, "--json", "--limit", "0"))["entities"]
    assert {each["entity"]: each["hash"] for each in every} == hashes
    assert sum(each["n"] for each in every) == N
    shown = command("state", "ls", half, "--limit", "3")
    assert "no process runs on it" in " ".join(shown.split())  # a long path folds the line
    assert f"and {ENTITIES - 3} more" in shown


def test_show_tells_what_is_known_without_an_event(half: Path) -> None:
    found = json.loads(command("state", "show", half, "m3", "--json"))
    (facts,) = found["targets"]
    mine = [i for i, name in enumerate(events_of(0).entity + events_of(1).entity) if name == "m3" and i % N < N // 2]
    assert facts["n"] == len(mine)
    assert facts["last"] == 1_700_000_000_000 + 60_000 * (mine[-1] % N)
    assert 0 < facts["error"] < 10
    assert 0 < facts["half_width"] < 100
    assert next(iter(facts["weights"])) == "b", "the weightiest first"
    assert -4 < facts["weights"]["b"] < -0.5
    assert {each["source"] for each in found["hashes"]} == set(range(PARTITIONS))
    shown = command("state", "show", half, "m3")
    assert "usual error" in shown
    assert "weight of b" in shown
    assert "has no entity 'm99'" in command("state", "show", half, "m99", code=1)


def test_there_may_be_nothing_yet(tmp_path: Path) -> None:
    path = written(tmp_path)
    file = tmp_path / "x.state"
    calls = (("ls", path), ("ls", path, "--json"), ("show", path, "m1"), ("export", path, file), ("diff", path, path))
    for call in calls:
        assert f"no state at {tmp_path / 'monitor'}:" in command("state", *call, code=1)
    assert "nothing to reset" in command("state", "reset", path, "--yes", code=1)
    (tmp_path / "monitor").mkdir()
    assert json.loads(command("state", "ls", path, "--json"))["total"] == 0
    assert "nothing to export" in command("state", "export", path, file, code=1)
    assert "holds no state" in command("state", "diff", path, path, code=1)
    off = tmp_path / "off.yaml"
    off.write_text(path.read_text().replace(str(tmp_path / "monitor"), "null"))
    assert "so no state is stored" in command("state", "ls", off, code=1)


# Files and back.


@pytest.mark.parametrize("workers", [1, 3])
def test_an_import_goes_on_from_the_same_positions_with_the_same_bits(
    half: Path, rest: Told, tmp_path: Path, workers: int
) -> None:
    file, path = tmp_path / "half.state", written(tmp_path, "other")
    assert "3 shards" in command("state", "export", half, file)
    assert "3 shards" in command("state", "import", path, file)
    assert hashes_of(path) == hashes_of(half)
    told = {}
    for stop in (N // 2 + CHUNK, N // 2 + 7 * CHUNK, N):  # Bytewax keeps and deletes what the import has put there
        told |= run(path, stop, workers)
    assert told == rest
    assert hashes_of(path) == replayed(load_config(path), [N] * PARTITIONS)


def test_equal_states_give_equal_files_and_leave_nothing_else(half: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "a.state", tmp_path / "b.state"
    for file in (first, second):
        command("state", "export", half, file)
    assert first.read_bytes() == second.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.state", "b.state"]
    assert hash_file(first).entities == hashes_of(half)


def test_a_copy_of_the_directory_goes_on_with_the_same_bits(half: Path, rest: Told, tmp_path: Path) -> None:
    assert run(copied(half, tmp_path), N, workers=2) == rest


def test_an_import_changes_nothing_that_is_there(half: Path, tmp_path: Path) -> None:
    file = tmp_path / "half.state"
    command("state", "export", half, file)
    path = copied(half, tmp_path)
    command("state", "reset", path, "m3", "--yes")
    before = hashes_of(path)
    assert "holds a state" in command("state", "import", path, file, code=1)
    assert hashes_of(path) == before
    said = command("state", "import", path, file, "--force")
    (aside,) = [each for each in tmp_path.iterdir() if each.name.startswith("monitor.2")]
    assert str(aside) in said.replace("\n", "")
    assert hash_directory(aside).entities == before
    assert hashes_of(path) == hashes_of(half)


def test_an_import_into_other_shards_is_refused_with_the_reason(half: Path, tmp_path: Path) -> None:
    file = tmp_path / "half.state"
    command("state", "export", half, file)
    path = written(tmp_path, "four", shards=4)
    said = command("state", "import", path, file, code=1)
    assert "state.shards: 3 → 4 (refused: entities would move to other shards" in said
    assert not (tmp_path / "four").exists()
    migrated = written(tmp_path, "later", more="alerts: {anomaly: {cooldown: 7}}")
    command("state", "import", migrated, file)
    assert hashes_of(migrated) == hashes_of(half)


@pytest.mark.parametrize("how", ["short", "bent", "no export", "nothing", "absent"])
def test_a_damaged_export_is_refused_before_anything_is_touched(half: Path, tmp_path: Path, how: str) -> None:
    file, path = tmp_path / "half.state", written(tmp_path, "other")
    command("state", "export", half, file)
    content = bytearray(file.read_bytes())
    if how == "short":
        content = content[:-1]
    elif how == "bent":
        content[len(content) // 2] ^= 16
    elif how == "no export":
        kept = read_state(half.with_suffix(""))
        content = bytearray((kept.directory / "state" / kept.chains["0001"][0].name).read_bytes())
    else:
        content = bytearray()
    file.write_bytes(content)
    if how == "absent":
        file.unlink()
    said = command("state", "import", path, file, code=1)
    words = {"short": "damaged", "bent": "checksum", "no export": "not an export", "absent": "there is no such file"}
    assert words.get(how, "not an ssm-stream") in said
    assert f"error: {file}: " in said
    assert "ssm-stream state export CONFIG FILE" in said
    if how != "no export":  # which `diff` compares, too
        assert f"error: {file}: " in command("state", "diff", half, file, code=1)
    assert not (tmp_path / "other").exists()


def test_an_import_that_was_killed_is_not_started_from(
    half: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At any of its steps."""
    file, path = tmp_path / "half.state", written(tmp_path, "other")
    command("state", "export", half, file)
    rename, left = Path.rename, 0

    def killed(self: Path, target: Path) -> Path:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return rename(self, target)

    for steps in range(7):  # three states, four databases
        monkeypatch.setattr(Path, "rename", killed)
        left = steps
        with pytest.raises(KeyboardInterrupt):
            import_state(load_config(path), file)
        monkeypatch.undo()
        with pytest.raises(RecoveryError, match="was interrupted"):
            open_recovery(load_config(path))
        shutil.rmtree(tmp_path / "other")
    import_state(load_config(path), file)
    assert hashes_of(path) == hashes_of(half)


WRITER = """
from test_kept import *
path = Path(sys.argv[1])
for stop in range(CHUNK, N + 1, CHUNK):
    print(stop, flush=True)
    run(path, stop)
"""


def test_exports_of_a_running_process_are_the_end_of_one_epoch(tmp_path: Path) -> None:
    """Of all shards and positions alike, whenever it is: as of an engine that has read as far."""
    path, seen, tries = written(tmp_path), set(), 0
    process = Forked(str(path), code=WRITER, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    config, file = load_config(path), tmp_path / "now.state"
    while process.poll() is None and len(seen) < 12:
        try:
            export_state(config, file)
        except RecoveryError:
            assert not seen, "only before the first epoch has ended there is nothing"
            continue
        tries += 1  # an epoch may be seen twice
        other = written(tmp_path, f"other{tries}")
        import_state(load_config(other), file)
        kept = read_state(tmp_path / other.stem)
        stops = [position.offset for position in kept.positions(config)]
        assert hashes_of(other) == replayed(config, stops)
        seen.add(tuple(stops))
    process.kill()
    process.communicate()
    assert len(seen) >= 3


# Afresh.


def test_one_entity_starts_afresh_and_nothing_else_changes(half: Path, tmp_path: Path) -> None:
    path = copied(half, tmp_path)
    assert "would reset" in command("state", "reset", path, "m5", "--dry-run")
    assert hashes_of(path) == hashes_of(half)
    assert "starts anew" in command("state", "reset", path, "m5", "--yes")
    after, before = hashes_of(path), hashes_of(half)
    del before["m5"]
    assert after == before
    run(path, N)
    found = {each["entity"]: each["n"] for each in json.loads(command("state", "ls", path, "--json"))["entities"]}
    both = events_of(0).entity[N // 2 :] + events_of(1).entity[N // 2 :]
    assert found["m5"] == both.count("m5")
    assert "has no entity 'm99'" in command("state", "reset", path, "m99", "--yes", code=1)


def test_all_starts_afresh_and_what_was_there_is_aside(half: Path, tmp_path: Path) -> None:
    path = copied(half, tmp_path)
    assert "would reset" in command("state", "reset", path, "--dry-run")
    assert hashes_of(path) == hashes_of(half)
    said = command("state", "reset", path, "--yes").replace("\n", "")
    (aside,) = [each for each in tmp_path.iterdir() if each.name.startswith("monitor.2")]
    assert str(aside) in said
    assert not (tmp_path / "monitor").exists()
    assert hash_directory(aside).entities == hashes_of(half)
    assert run(path, N)[0, 0] is not None, "from the beginning"


def test_a_volume_of_its_own_is_emptied_into_a_folder_in_it(
    half: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, rename = copied(half, tmp_path), Path.rename

    def busy(self: Path, target: Path) -> Path:
        if self == tmp_path / "monitor":
            raise OSError(16, "Device or resource busy")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", busy)
    command("state", "reset", path, "--yes")
    (aside,) = [each for each in (tmp_path / "monitor").iterdir() if each.name != "lock"]
    assert hash_directory(aside).entities == hashes_of(half)
    assert read_state(tmp_path / "monitor").empty


def test_nothing_is_changed_under_a_process_that_runs(half: Path, tmp_path: Path) -> None:
    """Lists and exports say which one it is."""
    file, path = tmp_path / "half.state", copied(half, tmp_path)
    command("state", "export", half, file)
    held = open_recovery(load_config(path))
    assert held is not None
    assert held.lock is not None
    for arguments in (["reset", path, "--yes"], ["reset", path, "m3", "--yes"], ["import", path, file, "--force"]):
        assert f"in use by process {os.getpid()}" in command("state", *arguments, code=1).replace("\n", " ")
    assert json.loads(command("state", "ls", path, "--json"))["process"] == str(os.getpid())
    assert f"process {os.getpid()} continues from there" in command("state", "export", path, file)
    held.lock.close()
    assert hashes_of(path) == hashes_of(half)


# Differences.


def test_diff_tells_entities_apart(half: Path, tmp_path: Path) -> None:
    file = tmp_path / "half.state"
    command("state", "export", half, file)
    assert f"the same in both: {ENTITIES}" in command("state", "diff", half, file)
    assert f"the same in both: {ENTITIES}" in command("state", "diff", half.with_suffix(""), file)
    path = copied(half, tmp_path)
    command("state", "reset", path, "m3", "--yes")
    found = json.loads(command("state", "diff", path, file, "--json", code=1))
    assert (found["only_first"], found["only_second"], found["differ"]) == ([], ["m3"], [])
    run(path, N // 2 + CHUNK)
    found = json.loads(command("state", "diff", path, file, "--json", code=1))
    assert found["differ"]
    assert found["same"] + len(found["differ"]) + len(found["only_second"]) == ENTITIES


# What a changed configuration does.


def test_validate_says_what_would_become_of_the_state(half: Path, tmp_path: Path) -> None:
    path = copied(half, tmp_path)
    assert "kept      the stored state continues" in command("validate", path)
    path = written(tmp_path, more="alerts: {drift: {enabled: false}}")
    said = command("validate", path)
    assert "migrated  the stored state" in said
    assert "alerts.drift.enabled: true → false (migrated: " in said
    path = written(tmp_path, more="model: {warmup: 50, interval: 0.8}")
    said = command("validate", path, code=1)
    assert "refused   the stored state" in said
    assert "model.interval: 0.9 → 0.8 (refused: " in said
    kept = json.loads(command("validate", path, "--json", code=1))["recovery"]["kept"]
    assert (kept["effect"], len(kept["changes"])) == ("refused", 2)
    (tmp_path / "monitor" / "part-1.sqlite3").unlink()
    assert "part-1.sqlite3 is missing" in command("validate", path, code=1)
    assert "kept" not in command("validate", written(tmp_path, "none"))


# Damage.


def damaged(half: Path, tmp_path: Path, damage: Callable[[Path], object]) -> str:
    """What a start says."""
    path = copied(half, tmp_path)
    damage(tmp_path / "monitor")
    config = load_config(path)
    with pytest.raises((RecoveryError, StateError)) as error:
        open_recovery(config)
    text = str(error.value)
    assert "copy" in text, "the way out"
    assert command("state", "ls", path, code=1).replace("\n", "").startswith("error: ")
    return text


@pytest.mark.parametrize("part", range(4))
def test_a_missing_database_names_itself(half: Path, tmp_path: Path, part: int) -> None:
    text = damaged(half, tmp_path, lambda folder: (folder / f"part-{part}.sqlite3").unlink())
    assert f"part-{part}.sqlite3 is missing" in text


def test_all_databases_missing_is_no_new_beginning(half: Path, tmp_path: Path) -> None:
    def remove(folder: Path) -> None:
        for file in folder.glob("part-*"):
            file.unlink()

    def remove_more(folder: Path) -> None:
        remove(folder)
        (folder / "initialised").unlink()

    assert "are missing" in damaged(half, tmp_path / "a", remove)
    assert "holds state files, but no part-" in damaged(half, tmp_path / "b", remove_more)


def overwritten(content: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    def damage(folder: Path) -> None:
        file = folder / "part-1.sqlite3"
        file.write_bytes(content(file.read_bytes()))

    return damage


@pytest.mark.parametrize(
    ("how", "content"),
    [
        ("empty", lambda data: b""),
        ("noise", lambda data: np.random.default_rng(0).bytes(len(data))),
        ("first page only", lambda data: data[:4096]),
        ("zeros within", lambda data: data[:4096] + bytes(len(data) - 4096)),
        ("bent header", lambda data: b"SQLite format 4" + data[15:]),
    ],
)
def test_a_damaged_database_names_itself(
    half: Path, tmp_path: Path, how: str, content: Callable[[bytes], bytes]
) -> None:
    assert "part-1.sqlite3" in damaged(half, tmp_path, overwritten(content))


def test_databases_that_were_exchanged_are_noticed(half: Path, tmp_path: Path) -> None:
    def exchange(folder: Path) -> None:
        shutil.copy(folder / "part-2.sqlite3", folder / "part-1.sqlite3")

    assert "part-1.sqlite3 is damaged (its part number differs" in damaged(half, tmp_path, exchange)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("/tmp/never-made",)


def test_nothing_in_a_snapshot_is_called(half: Path, tmp_path: Path) -> None:
    """Commands that look at the databases read plain values only."""
    path = copied(half, tmp_path)
    for file in (tmp_path / "monitor").glob("part-*.sqlite3"):
        with sqlite3.connect(file) as database:
            database.execute("UPDATE snaps SET ser_change = ? WHERE step_id LIKE '%source'", (pickle.dumps(Evil()),))
    assert "is not a plain value" in command("state", "ls", path, code=1).replace("\n", " ")
    assert not Path("/tmp/never-made").exists()


def test_a_missing_state_names_itself(half: Path, tmp_path: Path) -> None:
    path = copied(half, tmp_path)
    kept = read_state(tmp_path / "monitor")
    name = kept.chains["0001"][-1].name
    (tmp_path / "monitor" / "state" / name).unlink()
    said = command("state", "ls", path, code=1).replace("\n", "")
    assert f"{name} is missing" in said
    with pytest.raises(StateError, match="is missing"):
        reset_entity(load_config(path), next(iter(hashes_of(half))), dry=True)


def test_a_state_that_was_changed_while_nothing_ran_names_the_way_out(half: Path, tmp_path: Path) -> None:
    """Bodies are read for their checksums at the start only after the machine was started again."""
    path = copied(half, tmp_path)
    name = read_state(tmp_path / "monitor").chains["0001"][-1].name
    content = bytearray((tmp_path / "monitor" / "state" / name).read_bytes())
    content[-3] ^= 255
    (tmp_path / "monitor" / "state" / name).write_bytes(content)
    with pytest.raises(StateError, match=rf"{name}: .* body differs: restore the whole directory from a copy"):
        ShardCheckpoints(tmp_path / "monitor" / "state").restore(load_config(path), name)


# Open episodes.


class Spiked(Partition):
    """From offset 800 on, an entity of each partition is far off."""

    def __init__(self, config: Config, partition: int, resume: int | None, stop: int) -> None:
        super().__init__(config, partition, resume, stop)
        name = self.events.entity[0]
        struck = np.array([each == name for each in self.events.entity]) & (np.arange(N) >= 800)
        self.events.target[struck] += 1e4


OPEN = "alerts: {anomaly: {recover_after: 1000}, drift: {enabled: false}}\nmodel: {warmup: 10}"


@pytest.fixture
def spiked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The alert messages that go out."""
    sent: list[dict[str, Any]] = []
    process = ShardLogic._process

    def watched(self: ShardLogic, batch: ShardBatch) -> Any:
        out = process(self, batch)
        for each in out:
            if isinstance(each, PredictedBatch):
                sent.extend(self._encoder.alert_bodies(each.batch, each.alerts))
        return out

    monkeypatch.setattr(ShardLogic, "_process", watched)
    monkeypatch.setattr(sys.modules[__name__], "Partition", Spiked)
    return sent


def open_episodes(sent: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    out: dict[str, dict[str, Any]] = {}
    for message in sent:
        out[message["episode"]] = message
    return {name: message for name, message in out.items() if message["phase"] != "recovered"}


def test_a_reset_entity_gets_its_recovered_when_its_partition_goes_on(
    spiked: list[dict[str, Any]], tmp_path: Path
) -> None:
    path = written(tmp_path, more=OPEN)
    run(path, 900)
    left = open_episodes(spiked)
    name = next(message["entity"] for message in left.values() if message["scope"] == "entity")
    mine = {episode for episode, message in left.items() if message["entity"] == name}
    command("state", "reset", path, name, "--yes")
    command("state", "export", path, tmp_path / "reset.state")
    spiked.clear()
    run(path, 1000)
    (over,) = [message for message in spiked if message["ended_by"] == "reset"]
    assert {over["episode"]} == mine
    assert over["source"]["offset"] in range(900, 1000)
    other = written(tmp_path, "other", more=OPEN)
    command("state", "import", other, tmp_path / "reset.state")
    spiked.clear()
    run(other, 1000)
    assert [message for message in spiked if message["ended_by"] == "reset"] == [over], "to the same id"


def test_what_was_open_when_all_was_reset_ends_at_the_next_start_once(
    spiked: list[dict[str, Any]], tmp_path: Path
) -> None:
    path = written(tmp_path, more=OPEN)
    run(path, 900)
    left = open_episodes(spiked)
    assert left
    command("state", "reset", path, "--yes")
    command("state", "reset", path, "--yes")  # before anything ran: they are still to be sent
    changed = path.read_text().replace("shards: 3", "shards: 2").replace("warmup: 10", "warmup: 10, interval: 0.8")
    path.write_text(changed)  # of what a state would refuse
    spiked.clear()
    run(path, 400)
    ended = [message for message in spiked if message["ended_by"] == "reset"]
    assert Counter(message["episode"] for message in ended) == Counter(left.keys())
    assert all(message["source"]["offset"] < 40 for message in ended)
    assert len({message["id"] for message in ended}) == len(ended)
    spiked.clear()
    run(path, 600)
    assert [message for message in spiked if message["ended_by"] == "reset"] == []
