"""Windows over a broker: rows of a topic and of a file, late events, exactly once through kills, alerts made again."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from brokers import Kafka
from test_stream import Job
from test_windows import NOON, document

from ssm_stream.engine.engine import Engine
from ssm_stream.evaluate.partitioned_engine import PartitionedEngine
from ssm_stream.evaluate.prequential import prequential
from ssm_stream.kafka.decoder import Decoder
from ssm_stream.kafka.records import Chunk, ShardBatch

PARTITIONS = 3
EVENT = {
    "entity": "service",
    "timestamp": "at",
    "aggregate": {
        "every": "1s",
        "grace": "500ms",
        "columns": {
            "requests": "count",
            "errors": {"share": {"status": {"from": 500}}},
            "size": {"mean": "size"},
            "p95": {"p95": "size"},
        },
    },
    "target": "size",
    "features": ["requests", "errors", "p95"],
}


def requests(count: int, seed: int, services: int = 12) -> list[dict[str, Any]]:
    """Requests in the order in which they come, up to 400 ms out of order; a service pauses now and then."""
    rng = random.Random(seed)
    at = sorted(rng.randrange(10 * count) for _ in range(count))
    found = [
        document(f"s{rng.randrange(services)}", NOON + t, rng.lognormvariate(2, 1), rng.choice([200, 200, 500]))
        for t in at
    ]
    found = [each for each in found if (each["at"] // 7_000) % 5 or each["service"] != "s1"]
    return sorted(found, key=lambda each: each["at"] + rng.randrange(400))


class WindowsJob(Job):
    """A `Job` that makes windows."""

    def __init__(self, kafka: Kafka, folder: Path, topic: str, delivery: str = "at_least_once") -> None:
        super().__init__(kafka, folder, topic)
        content = orjson.loads(self.path.read_bytes())
        self.path.write_bytes(orjson.dumps(content | {"event": EVENT, "delivery": delivery}))


@pytest.fixture
def job(kafka: Kafka, tmp_path: Path) -> Callable[..., WindowsJob]:
    def make(documents: list[dict[str, Any]], name: str = "job", topic: str = "", **keys: Any) -> WindowsJob:
        if not topic:
            topic = kafka.topic("requests", PARTITIONS)
            kafka.produce(topic, [(each["service"].encode(), orjson.dumps(each)) for each in documents])
        return WindowsJob(kafka, tmp_path / name, topic, **keys)

    return make


def test_rows_of_a_topic_are_those_of_the_engine(job: Callable[..., WindowsJob], kafka: Kafka) -> None:
    """With late events as dead letters; and a backtest of the same events gives the same predictions."""
    documents = requests(8_000, 1)
    late = [document(f"s{i}", NOON) for i in range(10)]
    made = job([*documents, *late])
    made.run("-w", "2")
    told = [orjson.loads(m.value() or b"") for m in kafka.read(made.predictions)]
    rows = sorted((each["entity"], each["ts"], each["y"], each["yhat"], each["id"]) for each in told)
    assert len({row[-1] for row in rows}) == len(rows) > 500
    decoder, engines, expected = Decoder(made.config), dict[tuple[str, int], Engine](), []
    for partition in range(PARTITIONS):
        messages = [m for m in kafka.read(made.topic) if m.partition() == partition]
        for key, item in decoder.decode(Chunk(made.topic, partition, messages)):
            assert isinstance(item, ShardBatch)
            engine = engines.setdefault((key, partition), Engine(made.config))
            assert engine.rows is not None
            built = engine.rows.add(item.events, item.offsets, partition)
            events = built.events
            assert events.number is not None
            found, _ = engine.process(events, partition)
            y: list[float | None] = [None if each != each else each for each in events.target.tolist()]
            places = zip(built.offsets, events.number.tolist(), strict=True)
            ids = [f"{made.topic}-{partition}-{offset}-{number}" for offset, number in places]
            expected += list(zip(events.entity, events.ts.tolist(), y, found.yhat.tolist(), ids, strict=True))
    expected.sort(key=lambda row: row[:2])
    assert rows == expected
    letters = kafka.read(made.dead)
    assert sorted(orjson.loads(m.value() or b"")["service"] for m in letters) == sorted(f"s{i}" for i in range(10))
    headers = {str(name).rpartition("errors.")[2]: value for name, value in letters[0].headers() or []}
    assert (headers["stage"], headers["exception.class.name"]) == (b"rows", b"ssm_stream.Late")
    assert b"was closed before" in (headers["exception.message"] or b"")

    partitions = {orjson.loads(m.value() or b"")["service"]: m.partition() for m in kafka.read(made.topic)}

    class OfTopic(PartitionedEngine):
        def partition(self, entity: str) -> int:
            return int(partitions[entity])

    whole = OfTopic(made.config, PARTITIONS)
    backtest = {
        (name, ts): yhat
        for chunk in prequential(made.config, [*documents, *late], whole)
        for name, ts, yhat in zip(
            chunk.events.entity, chunk.events.ts.tolist(), chunk.predictions.yhat.tolist(), strict=True
        )
    }
    assert {(row[0], row[1]): row[3] for row in rows}.items() <= backtest.items()


def test_kills_lose_nothing_and_repeat_nothing(job: Callable[..., WindowsJob], kafka: Kafka) -> None:
    """Exactly once: what consumers see after kills at any time is what an undisturbed run gives, to the bit."""
    if kafka.kind == "mock":
        pytest.skip("the embedded broker does not keep transactions apart")
    whole = job(requests(40_000, 2, 30), "whole")
    whole.run()
    made = job([], "killed", whole.topic, delivery="exactly_once")
    made.kill_often(random.Random(7), 5, 1.2)
    made.run()
    ids = made.ids()
    assert max(ids.values()) == 1
    assert made.messages() == whole.messages()
    assert made.state() == whole.state()
    assert len(ids) > 3_000


def test_an_alert_of_windows_is_made_again(job: Callable[..., WindowsJob], kafka: Kafka) -> None:
    from ssm_stream.flow.alert_id import parse_alert_id
    from ssm_stream.flow.reproduce_alert import reproduce_alert

    rng = np.random.default_rng(1)
    documents = [
        document(name, NOON + 100 * i, float(rng.normal(100.0, 5.0)) * (4.0 if 14_000 < i < 14_030 else 1.0))
        for i in range(15_000)
        for name in ("s1", "s2")
    ]
    made = job(documents)
    made.run()
    told = made.told_alerts()
    assert told
    for name, value in list(told.items())[:2]:
        id_ = parse_alert_id(name)
        assert id_ is not None
        found = reproduce_alert(made.config, id_, value)
        assert found.same, found.differences
