"""`ssm-stream init` on plants of many signals and programs: which columns, categories and notes it takes."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from ssm_stream.autoconfig.columns import columns
from ssm_stream.autoconfig.draft import Choices, Draft, draft_event
from ssm_stream.autoconfig.feature_selection import MAX_COLUMNS, select_features
from ssm_stream.autoconfig.labels import lot_reason
from ssm_stream.autoconfig.tag_names import family_note, find_tag_names
from ssm_stream.cli.app import app
from ssm_stream.config import parse_config

START = 1_772_409_600


def robots(n: int, machines: int, program: Callable[[int, int], str]) -> list[dict[str, Any]]:
    """Rows of robots one by one, a minute apart. program: of a row i of a robot"""
    rng = np.random.default_rng(0)
    return [
        {
            "ts": START + 60 * i,
            "robot": f"R{m}",
            "program": program(i, m),
            "current": round(float(rng.normal(9, 1)), 2),
            "force": round(float(rng.normal(3, 0.2)), 3),
        }
        for i in range(n)
        for m in range(machines)
    ]


def drafted(rows: list[dict[str, Any]]) -> Draft:
    return draft_event(rows, Choices(entity="robot"), "line-1")


def test_many_programs_of_a_fleet_are_a_category_where_each_machine_has_few() -> None:
    draft = drafted(robots(300, 12, lambda i, m: f"P{10 * m + i * i % 4}{i % 3}"))
    assert draft.event.categories == ["program"]
    assert "program" not in draft.left_out
    assert "at most 6 of one machine" in draft.why["categories"]
    assert "model.fleet: false" in draft.why["categories"]


@pytest.mark.parametrize(
    "program",
    [
        lambda i, m: f"P{(7 * i + m) % 40}",  # each machine has all 40
        lambda i, m: f"serial {m}-{i}",  # none comes again
        lambda i, m: f"L{m}-{i // 60}",  # lots of each machine
        lambda i, m: f"place {m}",  # one of each machine
        lambda i, m: f"P{m}-{i % 20}",  # far more than there are inputs
    ],
)
def test_other_texts_of_many_values_are_none(program: Callable[[int, int], str]) -> None:
    draft = drafted(robots(300, 40, program))
    assert draft.event.categories == []
    assert "program" in draft.left_out


def lots(name: str, at: Callable[[int], str]) -> str | None:
    (column,) = (each for each in columns([{name: at(i), "x": i} for i in range(400)]) if each.path == name)
    return lot_reason(column, {})


@pytest.mark.parametrize(
    "name", ["batch", "Batch_ID", "lotNumber", "order_no", "Charge", "Chargennummer", "Auftragsnummer"]
)
def test_a_few_lots_that_never_come_again_are_known_by_their_name(name: str) -> None:
    """A sample of two days may have three batches: the next one is new all the same."""
    reason = lots(name, lambda i: f"B{i // 150}")
    assert reason is not None
    assert "3 values" in reason
    assert lots(name, lambda i: f"B{i // 50 % 3}") is None, "they come again"
    assert lots("product", lambda i: f"B{i // 150}") is None, "no name of a lot"
    assert lots("batch_type", lambda i: f"B{i // 150}") is None, "of a lot, and none"


def test_names_of_instruments_with_a_property_are_no_machines() -> None:
    """`GF1.TT_101.PV` and `GF1.TT_101.PV.Quality` are one instrument of a furnace, not two of 160 machines."""
    tags = [f"GF1.{code}_{k}" for code in ("TT", "FT", "PT") for k in (101, 102, 103)]
    assert family_note([f"{tag}.PV" for tag in tags]) is None
    assert family_note([name for tag in tags for name in (f"{tag}.PV", f"{tag}.PV.Quality")]) is None
    assert find_tag_names([f"GF1.{code}_{k}.PV" for code in ("TT", "PT") for k in range(101, 121)]) is None
    several = [f"GF{m}.{code}_101.PV" for m in (1, 2) for code in ("TT", "FT", "PT")]
    assert family_note([*several, "CH-1.flow"]) is None, "as before: the last separator decides"


@pytest.mark.parametrize("name", ["Schweißprogramm", "Programmnummer", "Rezept_Nr", "artikelnummer"])
def test_german_names_of_programs_are_read(name: str) -> None:
    rows = [
        {**row, name: 100 + 7 * (k % 12) + k // 12 % 3 * 2} for k, row in enumerate(robots(200, 12, lambda i, m: "x"))
    ]
    draft = draft_event(rows, Choices(entity="robot"), "line-1")
    assert draft.event.categories == [name]


def signals(names: list[str], n: int = 200, **still: float) -> list[dict[str, Any]]:
    rng = np.random.default_rng(1)
    values = rng.normal(100, 10, (n, len(names))).round(2)
    return [
        {"ts": START + 60 * i, **dict(zip(names, row, strict=True)), **still} for i, row in enumerate(values.tolist())
    ]


def test_of_more_than_64_columns_some_of_each_kind_are_used() -> None:
    """By name alone, the last in the alphabet would be lost: valves (ZT) and vibration (VT)."""
    names = [
        *(f"F1.TT_{k}" for k in (*range(101, 131), *range(301, 311))),
        *(f"F1.PT_{k}" for k in range(201, 226)),
        *("F1.VT_801", "F1.VT_802", "F1.ZT_701", "F1.WT_001"),
    ]
    rows = signals(names, **{"F1.AA_001": 1.0})
    config = parse_config(
        "source: {brokers: b, topic: t}\nevent: {entity: e, entity_default: f, timestamp: ts, features: auto, "
        "lags: 8, target: F1.WT_001}\n",
        "c.yaml",
    )
    made = select_features(config, rows)
    used = set(made.config.event.features)
    assert len(used) == MAX_COLUMNS
    assert {"F1.VT_801", "F1.VT_802", "F1.ZT_701"} <= used
    assert {f"F1.TT_{k}" for k in range(301, 311)} <= used, "another area of the plant"
    assert "F1.AA_001" in made.left_out, "what stands still goes first"
    dropped = [path for path in made.left_out if "more than 64" in made.left_out[path]]
    assert all(re.match(r"F1\.(TT_1|PT_2|AA)", path) for path in dropped), "of those with most alike"


def test_one_bad_value_does_not_cost_a_column_its_place() -> None:
    rows = signals([f"TT_{k}" for k in range(100, 180)] + ["ZT_1"])
    del rows[7]["ZT_1"]
    config = parse_config(
        "source: {brokers: b, topic: t}\nevent: {entity: e, entity_default: f, timestamp: ts, features: auto, "
        "lags: 8, target: TT_100}\n",
        "c.yaml",
    )
    assert "ZT_1" in select_features(config, rows).config.event.features


def test_many_flags_and_columns_left_out_are_few_lines(tmp_path: Path) -> None:
    """A draft of 80 tags is read by a person: neither 80 names on a line, nor one reason 16 times."""
    names = [f"GF1.{code}_{k}.PV" for code in ("TT", "PT", "FT", "ZT") for k in range(101, 121)]
    file, out = tmp_path / "wide.csv", tmp_path / "m.yaml"
    with file.open("w", newline="") as text:
        writer = csv.writer(text)
        writer.writerow(["time", *(column for name in names for column in (name, f"{name}.Quality"))])
        rng = np.random.default_rng(2)
        for i in range(300):
            cells = [cell for value in rng.normal(100, 1, 80).round(2) for cell in (value, "Good" if i % 50 else "Bad")]
            writer.writerow([f"2026-03-02T{i // 60:02d}:{i % 60:02d}:00Z", *cells])
    said = CliRunner().invoke(app, ["init", str(file), "--out", str(out)])
    assert said.exit_code == 0, said.output
    assert max(map(len, said.output.splitlines())) < 700
    assert said.output.count("more than 64 columns") == 1
    assert out.read_text().count("more than 64 columns") == 1
    assert "machines" not in next((line for line in said.output.splitlines() if "tags of" in line), "")
    checked = CliRunner().invoke(app, ["validate", str(out)])
    assert checked.exit_code == 0, checked.output
    believes = next(line for line in checked.output.splitlines() if line.strip().startswith("believes"))
    assert len(believes) < 400
    assert "(64 in all)" in believes


def test_numbers_of_programs_are_a_category_where_each_machine_has_few() -> None:
    """The program's number of a robot is no signal, though the fleet has 24 of them."""
    rows = robots(300, 12, lambda i, m: "")
    level = np.random.default_rng(3).normal(9, 2, (12, 4))
    for k, row in enumerate(rows):
        i, m = divmod(k, 12)
        row["program"] = 100 + 7 * m + 3 * (i * i % 4)
        row["speed_rpm"] = 1000 + 10 * m + i * i % 4
        row["current"] = round(float(level[m, i * i % 4] + row["current"] / 10), 2)
    draft = draft_event(rows, Choices(entity="robot"), "line-1")
    assert draft.event.categories == ["program"]
    assert "program" not in draft.event.targets
    assert "speed_rpm" in draft.event.targets, "measured, not the name of a thing"


def test_a_place_in_a_cycle_of_wear_is_an_input_and_no_target() -> None:
    """Welds since the electrode was dressed: without it, the wear of each cycle is noise."""
    rows = robots(600, 6, lambda i, m: "AB"[i * i % 3 % 2])
    for k, row in enumerate(rows):
        i, m = divmod(k, 6)
        place = (i + 17 * m) % 60
        row |= {"welds_since_dress": place, "slot": (i + 5 * m) % 25, "resistance": row["force"] * 10 - 0.15 * place}
    draft = draft_event(rows, Choices(entity="robot"), "line-1")
    assert draft.event.inputs is not None
    assert "welds_since_dress" in draft.event.inputs
    assert "welds_since_dress" not in {*draft.event.targets, *draft.left_out}
    assert any("`welds_since_dress` counts the rows and begins anew" in note for note in draft.notes)
    assert "slot" in draft.left_out, "explains nothing"
    assert "slot" not in draft.event.inputs
