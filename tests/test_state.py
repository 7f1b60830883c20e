"""States on disk: what has changed only, chains and their end, kills, files that are torn, missing or bent."""

from __future__ import annotations

import json
import mmap
import os
import pickle
import signal
import sqlite3
import subprocess
import time
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple

import numpy as np
import pytest
from forked import Forked
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ssm_stream.config import Config, parse_config
from ssm_stream.engine.engine import Engine, shard_of
from ssm_stream.engine.memory import growable_arrays
from ssm_stream.engine.snapshot_format import SnapshotReader, StateError
from ssm_stream.ingest.events import Events
from ssm_stream.ingest.labels import Labels
from ssm_stream.kafka.records import ShardBatch
from ssm_stream.operators.failures import forget
from ssm_stream.operators.shard_operator import ShardLogic
from ssm_stream.ops.audit import AuditError, AuditFile
from ssm_stream.recovery import checkpoint_files
from ssm_stream.recovery.bytewax_db import RecoveryError, on_disk_of_bytewax, open_database
from ssm_stream.recovery.checkpoint_files import TOKEN, read_chain, referenced_file
from ssm_stream.recovery.directory import OpenRecovery, open_recovery
from ssm_stream.recovery.settings_files import write_json

HOUR = 3_600_000
KINDS = {
    "plain": "event: {entity: e, timestamp: t, features: [a, b]}",
    "codes": "event: {entity: e, timestamp: t, features: [a], categories: [mode]}",
    "derived": "event: {entity: e, timestamp: t, features: [a, b], derive: {m: {rolling_mean: c, over: 4}}}",
    "alone": "event: {entity: e, timestamp: t, features: [a, b]}\nmodel: {fleet: false}",
    "two": "event: {entity: e, timestamp: t, features: [a, b], target: [y, z]}",
    "ahead": "event: {entity: e, timestamp: t, features: [a, b]}\nmodel: {horizon: 3 events}",
    "labels": "event: {entity: e, timestamp: t, features: [a, b]}\nlabels: {topic: labels, wait: 1d}",
}


def configured(kind: str = "plain", directory: Path | None = None, more: str = "state: {ttl: 1d}") -> Config:
    where = "null" if directory is None else str(directory)
    return parse_config(f"source: {{brokers: a, topic: t}}\n{KINDS[kind]}\n{more}\nrecovery: {{directory: {where}}}\n")


def stream(config: Config, n: int, seed: int = 0, entities: int = 40) -> Events:
    """Events of machines that come, go silent for longer than the TTL, and come back."""
    rng = np.random.default_rng(seed)
    who = (rng.random(n) ** 2 * entities).astype(int)
    ts = np.cumsum(rng.choice([60_000, HOUR, 9 * HOUR], n, p=[0.7, 0.25, 0.05])).astype(np.int64)
    features = rng.normal(size=(n, 2))
    if config.event.categories:
        features[:, 1] = rng.integers(0, 1 + np.arange(n) // 40)
    y = features[:, 0] + 0.1 * rng.normal(size=n) + 20 * (rng.random(n) < 0.01)
    if len(config.event.targets) > 1:
        y = np.stack([y, -y], axis=1)
    if config.labels is not None:
        y = np.full(n, np.nan)
    windows = None
    if config.event.derive:
        features, windows = np.column_stack([features, np.full(n, np.nan)]), features[:, 1:].copy()
    return Events([f"m{i}" for i in who], ts, features, y, np.arange(n), np.zeros(n, np.int64), windows=windows)


def labels_of(events: Events) -> Labels:
    n = len(events)
    return Labels(events.entity, events.ts, np.zeros(n, np.int64), np.arange(n) % 7.0, np.arange(n))


def feed(engine: Engine, events: Events, start: int, stop: int) -> None:
    part = events.take(np.arange(start, stop))
    engine.process(part, source=start % 2)
    if engine.config.labels is not None:
        engine.learn(labels_of(events.take(np.arange(max(start - 15, 0), max(stop - 15, 0)))))
        engine.pop_unmatched_labels()


def replayed(config: Config, files: list[BytesIO]) -> Engine:
    engine = Engine(config)
    for file in files:
        engine.load(SnapshotReader(file))
    return engine


# What has changed only.


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=9)  # of each kind; test_entity_limiter.py restores 80 such chains more
@given(seed=st.integers(0, 1000), cuts=st.lists(st.integers(1, 399), min_size=1, max_size=8), extra=st.booleans())
def test_changes_one_after_another_are_a_whole_snapshot_to_the_bit(
    kind: str, seed: int, cuts: list[int], extra: bool
) -> None:
    """With entities that come, expire and come back, codes that make rows wider, a second entity in the pool."""
    config = configured(kind)
    engine, events, files, at, name = Engine(config), stream(config, 400, seed), list[BytesIO](), 0, ""
    for cut in sorted({*cuts, 400}):
        feed(engine, events, at, cut)
        at = cut
        if extra and cut % 3 == 0:
            engine.snapshot()  # of somebody else, who must not take changes away
        whole = not files or engine.changed_share == 1.0
        files = [*([] if whole else files), BytesIO()]
        name = engine.write_snapshot(files[-1], full=whole, base=name)
        assert replayed(config, files).snapshot() == engine.snapshot()
        if cut % 2:  # a restored engine goes on writing changes
            engine = replayed(config, files)
    calm = Engine(config)
    for start, stop in pairwise([0, *sorted({*cuts, 400})]):
        feed(calm, events, start, stop)
    calm.snapshot()
    assert {m: engine.state_hash(m) for m in engine.names} == {m: calm.state_hash(m) for m in calm.names}


def test_only_rows_that_changed_are_written() -> None:
    config = configured()
    engine, n = Engine(config), 2_000
    names = [f"m{i}" for i in range(n)]
    rng = np.random.default_rng(0)

    def told(some: list[str], t: int) -> None:
        m = len(some)
        engine.process(Events(some, np.full(m, t, np.int64), rng.normal(size=(m, 2)), rng.normal(size=m), np.arange(m)))

    told(names, 0)
    whole, few, none = BytesIO(), BytesIO(), BytesIO()
    first = engine.write_snapshot(whole, full=True)
    store = engine.target_engines[0].store
    # Without what a row of a block has between its fields.
    entity, pool = (
        sum(array[0].nbytes for _, array in growable_arrays.named_arrays(groups) if len(array))
        for groups in (store.state, store.shared)
    )
    assert len(whole.getvalue()) == pytest.approx(n * entity + pool, rel=0.02)
    told(names[:100], 1)
    assert engine.changed_share == 0.05
    second = engine.write_snapshot(few, full=False, base=first)
    assert len(few.getvalue()) == pytest.approx(100 * engine.bytes_per_entity + engine.bytes_per_pool, rel=0.05)
    engine.write_snapshot(none, full=False, base=second)
    assert len(none.getvalue()) < 6_500  # the names and places of the fields, no row
    assert replayed(config, [whole, few, none]).snapshot() == engine.snapshot()


@given(st.integers(0, 60), st.data())
def test_rows_that_leave_are_filled_with_the_last_ones(count: int, data: st.DataObject) -> None:
    gone = np.array(sorted(data.draw(st.sets(st.integers(0, count - 1)) if count else st.just(set()))), np.int64)
    array, off = np.arange(count) + 1, np.zeros((0, 3))
    growable_arrays.remove_rows([array, off], count, gone)
    left = count - len(gone)
    assert sorted(array[:left].tolist()) == [i + 1 for i in range(count) if i not in gone]
    assert not array[left:].any()
    moved = np.flatnonzero(array[:left] != np.arange(left) + 1)
    assert set(moved.tolist()) <= set(gone.tolist()), "who stays where it was need not be told of"


class Group(NamedTuple):
    """Rows of three widths: of a few bytes, of no whole number of pages, of several pages."""

    small: NDArray[np.int8]
    middle: NDArray[np.float32]
    wide: NDArray[np.float64]


def group(rows: int) -> Group:
    return Group(np.zeros(rows, np.int8), np.zeros((rows, 2, 171), np.float32), np.zeros((rows, 1300)))


@pytest.mark.parametrize("moving", [True, False])
def test_rows_survive_growth_and_the_rest_takes_no_memory(monkeypatch: pytest.MonkeyPatch, moving: bool) -> None:
    """Whether pages are moved or copied; who still holds the old arrays reads zeros."""
    if not moving:
        monkeypatch.setattr(growable_arrays, "_MREMAP", None)
    elif growable_arrays._MREMAP is None:
        pytest.skip("this system cannot move pages")
    rng = np.random.default_rng(0)
    state, used = growable_arrays.fit_group(group(1), group(1), growable_arrays.rows_to_reserve(1), 0), 0
    kept = [array[:0].copy() for array in state]
    for more in (3, 20, 200, 1000, 4001):
        if more > len(state.small):
            before = state
            state = growable_arrays.fit_group(state, group(1), growable_arrays.rows_to_reserve(more), used)
            for old in before:
                assert not isinstance(old.base, mmap.mmap) or not old.any()
        assert len(state.small) >= more
        for i, array in enumerate(state):
            assert (array[:used] == kept[i]).all()
            assert not array[used:].any()
            array[used:more] = rng.integers(1, 100, (more - used, *array.shape[1:]))
            kept[i] = array[:more].copy()
        used = more
    assert growable_arrays.fit_group(group(0), group(0), 10_000, used).wide.shape == (0, 1300)


@pytest.mark.skipif(not Path("/proc/self/statm").exists() or growable_arrays._MREMAP is None, reason="needs Linux")
def test_rows_that_were_never_written_take_no_memory_as_others_grow() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE

    rows, before = 2_000, resident()
    state = growable_arrays.fit_group(group(1), group(1), rows, 0)
    state.wide[:4] = 1.0  # in order, as entities come; memory may be given by huge pages, of 2 MB
    grown = growable_arrays.fit_group(state, group(1), 4 * rows, rows)
    assert np.flatnonzero(grown.wide[:, 0]).tolist() == list(range(4))
    # The check above has read a page of each row, which the system gives from one page of zeros.
    assert resident() - before < grown.wide[:rows].nbytes / 4


# Files.


def batch_of(config: Config, events: Events, start: int, stop: int, shard: int = 0) -> ShardBatch:
    part = events.take(np.arange(start, stop))
    mine = [i for i, name in enumerate(part.entity) if shard_of(name, config.state.shards) == shard]
    return ShardBatch(0, part.take(np.array(mine, np.intp)), [start + i for i in mine])


def logic_of(config: Config, state: bytes | None = None) -> ShardLogic:
    return ShardLogic(config, state)


def settled(logic: ShardLogic) -> list[str]:
    """Names of the files, once what a snapshot leaves to do beside has been done."""
    assert logic._files is not None
    assert logic._files._on_disk is not None
    logic._files._on_disk.result(10)
    return sorted(path.name for path in logic._files.folder.iterdir())


def wide(config: Config, n: int, entities: int, seed: int, first: int = 0) -> Events:
    """Events of entities in turn: a share of few are few rows."""
    rng = np.random.default_rng(seed)
    names = [f"m{first + i % entities}" for i in range(n)]
    features = rng.normal(size=(n, 2))
    return Events(names, np.arange(n) + 1000 * seed, features, features[:, 0], np.arange(n), np.zeros(n, np.int64))


def test_chains_end_where_their_changes_outweigh_the_whole(tmp_path: Path) -> None:
    config = configured(directory=tmp_path)
    logic, memory = logic_of(config), Engine(config)
    kinds = []
    for seed in range(12):
        events = wide(config, 300, 300 if seed == 0 else 100, seed)
        logic.on_batch([batch_of(config, events, 0, 300)])
        memory.process(events)
        token = logic.snapshot()
        name = referenced_file(token)
        assert name is not None
        chain = read_chain(tmp_path / "state", name, verify=True)
        kinds.append(len(chain))
        assert len(token) < 100
        assert sum(g.size for g in chain) < 2.6 * chain[0].size
        files = settled(logic)
        assert {g.name for g in chain} <= set(files)
        assert len(files) <= 8
        restored = logic_of(config, token)
        assert restored.engine.snapshot() == memory.snapshot()
        if seed % 3 == 2:
            logic = restored
    assert kinds[:4] == [1, 2, 3, 4]
    assert kinds.count(1) >= 2, "a whole one again"


def test_the_three_latest_generations_stay(tmp_path: Path) -> None:
    config = configured(directory=tmp_path)
    logic, names = logic_of(config), []
    for seed in range(6):
        logic.on_batch([batch_of(config, wide(config, 50, 50, seed), 0, 50)])
        names.append(referenced_file(logic.snapshot()))
    assert settled(logic) == names[-3:]


@pytest.mark.parametrize("ending", [False, True])
def test_files_of_large_states_are_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: bool) -> None:
    """A spare one is there from the first snapshot on, without content where the end does not wait for it; states are
    as ever, also where they get smaller."""
    monkeypatch.setattr(checkpoint_files, "MIN_SPARE_BYTES", 1000)
    if ending:
        monkeypatch.setattr(checkpoint_files, "_ENDING", Event())
        checkpoint_files._ENDING.set()
    config = configured(directory=tmp_path)
    logic, memory = logic_of(config), Engine(config)
    for seed in range(8):
        events = wide(config, 200, 40 + seed, seed) if seed < 5 else wide(config, 200, 30, 5_000_000 * seed)
        logic.on_batch([batch_of(config, events, 0, 200)])
        memory.process(events)
        token = logic.snapshot()
        assert "0000.spare" in settled(logic)
        assert bool((tmp_path / "state" / "0000.spare").stat().st_size) == (seed > 2 or not ending)
        assert logic_of(config, token).engine.snapshot() == memory.snapshot()
    assert len(memory) == 30
    assert len(settled(logic)) == 4


def test_a_shard_is_named_by_its_entities_and_states_in_memory_go_over_into_files(tmp_path: Path) -> None:
    more = "state: {shards: 3}"
    bare, kept = configured(more=more), configured(directory=tmp_path, more=more)
    events = wide(bare, 60, 30, 0)
    logic = logic_of(bare)
    logic.on_batch([batch_of(bare, events, 0, 60, shard=2)])
    state = logic.snapshot()
    assert referenced_file(state) is None
    again = logic_of(kept, state)
    again.on_batch([batch_of(bare, wide(bare, 60, 30, 1), 0, 60, shard=2)])
    name = referenced_file(again.snapshot())
    assert name is not None
    assert name.startswith("0002-00000001-")


@pytest.mark.parametrize("how", ["missing", "short", "bent body", "bent header", "exchanged", "empty"])
@pytest.mark.parametrize("which", [0, -1])
def test_a_file_that_is_not_what_was_written_is_refused(tmp_path: Path, how: str, which: int) -> None:
    """The whole one and the last of its changes; the text names the file."""
    config = configured(directory=tmp_path)
    logic = logic_of(config)
    for seed in range(3):
        logic.on_batch([batch_of(config, wide(config, 300, 300 if seed == 0 else 60, seed), 0, 300)])
        token = logic.snapshot()
    settled(logic)
    name = referenced_file(token)
    assert name is not None
    chain = read_chain(tmp_path / "state", name)
    assert len(chain) == 3
    file = tmp_path / "state" / chain[which].name
    content = bytearray(file.read_bytes())
    if how == "missing":
        file.unlink()
    elif how == "exchanged":
        file.write_bytes((tmp_path / "state" / chain[1].name).read_bytes())
    else:
        if how.startswith("bent"):
            content[60 if how == "bent header" else -len(content) // 3] ^= 4
        file.write_bytes(content[: {"short": len(content) - 7, "empty": 0}.get(how, len(content))])
    with pytest.raises(StateError, match=file.name):
        logic_of(config, token)


def test_a_write_that_fails_is_raised_at_the_next_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = configured(directory=tmp_path)
    logic = logic_of(config)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    logic.on_batch([batch_of(config, wide(config, 20, 20, 0), 0, 20)])
    monkeypatch.setattr(os, "fsync", full)
    logic.snapshot()
    with pytest.raises(OSError, match="No space"):
        settled(logic)
    monkeypatch.undo()
    with pytest.raises(RecoveryError, match=r"No space left on device.*: make room"):
        logic.snapshot()
    forget()


# When the power fails.


def opened_once(settings: Config) -> OpenRecovery:
    """Open a state as a start does, and let go of it."""
    opened = open_recovery(settings)
    assert opened is not None
    assert opened.lock is not None
    opened.lock.close()
    return opened


class Epochs:
    """Bytewax's part, epoch after epoch: snapshots of the shard and of the source, and the frontier."""

    def __init__(self, directory: Path) -> None:
        self.config = configured(directory=directory, more="state: {ttl: null}")
        self.directory, self.logic, self.epoch = directory, logic_of(self.config), 1
        opened_once(self.config)
        self._write("INSERT INTO exs (ex_num, worker_count, resume_epoch) VALUES (0, 1, 1)")

    def _write(self, query: str, *values: Any) -> None:
        database = sqlite3.connect(self.directory / "part-0.sqlite3")
        database.execute(query, values)
        database.commit()
        database.close()

    def run(self, *, ends: bool = True) -> str:
        """An epoch of 100 events; returns the name of the file that it leaves."""
        self.logic.on_batch([batch_of(self.config, wide(self.config, 100, 40, self.epoch), 0, 100)])
        token = self.logic.snapshot()
        settled(self.logic)
        insert = "INSERT INTO snaps (step_id, state_key, snap_epoch, ser_change) VALUES (?, ?, ?, ?)"
        self._write(insert, "monitor.learn.stateful_batch", "0000", self.epoch, pickle.dumps(token))
        self._write(insert, "monitor.source", "0", self.epoch, pickle.dumps(100 * self.epoch))
        if ends:
            self._write(
                "INSERT OR REPLACE INTO fronts (ex_num, worker_index, worker_frontier) VALUES (0, 0, ?)", self.epoch + 1
            )
            self._write("INSERT OR REPLACE INTO commits (part_index, commit_epoch) VALUES (0, ?)", self.epoch - 1)
        self.epoch += 1
        name = referenced_file(token)
        assert name is not None
        return name

    def open(self, *, power_failed: bool = False) -> tuple[int, int, int]:
        """Epoch to resume at, snapshots dropped, epochs gone back."""
        if power_failed:
            (self.directory / "boot").write_text("another")
        opened = opened_once(self.config)
        return opened.resume_epoch, opened.pruned, opened.torn

    def kept(self, step: str) -> list[int]:
        database = sqlite3.connect(self.directory / "part-0.sqlite3")
        found = database.execute("SELECT snap_epoch FROM snaps WHERE step_id LIKE ? ORDER BY 1", (f"%{step}%",))
        epochs = [epoch for (epoch,) in found]
        database.close()
        return epochs


def torn(path: Path) -> None:
    """As the power leaves a file whose latest blocks were in memory only."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    path.write_bytes(content)


def test_a_start_goes_back_by_an_epoch_where_the_latest_state_is_torn(tmp_path: Path) -> None:
    """All steps do, the source too; what the state of the epoch before needs is there, and nothing else."""
    epochs = Epochs(tmp_path)
    names = [epochs.run() for _ in range(4)]
    torn(tmp_path / "state" / names[3])
    assert epochs.open() == (5, 0, 0), "no power failed: the shard says what is wrong when it reads the file"
    assert epochs.open(power_failed=True) == (4, 0, 1)
    assert epochs.kept("learn") == epochs.kept("source") == [1, 2, 3]
    assert names[2] in {path.name for path in (tmp_path / "state").iterdir()}
    assert names[3] not in {path.name for path in (tmp_path / "state").iterdir()}
    memory = Engine(epochs.config)
    for seed in (1, 2, 3):
        memory.process(wide(epochs.config, 100, 40, seed))
    assert logic_of(epochs.config, TOKEN + names[2].encode()).engine.snapshot() == memory.snapshot()
    assert epochs.open() == (4, 0, 0)


def test_why_a_start_goes_back_is_what_is_known(tmp_path: Path) -> None:
    """A file that somebody has damaged while the machine ran was the power's fault."""
    for name, fails, why in (("a", True, "has been started again since"), ("b", False, "so no power failure did it")):
        epochs = Epochs(tmp_path / name)
        names = [epochs.run() for _ in range(4)]
        epochs.open()
        (epochs.directory / "state" / names[3]).write_bytes(b"nothing")
        if fails:
            (epochs.directory / "boot").write_text("another")
        opened = opened_once(epochs.config)
        assert opened.torn == 1
        assert names[3] in opened.why_torn
        assert why in opened.why_torn


def test_a_torn_state_of_an_epoch_that_never_ended_is_dropped_with_it(tmp_path: Path) -> None:
    epochs = Epochs(tmp_path)
    names = [epochs.run(), epochs.run(), epochs.run(ends=False)]
    torn(tmp_path / "state" / names[2])
    assert epochs.open(power_failed=True) == (3, 2, 0)
    assert {path.name for path in (tmp_path / "state").iterdir()} == set(names[:2])


def test_without_an_earlier_state_a_start_is_refused_with_the_cure(tmp_path: Path) -> None:
    epochs = Epochs(tmp_path)
    names = [epochs.run() for _ in range(4)]
    for name in names[2:]:
        (tmp_path / "state" / name).unlink()
    with pytest.raises(
        RecoveryError, match=rf"{names[2]} is missing, and no earlier state .* another recovery.directory"
    ):
        epochs.open()


# Kills.

WRITER = f"""
import sys

sys.path.insert(0, {str(Path(__file__).parent)!r})  # with a safe path, as `make sanitize` sets it, it is not there
import test_state
from test_state import *
checkpoint_files.MIN_SPARE_BYTES = 1000
config = configured(directory=Path(sys.argv[1]), more="state: {{ttl: null}}")
logic = logic_of(config)
for seed in range(10_000):
    logic.on_batch([batch_of(config, wide(config, 2_000, 2_000 if seed % 5 == 0 else 500, seed), 0, 2_000)])
    print(seed, logic.snapshot().decode(), flush=True)
"""


def test_whenever_a_kill_happens_all_states_named_to_bytewax_recently_are_there(tmp_path: Path) -> None:
    """SIGKILL while files are written, renamed, written over and deleted: the last told and the one before load."""
    rng = np.random.default_rng(0)
    for round_ in range(4):
        directory = tmp_path / str(round_)
        process = Forked(str(directory), code=WRITER, stdout=subprocess.PIPE)
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        time.sleep(0.3 * rng.random())
        process.send_signal(signal.SIGKILL)
        lines += [line for line in process.communicate()[0].splitlines() if line.endswith(".state")]
        config = configured(directory=directory, more="state: {ttl: null}")
        for line in lines[-2:]:
            seed, token = line.split(" ", 1)
            name = referenced_file(token.encode())
            assert name is not None
            read_chain(directory / "state", name, verify=True)
        memory = Engine(config)
        for seed_ in range(int(seed) + 1):
            memory.process(wide(config, 2_000, 2_000 if seed_ % 5 == 0 else 500, seed_))
        assert logic_of(config, token.strip().encode()).engine.snapshot() == memory.snapshot()


def full(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_full_disk_ends_the_process_with_the_folder_and_the_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state, Bytewax's databases, small files, the audit: each where it is written."""
    logic = ShardLogic(configured(directory=tmp_path / "here"), None)
    logic.key = "0000"
    monkeypatch.setattr(Engine, "write_snapshot", full)
    try:
        with pytest.raises(RecoveryError, match=r"directory: \S+here cannot be used \(No space left .*: make room"):
            logic.snapshot()
    finally:
        forget()
    with pytest.raises(RecoveryError, match=r"part-0.sqlite3 cannot be used \(database or disk is full\): make room"):
        write_too_much(tmp_path / "part-0.sqlite3")
    panic = 'called `unwrap()` on an `Err` value: SqliteFailure(Error { code: %s, extended_code: 1 }, Some("%s"))'
    with (
        pytest.raises(RecoveryError, match=r"here cannot be used \(attempt to write a readonly database\): mount its"),
        on_disk_of_bytewax(tmp_path / "here"),
    ):
        raise RuntimeError(panic % ("ReadOnly", "attempt to write a readonly database"))
    with pytest.raises(RuntimeError, match="malformed"), on_disk_of_bytewax(tmp_path / "here"):
        raise RuntimeError(panic % ("DatabaseCorrupt", "database disk image is malformed"))
    (tmp_path / "audit").touch()
    with pytest.raises(AuditError, match=r"audit.directory: \S+audit cannot be used \(File exists\): name a folder"):
        AuditFile(tmp_path / "audit", "c", "0000")
    monkeypatch.setattr(json, "dump", full)
    with pytest.raises(RecoveryError, match=r"x.json cannot be used \(No space left on device\): make room"):
        write_json(tmp_path / "x.json", {})


def write_too_much(file: Path) -> None:
    sqlite3.connect(file).close()
    with open_database(file) as database:
        database.execute("PRAGMA max_page_count = 1")
        database.execute("CREATE TABLE large AS WITH RECURSIVE n(x) AS (SELECT 1) SELECT zeroblob(100000) FROM n")
