"""Production and evaluation load no torch, in no process of any command; the commands that need it name its extra."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from brokers import Kafka
from typer.testing import CliRunner

from ssm_stream.cli.app import app

REPORT = """\
import atexit, os, sys
def report():
    with open(os.environ["LOADED"], "a") as file:
        file.write(f"{'torch' in sys.modules} {' '.join(sys.argv)}\\n")
atexit.register(report)
"""
"""Every process of this Python reports at its end whether torch was loaded."""


def run(folder: Path, *arguments: str) -> str:
    """What the command prints; none of its processes has loaded torch."""
    (folder / "sitecustomize.py").write_text(REPORT)
    loaded = folder / "loaded"
    loaded.unlink(missing_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(folder), "LOADED": str(loaded)}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    processes = loaded.read_text().splitlines()
    assert processes, "no process has reported"
    assert not [line for line in processes if line.startswith("True")], processes
    return done.stdout


def ssm_stream(folder: Path, *arguments: str) -> str:
    return run(folder, "-m", "ssm_stream", *arguments)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of two machines and a configuration for it."""
    folder = tmp_path_factory.mktemp("without_torch")
    rng = np.random.default_rng(0)
    rows = [
        {"entity": f"m{t % 2}", "ts": 1_700_000_000_000 + 60_000 * t, "a": a, "b": b, "target": 3 * a - b + t % 2}
        for t, (a, b) in enumerate(rng.normal(size=(1200, 2)).round(3).tolist())
    ]
    (folder / "recording.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "monitor.yaml").write_text(configuration("localhost:9092", "events"))
    return folder


def configuration(brokers: str, topic: str) -> str:
    return (
        f"source: {{brokers: '{brokers}', topic: {topic}}}\nops: {{address: null}}\n"
        "event: {entity: entity, timestamp: ts, features: [a, b], target: target}\n"
        "recovery: {directory: recovery, epoch_interval: 200ms}\n"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        "schema config",
        "init recording.jsonl --out drafted.yaml",
        "validate monitor.yaml",
        "backtest monitor.yaml recording.jsonl --json",
        "pilot monitor.yaml recording.jsonl --json",
        "tune monitor.yaml recording.jsonl --only lags --jobs 1 --cache trials",
        "ablate monitor.yaml recording.jsonl --jobs 1 --cache trials",
        "explain monitor.yaml m1 --recording recording.jsonl",
        "demo --rate 100000 --json",
    ],
)
def test_commands_without_a_broker_load_no_torch(arguments: str, folder: Path) -> None:
    ssm_stream(folder, *arguments.split())


def test_commands_with_a_broker_load_no_torch(kafka: Kafka, folder: Path) -> None:
    topic, predictions, alerts, dead = (kafka.topic(kind) for kind in ("events", "predictions", "alerts", "dead"))
    sinks = f"sinks: {{predictions: {predictions}, alerts: {alerts}, dead_letters: {dead}}}\n"
    (folder / "live.yaml").write_text(configuration(kafka.bootstrap_servers, topic) + sinks)
    ssm_stream(folder, "doctor", "live.yaml")
    ssm_stream(folder, "replay", "live.yaml", "recording.jsonl")
    ssm_stream(folder, "run", "live.yaml", "--until-eof")
    assert len(kafka.read(predictions)) == 1200
    assert "m1" in ssm_stream(folder, "state", "ls", "live.yaml")
    ssm_stream(folder, "dlq", "ls", "live.yaml")


def test_the_self_check_loads_no_torch(folder: Path) -> None:
    run(folder, "-c", "from ssm_stream.ops.self_check import check_core; assert check_core() == 0.0")


@pytest.mark.parametrize("arguments", ["paper --quick", "backtest monitor.yaml recording.jsonl --device cpu"])
def test_a_command_that_needs_torch_names_the_command_that_installs_it(
    arguments: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setitem(sys.modules, "torch", None)
    result = CliRunner().invoke(app, arguments.split())
    assert result.exit_code == 2
    assert "needs torch, which is not installed: pip install 'ssm-stream[torch]'" in result.stderr
    assert "pip install -e '.[torch]'" in result.stderr
