"""The backtest: metrics as a plain count of its own rows gives them, rows as the prediction message, exit codes."""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from ssm_stream.cli.app import app
from ssm_stream.cli.backtest import prediction_lines
from ssm_stream.config import ConfigError, parse_config
from ssm_stream.config.first_alerts import too_short
from ssm_stream.engine.engine import Engine
from ssm_stream.evaluate import prequential
from ssm_stream.evaluate.backtest import backtest
from ssm_stream.evaluate.document_engine import DocumentEngine
from ssm_stream.evaluate.prequential import Chunk, alert_rows
from ssm_stream.evaluate.recordings import Recording
from ssm_stream.evaluate.recordings.backward_steps import BackwardSteps
from ssm_stream.evaluate.recordings.repeated_events import RepeatedEvents
from ssm_stream.ingest.events import Events

YAML = """
source: {brokers: "localhost:9092", topic: events}
event: {entity: machine, timestamp: ts, features: [load], target: temp}
model: {warmup: 10}
"""
CONFIG = parse_config(YAML)
FIELDS = ["entity", "ts", "y", "yhat", "yhat_lower", "yhat_upper", "anomaly_score", "warmup", "n", "fleet", "id"]
METRICS = {"events", "labelled", "mae", "rmse", "mae_persistence", "coverage", "interval_width", "anomalies", "drifts"}
METRICS |= {f"{kind}_{what}" for kind in ("anomaly", "drift") for what in ("share", "longest")}
PROMISED = METRICS | {"entities", "seconds", "partitions", "pools"}


def stream(n: int, seed: int = 0, entities: int = 3, missing: float = 0.2) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    out = []
    for i in range(n):
        load = float(rng.normal())
        temp = 20 + 3 * load + float(rng.normal()) + (50 if rng.random() < 0.002 else 0)
        known = rng.random() >= missing
        out.append({"machine": f"m{rng.integers(entities)}", "ts": i, "load": load, "temp": temp if known else None})
    return out


def told(rows: list[dict[str, Any]]) -> tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]:
    """Metrics, prediction rows and alert rows of a backtest."""
    predictions: list[dict[str, Any]] = []
    alerts: list[dict[str, Any]] = []

    def on_chunk(chunk: Chunk) -> None:
        predictions.extend(map(orjson.loads, prediction_lines(chunk, "file.csv").splitlines()))
        alerts.extend(alert_rows(chunk))

    return backtest(CONFIG, rows, on_chunk, source="file.csv"), predictions, alerts


def counted(predictions: list[dict[str, Any]], alerts: list[dict[str, Any]]) -> dict[str, Any]:
    """The metrics, row by row: scored against the entity's last target where it has one, judged after its warm-up."""
    last: dict[str, float] = {}
    errors, steps, hits, widths = [], [], [], []
    for row in predictions:
        y = row["y"]
        if y is None:
            continue
        if row["entity"] in last:
            errors.append(y - row["yhat"])
            steps.append(abs(y - last[row["entity"]]))
        last[row["entity"]] = y
        if not row["warmup"]:
            hits.append(row["yhat_lower"] <= y <= row["yhat_upper"])
            widths.append(row["yhat_upper"] - row["yhat_lower"])

    def mean(values: list[Any]) -> float | None:
        return sum(values) / len(values) if values else None

    squared = mean([e * e for e in errors])
    starts = [a["kind"] for a in alerts if a["phase"] == "started"]
    return {
        "events": len(predictions),
        "labelled": sum(row["y"] is not None for row in predictions),
        "mae": mean([abs(e) for e in errors]),
        "rmse": None if squared is None else math.sqrt(squared),
        "mae_persistence": mean(steps),
        "coverage": mean(hits),
        "interval_width": mean(widths),
        "anomalies": starts.count("anomaly"),
        "drifts": starts.count("drift"),
    }


def assert_close(found: dict[str, Any], expected: dict[str, Any]) -> None:
    for name, value in expected.items():
        assert found[name] == (None if value is None else pytest.approx(value, rel=1e-9, abs=1e-12)), name


@settings(max_examples=30)
@given(
    st.integers(0, 400), st.integers(0, 1000), st.integers(1, 30), st.sampled_from([0.0, 0.2, 0.9, 1.0]),
    st.sampled_from([1, 7, 10_000]),
)  # fmt: skip
@example(3000, 0, 3, 0.2, 1000)
def test_metrics_are_what_a_plain_count_of_the_rows_gives(
    n: int, seed: int, entities: int, missing: float, batch: int
) -> None:
    """Overall and for each entity, targets missing or not, however the rows fall into batches."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prequential, "BATCH", batch)
        result, predictions, alerts = told(stream(n, seed, entities, missing))
    assert_close(result, counted(predictions, alerts))
    names = {row["entity"] for row in predictions}
    assert result["entities"] == len(names)
    assert set(result["by_entity"]) == names
    for name, metrics in result["by_entity"].items():
        mine, its = ([row for row in rows if row["entity"] == name] for rows in (predictions, alerts))
        assert_close(metrics, counted(mine, its))


def test_the_stream_of_these_tests_raises_alerts_that_are_counted() -> None:
    result, _, alerts = told(stream(3000))
    assert result["anomalies"] > 0
    assert {a["phase"] for a in alerts} >= {"started", "recovered"}


LATE = parse_config(YAML + "labels: {marker: lab, target: lab, wait: 1h}\n")


def with_late_labels(n: int, delay: int, seed: int = 0) -> list[dict[str, Any]]:
    """Events without targets, of which every fifth has a label `delay` rows later, and one label without an event."""
    rows: list[dict[str, Any]] = []
    events = stream(n, seed, missing=0.0)
    for i, row in enumerate(events):
        if i >= delay and (i - delay) % 5 == 0:
            past = events[i - delay]
            rows.append({"machine": past["machine"], "ts": past["ts"], "load": None, "temp": None, "lab": past["temp"]})
        rows.append({**row, "temp": None, "lab": None})
    rows.insert(n // 2, {"machine": "m0", "ts": -5, "load": None, "temp": None, "lab": 1.0})
    return rows


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet", ""])
def test_labels_among_the_events_are_learned_at_their_place(suffix: str, tmp_path: Path) -> None:
    rows = with_late_labels(600, 12)
    given: Any = rows
    if suffix:
        file = tmp_path / f"a.{suffix}"
        frame = pl.DataFrame(rows, infer_schema_length=None)
        {"csv": frame.write_csv, "jsonl": frame.write_ndjson, "parquet": frame.write_parquet}[suffix](file)
        given = Recording(file)
    found = backtest(LATE, given)
    assert (found["events"], found["labelled"]) == (600, 118)
    assert found["refused"] == {"UnmatchedLabel": 1}
    assert found["mae"] < 0.6 * found["mae_persistence"]
    assert sum(each["events"] for each in found["by_entity"].values()) == 600
    assert sum(each["labelled"] for each in found["by_entity"].values()) == 118


@pytest.mark.parametrize("batch", [1, 7, 10_000])
def test_late_labels_give_the_predictions_and_alerts_of_the_engine(batch: int) -> None:
    rows, predictions, alerts = with_late_labels(3000, 12), list[dict[str, Any]](), list[dict[str, Any]]()

    def on_chunk(chunk: Chunk) -> None:
        predictions.extend(map(orjson.loads, prediction_lines(chunk, "file.csv").splitlines()))
        alerts.extend(alert_rows(chunk))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prequential, "BATCH", batch)
        backtest(LATE, rows, on_chunk, source="file.csv")
    expected = DocumentEngine(LATE).process_documents(rows)
    assert [row["yhat"] for row in predictions] == [each.yhat for each in expected.predictions]
    assert [int(row["id"].rpartition("-")[2]) for row in predictions] == [each.row for each in expected.predictions]
    names = ("entity", "kind", "phase", "ts")
    assert [[row[name] for name in names] for row in alerts] == [
        [row[name] for name in names] for row in expected.alerts
    ]
    assert [row["source"]["offset"] for row in alerts] == [row["row"] for row in expected.alerts]
    assert len({row["id"] for row in alerts}) == len(alerts) > 0


def test_a_label_directly_after_its_event_is_a_target_in_it() -> None:
    late = parse_config(YAML.replace("target: temp", "target: temp, lags: 0") + "labels: {marker: lab, target: lab}\n")
    own = stream(1500, missing=0.3)
    parted = []
    for row in own:
        parted.append({**row, "temp": None})
        if row["temp"] is not None:
            parted.append({"machine": row["machine"], "ts": row["ts"], "lab": row["temp"]})
    expected, found = backtest(late, own), backtest(late, parted)
    assert_close(found, {name: expected[name] for name in METRICS})
    assert found["labelled"] == sum(row["temp"] is not None for row in own)


def last_labels(rows: list[dict[str, Any]]) -> list[tuple[float, float]]:
    """Of each label with an event, in order: its value, and the last one there when its event came."""
    last: dict[str, float] = {}
    known: dict[tuple[str, int], float] = {}
    found = []
    for row in rows:
        at = (row["machine"], row["ts"])
        if row["lab"] is None:
            known[at] = last.get(row["machine"], math.nan)
        elif at in known:
            found.append((row["lab"], known[at]))
            last[row["machine"]] = row["lab"]
    return found


@pytest.mark.parametrize("batch", [7, 10_000])
def test_persistence_has_the_last_label_that_was_there_and_not_a_later_one(batch: int) -> None:
    rows = with_late_labels(600, 31)
    steps = [abs(y - last) for y, last in last_labels(rows) if not math.isnan(last)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prequential, "BATCH", batch)
        found = backtest(LATE, rows)
    assert found["mae_persistence"] == pytest.approx(sum(steps) / len(steps), rel=1e-12)


def test_persistence_has_a_delayed_label_no_sooner_than_the_model() -> None:
    rows, delay = stream(400, missing=0.0), 9
    steps = []
    for t, row in enumerate(rows):
        there = [each["temp"] for each in rows[: max(t - delay, 0)] if each["machine"] == row["machine"]]
        steps += [abs(row["temp"] - there[-1])] if there else []
    found = backtest(CONFIG, rows, label_delay=delay)
    assert found["mae_persistence"] == pytest.approx(sum(steps) / len(steps), rel=1e-12)


def test_labels_are_refused_where_only_events_are_read() -> None:
    with pytest.raises(
        ConfigError, match=r"labels.marker: found rows of the recording with `lab`.*into the row of its"
    ):
        list(prequential.prequential(LATE, with_late_labels(40, 3)))


def test_metrics_of_nothing_are_none() -> None:
    result = backtest(CONFIG, [])
    assert [result[name] for name in ("events", "entities", "anomalies", "drifts")] == [0, 0, 0, 0]
    assert [result[name] for name in ("mae", "rmse", "mae_persistence", "coverage", "interval_width")] == [None] * 5


def test_refused_rows_are_counted_by_fault_and_leave_numbers_and_ids_alone() -> None:
    good = stream(300)
    spoilt = [*good[:100], {"machine": "m0", "ts": "?"}, {"ts": 1}, *good[100:], {**good[0], "load": math.inf}]
    result, predictions, _ = told(spoilt)
    clean, expected, _ = told(good)
    assert result["refused"] == {"WrongTimestamp": 1, "MissingField": 1, "NotFinite": 1}
    assert {name: result[name] for name in METRICS} == {name: clean[name] for name in METRICS}
    assert [{**row, "id": ""} for row in predictions] == [{**row, "id": ""} for row in expected]
    assert [row["id"] for row in predictions[98:102]] == [f"file.csv-0-{i}" for i in (98, 99, 102, 103)]


def test_ids_and_sources_count_the_rows_of_the_file_across_batches() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prequential, "BATCH", 100)
        _, predictions, alerts = told(stream(1000))
    assert [row["id"] for row in predictions] == [f"file.csv-0-{i}" for i in range(1000)]
    assert alerts
    for alert in alerts:
        row = predictions[alert["source"]["offset"]]
        assert alert["source"] == {"topic": "file.csv", "partition": 0, "offset": alert["source"]["offset"]}
        assert alert["id"] == f"{row['id']}-{alert['kind']}"
        assert [alert[name] for name in ("entity", "ts", "y", "yhat")] == [
            row[name] for name in ("entity", "ts", "y", "yhat")
        ]


def test_an_engine_that_is_given_is_the_one_that_learns() -> None:
    engine = Engine(CONFIG)
    for _ in prequential.prequential(CONFIG, stream(50), engine):
        pass
    assert len(engine) == 3
    (again,) = prequential.prequential(CONFIG, stream(50), engine)
    assert again.predictions.n.min() > 0


# Several targets.

TWO_YAML = YAML.replace("target: temp", "target: [temp, noise]")
TWO = parse_config(TWO_YAML)
PER_TARGET = ("mae", "rmse", "mae_persistence", "interval_width")


def two(n: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(1)
    return [{**row, "noise": 1000 * row["load"] + float(rng.normal())} for row in stream(n)]


@pytest.mark.parametrize("sections", ["", "model: {horizon: 2, warmup: 10}"])
def test_metrics_of_two_targets_are_those_of_each_and_none_where_units_differ(sections: str) -> None:
    """Each target as in a backtest of its own, with its share of the alarm budgets."""
    config = parse_config(TWO_YAML.replace("model: {warmup: 10}", sections or "model: {warmup: 10}"))
    rows, starts = two(3000), list[dict[str, Any]]()
    result = backtest(config, rows, lambda chunk: starts.extend(a.message for a in chunk.alerts))
    for path in ("temp", "noise"):
        alone = backtest(config.for_target(path), rows)
        numbers = METRICS - {"anomalies", "drifts"}
        assert {name: result["by_target"][path][name] for name in numbers} == {name: alone[name] for name in numbers}
        for entity, metrics in alone["by_entity"].items():
            found = result["by_entity"][entity]["by_target"][path]
            assert {name: found[name] for name in numbers} == {name: metrics[name] for name in numbers}
        began = Counter(m["kind"] for m in starts if m["phase"] == "started" and m["target"] == path)
        assert (result["by_target"][path]["anomalies"], result["by_target"][path]["drifts"]) == (
            began["anomaly"], began["drift"],
        )  # fmt: skip
    assert set(result) >= PROMISED | {"by_target", "by_entity"}
    for metrics in (result, *result["by_entity"].values()):
        assert [metrics[name] for name in PER_TARGET] == [None] * 4
        parts = metrics["by_target"].values()
        assert metrics["anomalies"] == sum(part["anomalies"] for part in parts)
        assert metrics["events"] == max(part["events"] for part in parts)
        assert min(p["coverage"] for p in parts) <= metrics["coverage"] <= max(p["coverage"] for p in parts)
    assert result["anomalies"] > 0
    assert result["entities"] == 3
    assert sections or result["events"] == 3000


def test_metrics_of_two_targets_of_nothing_are_none() -> None:
    result = backtest(TWO, [])
    assert (result["events"], result["entities"], result["mae"], result["coverage"]) == (0, 0, None, None)
    assert result["by_target"]["noise"]["mae"] is None


def test_labels_cannot_be_delayed_for_two_targets() -> None:
    with pytest.raises(ConfigError, match=r"--label-delay: found 2 targets"):
        backtest(TWO, two(10), label_delay=3)


# The order of the rows.


def test_late_events_of_an_hour_that_clocks_have_twice_name_the_zone(tmp_path: Path) -> None:
    begin = 1_761_433_200_000  # 2025-10-25 23:00, local
    passed = [begin + 900_000 * i for i in range(40)]
    local = [t if t < begin + 4 * 3_600_000 else t - 3_600_000 for t in passed]
    rows = [{**stream(1)[0], "machine": f"m{m}", "ts": t} for t in local for m in range(3)]
    found = backtest(CONFIG, rows)
    late = {"late": 9, "late_by": 2700.0, "clocks_back": "Europe/Berlin", "clocks_back_late": 9}
    assert {name: found[name] for name in late} == late
    summer = backtest(CONFIG, [{**row, "ts": row["ts"] - 90 * 86_400_000} for row in rows])
    assert summer["late"] == 9
    assert "clocks_back" not in summer
    file = recording(tmp_path, "csv", [{**row, "ts": str(np.datetime64(row["ts"], "ms"))} for row in rows])
    config = tmp_path / "c.yaml"
    config.write_text(YAML)
    text = " ".join(call(config, file).output.split())
    assert "9 of them came in an hour that local clocks have twice, as in Europe/Berlin: if `ts` is local" in text
    config.write_text(YAML.replace("target: temp", "target: temp, time_zone: Europe/Berlin"))
    assert "came after later ones" not in call(config, file).output


def test_a_cadence_by_which_the_first_alert_takes_weeks_is_named(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(YAML.replace("model: {warmup: 10}", ""))
    rows = [
        {**row, "machine": f"m{i % 3}", "ts": 1_767_225_600 + 21_600 * (i // 3)} for i, row in enumerate(stream(60))
    ]
    text = " ".join(call(config, recording(tmp_path, "csv", rows)).output.split())
    assert "the first anomaly of an entity can be an alert after " in text
    config.write_text(YAML)
    often = [{**row, "ts": 1_767_225_600 + i} for i, row in enumerate(rows)]
    assert "the first anomaly of an entity" not in call(config, recording(tmp_path, "csv", often)).output
    windows = "aggregate: {every: 6h, columns: {events: count, temp: {mean: temp}}}, target: temp, features: [events]"
    config.write_text(YAML.replace("features: [load], target: temp", windows).replace("{warmup: 10}", "{}"))
    text = " ".join(CliRunner(env={"COLUMNS": "160"}).invoke(app, ["validate", str(config)]).output.split())
    assert (
        "can be an alert after 25 days (100 rows, model.warmup), the first drift of its daily means after 25 days"
        in text
    )
    assert "of its errors after 200 days (800 rows)" in text


def test_a_file_that_is_not_sorted_is_noticed(tmp_path: Path) -> None:
    rows = stream(400)
    assert backtest(CONFIG, rows)["events"] == 400
    twice = [{**row, "ts": row["ts"] // 5} for row in rows]
    clock = [{**row, "ts": i - 30 * (i > 200)} for i, row in enumerate(rows)]
    apart = sorted(rows, key=lambda row: str(row["machine"]))
    for fine in (rows, twice, clock, apart):
        assert "backward" not in backtest(CONFIG, fine)
        assert ("late" in backtest(CONFIG, fine)) == (fine is clock)
    assert backtest(CONFIG, rows[::-1])["backward"] == 397
    mixed = [rows[i] for i in np.random.default_rng(0).permutation(400)]
    last: dict[str, int] = {}
    back = 0
    for row in mixed:
        back += row["ts"] < last.get(row["machine"], 0)
        last[row["machine"]] = row["ts"]
    assert backtest(CONFIG, mixed)["backward"] == back
    (tmp_path / "config.yaml").write_text(YAML)
    told = call(tmp_path / "config.yaml", recording(tmp_path, "csv", rows[::-1]))
    assert "times go back in 397 events within their entities" in told.stdout
    assert "sorted by ts, oldest first" in told.stdout


def test_events_that_come_late_are_counted(tmp_path: Path) -> None:
    """All that a gateway held back, of which one alone is a step back; whatever the batches."""
    rng = np.random.default_rng(0)
    names = [f"m{i}" for i in rng.integers(0, 9, 3000)]
    ts = np.arange(3000) * 1000 - np.where(rng.random(3000) < 0.05, rng.integers(0, 500_000, 3000), 0)
    ts[1000:1100] -= 400_000
    latest: dict[str, int] = {}
    by = []
    for name, time in zip(names, ts.tolist(), strict=True):
        by.append(max(latest.get(name, time) - time, 0))
        latest[name] = max(latest.get(name, time), time)
    for size in (1, 7, 1000, 3000):
        steps = BackwardSteps()
        for i in range(0, 3000, size):
            steps.add(names[i : i + size], ts[i : i + size])
        assert (steps.late, steps.late_by) == (sum(each > 0 for each in by), max(by))
    rows = [{**row, "ts": 1_767_225_600 + 60 * i} for i, row in enumerate(stream(400, entities=1))]
    held = [*rows[:100], *rows[130:200], *rows[100:130], *rows[200:]]
    (tmp_path / "config.yaml").write_text(YAML)
    printed = call(tmp_path / "config.yaml", recording(tmp_path, "csv", held)).stdout
    assert "30 events came after later ones of their entities, by up to 1.65 h: none is refused" in printed
    assert "came after later" not in call(tmp_path / "config.yaml", recording(tmp_path, "csv", rows)).stdout


def test_events_that_are_there_twice_are_counted(tmp_path: Path) -> None:
    """Whatever the batches; another value, or the same one later, is no repeat, and what is unknown is the same."""
    rng, n = np.random.default_rng(0), 3000
    names, ts = [f"m{i}" for i in rng.integers(0, 9, n)], np.arange(n) * 1000
    features = np.where(rng.random((n, 2)) < 0.2, np.nan, rng.integers(0, 2, (n, 2)).astype(float))
    twice = np.sort(np.r_[np.arange(n), rng.choice(n, 25, replace=False)])
    events = Events([names[i] for i in twice], ts[twice], features[twice], np.zeros(len(twice)), np.arange(len(twice)))
    other = np.flatnonzero(np.diff(twice) == 0)[:5]
    events.target[other] = 1.0
    for size in (1, 7, 1000, 4000):
        repeated = RepeatedEvents()
        for i in range(0, len(twice), size):
            repeated.add(events.take(np.arange(i, min(i + size, len(twice)))))
        assert repeated.count == 20
    rows = [{**row, "ts": 1_767_225_600 + 60 * i} for i, row in enumerate(stream(400, entities=1))]
    (tmp_path / "config.yaml").write_text(YAML)
    file = recording(tmp_path, "csv", [*rows[:100], *rows[99:200], *rows[199:]])
    assert "2 events have the time and the values of their entity's event before" in call(
        tmp_path / "config.yaml", file
    ).stdout.replace("\n", " ")
    assert "event before" not in call(tmp_path / "config.yaml", recording(tmp_path, "csv", rows)).stdout


def test_times_in_another_unit_than_the_configured_one_are_named(tmp_path: Path) -> None:
    rows = [{**row, "ts": 1_767_225_600 + 60 * i} for i, row in enumerate(stream(40, entities=1))]
    file, config = recording(tmp_path, "csv", rows), tmp_path / "config.yaml"
    config.write_text(YAML.replace("timestamp: ts", "timestamp: ts, timestamp_format: ms"))
    said = "the first event is of 1970-01-21 by `ts`: event.timestamp_format is ms, and in s it is 2026-01-01"
    assert said in call(config, file).stdout
    config.write_text(YAML)
    assert "timestamp_format" not in call(config, file).stdout
    in_ms = recording(tmp_path, "csv", [{**row, "ts": 1000 * row["ts"]} for row in rows])
    config.write_text(YAML.replace("timestamp: ts", "timestamp: ts, timestamp_format: s"))
    assert "event.timestamp_format is s, and in ms it is 2026-01-01" in call(config, in_ms).output


# The command.


def test_two_targets_by_the_command(tmp_path: Path) -> None:
    config, out = tmp_path / "two.yaml", tmp_path / "out.jsonl"
    config.write_text(TWO_YAML)
    file = recording(tmp_path, "csv", two(400))
    result = call(config, file, "--out", out, "--json")
    assert result.exit_code == 0, result.output
    found, expected = orjson.loads(result.stdout), backtest(TWO, two(400))
    assert found["by_target"] == expected["by_target"]
    assert found["by_entity"] == expected["by_entity"]
    written = [orjson.loads(line) for line in out.read_bytes().splitlines()]
    wanted = [(f"recording.csv-0-{i}-{path}", path) for i in range(400) for path in ("temp", "noise")]
    assert [(row["id"], row["target"]) for row in written] == wanted
    assert set(written[0]) == {*FIELDS, "target"}
    assert [row["y"] for row in written[1::2]] == [row["noise"] for row in two(400)]
    table = call(config, file)
    assert all(word in table.stdout for word in ("target", "temp", "noise", "all 2", "each of the 3 entities"))


def test_a_recording_that_ends_before_any_alert_says_so(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(YAML)
    short = call(tmp_path / "config.yaml", recording(tmp_path, "csv", stream(12, missing=0.0))).stdout
    assert "no alert of the model could come: alerts begin after 10 labelled events of an entity" in short
    assert "could come" not in call(tmp_path / "config.yaml", recording(tmp_path, "csv", stream(400))).stdout
    assert too_short([10, 4], CONFIG.model) is not None
    some = too_short([50, 10, 3], CONFIG.model)
    assert some is not None
    assert "could come for 2 of 3 entities" in some
    assert too_short([50] * 20 + [3], CONFIG.model) is None


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(YAML)
    return path


def recording(folder: Path, kind: str, rows: list[dict[str, Any]]) -> Path:
    path = folder / f"recording.{kind}"
    if kind == "csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif kind == "jsonl":
        path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    else:
        pl.DataFrame(rows).write_parquet(path)
    return path


def call(*arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "160"}).invoke(app, ["backtest", *map(str, arguments)])


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_the_command_prints_the_promised_metrics_of_every_format(tmp_path: Path, config_file: Path, kind: str) -> None:
    rows = stream(500)
    result = call(config_file, recording(tmp_path, kind, rows), "--json")
    assert result.exit_code == 0, result.output
    found = orjson.loads(result.stdout)
    expected = backtest(CONFIG, rows)
    assert set(found) >= PROMISED
    assert {name: found[name] for name in METRICS} == {name: expected[name] for name in METRICS}
    assert found["by_entity"] == expected["by_entity"]
    assert all(set(metrics) == METRICS for metrics in found["by_entity"].values())
    assert found["entities"] == 3
    assert found["seconds"] > 0


def test_rows_written_have_exactly_the_fields_of_the_prediction_message(tmp_path: Path, config_file: Path) -> None:
    rows = stream(500)
    out, alerts = tmp_path / "out.jsonl", tmp_path / "alerts.jsonl"
    result = call(config_file, recording(tmp_path, "csv", rows), "--out", out, "--alerts", alerts, "--json")
    assert result.exit_code == 0, result.output
    written = [orjson.loads(line) for line in out.read_bytes().splitlines()]
    assert len(written) == 500
    for i, (row, source) in enumerate(zip(written, rows, strict=True)):
        assert list(row) == FIELDS
        assert (row["entity"], row["ts"], row["y"]) == (source["machine"], 1000 * source["ts"], source["temp"])
        assert row["id"] == f"recording.csv-0-{i}"
        assert isinstance(row["warmup"], bool)
        assert all(type(row[name]) is float for name in FIELDS[3:7])
    found = [orjson.loads(line) for line in alerts.read_bytes().splitlines()]
    starts = [a["kind"] for a in found if a["phase"] == "started"]
    metrics = orjson.loads(result.stdout)
    assert (starts.count("anomaly"), starts.count("drift")) == (metrics["anomalies"], metrics["drifts"])


def test_messages_are_json_whatever_the_file_is_called(tmp_path: Path, config_file: Path) -> None:
    """The id holds the name; predictions by column are those of the rows one by one, bit for bit."""
    path = recording(tmp_path, "parquet", stream(300)).rename(tmp_path / 'a "b" %d é.parquet')
    out = tmp_path / "predictions.jsonl"
    assert call(config_file, path, "--out", out).exit_code == 0
    found = [orjson.loads(line) for line in out.read_bytes().splitlines()]
    assert [row["id"] for row in found] == [f"{path.name}-0-{i}" for i in range(300)]
    _, expected, _ = told(stream(300))
    assert [{**row, "id": ""} for row in found] == [{**row, "id": ""} for row in expected]


def test_side_by_side_has_errors_and_says_what_it_cannot(tmp_path: Path, config_file: Path) -> None:
    path = recording(tmp_path, "parquet", stream(150))
    refused = call(config_file, path, "--device", "cpu")
    assert refused.exit_code == 2
    assert "model.fleet: found true; --device cpu predicts every entity by itself" in refused.stderr
    config_file.write_text(YAML.replace("warmup: 10", "warmup: 10, fleet: false"))
    assert call(config_file, path, "--device", "cpu", "--label-delay", 3).exit_code == 2
    out = tmp_path / "predictions.jsonl"
    result = call(config_file, path, "--device", "cpu", "--json", "--out", out)
    assert result.exit_code == 0, result.output
    found, kernel = orjson.loads(result.stdout), orjson.loads(call(config_file, path, "--json").stdout)
    assert found["mae"] == pytest.approx(kernel["mae"], rel=1e-4)
    assert found["mae_persistence"] == kernel["mae_persistence"]
    assert (found["coverage"], found["anomalies"], found["drifts"]) == (None, 0, 0)
    assert orjson.loads(out.read_bytes().splitlines()[0])["yhat_lower"] is None


def test_without_json_a_table_names_the_entities_and_the_refused_rows(tmp_path: Path, config_file: Path) -> None:
    result = call(config_file, recording(tmp_path, "jsonl", [*stream(200), {"machine": "m0"}]))
    assert result.exit_code == 0
    assert all(word in result.stdout for word in ("persistence", "m0", "m1", "m2", "all 3", "MissingField 1"))
    assert "row 201: MissingField" in result.stderr
    assert "row 201" not in result.stdout


AUTO = YAML.replace("[load]", "auto")


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_features_that_are_picked_give_the_figures_of_the_same_features_listed(tmp_path: Path, kind: str) -> None:
    """The first rows are looked at, told of, and not lost; the hash is that of the features."""
    rows = [{**row, "site": "Lyon", "copy": row["temp"]} for row in stream(500)]
    config = tmp_path / "auto.yaml"
    config.write_text(AUTO)
    result = call(config, recording(tmp_path, kind, rows), "--json")
    assert result.exit_code == 0, result.output
    for words in ("features    load", "site: the same text in all events", "copy: the same as the target in all"):
        assert words in result.stderr
    found, expected = orjson.loads(result.stdout), backtest(CONFIG, rows)
    assert {name: found[name] for name in METRICS} == {name: expected[name] for name in METRICS}
    assert found["config_hash"] == CONFIG.hash
    assert "selected" not in call(config, recording(tmp_path, kind, rows)).stdout


def test_categories_are_picked_too(tmp_path: Path) -> None:
    rows = [{**row, "mode": "ab"[i % 2]} for i, row in enumerate(stream(300))]
    config = tmp_path / "auto.yaml"
    config.write_text(AUTO)
    result = call(config, recording(tmp_path, "csv", rows), "--json")
    assert result.exit_code == 0, result.output
    assert "categories  mode" in result.stderr
    listed = parse_config(YAML.replace("[load]", "[load], categories: [mode]"))
    assert orjson.loads(result.stdout)["config_hash"] == listed.hash
    assert orjson.loads(result.stdout)["mae"] == backtest(listed, rows)["mae"]


def test_nothing_to_select_from_ends_with_2(tmp_path: Path) -> None:
    config = tmp_path / "auto.yaml"
    config.write_text(AUTO)
    rows = [{"machine": "m", "ts": "noon", "temp": 1.0, "load": float(i)} for i in range(2)]
    result = call(config, recording(tmp_path, "jsonl", rows))
    assert result.exit_code == 2
    assert "auto: none of the first 2 documents is an event: timestamp: `ts` is not ISO 8601" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("command", ["backtest", "pilot", "tune"])
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("text", [YAML, AUTO], ids=["listed", "auto"])
def test_a_missing_column_is_named_with_the_nearest_one(tmp_path: Path, command: str, kind: str, text: str) -> None:
    config = tmp_path / "monitor.yaml"
    config.write_text(text)
    rows = [{"machine": "m", "ts": 1_700_000_000 + i, "load": 1.0, "tempp": 2.0} for i in range(3)]
    result = CliRunner().invoke(app, [command, str(config), str(recording(tmp_path, kind, rows))])
    assert result.exit_code == 2
    assert (
        f"event.target: no column 'temp' in recording.{kind}; did you mean `tempp`? "
        "its columns: machine, ts, load, tempp" in result.stderr
    )
    assert result.stdout == ""


def test_a_file_without_a_column_of_the_machine_names_the_cure(tmp_path: Path) -> None:
    config = tmp_path / "monitor.yaml"
    config.write_text(YAML)
    rows = [{"ts": 1_700_000_000 + i, "load": 1.0, "temp": 2.0 + i % 3} for i in range(30)]
    file = recording(tmp_path, "csv", rows)
    result = CliRunner().invoke(app, ["backtest", str(config), str(file)])
    assert "if all of it is of one machine, write its name as `event.entity_default`" in result.stderr
    config.write_text(YAML.replace("entity: machine", "entity: machine, entity_default: pump-1", 1))
    cured = CliRunner().invoke(app, ["backtest", str(config), str(file)])
    assert cured.exit_code == 0, cured.stderr
    assert "pump-1" in cured.stdout


def test_limit_reads_only_the_first_rows(tmp_path: Path, config_file: Path) -> None:
    result = call(config_file, recording(tmp_path, "csv", stream(200)), "--limit", 50, "--json")
    assert orjson.loads(result.stdout)["events"] == 50


@pytest.mark.parametrize("content", ["", "machine,ts\n", None], ids=["empty", "a header only", "no such file"])
def test_a_recording_that_cannot_be_read_ends_with_1(tmp_path: Path, config_file: Path, content: str | None) -> None:
    path = tmp_path / "recording.csv"
    if content is not None:
        path.write_text(content)
    result = call(config_file, path)
    assert result.exit_code == 1
    assert "recording.csv" in result.stderr
    assert result.stdout == ""


def test_an_output_that_cannot_be_written_ends_with_2(tmp_path: Path, config_file: Path) -> None:
    result = call(config_file, recording(tmp_path, "csv", stream(20)), "--out", tmp_path / "no" / "folder.jsonl")
    assert result.exit_code == 2
    assert "not a file in an existing folder" in unboxed(result.stderr)


def unboxed(text: str) -> str:
    return re.sub(r"\s*│?\n│?\s*", " ", text)


def test_no_command_writes_to_what_it_reads(tmp_path: Path, config_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = recording(tmp_path, "csv", stream(20))
    labels, data = tmp_path / "labels.csv", recording(tmp_path, "jsonl", stream(20)).rename(tmp_path / "line.json")
    labels.write_text("entity,start,end\n")
    (tmp_path / "link.html").symlink_to(rows)
    (tmp_path / "folder").mkdir()
    part = recording(tmp_path / "folder", "csv", stream(20))
    before = {path: path.read_bytes() for path in (config_file, rows, labels, data, part)}
    calls = [
        f"backtest config.yaml recording.csv --{option} {path}"
        for option in ("out", "alerts")
        for path in ("recording.csv", "./config.yaml", "link.html")
    ]
    calls += [f"{name} config.yaml recording.csv --out recording.csv" for name in ("tune", "verify")]
    calls += [
        f"pilot config.yaml recording.csv --labels labels.csv --out {name}" for name in ("link.html", "labels.csv")
    ]
    calls += ["pilot config.yaml line.json --out line.html", "init recording.csv --out recording.csv --force"]
    calls += ["explain config.yaml m0 --recording recording.csv --html recording.csv"]
    calls += ["train --history recording.csv config.yaml --out config.yaml", "state export config.yaml config.yaml"]
    calls += ["backtest config.yaml folder --out folder/recording.csv"]
    for each in calls:
        result = CliRunner(env={"COLUMNS": "160"}).invoke(app, each.split())
        assert result.exit_code == 2, each
        assert "is an input file and is not overwritten: name another" in unboxed(result.stderr), each
    added = call("config.yaml", "folder", "--out", "folder/predictions.jsonl")
    assert added.exit_code == 2
    assert "would be read as a file of folder: name another" in unboxed(added.stderr)
    assert {path: path.read_bytes() for path in before} == before
    assert list((tmp_path / "folder").iterdir()) == [part]
    assert call("config.yaml", "folder", "--out", "folder/predictions.log").exit_code == 0


def test_predictions_and_alerts_are_two_files(tmp_path: Path, config_file: Path) -> None:
    file, out = recording(tmp_path, "csv", stream(20)), tmp_path / "out.jsonl"
    result = call(config_file, file, "--out", out, "--alerts", tmp_path / "." / "out.jsonl")
    assert result.exit_code == 2
    assert "is the file of --out, too: name another" in unboxed(result.stderr)
    assert not out.exists()
    assert call(config_file, file, "--out", "/dev/null", "--alerts", "/dev/null").exit_code == 0


@pytest.mark.parametrize("command", ["backtest", "validate"])
def test_a_recording_without_an_event_ends_with_1(tmp_path: Path, config_file: Path, command: str) -> None:
    rows = [{**row, "load": f"{row['load']} bar"} for row in stream(30)]
    arguments = (str(config_file), str(recording(tmp_path, "jsonl", rows)))
    runner = CliRunner(env={"COLUMNS": "160"})
    reason = "recording.jsonl: none of 30 rows is an event; row 1: `load` must be a number"
    plain, as_json = (runner.invoke(app, [command, *arguments, *more]) for more in ([], ["--json"]))
    assert plain.exit_code == as_json.exit_code == 1
    assert reason in plain.output
    found = orjson.loads(as_json.stdout)
    assert reason in (as_json.stderr if command == "backtest" else found["recording"][0])
    config_file.write_text(YAML.replace("target: temp", "target: temp, only: [m7]"))
    others = runner.invoke(app, [command, *arguments])
    assert others.exit_code == 1
    assert "they are of other entities (event.only)" in others.output


@pytest.mark.parametrize("text", ["source: {}", "event: [", YAML + "modle: {}", None])
def test_a_configuration_that_cannot_be_used_ends_with_2(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "config.yaml"
    if text is not None:
        path.write_text(text)
    result = call(path, recording(tmp_path, "csv", stream(20)))
    assert result.exit_code == 2
    assert "config.yaml" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("arguments", [[], ["only-one"], ["a", "b", "--limit", "0"], ["a", "b", "--no-such-option"]])
def test_bad_usage_ends_with_2(arguments: list[str]) -> None:
    assert call(*arguments).exit_code == 2
