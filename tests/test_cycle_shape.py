"""The shape of cycles: what is found, what is no cycle, the budget, wild values, and the state."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from engines import assert_same_bits, config, made, run
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import shapes_streams as streams

from ssm_stream.core import cycle_shape
from ssm_stream.core.cycle_shape import EVERY, PERIOD
from ssm_stream.engine.engine import Engine

Floats = NDArray[np.float64]
EVENTS = 10_000.0


def scores(values: Floats, events: float = EVENTS) -> Floats:
    return cycle_shape.observe(cycle_shape.new_shape_state(1), 0, np.asarray(values, float), events)


def beats(n: int, period: float = 40.0, seed: int = 1) -> Floats:
    phase = np.arange(n) / period
    return streams.heart(phase) + 0.05 * np.random.default_rng(seed).normal(size=n)


def period_of(values: Floats) -> float:
    s = cycle_shape.new_shape_state(1)
    cycle_shape.observe(s, 0, values, EVENTS)
    return float(s.number[0, PERIOD] * s.number[0, EVERY])


@pytest.mark.parametrize("period", [9, 24, 50, 288, 1440])
def test_the_period_is_the_signals_own(period: int) -> None:
    n = max(2_000, 12 * period)
    y = streams.sawtooth(np.arange(n) / period) + 0.1 * np.random.default_rng(1).normal(size=n)
    assert period_of(y) == pytest.approx(period, rel=0.03)


def test_what_has_no_period_is_left_alone() -> None:
    g = np.random.default_rng(2)
    n = 20_000
    noise = g.normal(size=n)
    slow = np.empty(n)
    slow[0] = 0.0
    for i in range(1, n):
        slow[i] = 0.95 * slow[i - 1] + noise[i]
    for y in (noise, g.standard_t(3, size=n), slow, np.cumsum(noise), np.full(n, 3.0), np.arange(n) * 1.0):
        assert not scores(y).any()


def test_a_beat_of_another_shape_is_found_though_no_value_is_new() -> None:
    y = beats(6_000)
    y[4_000:4_040] = y[4_000:4_040][::-1]
    found = scores(y)
    assert not (found[:4_000] > 1.0).any()
    assert (found[4_000:4_060] > 1.0).any()
    assert not (found[4_200:] > 1.0).any(), "what is over is over"


def test_one_odd_beat_does_not_excuse_the_next() -> None:
    y = beats(8_000)
    for at in (4_000, 4_800):
        y[at : at + 40] = y[at : at + 40][::-1]
    found = scores(y)
    assert (found[4_800:4_860] > 1.0).any()


def test_scores_do_not_depend_on_unit_and_offset() -> None:
    y = beats(3_000)
    y[2_000:2_040] = y[2_000:2_040][::-1]
    expected = scores(y)
    assert expected.max() > 1.0
    for unit, offset in ((1e12, 0.0), (1e-12, 0.0), (1.0, 500.0), (-1.0, 0.0)):
        assert scores(unit * y + offset) == pytest.approx(expected, rel=0.02, abs=0.01)


def test_a_score_below_one_ranks() -> None:
    found = scores(beats(3_000))[1_000:]
    below = found[found < 1.0]
    assert len(np.unique(below)) > 400, "one a sample"
    assert (below >= 0.0).all()


def test_false_alarms_keep_to_the_budget() -> None:
    alarms, n, budget = 0, 40_000, 1_000.0
    for seed in range(3):
        found = scores(streams.make("sine", streams.sine, None, 900 + seed, n).y, budget) > 1.0
        starts = np.flatnonzero(found & ~np.concatenate([[False], found[:-1]]))
        alarms += 1 + int((np.diff(starts) > 100).sum()) if len(starts) else 0
    assert alarms <= 1.5 * 3 * n / budget


def test_wild_and_missing_values_are_survived() -> None:
    y = beats(4_000)
    y[::50] = np.nan
    y[1_001], y[1_003], y[2_001] = np.inf, 1e308, -1e308
    found = scores(y)
    assert np.isfinite(found).all()
    for values in (np.full(4_000, 1e308) * np.sign(np.sin(np.arange(4_000) / 5)), 1e-310 * beats(4_000)):
        assert np.isfinite(scores(values)).all()


def test_a_signal_whose_period_is_gone_starts_anew() -> None:
    g = np.random.default_rng(4)
    y = np.concatenate([beats(3_000), g.normal(size=3_000)])
    assert period_of(y[:3_000]) == pytest.approx(40, rel=0.05)
    assert period_of(y) == 0.0


def test_entities_do_not_touch_each_other() -> None:
    s = cycle_shape.new_shape_state(3)
    y = beats(2_000)
    alone = scores(y)
    for start in range(0, 2_000, 100):
        cycle_shape.observe(s, 0, y[start : start + 100] * 2.0, EVENTS)
        part = cycle_shape.observe(s, 1, y[start : start + 100], EVENTS)
        assert (part == alone[start : start + 100]).all()
    assert not s.number[2].any()


def test_an_entity_costs_at_most_4_kb() -> None:
    assert sum(array.nbytes for array in cycle_shape.new_shape_state(1)) <= 4_000


def odd_beats() -> Floats:
    y = beats(6_000)
    y[4_000:4_120] = np.concatenate([y[4_000:4_040][::-1]] * 3)
    return y


def test_an_alert_says_that_the_cycle_has_another_shape() -> None:
    for language, text in (
        ("en", "the cycle of y (about 40 events) has another shape"),
        ("ja", "波形がこれまでと異なります"),
    ):
        engine = Engine(config("target: y, features: []", f"alerts: {{language: {language}}}"))
        _, alerts = run(engine, made(odd_beats(), np.zeros((6_000, 0))))
        shaped = [alert.message for alert in alerts if alert.message["channel"] == "shape"]
        assert any(text in str(message["summary"]) for message in shaped), [a.message["summary"] for a in alerts]
        assert all(3_900 < message["ts"] // 1000 < 4_300 for message in shaped)


def test_a_restart_changes_no_bit() -> None:
    made_config = config("target: y, features: []")
    events = made(odd_beats(), np.zeros((6_000, 0)))
    whole, _ = run(Engine(made_config), events)
    first = Engine(made_config)
    before, _ = run(first, events.take(np.arange(3_333)))
    after, _ = run(Engine.restore(made_config, first.snapshot()), events.take(np.arange(3_333, 6_000)))
    assert_same_bits(whole, {name: np.concatenate([before[name], after[name]]) for name in before})


def test_the_channel_is_a_part_of_novelty() -> None:
    events = made(odd_beats(), np.zeros((6_000, 0)))
    _, alerts = run(Engine(config("target: y, features: []", "alerts: {anomaly: {channels: [residual]}}")), events)
    assert "shape" not in {alert.message["channel"] for alert in alerts}
    with pytest.raises(ValueError, match="a part of `novelty`"):
        config("target: y, features: []", "alerts: {anomaly: {channels: [shape]}}")
