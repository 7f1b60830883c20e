"""`target: all`: every signal is watched by itself and by the others, with one alert and one budget for an entity."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
import pytest
from engines import assert_same_bits, config, run
from numpy.typing import NDArray
from test_init import ssm_stream

from ssm_stream.autoconfig.drivers import Sample, find_drivers
from ssm_stream.config import Config, ConfigError, load_config
from ssm_stream.contract.message_schemas import alert_schema
from ssm_stream.engine.engine import Engine
from ssm_stream.engine.explain import explain_recorded
from ssm_stream.evaluate.notebook import Engine as NotebookEngine
from ssm_stream.evaluate.prequential import prequential
from ssm_stream.evaluate.recordings import Recording
from ssm_stream.ingest.events import EventReader, Events

SIGNALS = ["load", "temp", "vibration"]
ALL = f"features: [{', '.join(SIGNALS)}], target: all, categories: [product]"
SIGNALS_OF_FIVE = [f"s{j}" for j in range(5)]
Floats = NDArray[np.float64]


def documents(n: int = 900, machines: int = 3) -> list[dict[str, Any]]:
    rng, out = np.random.default_rng(0), []
    for i in range(n):
        load = float(rng.normal(50, 5))
        out.append({
            "e": f"m{i % machines}", "t": 60 * i, "product": "AB"[i // 100 % 2], "load": load, "ambient": i % 97 / 10,
            "temp": None if i % 50 == 7 else 20 + 0.5 * load + float(rng.normal(0, 0.3)),
            "vibration": 1 + 0.02 * load + float(rng.normal(0, 0.05)) + (3 if i == 700 else 0),
        })  # fmt: skip
    return out


def read(settings: Config, rows: list[dict[str, Any]]) -> Events:
    events, refused = EventReader(settings.event).read(rows)
    assert not refused
    return events


# What it means.


@pytest.mark.parametrize("inputs", [None, ["load"], [], ["load", "ambient"], ["ambient"]])
def test_each_signal_is_predicted_as_by_an_engine_of_its_own(inputs: list[str] | None) -> None:
    more = "" if inputs is None else f", inputs: [{', '.join(inputs)}]"
    off = "alerts: {fleet: {enabled: false}}"
    both, rows = config(ALL + more, off), documents()
    assert both.event.targets == SIGNALS
    engine, events = Engine(both), read(both, rows)
    assert events.target.shape == (900, 3)
    predicted, alerts = run(engine, events)
    assert {alert.message["target"] for alert in alerts} >= {"vibration"}
    for j, path in enumerate(SIGNALS):
        others = [name for name in (SIGNALS if inputs is None else inputs) if name != path]
        share = both.for_target(path).alerts
        assert share.anomaly.budget.events == 30_000
        assert share.drift.budget.events == 30_000
        alone = config(f"features: [{', '.join(others)}], target: {path}, categories: [product]").replace(alerts=share)
        single = Engine(alone)
        known = np.isfinite(events.target).mean(axis=1)  # they alone share an event's part of the budget
        its, _ = run(single, replace(read(alone, rows), share=known))
        assert_same_bits({name: np.ascontiguousarray(values[:, j]) for name, values in predicted.items()}, its)
        for name in single.names:
            assert single.state_hash(name) == engine.state_hash(name, target=path)


@pytest.mark.parametrize("budget", ["1 per 2000 events", "1 per 2d"])
def test_signals_that_a_machine_lacks_take_nothing_of_its_budget(budget: str) -> None:
    """In a plant with kinds of machines most columns are of others: a dryer has 2 of them, a compressor 6."""
    alerts = f"alerts: {{anomaly: {{budget: {budget}}}, drift: {{budget: {budget}}}}}"
    own, rows = ["load", "temp"], documents(machines=1)
    two = config(f"features: [{', '.join(own)}], target: all, inputs: []", alerts)
    eight = config(f"features: [{', '.join([*own, *'pqrsuv'])}], target: all, inputs: []", alerts)
    few, many = Engine(two).process(read(two, rows))[0], Engine(eight).process(read(eight, rows))[0]
    assert np.isnan(read(two, rows).target).any(), "at times the machine lacks one of its own, too"
    assert np.count_nonzero(few.score) > 500
    np.testing.assert_array_equal(many.score[:, :2], few.score)


def test_signals_that_come_in_turns_share_a_budget_in_time_as_one_in_events() -> None:
    """At an event a minute 1 per 2 d are 1 per 2,880 events, though each signal has a value every two minutes only."""
    y = np.random.default_rng(0).normal(size=(2_000, 2))
    turns = np.where(np.arange(2_000)[:, None] % 2 == [0, 1], y, np.nan)
    events = Events(["m"] * 2_000, np.arange(2_000) * 60_000, np.empty((2_000, 0)), turns, np.arange(2_000))
    scores = []
    for budget in ("1 per 2d", "1 per 2880 events"):
        alerts = f"alerts: {{anomaly: {{budget: {budget}}}, drift: {{budget: {budget}}}}}"
        engine = Engine(config("features: [load, temp], target: all, inputs: []", alerts))
        scores.append(engine.process(events)[0].score)
    assert np.count_nonzero(scores[0]) > 1_000
    np.testing.assert_allclose(*scores, rtol=1e-5)


def test_single_events_without_some_of_the_targets_are_judged_as_in_batches() -> None:
    settings = config("features: [load, temp, vibration], target: all, inputs: []")
    rows = [row if i % 3 else row | {"load": None, "temp": None} for i, row in enumerate(documents())]
    whole = Engine(settings).process(read(settings, rows))[0]
    streamed = NotebookEngine(settings)
    found = [[p.anomaly_score for p in streamed.run(row).predictions] for row in rows]
    assert np.array(found).tobytes() == whole.score.tobytes()


def test_one_event_at_a_time_batches_and_restores_give_the_same() -> None:
    settings = config(ALL + ", inputs: [load, ambient, temp]")
    events = read(settings, documents())
    whole, alerts = run(Engine(settings), events)
    engine = Engine(settings)
    for start in range(0, 900, 225):
        part = events.take(np.arange(start, start + 225))
        for row in range(225):
            p, _ = engine.process(part.take(np.array([row])))
            assert p.yhat.tobytes() == whole["yhat"][start + row : start + row + 1].tobytes()
        engine = Engine.restore(settings, engine.snapshot())
    assert alerts
    streamed = NotebookEngine(settings)
    found = [streamed.run(document) for document in documents()]
    values = [[p.yhat for p in each.predictions] for each in found]
    assert np.array(values).tobytes() == whole["yhat"].tobytes()


def test_an_alert_on_a_level_names_the_signal_that_moved_in_all_its_fields() -> None:
    """Each signal's detector watches the others: what they find in one of them is about that one."""
    settings = config(f"features: [{', '.join(SIGNALS_OF_FIVE)}], target: all")
    y = correlated(1_640, 5, 3)
    y[1_500:, 3] += 0.3 * y[0, 3] * np.random.default_rng(1).normal(size=140)  # its steps are many times as large
    events = Events(["m"] * len(y), np.arange(len(y)) * 300_000, np.empty((len(y), 0)), y, np.arange(len(y)))
    found = run(Engine(settings), events)[1]
    levels = [a for a in found if a.message["channel"] == "levels" and a.message["phase"] != "recovered"]
    moved = [a.message["contributions"][0]["feature"].removeprefix("steps(").removesuffix(")") for a in levels]
    assert "s3" in moved
    for alert, column in zip(levels, moved, strict=True):
        m = alert.message
        assert (m["target"], m["y"]) == (column, y[alert.row, SIGNALS_OF_FIVE.index(column)])
        assert m["target"] in [each["target"] for each in m["targets"]]
        assert m["summary"].startswith(f"m: {column} ")
    streamed, one_by_one = NotebookEngine(settings), []
    for i, row in enumerate(y):
        done = streamed.run({"e": "m", "t": 300 * i, **dict(zip(SIGNALS_OF_FIVE, row.tolist(), strict=True))})
        one_by_one += [dict(each) for each in done.alerts]
    assert [(m["target"], m["y"], m["summary"]) for m in one_by_one] == [
        (a.message["target"], a.message["y"], a.message["summary"]) for a in found
    ]


def test_a_prediction_is_explained_by_the_other_signals() -> None:
    settings = config(ALL)
    found, _ = explain_recorded(settings, documents(), "m1", target="temp")
    assert (found.entity, found.target, found.name) == ("m1", "temp", "m1, temp")
    names = {part.feature for part in found.parts}
    assert {"load", "vibration"} <= names
    assert "temp" not in names


def test_alerts_keep_to_their_schema() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    settings = config(ALL)
    alerts = run(Engine(settings), read(settings, documents()))[1]
    schema = alert_schema(settings)
    for i, alert in enumerate(alerts):
        body = {**alert.message, "source": {"topic": "events", "partition": 0, "offset": i}}
        jsonschema.validate(orjson.loads(orjson.dumps({**body, "id": f"events-0-{i}-{body['kind']}"})), schema)
    assert alerts


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ("features: auto, target: all", "list the signals in `features`"),
        ("target: all", "found all with features: 0 features"),
        ("features: [a], target: all", "2 to 64"),
        ("features: [a, b], categories: [c], target: all, inputs: [c]", "['c'] named twice"),
        ("features: [a, b], target: all, inputs: [t]", "['t'] is the entity or the time"),
        ("features: [a, b], target: all, inputs: [a, a]", "named twice"),
        ("features: [a, b], target: y, inputs: [a]", "only with `target: all`"),
        ("features: [a, b], target: all, inputs: [a], lags: 0, calendar: []", "nothing to predict ['a'] from"),
    ],
)
def test_what_cannot_be_is_refused_in_words(event: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config(event)
    assert words in str(caught.value)


def test_other_configurations_keep_their_hash_and_inputs_count() -> None:
    assert config("features: [a, b], target: all").hash != config("features: [a, b], target: all, inputs: [a]").hash
    assert "inputs" not in config("features: [a]").model_settings["event"]


# One budget for all, and a large fault in one of them.


def correlated(n: int, signals: int, seed: int) -> Floats:
    """Signals with a common daily cycle and a common slow part, each with noise of 3 % of its own."""
    rng = np.random.default_rng(seed)
    common = np.zeros(n)
    for i in range(1, n):
        common[i] = 0.95 * common[i - 1] + rng.normal()
    cycle = 3 * np.sin(2 * np.pi * np.arange(n) / 288)
    base = rng.uniform(20, 80, signals)
    return np.asarray(base + (cycle + common)[:, None] + 0.03 * base * rng.normal(size=(n, signals)))


def watched(y: Floats, inputs: str = "") -> list[dict[str, Any]]:
    names = [f"s{j}" for j in range(y.shape[1])]
    settings = config(f"features: [{', '.join(names)}], target: all{inputs}")
    n = len(y)
    events = Events(["m"] * n, np.arange(n) * 300_000, np.empty((n, 0)), y, np.arange(n))
    return [{**alert.message, "row": alert.row} for alert in run(Engine(settings), events)[1]]


@pytest.mark.parametrize("signals", [2, 6, 20])
@pytest.mark.parametrize("inputs", ["", ", inputs: [s1]"])
def test_a_drop_by_nine_tenths_in_one_signal_alarms(signals: int, inputs: str) -> None:
    """Nearly always at once, though each of 20 signals has a twentieth of the budget; where noise hides it, soon."""
    delays = []
    for seed in range(12):
        y = correlated(1_560, signals, seed)
        y[1_500:, 0] *= 0.1
        found = [m["row"] - 1_500 for m in watched(y, inputs) if m["row"] >= 1_500 and m["phase"] != "recovered"]
        delays.append(found[0] if found else 60)
    assert sum(delay <= 3 for delay in delays) >= 10, delays
    assert sum(delay <= 30 for delay in delays) >= 11, delays


def test_the_budget_is_that_of_the_entity_not_of_each_signal() -> None:
    """1 per 10,000 events of each kind: 20 signals in 4 × 5,000 events may start 4 in the mean."""
    started = sum(
        m["phase"] == "started" for seed in range(4) for m in watched(correlated(5_000, 20, seed), ", inputs: []")
    )
    assert started <= 10


# Drivers and symptoms.


def pumps(weeks: int = 9, machines: int = 3, seed: int = 0, fault: bool = True) -> pl.DataFrame:
    """A row every ten minutes: load by shifts, ambient, current, vibration, temp.

    From the 14th day before the end to the 4th the bearing of pump-1 wears: vibration + 60 %, temp + 4 °C.
    """
    rng = np.random.default_rng(seed)
    n = weeks * 7 * 144
    hour, columns = np.arange(n) % 144 / 6, list[pl.DataFrame]()
    slow = np.zeros(n)
    for i in range(1, n):
        slow[i] = 0.998 * slow[i - 1] + 0.3 * rng.normal()
    ambient = 18 + 5 * np.cos(2 * np.pi * (hour - 15) / 24) + slow
    first, last = n - 14 * 144, n - 4 * 144
    for machine in range(machines):
        noise = np.zeros(n)
        for i in range(1, n):
            noise[i] = 0.8 * noise[i - 1] + 2 * rng.normal()
        day = np.repeat(rng.normal(size=n // 144), 144)
        load = np.where((hour >= 6) & (hour < 22), 75.0, 45.0) + 5 * day + noise
        wear = np.clip((np.arange(n) - first) / (last - first), 0, 1) * (fault and machine == 0)
        temp, aim = np.empty(n), ambient + 12 + 0.25 * load + 4 * wear
        temp[0] = aim[0]
        for i in range(1, n):
            temp[i] = temp[i - 1] + 0.1 * (aim[i] - temp[i - 1])
        vibration = (1 + 0.016 * load) * (1 + 0.6 * wear) * np.exp(0.05 * rng.normal(size=n))
        frame = {
            "time": 1_772_409_600 + 600 * np.arange(n), "pump": [f"pump-{machine + 1}"] * n, "load": load.round(1),
            "ambient": (ambient + 0.1 * rng.normal(size=n)).round(1),
            "current": ((4 + 0.11 * load) * np.exp(0.01 * rng.normal(size=n))).round(2),
            "vibration": vibration.round(2), "temp": (temp + 0.2 * rng.normal(size=n)).round(1),
        }  # fmt: skip
        columns.append(pl.DataFrame(frame))
    return pl.concat(columns).sort("time", "pump")


@pytest.mark.parametrize("seed", range(3))
def test_drivers_explain_the_others_and_symptoms_add_nothing(seed: int) -> None:
    frame = pumps(weeks=3, seed=seed, fault=False)
    names = ["load", "ambient", "current", "vibration", "temp"]
    groups = [np.flatnonzero((frame["pump"] == f"pump-{i}").to_numpy()) for i in (1, 2, 3)]
    ts = frame["time"].to_numpy() * 1000
    sample = Sample({name: frame[name].cast(pl.Float64).to_numpy() for name in names}, groups, ts)
    for targets in ([], ["temp"], ["vibration"]):
        found = find_drivers(sample, targets)
        assert found is not None
        assert found.chosen[:1] == ["load"]
        assert "vibration" not in found.chosen
        assert {"current", "vibration"} - {*targets} <= set(found.symptoms())


def test_noise_has_no_drivers_and_a_small_sample_none_that_are_known() -> None:
    rng = np.random.default_rng(0)
    noise = {name: rng.normal(size=2_000) for name in "abcd"}
    rows = [np.arange(2_000)]
    found = find_drivers(Sample(noise, rows, np.arange(2_000) * 60_000))
    assert found is not None
    assert (found.chosen, found.symptoms()) == ([], [])
    few = {name: x[:100] for name, x in noise.items()}
    assert find_drivers(Sample(few, [np.arange(100)], np.arange(100) * 60_000)) is None


def test_a_small_part_of_a_large_number_is_a_signal() -> None:
    load = np.random.default_rng(0).normal(size=2_000)
    signals = {"load": load, "freq": 1e10 + load, "power": 3.0 * load, "rounding": 0.3 + 1e-17 * load}
    found = find_drivers(Sample(signals, [np.arange(2_000)], np.arange(2_000) * 60_000))
    assert found is not None
    assert {*found.chosen, *found.followed} == {"load", "freq", "power"}


def bearing_alerts(settings: Config, file: Path) -> list[dict[str, Any]]:
    """The alerts that start on pump-1 in the days of its fault."""
    first = (1_772_409_600 + 600 * (9 * 7 - 14) * 144) * 1000
    off = settings.alerts.fleet.model_copy(update={"enabled": False})
    settings = settings.replace(alerts=settings.alerts.model_copy(update={"fleet": off}))
    found = [alert.message for chunk in prequential(settings, Recording(file)) for alert in chunk.alerts]
    return [m for m in found if m["entity"] == "pump-1" and m["ts"] >= first and m["phase"] == "started"]


def test_init_keeps_symptoms_out_and_what_it_writes_finds_a_slow_bearing_fault(tmp_path: Path) -> None:
    file, out, calm = tmp_path / "pumps.csv", tmp_path / "monitor.yaml", tmp_path / "calm.csv"
    pumps().write_csv(file)
    pumps(fault=False).write_csv(calm)
    made = json.loads(ssm_stream("init", file, "--out", out, "--target", "temp", "--json").stdout)
    assert made["event"]["features"] == ["ambient", "load"]
    assert made["left_out"]["vibration"].startswith("follows load")
    assert "symptom" in made["left_out"]["vibration"]
    assert any("--target all" in note for note in made["notes"])

    result = ssm_stream("init", file, "--out", out, "--force", "--target", "all")
    assert "inputs      load, ambient: they explain the others" in result.stderr
    settings = load_config(out)
    assert settings.event.watches_all
    assert settings.event.targets == ["ambient", "current", "load", "temp", "vibration"]
    assert settings.event.inputs == ["load", "ambient"]
    assert "# they explain the others" in out.read_text()
    found = bearing_alerts(settings, file)
    assert any("vibration" in m["summary"] or "temp" in m["summary"] for m in found)
    before = {(m["ts"], m["kind"]) for m in bearing_alerts(settings, calm)}
    assert any((m["ts"], m["kind"]) not in before for m in found)


def test_init_of_modes_counters_and_too_few_signals(tmp_path: Path) -> None:
    rng, file, out = np.random.default_rng(0), tmp_path / "rows.jsonl", tmp_path / "monitor.yaml"
    rows = [
        {"machine": "a", "ts": 60 * i, "mode": i // 50 % 3, "on": i % 2 == 0, "cycle": i, "hour": i / 60 % 24,
         "x": float(rng.normal()), "z": float(rng.normal())}
        for i in range(600)
    ]  # fmt: skip
    file.write_bytes(b"\n".join(map(orjson.dumps, rows)))
    assert ssm_stream("init", file, "--out", out, "--target", "all").exit_code == 0
    event = load_config(out).event
    assert (event.targets, event.inputs, sorted(event.categories)) == (["x", "z"], [], ["mode", "on"])
    file.write_bytes(b"\n".join(orjson.dumps({key: row[key] for key in ("machine", "ts", "x")}) for row in rows))
    result = ssm_stream("init", file, "--out", out, "--force", "--target", "all")
    assert result.exit_code == 2
    assert "found 1 signals (x), and needs two" in result.stderr


def test_a_null_signal_is_unknown_to_the_others_and_not_learned() -> None:
    settings = config("features: [a, b], target: all")
    rng = np.random.default_rng(0)
    a = rng.normal(size=400)
    y = np.stack([a, 2 * a + 0.1 * rng.normal(size=400)], 1)
    events = Events(["m"] * 400, np.arange(400) * 1000, np.empty((400, 0)), y, np.arange(400))
    engine = Engine(settings)
    run(engine, events)
    before = engine.state_hash("m", target="b")
    last = replace(events.take(np.array([0])), ts=np.array([500_000]), target=np.array([[5.0, np.nan]]))
    predicted, _ = run(engine, last)
    assert predicted["yhat"][0, 1] == pytest.approx(10.0, abs=2.0), "of b, from a"
    assert abs(predicted["yhat"][0, 0]) < 1.0, "of a, without b"
    assert engine.state_hash("m", target="b") == before
