"""The alert benchmark's parts on little data: what they print has the right form and sense."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import alerts
import alerts_recordings as recordings
import alerts_run
import alerts_scale
import alerts_streams as streams
import scale_streams


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
