"""`ssm-stream init`: what machines share in the sample, and not in later rows, is a signal of each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from typer.testing import CliRunner

from ssm_stream.cli.app import app
from ssm_stream.config import Config, load_config

MINUTES = 12_000
"""Of two rows each: 20,000 of them are the sample."""


def drives(rows: int, apart: range) -> pl.DataFrame:
    """Two drives of one line, which have one speed but in some of the rows, and the weather, which is one for all."""
    rng, out = np.random.default_rng(0), []
    speed, wind = np.cumsum(rng.normal(0, 0.1, rows)) + 20, np.cumsum(rng.normal(0, 0.1, rows)) + 9
    for i in range(rows):
        for k in (0, 1):
            own = speed[i] + (0.5 * np.sin(i / 7) if k and i in apart else 0.0)
            current, oil = 3 * own + rng.normal(0, 0.5), 40 + rng.normal(0, 0.3)
            at = f"2026-03-{1 + i // 1440:02d}T{i // 60 % 24:02d}:{i % 60:02d}:00Z"
            out.append((at, f"drive-{k}", own, wind[i], current, oil))
    schema = ["ts", "drive", "rope_speed_ms", "wind_ms", "motor_current_a", "oil_temp_c"]
    return pl.DataFrame(out, schema=schema, orient="row").with_columns(pl.selectors.float().round(2))


def drafted(frame: pl.DataFrame, folder: Path, *options: str) -> tuple[Config, str]:
    file, out = folder / "line.csv", folder / "line.yaml"
    frame.write_csv(file)
    made = CliRunner().invoke(app, ["init", str(file), "--out", str(out), "--force", *options])
    assert made.exit_code == 0, made.output
    return load_config(out), made.stderr


def test_a_column_that_machines_have_of_their_own_later_is_watched(tmp_path: Path) -> None:
    config, printed = drafted(drives(MINUTES, range(11_000, 11_400)), tmp_path)
    assert config.event.targets == ["motor_current_a", "oil_temp_c", "rope_speed_ms"]
    assert "wind_ms" in (config.event.inputs or [])
    note = "rope_speed_ms: one value for all machines in the sample, and not in later rows of the file: each its own"
    assert note in printed


def test_a_column_that_all_share_to_the_end_is_an_input_only(tmp_path: Path) -> None:
    config, printed = drafted(drives(MINUTES, range(0)), tmp_path)
    assert config.event.targets == ["motor_current_a", "oil_temp_c"]
    assert {"rope_speed_ms", "wind_ms"} <= {*(config.event.inputs or [])}
    assert "each its own" not in printed


def test_a_few_rows_apart_are_clocks_or_rounding(tmp_path: Path) -> None:
    config, _ = drafted(drives(MINUTES, range(11_000, 11_004)), tmp_path)
    assert "rope_speed_ms" not in config.event.targets
