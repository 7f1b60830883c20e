"""The alert benchmark's parts on little data: what they print has the right form and sense."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import alerts
import alerts_left_out as left_out
import alerts_plant
import alerts_real
import alerts_recordings as recordings
import alerts_run
import alerts_scale
import alerts_streams as streams
import plant
import polars as pl
import scale_streams
import vus


def test_every_change_has_a_stream_and_figures_of_the_peers() -> None:
    found = alerts.peers([], None)["delay"]
    assert set(found) == {*streams.CHANGES, *streams.FRIEDMAN}
    for name, (_, make) in streams.CHANGES.items():
        errors = make(np.random.default_rng(1))
        assert errors.shape == (streams.CHANGE + streams.AFTER,), name
        assert np.isfinite(errors).all()


def test_a_change_is_found_sooner_than_by_chance() -> None:
    errors = streams.CHANGES["mean +1"][1](np.random.default_rng(1))
    assert alerts.first_alarm(streams.drift(errors, 1e4)) < 100


def test_a_check_says_whether_its_bar_is_met() -> None:
    assert alerts.check("a", 1.0, "<=", 1.2)["ok"]
    assert not alerts.check("a", 1.0, ">=", 1.2)["ok"]
    assert not alerts.check("a", None, ">=", 1.2)["ok"], "what was not measured is not met"


@pytest.mark.parametrize(("at", "points"), [([], -1.0), ([10], 1.0), ([19], 0.25), ([50], -1.11), ([10, 12], 1.0)])
def test_nab_points_reward_the_first_row_of_a_window_and_cost_false_alarms(at: list[int], points: float) -> None:
    entity = recordings.Entity("e", np.zeros(60), np.zeros((60, 0)), np.zeros(60), np.zeros(60, bool), None)  # type: ignore[arg-type]
    file = recordings.Scored(entity, [(10, 19)], 0)
    found = recordings.nab_points(file, np.array(at, np.int64), 1.0, 0.11)
    assert found == pytest.approx(points, abs=0.12)


def messages(*told: tuple[int, str, str]) -> list[tuple[int, dict[str, str]]]:
    return [(row, {"entity": "b", "kind": kind, "phase": phase}) for row, kind, phase in told]


def stream_of_two(count: int = 5) -> alerts_run.Stream:
    """Entities a and b in turn, a value of 1 an hour each."""
    entity = np.tile([0, 1], count)
    ts = np.repeat(np.arange(count) * 3_600_000, 2)
    x, y = np.zeros((2 * count, 0)), np.ones(2 * count)
    return alerts_run.Stream("two", ["a", "b"], entity, ts, x, y, [], {})


def test_episodes_are_counted_in_events_of_their_entity_and_last_to_the_end_where_open() -> None:
    stream = stream_of_two()
    nth = alerts_run.nth_of(stream.entity)
    assert nth.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    told = messages(
        (3, "drift", "started"), (5, "drift", "ongoing"), (7, "drift", "recovered"), (7, "anomaly", "started")
    )
    found = alerts_run.episodes(told, {"a": 0, "b": 1}, nth, np.bincount(stream.entity))
    assert [(one.kind, one.first, one.last, one.open, one.length) for one in found] == [
        ("anomaly", 3, 4, True, 2),
        ("drift", 1, 3, False, 2),
    ]
    none = np.zeros(10)
    judged = alerts_run.Judged(none, none, none, none, nth, none == 0, found)
    assert np.flatnonzero(alerts_run.inside(stream, judged, "drift")).tolist() == [3, 5, 7]
    assert np.flatnonzero(alerts_run.inside(stream, judged, "anomaly")).tolist() == [7, 9]


def test_the_interval_score_is_the_width_and_twenty_times_what_lies_outside() -> None:
    low, high, y = np.array([0.0, 0.0, 0.0]), np.array([2.0, 2.0, 2.0]), np.array([1.0, 2.5, -0.5])
    assert alerts_run.interval_score(low, high, y) == pytest.approx([2.0, 12.0, 12.0])
    before = {"scores": [4.0, 2.0, None], "units": [2.0, 1.0, None]}
    assert alerts_run.score_ratio({"scores": [2.0, 1.0, None], "units": [9.0, 9.0, None]}, before) == pytest.approx(0.5)
    assert alerts_run.score_ratio({"scores": [2.0]}, before) is None, "other entities"
    assert alerts_run.geometric_mean([0.5, 2.0]) == pytest.approx(1.0)
    assert alerts_run.geometric_mean([0.5, None]) is None


@pytest.mark.parametrize("name", scale_streams.KINDS)
def test_a_stream_is_the_same_before_its_change(name: str) -> None:
    calm, at = scale_streams.made(name, None, 2, 9_000)
    new, again = scale_streams.made(name, "step", 2, 9_000)
    assert (at == again).all()
    assert np.isfinite(new.y).all()
    first = scale_streams.FIRST_CHANGE * 2
    assert (calm.y[:first] == new.y[:first]).all()
    for change in scale_streams.CHANGES:
        new, _ = scale_streams.made(name, change, 2, 12_000)
        assert np.isfinite(new.y).all(), change
        assert (new.y != scale_streams.made(name, None, 2, 12_000)[0].y).any(), change


def test_the_delay_of_a_change_is_that_of_the_first_start_after_it() -> None:
    none = np.zeros(0)
    found = [alerts_run.Episode(0, "drift", at, at + 5, False, None) for at in (90, 130, 150)]
    judged = alerts_run.Judged(none, none, none, none, none.astype(int), none == 0, found)
    late = alerts_scale.delays(stream_of_two(), judged, np.array([100, 100]))
    assert late["drift"] == {"median": None, "missed": 0.5}
    assert alerts_scale.delays(stream_of_two(), judged, np.array([100]))["either"] == {"median": 30.0, "missed": 0.0}


def test_the_plant_is_the_same_without_its_faults_up_to_them() -> None:
    made, calm = plant.made(weeks=8), plant.made(weeks=8, faults=False)
    assert made.planned == calm.planned
    assert {one.kind for one in made.faults} == {
        "slow bearing fault",
        "stuck sensor: temp",
        "stuck sensor: vibration",
        "silent sensor: vibration",
        "silent pump",
    }
    assert not calm.faults
    assert calm.rows.height == 6 * 8 * 7 * plant.ROWS_A_DAY
    ts = pl.col("time").str.to_datetime(time_zone="UTC").dt.epoch("ms")
    first = min(one.start for one in made.faults)
    assert made.rows.filter(ts < first).equals(calm.rows.filter(ts < first))
    bearing = next(one for one in made.faults if one.kind == "slow bearing fault")
    late = (
        (ts > bearing.start + plant.FAULT_DAYS * plant.DAY) & (ts <= bearing.end) & (pl.col("pump") == bearing.entity)
    )
    ratio = made.rows.filter(late)["vibration"].mean() / calm.rows.filter(late)["vibration"].mean()  # type: ignore[operator]
    assert ratio == pytest.approx(1.0 + plant.RISE, abs=0.02)
    warmer = made.rows.filter(late)["temp"].mean() - calm.rows.filter(late)["temp"].mean()  # type: ignore[operator]
    assert warmer == pytest.approx(plant.WARMER, abs=0.2)
    stuck = next(one for one in made.faults if one.kind == "stuck sensor: temp")
    during = (ts >= stuck.start) & (ts <= stuck.end) & (pl.col("pump") == stuck.entity)
    assert made.rows.filter(during)["temp"].n_unique() == 1


def test_init_reads_the_plant(tmp_path: Path) -> None:
    plant.write(tmp_path, plant.made(pumps=3, weeks=8))
    config = alerts_plant.initial(tmp_path, [])
    assert config is not None
    assert (config.event.entity, config.event.timestamp) == ("pump", "time")
    assert pl.read_csv(tmp_path / "labels.csv").columns == ["entity", "start", "end", "kind"]


def test_a_fault_is_found_by_an_alert_that_the_plant_without_it_does_not_have() -> None:
    hour = alerts_plant.HOUR
    fault = plant.Happening("f", "P", 100 * hour, 200 * hour)
    stop = plant.Happening("planned stop", "P", 120 * hour, 130 * hour)
    made = plant.Plant(pl.DataFrame(), [fault], [stop])
    at = {h: alerts_plant.Alarm(h * hour, ("P",), "drift") for h in (99, 110, 132, 150, 160)}
    other = alerts_plant.Alarm(140 * hour, ("Q",), "anomaly")
    (row,) = alerts_plant.of_faults([*at.values(), other], [at[110], at[132]], made)
    assert (row["by"], row["hours"], row["alarms"], row["by chance"]) == ("drift", 50.0, 3, 1)
    counts = alerts_plant.of_alarms([*at.values(), other], made)
    assert counts == {"drift": {"outside": 1, "f": 4}, "anomaly": {"outside": 1}}
    assert alerts_plant.of_faults([], [], made)[0]["by"] is None


def test_recordings_are_judged_by_rows_inside_episodes_and_by_an_earlier_run() -> None:
    kind = {"inside": 0.02, "longest": 500, "starts": 10}
    row = {"recording": "steel_energy", "labelled": None, "anomaly": kind, "drift": kind, "scores": [2.0, 8.0]}
    row["allowed"] = {"anomaly": 1_000, "drift": 1_000}
    labelled = {**row, "recording": "nab_shared", "labelled": 0.005}
    before = [{**row, "drift": {"starts": 40}, "scores": [1.0, 4.0]}, {**labelled, "drift": {"starts": 40}}]
    found = {one["name"]: one for one in alerts_real.recordings_checks([row, labelled], before)}
    assert found["recordings/steel_energy: rows inside anomaly episodes"]["ok"]
    assert found["recordings/nab_shared: rows inside anomaly episodes by labelled"]["value"] == pytest.approx(4.0)
    assert found["recordings/longest episode by absorb_after"]["value"] == pytest.approx(0.5)
    assert found["recordings/drift starts by before, in all"]["value"] == pytest.approx(0.25)
    assert row["score by before"] == pytest.approx(2.0)


def test_hold_is_compared_with_adapt_entity_by_entity() -> None:
    events, coverage = np.array([100.0, 300.0, 0.0]), np.array([0.9, 0.9, np.nan])
    adapt = (events, coverage, np.array([1.0, 1e6, np.nan]))
    hold = (events, np.array([0.5, 0.9, np.nan]), np.array([3.0, 1e6, np.nan]))
    row = alerts_real.compared("two", {"adapt": adapt, "hold": hold, "slow": adapt})
    assert row is not None
    assert row["hold"]["coverage"] == pytest.approx(0.8)
    assert row["hold"]["error"] == pytest.approx(1.5)
    assert row["hold"]["highest error"] == pytest.approx(3.0)
    checks = {one["name"]: one["ok"] for one in alerts_real.hold_checks([row])}
    assert not checks["hold/hold: error by adapt's, worst recording"]
    assert checks["hold/slow: coverage off the level, worst recording"]


def test_a_recording_keeps_its_files_one_after_another_and_its_labels(tmp_path: Path) -> None:
    rows = {
        "entity": ["b", "b", "a"],
        "ts": ["2020-01-02T00:00:00"] * 2 + ["2020-01-01T00:00:00"],
        "target": [1.0, 2, 3],
    }
    path = tmp_path / "nab_shared.csv.gz"
    with gzip.open(path, "wb") as file:
        pl.DataFrame({**rows, "label_anomaly": [0, 1, 0]}).write_csv(file)
    stream, labels = alerts_real.recording(path)
    assert stream.names == ["b", "a"]
    assert labels is not None
    assert labels.tolist() == [False, True, False]
    path = path.rename(tmp_path / "other.csv.gz")
    stream, labels = alerts_real.recording(path)
    assert (stream.names, labels) == (["a", "b"], None), "by time"


def test_nab_points_of_many_alarms_are_those_of_the_rule() -> None:
    g = np.random.default_rng(3)
    entity = recordings.Entity("e", np.zeros(300), np.zeros((300, 0)), np.zeros(300), np.zeros(300, bool), None)  # type: ignore[arg-type]
    for windows in ([], [(40, 59)], [(30, 34), (60, 90), (200, 299)]):
        file = recordings.Scored(entity, windows, 20)
        cost = left_out.costs(file)
        for share in (0.01, 0.3):
            alarms = g.random(300) < share
            rows = np.flatnonzero(alarms & (np.arange(300) >= 20))
            expected = recordings.nab_points(file, rows, 1.0, 0.11)
            assert left_out.points(cost, alarms, 1.0, 0.11) == pytest.approx(expected), windows


def test_what_is_left_out_does_not_choose() -> None:
    names = ["a/1", "a/2", "b/1"]
    values = np.array([[5.0, 0.0], [5.0, 0.0], [0.0, 6.0]])  # choice 0 is the best on all; a's files are for it
    row = left_out.chosen(names, values, float, 1)
    assert (row["default"], row["best on all"], row["best"]) == (6.0, 10.0, 0)
    assert row["one file left out"] == 0.0, "without a/1, choice 1 is the best, and so on"
    assert row["one family left out"] == 0.0
    assert left_out.family("MSL/P-10") == left_out.family("MSL/P-2") != left_out.family("MSL/T-1")


def test_vus_is_that_of_the_package() -> None:
    package = [0.43425507394800816, 0.26885300943215107, 0.30414699521462185, 0.10201996817280118]
    """What vus 0.0.6 finds for the first four cases."""
    assert [vus.vus_pr(*case) for case in vus.cases(4)] == pytest.approx(package, abs=1e-12)
    labels = np.zeros(300, bool)
    assert vus.vus_pr(labels, np.zeros(300)) is None
    labels[100:150] = True
    assert vus.vus_pr(labels, labels * 1.0) == pytest.approx(1.0)
    assert vus.vus_pr(labels, -(labels * 1.0), 10) == pytest.approx(50 / 300, abs=0.02), "everything, at last"


def test_the_buffers_of_vus_fall_off_and_ranges_that_meet_are_one() -> None:
    labels = np.array([0, 0, 1, 0, 0, 0, 0, 1, 1, 0], bool)
    spans = vus.ranges(labels)
    assert spans == [(2, 2), (7, 8)]
    assert vus.joined(spans, 2, 10) == [(0, 4), (5, 9)]
    assert vus.joined(spans, 3, 10) == [(0, 9)]
    expected = [0.5**0.5, 0.75**0.5, 0, 0.75**0.5, 0.5**0.5, 0.5**0.5, 0.75**0.5, 0, 0, 0.75**0.5]
    assert vus.buffers(spans, 4, labels) == pytest.approx(expected)
