"""tune and ablate where labels are rows of the recording: each is learned at its place, and its prediction judged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from ssm_stream.cli.app import app
from ssm_stream.config import parse_config
from ssm_stream.evaluate.backtest import backtest
from ssm_stream.evaluate.recordings import Recording
from ssm_stream.evaluate.tuning.targets import read_targets
from ssm_stream.evaluate.tuning.trials import run_trial

EVENT = "event: {entity: e, timestamp: t, features: [a, b], target: lab, lags: 0}\n"
YAML = f"source: {{brokers: 'x:1', topic: t}}\n{EVENT}labels: {{marker: lab, wait: 10d%s}}\n"
LATE = parse_config(YAML % "")
BY_ID = parse_config(YAML % ", id: sample")
DELAY, HOUR = 9, 3600


def recorded(folder: Path, n: int, by: str = "t", level: float = 0.0) -> Path:
    """Two machines; every second event has a label DELAY rows later. level: is added to the labels of the last third"""
    rng = np.random.default_rng(4)
    a, b, noise = rng.normal(size=(3, n))
    rows = list[dict[str, Any]]()
    for i in range(n):
        rows.append({"e": f"m{i % 2}", "t": i * HOUR, "a": a[i], "b": b[i], "sample": f"s{i}", "lab": None})
        j = i - DELAY
        if j >= 0 and j % 4 < 2:
            y = 10 + 2 * a[j] + 0.3 * noise[j] + (level if j >= 2 * n // 3 else 0.0)
            rows.append({**dict.fromkeys(rows[0]), "e": f"m{j % 2}", "lab": y, by: rows_value(j, by)})
    path = folder / "late.csv"
    pl.DataFrame(rows, infer_schema_length=None).write_csv(path)
    return path


def rows_value(j: int, by: str) -> Any:
    return j * HOUR if by == "t" else f"s{j}"


@pytest.mark.parametrize("by", ["t", "sample"])
def test_a_trial_has_the_errors_and_alerts_of_a_backtest(by: str, tmp_path: Path) -> None:
    config = LATE if by == "t" else BY_ID
    file = recorded(tmp_path, 3000, by, level=6.0)
    trial, expected = run_trial(config, file), backtest(config, Recording(file))
    figures = trial.figures()
    for name in ("mae", "mae_persistence", "coverage", "interval_width"):
        assert figures[name] == pytest.approx(expected[name], rel=1e-12), name
    assert (figures["anomalies"], figures["drifts"]) == (expected["anomalies"], expected["drifts"])
    assert figures["anomalies"] + figures["drifts"] > 0
    assert (np.diff(trial.row) > 0).all()
    known = read_targets(config, file)
    assert len(known.ts) == expected["labelled"]
    assert not known.negative
    assert known.entities == {"m0", "m1"}


def test_what_chooses_sees_no_label_of_what_judges(tmp_path: Path) -> None:
    cut = 2000 * HOUR * 1000
    shown = [run_trial(LATE, recorded(tmp_path, 3000, level=level), until=cut) for level in (0.0, 1e3)]
    assert np.array_equal(shown[0].error, shown[1].error)
    assert shown[0].ts.max() < cut
    whole = run_trial(LATE, recorded(tmp_path, 3000)).part(until=cut)
    assert np.array_equal(shown[0].error[: len(whole.error) - DELAY], whole.error[:-DELAY])


def command(name: str, folder: Path, *options: str) -> Any:
    config = folder / "flow.yaml"
    config.write_text(YAML % "")
    file = recorded(folder, 3000)
    cache = ("--cache", str(folder / "cache"), "--jobs", "1")
    return CliRunner().invoke(app, [name, str(config), str(file), *(cache if name != "pilot" else ()), *options])


def test_tune_finds_the_column_that_brings_nothing(tmp_path: Path) -> None:
    result = command("tune", tmp_path, "--only", "features", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["before"]["mae"] < 0.5 * found["before"]["mae_persistence"]
    assert found["before"]["rows"] > 400


def test_ablate_reads_labels_and_from_the_paper_too(tmp_path: Path) -> None:
    result = command("ablate", tmp_path, "--from", "paper", "--json")
    assert result.exit_code == 0, result.output
    steps = json.loads(result.stdout)["steps"]
    assert all(each["us_per_event"] > 0.0 for each in steps)
    assert steps[-1]["mae"] < steps[0]["mae"]


def test_pilot_refuses_labels_with_the_reason_and_the_cure(tmp_path: Path) -> None:
    result = command("pilot", tmp_path, "--out", str(tmp_path / "page.html"))
    assert result.exit_code == 2
    told = " ".join(result.output.replace("│", " ").split())
    assert "simpler methods" in told
    assert "write each label into the row of its event" in told
