"""Finite output and state, whatever finite input comes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from engines import DIRECT, assert_finite, config, linear, made, run, started
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ssm_stream.engine.engine import Engine
from ssm_stream.ingest.events import Events

WILD = (0.0, 1.0, -1.0, 7.0, 1e6, -1e6, 3.4e38, -3.4e38, 1e-300, 5e-324, 1e-38, math.nan)


@settings(max_examples=60)
@given(
    st.sampled_from(["features: [a, b]", DIRECT, "features: [a, b], calendar: [hour, weekday], time_zone: Asia/Tokyo"]),
    st.sampled_from(["", "fleet: false", "profile: accurate, window: 128", "gate: equal", "heads: [gd, attention]"]),
    st.integers(1, 3),
    st.lists(st.tuples(*[st.sampled_from(WILD)] * 3, st.integers(1, 60)), min_size=1, max_size=12),
)
@example("features: [a, b]", "", 1, [(0.0, 0.0, 0.0, 1), (1e-300, 0.0, 0.0, 1), (3.4e38, 0.0, 0.0, 2)])
@example(
    "features: [a, b]", "", 1, [(0.0, 0, 0, 41), (1e-300, 0.0, 0.0, 1), (3.4e38, 0.0, 0.0, 1), (0.0, 0.0, 0.0, 60)]
)
@example("features: [a, b]", "", 1, [(0.0, 0.0, 0.0, 1), (1e-300, 0.0, 0.0, 31), (1.0, 0.0, 0.0, 2)])
@example("features: [a, b]", "", 1, [(3.4e38, 0.0, 0.0, 2), (-3.4e38, 0.0, 0.0, 2)])
def test_any_finite_input_gives_finite_output_and_state(
    event: str, model: str, entities: int, runs: list[tuple[float, float, float, int]]
) -> None:
    table = np.array([row[:3] for row in runs for _ in range(row[3])])
    sections = f"model: {{warmup: 10, {model}}}\nalerts: {{anomaly: {{cooldown: 0}}, drift: {{cooldown: 0}}}}"
    engine = Engine(config(event, sections))
    predicted, alerts = run(engine, made(table[:, 0], table[:, 1:], [f"m{i % entities}" for i in range(len(table))]))
    assert_finite(engine, predicted, alerts)


def life_of_faults(largest: float, n: int) -> tuple[Events, NDArray[np.int64]]:
    """Six stretches in turn: well, collinear features, a constant feature, features away, wild values, well."""
    rng = np.random.default_rng(5)
    features, y = linear(n, 5)
    kind = np.arange(n) // 5000 % 6
    features[kind == 1, 1] = features[kind == 1, 0]
    features[kind == 2, 1] = 4.0
    y = 5 + features @ [2.0, -1.0] + 0.3 * rng.normal(size=n)
    features[kind == 3] = np.nan
    wild = (kind == 4) & (rng.random(n) < 0.01)
    y[wild] = rng.choice([largest, -largest, 0.0], wild.sum())
    features[wild, 0] = rng.choice([largest, -largest, 0.0], wild.sum())
    return made(y, features), kind


@pytest.mark.parametrize("event", ["features: [a, b]", DIRECT])
def test_a_long_life_of_faults_stays_finite(event: str) -> None:
    """200,000 events with values at the end of 32-bit floats."""
    events, _ = life_of_faults(3.4e38, 200_000)
    engine = Engine(config(event))
    assert_finite(engine, *run(engine, events))


@pytest.mark.parametrize("event", ["features: [a, b]", DIRECT])
def test_an_entity_finds_back_after_faults(event: str) -> None:
    """Jumps of a million among values of about five: 7,000 events later the errors are ordinary again."""
    events, _ = life_of_faults(1e6, 60_000)
    engine = Engine(config(event))
    predicted, alerts = run(engine, events)
    assert_finite(engine, predicted, alerts)
    error = np.abs(events.target - predicted["yhat"])
    assert error[2000:5000].mean() < 0.3
    assert error[32_000:35_000].mean() < 0.5


@pytest.mark.parametrize("event", ["features: [a, b]", DIRECT])
@pytest.mark.parametrize("value", [0.0, 7.0, -3.4e38, 1e-300, 0.1])
def test_a_constant_series_is_predicted_and_never_alerts(event: str, value: float) -> None:
    engine = Engine(config(event))
    predicted, alerts = run(engine, made(np.full(3000, value), np.full((3000, 2), 2.0)))
    assert_finite(engine, predicted, alerts)
    assert np.allclose(predicted["yhat"][300:], value, rtol=0.005, atol=0)
    assert (predicted["score"] <= 1).all()
    assert alerts == []


def test_a_constant_series_that_jumps_alerts() -> None:
    engine = Engine(config())
    predicted, alerts = run(engine, made(np.r_[np.full(500, 7.0), 8.0, np.full(100, 7.0)]))
    assert_finite(engine, predicted, alerts)
    assert started(alerts, "anomaly")[0] == 500
    assert np.argmax(predicted["score"]) == 500


@pytest.mark.parametrize("heads", ["moments", "products", "proximal", "embedding", "attention", "gd"])
@pytest.mark.parametrize("event", ["features: [a, b]", DIRECT, "lags: 1, calendar: []", "features: [a, b], lags: 0"])
def test_every_head_answers_alone(heads: str, event: str) -> None:
    """Also where there are few answers, and no number at all: finite, and better than knowing nothing."""
    features, y = linear(2000)
    columns = features if "features" in event else np.zeros((2000, 0))
    engine = Engine(config(event, f"model: {{heads: [{heads}]}}"))
    predicted, alerts = run(engine, made(y, columns, [f"m{i % 3}" for i in range(2000)]))
    assert_finite(engine, predicted, alerts)
    error, usual = np.abs(y - predicted["yhat"])[500:].mean(), np.abs(y - y.mean())[500:].mean()
    assert error < (0.7 if "features" in event else 1.1) * usual
