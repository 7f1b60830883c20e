"""Idle events (`event.when`): passed through, and for the learner as if they had not been."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import bytewax.operators as op
import numpy as np
import orjson
import pytest
from brokers import Kafka
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, TestingSource, run_main
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from test_stream import Job

import ssm_stream.operators as sop
from ssm_stream import Engine as PublicEngine
from ssm_stream.config import Config, parse_config
from ssm_stream.contract.message_schemas import prediction_schema
from ssm_stream.core.loop import Predictions
from ssm_stream.engine.engine import Engine
from ssm_stream.engine.episodes.ids import EventIds
from ssm_stream.engine.explain import UnknownEntityError, explain_recorded
from ssm_stream.engine.rules.restarts import BEGINS, ENDS, Restarts
from ssm_stream.evaluate.backtest import backtest
from ssm_stream.evaluate.document_engine import DocumentEngine
from ssm_stream.ingest.events import EventReader
from ssm_stream.ingest.labels import LabelReader
from ssm_stream.kafka.encoder import Encoder
from ssm_stream.kafka.records import ShardBatch
from ssm_stream.operators.records import predictions_of
from ssm_stream.ui.entity_cache import EntityCache

WHEN = "  when: {state: running, load: {above: 10}}\n"
DERIVE = "  derive: {mean: {rolling_mean: load, over: 3}, share: {ratio: [y, load], lag: 1}}\n"
KINDS = {
    "plain": ("", ""),
    "derived": (DERIVE, ""),
    "several targets": ("  target: [y, z]\n", ""),
    "horizon of events": ("", "model: {warmup: 10, horizon: 3 events}\n"),
    "horizon of time": ("", "model: {warmup: 10, horizon: 5m}\n"),
    "apart, expiring": (DERIVE, "model: {warmup: 10, fleet: false}\nstate: {ttl: 2h, shards: 2}\n"),
    "limited": (DERIVE, "state: {max_entities: 2, when_full: evict}\n"),
    "rules": ("", "alerts: {limits: [{column: speed, above: 3}], silence: {after: auto}, stuck: true}\n"),
}
PLANNED = {
    "planned": (
        "",
        """state: {ttl: 40m}
alerts: {maintenance: [{from: 2023-11-15T00:00, to: 2023-11-15T01:30}, {from: 2023-11-15T02:30, to: 2023-11-15T02:40}]}
""",
    )
}
"""From the 107th minute of `documents` on."""


def config(kind: str = "plain", when: str = WHEN) -> Config:
    event, more = (KINDS | PLANNED)[kind]
    target = "" if "target" in event else "  target: y\n"
    model = "" if "model:" in more else "model: {warmup: 10}\n"
    return parse_config(
        "source: {brokers: a, topic: events}\nrecovery: {directory: null}\nevent:\n  entity: m\n  timestamp: ts\n"
        f"  features: [load]\n  categories: [mode]\n{target}{event}{when}{model}{more}"
    )


def documents(n: int, seed: int = 0, entities: int = 3) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    out, running = [], [True] * entities
    for i in range(n):
        e = int(rng.integers(entities))
        if rng.random() < 0.1:
            running[e] = not running[e]
        load = float(rng.uniform(11, 30)) if running[e] else 0.0
        y = 2 * load + rng.normal() if running[e] else 0.0
        row = {"m": f"m{e}", "ts": 1_700_000_000 + 60 * i, "load": load, "mode": str(rng.integers(3)), "y": y, "z": -y}
        row |= {"state": "running" if running[e] else "stop", "speed": float(rng.integers(5))}
        if rng.random() < 0.05:
            row["y"] = None
        out.append(row)
    return out


def is_idle(row: dict[str, Any]) -> bool:
    return row["state"] != "running" or not row["load"] > 10


def run(
    made: Config, rows: list[dict[str, Any]], cuts: list[int] | None = None, restarts: frozenset[int] = frozenset()
) -> tuple[Predictions, list[dict[str, Any]]]:
    """Predictions and alerts of rows that come in these batches, with restarts before some."""
    engine, parts, alerts = Engine(made), list[Predictions](), list[dict[str, Any]]()
    for start, stop in pairwise([0, *(cuts or []), len(rows)]):
        if start in restarts:
            engine = Engine.restore(made, engine.snapshot())
        events, refused = EventReader(made.event).read(rows[start:stop])
        assert not refused
        events = engine.admit(events)[0]
        ids = EventIds("events", 0, list(range(start, stop)))
        predictions, found = engine.process(events, 0, ids)
        parts.append(predictions)
        alerts += [each.message | {"row": start + each.row, "id": ids.alert_id(each)} for each in found]
    return Predictions(*map(np.concatenate, zip(*parts, strict=True))), alerts


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "limited"])
def test_for_the_learner_idle_events_have_not_been(kind: str) -> None:
    rows = documents(900)
    idle = np.array([is_idle(row) for row in rows])
    found = run(config(kind), rows, [100, 101, 400])[0]
    want = run(config(kind, ""), [row for row in rows if not is_idle(row)])[0]
    for name in ("yhat", "n", "fleet"):
        assert getattr(found, name)[~idle].tobytes() == getattr(want, name).tobytes(), name
    for column in (found.yhat, found.lower, found.upper, found.score, found.fleet):
        assert np.isnan(column[idle]).all()


@pytest.mark.parametrize("kind", [*KINDS, *PLANNED])
@settings(max_examples=6)
@given(st.data())
def test_no_batch_and_no_restart_changes_a_bit(kind: str, data: Any) -> None:
    rows, made = documents(400, data.draw(st.integers(0, 5))), config(kind)
    cuts = sorted(data.draw(st.sets(st.integers(1, 399), max_size=8)))
    restarts = frozenset(data.draw(st.lists(st.sampled_from(cuts), max_size=3)) if cuts else [])
    found, want = run(made, rows, cuts, restarts), run(made, rows)
    if kind != "horizon of events":  # its scores come with the batch that resolves them
        assert [column.tobytes() for column in found[0]] == [column.tobytes() for column in want[0]]
    assert found[1] == want[1]


def test_an_idle_event_that_begins_changes_nothing_of_an_entity() -> None:
    rows = documents(300)
    engine = Engine(config())
    events, _ = EventReader(engine.config.event).read(rows)
    engine.process(events)
    before = engine.state_hash("m0")
    stop = [{**rows[-1], "m": name, "state": "stop", "ts": 1_800_000_000} for name in ("m0", "new")]
    engine.process(EventReader(engine.config.event).read(stop)[0])
    assert engine.state_hash("m0") == before
    assert "new" not in engine


@pytest.mark.parametrize("kind", ["plain", "several targets", "horizon of events", "horizon of time"])
def test_messages_keep_to_their_schema_by_every_way(kind: str) -> None:
    made, rows = config(kind), documents(60)
    events, _ = EventReader(made.event).read(rows)
    predictions, _alerts = Engine(made).process(events)
    batch = ShardBatch(0, events, list(range(60)))
    values = Encoder(made).encode(batch, predictions, []).values
    validator = Draft202012Validator(prediction_schema(made))
    m = len(made.event.targets)
    messages = [orjson.loads(value) for value in values]
    for i, message in enumerate(messages):
        validator.validate(message)
        assert message["idle"] is is_idle(rows[i // m])
        assert (message["yhat"] is None) is message["idle"]
        assert message["y"] == rows[i // m][message.get("target", "y")]
    assert [each.to_json() for each in predictions_of(made, batch, predictions)] == values
    plain = config(kind, "")
    assert "idle" not in prediction_schema(plain)["properties"]


def test_limits_hold_silence_counts_and_stuck_does_not() -> None:
    made, rows = config("rules"), documents(400, entities=1)
    alerts = [each for each in run(made, rows)[1] if each["kind"] == "limit" and each["phase"] == "started"]
    over = [row["speed"] > 3 for row in rows]
    assert [each["row"] for each in alerts] == [i for i in range(400) if over[i] and not (i and over[i - 1])]
    # 2,000 idle events of one value after a varying signal
    stop = [{**rows[0], "ts": 1_700_100_000 + 60 * i, "state": "stop", "load": 0.0, "speed": 0.0} for i in range(2000)]
    kinds = {each["kind"] for each in run(made, rows + stop)[1] if each["row"] >= 400}
    assert "stuck" not in kinds
    assert "silence" not in kinds


def test_a_backtest_counts_them_and_explain_says_so() -> None:
    made, rows = config(), documents(200)
    idle = [is_idle(row) for row in rows]
    result = backtest(made, rows)
    assert (result["idle"], result["doubtful"]) == (sum(idle), 0)
    assert result["mae"] < 5
    name = rows[idle.index(True)]["m"]
    with pytest.raises(UnknownEntityError, match=r"does not meet event\.when"):
        explain_recorded(made, rows, name, idle.index(True) + 1)
    at = max(i for i in range(200) if not idle[i])
    assert explain_recorded(made, rows, rows[at]["m"], at + 1, history=3)[0].n > 0


def test_documents_one_at_a_time() -> None:
    made, rows = config(), documents(120)
    engine, whole = DocumentEngine(made), DocumentEngine(made).process_documents(rows)
    found = [engine.process_document(row) for row in rows]
    assert [each.predictions[0].to_json() for each in found] == [each.to_json() for each in whole.predictions]
    assert [each.idle for each in whole.predictions] == [is_idle(row) for row in rows]
    assert whole.predictions[[is_idle(row) for row in rows].index(True)].to_dict()["yhat"] is None


def cycles(count: int, fault: int | None = None, seed: int = 0) -> list[dict[str, Any]]:
    """Runs of 100 events, of which the first 6 are cold, and stops of 20. fault: number of a run that begins broken"""
    rng = np.random.default_rng(seed)
    out = list[dict[str, Any]]()
    for i in range(count):
        for k in range(120):
            running = k < 100
            load = float(rng.uniform(11, 30)) if running else 0.0
            cold = -12 * 0.6**k if i and k < 6 else 0.0
            y = 2 * load + cold + rng.normal() + (400 if i == fault and k < 6 else 0)
            row = {"m": "m0", "ts": 1_700_000_000 + 60 * len(out), "load": load, "mode": "a"}
            out.append(row | {"y": y if running else 0.0, "state": "running" if running else "stop"})
    return out


def started(found: list[dict[str, Any]]) -> list[tuple[int, int, str]]:
    """Run, event of it, and kind of each alert that starts."""
    return [(each["row"] // 120, each["row"] % 120, each["kind"]) for each in found if each["phase"] == "started"]


def test_restarts_that_are_as_ever_raise_nothing_and_a_fault_at_one_does() -> None:
    made = config()
    usual = started(run(made, cycles(40))[1])
    assert [each for each in usual if each[1] < 20] == []
    without = run(config(when=""), [row for row in cycles(40) if row["state"] == "running"])[1]
    assert [each for each in without if each["phase"] == "started" and each["row"] % 100 < 20]
    broken = started(run(made, cycles(40, 30))[1])
    assert (30, 0, "anomaly") in broken


def test_short_stops_teach_nothing_about_long_ones() -> None:
    """Stops of 20 minutes with mild restarts, then the first ones of ten hours, after which the machine is cold."""
    made, restarts = config(), Restarts(config())
    events, _ = EventReader(made.event).read(cycles(20))
    segments = restarts.plan(events, 0, set())
    allowance = np.ones(2000)
    for segment in segments:
        restarts.begin(segment, allowance)
        restarts.end(segment, np.full(2000, 0.5), np.ones(2000, np.bool_))
    first = [step.row for segment in segments for step in segment.steps if step.place == 0]
    # after three restarts twelve times the highest score, then ever less, three times from the twelfth on
    expected = [np.inf] * 3 + [0.5 * 36 / n for n in range(3, 12)] + [1.5] * 7
    assert allowance[first].tolist() == pytest.approx(expected, rel=0.02)
    assert restarts.dump()["tables"].keys() == {"0-0 1"}
    rows = [{**row, "ts": row["ts"] + 3_000_000} for row in cycles(2)[:121]]
    rows[100:120] = [{**row, "ts": row["ts"] + 600 * k} for k, row in enumerate(rows[100:120])]
    rows[120] = {**rows[120], "ts": rows[119]["ts"] + 36_000}
    events, _ = EventReader(made.event).read(rows)
    (segment,) = restarts.plan(events, 0, {"m0"})[-1:]
    allowance = np.ones(101)
    restarts.begin(segment, allowance)
    assert allowance[-1] == np.inf


def test_machines_that_start_together_count_as_one_restart() -> None:
    made, restarts = config(), Restarts(config())
    rows = [{**row, "m": name} for row in cycles(6) for name in ("m0", "m1", "m2")]
    segments = restarts.plan(EventReader(made.event).read(rows)[0], 0, set())
    for segment in segments:
        restarts.begin(segment, np.ones(1800))
        restarts.end(segment, np.full(1800, 0.5), np.ones(1800, np.bool_))
    (table,) = restarts.dump()["tables"].values()
    assert table[0] == 5


def test_a_short_stop_does_not_cut_the_restart_after_a_long_one() -> None:
    made, restarts = config(), Restarts(config())
    begins = [(0, True), (10, False), (11, True), (151, False), (152, True), (160, False), (168, True)]  # hours
    rows = list[dict[str, Any]]()
    for hour in range(170):
        running = [state for begin, state in begins if begin <= hour][-1]
        row = {"m": "m0", "ts": 1_700_000_000 + 3600 * hour, "load": 20.0 * running, "mode": "a", "y": 1.0}
        rows.append(row | {"state": "running" if running else "stop"})
    segments = restarts.plan(EventReader(made.event).read(rows)[0], 0, {"m0"})
    lasts = {step.restart.begin: step.restart.lasts for each in segments for step in each.steps}
    assert [ms / 3_600_000 for ms in lasts.values()] == [1.0, 1.0, 4.0]


def test_a_machine_that_often_stops_is_judged_all_the_same() -> None:
    """Runs and stops of ten minutes: an eighth of a run at most is a restart, so a fault within one is found."""
    rng, rows = np.random.default_rng(1), list[dict[str, Any]]()
    for i in range(3000):
        running = i // 10 % 2 == 0
        load = float(rng.uniform(11, 30)) if running else 0.0
        y = 2 * load + rng.normal() + (60 if i > 2500 and i % 20 == 5 else 0) if running else 0.0
        row = {"m": "m0", "ts": 1_700_000_000 + 60 * i, "load": load, "mode": "a", "y": y}
        rows.append(row | {"state": "running" if running else "stop"})
    found = [each for each in run(config(), rows)[1] if each["phase"] == "started"]
    assert any(each["row"] > 2500 for each in found)


def test_segments_end_where_a_restart_is_judged_by_one_that_has_just_ended() -> None:
    made, restarts = config(), Restarts(config())
    rows = cycles(3)
    events, _ = EventReader(made.event).read(rows)
    segments = restarts.plan(events, 0, set())
    assert [segment.stop for segment in segments] == [200, 300]
    places = [step.place for segment in segments for step in segment.steps]
    # after the first stop, of which the run before is unknown, a restart lasts as long as it, then an eighth of the run
    assert places[:22] == [BEGINS, 0, 1, 2, 2, *[3] * 4, *[4] * 8, *[5] * 5]
    assert places[22:] == [ENDS, BEGINS, 0, 1, 2, 2, *[3] * 4, *[4] * 5, ENDS]
    allowance = np.ones(300)
    for segment in segments:
        restarts.begin(segment, allowance)
        restarts.end(segment, np.ones(300), np.ones(300, np.bool_))
    assert np.isinf(allowance).sum() == 21 + 13
    copy = Restarts(made)
    copy.load(orjson.loads(orjson.dumps(restarts.dump())))
    assert copy.dump() == restarts.dump()


@pytest.mark.parametrize("by", ["", "id: part"])
def test_the_label_of_an_idle_event_is_ignored(by: str) -> None:
    made = parse_config(
        "source: {brokers: a, topic: events}\nevent:\n  entity: m\n  timestamp: ts\n  features: [load]\n  target: y\n"
        f"{WHEN}labels: {{topic: labels, {by}}}\nmodel: {{warmup: 10}}\n"
    )
    assert made.labels is not None
    rows = [{**row, "part": f"p{i}"} for i, row in enumerate(documents(200))]
    reader = LabelReader(made, made.labels)
    engine = Engine(made)
    for start in range(0, 200, 20):
        some = rows[start : start + 20]
        labels = reader.read([{key: row[key] for key in ("m", "ts", "y", "part")} for row in some])[0]
        early = start % 40 == 0
        if early:
            engine.learn(labels)
        events, refused = EventReader(made.event).read([{**row, "y": None} for row in some])
        assert not refused
        engine.process(reader.add_ids(some, events)[0])
        engine = Engine.restore(made, engine.snapshot())
        if not early:
            engine.learn(labels)
    idle = sum(map(is_idle, rows))
    assert idle > 50
    assert engine.pop_unmatched_labels() == []
    known = sum(row["y"] is not None and not is_idle(row) for row in rows)
    assert engine.label_counts["matched"] == known
    assert engine.label_counts["early"] == 0


def test_bad_quality_is_unknown_and_alarms_when_it_lasts() -> None:
    made = parse_config(
        "source: {brokers: a, topic: events}\nevent:\n  entity: m\n  timestamp: ts\n  features: [load]\n  target: y\n"
        "  quality: {column: quality, good: {from: 192}}\nalerts: {silence: {}, fleet: {enabled: false}}\n"
    )
    rows = [{**row, "quality": 192} for row in documents(900) if row["state"] == "running"]
    for row in rows[-60:]:
        row["quality"] = 24
    result, alerts = backtest(made, rows), run(made, rows)[1]
    assert result["doubtful"] == 60
    told = [each for each in alerts if each["row"] >= len(rows) - 60 and each["kind"] == "silence"]
    assert sorted(each["entity"] for each in told) == ["m0", "m1", "m2"]
    for each in told:
        assert each["summary"].startswith(f"{each['entity']}: load has no value any more, and 1 more with it (since ")
    assert any("alerts.silence" in each for each in made.replace(alerts=type(made.alerts)()).harmful_combinations())


def test_the_operators_pass_them_through() -> None:
    flow, found, rows = Dataflow("d"), list[Any](), documents(60)
    watched = sop.monitor("m", op.input("in", flow, TestingSource(rows)), config())
    op.output("out", watched.predictions, TestingSink(found))
    run_main(flow)
    assert sorted((each.ts, each.idle) for each in found) == [(1000 * row["ts"], is_idle(row)) for row in rows]
    assert all(math.isnan(each.yhat) for each in found if each.idle)


def test_the_live_page_keeps_the_heat_of_an_entity_that_stands_still() -> None:
    made = config()
    engine, cache = Engine(made), EntityCache()
    for start in range(0, 400, 20):
        events = EventReader(made.event).read(documents(400)[start : start + 20])[0]
        cache.observe(0, events, engine.process(events)[0])
        cache.merge()
    assert cache.merged > 0
    assert np.isfinite(cache.heat[: len(cache.names)]).all()


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_the_service_passes_them_through(kafka: Kafka, tmp_path: Path, delivery: str) -> None:
    """Across a restart, and with conditions on fields that are no inputs."""
    if kafka.kind == "mock" and delivery == "exactly_once":
        pytest.skip("the mock cluster has no transactions")
    job = Job(kafka, tmp_path / "job", kafka.topic("events", 1))
    content = orjson.loads(job.path.read_bytes())
    content["event"] |= {"when": {"state": ["running"], "a": {"above": 1}}, "quality": {"column": "q"}}
    content["alerts"] = {"limits": [{"column": "level", "above": 5}]}
    content["delivery"] = delivery
    job.path.write_bytes(orjson.dumps(content))
    rows = documents(120)
    for start in (0, 60):
        values = [
            {"entity": row["m"], "ts": row["ts"], "a": row["load"], "b": 1, "target": row["y"], "state": row["state"]}
            | {"q": "good", "level": row["speed"] + 2}
            for row in rows[start : start + 60]
        ]
        kafka.produce(job.topic, [(row["entity"].encode(), orjson.dumps(row)) for row in values])
        job.run()
    read = [json.loads(message.value() or b"") for message in kafka.read(job.predictions)]
    read.sort(key=lambda each: each["ts"])
    assert [each["idle"] for each in read] == [row["state"] != "running" for row in rows]
    assert all((each["yhat"] is None) is each["idle"] for each in read)
    alerts = [json.loads(message.value() or b"") for message in kafka.read(job.alerts)]
    assert {each["limit"] for each in alerts if each["kind"] == "limit"} == {"level above 5"}


AWAY = """
source: {brokers: "x:1", topic: t}
event: {entity: e, timestamp: t, target: y, features: [a], lags: 1, when: {s: [run]}}
model: {warmup: 10}
state: {ttl: 30m}
"""


def minute(name: str, t: int, *, runs: bool = True, off: float = 0.0) -> dict[str, Any]:
    a = (7 * t % 5) / 5
    return {"e": name, "t": 60 * t, "a": a, "y": 5 + 2 * a + (13 * t % 7) / 50 + off, "s": "run" if runs else "stop"}


def away(*, stopped_before: bool, restarts: int) -> list[dict[str, Any]]:
    """One of two machines is away for longer than its TTL, and stops and starts again then."""
    out = [minute(name, t) for t in range(20) for name in ("m1", "m0")]
    if stopped_before:
        out.append(minute("m1", 20, runs=False))
        out += [minute(name, t) for t in range(21, 40) for name in ("m1", "m0")]
    out += [minute("m0", t) for t in range(40, 300)]
    out.append(minute("m1", 300, runs=False))
    out += [minute(name, t) for t in range(301, 330) for name in ("m1", "m0")]
    for start in range(330, 330 + 40 * restarts, 40):
        out.append(minute("m1", start, runs=False))
        out += [minute(name, start + t, off=4.0 * (t in (2, 9))) for t in range(2, 40) for name in ("m1", "m0")]
    return out


@pytest.mark.parametrize("stopped_before", [False, True])
def test_neither_batches_nor_snapshots_change_restarts_after_an_absence(*, stopped_before: bool) -> None:
    events = away(stopped_before=stopped_before, restarts=2)
    found = []
    for size, every in ((len(events), 0), (1, 0), (1, 1), (7, 3), (50, 1)):
        engine, rows, alerts = PublicEngine(parse_config(AWAY)), [], []
        for i in range(0, len(events), size):
            run = engine.run(events[i : i + size])
            rows += [(each.entity, each.n, each.yhat, each.anomaly_score, each.y) for each in run.predictions]
            alerts += run.alerts
            if every and i // size % every == 0:
                engine = PublicEngine.restore(parse_config(AWAY), engine.snapshot())
        found.append((repr(rows), [each["phase"] for each in alerts]))
    assert all(each == found[0] for each in found)


def test_an_event_by_itself_after_the_condition_went() -> None:
    engine = PublicEngine(parse_config(AWAY))
    engine.run([minute("m0", t, runs=t < 60) for t in range(70)])
    state, without = engine.snapshot(), parse_config(AWAY.replace(", when: {s: [run]}", ""))
    one, several = (PublicEngine.restore(without, state) for _ in range(2))
    events = [minute("m0", 70, off=3.0), minute("m0", 71)]
    found = [one.run(event).predictions[0] for event in events]
    assert [(each.yhat, each.anomaly_score) for each in found] == [
        (each.yhat, each.anomaly_score) for each in several.run(events).predictions
    ]
