"""The pilot report: figures against cases done by hand, the verdict at its thresholds, a page that is safe to open."""

from __future__ import annotations

import json
import math
import re
import string
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from ssm_stream.cli.app import app
from ssm_stream.config import Config, ConfigError, parse_config
from ssm_stream.core import native
from ssm_stream.engine.engine import Engine
from ssm_stream.evaluate.alarm_matching import Alarm, match
from ssm_stream.evaluate.bootstrap import Bootstrap
from ssm_stream.evaluate.engine_run import EngineRun, run_engine
from ssm_stream.evaluate.pilot import alarm_figures
from ssm_stream.evaluate.pilot.alarm_tally import HOUR, cut_blocks, judge_events, tally
from ssm_stream.evaluate.pilot.baselines import baselines
from ssm_stream.evaluate.pilot.costs import Costs, read_costs
from ssm_stream.evaluate.pilot.detectors import LAMBDA, adwin_flags, detect, episode_starts, signals
from ssm_stream.evaluate.pilot.evaluation import Pilot, PilotOptions, run_pilot
from ssm_stream.evaluate.pilot.format import paragraph
from ssm_stream.evaluate.pilot.page import page
from ssm_stream.evaluate.pilot.quality import quality
from ssm_stream.evaluate.pilot.split import split_run
from ssm_stream.evaluate.pilot.variants import frozen_config, predict_frozen, with_budget
from ssm_stream.evaluate.pilot.verdict import checks, grade, sentences
from ssm_stream.evaluate.pilot.words import words
from ssm_stream.evaluate.recordings import Recording
from ssm_stream.evaluate.recordings.files import RecordingError
from ssm_stream.evaluate.report.chart import envelope
from ssm_stream.evaluate.report.texts import LANGUAGES
from ssm_stream.evaluate.true_events import TrueEvent, read_true_events

START = 1_760_000_000_000 - 1_760_000_000_000 % 86_400_000  # a midnight
HOURLY = int(HOUR)
NAME = "<img src=x onerror=alert(1)>&\"'"


def settings(more: str = "", event: str = "features: [a], lags: 2") -> Config:
    return parse_config(
        f"source: {{brokers: b, topic: t}}\nevent: {{entity: e, timestamp: ts, target: y, {event}}}\n{more}"
    )


def stream(n: int = 1_500, names: tuple[str, ...] = ("m0", "m1", NAME), seed: int = 0) -> list[dict[str, Any]]:
    """Hourly rows; the relation of m0 changes at two thirds, m1 has spikes.

    Drift is looked for from an entity's 500th error on, by 300 events more: hence the length.
    """
    rng = np.random.default_rng(seed)
    rows = []
    a = rng.normal(size=(n, len(names)))
    noise = 0.2 * rng.normal(size=(n, len(names)))
    for i in range(n):
        for j, name in enumerate(names):
            slope = -3.0 if j == 0 and i > 2 * n // 3 else 2.0
            y = 10.0 + slope * a[i, j] + noise[i, j]
            if j == 1 and i in SPIKES:
                y += 15.0
            rows.append({"e": name, "ts": START + HOURLY * i, "a": float(a[i, j]), "y": float(y)})
    return rows


AT_ONCE = "alerts: {fleet: {wait: 0}}\n"
"""An event is an hour, by which an alert that waits for others would come later."""
SPIKES = (480, 640, 800, 960, 1_120, 1_280)


def spikes() -> list[TrueEvent]:
    return [TrueEvent("m1", START + HOURLY * (i - 1), START + HOURLY * (i + 2)) for i in SPIKES]


def bare_run(y: list[float], ts: list[int] | None = None, features: Any = None, entity: Any = None) -> EngineRun:
    """A run without an engine: what was predicted is 0 everywhere."""
    n = len(y)
    ids = np.zeros(n, np.int64) if entity is None else np.array(entity)
    zeros = np.zeros(n)
    return EngineRun(
        [f"m{i}" for i in range(int(ids.max()) + 1)], ids, np.array(ts or [START + HOURLY * i for i in range(n)]),
        np.array(y, np.float64), np.arange(n), zeros, zeros, zeros, np.zeros(n, np.bool_), np.arange(n),
        np.zeros((n, 1)) if features is None else features,
    )  # fmt: skip


@pytest.fixture(scope="module")
def made() -> Pilot:
    done = run_pilot(settings(AT_ONCE), stream(), lambda _: spikes(), Costs(false_alarm=10.0, missed_hour=100.0))
    done.report["recording"]["file"] = "r.csv"
    done.report["verdict"]["text"] = paragraph(done.report, "en")
    return done


# The files that come with a recording.


def labels_file(folder: Path, text: str, name: str = "labels.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_labels_are_read_from_csv_and_json_lines(tmp_path: Path) -> None:
    rows = "entity,start,end,kind\n7,2026-01-02T00:00:00,2026-01-02T02:00:00,leak\n7,1767315600,1767322800,\n"
    found = read_true_events(labels_file(tmp_path, rows), settings(), ["7"])
    assert [(e.entity, e.kind, e.end - e.start) for e in found] == [
        ("7", "leak", 3 * HOURLY)
    ]  # they overlap: one event
    line = json.dumps({"entity": 7, "start": "2026-01-02T00:00:00Z", "end": 1767319200000})
    (event,) = read_true_events(labels_file(tmp_path, line, "l.jsonl"), settings(), ["7"])
    assert event == TrueEvent("7", 1767312000000, 1767319200000)


def test_events_that_overlap_stay_apart_by_their_signal(tmp_path: Path) -> None:
    """A row without a signal is about any; of a target that is not judged there is no event."""
    day = "2026-01-02T0"
    rows = "entity,start,end,kind,signal\n" + "".join(
        f"7,{day}{a}:00:00,{day}{b}:00:00,{kind},{signal}\n"
        for a, b, kind, signal in [(0, 5, "wear", "y"), (1, 3, "leak", "x"), (2, 6, "hot", "y"), (1, 2, "stop", "")]
    )
    config = settings().replace(event=settings().event.model_copy(update={"target": "y", "features": ["x"]}))
    found = read_true_events(labels_file(tmp_path, rows), config, ["7"])
    assert [(e.signal, e.kind, e.rows) for e in found] == [("y", "wear + hot", 2), ("", "stop", 1), ("x", "leak", 1)]
    with pytest.raises(RecordingError, match=r"labels.csv:3: signal: 'z' is no target and no input"):
        read_true_events(labels_file(tmp_path, rows.replace(",x", ",z")), config, ["7"])
    kept = read_true_events(labels_file(tmp_path, rows.replace(",x", ",z")), config, ["7"], ["y", "z"])
    assert [e.signal for e in kept] == ["y", ""]


def test_an_event_of_a_signal_that_is_recorded_but_not_watched_is_kept(tmp_path: Path) -> None:
    """What the laboratory found is a true event, though no target; a name that the file lacks is a slip."""
    file = tmp_path / "recording.csv"
    file.write_text("e,ts,x,y,bath\n7,2026-01-02T00:00:00,1,2,958\n", encoding="utf-8")
    config = settings().replace(event=settings().event.model_copy(update={"target": "y", "features": ["x"]}))
    is_recorded = partial(Recording(file).has_signal, config)
    rows = "entity,start,end,signal\n7,2026-01-02T00:00:00,2026-01-02T05:00:00,bath\n"
    (event,) = read_true_events(labels_file(tmp_path, rows), config, ["7"], is_recorded=is_recorded)
    assert event.signal == "bath"
    slip = labels_file(tmp_path, rows.replace("bath", "bat"))
    with pytest.raises(RecordingError, match=r"labels.csv:2: signal: 'bat' is no target and no input"):
        read_true_events(slip, config, ["7"], is_recorded=is_recorded)
    for cell in ("x;y", "x | y"):
        with pytest.raises(RecordingError, match=r"leave it empty, and any alarm .* or write a row of each signal"):
            read_true_events(labels_file(tmp_path, rows.replace("bath", cell)), config, ["7"], is_recorded=is_recorded)


@pytest.mark.parametrize("target", ["all", "y"])
def test_an_event_of_a_category_is_kept_as_of_what_is_recorded(target: str, tmp_path: Path) -> None:
    """A category is read, but no alarm names it. The time is no signal of that kind."""
    file = tmp_path / "recording.csv"
    file.write_text("e,ts,x,y,z,step,bath\n7,2026-01-02T00:00:00,1,2,3,40,958\n", encoding="utf-8")
    features = ["x", "y"] if target == "all" else ["x"]
    update = {"target": target, "features": features, "categories": ["step"], "inputs": ["z"]}
    event = settings().event.model_copy(update=update if target == "all" else update | {"inputs": None})
    config = settings().replace(event=event)
    has_signal = partial(Recording(file).has_signal, config)
    assert [name for name in ("x", "y", "z", "step", "bath", "bat") if not has_signal(name)] == ["bat"]
    rows = "entity,start,end,signal\n7,2026-01-02T00:00:00,2026-01-02T05:00:00,step\n"
    (found,) = read_true_events(labels_file(tmp_path, rows), config, ["7"], is_recorded=has_signal)
    assert found.signal == "step"
    if target == "all":
        assert not has_signal("ts")


def test_as_many_targets_as_there_may_be_leave_room_for_a_signal_of_a_label(tmp_path: Path) -> None:
    names = [f"s{i}" for i in range(64)]
    file = tmp_path / "recording.csv"
    file.write_text(",".join(["e", "ts", *names, "bath"]) + "\n7,2026-01-02" + ",1" * 65 + "\n", encoding="utf-8")
    event = settings().event.model_copy(update={"target": "all", "features": names})
    assert Recording(file).has_signal(settings().replace(event=event), "bath")


def test_an_alarm_finds_events_of_its_signals_alone() -> None:
    a, b, c = (TrueEvent("m0", 100, 200, signal=signal) for signal in ("a", "b", ""))
    of_a = Alarm(120, (0,), "drift", 0, {"target": "a", "targets": [{"target": "a"}]})
    assert match([of_a], [(0, a), (0, b), (0, c)]) == ([120, None, 120], ["true"])
    assert match([of_a], [(0, b)]) == ([None], ["false"]), "another signal is not what happened"
    stuck, silent = Alarm(130, (0,), "stuck", 0, {"column": "b"}), Alarm(140, (0,), "silence", 0, {"column": None})
    assert match([of_a, stuck, silent], [(0, a), (0, b)]) == ([120, 130], ["true", "true", "repeat"])
    joined = of_a._replace(ts=90, joined=((150, "b"),))
    assert match([joined], [(0, a), (0, b)]) == ([None, 150], ["true"]), "it began before, and b joined it"
    assert match([joined, silent], [(0, b)])[0] == [140]


@pytest.mark.parametrize("separator", [";", "\t"])
def test_labels_may_come_from_a_spreadsheet(separator: str, tmp_path: Path) -> None:
    rows = ["entity,start,end,kind", '7,2026-01-02T00:00:00,2026-01-02T02:00:00,"a, b"']
    text = "\r\n".join(rows).replace(",", separator).replace(f"a{separator} b", "a, b")
    (event,) = read_true_events(labels_file(tmp_path, f"\ufeff{text}\r\n"), settings(), ["7"])
    assert (event.entity, event.end - event.start, event.kind) == ("7", 2 * HOURLY, "a, b")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "entity,start,end\nm0,2026-01-02,2026-01-03\nm9,2026-01-02,2026-01-03\n",
            r":3: entity: 'm9' is not in the recording; its entities: m0",
        ),
        ("entity,start,end\nm0,2026-01-03,2026-01-02\n", r":2: end: '2026-01-02' is before start"),
        (
            "entity,begin,end\nm0,2026-01-03,2026-01-02\n",
            r":1: .* `start` is missing; its columns: entity, begin, end",
        ),
        (
            "unit,start,end\nm0,2026-01-02,2026-01-03\n",
            r":1: .* `entity` is missing; its columns: unit, start, end; name that of the machines `entity`",
        ),
        ("entity,starts,end\nm0,2026-01-03,2026-01-02\n", r":1: .* `start` is missing; did you mean `starts`"),
        ("entity,start,end\nm0,soon,2026-01-02\n", r":2: timestamp: `start` is not ISO 8601"),
        ("entity,start,end\nm0,2026-01-03,\n", r":2: timestamp: `end` is missing"),
        ("entity,start,end\n", r"no events; write one a line"),
    ],
)
def test_what_is_wrong_with_labels_is_told_with_its_line(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=told):
        read_true_events(labels_file(tmp_path, text), settings(), ["m0"])


def test_labels_of_the_one_machine_need_no_entity(tmp_path: Path) -> None:
    """A recording without a column of machines has none that a file of labels could repeat."""
    config = settings()
    one = config.replace(event=config.event.model_copy(update={"entity_default": "line-2"}))
    for text in ("start,end\n2026-01-02,2026-01-03\n", "entity,start,end\n,2026-01-02,2026-01-03\n"):
        (event,) = read_true_events(labels_file(tmp_path, text), one, ["line-2"])
        assert (event.entity, event.end - event.start) == ("line-2", 24 * HOURLY)
    with pytest.raises(RecordingError, match=r":1: column `start` is missing"):
        read_true_events(labels_file(tmp_path, "end\n2026-01-03\n"), one, ["line-2"])
    with pytest.raises(RecordingError, match=r":1: column `entity` is missing"):
        read_true_events(labels_file(tmp_path, "start,end\n2026-01-02,2026-01-03\n"), config, ["m0"])


@pytest.mark.parametrize(("start", "end"), [("02:00", "03:30"), ("01:00", "02:30"), ("02:50", "02:20")])
def test_a_label_of_the_hour_that_comes_twice_needs_its_offset(start: str, end: str, tmp_path: Path) -> None:
    local = settings()
    local = local.replace(event=local.event.model_copy(update={"time_zone": "Europe/Berlin"}))
    text = f"entity,start,end\nm0,2026-03-29T02:30,2026-03-29T04:00\nm0,2026-10-25T{start},2026-10-25T{end}\n"
    with pytest.raises(RecordingError, match=r":3: .* comes twice in Europe/Berlin, .*\+02:00 or .*\+01:00"):
        read_true_events(labels_file(tmp_path, text), local, ["m0"])
    text = "entity,start,end\nm0,2026-10-25T02:50:00+02:00,2026-10-25T02:20:00+01:00\n"
    (event,) = read_true_events(labels_file(tmp_path, text), local, ["m0"])
    assert event.end - event.start == HOURLY // 2


@pytest.mark.parametrize("form", ["s", "ms", "iso", "auto"])
def test_labels_may_be_iso_whatever_the_times_of_events_are(form: str, tmp_path: Path) -> None:
    """What Prometheus and Telegraf export has seconds since 1970; nobody writes down an outage so."""
    config = settings(event=f"features: [a], lags: 2, timestamp_format: {form}")
    text = "entity,start,end\nm0,2026-03-02T04:10:00Z,2026-03-02 06:00\n"
    (event,) = read_true_events(labels_file(tmp_path, text), config, ["m0"])
    assert (event.start, event.end) == (1_772_424_600_000, 1_772_431_200_000)
    if form in ("s", "ms"):
        unit = 1 if form == "s" else 1000
        text = f"entity,start,end\nm0,{1_772_424_600 * unit},{1_772_431_200 * unit}\n"
        assert read_true_events(labels_file(tmp_path, text), config, ["m0"]) == [event]


def test_costs_that_are_not_given_are_assumptions(tmp_path: Path) -> None:
    assert "false_alarm" in read_costs(None).assumed
    path = labels_file(tmp_path, "currency: JPY\nmissed_hour: 5000\n", "costs.yaml")
    costs = read_costs(path)
    assert (costs.currency, costs.missed_hour) == ("JPY", 5000.0)
    assert set(costs.assumed) == {
        "false_alarm", "retraining", "engineer_hour", "running_week", "alarms_today", "retrained_today", "stages",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("currency: EUR\nfalse_alarms: 3\n", r"costs.yaml:2: false_alarms: unknown key; did you mean `false_alarm`"),
        ("missed_hour: -3\n", r"costs.yaml:1: missed_hour: .* \(found -3\)"),
        ("- 3\n", "no costs; write lines such as"),
        ("a: [\n", "not valid YAML"),
    ],
)
def test_wrong_costs_are_told_with_their_line(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=told):
        read_costs(labels_file(tmp_path, text, "costs.yaml"))


# Alarms against events.


def ground(
    events: list[TrueEvent], costs: Costs | None = None, n: int = 500, entities: int = 2
) -> alarm_figures.AlarmContext:
    """Hourly rows of entities side by side, the first 100 of which teach."""
    entity = np.tile(np.arange(entities), n)
    run = bare_run(
        [0.0] * (n * entities), [START + HOURLY * (i // entities) for i in range(n * entities)], entity=entity
    )
    parts = split_run(run, 0.2, 10)
    blocks = cut_blocks(run, parts)
    return alarm_figures.AlarmContext(
        run, parts, judge_events(run, parts, events), blocks, Bootstrap(len(blocks.start), 1), costs or Costs(), 1
    )


def at(hour: float) -> int:
    return START + int(hour * HOURLY)


def test_alarms_are_matched_to_events_by_hand() -> None:
    g = ground(
        [
            TrueEvent("m0", at(50), at(60)),  # before the judged part: what is in it is not judged
            TrueEvent("m0", at(95), at(110)),  # begins before it
            TrueEvent("m0", at(200), at(210)), TrueEvent("m0", at(300), at(320)), TrueEvent("m1", at(200), at(204)),
            TrueEvent("m1", at(9000), at(9001)),  # after the recording
        ]
    )  # fmt: skip
    assert (len(g.judged.events), len(g.judged.ignored), g.judged.outside) == (3, 2, 1)
    calls = [
        Alarm(at(105), (0,)), Alarm(at(150), (0,)), Alarm(at(202), (0,)), Alarm(at(210), (0,)), Alarm(at(211), (0,)),
        Alarm(at(203), (1, 0)), Alarm(at(204.5), (1,)),
    ]  # fmt: skip
    told = tally(calls, g.judged, g.blocks)
    # The fleet's alarm finds m1's event, though it repeats m0's.
    assert told.outcomes == ["ignored", "false", "true", "repeat", "false", "true", "false"]
    totals = {name: told.total(name) for name in ("false", "repeats", "found", "warned", "delay")}
    assert totals == {"false": 3.0, "repeats": 1.0, "found": 2.0, "warned": 8.0 + 1.0, "delay": 2.0 + 3.0}
    rows = alarm_figures.detection(g, {"product": told}, {}, calls)
    product = rows["methods"]["product"]
    assert (product["recall"]["value"], product["precision"]["value"]) == (2 / 3, 2 / 5)
    assert product["median_delay_hours"] == 2.5
    weeks = 2 * (499 - 100) / 168
    assert product["false_rate"]["value"] == pytest.approx(3 / weeks)
    assert rows["event_hours"] == 34.0
    assert [m["start"] for m in rows["missed"]] == [at(300)]
    by_event = [(m["entity"], m["at"], m["delay_hours"], m["warned_hours"]) for m in rows["found"]]
    assert by_event == [("m0", at(202), 2.0, 8.0), ("m1", at(203), 3.0, 1.0)]
    assert product["cost"]["value"] == 3 * 50.0 + (34.0 - 9.0) * 200.0


def test_money_by_hand() -> None:
    costs = Costs(
        false_alarm=30.0,
        missed_hour=7.0,
        retraining=5.0,
        engineer_hour=60.0,
        running_week=4.0,
        alarms_today="three_sigma",
    )
    g = ground([TrueEvent("m0", at(200), at(210)), TrueEvent("m1", at(300), at(320))], costs)
    own = tally([Alarm(at(202), (0,)), Alarm(at(150), (1,))], g.judged, g.blocks)
    today = tally([Alarm(at(310), (1,)), *(Alarm(at(400 + i), (1,)) for i in range(4))], g.judged, g.blocks)
    none = tally([], g.judged, g.blocks)
    results = {"product": own, "never": none, "random": none, "three_sigma": today}
    told = alarm_figures.kpis(g, results, nights=3)
    # The product: 1 false, 8 of 30 hours warned of. Today: 4 false, 10 hours.
    assert told["saved_alarms"]["value"] == pytest.approx(30.0 * (4 - 1) + 7.0 * (8 - 10))
    weeks = (499 - 100) / 168
    assert (told["weeks"], told["running"]) == (pytest.approx(weeks), pytest.approx(4.0 * weeks))
    assert told["saved"]["value"] == pytest.approx(told["saved_alarms"]["value"] + 15.0 - 4.0 * weeks)
    assert told["engineer_hours"]["value"] == pytest.approx((15.0 + 30.0 * 3) / 60.0)
    assert (told["missed"]["value"], told["warned_hours"]["value"]) == (1.0, 8.0)
    assert (told["rival"], told["saved_against_rival"]["value"]) == ("never", pytest.approx(-30.0 + 56.0))
    assert told["saved_alarms"]["low"] <= told["saved_alarms"]["value"] <= told["saved_alarms"]["high"]
    assert told["break_even_hour"] is None  # fewer false alarms than today
    costs_never = Costs(false_alarm=30.0, missed_hour=7.0)
    g = ground([TrueEvent("m0", at(200), at(210)), TrueEvent("m1", at(300), at(320))], costs_never)
    assert alarm_figures.kpis(g, results, nights=0)["break_even_hour"] == pytest.approx(30.0 / 8.0)


def test_the_bootstrap_is_seeded_and_counts_of_none_are_bounded_by_the_rule_of_three() -> None:
    top, bottom = np.arange(40.0), np.ones(40)
    one, again, other = (Bootstrap(40, seed).ratio(top, bottom) for seed in (1, 1, 2))
    assert one == again != other
    assert one["value"] == 19.5
    # The interval of a mean of 40: ± 1.645 standard errors, about.
    assert one["high"] - one["low"] == pytest.approx(2 * 1.645 * np.std(top) / math.sqrt(40), rel=0.15)
    of = Bootstrap(40, 1)
    assert of.rate(np.zeros(40), np.full(40, 0.5)) == {"value": 0.0, "low": 0.0, "high": 3.0 / 20.0}
    assert of.share(np.ones(40), np.ones(40))["low"] == pytest.approx(1 - 3 / 40)
    assert Bootstrap(1, 1).ratio(top[:1], bottom[:1])["low"] is None


# Predictors to compare with.


def test_simple_predictions_by_hand() -> None:
    rng = np.random.default_rng(1)
    y = (np.tile(np.arange(24.0), 30) + 0.01 * rng.normal(size=720)).tolist()
    run = bare_run(y)
    parts = split_run(run, 0.3, 20)
    assert (parts.first[0], int(parts.judged.sum())) == (216, 720 - 216)
    found = baselines(settings(), run, parts)
    assert found.seasons == {"day": 1, "week": 0, "none": 0}
    np.testing.assert_array_equal(found.yhat["persistence"][1:], run.y[:-1])
    np.testing.assert_array_equal(found.yhat["seasonal"][300:], run.y[276:-24])
    np.testing.assert_allclose(found.yhat["mean"][500], np.mean(y[:500]))


def test_nightly_least_squares_is_that_of_numpy_and_sees_only_the_past() -> None:
    rng = np.random.default_rng(2)
    a = rng.normal(size=(480, 1))
    y = 3.0 * a[:, 0] + 0.5 * rng.normal(size=480)
    config = settings(event="features: [a], lags: 1, calendar: []")
    run = bare_run(y.tolist(), features=a)
    parts = split_run(run, 0.3, 20)
    found = baselines(config, run, parts)
    day = 300 - 300 % 24  # the rows of that day are predicted by all before it
    X = np.column_stack([np.ones(day - 1), a[1:day, 0], y[: day - 1]])
    weights = np.linalg.lstsq(X, y[1:day], rcond=None)[0]
    expected = weights @ [1.0, a[300, 0], y[299]]
    assert found.yhat["least_squares"][300] == pytest.approx(expected, abs=1e-4)
    assert found.nights == len({i // 24 for i in range(int(parts.first[0]), 480)}) - 1
    assert np.isnan(found.yhat["least_squares"][: parts.first[0]]).all()
    y[day + 12 :] += 50.0
    later = baselines(config, bare_run(y.tolist(), features=a), parts)
    np.testing.assert_array_equal(later.yhat["least_squares"][: day + 13], found.yhat["least_squares"][: day + 13])


def test_with_a_horizon_simple_predictors_know_only_what_was_known_then() -> None:
    run = bare_run([float(i) for i in range(300)])
    run.origin = np.where(np.arange(300) >= 5, np.arange(300) - 5, -1)
    run.ahead = True
    parts = split_run(run, 0.3, 20)
    found = baselines(settings(), run, parts)
    np.testing.assert_array_equal(found.yhat["persistence"][100:], run.y[95:-5])
    assert found.yhat["mean"][100] == pytest.approx(np.mean(np.arange(96)))


def test_the_frozen_model_is_the_engine_until_it_is_held_and_learns_nothing_after() -> None:
    config = settings(event="features: [a], lags: 0")
    rows = stream(900, ("m0", "m1"))
    run = run_engine(config, rows, keep_events=True)
    first = np.array([400, 500])
    (yhat,) = predict_frozen(config, run, first)
    free = run_engine(frozen_config(config), rows, keep_events=True)
    np.testing.assert_array_equal(yhat[:400], free.yhat[:400])
    # After it, the same answer to the same input, whatever has come since: the relation of m0 changes at row 1,200.
    held = np.flatnonzero((run.entity == 0) & (np.arange(len(run)) > 450))
    calm, changed = held[held < 1200], held[held > 1300]
    slope = [np.polyfit(run.features[some, 0], yhat[some], 1)[0] for some in (calm, changed)]
    assert slope == pytest.approx([2.0, 2.0], abs=0.15)
    learned = np.polyfit(run.features[held[held > 1600], 0], run.yhat[held[held > 1600]], 1)[0]
    assert learned == pytest.approx(-3.0, abs=0.3)


def test_only_an_engine_without_alerts_can_be_held() -> None:
    with pytest.raises(AssertionError):
        Engine(settings()).freeze_learning([])


# Alarms without a model.


def test_an_episode_ends_and_rests_as_the_configuration_says() -> None:
    flag = np.zeros(60, np.bool_)
    flag[[3, 4, 9, 19, 26, 45, 50]] = True
    begin = np.zeros(60, np.int64)
    begin[[0, 50]] = 1
    # It opens at 3, has recovered at 7, and nothing starts before 7 + 12; then again 19, 22, 34.
    assert episode_starts(flag, begin, 3, 12).tolist() == [3, 19, 45, 50]
    assert episode_starts(flag, begin, 3, 13).tolist() == [3, 26, 45, 50]
    assert episode_starts(flag, begin, 10, 20).tolist() == [3, 50]


def test_ewma_is_the_chart_of_the_textbook() -> None:
    z = np.array([0.0, 1.0, 2.0, -1.0])
    out = np.zeros(4)
    native.run_ewma(z, 1, LAMBDA, out)
    m1, m2 = 0.2, 0.2 * 2 + 0.8 * 0.2
    sd = [math.sqrt(0.2 / 1.8 * (1 - 0.8 ** (2 * k))) for k in (1, 2)]
    assert out[1:3] == pytest.approx([m1 / sd[0], m2 / sd[1]])


def drifting(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    parts = [rng.normal(0.4, 0.1, 3000), rng.normal(0.55, 0.1, 2000), rng.normal(0.3, 0.2, 3000)]
    return np.clip(np.concatenate(parts), 0.0, 1.0)


def test_adwin_finds_changes_and_little_else() -> None:
    x = drifting()
    begin = np.zeros(len(x), np.int64)
    begin[0] = 1
    found = np.flatnonzero(adwin_flags(x, begin, 0.002))
    assert len(found) == 2
    assert 0 < found[0] - 3000 < 200
    assert 0 < found[1] - 5000 < 200


@pytest.mark.parametrize("delta", [0.002, 1e-6])
def test_adwin_is_that_of_river(delta: float) -> None:
    drift = pytest.importorskip("river.drift", reason="needs River: pip install river")
    x = drifting(3)
    theirs, detector = [], drift.ADWIN(delta=delta)
    for t, value in enumerate(x.tolist()):
        detector.update(value)
        if detector.drift_detected:
            theirs.append(t)
    begin = np.zeros(len(x), np.int64)
    begin[0] = 1
    assert np.flatnonzero(adwin_flags(x, begin, delta)).tolist() == theirs


def test_simple_detectors_get_as_many_alarms_as_are_wanted() -> None:
    rng = np.random.default_rng(4)
    run = bare_run(rng.normal(size=6000).tolist(), entity=np.repeat([0, 1], 3000))
    found = detect(signals(run, split_run(run, 0.3, 100)), 12, 10, 50)
    assert {name: len(each.rows) for name, each in found.items() if name in ("sigma", "ewma")} == {
        "sigma": 12,
        "ewma": 12,
    }
    assert len(found["adwin"].rows) <= 12
    assert found["three_sigma"].threshold == 3.0
    assert found["sigma"].threshold > 2.0


# The data.


def test_faults_of_the_data_are_found_and_calm_data_have_none() -> None:
    rng = np.random.default_rng(5)
    y = 20.0 + rng.normal(size=1200)
    config = settings()
    calm = quality(config, [bare_run(y.tolist(), features=rng.normal(size=(1200, 1)))])
    assert {calm[name] for name in ("gaps", "stuck", "unit_jumps", "out_of_order")} == {0}
    y[300:380] = y[300]
    y[700:] = 1.8 * y[700:] + 32.0
    ts = [START + HOURLY * i for i in range(1200)]
    ts[500] = ts[499]  # another value at the same time
    ts[600:] = [t + 30 * HOURLY for t in ts[600:]]
    ts[900], ts[901] = ts[901], ts[900]
    told = quality(config, [bare_run(y.tolist(), ts, np.ones((1200, 1)))])
    assert [(s["column"], s["events"]) for s in told["stuck_list"]] == [("y", 80)]
    assert [(j["unit"], (j["at"] - ts[700]) // HOURLY) for j in told["unit_jump_list"]] == [("°C → °F", 0)]
    assert (told["gaps"], told["duplicates"], told["out_of_order"]) == (1, {"exact": 0, "conflicting": 1}, 1)
    assert told["constant"] == ["a"]
    assert told["gap_list"][0]["intervals"] == pytest.approx(31.0)


def test_a_stuck_sensor_comes_before_a_valve_that_is_closed_every_night() -> None:
    rng = np.random.default_rng(6)
    y, valve = rng.normal(size=1200), rng.uniform(1.0, 9.0, size=1200)
    y[300:360] = y[300]
    for night in range(0, 1200, 300):
        valve[night : night + 100] = 0.0
    told = quality(settings(), [bare_run(y.tolist(), features=valve[:, np.newaxis])])
    assert [(s["column"], s["events"]) for s in told["stuck_list"]] == [("y", 60), *[("a", 100)] * 4]


def test_a_level_near_minus_40_that_moves_has_no_other_unit() -> None:
    """There °C and °F agree, so that any small move is that of the one to the other: a draught of −43 Pa."""
    rng = np.random.default_rng(6)
    y = np.concatenate([rng.normal(-43.2, 0.5, 600), rng.normal(-41.8, 0.28, 600)])
    assert quality(settings(), [bare_run(y.tolist(), features=rng.normal(size=(1200, 1)))])["unit_jumps"] == 0
    y = np.concatenate([rng.normal(-30.0, 0.5, 600), 1.8 * rng.normal(-30.0, 0.5, 600) + 32.0])
    assert quality(settings(), [bare_run(y.tolist(), features=rng.normal(size=(1200, 1)))])["unit_jumps"] == 1


# The whole.


def test_a_pilot_finds_what_is_there(made: Pilot) -> None:
    r = made.report
    assert r["recording"]["judged_entities"] == 3
    # Repeated faults of one size raise the anomaly bound: the last may be missed.
    assert len(SPIKES) - 1 <= r["detection"]["methods"]["product"]["found"] <= r["detection"]["events"] == len(SPIKES)
    assert r["verdict"]["grade"] == "yes"
    methods = r["errors"]["methods"]
    assert methods["product"]["mae"] < 0.5 < methods["persistence"]["mae"]
    assert methods["persistence"]["relative"]["value"] == pytest.approx(1.0)
    assert methods["frozen"]["product_over_it"]["high"] < 1.0
    assert any(d["entity"] == "m0" and d["frozen_after"] > 2 * d["product_after"] for d in r["drifts"])
    assert abs(r["coverage"]["value"] - 0.9) < 0.03
    budgets = [point["budget_anomaly"] for point in r["what_if"]["points"]]
    assert budgets[3] == "1 per 10000 events" == r["config"]["anomaly_budget"]
    assert r["kpis"]["allowed_false"] == pytest.approx(2 * r["recording"]["judged_events"] / 10_000)
    assert r["what_if"]["points"][3]["alarms"] == r["kpis"]["alarms"]
    json.dumps(r, allow_nan=False)


def test_the_same_pilot_gives_the_same_report(made: Pilot) -> None:
    again = run_pilot(
        settings(AT_ONCE), stream(), lambda _: spikes(), Costs(false_alarm=10.0, missed_hour=100.0)
    ).report
    assert again.keys() == made.report.keys()
    for name, part in again.items():
        first = {**made.report[name]} if isinstance(part, dict) else made.report[name]
        for report in (first, part):
            # Not of the run: added by the command, or measured anew.
            for key in ("text", "file", "measured", "fleet") if isinstance(report, dict) else ():
                report.pop(key, None)
        if name != "stages":  # a figure among them is measured
            assert part == first, name


@pytest.mark.parametrize(
    "change", [{"y": 5.0}, {"y": 5.0, "a": 1.0}, {"ts": START}], ids=["constant target", "constant columns", "one time"]
)
def test_odd_recordings_make_a_report_too(change: dict[str, float]) -> None:
    done = run_pilot(settings(), [{**row, **change} for row in stream(500)], lambda _: spikes())
    json.dumps(done.report, allow_nan=False)
    for language in LANGUAGES:
        done.report["verdict"]["text"] = paragraph(done.report, language)
        balanced(page(done, language, "r.csv"))


def test_without_labels_nothing_is_said_of_hits_and_misses() -> None:
    config = settings("model: {horizon: 2 events}")
    done = run_pilot(config, stream(800, ("m0", "m1")))
    done.report["verdict"]["text"] = paragraph(done.report, "ja")
    assert (done.report["verdict"]["grade"], done.report["detection"], done.report["kpis"]["missed"]) == (
        "unlabelled", None, None,
    )  # fmt: skip
    # Two events ahead nothing can be known but the mean.
    assert done.report["errors"]["methods"]["mean"]["product_over_it"]["value"] == pytest.approx(1.0, abs=0.1)
    balanced(page(done, "ja", "r.csv"))


def test_a_budget_can_be_scaled() -> None:
    config = settings("alerts: {anomaly: {budget: 1 per 30d}, drift: {budget: 1 per 1000 events}}")
    wide = with_budget(config, 10.0)
    assert (wide.alerts.anomaly.budget.text, wide.alerts.drift.budget.text) == ("1 per 3d", "1 per 100 events")
    assert wide.alerts.anomaly.budget.seconds == pytest.approx(3 * 86_400)
    assert wide.hash != config.hash
    assert with_budget(config, 1000.0).alerts.drift.budget.events == 20.0


# The verdict.


def interval(low: float | None, value: float | None, high: float | None) -> dict[str, float | None]:
    return {"value": value, "low": low, "high": high}


def told(
    saved: tuple[float, float, float] = (10.0, 20.0, 30.0), rival: float = 5.0, random: float = 1.0, events: int = 5,
    rows: int = 1000, labels: bool = True,
) -> dict[str, Any]:  # fmt: skip
    """A report with what the verdict looks at. rival: upper bound against it; random: lower bound against it"""
    way = {"found": 3, "false": 2.0, "median_delay_hours": 1.5}
    return {
        "recording": {"judged_events": rows},
        "errors": {
            "best_simple": "persistence",
            "methods": {
                "persistence": {"product_over_it": interval(0.6, 0.7, 0.8)},
                "frozen": {"product_over_it": interval(0.8, 0.9, 1.1)},
            },
        },
        "coverage": {"value": 0.9, "level": 0.9, "off": 0.0},
        "detection": {
            "events": events, "rows": events + 1, "begun_before": 2, "outside": 3,
            "methods": dict.fromkeys(("product", "random", "sigma", "ewma", "adwin"), way),
        } if labels else None,
        "feedback": None,
        "costs": {"assumed": ["false_alarm", "missed_hour"], "alarms_today": "never", "currency": "EUR"},
        "kpis": {
            "alarms": 4, "alarms_a_week": interval(0.1, 0.2, 0.3),
            "false_alarms_a_week": interval(0.1, 0.2, 0.3), "saved_alarms": interval(*saved),
            "saved_against_rival": interval(rival - 10, rival - 5, rival), "rival": "ewma", "break_even_hour": 3.0,
            "saved_against_random": interval(random, random + 5, random + 10),
        },
    }  # fmt: skip


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        (told(rows=999), "few_data"),
        (told(), "yes"),
        (told(labels=False), "unlabelled"),
        (told(events=4), "few_labels"),
        (told(saved=(-3.0, -2.0, -1.0)), "no"),
        (told(saved=(-3.0, -2.0, 0.0)), "open"),
        (told(saved=(-1.0, 20.0, 30.0)), "open"),
        (told(saved=(0.0, 20.0, 30.0)), "yes"),
        (told(saved=(0.0, 0.0, 0.0)), "open"),
        (told(rival=-0.1), "simpler"),
        (told(rival=0.0), "yes"),
        (told(random=0.0), "open"),
    ],
)
def test_the_verdict_follows_its_rules_at_their_thresholds(report: dict[str, Any], expected: str) -> None:
    assert grade(report) == expected
    keys = [key for key, _ in sentences(report, expected)]
    first = "verdict.open_random" if expected == "open" and report["kpis"]["saved_alarms"]["low"] >= 0 < (
        report["kpis"]["saved_alarms"]["value"]
    ) else f"verdict.{expected}"  # fmt: skip
    assert keys[0] == first
    assert ("verdict.outside" in keys) is (expected == "few_labels")
    assert ("verdict.merged" in keys) is (report["detection"] is not None)
    assert "verdict.predicts_better" in keys
    assert ("verdict.assumed" in keys) is (report["detection"] is not None)
    assert ("verdict.adapts" in keys) is False  # its interval reaches beyond 1
    met = {check.name: check.ok for check in checks(report)}
    if expected == "yes":
        assert all(met.values())
    report["verdict"] = {"sentences": [{"key": key, **said} for key, said in sentences(report, expected)]}
    report["recording"]["time_zone"] = "UTC"
    for language in LANGUAGES:
        assert "None" not in paragraph(report, language)


def test_a_range_from_0_is_no_loss_and_not_called_a_gain() -> None:
    report = told(saved=(0.0, 20.0, 30.0))
    report["verdict"] = {"sentences": [{"key": key, **said} for key, said in sentences(report, "yes")]}
    report["recording"]["time_zone"] = "UTC"
    assert "between EUR 0 and EUR 30), so none of the range is a loss" in paragraph(report, "en")


# The page.


class Reader(HTMLParser):
    """Checks that every element is closed in its turn, and keeps what it sees."""

    VOID = frozenset({"meta", "link", "br", "input", "img", "path", "rect", "circle"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.figures: list[tuple[str, str]] = []
        self.headers: list[int] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.seen.append((tag, found))
        if tag == "data":
            self.figures.append((found["data-at"] or "", found["value"] or ""))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag


def balanced(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == []
    return reader


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_is_well_formed_needs_no_network_and_shows_the_figures_of_the_json(made: Pilot, language: Any) -> None:
    text = page(made, language, f"{NAME}.csv")
    reader = balanced(text)
    assert f'<html lang="{language}">' in text
    assert not re.search(
        r"https?:|//[a-z]|@import|url\(|src=", re.sub(r"data:,|onerror|<title>.*?</title>", "", strip(text))
    )
    assert {found["href"] for tag, found in reader.seen if "href" in found} <= {"data:,"} | {
        f"#{found['id']}" for _, found in reader.seen if "id" in found
    }
    assert len(reader.figures) > 120
    for path, value in reader.figures:
        at: Any = made.report
        for part in path.split("."):
            at = at[int(part)] if isinstance(at, list) else at[part]
        assert float(value) == at, path
    assert len(text) < 1_000_000
    for tag, found in reader.seen:
        assert not any(name.startswith("on") for name in found), found
        if tag == "th":
            assert found.get("scope") in ("row", "col")
        if tag == "svg":
            assert found.get("aria-label") or found.get("aria-hidden") == "true"
    assert "<img" not in text
    assert "&lt;img src=x onerror=alert(1)&gt;" in text
    assert ("Is it worth it?" in text) is (language == "en")


def strip(text: str) -> str:
    """Without the script and what was escaped, which may say anything."""
    text = re.sub(r"<script.*?</script>", "", text, flags=re.S)
    return text.replace("&lt;img src=x", "")


def test_what_the_script_is_given_cannot_end_its_element(made: Pilot) -> None:
    costs = {**made.report["costs"], "currency": "</scr"}
    evil = Pilot(**{**vars(made), "report": {**made.report, "costs": costs}})
    text = page(evil, "en", "r.csv")
    (held,) = re.findall(r'<script type="application/json" id="what-if-data">(.*?)</script>', text, flags=re.S)
    data = json.loads(held)
    assert data["currency"] == "</scr"
    assert len(data["draws"]) == len(data["points"]) == 7
    # What the sliders begin with is what the table says.
    point = data["points"][3]
    saved = 10.0 * (data["today"][0] - point["false"]) + 100.0 * (point["warned_hours"] - data["today"][1])
    assert saved == pytest.approx(made.report["kpis"]["saved_alarms"]["value"])


def test_every_text_is_there_in_both_languages_with_the_same_fields() -> None:
    english, japanese = words("en"), words("ja")
    assert english.keys() == japanese.keys()
    for key, text in english.items():
        fields = [{name for _, name, _, _ in string.Formatter().parse(each) if name} for each in (text, japanese[key])]
        assert fields[0] == fields[1], key
        assert text.strip(), key
        assert japanese[key].strip(), key


def test_every_text_is_used() -> None:
    folder = Path(__file__).parents[1] / "ssm_stream" / "evaluate"
    files = [*folder.glob("pilot/**/*.py"), folder / "report" / "templates" / "pilot.html.j2"]
    source = "".join(path.read_text(encoding="utf-8") for path in files)
    computed = (
        "rule.", "change.", "channel.", "unit.", "verdict.", "grade.", "retrained.", "truth.", "headline.", "stage.",
        "machines.", "kind.",
    )  # fmt: skip
    unused = [
        key
        for key in words("en")
        if not key.startswith(computed) and f'"{key}"' not in source and f'"{key.split(".", 1)[-1]}"' not in source
        and f"'{key}'" not in source
    ]  # fmt: skip
    assert unused == []


def test_a_long_series_keeps_its_peaks() -> None:
    y = np.zeros(100_000)
    y[54_321] = 9.0
    x, few = envelope(np.arange(100_000.0), y)
    assert len(x) <= 440
    assert few.max() == 9.0
    assert x[np.argmax(few)] == 54_321


# The command.


def ssm_stream(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["pilot", *map(str, arguments)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = stream(500, ("m0", "m1"))
    pl.DataFrame(rows).write_csv(tmp_path / "r.csv")
    head = "source: {brokers: b, topic: t}\n"
    (tmp_path / "c.yaml").write_text(f"{head}event: {{entity: e, timestamp: ts, target: y, features: [a]}}\n")
    (tmp_path / "two.yaml").write_text(f"{head}event: {{entity: e, timestamp: ts, target: [y, a]}}\n")
    (tmp_path / "l.csv").write_text(f"entity,start,end\nm1,{at(399)},{at(402)}\nm1,{at(479)},{at(482)}\n")
    return tmp_path


def test_the_command_writes_page_and_json(folder: Path) -> None:
    out = folder / "out.html"
    done = ssm_stream(
        folder / "c.yaml", folder / "r.csv", "--labels", folder / "l.csv", "--out", out, "--lang", "ja", "--json"
    )
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    beside = json.loads((folder / "out.json").read_text())
    assert told["verdict"] == beside["verdict"]["grade"] == "few_data"
    assert told["checks"] == beside["verdict"]["checks"]
    assert {"name", "value", "relation", "bar", "ok"} == set(told["checks"][0])
    assert beside["recording"]["file"] == "r.csv"
    assert 'lang="ja"' in out.read_text()
    plain = ssm_stream(folder / "c.yaml", folder / "r.csv", "--out", out)
    assert plain.exit_code == 0
    assert plain.stdout.startswith("Only 700 events could be judged")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["c.yaml", "none.csv"], 1, "no such file"),
        (["c.yaml", "r.csv", "--labels", "none.csv"], 1, "no such file"),
        (["c.yaml", "r.csv", "--labels", "other.csv"], 1, "other.csv:2: entity: 'm7'"),
        (["c.yaml", "r.csv", "--costs", "costs.yaml"], 2, "costs.yaml:1: missd_hour: unknown key"),
        (["two.yaml", "r.csv", "--target", "b"], 2, "--target: 'b' is no target"),
        (["c.yaml", "r.csv", "--limit", "150"], 1, "nothing to judge"),
        (["c.yaml", "r.csv", "--out", "no/where.html"], 2, "existing folder"),
        (["c.yaml", "r.csv", "--out", "report.json"], 2, "name a .html file"),
        (["c.yaml", "r.csv", "--lang", "fr"], 2, "'en'"),
        (["c.yaml", "r.csv", "--labels", "l.csv", "--feedback", "l.csv"], 2, "leave one of the two out"),
        (["c.yaml", "r.csv", "--feedback", "none.jsonl"], 1, "no such file"),
    ],
)
def test_wrong_calls_are_told(
    arguments: list[str], code: int, words: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "other.csv").write_text("entity,start,end\nm7,2026-01-01,2026-01-02\n")
    (folder / "costs.yaml").write_text("missd_hour: 3\n")
    monkeypatch.chdir(folder)
    done = ssm_stream(*arguments)
    assert done.exit_code == code, done.output
    assert words in re.sub(r"\s*│?\n│?\s*", " ", done.output)
    assert not (folder / "report.html").exists()


@pytest.mark.parametrize("text", ["unit,start,end\nm1,{0},{1}\n", "entity,start,end,signal\nm1,{0},{1},bath\n"])
def test_labels_are_refused_before_the_engine_runs(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a long recording the engine takes minutes; a slip in a name of a column needs none of them."""

    def run(*_: object, **__: object) -> None:
        raise AssertionError("it ran")

    monkeypatch.setattr("ssm_stream.evaluate.pilot.evaluation.run_pilot", run)
    (folder / "slip.csv").write_text(text.format(at(399), at(402)))
    done = ssm_stream(folder / "c.yaml", folder / "r.csv", "--labels", folder / "slip.csv")
    assert done.exit_code == 1, done.output
    assert "slip.csv:" in done.output


def test_the_pools_of_production_and_the_share_inside_episodes_are_in_the_report() -> None:
    config = settings()
    rows = stream(600, ("m0", "m1", "m2", "m3"))
    one = run_pilot(config, rows, lambda _: spikes())
    three = run_pilot(config, rows, lambda _: spikes(), options=PilotOptions(partitions=3))
    assert [pool["entities"] for pool in one.report["recording"]["pools"]] == [4]
    pools = three.report["recording"]["pools"]
    assert sum(pool["entities"] for pool in pools) == 4
    assert three.report["recording"]["small_pools"] == sum(pool["entities"] < 3 for pool in pools) > 0
    alone = run_engine(config, [row for row in rows if row["e"] == "m0"], partitions=3)
    together = run_engine(config, [row for row in rows if row["e"] == "m0"])
    assert alone.yhat.tobytes() == together.yhat.tobytes()
    assert three.run.yhat.tobytes() != one.run.yhat.tobytes(), "entities learn from those of their own pool"
    episodes = one.report["episodes"]
    assert 0 < episodes["anomaly_share"] < 0.2
    assert episodes["anomaly_longest_entity"] in ("m0", "m1")
    for language in LANGUAGES:
        three.report["recording"]["file"] = "r.csv"
        three.report["verdict"]["text"] = paragraph(three.report, language)
        text = page(three, language, "r.csv")
        assert "alerts.fleet.min_entities" in text
        assert f"{three.report['episodes']['anomaly_longest']}" in text
