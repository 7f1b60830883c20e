"""Hourly summaries: what they add up, when an hour ends, snapshots, and exactly once through kills."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import orjson
import pytest
from brokers import Kafka
from confluent_kafka.admin import AdminClient, ConfigResource
from engines import cut, fleet, made
from jsonschema import Draft202012Validator
from test_transactions import PARTITIONS, ExactJob

from ssm_stream.config import Config, parse_config
from ssm_stream.contract.avro_schemas import summary_avro
from ssm_stream.contract.summary_schema import summary_schema
from ssm_stream.engine.engine import Engine
from ssm_stream.engine.episodes.ids import EventIds
from ssm_stream.engine.snapshot_format import SnapshotReader
from ssm_stream.engine.summaries.columns import OF_TARGET, OF_TARGETS, PREDICTED, VALUES
from ssm_stream.engine.summaries.hourly import _with_means
from ssm_stream.engine.summaries.messages import SummaryMessage, summary_lines, summary_messages
from ssm_stream.flow.doctor import create_missing
from ssm_stream.ingest.events import Events

HOUR = 3_600_000
TEXT = """
source: {brokers: a, topic: events}
event: {entity: m, timestamp: ts, features: [a, b], target: y}
sinks: {summaries: summaries}
state: {shards: 1}
"""


def config(more: str = "") -> Config:
    return parse_config(TEXT + more)


def spread(events: Events, factor: int = 30) -> Events:
    """The events, with so many times the time between them."""
    return replace(events, ts=events.ts * factor)


def process(engine: Engine, events: Events, cuts: Iterable[int] = (), first: int = 0) -> list[SummaryMessage]:
    """The summaries of events in these batches; positions are offsets."""
    out = list[SummaryMessage]()
    for start, stop in pairwise([0, *sorted(cuts), len(events)]):
        part = cut(events, start, stop)
        engine.process(part, 0, EventIds("events", 0, list(range(first + start, first + stop))))
        for ended in engine.summaries.pop_ended():
            messages = list(summary_messages(engine.config, ended))
            if len(engine.config.event.targets) == 1:
                assert summary_lines(engine.config, ended) == [orjson.dumps(each.content) for each in messages]
            out += messages
    return out


def test_they_add_up() -> None:
    """Counts, errors, coverage and scores are those of the predictions, hour by hour."""
    events = spread(fleet(6_000, seed=1), 20)
    events = replace(events, ts=np.maximum.accumulate(events.ts))
    engine = Engine(config())
    predictions, alerts = engine.process(events, 0, EventIds("events", 0, list(range(len(events)))))
    found = [message for ended in engine.summaries.pop_ended() for message in summary_messages(engine.config, ended)]
    assert len({each.key for each in found}) == len(found) > 100
    hours, names = events.ts // HOUR, np.array(events.entity)
    started = Counter(
        (alert.message["entity"], alert.message["ts"] // HOUR, alert.message["kind"])
        for alert in alerts
        if alert.message["phase"] == "started" and alert.message["scope"] == "entity"
    )
    for each in found:
        row = each.content
        mine = (names == row["entity"]) & (hours == row["hour"] // HOUR)
        judged = mine & ~predictions.warmup & ~np.isnan(events.target)
        assert row["events"] == mine.sum()
        assert row["labelled"] == (mine & ~np.isnan(events.target)).sum()
        labelled = mine & ~np.isnan(events.target)
        if labelled.any():
            assert row["mean"] == pytest.approx(events.target[labelled].mean(), rel=1e-12)
            assert row["mean_predicted"] == pytest.approx(predictions.yhat[labelled].mean(), rel=1e-12)
        else:
            assert row["mean"] is row["mean_predicted"] is None
        assert row["judged"] == judged.sum()
        assert row["last"] == events.ts[mine].max()
        assert row["score"] == predictions.score[mine].max()
        if row["judged"]:
            error = np.abs(events.target - predictions.yhat)[judged].mean()
            assert row["error"] == pytest.approx(error, rel=1e-12)
            inside = (predictions.lower <= events.target) & (events.target <= predictions.upper)
            assert row["coverage"] == pytest.approx(inside[judged].mean())
        ended_by = each.offset
        assert hours[ended_by] > row["hour"] // HOUR
        later = np.flatnonzero((names == row["entity"]) & (hours > row["hour"] // HOUR))
        assert ended_by <= later[0]
    # An alert may be sent later than its event, and then counts in the hour at hand: all in all they agree.
    total = sum(sum(each.content["alerts"].values()) for each in found)
    assert 0 < total <= started.total()
    assert any(each.content["episode_seconds"] > 0 for each in found)
    Draft202012Validator.check_schema(summary_schema(engine.config))
    check = Draft202012Validator(summary_schema(engine.config))
    for each in found:
        check.validate(orjson.loads(orjson.dumps(each.content)))
        assert each.key.startswith(each.content["entity"] + "|1970-01-")


@pytest.mark.parametrize("targets", [1, 3])
def test_a_state_without_the_means_goes_on_and_has_them_from_the_next_hour_on(targets: int) -> None:
    before = np.arange(2.0 * (OF_TARGETS + 7 * targets)).reshape(2, -1)
    sums = _with_means(before, targets)
    own = sums[:, OF_TARGETS:].reshape(2, targets, OF_TARGET)
    assert np.isnan(own[:, :, [VALUES, PREDICTED]]).all()
    kept = np.delete(own, [VALUES, PREDICTED], axis=2)
    assert (np.hstack([sums[:, :OF_TARGETS], kept.reshape(2, -1)]) == before).all()
    assert _with_means(sums, targets) is sums, "it has them"


def test_they_do_not_depend_on_batches_nor_on_restarts() -> None:
    events, rng = spread(fleet(5_000, seed=2, entities=20)), random.Random(3)
    want = process(Engine(config()), events)
    assert want
    for _ in range(3):
        assert process(Engine(config()), events, rng.sample(range(1, 5_000), 40)) == want
    # Full and incremental snapshots, loaded after one another.
    engine, files, got = Engine(config()), list[BytesIO](), list[SummaryMessage]()
    edges = [0, 700, 1_500, 1_510, 3_000, 5_000]
    base = ""
    for start, stop in pairwise(edges):
        got += process(engine, cut(events, start, stop), first=start)
        file = BytesIO()
        base = engine.write_snapshot(file, full=not files or engine.changed_share == 1.0, base=base)
        files.append(file)
        engine = Engine(config())
        chain = files[max(i for i, each in enumerate(files) if SnapshotReader(each).metadata["whole"]) :]
        for each in chain:
            engine.load(SnapshotReader(each))
        engine.finish_load()
    assert got == want


def test_an_hour_ends_without_an_event_of_its_entity_and_comes_again_if_one_is_late() -> None:
    minutes = [("a", 1), ("b", 2), ("b", 61), ("b", 119), ("b", 121), ("a", 59), ("b", 181), ("a", 60 * 40)]
    names, times = [name for name, _ in minutes], np.array([minute * 60_000 for _, minute in minutes])
    events = made(np.arange(8.0), np.zeros((8, 2)), names, times)
    found = process(Engine(config()), events)
    rows = [
        (each.offset, each.content["entity"], each.content["hour"] // HOUR, each.content["events"]) for each in found
    ]
    assert rows == [(2, "b", 0, 1), (4, "b", 1, 2), (4, "a", 0, 1), (6, "b", 2, 1), (6, "a", 0, 2), (7, "b", 3, 1)]
    # A clock that was set back by more than a day begins anew.
    back = made(np.arange(2.0), np.zeros((2, 2)), ["a", "a"], np.array([100 * HOUR, 0]))
    assert [each.content["hour"] // HOUR for each in process(Engine(config()), back)] == [100]


def test_silence_has_a_row_of_its_own() -> None:
    engine = Engine(config("alerts: {silence: {after: 30m}}\n"))
    minute = np.repeat(np.arange(400), 3)
    names, speaks = [f"m{i % 3}" for i in range(1_200)], np.ones(1_200, bool)
    speaks[(np.array(names) == "m2") & (minute > 100) & (minute < 300)] = False
    rows = np.flatnonzero(speaks)
    events = made(np.random.default_rng(1).normal(size=1_200), np.zeros((1_200, 2)), names, minute * 60_000).take(rows)
    found = [each.content for each in process(engine, events) if each.content["entity"] == "m2"]
    silent = [row for row in found if row["silent_since"] is not None]
    assert [(row["hour"] // HOUR, row["events"], row["alerts"]["silence"], row["open"]) for row in silent] == [
        (2, 0, 1, ["silence"])
    ]
    assert silent[0]["silent_since"] <= 131 * 60_000
    assert found[-1]["silent_since"] is None


def test_several_targets_delayed_labels_and_avro() -> None:
    several = parse_config(
        TEXT.replace("target: y", "target: [y, z]") + "model: {horizon: 1 events, warmup: 16}\nalerts: {stuck: true}\n"
    )
    rng = np.random.default_rng(1)
    events = made(rng.normal(size=900), rng.normal(size=(900, 2)), ["m"] * 900, np.arange(900) * 60_000)
    events = replace(events, target=rng.normal(size=(900, 2)))
    found = process(Engine(several), events)
    assert [each.content["target"] for each in found[:4]] == ["y", "z", "y", "z"]
    assert found[0].key == "m|1970-01-01T00Z|y"
    assert [each.content["labelled"] for each in found[:4]] == [59, 59, 60, 60]
    assert process(Engine(several), events, range(100, 900, 77)) == found
    check, schema = Draft202012Validator(summary_schema(several)), fastavro.parse_schema(summary_avro(several))
    for each in found:
        check.validate(each.content)
        file = BytesIO()
        fastavro.schemaless_writer(file, schema, each.content)
        file.seek(0)
        read: Any = fastavro.schemaless_reader(file, schema, None)
        assert read["alerts"] == each.content["alerts"]
        assert read["open"] == each.content["open"]


def test_states_without_them_load_and_those_with_them_where_they_are_off() -> None:
    events = spread(fleet(2_000))
    off = parse_config(TEXT.replace("sinks: {summaries: summaries}\n", ""))
    assert off.hash == config().hash
    before = Engine(off)
    assert process(before, cut(events, 0, 1_000)) == []
    on = Engine.restore(config(), before.snapshot())
    assert process(on, cut(events, 1_000, None))
    again = Engine.restore(off, on.snapshot())
    assert again.state_hash("m1") == on.state_hash("m1")


class SummaryJob(ExactJob):
    """An `ExactJob` that writes summaries."""

    def __init__(self, kafka: Kafka, folder: Path, topic: str, **keys: Any) -> None:
        super().__init__(kafka, folder, topic, **keys)
        self.summaries = f"{self.predictions}-summaries"
        self.write(sinks={"summaries": self.summaries})
        create_missing(self.config, 2)

    def rows(self) -> list[tuple[bytes | None, bytes | None]]:
        return sorted((each.key() or b"", each.value() or b"") for each in self.kafka.read(self.summaries))


def hourly(n: int) -> list[tuple[bytes, bytes]]:
    """n events of 12 machines, each with one a minute or so."""
    rng = np.random.default_rng(5)
    x, who = rng.normal(size=(n, 2)).round(4), rng.integers(0, 12, n)
    y = (x @ [1.0, -2.0] + 0.1 * rng.normal(size=n) + 30 * (rng.random(n) < 0.003)).round(4)
    rows = zip(who.tolist(), x.tolist(), y.tolist(), range(n), strict=True)
    return [
        (
            b"m%d" % e,
            orjson.dumps({"entity": f"m{e}", "ts": 1_700_000_000_000 + 20_000 * i, "a": a, "b": b, "target": t}),
        )
        for e, (a, b), t, i in rows
    ]


def test_each_hour_comes_once_through_kills(kafka: Kafka, tmp_path: Path) -> None:
    if kafka.kind == "mock":
        pytest.skip("the embedded broker does not keep transactions apart")
    topic = kafka.topic("events", PARTITIONS)
    kafka.produce(topic, hourly(12_000))
    calm = SummaryJob(kafka, tmp_path / "calm", topic)
    calm.run()
    want = calm.rows()
    assert len(want) > 500
    assert len({key for key, _ in want}) == len(want)
    killed = SummaryJob(kafka, tmp_path / "killed", topic, source={"group": f"{topic}-killed"})
    killed.kill_often(random.Random(4), 4, 0.65, "--until-eof", workers=(1, 2))
    killed.run()
    assert killed.rows() == want


def test_the_topic_is_compacted(kafka: Kafka, tmp_path: Path) -> None:
    if kafka.kind == "mock":
        pytest.skip("the embedded broker has no settings of topics")
    job = SummaryJob(kafka, tmp_path, kafka.topic("events", 1))
    resource = ConfigResource(ConfigResource.Type.TOPIC, job.summaries)
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})  # its answers are lost with it
    (answer,) = admin.describe_configs([resource]).values()
    assert answer.result(10)["cleanup.policy"].value == "compact,delete"
