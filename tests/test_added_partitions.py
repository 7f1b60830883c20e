"""Partitions that are added are read soon and by itself, and what entities have learned goes along."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from brokers import Kafka
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewPartitions  # type: ignore[attr-defined]
from structlog.testing import capture_logs
from test_stream import Job, events, finished, wait_for
from test_transactions import ExactJob

from ssm_stream.config import parse_config
from ssm_stream.engine.engine import Engine
from ssm_stream.evaluate.pools import partition_of
from ssm_stream.ingest.events import EventReader
from ssm_stream.recovery import added_partitions
from ssm_stream.recovery.added_partitions import Added, _movers, copy_pools, follow_added

PARTITIONS = 2


def add_partitions(kafka: Kafka, topic: str, total: int) -> None:
    client = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    client.create_partitions([NewPartitions(topic, total)])[topic].result(20)
    deadline = time.monotonic() + 20
    # The controller has them before the broker does.
    while len(client.list_topics(topic, 10).topics[topic].partitions) < total:
        assert time.monotonic() < deadline, f"{topic} has not got {total} partitions after 20 s"
        time.sleep(0.05)


class Load:
    """Produces events by key, as Java's clients place them, until it is stopped; learns of partitions soon."""

    def __init__(self, kafka: Kafka, topic: str) -> None:
        self._kafka, self._topic, self._done = kafka, topic, threading.Event()
        self.sent = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        settings = {"bootstrap.servers": self._kafka.bootstrap_servers, "partitioner": "murmur2_random",
                    "topic.metadata.refresh.interval.ms": 1000, "max.in.flight": 1, "linger.ms": 5}  # fmt: skip
        producer, round_ = Producer(settings), 10
        while not self._done.is_set():
            for key, value in events(40, seed=round_):
                document = orjson.loads(value)
                document["ts"] = 1_700_000_000_000 + self.sent * 25
                producer.produce(self._topic, orjson.dumps(document), key)
                self.sent += 1
            producer.flush(20)
            round_ += 1
            time.sleep(0.2)

    def stop(self) -> int:
        self._done.set()
        self._thread.join()
        return self.sent


@pytest.fixture
def topic(kafka: Kafka) -> str:
    if kafka.kind in ("mock", "noida-db"):
        pytest.skip("needs a broker that adds partitions")
    return kafka.topic("events", PARTITIONS)


@pytest.mark.parametrize("kind", [Job, ExactJob])
def test_partitions_are_doubled_under_load(kafka: Kafka, topic: str, tmp_path: Path, kind: Callable[..., Job]) -> None:
    """Every event is predicted once, of the new partitions soon; nobody restarts anything; no entity is silent."""
    made = kind(kafka, tmp_path / "job", topic)
    content = orjson.loads(made.path.read_bytes())
    content["source"]["start"] = "latest"
    content["alerts"] = {"silence": {}}
    made.path.write_bytes(orjson.dumps(content))
    kafka.produce(topic, [])
    process = made.start("-w", "2")
    lines: list[str] = []
    wait_for(process, "started")
    assert process.stdout is not None
    reading = threading.Thread(target=lambda: lines.extend(process.stdout or ()), daemon=True)
    reading.start()
    time.sleep(3)
    load = Load(kafka, topic)
    time.sleep(6)
    add_partitions(kafka, topic, 2 * PARTITIONS)
    began = time.monotonic()
    seconds = None
    while time.monotonic() - began < 60 and seconds is None:
        time.sleep(0.5)
        found = [orjson.loads(m.value() or b"")["id"] for m in kafka.read(made.predictions)]
        if {int(name.split("-")[-2]) for name in found} >= {2, 3}:
            seconds = time.monotonic() - began
    time.sleep(5)
    sent = load.stop()
    deadline = time.monotonic() + 60
    while len(kafka.read(made.predictions)) < sent and time.monotonic() < deadline:
        time.sleep(1)
    process.terminate()
    process.wait(60)
    reading.join(10)
    output = "".join(lines)
    assert process.returncode == 0, output
    assert seconds is not None, output
    assert seconds < 60
    told = [orjson.loads(m.value() or b"") for m in kafka.read(made.predictions)]
    counts = Counter(each["id"] for each in told)
    assert (len(counts), max(counts.values())) == (sent, 1)
    assert '"event": "partitions_added"' in output
    silent = [each for m in kafka.read(made.alerts) if (each := orjson.loads(m.value() or b""))["kind"] == "silence"]
    assert not silent, silent[:3]
    # An entity goes on counting where it was, in whichever partition it comes.
    by_entity: dict[str, list[int]] = {}
    for each in told:
        by_entity.setdefault(each["entity"], []).append(each["n"])
    assert all(sorted(n) == list(range(len(n))) for n in by_entity.values())


def test_with_given_partitions_nothing_changes_by_itself(kafka: Kafka, topic: str, tmp_path: Path) -> None:
    made = Job(kafka, tmp_path / "job", topic, source={"partitions": [0, 1]})
    kafka.produce(topic, events(200))
    made.run()
    add_partitions(kafka, topic, 4)
    kafka.produce(topic, events(50, seed=1), partition=3)
    process = made.start("--until-eof")
    finished(process, 60)
    assert len(made.ids()) == 200


def test_a_partition_that_is_taken_out_goes_on_where_it_was(kafka: Kafka, topic: str, tmp_path: Path) -> None:
    """Its position stays while it is not read, and what came meanwhile is read once it is added again."""
    made = Job(kafka, tmp_path / "job", topic)
    kafka.produce(topic, events(200))
    made.run()
    content = orjson.loads(made.path.read_bytes())
    made.path.write_bytes(orjson.dumps(content | {"source": {**content["source"], "partitions": [0]}}))
    for partition in range(PARTITIONS):
        kafka.produce(topic, events(50, seed=1), partition=partition)
    output = made.run("-w", "2")
    assert '"partitions": ["00001"]' in output
    assert len(made.ids()) == 250
    process = made.start()
    wait_for(process, "ready")
    process.terminate()
    assert (finished(process, 60), process.returncode)[1] == 0
    made.path.write_bytes(orjson.dumps(content))
    made.run()
    counts = made.ids()
    assert (len(counts), max(counts.values())) == (300, 1)


def engine(events_: list[dict[str, Any]], source: int = 0, alerts: str = "") -> Engine:
    settings = parse_config(
        "source: {brokers: a, topic: t}\nevent: {entity: entity, timestamp: ts, features: [a, b], target: target}\n"
        f"{alerts}"
    )
    made = Engine(settings)
    read, _ = EventReader(settings.event).read(events_)
    made.process(read, source)
    return made


def machines(n: int, names: int = 8) -> list[dict[str, Any]]:
    return [{**orjson.loads(value), "entity": f"m{i % names}", "ts": 1_700_000_000_000 + 1000 * i}
            for i, (_, value) in enumerate(events(n))]  # fmt: skip


def test_a_new_partition_begins_with_the_pool_of_its_entities() -> None:
    made = engine(machines(800))
    assert copy_pools(made, {2: 0, 3: 1}) == 1
    assert copy_pools(made, {2: 0, 3: 1}) == 0, "again after a kill"
    for name in made.names:
        assert made.state_hash(name, 2) == made.state_hash(name, 0)
    again = Engine.restore(made.config, made.snapshot())
    assert again.state_hash("m1", 2) == made.state_hash("m1", 2)


def test_entities_that_hash_elsewhere_are_judged_there() -> None:
    config = parse_config("source: {brokers: a, topic: t}\nevent: {entity: e, timestamp: t}\n")
    move = _movers(config, Added("t", 2, 4))
    names = [f"m{i}" for i in range(40)]
    for name in names:
        assert move(name, partition_of(name, 2)) == partition_of(name, 4)
    assert {partition_of(name, 4) for name in names} == {0, 1, 2, 3}


@pytest.mark.parametrize("alerts", ["", "alerts: {silence: {}}\n"])
def test_entities_that_moved_are_counted_where_they_are_known(monkeypatch: pytest.MonkeyPatch, alerts: str) -> None:
    """By their clocks, which only `alerts.silence` has: 0 would say that nothing moved."""
    made = parse_config(f"source: {{brokers: a, topic: t}}\nevent: {{entity: e, timestamp: t}}\n{alerts}")

    class Stored:
        chains = ("0000", "0001")
        positions = staticmethod(lambda config: [("t", 0, 5), ("t", 1, 5)])

    monkeypatch.setattr(added_partitions, "read_sound_state", lambda directory: Stored)
    monkeypatch.setattr(added_partitions, "_follow", lambda *arguments: 3 if alerts else 0)
    with capture_logs() as lines:
        assert follow_added(made, {"t": (0, 1, 2, 3)}) == [Added("t", 2, 4)]
    assert [line.get("entities_moved") for line in lines] == [6 if alerts else None]


def test_the_old_place_calls_nobody_silent() -> None:
    """Its clock goes on with those that stay; without the move they would be missed there."""
    random.seed(1)
    rows = machines(1_600)
    later = [{**row, "ts": rows[-1]["ts"] + 1000 * (i + 1)} for i, row in enumerate(machines(1_600))]
    stay = [row for row in later if row["entity"] in ("m0", "m1")]
    said = []
    for moved in (False, True):
        made = engine(rows, alerts="alerts: {silence: {}}\n")
        assert made.episodes.rules is not None
        if moved:
            made.episodes.rules.move(lambda name, source: source if name in ("m0", "m1") else 1)
            made = Engine.restore(made.config, made.snapshot())
        read, _ = EventReader(made.config.event).read(stay)
        said.append([alert for alert in made.process(read, 0)[1] if alert.message["kind"] == "silence"])
    assert said[0]
    assert not said[1]
