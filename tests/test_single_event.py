"""Events that are dicts: one at a time, in lists and in frames they give the same bits; values that JSON lacks."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import math
import pickle
import random
import subprocess
import sys
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssm_stream import Engine, Prediction
from ssm_stream.config import Config, parse_config
from ssm_stream.ingest.events import EventReader
from ssm_stream.ingest.single_event import SingleEventReader

ALERTS = "alerts: {anomaly: {budget: 1 per 100 events}, drift: {budget: 1 per 200 events}}\n"
FAST = {
    "plain": ("features: [a, b], target: y", ""),
    "categories": ("features: [a, b], categories: [c], target: y", ""),
    "several targets": ("features: [a], target: [y, b]", ""),
    "each alone": ("features: [a, b], target: y", "model: {fleet: false}\n"),
    "shards": ("features: [a, b], target: y", "state: {shards: 3}\n"),
    "zone and cycles": (
        "features: [a], target: y, time_zone: Europe/Berlin, calendar: [hour_cycle, weekday_cycle, hour]",
        "",
    ),
    "zone": ("features: [a], target: y, time_zone: Asia/Kolkata, calendar: [hour, weekday]", ""),
    "expiry": ("features: [a, b], categories: [c], target: y", "state: {ttl: 30m}\n"),
    "nested": ("features: [in.a, in.b], target: in.y", ""),
    "derived": (
        "features: [a], target: y, derive: {r: {ratio: [a, b]}, m: {rolling_mean: y, over: 3, lag: 1}, l: {log: b}}",
        "state: {ttl: 30m}\n",
    ),
    "derived of several targets": ("target: [y, b], derive: {m: {product: [a, y], lag: 2}}", ""),
    "default entity": ("features: [a], target: y, entity_default: one", ""),
}
SLOW = {
    "horizon": ("features: [a, b], target: y", "model: {horizon: 5 events}\n"),
    "horizon in time": ("features: [a, b], target: y", "model: {horizon: 10m}\n"),
    "limit": ("features: [a, b], target: y", "state: {max_entities: 2}\n"),
    "derived with a limit": (
        "features: [a], target: y, derive: {m: {rolling_mean: b, over: 4}}",
        "state: {max_entities: 2, when_full: evict}\n",
    ),
    "derived ahead": ("target: y, derive: {m: {rolling_mean: b, over: 4}}", "model: {horizon: 5 events}\n"),
    "refusing limit": ("features: [a, b], target: y", "state: {max_entities: 2, when_full: refuse}\n"),
}
"""One event is processed as a batch: targets are delayed, or entities limited."""


def config(name: str) -> Config:
    event, more = (FAST | SLOW)[name]
    return parse_config(
        f"source: {{brokers: 'x:1', topic: t}}\nevent: {{entity: e, timestamp: t, {event}}}\n{more}{ALERTS}"
    )


def documents(n: int, seed: int, *, nested: bool = False) -> list[dict[str, Any]]:
    """A lively stream: jumps that alert, missing and null values, texts, whole numbers, times in each notation."""
    rng, out = random.Random(seed), []
    for i in range(n):
        a, b, c = rng.gauss(0, 1), float(rng.randrange(4)), rng.choice(["red", "grün", "blue", "x" * 9])
        y = 5 + 2 * a - b + {"r": 1.0}.get(c[0], 0) + rng.gauss(0, 0.2) + 30 * (rng.random() < 0.01)
        y -= 6 * a * (i > n // 2)
        t = 1_700_000_000 + 60 * i + rng.randrange(-90, 90)
        time = rng.choice([t, t * 1000.0, datetime.datetime.fromtimestamp(t, datetime.UTC).isoformat(), float(t)])
        values = {"a": rng.choice([a, a, round(a)]), "b": b, "c": c, "y": y}
        for key in list(values):
            if rng.random() < 0.05:
                values[key] = None
            elif rng.random() < 0.03:
                del values[key]
        where = {"in": values} if nested else values
        out.append({"t": time, **where, **({} if i % 50 == 7 else {"e": f"m{rng.randrange(4)}"})})
    return out


def exact(predictions: list[Prediction]) -> list[tuple[Any, ...]]:
    """The records without their rows, numbers by their bits."""
    return [tuple(v.hex() if isinstance(v, float) else v for v in p[1:]) for p in predictions]


@pytest.mark.filterwarnings("ignore:.* are no events")
@pytest.mark.parametrize("name", [*FAST, *SLOW])
@settings(max_examples=4)
@given(seed=st.integers(0, 2**32), cuts=st.lists(st.integers(0, 300), max_size=6))
def test_any_cuts_of_the_same_events_give_the_same_bits(name: str, seed: int, cuts: list[int]) -> None:
    events = documents(300, seed, nested=name == "nested")
    whole = Engine(config(name))
    expected = whole.run(events)
    single, parts = Engine(config(name)), Engine(config(name))
    ones = [single.run(event) for event in events]
    assert exact([p for one in ones for p in one.predictions]) == exact(expected.predictions)
    assert [a for one in ones for a in one.alerts] == [{**alert, "row": 0} for alert in expected.alerts]
    assert [r[1:] for one in ones for r in one.refused] == [r[1:] for r in expected.refused]
    edges = sorted({0, *cuts, 300})
    pieces = [parts.run(events[i:j]) for i, j in itertools.pairwise(edges)]
    assert exact([p for piece in pieces for p in piece.predictions]) == exact(expected.predictions)
    for entity in whole.names:
        assert single.state_hash(entity) == parts.state_hash(entity) == whole.state_hash(entity)


@pytest.mark.parametrize("name", FAST)
def test_most_single_events_need_no_arrays(name: str) -> None:
    engine, reader = Engine(config(name)), SingleEventReader(config(name).event)
    events = documents(300, 1, nested=name == "nested")
    with pytest.warns(UserWarning, match="no events") if name != "default entity" else contextlib.nullcontext():
        engine.run(events[:200])
    reader.read(events[:200])
    fast = [event for event in map(reader.read_one, events[200:]) if event and engine.process_one(event) is not None]
    assert len(fast) > 70


def test_alerts_come_with_the_event_and_are_not_kept() -> None:
    engine = Engine(config("plain"))
    alerts = [alert for event in documents(6000, 2) if "e" in event for alert in engine.run(event).alerts]
    assert {alert["kind"] for alert in alerts} == {"anomaly", "drift"}
    assert engine.alerts == []


@settings(max_examples=150)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            name: st.one_of(
                st.none(), st.booleans(), st.floats(), st.integers(), st.text(max_size=5), st.just("red"), st.just([1]),
                st.integers(10**300, 10**310), st.just("2026-01-31T12:00:00Z"), st.just("\ud800"), st.just("y" * 600),
            )
            for name in ("e", "t", "a", "b", "c", "y")
        },
    )
)  # fmt: skip
def test_one_document_is_read_as_many_are(document: dict[str, Any]) -> None:
    reader = SingleEventReader(config("categories").event)
    reader.read([{"e": "m", "t": 1, "c": "red", "y": 1}])  # so that the code of a text is known
    events, refused = EventReader(config("categories").event).read([document])
    event = reader.read_one(document)
    if event is None:  # left to `read`: whatever is refused, and what is unusual
        return
    assert not refused
    assert (event.entity, event.ts) == (events.entity[0], int(events.ts[0]))
    assert np.array(event.features).tobytes() == events.features[0].tobytes()
    assert np.array(event.targets).tobytes() == events.target.tobytes()
    assert event.texts == events.category_texts


def test_values_that_json_does_not_have() -> None:
    when = datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.UTC)
    as_json = {"e": "m", "t": "2026-01-31T12:00:00Z", "a": 1.5, "b": None, "y": 2}
    in_python = {"e": "m", "t": when, "a": np.float32(1.5), "b": math.nan, "y": np.int64(2), "more": object()}
    expected = Engine(config("plain")).run(as_json).predictions
    for time in (when, np.datetime64("2026-01-31T12:00:00")):
        assert exact(Engine(config("plain")).run({**in_python, "t": time}).predictions) == exact(expected)
        assert exact(Engine(config("plain")).run([{**in_python, "t": time}]).predictions) == exact(expected)


def test_what_is_no_event_is_refused_with_a_warning_and_its_reason() -> None:
    engine = Engine(config("plain"))
    with pytest.warns(UserWarning, match="1 of 1 documents are no events .WrongType 1.; the first: `a` must be a num"):
        results = engine.run({"e": "m", "t": 1, "a": "high", "y": 1})
    assert results.predictions == []
    assert results.refused == engine.refused
    good = {"e": "m", "t": 1, "a": 1, "y": 1}
    with pytest.warns(UserWarning, match="2 of 4 documents"):
        results = engine.run([good, {"e": "m"}, good, []])
    assert [p.row for p in results.predictions] == [0, 2]
    assert [r.position for r in results.refused] == [1, 3]
    assert engine.run(good).refused == engine.refused == []


def test_records_have_the_fields_of_a_prediction_message() -> None:
    (prediction,) = Engine(config("plain")).run({"e": "m", "t": 1, "a": 1}).predictions
    names = ["entity", "ts", "y", "yhat", "yhat_lower", "yhat_upper", "anomaly_score", "warmup", "n", "fleet"]
    assert list(prediction.to_dict()) == names
    assert prediction.y is None
    assert prediction.to_json().startswith(b'{"entity":"m","ts":1000,"y":null,"yhat":0.0')
    (ahead,) = Engine(config("horizon in time")).run([{"e": "m", "t": 1, "a": 1}]).predictions
    assert ahead.to_dict()["for"] == 601_000
    several = Engine(config("several targets")).run({"e": "m", "t": 1, "b": 1}).predictions
    assert [p.to_dict()["target"] for p in several] == ["y", "b"]


def test_dicts_and_frames_of_the_same_events_are_the_same() -> None:
    rows = [
        {"e": f"m{i % 3}", "t": 60 * i, "a": math.sin(i), "b": float(i % 4), "y": 3 * math.sin(i) + i % 4}
        for i in range(400)
    ]
    frame = Engine(config("plain")).run(pl.DataFrame(rows))
    engine = Engine(config("plain"))
    predictions = [prediction for row in rows for prediction in engine.run(row).predictions]
    assert frame["yhat"].to_list() == [p.yhat for p in predictions]
    assert frame["anomaly_score"].to_list() == [p.anomaly_score for p in predictions]


def test_an_engine_can_be_pickled() -> None:
    events = documents(400, 5)
    engine = Engine(config("categories"))
    with pytest.warns(UserWarning, match="are no events"):
        engine.run(events[:200])
    other = pickle.loads(pickle.dumps(engine))
    for event in events[200:]:
        if "e" in event:
            assert exact(other.run(event).predictions) == exact(engine.run(event).predictions)


def test_dicts_need_neither_narwhals_nor_polars() -> None:
    script = """
import sys
sys.modules["narwhals"] = sys.modules["polars"] = None
from ssm_stream import Engine
engine = Engine('''
source: {brokers: "x:1", topic: t}
event: {entity: e, timestamp: t, features: [a], target: y}
''')
print(len(engine.run({"e": "m", "t": 1, "a": 1, "y": 2}).predictions))
"""
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "1\n"
