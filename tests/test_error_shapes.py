"""Errors that no scale explains: budgets where they depend on each other, intervals where the hour shapes them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ssm_stream.core import detect, interval

BUDGET = 1000.0
N = 60_000


def mostly_zero(g: np.random.Generator) -> NDArray[np.float64]:
    """Errors of a target that is 0 in three of four events: minus a prediction that wanders, or something large."""
    wander = np.empty(N)
    last = 0.0
    for t, step in enumerate(g.normal(size=N).tolist()):
        last = wander[t] = 0.95 * last + 0.31 * step
    return np.where(g.uniform(size=N) < 0.75, -0.3 - 0.08 * wander, 3.0 + g.normal(size=N))


def test_false_drift_alarms_keep_the_budget_where_scores_depend_on_each_other() -> None:
    state = detect.new_detector_state(1)
    evidence = detect.observe_all(state, 0, mostly_zero(np.random.default_rng(1)), BUDGET, False)
    assert (evidence >= 1.0).sum() <= 1.2 * N / BUDGET


def test_scores_that_are_independent_are_bet_on_as_they_are() -> None:
    state = detect.new_detector_state(1)
    detect.observe_all(state, 0, np.random.default_rng(2).normal(size=N), BUDGET, False)
    wander = state.number[0, [detect.WANDER, detect.WANDER_SQUARE]]
    assert (wander < 0.2).all(), "less than the standard error of what is learned"


def test_the_interval_keeps_its_level_at_each_hour_whatever_shape_errors_have_there() -> None:
    """By day normal; by night nearly nothing, but one in eight is as large as by day. The mean size is that of both."""
    g, state = np.random.default_rng(3), interval.new_interval_state(1)
    covered, count = np.zeros(24), np.zeros(24)
    for t in range(N):
        hour = t // 6 % 24
        error = abs(g.normal()) if hour < 12 else 6.0 * abs(g.normal()) if g.uniform() < 0.125 else 0.05
        if t > N // 4:
            covered[hour] += error <= interval.half_width(state, 0, hour)
            count[hour] += 1
        interval.observe(state, 0, t, error, 0.9, 1e-4, hour)
    assert np.abs(covered / count - 0.9).max() < 0.02


def test_spikes_of_a_young_entity_do_not_hide_the_next_one() -> None:
    """What lies beyond the bound counts as the bound in the first hundred events."""
    g = np.random.default_rng(4)
    state = interval.new_interval_state(1)
    for t in range(90):
        error = 75.0 if t in (40, 41, 60, 61) else abs(g.normal())
        interval.observe(state, 0, t, error, 0.9, 1e-4)
    assert interval.anomaly_bound(state, 0, 1e-4) < 75.0
