"""Forgetting an incident: the state of a run that had the stretches as planned stops from the beginning."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from brokers import Kafka
from test_stream import Job
from typer.testing import CliRunner

from ssm_stream.cli.app import app
from ssm_stream.ingest.timestamps import ms_to_iso
from ssm_stream.recovery.reader import read_state
from ssm_stream.recovery.settings_files import with_stored_features

START = 1_700_000_000_000
STEP = 60_000
PARTITIONS = 2
ENTITIES = 8


def rows(n: int, seed: int = 0) -> list[tuple[bytes, bytes]]:
    """Machines a minute apart, with jumps that alert."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2)).round(4)
    y = x @ [1.0, -2.0] + 0.1 * rng.normal(size=n)
    for at in range(400, n, 150):
        y[at : at + 60] += 20 * 1.7 ** ((at - 400) // 150 % 7)
    for at in range(1600, min(1950, n)):
        if at % ENTITIES in (1, 5):  # an incident that nothing can learn: ever more, up and down
            y[at] += 500 * 1.2 ** ((at - 1600) // ENTITIES) * (1 if rng.random() < 0.5 else -1)
    return [
        (
            b"m%d" % (i % ENTITIES),
            orjson.dumps({"entity": f"m{i % ENTITIES}", "ts": START + STEP * i, "a": a, "b": b, "target": t}),
        )
        for i, ((a, b), t) in enumerate(zip(x.tolist(), y.tolist(), strict=True))
    ]


def at(row: int) -> str:
    return ms_to_iso(START + STEP * row)


class Flow:
    """A job over partitions that are filled by hand, as its output must not depend on a partitioner."""

    def __init__(self, kafka: Kafka, folder: Path, topic: str, **more: Any) -> None:
        self.kafka, self.job, self.topic = kafka, Job(kafka, folder, topic, shards=more.pop("shards", 2)), topic
        content = orjson.loads(self.job.path.read_bytes())
        content["sinks"]["suppressed"] = self.hidden = kafka.topic("hidden", 1)
        content["source"]["group"] = f"group-{self.hidden}"
        content["model"] = {"warmup": 30, **more.pop("model", {})}
        content["alerts"] = {"anomaly": {"cooldown": 0, "recover_after": 5}, **more.pop("alerts", {})}
        self.job.path.write_bytes(orjson.dumps(content | more))

    def rewind(self, *options: str, code: int = 0) -> str:
        done = CliRunner().invoke(app, ["state", "rewind", str(self.job.path), *options])
        assert done.exit_code == code, done.output
        return done.output

    def snapshots(self) -> dict[str, bytes]:
        """The whole state of each shard, header included, as of now."""
        config = with_stored_features(self.job.config)
        assert config.recovery.directory is not None
        stored = read_state(config.recovery.directory)
        return {shard: stored.engine(shard, config).snapshot() for shard in stored.chains}

    def messages(self, topic: str) -> list[dict[str, Any]]:
        return [orjson.loads(message.value() or b"") for message in self.kafka.read(topic)]


def fill(kafka: Kafka, topic: str, given: list[tuple[bytes, bytes]], begin: int, end: int) -> None:
    for partition in range(PARTITIONS):
        mine = [row for i, row in enumerate(given) if begin <= i < end and i % ENTITIES % PARTITIONS == partition]
        kafka.produce(topic, mine, partition)


def windows(excluded: list[tuple[str, int, int]]) -> list[dict[str, str]]:
    return [{"entities": entity, "from": at(begin), "to": at(end)} for entity, begin, end in excluded]


def options(excluded: list[tuple[str, int, int]]) -> list[str]:
    return [text for entity, begin, end in excluded for text in ("--without", entity, at(begin), at(end))]


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_the_state_is_that_of_a_run_with_the_stretches_as_planned_stops(
    kafka: Kafka, tmp_path: Path, delivery: str
) -> None:
    given, topic = rows(2400), kafka.topic("events", PARTITIONS)
    flow = Flow(kafka, tmp_path / "flow", topic, delivery=delivery)
    fill(kafka, topic, given, 0, 900)
    flow.job.run()
    fill(kafka, topic, given, 900, 1800)
    flow.job.run()  # it keeps the state of now at its start
    before = {name: flow.messages(each) for name, each in vars(flow.job).items() if name in ("predictions", "alerts")}
    open_ = {m["episode"] for m in before["alerts"]} - {
        m["episode"] for m in before["alerts"] if m["phase"] == "recovered"
    }
    # The incident of m1 and m5 is open by then: that of m1 goes, and that of m5 begins later.
    said_before = {m["episode"] for m in before["alerts"]}
    excluded = [("m1", 1000, 1400), ("m4", 1290, 1760), ("m1", 1590, 1850), ("m5", 1590, 1700)]
    dry = orjson.loads(flow.rewind("--to", at(1000), *options(excluded), "--dry-run", "--json"))
    assert (dry["done"], dry["events"], dry["lost"]) == (False, 900, 0)
    assert dry["events_per_s"] > 0
    output = flow.rewind("--to", at(1000), *options(excluded), "--yes")
    assert "went back to the state of" in output
    flow.job.run()
    assert {n: flow.messages(each) for n, each in vars(flow.job).items() if n in before} == before, "nothing twice"
    other = Flow(
        kafka, tmp_path / "other", topic, delivery=delivery,
        alerts={"anomaly": {"cooldown": 0, "recover_after": 5}, "maintenance": windows(excluded)},
    )  # fmt: skip
    other.job.run()
    assert flow.snapshots() == other.snapshots()
    # What comes then: the same messages, and the ends of what consumers see as open.
    fill(kafka, topic, given, 1800, 2400)
    flow.job.run()
    other.job.run()
    assert flow.snapshots() == other.snapshots()
    said = [flow.messages(flow.job.predictions), other.messages(other.job.predictions)]
    after = [sorted((m for m in each if m["ts"] >= START + STEP * 1800), key=lambda m: str(m["id"])) for each in said]
    assert after[0] == after[1]
    assert len(said[0]) == len({m["id"] for m in said[0]}) == 2400
    alerts = flow.messages(flow.job.alerts)
    assert len(alerts) == len({m["id"] for m in alerts})
    phases = Counter(m["phase"] for m in alerts)
    rewound = [m for m in alerts if m["ended_by"] == "rewind"]
    assert rewound
    assert {m["episode"] for m in rewound} == open_, "begun by m1 and m5, whose stretches are excluded"
    begun = [m["episode"] for m in alerts if m["phase"] == "started"]
    ended = [m["episode"] for m in alerts if m["phase"] == "recovered"]
    assert len(begun) == len(set(begun)), phases
    assert len(ended) == len(set(ended)), phases
    assert set(ended) <= set(begun)
    theirs = other.messages(other.job.alerts)
    open_there = {m["episode"] for m in theirs} - {m["episode"] for m in theirs if m["phase"] == "recovered"}
    assert set(begun) - set(ended) == open_there
    late = [m["episode"] for m in theirs if m["phase"] == "started" and m["episode"] not in said_before]
    assert set(late) & set(begun), "one that the new state has open is sent, as it would have been"
