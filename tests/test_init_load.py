"""What stands for the load of machines that compute, and what counts their failures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_init_plants import decided, noise, plant
from test_init_roles import of
from typer.testing import CliRunner

from ssm_stream.autoconfig.roles import counts_failures, is_utilisation, role_of
from ssm_stream.cli.app import app

N, GPUS = 1200, 4


def cluster(**more: Any) -> list[dict[str, Any]]:
    """GPUs whose jobs take power, which heats them, and move data, each as much as it does."""
    rng = np.random.default_rng(1)
    job = (np.arange(N)[:, None] + 17 * np.arange(GPUS)) // 60
    util = np.clip(rng.choice([0, 0, 40, 80, 98], (job.max() + 1, GPUS))[job, np.arange(GPUS)], 0, 98)
    util = np.clip(util + rng.normal(0, 2, (N, GPUS)) * (util > 0), 0, 100)
    power = 60 + 4 * util + rng.normal(0, 4, (N, GPUS))
    temp, now = np.empty((N, GPUS)), 30 + 0.07 * power[0]
    for i in range(N):
        now = now + 0.4 * (25 + 0.07 * power[i] - now)
        temp[i] = now + rng.normal(0, 0.3, GPUS)
    moved = util * rng.uniform(10, 12, (N, GPUS))
    made = {"gpu_temp": temp, "gpu_util": util, "power_usage": power, "pcie_tx_mbps": moved}
    return plant(N, GPUS, 1, **{name: of(x) for name, x in made.items()}, **more)


def test_how_busy_a_machine_is_stands_for_its_load() -> None:
    """Without it a temperature that rises at the same load, as of a fan that fails, follows a job like any other."""
    inputs = decided(cluster()).event.inputs
    assert inputs is not None
    assert inputs[0] == "gpu_util"
    assert not {"gpu_temp", "power_usage"} & {*inputs}


def test_a_load_that_is_named_comes_before_how_busy_a_machine_is() -> None:
    rows = cluster()
    rng = np.random.default_rng(2)
    for row in rows:
        row["requests"] = round(row["gpu_util"] * float(rng.normal(10, 0.2)), 1)
    assert decided(rows).event.inputs == ["requests"]


@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("gpu_util", True), ("DCGM_FI_DEV_GPU_UTIL", True), ("node.cpu_pct", True), ("cpu", True), ("cpu1_load", True),
        ("utilization", True), ("mem_copy_util", False), ("gpu_temp", False), ("cpu_fan_speed", False),
        ("disk_utilization", False), ("memory_usage", False), ("gpu_mem_used", False), ("load", False),
    ],
)  # fmt: skip
def test_names_of_how_busy_a_machine_is(name: str, result: bool) -> None:
    assert is_utilisation(name) == result
    assert role_of("gpu_util") == "response", "where a driver is named"


@pytest.mark.parametrize(
    ("most", "counted"),
    [(1, lambda i, m: int(i > 300 and m == 1)), (0, lambda i, m: 0), (2, lambda i, m: 2)],
)
def test_a_count_of_failures_that_hardly_moves_is_watched_by_a_limit(most: int, counted: Any) -> None:
    """One of 0 and 1 was a category, which nothing watches, and which explains away what it counts."""
    draft = decided(plant(N, 3, x=noise(), z=noise(seed=1), ecc_sbe_total=counted))
    assert "ecc_sbe_total" not in (*draft.event.columns, *draft.event.targets)
    limit = f"alerts.limits watches it: {{column: ecc_sbe_total, above: {most}}}"
    assert draft.left_out["ecc_sbe_total"].endswith(limit)


@pytest.mark.parametrize("name", ["restarts", "restart_count", "ecc_dbe_total", "reboots", "tcp.retransmits"])
def test_names_that_count_failures(name: str) -> None:
    assert counts_failures(name)
    assert not counts_failures("ecc_mode")


def test_failures_that_begin_after_the_sample_are_no_input(tmp_path: Path) -> None:
    rows = plant(10_500, 2, 1, x=noise(10_500), z=noise(10_500, seed=1), xid_errors=lambda i, m: 31 * int(i > 10_200))
    file = tmp_path / "gpus.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    shown = CliRunner().invoke(app, ["init", str(file), "--out", str(tmp_path / "c.yaml")], env={"COLUMNS": "300"})
    text = " ".join(shown.output.split())
    assert "xid_errors: the same in the sample, and not in later rows of the file; watch by alerts.limits what" in text
