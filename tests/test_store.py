"""The store of a group's states: what is written of a state, what is kept and deleted, and S3."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from test_group import config, folder_of, hashes, stored

from ssm_stream.config import Config, ConfigError
from ssm_stream.engine.engine import Engine
from ssm_stream.engine.memory import growable_arrays
from ssm_stream.engine.snapshot_format import SnapshotReader, StateError
from ssm_stream.ingest.events import Events
from ssm_stream.recovery.bytewax_db import RecoveryError
from ssm_stream.recovery.checkpoint_files import open_checkpoint
from ssm_stream.recovery.reader import find_entity, list_entities
from ssm_stream.recovery.store import ahead, live_rows, object_store
from ssm_stream.recovery.store import audit as stored_audit
from ssm_stream.recovery.store.audit import StoredChain, verify_stored
from ssm_stream.recovery.store.blobs import StoreAwayError
from ssm_stream.recovery.store.check import check_store
from ssm_stream.recovery.store.flow_store import FlowStore
from ssm_stream.recovery.store.head import Head, read_head, write_head
from ssm_stream.recovery.store.partition import PartitionSnapshots, flush
from ssm_stream.recovery.store.reading import open_store

# The log.


def touch(engine: Engine, names: list[str], at: int) -> None:
    """Let an engine process an event of each of some entities, as from partition 3."""
    rng = np.random.default_rng(at)
    x = rng.normal(size=(len(names), 1))
    ts = 1_700_000_000_000 + 1000 * at + np.arange(len(names))
    engine.process(Events(position=np.arange(len(names)), entity=names, ts=ts, features=x, target=2 * x[:, 0]), 3)


def epoch(files: PartitionSnapshots, engine: Engine, offset: int) -> int:
    """Write and commit a snapshot; return its bytes."""
    files.write(engine, offset)
    files.wait()
    files.commit(offset)
    return files.written


@pytest.mark.parametrize("fleet", [True, False])
@pytest.mark.parametrize("churn", [False, True])
def test_what_did_not_change_is_not_written_again(tmp_path: Path, fleet: bool, churn: bool) -> None:
    """A fifth of the entities changes in each epoch, others each time: traffic is that of what changed, at most a fifth
    more, and a successor finds the same bits."""
    settings = config(tmp_path, f"model: {{fleet: {str(fleet).lower()}}}")
    store, engine, rng = FlowStore(settings), Engine(settings), random.Random(1)
    files, names = store.partition(3), [f"m{i}" for i in range(300)]
    touch(engine, names, 0)
    written, changed = epoch(files, engine, 1), 0
    row = written / len(names)
    changed += written
    most = 0.0
    for i in range(1, 60):
        if churn:
            names.append(f"new{i}")
        some = [*rng.sample(names[:-1], 60), names[-1]]
        touch(engine, some, i)
        store_ = engine.target_engines[0].store
        rows = int(np.count_nonzero(store_.changed)) * engine.bytes_per_entity
        changed += rows + int(np.count_nonzero(store_.pools_changed)) * engine.bytes_per_pool
        written += epoch(files, engine, 1 + i)
        most = max(most, files.size / (row * len(names)))
        if i % 13 == 0:
            assert hashes(stored(store, files.name, settings)) == hashes(engine)
    assert hashes(stored(store, files.name, settings)) == hashes(engine)
    flush()
    assert written <= 1.2 * changed
    assert most < 4, "what a successor loads stays bounded"
    there = {path.name: path.stat().st_size for path in (folder_of(store) / "state").iterdir()}
    first = sum(size for name, size in there.items() if name.split("-")[1] == "00000001")
    assert sum(there.values()) - first < 4.5 * row * len(names), "what is superseded goes, but the state that is kept"


def test_entities_that_go_and_come_keep_their_rows_apart(tmp_path: Path) -> None:
    settings = config(tmp_path, state="ttl: 60s")
    store, engine = FlowStore(settings), Engine(settings)
    files, rng = store.partition(3), random.Random(2)
    for i in range(80):
        names = [f"m{10 * (i // 10) + j}" for j in range(40)]
        touch(engine, rng.sample(names, 8), 20 * i)
        epoch(files, engine, i)
        if i % 5 == 0:
            successor = store.partition(3)
            again = successor.restore(settings, files.name)
            assert hashes(again) == hashes(engine)
            if i % 20 == 0:
                files, engine = successor, again


def test_a_start_loads_each_row_once(tmp_path: Path) -> None:
    settings = config(tmp_path)
    store, engine = FlowStore(settings), Engine(settings)
    files, names = store.partition(3), [f"m{i}" for i in range(60)]
    for i in range(4):
        touch(engine, names if i == 0 else names[10 * i :][:20], i)
        epoch(files, engine, i)
    there = folder_of(store) / "state"
    rows = live_rows.LiveRows(fleet=True)
    for each in files.files:
        with open_checkpoint(there, each) as reader:
            rows.load(each, reader)
    live = [rows.live_of(i)["0."][0] for i in range(len(files.files))]
    assert [int(each.sum()) for each in live] == [20, 10, 10, 20]
    assert hashes(stored(store, files.name, settings)) == hashes(engine)


def test_a_file_that_nobody_needs_is_written_over(tmp_path: Path) -> None:
    settings = config(tmp_path, "recovery: {keep: null}")
    store, engine = FlowStore(settings), Engine(settings)
    files, names, numbers = store.partition(3), [f"m{i}" for i in range(40)], []
    there = folder_of(store) / "state"
    for i in range(6):
        touch(engine, names, i)
        epoch(files, engine, i)
        flush()
        numbers.append((there / files.name).stat().st_ino)
        assert hashes(stored(store, files.name, settings)) == hashes(engine)
        if i == 2:
            reading = (there / files.name).open("rb")
            reader = SnapshotReader(reading)
    assert len(set(numbers)) == 3, "three take turns: the last two are needed, and one is a draft"
    with reading, pytest.raises(StateError, match="damaged"):
        reader.check()
    touch(engine, names[:1], 9)
    epoch(files, engine, 9)
    assert hashes(stored(store, files.name, settings)) == hashes(engine)


@pytest.mark.parametrize("fleet", [True, False])
def test_what_changes_is_written_ahead_where_entities_change_once_an_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fleet: bool
) -> None:
    settings = config(tmp_path, f"model: {{fleet: {str(fleet).lower()}}}", state="ttl: 300s")
    store, engine, rng = FlowStore(settings), Engine(settings), random.Random(4)
    files, names = store.partition(3), [f"m{i}" for i in range(200)]
    monkeypatch.setattr(ahead, "MUCH", 40 * engine.bytes_per_entity)
    changed, written, at, known = 0, 0, 0, False
    for i in range(40):
        times = 3 if i % 8 == 7 else 1  # events of each entity
        some = rng.sample(names, 120)
        before = len(files.files)
        for _ in range(times):
            for begin in range(0, len(some), 30):
                at += 1
                touch(engine, some[begin:][:30], at)
                files.write_ahead(engine, 30, i)
        made = len(files.files) - before
        assert made == 0 if not known else made >= 2, "none before an epoch in which each has had one event"
        known = times == 1
        epoch(files, engine, 1 + i)
        if known:
            written += files.written
            changed += 120 * engine.bytes_per_entity + (1 if fleet else 120) * engine.bytes_per_pool
        names = [*names[1:], f"n{i}"]
        if i % 5 == 0:
            flush()
            assert hashes(stored(store, files.name, settings)) == hashes(engine)
            if i % 10 == 0:
                name, files, known = files.name, store.partition(3), False
                engine = files.restore(settings, name)
    assert written <= 1.25 * changed, "headers and pools weigh more in so small a state"


@pytest.mark.parametrize("slow", [0.0, 1.0])
def test_memory_that_is_populated_keeps_its_content_and_still_moves(
    monkeypatch: pytest.MonkeyPatch, slow: float
) -> None:
    monkeypatch.setattr(growable_arrays, "SLOW", slow)
    block = growable_arrays.new_block(3000, 1 << 14)
    block[:] = 7
    growable_arrays.populate(block, 2500)
    growable_arrays.request_huge_pages(block)
    grown = growable_arrays.fit_block(block, 6000, 3000)
    assert (grown[:3000] == 7).all()
    assert not grown[3000:].any()
    assert not block.any(), "its pages have moved"


def test_a_log_goes_on_when_its_numbers_run_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_rows, "MAX_FILES", 8)
    settings = config(tmp_path)
    store, engine, rng = FlowStore(settings), Engine(settings), random.Random(3)
    files = store.partition(3)
    for i in range(120):
        touch(engine, rng.sample([f"m{j}" for j in range(50)], 10), i)
        epoch(files, engine, i)
        assert len(files.files) <= 8 + 1
    assert hashes(stored(store, files.name, settings)) == hashes(engine)


# The audit.


def record(chain: StoredChain, engine: Engine, first: int) -> str:
    """Learn some events and write the record of an epoch; return the snapshot's name."""
    names = [f"m{(first + i) % 7}" for i in range(5)]
    touch(engine, names, first)
    batch: Any = SimpleNamespace(partition=3, events=SimpleNamespace(entity=names), first=first, last=first + 4)
    chain.add(batch)
    chain.compute_hashes(engine)
    state = f"0003-{first + 5:08d}-{engine.state_hash(names[0], 3)}.state"
    chain.write(state)
    chain.wait()
    return state


@pytest.mark.parametrize("place", ["folder", "bucket"])
def test_the_chain_of_the_audit_moves_with_its_partition(
    tmp_path: Path, place: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A member that was believed dead writes on: nothing continues its records, and they are no fault."""
    request.getfixturevalue("s3")
    monkeypatch.setattr(stored_audit, "TOGETHER", 4)
    settings = config(tmp_path) if place == "folder" else on_s3("audit")
    blobs = FlowStore(settings).blobs

    def chain(state: str) -> StoredChain:
        return StoredChain(blobs, "audit", settings.hash, "0003", state)

    dead, engine = chain(""), Engine(settings)
    for i in range(3):
        state = record(dead, engine, 5 * i)
        dead.commit()
    beside = Engine.restore(settings, engine.snapshot())
    successor = chain(state)
    record(dead, engine, 15)
    record(dead, engine, 22)
    for i in range(3, 9):
        state = record(successor, beside, 5 * i)
        successor.commit()
        write_head(blobs, 3, Head(state, 5 * i + 5, i, []))
        if i == 6:
            wait_for_files()
            successor = chain(state)
    wait_for_files()
    found = verify_stored(blobs, "audit")
    assert found.faults == []
    assert (found.lines, found.again, found.shards) == (10, 1, 1), "the first that it wrote is what was to be written"
    many = [each.key for each in blobs.find("audit") if each.key.endswith(".jsonl")]
    assert many
    content = blobs.read(many[0]) or b""
    blobs.write(many[0], content.replace(b'"m1"', b'"m2"', 1))
    assert "altered" in verify_stored(blobs, "audit").faults[0].text
    blobs.write(many[0], b"\n".join(content.splitlines()[1:]))
    assert "records are missing" in verify_stored(blobs, "audit").faults[0].text


def wait_for_files() -> None:
    stored_audit._JOIN.drain()


# What members must agree on.


def test_a_member_that_was_believed_dead_does_not_put_an_earlier_head_in_place(tmp_path: Path) -> None:
    blobs = FlowStore(config(tmp_path)).blobs
    write_head(blobs, 3, Head("later", 20, 2, []))
    write_head(blobs, 3, Head("earlier", 10, 3, []))
    found = read_head(blobs, 3)
    assert found is not None
    assert found.name == "later"


def test_a_file_system_without_hard_links_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    check_store(config(tmp_path))
    assert not list(tmp_path.rglob("*.draft"))


@pytest.mark.parametrize(("place", "found"), [("s3://bucket/a/", "s3://bucket/a"), ("file:///var/x", "/var/x")])
def test_a_store_is_a_folder_or_the_url_of_an_object_store(place: str, found: str) -> None:
    assert str(config(place).state.store) == found


@pytest.mark.parametrize("place", ["http://bucket", "s3://", "S4://bucket"])
def test_other_urls_are_refused(place: str) -> None:
    with pytest.raises(ConfigError, match=r"write a folder, or one of s3://BUCKET/PREFIX"):
        config(place)


# S3.


def on_s3(name: str, **sections: str) -> Config:
    return config(f"s3://states/{name}", **sections)


@pytest.mark.usefixtures("s3")
def test_states_are_in_a_bucket_as_in_a_folder(tmp_path: Path) -> None:
    settings, local = on_s3("flows"), config(tmp_path)
    engine, rng = Engine(settings), random.Random(4)
    there, here = FlowStore(settings, "topic-1"), FlowStore(local, "topic-1")
    copy = Engine(local)
    files, beside = there.partition(3), here.partition(3)
    for i in range(40):
        names = rng.sample([f"m{j}" for j in range(100)], 30)
        touch(engine, names, i)
        touch(copy, names, i)
        assert epoch(files, engine, i) == epoch(beside, copy, i)
    flush()
    assert files.files == beside.files
    keys = [each.key for each in there.blobs.find("state")]
    assert keys == [each.key for each in here.blobs.find("state")], "the same is deleted, too"
    successor = FlowStore(settings, "topic-1").partition(3)
    assert hashes(successor.restore(settings, files.name)) == hashes(engine)
    with open_store(settings) as found:
        assert list_entities(found, settings).total == 100
        assert find_entity(found, "m7", settings).entity == "m7"
    with pytest.raises(RecoveryError, match="created again"):
        FlowStore(settings, "topic-2")
    check_store(settings)


@pytest.mark.usefixtures("s3")
def test_members_change_a_head_at_once_and_the_later_stays() -> None:
    blobs = FlowStore(on_s3("heads")).blobs
    store: Any = blobs
    put_if, raced = store._put_if, []

    def put_later(key: str, content: bytes, mode: Any) -> bool:
        if not raced:
            raced.append(key)
            write_head(blobs, 3, Head("later", 20, 2, []))
        return bool(put_if(key, content, mode))

    store._put_if = put_later
    write_head(blobs, 3, Head("earlier", 10, 3, []))
    found = read_head(blobs, 3)
    assert found is not None
    assert found.name == "later"


@pytest.mark.usefixtures("s3")
def test_a_bucket_that_is_not_there_is_reported_at_once() -> None:
    began = time.monotonic()
    with pytest.raises(RecoveryError, match=r"s3://nowhere/.*no such bucket.*create it") as caught:
        FlowStore(config("s3://nowhere/flows"))
    assert not isinstance(caught.value, StoreAwayError)
    assert time.monotonic() - began < 3


class Answers:
    """A server that gives one answer to all requests, after a delay."""

    def __init__(self, status: int, delay: float = 0.0) -> None:
        import http.server
        import threading

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                time.sleep(delay)
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_PUT

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.mark.usefixtures("s3")
@pytest.mark.parametrize(
    ("status", "kind", "reason"),
    [
        (403, RecoveryError, r"access is denied .*AWS_ACCESS_KEY_ID.*list, read, write and delete"),
        (503, StoreAwayError, r"is it up, and is the address right .*AWS_ENDPOINT_URL"),
    ],
)
def test_what_a_server_refuses_is_reported_with_the_cure(
    monkeypatch: pytest.MonkeyPatch, status: int, kind: type[Exception], reason: str
) -> None:
    answers = Answers(status)
    monkeypatch.setenv("AWS_ENDPOINT_URL", answers.url)
    try:
        with pytest.raises(kind, match=reason):
            FlowStore(on_s3("flows", source="wait: 1s"))
    finally:
        answers.close()


@pytest.mark.usefixtures("s3")
def test_a_slow_server_and_one_that_is_away_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Answers(200, delay=1.5)
    monkeypatch.setattr(object_store, "ANSWER", 1.0)
    monkeypatch.setenv("AWS_ENDPOINT_URL", slow.url)
    began = time.monotonic()
    with pytest.raises(StoreAwayError, match="does not answer"):
        FlowStore(on_s3("flows", source="wait: 2s"))
    assert 2 < time.monotonic() - began < 8
    slow.close()
    with pytest.raises(StoreAwayError, match="is it up"):
        FlowStore(on_s3("flows", source="wait: 1s"))


def test_a_store_that_comes_back_is_gone_on_with(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = on_s3("back")
    store: Any = FlowStore(settings).blobs
    put, calls = store._obstore.put, []

    class Flaky:
        exceptions = store._obstore.exceptions

        @staticmethod
        def put(*arguments: Any, **options: Any) -> Any:
            calls.append(arguments[1])
            if len(calls) < 3:
                raise store._obstore.exceptions.GenericError(f"error sending request to {s3}")
            return put(*arguments, **options)

    monkeypatch.setattr(store, "_obstore", Flaky)
    store.write("x", b"content")
    assert len(calls) == 3
