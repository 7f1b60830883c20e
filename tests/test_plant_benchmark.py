"""The benchmark of the plant's context: its plant, its judgement of limits and runs, its cadences."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

import plant
import plant_cadences
import plant_judged
import plant_run
import plant_throughput
from plant_run import Told

HOUR = plant_judged.HOUR


@pytest.fixture(scope="module")
def made() -> plant.Plant:
    return plant.made(3, 8, 1, context=True)


def test_the_context_adds_to_the_plant_and_changes_nothing_of_it(made: plant.Plant) -> None:
    plain = plant.made(3, 8, 1)
    assert {one.kind for one in made.planned} - {one.kind for one in plain.planned} == {"short stop"}
    assert {one.kind for one in made.faults} - {one.kind for one in plain.faults} == {
        plant.BLOCKED, plant.OVERHEATED, plant.BAD,
    }  # fmt: skip
    calm = plant.made(3, 8, 1, faults=False, context=True).rows
    same = plain.rows.join(calm, on=["time", "pump"], suffix="_context").filter(
        (pl.col("load_context") > 0) & (pl.col("quality") == "good")
    )
    assert (same["current"] == same["current_context"]).all()
    bad = calm.filter(pl.col("quality") == "bad")
    assert bad.height / calm.height == pytest.approx(plant.DOUBTFUL, rel=0.4)
    assert (bad["pressure"] == 99.0).all()
    good = calm.filter(pl.col("quality") == "good")
    assert good["pressure"].max() < 6.3, "no limit is crossed without a fault"
    assert good["temp"].max() < 80.0


def test_the_engine_is_run_with_the_lines_and_limits_are_told_at_their_events(
    made: plant.Plant, tmp_path: Path
) -> None:
    plant.write(tmp_path, made)
    config = plant_run.with_lines(plant_run.initial(tmp_path), plant_run.ALL)
    assert (bool(config.event.when), config.event.categories) == (True, ["product"])
    found = plant_run.told(config, tmp_path / "plant.csv")
    assert {"limit", "silence"} <= {one.kind for one in found}
    limits = plant_judged.of_limits(found, made.rows, config)
    assert limits["crossings"] > 0
    assert (limits["missed"], limits["invented"]) == (0, 0)
    late = [one._replace(start=one.start + 1) if one.kind == "limit" else one for one in found]
    assert plant_judged.of_limits(late, made.rows, config)["missed"] == limits["crossings"]
    stops = [one for one in made.planned if one.kind == "planned stop"]
    raised = plant_judged.raised(found)
    assert [one for one in raised if plant_judged.inside(one, stops, plant_judged.AFTER_STOP)] == []
    rows = plant_judged.counted(found, made, plant.START)
    assert {row["kind"] for row in rows} == {one.kind for one in found}


def test_crossings_are_worked_out_from_good_readings_alone() -> None:
    values, flags = [1.0, 9, 9, 99, 9, 9, 1, 9, 9, 9], ["good"] * 10
    flags[3] = "bad"
    times = [
        f"2026-03-02T00:{10 * (i % 6):02}:00Z" if i < 6 else f"2026-03-02T01:{10 * (i % 6):02}:00Z" for i in range(10)
    ]
    rows = pl.DataFrame({"time": times, "pump": ["P"] * 10, "temp": values, "quality": flags})
    begin = plant.START
    minutes = [
        (pump, (start - begin) // 60_000, end and (end - begin) // 60_000)
        for pump, start, end in plant_judged.crossings(rows, "temp", 5.0, 3)
    ]
    assert minutes == [("P", 40, 60), ("P", 90, None)]


def test_an_episode_is_that_of_a_stop_up_to_two_hours_after_it() -> None:
    stop = plant.Happening("planned stop", "P", 10 * HOUR, 18 * HOUR)
    at = {h: Told("drift", ("P", "Q"), None, None, h * HOUR, None, "") for h in (9, 10, 19, 20)}
    found = [h for h, one in at.items() if plant_judged.inside(one, [stop], plant_judged.AFTER_STOP)]
    assert found == [10, 19]


@pytest.mark.parametrize(("cadence", "least", "most"), [("regular", 9.9, 10.1), ("bursty", 55.0, 62.0)])
def test_the_usual_gap_is_that_in_which_a_moment_lies(cadence: str, least: float, most: float) -> None:
    gaps = plant_cadences.CADENCES[cadence](np.random.default_rng(1), 600)
    assert least <= plant_cadences.usual_gap(gaps) / plant_cadences.MINUTE <= most


def test_silence_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plant_cadences, "EVENTS", 600)
    monkeypatch.setattr(plant_cadences, "CADENCES", {"regular": plant_cadences.CADENCES["regular"]})
    (row,) = plant_cadences.together([1])
    assert (row["found"], row["missed"], row["false"]) == (plant_cadences.KILLS, 0, 0)
    assert all(one["ok"] for one in plant_cadences.checks_of([row]))


def test_both_configurations_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = plant_throughput.readings
    monkeypatch.setattr(plant_throughput, "readings", lambda pumps, whole: readings(pumps, whole)[:4_000])
    row = plant_throughput.steps(1, 1, nothing_stops=True)
    assert row["us"].keys() == {"without", "all"}
    assert row["ratio"] == pytest.approx(row["us"]["without"] / row["us"]["all"])
