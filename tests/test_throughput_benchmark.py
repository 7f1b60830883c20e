"""The throughput benchmark and the soak on little: they run, and what they print has the right form and sense."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from brokers import Kafka

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import measuring
import soak
import throughput_topics as topics

NAMES = ("pass-through", "CPU outside", "exactly once", "latency p99", "entities", "snapshot", "backfill")


def report(kafka: Kafka, script: str, *arguments: str) -> dict[str, Any]:
    """What a benchmark prints with --json."""
    if kafka.kind == "mock":
        pytest.skip("not on the embedded broker")
    environment = {**os.environ, "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers}
    command = [sys.executable, str(measuring.HERE / script), *arguments, "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout)
    for check in found["checks"]:
        assert set(check) == {"name", "value", "relation", "bar", "ok"}
        met = check["value"] <= check["bar"] if check["relation"] == "<=" else check["value"] >= check["bar"]
        assert check["ok"] is met
    return found


def test_a_smoke_run_has_every_check(kafka: Kafka) -> None:
    found = report(kafka, "throughput.py", "--smoke")
    names = [check["name"] for check in found["checks"]]
    assert all(any(word in name for name in names) for word in NAMES), names
    assert not any("quix" in name for name in names), "the peers were not asked for"
    assert found["peers_absent"] == ["quix", "bytewax"]
    default = next(row for row in found["rows"] if row["name"] == "default")
    assert 0 < default["events_per_s"] < 1e6
    assert found["growth"]["entities"]["100"]["bytes"] > 100
    (paced,) = found["latency"].values()
    assert 0 <= paced["quantiles_ms"]["50"] <= paced["quantiles_ms"]["99"]
    assert paced["counted"] > 500


def test_a_steady_stream_for_twenty_seconds(kafka: Kafka) -> None:
    found = report(kafka, "soak.py", "--minutes", "0.34", "--rate", "500", "--entities", "200")
    assert {check["name"]: check["ok"] for check in found["checks"]} == {
        "soak: memory of the last third by the first's": True,
        "soak: growth of the lag, seconds of the stream": True,
    }
    assert found["events"] == 10_200 + 1000
    assert found["sent_per_s"] == pytest.approx(500, rel=0.05)


def looks(memory: float, lag: float) -> dict[str, Any]:
    """A hundred seconds in which both grow by so much a second."""
    every = [{"s": s, "bytes": 1e8 * (1 + memory * s), "lag": 10 + lag * s, "cpu_s": 0.5 * s} for s in range(100)]
    return {"seconds": 100.0, "rate": 1000, "looks": every}


@pytest.mark.parametrize(
    ("memory", "lag", "expected"), [(0, 0, [True, True]), (1e-3, 0, [False, True]), (0, 20, [True, False])]
)
def test_a_soak_tells_what_grows(memory: float, lag: float, expected: list[bool]) -> None:
    found = soak.judge(looks(memory, lag))
    assert [check["ok"] for check in soak.checks(found)] == expected
    assert found["lag_slope"] == pytest.approx(lag, abs=1e-6)
    assert found["cores"] == pytest.approx(0.5)


def test_a_soak_that_is_too_short_is_refused() -> None:
    with pytest.raises(measuring.MissingError, match="longer"):
        soak.judge({"seconds": 4.0, "rate": 1, "looks": looks(0, 0)["looks"][:4]})


def test_the_steady_rate_is_free_of_start_and_end() -> None:
    long = {"seconds": 11.0, "cpu_seconds": 6.0, "events_per_s": 91_000.0}
    found = topics.with_steady(long, {"seconds": 3.5, "cpu_seconds": 2.25}, 750_000)
    assert found["steady_events_per_s"] == pytest.approx(100_000)
    assert found["steady_cpu_us"] == pytest.approx(5.0)
    assert found["events_per_s"] == 91_000.0, "the whole run's rate stays"


def test_what_was_not_measured_is_not_met() -> None:
    assert not measuring.check("a", None, "<=", 1.0)["ok"]
    assert measuring.check("a", 1.0, "<=", 1.0)["ok"]
