"""Readings over a broker: rows, late ones, exactly once through kills, and entities that are in several partitions."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import bytewax.operators as op
import numpy as np
import orjson
import pytest
from brokers import Kafka
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import TestingSink, TestingSource, run_main
from test_operators import Mine
from test_readings import FOLDED, config, reading, shuffled, stream
from test_stream import Job, finished

import ssm_stream.operators as sop
from ssm_stream.engine.engine import Engine
from ssm_stream.ingest.rows.reader import MessageReader
from ssm_stream.ingest.rows.stage import read_rows

PARTITIONS = 3
EVENT = {**FOLDED, "target": "y", "features": ["a", "b"]}


def keyed(readings: list[dict[str, Any]], key: str = "machine") -> list[tuple[bytes, bytes]]:
    """The messages of readings, with one of their fields as the key."""
    return [(str(each[key]).encode(), orjson.dumps(each)) for each in readings]


class ReadingsJob(Job):
    """A `Job` that reads readings."""

    def __init__(self, kafka: Kafka, folder: Path, topic: str, delivery: str = "at_least_once", **event: Any) -> None:
        super().__init__(kafka, folder, topic)
        content = orjson.loads(self.path.read_bytes())
        self.path.write_bytes(orjson.dumps(content | {"event": EVENT | event, "delivery": delivery}))


@pytest.fixture
def job(kafka: Kafka, tmp_path: Path) -> Callable[..., ReadingsJob]:
    def make(messages: list[tuple[bytes, bytes]], name: str = "job", topic: str = "", **keys: Any) -> ReadingsJob:
        if not topic:
            topic = kafka.topic("readings", PARTITIONS)
            kafka.produce(topic, messages)
        return ReadingsJob(kafka, tmp_path / name, topic, **keys)

    return make


def expected_of(job: ReadingsJob, kafka: Kafka) -> Iterator[tuple[str, int, float, str]]:
    """Entity, time, prediction and id of each row, by the engine alone, partition by partition."""
    reader = MessageReader(job.config.event)
    for partition in range(PARTITIONS):
        engine = Engine(job.config.replace(delivery="at_least_once"))
        assert engine.rows is not None
        messages = [m for m in kafka.read(job.topic) if m.partition() == partition]
        read, _ = reader.read([orjson.loads(m.value() or b"") for m in messages])
        offsets = [messages[i].offset() or 0 for i in read.position.tolist()]
        made = engine.rows.add(read, offsets, partition)
        if not len(made):
            continue
        found, _ = engine.process(made.events, partition)
        numbers = made.events.number
        ends = [""] * len(made) if numbers is None else [f"-{number}" for number in numbers.tolist()]
        for name, ts, yhat, offset, end in zip(
            made.events.entity, made.events.ts.tolist(), found.yhat.tolist(), made.offsets, ends, strict=True
        ):
            yield name, ts, yhat, f"{job.topic}-{partition}-{offset}{end}"


def predictions(job: ReadingsJob, kafka: Kafka) -> list[tuple[str, int, float, str]]:
    said = [orjson.loads(m.value() or b"") for m in kafka.read(job.predictions)]
    return sorted((each["entity"], each["ts"], each["yhat"], each["id"]) for each in said)


@pytest.mark.parametrize("event", [{}, {"every": "2s", "grace": "1s", "max_age": "30s"}], ids=["arrival", "grid"])
def test_rows_of_a_topic_are_those_of_the_engine(
    job: Callable[..., ReadingsJob], kafka: Kafka, event: dict[str, Any]
) -> None:
    """With late ones as dead letters, which have the message, the stage and the reason."""
    readings = stream(6_000, 1, machines=20, span=200)
    late = [reading("a", -5_000_000, 1.0, f"m{i}") for i in range(20)]
    made = job(keyed([*readings, *late]), **event)
    made.run("-w", "2")
    told = predictions(made, kafka)
    assert told == sorted(expected_of(made, kafka))
    assert len({each[3] for each in told}) == len(told) > 1_000
    letters = kafka.read(made.dead)
    assert sorted(orjson.loads(m.value() or b"")["machine"] for m in letters) == sorted(f"m{i}" for i in range(20))
    headers = {str(name).rpartition("errors.")[2]: value for name, value in letters[0].headers() or []}
    assert (headers["stage"], headers["exception.class.name"]) == (b"rows", b"ssm_stream.Late")
    assert b"behind the entity's latest reading" in (headers["exception.message"] or b"")


@pytest.mark.parametrize("event", [{"grace": "2s"}, {"every": "3s", "grace": "2s"}], ids=["arrival", "grid"])
def test_kills_lose_nothing_and_repeat_nothing(
    job: Callable[..., ReadingsJob], kafka: Kafka, event: dict[str, Any]
) -> None:
    """Exactly once: what consumers see after kills at any time is what an undisturbed run gives, to the bit."""
    if kafka.kind == "mock":
        pytest.skip("the embedded broker does not keep transactions apart")
    readings = stream(30_000, 2, machines=30, span=100)
    messages = keyed(shuffled(readings, 2_000, 3))
    whole = job(messages, "whole", **event)
    whole.run()
    made = job([], "killed", whole.topic, delivery="exactly_once", **event)
    made.kill_often(random.Random(7), 5, 1.2)
    made.run()
    ids = made.ids()
    assert max(ids.values()) == 1
    assert made.messages() == whole.messages()
    assert made.state() == whole.state()
    assert len(ids) > 3_000


def test_an_entity_in_several_partitions(job: Callable[..., ReadingsJob], kafka: Kafka) -> None:
    """Its readings make rows together; which, depends on how partitions are read, so exactly once is refused."""
    if kafka.kind == "mock":
        pytest.skip("the embedded broker does not keep transactions apart")
    messages = keyed(stream(3_000, 4, machines=3, span=200), "signal")
    made = job(messages, grace="10s")
    made.run()
    rows = [orjson.loads(m.value() or b"") for m in kafka.read(made.predictions)]
    assert rows, "how many depends on which partition leads, and by how much"
    exact = job([], "exact", made.topic, delivery="exactly_once", grace="10s")
    process = exact.start("--until-eof")
    output = finished(process, 60)
    assert process.returncode != 0
    assert "come in several partitions" in output
    assert "key the topic by the entity" in output


def test_an_alert_of_readings_is_made_again(job: Callable[..., ReadingsJob], kafka: Kafka, tmp_path: Path) -> None:
    from ssm_stream.flow.alert_id import parse_alert_id
    from ssm_stream.flow.reproduce_alert import reproduce_alert

    rng = np.random.default_rng(1)
    readings = []
    for t in range(1_500):
        values = rng.normal(size=3) + (50.0 if t in (1_200, 1_201) else 0.0) * np.array([1, 0, 0])
        readings += [
            reading(name, 1_000 * t + i, float(value))
            for i, (name, value) in enumerate(zip("yab", values, strict=True))
        ]
    made = job(keyed(readings), every="1s", grace="2s")
    made.run()
    told = made.told_alerts()
    assert told
    for name, value in list(told.items())[:3]:
        id_ = parse_alert_id(name)
        assert id_ is not None
        found = reproduce_alert(made.config, id_, value)
        assert found.same, found.differences
        if orjson.loads(value)["phase"] == "started":
            assert found.explanation is not None


def test_readings_in_a_dataflow_of_ones_own(tmp_path: Path) -> None:
    """Dicts, cut anywhere, and a restart with Bytewax's own recovery: the rows of the engine."""
    readings = stream(2_000, 9, machines=5, span=200)
    late = [reading("a", -9_000_000, 1.0, "m1")]
    settings = {"event": EVENT | {"grace": "1s", "every": "500ms", "max_age": "1m"}, "state": {"shards": 3}}
    mine = Mine([*readings, *late], settings, batch=70).run()
    rows, _ = read_rows(config(grace="1s", every="500ms", max_age="1m").event, readings)
    found = sorted((each.entity, each.ts, each.y) for each in mine.predictions)
    expected = sorted(zip(rows.entity, rows.ts.tolist(), rows.target.tolist(), strict=True))
    waiting = len(expected) - len(found)
    assert 0 < waiting < 20, "rows that a later reading would complete"
    by_time = {(entity, ts): y for entity, ts, y in expected}
    assert all(y == by_time[entity, ts] or (y is None and by_time[entity, ts] != by_time[entity, ts])
               for entity, ts, y in found)  # fmt: skip
    assert len({each.id for each in mine.predictions}) == len(found)
    assert [each.reason.partition(" is ")[0] for each in mine.errors] == ["'a' of 'm1' at 2023-11-14T19:43:20Z"]
    init_db_dir(tmp_path, 1)
    parts = [readings[:700], readings[700:]]
    resumed = []
    source = TestingSource([*parts[0], TestingSource.EOF(), *parts[1]], 70)
    for _ in parts:
        flow = Dataflow("mine")
        watched = sop.monitor("watch", op.input("in", flow, source), settings)
        got: list[sop.Prediction] = []
        op.output("out", watched.predictions, TestingSink(got))
        run_main(flow, recovery_config=RecoveryConfig(tmp_path), epoch_interval=timedelta(0))
        resumed += got
    assert sorted(map(repr, resumed)) == sorted(map(repr, mine.predictions))


def test_entity_and_signal_from_key_and_header(job: Callable[..., ReadingsJob], kafka: Kafka) -> None:
    readings = stream(600, 3, machines=3)
    bare = [(f"{each['machine']}/{each['signal']}".encode(),
             orjson.dumps({"ts": each["ts"], "value": each["value"]})) for each in readings]  # fmt: skip
    topic = kafka.topic("readings", 1)
    kafka.produce(topic, bare)
    made = job([], topic=topic)
    content = orjson.loads(made.path.read_bytes())
    del content["event"]["entity"], content["event"]["signal"]
    content["event"]["tag"] = {"field": "$key", "pattern": "{entity}/{signal}"}
    made.path.write_bytes(orjson.dumps(content))
    made.run()
    rows, _ = read_rows(config().event, readings)
    told = sorted(each[:2] for each in predictions(made, kafka))
    assert told == sorted(zip(rows.entity, rows.ts.tolist(), strict=True))
