"""Members of a group: what of a flow they can share, their snapshots in the store, and a campaign on Apache Kafka."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from brokers import Kafka, kafka_obstacle
from forked import Forked, ran

from ssm_stream.config import Config, ConfigError, parse_config
from ssm_stream.engine.engine import Engine
from ssm_stream.engine.snapshot_format import StateError
from ssm_stream.ingest.events import Events
from ssm_stream.kafka.membership.commit import Commit, CommitError, parse_commit
from ssm_stream.recovery.bytewax_db import RecoveryError
from ssm_stream.recovery.comparison import _hash_engines, compare
from ssm_stream.recovery.reader import list_entities
from ssm_stream.recovery.store.blobs import FolderBlobs
from ssm_stream.recovery.store.flow_store import FlowStore
from ssm_stream.recovery.store.partition import flush
from ssm_stream.recovery.store.reading import open_store

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "scale_out.py"
MEMBER = """
source: {{brokers: "localhost:9092", topic: events, assignment: group{source}}}
event: {{entity: machine, timestamp: ts, features: [load]{event}}}
state: {{store: {store}{state}}}
{more}
"""


def config(store: Path | str, more: str = "", **sections: str) -> Config:
    found = {"source": "", "event": "", "state": "", **{name: f", {text}" for name, text in sections.items()}}
    return parse_config(MEMBER.format(store=store, more=more, **found))


# The file.


def test_a_group_has_a_name_of_what_it_watches_and_where_results_go(tmp_path: Path) -> None:
    first, again = config(tmp_path), config(tmp_path, "alerts: {drift: {enabled: false}}")
    assert first.source.group_id == again.source.group_id
    assert first.source.group_id.startswith("ssm-stream-events-")
    for other in (config(tmp_path, event="target: pressure"), config(tmp_path, "sinks: {predictions: others}")):
        assert other.source.group_id != first.source.group_id
    assert config(tmp_path, source="group: mine").source.group_id == "mine"


def test_the_state_is_in_the_store_alone(tmp_path: Path) -> None:
    found = config(tmp_path, "delivery: exactly_once")
    assert found.recovery.directory is None
    assert found.replace(delivery="at_least_once").source.group_id == found.source.group_id
    assert (
        found.hash
        == parse_config(
            "source: {brokers: 'localhost:9092', topic: events}\n"
            "event: {entity: machine, timestamp: ts, features: [load]}\n"
        ).hash
    )


@pytest.mark.parametrize(
    ("more", "sections", "reason"),
    [
        ("", {"source": "partitions: [0]"}, "source.partitions"),
        ("", {"state": "shards: 2"}, "state.shards"),
        ("", {"source": "kafka: {partition.assignment.strategy: range}"}, "cooperative-sticky"),
        ("recovery: {directory: there}", {}, "recovery.directory"),
        ("audit: {directory: /var/lib/audit}", {}, "audit.directory: audit"),
    ],
)
def test_what_members_cannot_share_yet_is_refused_with_the_cure(
    tmp_path: Path, more: str, sections: dict[str, str], reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason):
        config(tmp_path, more, **sections)


def test_a_group_needs_a_store_and_a_store_a_group() -> None:
    with pytest.raises(ConfigError, match=r"state\.store: null; .* name a folder"):
        config("null")
    with pytest.raises(ConfigError, match=r"without source\.assignment: group"):
        parse_config(
            "source: {brokers: 'localhost:9092', topic: events}\n"
            "event: {entity: machine, timestamp: ts, features: [load]}\nstate: {store: here}\n"
        )


@pytest.mark.parametrize("option", ["--watch", "--until-eof", "-w 2"])
def test_options_that_a_member_does_not_have_are_refused(tmp_path: Path, option: str) -> None:
    file = tmp_path / "member.yaml"
    file.write_text(MEMBER.format(store=tmp_path, source="", event="", state="", more=""))
    done = ran("run", str(file), *option.split())
    assert done.returncode == 2
    assert "source.assignment: group" in " ".join(done.stderr.split())


def test_a_group_and_one_process_that_read_the_same_events_differ_nowhere(tmp_path: Path) -> None:
    """A member has a state of each partition, with the entities of it alone; one process has all in one."""
    made = config(tmp_path)

    def read(partitions: dict[int, float], shift: int = 0) -> list[tuple[dict[str, Any], Engine]]:
        """Return an engine that read these partitions; the number is the first of its targets."""
        engine = Engine(made)
        for partition, first in partitions.items():
            names, n = [f"m{partition}-{i % 2}" for i in range(40)], np.arange(40)
            target = np.where(n, n % 7, first).astype(float)
            events = Events(names, 1_700_000_000_000 + 1000 * n, target[:, None], target, n, np.zeros(40, np.int64))
            engine.process(events, partition + shift)
        return [({"config": made.hash}, engine)]

    group = _hash_engines([*read({0: 0}), *read({1: 0}), *read({2: 0})])
    found = compare(group, _hash_engines(read({0: 0, 1: 0, 2: 0})))
    assert (found.any, found.same) == (False, 6)
    other = compare(group, _hash_engines(read({0: 0, 1: 5, 2: 0})))
    assert (other.differ, other.same) == (["m1-0", "m1-1"], 4)
    elsewhere = compare(_hash_engines(read({2: 0})), _hash_engines(read({2: 0}, shift=1)))
    assert elsewhere.differ == ["m2-0", "m2-1"], "by no partition that both have"


# What is committed.


@pytest.mark.parametrize(
    "commit",
    [
        Commit(7, "0003-00000007-0123456789abcdef.state", "group-1", "me-2"),
        Commit(0),
        Commit(7, "0003-00000012-0123456789abcdef.state", further=(("line-b", 5), ("a.b_c", 0))),
    ],
)
def test_a_commit_comes_back_as_it_was(commit: Commit) -> None:
    assert commit.offset is not None
    assert parse_commit(commit.offset, commit.metadata()) == commit
    assert len(commit.metadata()) < 4096


def test_what_others_commit_is_no_snapshot() -> None:
    assert parse_commit(-1001, None) == Commit(None)
    assert parse_commit(5, "") == Commit(5)  # set by an operator
    with pytest.raises(CommitError, match=r"give the flow a source\.group of its own"):
        parse_commit(5, "2 something - -")


# The store.


def learn(engine: Engine, count: int, begin: int = 0, entities: int = 5) -> None:
    """Let an engine process events of some entities, as from partition 3."""
    rng = np.random.default_rng(begin)
    x = rng.normal(size=(count, 1))
    events = Events(
        position=np.arange(count),
        entity=[f"m{i % entities}" for i in range(count)],
        ts=1_700_000_000_000 + 1000 * np.arange(begin, begin + count),
        features=x,
        target=2 * x[:, 0],
    )
    engine.process(events, 3)


def stored(store: FlowStore, name: str, settings: Config) -> Engine:
    return store.partition(3).restore(settings, name)


def folder_of(store: FlowStore) -> Path:
    assert isinstance(store.blobs, FolderBlobs)
    return store.blobs.folder


def hashes(engine: Engine) -> dict[str, str]:
    return {name: engine.state_hash(name, 3) for name in engine.names}


def test_snapshots_have_all_of_the_state_and_only_changes_are_written(tmp_path: Path) -> None:
    settings = config(tmp_path)
    store, engine = FlowStore(settings), Engine(settings)
    files = store.partition(3)
    learn(engine, 400, entities=200)
    names = [files.write(engine, 400)]
    whole = files.written
    for i in range(3):
        learn(engine, 2, 400 + 2 * i, entities=2)
        names.append(files.write(engine, 402 + 2 * i))
        assert files.written < whole / 10
    files.wait()
    assert hashes(stored(store, names[-1], settings)) == hashes(engine)
    assert files.size < 1.3 * whole
    assert not list(tmp_path.rglob("*.draft"))


def test_what_a_successor_needs_stays_and_the_rest_goes(tmp_path: Path) -> None:
    """A member that was believed dead goes on writing, and deletes what it knows: not what the successor has."""
    settings = config(tmp_path)
    store, engine = FlowStore(settings), Engine(settings)
    dead = store.partition(3)
    learn(engine, 50)
    dead.write(engine, 50)
    dead.wait()
    dead.commit(50)
    successor = store.partition(3)
    own = successor.restore(settings, dead.name)
    for i in range(1, 6):
        learn(own, 50, 50 * i)
        successor.write(own, 50 * (i + 1))
        successor.wait()
        successor.commit(50 * (i + 1))
        learn(engine, 7, 50 * i)
        dead.write(engine, 50 + 7 * i)  # never committed
        dead.wait()
    flush()
    assert hashes(stored(store, successor.name, settings)) == hashes(own)
    mine = [file for file in (folder_of(store) / "state").iterdir() if int(file.name.split("-")[1]) % 50 == 0]
    assert len(mine) <= 3, "the last two, and the one that both began with, which is kept for a rewind, too"
    with open_store(settings) as found:
        assert list_entities(found, settings).total == 5
        assert [(each.partition, each.offset) for each in found.positions(settings)] == [(3, 300)]


def test_a_damaged_snapshot_and_one_of_another_model_are_refused(tmp_path: Path) -> None:
    settings = config(tmp_path)
    store, engine = FlowStore(settings), Engine(settings)
    files = store.partition(3)
    learn(engine, 50)
    name = files.write(engine, 50)
    files.wait()
    with pytest.raises(StateError, match=r"model\.implicit|model\."):
        stored(store, name, config(tmp_path, "model: {horizon: 3}"))
    path = folder_of(store) / "state" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(StateError, match="damaged"):
        stored(store, name, settings)
    path.unlink()
    with pytest.raises(StateError, match="missing"):
        stored(store, name, settings)


def test_a_folder_of_another_flow_or_topic_is_refused(tmp_path: Path) -> None:
    FlowStore(config(tmp_path, source="group: g"), "topic-1")
    FlowStore(config(tmp_path, source="group: g"))  # a broker that has no ids
    FlowStore(config(tmp_path, source="group: g"), "topic-1")
    with pytest.raises(RecoveryError, match="created again"):
        FlowStore(config(tmp_path, source="group: g"), "topic-2")
    with pytest.raises(RecoveryError, match="another flow"):
        FlowStore(config(tmp_path, source="group: g", event="target: pressure"), "topic-1")


def test_a_list_of_targets_may_change_while_one_stays(tmp_path: Path) -> None:
    def opened(targets: str) -> None:
        FlowStore(config(tmp_path, source="group: several", event=f"target: {targets}"), "topic-1")

    for targets in ("a", "[a, b]", "[b, c]", "[d, c]"):
        opened(targets)
    FlowStore(config(tmp_path, source="group: several", event="target: [d, c, e]"))
    with pytest.raises(RecoveryError, match="created again"):
        FlowStore(config(tmp_path, source="group: several", event="target: [d, c, e]"), "topic-2")
    for targets in ("[a, b]", "a"):
        with pytest.raises(RecoveryError, match="another flow"):
            opened(targets)


def test_nothing_is_stored_where_nothing_was_learned(tmp_path: Path) -> None:
    settings = config(tmp_path)
    assert FlowStore(settings).partition(0).name == ""
    with open_store(settings) as found:
        assert found.chains == {}


# The whole product.


@pytest.mark.skipif(kafka_obstacle() is not None, reason=str(kafka_obstacle()))
@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
def test_members_come_go_and_are_killed_and_nothing_is_lost_twice_or_forgotten(kafka: Kafka, delivery: str) -> None:
    options = ["--changes", "4", "--seconds", "20", "--most", "3", "--rate", "400", "--seed", "3", "--json"]
    command = [sys.executable, str(SCRIPT), *options, "--delivery", delivery]
    environment = {**os.environ, "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout, done.stderr
    figures: dict[str, Any] = json.loads(done.stdout)
    assert figures["events"] > 5_000
    assert (figures["lost"], figures["other"], figures["states"]["differing"]) == (0, 0, 0), done.stderr
    assert figures["twice"] == 0 or delivery == "at_least_once"
    assert figures["ended_by_themselves"] == 0, done.stderr


@pytest.mark.skipif(kafka_obstacle() is not None, reason=str(kafka_obstacle()))
def test_a_member_gives_back_what_it_cannot_read_and_goes_on_once_it_can(kafka: Kafka, tmp_path: Path) -> None:
    topics = {name: kafka.topic(name) for name in ("events", "predictions", "alerts", "dead")}
    file, log = tmp_path / "member.yaml", tmp_path / "member.log"
    sinks = {"predictions": topics["predictions"], "alerts": topics["alerts"], "dead_letters": topics["dead"]}
    content: dict[str, Any] = {
        "source": {"brokers": kafka.bootstrap_servers, "topic": topics["events"], "assignment": "group"},
        "event": {"entity": "machine", "timestamp": "ts", "features": ["load"]},
        "sinks": sinks,
        "delivery": "exactly_once",
        "recovery": {"epoch_interval": "200ms"},
        "state": {"store": str(tmp_path / "store")},
        "ops": {"address": None},
    }
    file.write_text(json.dumps(content))
    events = [
        ("m", json.dumps({"machine": "m", "ts": 1_700_000_000_000 + i, "load": i % 7, "target": i % 5}))
        for i in range(60)
    ]
    kafka.produce(topics["events"], events[:30])
    with member(file, log):
        kafka.read(topics["predictions"], expected=30, timeout=60)
    [head] = (tmp_path / "store").glob("*/committed/0000")
    state = head.parents[1] / "state" / json.loads(head.read_text())["name"]
    content_before = state.read_bytes()
    state.write_bytes(content_before[:-1])
    kafka.produce(topics["events"], events[30:])
    with member(file, log):
        deadline = time.monotonic() + 60
        while "partitions_given_back" not in log.read_text():
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        assert len(kafka.read(topics["predictions"])) == 30, "nothing may be predicted from another state"
        state.write_bytes(content_before)
        kafka.read(topics["predictions"], expected=60, timeout=60)
    assert str(state) in log.read_text()


@contextmanager
def member(file: Path, log: Path) -> Iterator[None]:
    """A process of the group, stopped by a signal at the end."""
    with log.open("ab") as output:
        process = Forked("run", str(file), stdout=output, stderr=output)
    try:
        yield
        assert process.poll() is None, log.read_text()
    finally:
        process.terminate()
        code = process.wait(60)
    assert code == 0, log.read_text()
