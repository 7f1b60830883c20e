"""`ssm-stream init` on rows of one measurement each, as Telegraf sends them: windows make one row of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from typer.testing import CliRunner

from ssm_stream.autoconfig.draft import Choices, Draft
from ssm_stream.autoconfig.label_rows.sample import draft_sample
from ssm_stream.cli.app import app

START, MINUTES = 1_772_409_600, 400


def sent(kinds: dict[str, tuple[str, ...]], every: int = 60, **tags: str) -> list[dict[str, Any]]:
    """Rows as Telegraf writes them in JSON: of two hosts, each minute a row a measurement. kinds: name → fields"""
    rng = np.random.default_rng(1)
    level = 50 + np.cumsum(rng.normal(0, 1, (MINUTES, 2, 12)), axis=0)
    out = []
    for i in range(MINUTES):
        for h in range(2):
            for k, (name, fields) in enumerate(kinds.items()):
                if k and i % (every // 60):
                    continue
                values = {field: round(float(level[i, h, 3 * k + j]), 3) for j, field in enumerate(fields)}
                names = {"host": f"db-{h}.prod", **tags}
                out.append({"fields": values, "name": name, "tags": names, "timestamp": START + 60 * i})
    return out


def drafted(rows: list[dict[str, Any]], *targets: str) -> Draft:
    return draft_sample(rows, Choices(targets=targets), "x")


AGENT = {"postgresql": ("numbackends", "query_ms"), "disk": ("used", "iops"), "cpu": ("idle",)}


@pytest.mark.parametrize("targets", [(), ("all",)])
def test_rows_of_one_measurement_each_become_one_row(targets: tuple[str, ...]) -> None:
    """Else every signal is known in a part of the rows, most are left out, and the first that is not is the target."""
    rows = sent(AGENT)
    draft = drafted(rows, *targets)
    assert draft.left_out == {}
    assert draft.rows == len(rows)
    assert draft.event.entity == "tags.host"
    assert sorted(draft.event.targets) == ["idle", "iops", "numbackends", "query_ms", "used"]
    assert draft.event.aggregate is not None
    assert draft.event.aggregate.every == 60.0
    assert "by `name` (cpu, disk, postgresql): windows of 1m" in draft.why["aggregate"]
    assert not any("--target" in note for note in draft.notes), "which names a column of the rows"
    assert not any("repeat" in note for note in draft.notes), "times of a host, as each measurement has them"


def test_the_drafted_file_makes_rows_of_the_same_recording(tmp_path: Path) -> None:
    recording, file = tmp_path / "agent.jsonl", tmp_path / "agent.yaml"
    recording.write_bytes(b"\n".join(map(orjson.dumps, sent(AGENT))))
    result = CliRunner().invoke(app, ["init", str(recording), "--out", str(file)])
    assert result.exit_code == 0, result.output
    result = CliRunner().invoke(app, ["backtest", str(file), str(recording), "--json"])
    assert result.exit_code == 0, result.output
    told = orjson.loads(result.stdout)
    assert told["events"] == 2 * MINUTES
    assert "labels" not in told, "each row has all signals"


def test_a_machine_with_several_disks_keeps_what_comes_once() -> None:
    rows = sent(AGENT)
    disks = [row | {"tags": row["tags"] | {"path": "/data"}} for row in rows if row["name"] == "disk"]
    draft = drafted(sorted(rows + disks, key=lambda row: row["timestamp"]))
    assert sorted(draft.event.targets) == ["idle", "numbackends", "query_ms"]
    reason = "several rows of one time in each of `name`: disk"
    assert draft.left_out == {"fields.used": reason, "fields.iops": reason}


def test_a_number_that_several_measurements_have_is_left_out() -> None:
    draft = drafted(sent({"disk": ("used", "iops"), "mem": ("used", "cached"), "cpu": ("idle", "iowait")}))
    assert sorted(draft.event.targets) == ["cached", "idle", "iops", "iowait"]
    assert draft.left_out == {"fields.used": "in rows of several of `name`, of which a window has one"}


def test_rows_at_times_of_their_own_stay_rows() -> None:
    """Results of a laboratory every hour belong to no minute."""
    assert drafted(sent({"process": ("flow", "heat"), "laboratory": ("purity",)}, every=3600)).event.aggregate is None
    whole = [row | {"fields": {"flow": i % 7, "heat": i % 5}} for i, row in enumerate(sent(AGENT))]
    assert drafted(whole).event.aggregate is None, "each row has all"
