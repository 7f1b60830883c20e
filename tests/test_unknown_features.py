"""Features that are unknown in some events: what is predicted of these, and what becomes of intervals and alerts."""

from __future__ import annotations

import numpy as np
import pytest
from engines import HOUR, config, made, run
from numpy.typing import NDArray

from ssm_stream.engine.engine import Engine
from ssm_stream.ingest.events import Events

Floats = NDArray[np.float64]
SOFT = "features: [a, b], lags: 0"
MACHINES, FROM = 4, 4_000


def plant(n: int, alike: float, seed: int = 0) -> tuple[Floats, Floats]:
    """Features (n, 2) of machines in turn, whose values correlate so from one to the next; y = 50 + 2a + b + noise."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, 2))
    for i in range(MACHINES, n):
        features[i] = alike * features[i - MACHINES] + np.sqrt(1 - alike**2) * features[i]
    return features, 50 + features @ [2.0, 1.0] + 0.5 * rng.normal(size=n)


def absences(n: int, share: float, length: float, seed: int = 1) -> NDArray[np.bool_]:
    """(n,) When the first feature is away: such a share of each machine's events, so many in the mean at a time."""
    rng = np.random.default_rng(seed)
    away = np.zeros(n, np.bool_)
    for i in range(FROM, n):
        away[i] = rng.random() < (1 - 1 / length if away[i - MACHINES] else share / (1 - share) / length)
    return away


def events_of(features: Floats, y: Floats, away: NDArray[np.bool_]) -> Events:
    known = features.copy()
    known[away, 0] = np.nan
    n = len(y)
    return made(y, known, [f"m{i % MACHINES}" for i in range(n)], np.arange(n) // MACHINES * (HOUR // 12))


@pytest.mark.parametrize("event", [SOFT, "features: [a, b]"])
def test_a_sensor_that_changes_slowly_is_held_and_one_that_does_not_stands_at_its_mean(event: str) -> None:
    errors = {}
    for alike in (0.0, 0.9, 0.99):
        features, y = plant(16_000, alike)
        away = absences(16_000, 0.02, 1.0)
        predicted, _ = run(Engine(config(event)), events_of(features, y, away))
        errors[alike] = np.abs(predicted["yhat"] - y)[away].mean()
    # Of a Gaussian with the standard deviation of what is left open: 2 √(1 − alike²), and the noise of the target.
    for alike, error in errors.items():
        assert error == pytest.approx(np.sqrt(2 / np.pi * (4 * (1 - alike**2) + 0.25)), rel=0.15)


@pytest.mark.parametrize("alike", [0.0, 0.9, 0.99])
@pytest.mark.parametrize(("share", "length"), [(0.01, 1.0), (0.1, 1.0), (0.05, 20.0)])
def test_intervals_hold_what_is_left_open(alike: float, share: float, length: float) -> None:
    features, y = plant(32_000, alike)
    away = absences(32_000, share, length)
    predicted, _ = run(Engine(config(SOFT)), events_of(features, y, away))
    inside, old = (y >= predicted["lower"]) & (y <= predicted["upper"]), np.arange(32_000) > FROM + 2_000
    assert 0.86 < inside[away & old].mean() < 0.97
    assert 0.89 < inside[~away & old].mean() < 0.91


def test_short_absences_raise_no_alerts_and_a_lasting_one_a_drift_alert() -> None:
    features, y = plant(32_000, 0.9)
    short = absences(32_000, 0.05, 20.0)
    never, lasting = np.zeros(32_000, np.bool_), np.arange(32_000) >= 16_000
    for away, expected in ((never, set()), (short, set()), (lasting, {"drift"})):
        _, alerts = run(Engine(config(SOFT)), events_of(features, y, away))
        started = [alert for alert in alerts if alert.message["phase"] == "started"]
        found = {alert.message["kind"] for alert in started}
        assert found - {"anomaly"} == expected
        assert sum(alert.message["kind"] == "anomaly" for alert in started) <= 6  # 3.2 are allowed


def test_a_feature_that_has_never_been_known_widens_nothing() -> None:
    features, y = plant(8_000, 0.9)
    y = 50 + features[:, 1] + 0.5 * np.random.default_rng(3).normal(size=8_000)
    predicted, _ = run(Engine(config(SOFT)), events_of(features, y, np.ones(8_000, np.bool_)))
    alone, _ = run(Engine(config("features: [b], lags: 0")), made_alone(features, y))
    late = slice(4_000, None)
    widths = [(each["upper"] - each["lower"])[late].mean() for each in (predicted, alone)]
    assert widths[0] == pytest.approx(widths[1], rel=0.02)


def made_alone(features: Floats, y: Floats) -> Events:
    events = events_of(features, y, np.zeros(len(y), np.bool_))
    return made(y, np.ascontiguousarray(events.features[:, 1:]), events.entity, events.ts)
