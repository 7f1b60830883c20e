"""The alert benchmark's parts on little data: what they print has the right form and sense."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import alerts
import alerts_recordings as recordings
import alerts_streams as streams


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
