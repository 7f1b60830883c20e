"""The demonstration's parts: its streams, the frozen model, the marks, the last screen; the example files."""

from __future__ import annotations

import gzip
import io
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from ssm_stream.cli.terminal.demo_summary import print_summary, sentence
from ssm_stream.cli.terminal.sparkline import sparkline
from ssm_stream.config import load_config, parse_config
from ssm_stream.evaluate.alarm_marks import AlarmMarker
from ssm_stream.evaluate.alarm_matching import Alarm, match
from ssm_stream.evaluate.error_comparison import ErrorComparison
from ssm_stream.evaluate.examples import EXAMPLES, PLANT, SERVICES, Example, example_file, write_examples
from ssm_stream.evaluate.frozen_model import predict_frozen
from ssm_stream.evaluate.prequential import prequential
from ssm_stream.evaluate.recordings import Recording
from ssm_stream.evaluate.true_events import TrueEvent, read_true_events

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import demo_streams  # noqa: E402

WEEK = 7 * demo_streams.DAY


# Streams


def test_the_bundled_streams_are_those_of_seed_1(tmp_path: Path) -> None:
    demo_streams.write(tmp_path, 1)
    total = 0
    for example in (PLANT, SERVICES):
        bundled = example_file(example.recording)
        assert gzip.decompress((tmp_path / bundled.name).read_bytes()) == gzip.decompress(bundled.read_bytes())
        labels = example.labels or ""
        assert (tmp_path / labels).read_bytes() == example_file(labels).read_bytes()
        total += bundled.stat().st_size + example_file(labels).stat().st_size
    assert total < 300_000


@pytest.mark.parametrize(("example", "make"), [(PLANT, demo_streams.plant), (SERVICES, demo_streams.services)])
def test_labels_are_read_as_what_happened(example: Example, make: Any) -> None:
    config, labels = load_config(example_file(example.config)), make(1).labels
    read = read_true_events(example_file(example.labels or ""), config, {label.entity for label in labels})
    assert read == sorted(TrueEvent(*label) for label in labels)


def test_nothing_but_the_labels_happens() -> None:
    """Another seed has other noise and the same story."""
    assert demo_streams.plant(1).labels == demo_streams.plant(2).labels
    assert not demo_streams.plant(1).rows.equals(demo_streams.plant(2).rows)


# The frozen model


def plant_without(tmp_path: Path, after: int) -> Recording:
    """The plant with other targets from some row on."""
    lines = gzip.decompress(example_file(PLANT.recording).read_bytes()).decode().splitlines()
    changed = [f"{line.rpartition(',')[0]},{random.random():.2f}" for line in lines[after:]]
    path = tmp_path / "changed.csv"
    path.write_text("\n".join([*lines[:after], *changed]) + "\n")
    return Recording(path)


def test_the_frozen_model_is_the_same_until_it_learns_no_more_and_sees_no_target_after(tmp_path: Path) -> None:
    config, recording = load_config(example_file(PLANT.config)), Recording(example_file(PLANT.recording))
    frozen = predict_frozen(config, recording, WEEK)
    assert frozen.until - frozen.begin == WEEK
    assert len(frozen.yhat) == 12_816
    for chunk in prequential(config, recording):
        before = chunk.events.ts < frozen.until
        keys = zip(chunk.events.entity, chunk.events.ts.tolist(), strict=True)
        expected = np.array([frozen.yhat[key] for key in keys])
        assert np.array_equal(chunk.predictions.yhat[before], expected[before])
    row = 1 + 6 * 7 * 72  # the first after the week
    assert predict_frozen(config, plant_without(tmp_path, row), WEEK).yhat == frozen.yhat


def test_the_frozen_model_needs_no_lags() -> None:
    text = "source: {brokers: b, topic: t}\nevent: {entity: pump, timestamp: time, target: power, features: [flow]}\n"
    with pytest.raises(ValueError, match=r"event\.lags: found 8"):
        predict_frozen(parse_config(text), Recording(example_file(PLANT.recording)), WEEK)


# Marks


def alarm(entity: str, ts: int, fleet: tuple[str, ...] = ()) -> dict[str, Any]:
    scope = "fleet" if fleet else "entity"
    return {"scope": scope, "entity": entity, "ts": ts, "entities": [{"entity": name} for name in fleet], "id": ts}


def test_marks_are_those_of_the_matching() -> None:
    g = random.Random(7)
    names = ["a", "b", "c"]
    events = [TrueEvent(n, 1000 * k, 1000 * k + 300, f"{n}{k}") for n in names for k in range(1, 5)]
    alarms = [alarm(g.choice(names), t) for t in sorted(g.sample(range(6000), 80))]
    marker = AlarmMarker(events)
    marks = [marker.mark(each) for each in alarms]
    numbered = [(names.index(event.entity), event) for event in events]
    matched = match([Alarm(a["ts"], (names.index(a["entity"]),)) for a in alarms], numbered)
    assert [m.right for m in marks] == [outcome in ("true", "repeat") for outcome in matched.outcomes]
    assert [m.first for m in marks] == [outcome == "true" for outcome in matched.outcomes]
    missed = [event for event, first in zip(events, matched.first, strict=True) if first is None]
    assert sorted(marker.missed) == sorted(missed)


def test_a_fleet_alert_is_right_by_any_of_its_entities() -> None:
    marker = AlarmMarker([TrueEvent("b", 100, 200, "leak")])
    assert marker.mark(alarm("", 150, ("a", "b"))).right
    assert not marker.mark(alarm("", 150, ("a", "c"))).right
    assert marker.mark(alarm("b", 200)).right, "both ends included"
    assert not marker.mark(alarm("b", 201)).right


def test_errors_of_two_models() -> None:
    both = ErrorComparison()
    for ts, ours, other in ((0, 1.0, -1.0), (10, -3.0, 5.0), (20, 2.0, 8.0)):
        both.add("a", ts, ours, other)
    both.add("b", 5, 7.0, 7.0)
    assert both.mean({"a"}, 5, 20) == (1, 3.0, 5.0)
    assert both.mean({"a"}) == (3, 2.0, pytest.approx(14 / 3))
    assert both.mean(None, 100).events == 0
    ours, other = both.series({"a"}, np.array([0.0, 15.0, 16.0, 30.0]))
    assert ours == pytest.approx([2.0, np.nan, 2.0], nan_ok=True)
    assert other == pytest.approx([3.0, np.nan, 8.0], nan_ok=True)
    assert both.first == {"a": 0, "b": 5}


# The last screen


def errors(ours: float, other: float, events: int = 100) -> dict[str, Any]:
    return {"events": events, "ours": ours, "other": other}


def result(**other: Any) -> dict[str, Any]:
    begin, day = demo_streams.START, demo_streams.DAY
    series = {"series": [0.2] * 48, "series_frozen": [0.2] * 24 + [2.0] * 24}
    change = {"entity": "PUMP-3", "start": begin + 14 * day, "end": begin + 16 * day, "kind": "relation changed"}
    spans = {"before": errors(0.2, 0.2), "during": errors(0.5, 2.1), "after": errors(0.25, 2.0)}
    change |= {**spans, **series}
    changes = [change, {**change, "entity": "PUMP-5", "kind": "sensor drifts"}]
    changes.append({**change, "entity": "PUMP-7", "kind": "new machine", "before": errors(np.nan, np.nan, 0)})
    changes[-1] |= {"series": [np.nan] * 30 + [0.3] * 18, "series_frozen": [np.nan] * 30 + [1.3] * 18}
    right = {"stream": "plant", "ts": begin + 14 * day, "entities": ["PUMP-3"], "kind": "drift", "right": True}
    right |= {"event": "relation changed", "after_s": 4800.0, "first": True}
    wrong = {**right, "entities": ["search/latency_p99_long"], "right": False, "event": None, "after_s": None}
    frozen = {"begin": begin, "learns_until": begin + 7 * day, "end": begin + 28 * day, "changes": changes, **series}
    return {
        "seconds": 21.0, "first_prediction_s": 1.62, "events": 37_008, "entities": 16, "dead_letters": 0,
        "alarms": [right, {**right, "first": False}, wrong, right, right, right, right], "frozen": frozen,
        "missed": [], **other,
    }  # fmt: skip


def shown(content: dict[str, Any], terminal: bool = False) -> str:
    console = Console(file=io.StringIO(), width=80, height=24, force_terminal=terminal, color_system=None)
    print_summary(content, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_last_screen_fits_and_marks_every_alarm() -> None:
    text = shown(result())
    lines = text.rstrip("\n").split("\n")
    assert all(len(line) <= 80 for line in lines)
    last = "\n".join(lines[-23:])  # with the prompt below them
    for words in (
        "Error of power (kW)",
        "Alarms, marked by labels that no model sees: 6 right, 1 wrong, 0 missed",
        "✓ right  03-16 00:00  PUMP-3                drift    relation changed (80 min)",
        "drift    relation changed, again\n",
        "✗ wrong  03-16 00:00  search/latency_p99_…  drift    nothing happened there",
        "Without retraining, the error after the changes is 0.25 (0.2 before)",
        "8.0 × as large",
        "ssm-stream examples",
    ):
        assert words in last, words
    assert "37,008 events of 16 entities in 21 s, the first prediction after 1.6 s" in text
    assert "\x1b" not in text


def test_the_last_screen_names_what_was_missed() -> None:
    missed = [{"stream": "plant", **TrueEvent("PUMP-5", demo_streams.START, demo_streams.START, "leak")._asdict()}]
    text = shown(result(missed=missed, alarms=[], dead_letters=2))
    assert "0 right, 0 wrong, 1 missed" in text
    assert "✗ missed  03-02 00:00  PUMP-5  leak" in text
    assert "2 dead letters" in " ".join(text.split())
    assert "0 of 1 events found, 0 of 0 alarms right" in " ".join(text.split())


def test_the_sentence_follows_the_figures() -> None:
    content = result()
    for change in content["frozen"]["changes"]:
        change["after"] = errors(0.5, 0.25)
    assert "is 0.5 (0.2 before), the frozen model's 0.25: 0.5 × as large" in sentence(content)


def test_bars() -> None:
    assert sparkline([0.0, 1.0, 0.49, float("nan"), 9.0], 1.0) == "▁█▄ █"
    assert sparkline([0.0, 0.0], 0.0) == "▁▁"


# The example files


def test_examples_are_written_once_and_not_over_changes(tmp_path: Path) -> None:
    def call(*more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "ssm_stream", "examples", *more]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)

    first = call()
    assert first.returncode == 0, first.stderr
    assert "ssm-stream backtest examples/soft-sensor.yaml examples/plant.csv.gz" in first.stdout
    assert all(len(line) <= 80 for line in first.stdout.splitlines())
    assert call().returncode == 0
    changed = tmp_path / "examples" / "soft-sensor.yaml"
    changed.write_text("mine\n")
    refused = call()
    assert refused.returncode == 2
    assert "examples: soft-sensor.yaml would be overwritten" in refused.stderr
    assert changed.read_text() == "mine\n"
    assert call("--force").returncode == 0
    assert changed.read_bytes() == (ROOT / "configs" / "soft-sensor.yaml").read_bytes()
    assert call("other").returncode == 0
    assert (tmp_path / "other" / "plant.csv.gz").exists()


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.config)
def test_each_example_configuration_fits_its_recording(example: Example, tmp_path: Path) -> None:
    files = {path.name: path for path in write_examples(tmp_path)}
    config = load_config(files[example.config])
    chunk = next(prequential(config, Recording(files[example.recording])))
    assert not chunk.refused
    assert len(chunk.events) > 1000
    assert f"examples/{example.config} examples/{example.recording}" in files[example.config].read_text()
