"""`init --target` on a recording in which late labels are rows: the section `labels`, and which inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from ssm_stream.autoconfig.draft import Choices, Draft
from ssm_stream.autoconfig.label_rows.joined import find_label_rows
from ssm_stream.autoconfig.label_rows.sample import draft_sample
from ssm_stream.autoconfig.render import render_config, sparse_note
from ssm_stream.cli.app import app
from ssm_stream.config import parse_config
from ssm_stream.evaluate.backtest import backtest
from ssm_stream.evaluate.recordings import Recording

EVERY, LATE, GAP = 6, 15, 600_000
"""Events from a sample to the next, and until its result is there; ms from an event to the next."""
START = 1_750_000_000_000


def lab(n: int = 1500, lines: int = 1, late: int = LATE) -> list[dict[str, Any]]:
    """Rows of lines with a result of every sixth event, `late` events later, at the time of its sample."""
    rng = np.random.default_rng(3)
    load, temp = 50 + 0.3 * rng.normal(0, 3, (n, lines)).cumsum(0), rng.normal(60, 2, (n, lines))
    result = 0.4 * load - 0.5 * temp + rng.normal(0, 0.2, (n, lines))
    rows = []
    for i in range(n):
        for line in range(lines):
            own: dict[str, Any] = {"ts": START + i * GAP, "line": f"L{line}"}
            rows.append({**own, "load": float(load[i, line]), "temp": float(temp[i, line]), "result": None})
            if i >= late and (i - late) % EVERY == 0:
                value = float(result[i - late, line])
                rows.append({**own, "ts": START + (i - late) * GAP, "load": None, "temp": None, "result": value})
    return rows


def drafted(rows: list[dict[str, Any]]) -> Draft:
    return draft_sample(rows, Choices(targets=["result"]), "plant")


@pytest.mark.parametrize("lines", [1, 3])
def test_label_rows_make_a_soft_sensor_with_late_labels(lines: int) -> None:
    rows = lab(lines=lines)
    draft = drafted(rows)
    text = render_config(draft, "t", "a", {}, "rows")
    config = parse_config(text)
    assert config.event == draft.event
    assert config.event.lags == 0
    assert sorted(config.event.features) == ["load", "temp"]
    assert config.labels == draft.labels
    assert config.labels is not None
    assert (config.labels.marker, config.labels.wait) == ("result", 86400.0)
    assert not any("go back" in note for note in draft.notes), "labels are no rows in disorder"
    assert "section labels" not in (sparse_note(draft) or "section labels"), "it is there already"
    found = backtest(config, rows)
    assert (found["refused"], found["labelled"]) == ({}, sum(row["result"] is not None for row in rows))
    assert found["mae"] < 0.5 * found["mae_persistence"]


def test_labels_that_come_later_are_waited_for_longer() -> None:
    labels = drafted(lab(2000, late=700)).labels
    assert labels is not None
    assert labels.pending >= 1400
    assert labels.wait >= 2 * 700 * GAP / 1000


def test_a_row_that_was_written_as_several_has_no_late_label() -> None:
    rows: list[dict[str, Any]] = []
    for row in lab(300, late=0):
        rows += [row] if row["result"] is None else [{**row, "ts": rows[-1]["ts"]}]
    assert find_label_rows(rows, "result") is None
    assert find_label_rows([{**row, "result": 1.0} for row in rows], "result") is None
    own = [{**row, "sample": 7 if row["result"] is not None else None} for row in lab(300)]
    assert find_label_rows(own, "result") is None, "a column of their own: they may be more than labels"
    assert find_label_rows(lab(300), "result") is not None


def test_init_writes_the_section_and_says_why(tmp_path: Path) -> None:
    file, out = tmp_path / "plant.csv", tmp_path / "monitor.yaml"
    pl.DataFrame(lab(), infer_schema_length=None).write_csv(file)
    result = CliRunner().invoke(app, ["init", str(file), "--target", "result", "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert "248 rows have `result` and none of the inputs" in result.stderr
    config = parse_config(out.read_text())
    assert config.labels is not None
    assert backtest(config, Recording(file))["labelled"] == 248
