"""Commands that read a file: without a source, with rows that come late, and of several targets."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from ssm_stream.cli.app import app

START = 1_772_409_600
EVENT = "event: {entity: machine, timestamp: ts, features: [load], target: [temp, flow]}\n"
SOURCE = "source: {brokers: 'localhost:9092', topic: events}\n"


def ssm_stream(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def recording(path: Path, rows: int = 400) -> Path:
    rng = np.random.default_rng(0)
    with path.open("w") as text:
        text.write("ts,machine,load,temp,flow\n")
        for i, (load, temp) in enumerate(rng.normal(0, 1, (rows, 2)).tolist()):
            text.write(f"{START + 60 * i},M1,{load:.3f},{load + temp:.3f},{2 * load - temp:.3f}\n")
    return path


def config(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_file_is_backtested_without_a_source(tmp_path: Path) -> None:
    file = recording(tmp_path / "plant.csv")
    bare, whole = config(tmp_path / "bare.yaml", EVENT), config(tmp_path / "whole.yaml", SOURCE + EVENT)

    def figures(path: Path) -> dict[str, Any]:
        result = ssm_stream("backtest", path, file, "--json")
        assert result.exit_code == 0, result.output
        return {name: value for name, value in json.loads(result.stdout).items() if "second" not in name}

    assert figures(bare) == figures(whole)
    report = tmp_path / "r.html"
    assert ssm_stream("pilot", bare, file, "--out", report).exit_code == 0
    assert ssm_stream("explain", bare, "M1", "--recording", file).exit_code == 0


@pytest.mark.parametrize("command", [["backtest", "--topic"], ["run"], ["validate"]])
def test_a_topic_needs_a_source(tmp_path: Path, command: list[str]) -> None:
    name, *options = command
    result = ssm_stream(name, config(tmp_path / "bare.yaml", EVENT), *options)
    assert result.exit_code != 0
    assert "source: missing" in result.output


def test_explain_names_the_target_of_several(tmp_path: Path) -> None:
    file, path = recording(tmp_path / "plant.csv"), config(tmp_path / "m.yaml", SOURCE + EVENT)
    result = ssm_stream("explain", path, "M1", "--recording", file)
    assert "explained is `temp`, the first of 2 targets; --target names another: flow" in result.stderr
    assert "explained is" not in ssm_stream("explain", path, "M1", "--recording", file, "--target", "flow").stderr


def readings(path: Path, late: int, by: int = 40, rows: int = 3000) -> Path:
    """Each `late`-th set of readings comes `by` seconds after a later one."""
    rng = np.random.default_rng(1)
    made = []
    for i in range(rows):
        came = START + 10 * i + (by if i % late == late // 2 else 0)
        made += [(came, f"M1/{name}", START + 10 * i, round(float(rng.normal()), 3)) for name in ("a", "b", "c")]
    with path.open("w") as text:
        text.write("tag,ts,value\n")
        text.writelines(f"{tag},{ts},{value}\n" for _, tag, ts, value in sorted(made, key=lambda row: row[0]))
    return path


def test_readings_of_a_file_that_come_late_now_and_then_are_waited_for(tmp_path: Path) -> None:
    file, out = readings(tmp_path / "tags.csv", late=200), tmp_path / "m.yaml"
    drafted = ssm_stream("init", file, "--out", out)
    assert re.search(r"grace +\S+: 45 of 9,000 readings came after a later one of their entity", drafted.stderr)
    result = ssm_stream("backtest", out, file)
    assert "Late" not in result.output


def test_the_order_of_a_file_of_signal_after_signal_is_no_delay(tmp_path: Path) -> None:
    file, out = readings(tmp_path / "tags.csv", late=4), tmp_path / "m.yaml"
    assert "grace" not in ssm_stream("init", file, "--out", out).stderr


def test_rows_that_are_refused_do_not_hide_the_table(tmp_path: Path) -> None:
    file, out = readings(tmp_path / "tags.csv", late=200), tmp_path / "m.yaml"
    ssm_stream("init", file, "--out", out)
    out.write_text(re.sub(r"  grace: .*\n", "", out.read_text()))
    result = ssm_stream("backtest", out, file)
    lines = result.output.splitlines()
    assert sum(line.startswith("row ") for line in lines) == 3
    assert lines.count("further rows are refused, too (Late); they are counted at the end") == 1
    assert "(Late 45)" in result.output.replace("\n", " ")


def test_a_sample_of_readings_has_as_many_rows_as_one_of_rows(tmp_path: Path) -> None:
    """Of the first 20,000 readings a fleet has the rows of a day or two, which show neither totals nor drivers."""
    file, out = readings(tmp_path / "tags.csv", late=10_000, rows=8_000), tmp_path / "m.yaml"
    assert "sampled 24,000 rows of tags.csv" in ssm_stream("init", file, "--out", out).stderr
    file = readings(tmp_path / "more.csv", late=30_000, rows=21_000)
    assert "sampled the first 60,000 rows of more.csv" in ssm_stream("init", file, "--out", out, "--force").stderr
