"""Budgets of the interval's bound and of the drift detector, what an alarm does to the reference, held learning."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from engines import config, linear, made
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ssm_stream.core import detect, interval
from ssm_stream.core.loop import Predictions
from ssm_stream.engine.engine import Engine

BUDGET = 1000.0


def noise(name: str, n: int, seed: int) -> NDArray[np.float64]:
    g = np.random.default_rng(seed)
    if name == "t3":
        return g.standard_t(3, size=n) / 3**0.5
    x = g.normal(size=n)
    if name == "ar":
        for t in range(1, n):
            x[t] = 0.7 * x[t - 1] + 0.51**0.5 * x[t]
    return x


def alarms(errors: NDArray[np.float64], budget: float = BUDGET, hold: bool = False) -> NDArray[np.int64]:
    state = detect.new_detector_state(1)
    return np.flatnonzero([detect.observe(state, 0, float(e), budget, hold) >= 1.0 for e in errors])


@pytest.mark.parametrize("name", ["normal", "t3", "ar"])
def test_false_drift_alarms_keep_the_budget(name: str) -> None:
    n = 150_000
    assert len(alarms(noise(name, n, 1))) <= 1.2 * n / BUDGET


@pytest.mark.parametrize("name", ["normal", "t3", "ar"])
def test_the_anomaly_bound_keeps_the_budget_and_the_interval_its_level(name: str) -> None:
    n, state = 150_000, interval.new_interval_state(1)
    found = covered = 0
    for t, e in enumerate(np.abs(noise(name, n, 2)).tolist()):
        found += t > 100 and e > interval.anomaly_bound(state, 0, 1 / BUDGET)
        covered += e <= interval.half_width(state, 0)
        interval.observe(state, 0, t, e, 0.9, 1 / BUDGET)
    assert 0.7 * n / BUDGET <= found <= 1.2 * n / BUDGET
    assert abs(covered / n - 0.9) < 0.01


@pytest.mark.parametrize("share", [0.01, 0.003])
def test_pulses_that_come_at_many_times_the_budget_become_usual(share: float) -> None:
    n, state, rng = 60_000, interval.new_interval_state(1), np.random.default_rng(1)
    errors = np.where(rng.random(n) < share, 30 * rng.exponential(size=n), np.abs(rng.normal(size=n)))
    found = []
    for t, e in enumerate(errors.tolist()):
        if t > 100 and e > interval.anomaly_bound(state, 0, 1 / 5000):
            found.append(t)
        interval.observe(state, 0, t, e, 0.9, 1 / 5000)
    assert 5 <= len(found) <= 5 * n / 5000
    assert np.count_nonzero(np.array(found) > n / 2) <= (1.5 if share == 0.01 else 5) * n / 2 / 5000


@pytest.mark.parametrize(
    ("said", "change"),
    [
        ("higher", lambda e: e + 1),
        ("lower", lambda e: e - 1),
        ("larger", lambda e: 2 * e),
        ("smaller", lambda e: 0.4 * e),
    ],
)
def test_every_kind_of_change_is_found_and_named(said: str, change: Callable[[float], float]) -> None:
    state, errors = detect.new_detector_state(1), noise("normal", 2000, 3)
    for e in errors:
        assert detect.observe(state, 0, float(e), 1e5, False) < 1.0
    errors = noise("normal", 150, 4)
    assert any(detect.observe(state, 0, float(change(e)), 1e5, False) >= 1.0 for e in errors)
    assert detect.CHANGES[int(state.number[0, detect.CHANGE])] == said


def test_a_creep_is_found_by_its_blocks() -> None:
    """0.1 standard deviations up in 1,000 events: the reference of single events follows it."""
    n = 30_000
    errors = noise("normal", n, 5) + np.maximum(np.arange(n) - 10_000, 0) * 1e-4
    assert 10_000 < alarms(errors, 1e5)[0] < 20_000


def test_a_burst_that_passes_leaves_the_old_reference() -> None:
    errors = noise("normal", 6000, 6)
    errors[3000:3020] += 6
    state = detect.new_detector_state(1)
    for e in errors[:3000]:
        detect.observe(state, 0, float(e), 1e4, False)
    before = state.number[0, detect.TOTAL] / state.number[0, detect.MASS]
    found = [detect.observe(state, 0, float(e), 1e4, False) >= 1 for e in errors[3000:]]
    assert np.flatnonzero(found)[0] < 10
    assert sum(found) == 1, "what passes is told once"
    assert state.number[0, detect.TOTAL] / state.number[0, detect.MASS] > before


def test_a_lasting_change_becomes_the_reference_unless_it_is_held() -> None:
    errors = noise("normal", 8000, 7)
    errors[3000:] += 3
    free, held = alarms(errors, 1e5), alarms(errors, 1e5, hold=True)
    assert len(free) == 2, "at the change, and once more as it is confirmed"
    assert len(held) > 40, "every hundred events while it lasts"


@given(st.lists(st.floats(-1e30, 1e30) | st.sampled_from([0.0, 1.0, 1e-300]), max_size=400), st.booleans())
def test_any_finite_errors_leave_finite_numbers(errors: list[float], hold: bool) -> None:
    drift, band = detect.new_detector_state(1), interval.new_interval_state(1)
    for t, e in enumerate(errors):
        assert np.isfinite(detect.observe(drift, 0, e, 100.0, hold))
        interval.observe(band, 0, t, abs(e), 0.9, 0.01)
    assert all(np.isfinite(array).all() for state in (drift, band) for array in state)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_the_unit_of_the_errors_changes_no_alarm(scale: float) -> None:
    errors = noise("normal", 6000, 8)
    errors[4000:] *= 1.5
    assert alarms(errors).tolist() == alarms(errors * scale).tolist()


def faulty(learn: str) -> tuple[NDArray[np.float64], list[str], NDArray[np.float64]]:
    """A sensor that reads 5 too high from event 5,000 to 5,400; (errors, phases of anomalies, scores)"""
    features, y = linear(6500)
    y[5000:5400] += 5
    engine = Engine(config("features: [a, b], lags: 0", f"alerts: {{anomaly: {{learn: {learn}}}}}"))
    told, alerts = engine.process(made(y, features))
    after = [a for a in alerts if a.row >= 5000 and a.message["kind"] == "anomaly"]
    assert {a.message["learning"] for a in after if a.message["phase"] == "started"} == {
        {"adapt": 1.0, "slow": 0.125, "hold": 0.0}[learn]
    }
    return y - told.yhat, [a.message["phase"] for a in after if a.row < 5500], told.score


def test_a_held_fault_does_not_become_normal() -> None:
    error, _, _ = faulty("hold")
    assert np.median(np.abs(error[5000:5030])) > 4
    assert np.median(np.abs(error[5420:5800])) < 0.5, "what was learned before the fault still stands"


def test_a_hold_ends_after_500_events() -> None:
    features, y = linear(6500)
    y[5000:] += 5
    engine = Engine(config("features: [a, b], lags: 0", "alerts: {anomaly: {learn: hold}}"))
    error = np.abs(y - engine.process(made(y, features))[0].yhat)
    assert np.median(error[5300:5450]) > 4
    assert np.median(error[5700:]) < 1


def test_a_hold_with_past_targets_costs_no_more_than_so_many_usual_errors() -> None:
    """An autoregressive signal jumps and stays: the last target predicts it better than a model at a standstill."""
    rng, y = np.random.default_rng(3), np.zeros(7000)
    for i in range(1, len(y)):
        y[i] = 0.9 * y[i - 1] + rng.normal()
    y[5000:] += 30
    error = []
    for learn in ("adapt", "hold"):
        engine = Engine(config("features: []", f"alerts: {{anomaly: {{learn: {learn}}}, drift: {{learn: {learn}}}}}"))
        error.append(np.abs(y - engine.process(made(y, np.empty((len(y), 0))))[0].yhat))
    assert error[1][5000:].sum() - error[0][5000:].sum() < 1000 * error[0][4000:5000].mean()


def test_a_young_model_is_not_held() -> None:
    features, y = linear(3000)
    y[2000:] += 5
    answers = [Engine(config("features: [a, b], lags: 0", f"alerts: {{anomaly: {{learn: {learn}}}}}")).process(
        made(y, features))[0].yhat for learn in ("adapt", "hold")]  # fmt: skip
    assert (answers[0] == answers[1]).all()


def test_an_adapting_model_takes_the_fault_for_normal() -> None:
    error, _, _ = faulty("adapt")
    assert np.median(np.abs(error[5200:5400])) < 1
    slow, _, _ = faulty("slow")
    assert np.abs(error[5000:5100]).mean() < np.abs(slow[5000:5100]).mean()


def test_held_learning_is_the_same_in_any_batches() -> None:
    features, y = linear(3000)
    y[1000:1300] += 5
    section = "alerts: {anomaly: {learn: hold}, drift: {learn: slow}}"
    events = made(y, features)
    whole: Predictions = Engine(config(sections=section)).process(events)[0]
    engine = Engine(config(sections=section))
    for rows in np.split(np.arange(3000), [999, 1001, 1002, 1100]):
        part = engine.process(events.take(rows))[0]
        assert (part.yhat == whole.yhat[rows]).all()
    engine = Engine.restore(engine.config, engine.snapshot())
    assert engine.state_hash("m")


def learning(n: int, seed: int) -> NDArray[np.float64]:
    """Errors of a model that learns: half as large again after 500 events as in the end, three times after 100."""
    t = np.arange(n)
    return noise("normal", n, seed) * (0.1 + 0.1 * np.exp(-t / 700) + 0.5 * np.exp(-t / 80))


def test_errors_that_shrink_as_a_model_learns_are_no_change() -> None:
    found = sum(len(alarms(learning(3000, seed))) for seed in range(40))
    assert found <= 1.2 * 40 * 3000 / BUDGET


@pytest.mark.parametrize("change", [0.4, 2.0])
def test_a_sudden_change_beside_the_learning_is_found(change: float) -> None:
    for seed in range(20):
        errors = learning(1300, seed)
        errors[700:] *= change
        assert any(700 <= at < 800 for at in alarms(errors, 1e4)), seed


def test_a_young_fleet_keeps_the_budget_of_drift_alerts_several_fold_better_than_its_errors_shrink() -> None:
    E, each, rng = 60, 1500, np.random.default_rng(9)
    weights = rng.normal(size=(E, 8))
    which = rng.integers(0, E, E * each)
    features = rng.normal(size=(len(which), 8))
    y = (features * weights[which]).sum(1) + 0.1 * rng.normal(size=len(which))
    columns = ", ".join(f"f{i}" for i in range(8))
    alone = "alerts: {anomaly: {enabled: false}, fleet: {enabled: false}}"
    engine = Engine(config(f"features: [{columns}]", alone))
    told = engine.process(made(y, features, [f"m{e}" for e in which.tolist()]))[1]
    started = sum(alert.message["phase"] == "started" for alert in told)
    assert started <= 3 * len(which) / 10_000, "a stationary stream: the default budget is 1 per 10,000 events"
