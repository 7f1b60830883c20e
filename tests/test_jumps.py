"""A feature that jumps: what the target does then is not known from smaller changes, and the interval knows that."""

from __future__ import annotations

import numpy as np
from engines import DIRECT, config, made, run
from numpy.typing import NDArray

from ssm_stream.engine.engine import Engine
from ssm_stream.ingest.events import Events

MACHINES, EVENTS = 4, 6_000
N = MACHINES * EVENTS


def events_of(features: NDArray[np.float64], y: NDArray[np.float64]) -> Events:
    return made(y, features, [f"m{i % MACHINES}" for i in range(N)], np.arange(N) // MACHINES * 60_000)


def valves(seed: int) -> tuple[Events, NDArray[np.bool_]]:
    """Valves that are 0 or 100 for 60 events in the mean, a flow of half of that, and which events come at a change."""
    rng = np.random.default_rng(seed)
    opened = np.cumsum(rng.random((EVENTS, MACHINES)) < 1 / 60, axis=0) % 2
    changes = np.diff(opened, axis=0, prepend=0) != 0
    features = np.stack([100.0 * opened.ravel(), rng.normal(size=N)], 1)
    return events_of(features, 50.0 * opened.ravel() + 0.3 * rng.normal(size=N)), changes.ravel()


def residual_alarms(event: str, events: Events) -> int:
    _, alerts = run(Engine(config(event)), events)
    return sum(alert.message["phase"] == "started" and alert.message["channel"] == "residual" for alert in alerts)


def test_valves_are_learned_without_an_alarm_at_each_of_their_first_changes() -> None:
    for event in ("features: [a, b]", DIRECT):
        alarms = sum(residual_alarms(event, valves(seed)[0]) for seed in range(4))
        assert alarms <= 8  # of 1,600 changes; the budget allows 9.6 in all


def test_a_change_whose_effect_is_known_widens_nothing() -> None:
    events, changes = valves(1)
    predicted, _ = run(Engine(config(DIRECT)), events)
    width, late = predicted["upper"] - predicted["lower"], np.arange(N) > N // 2
    assert width[changes & late].mean() < 2.5 * width[~changes & late].mean()


def test_bad_readings_of_a_feature_are_no_anomalies_of_the_target() -> None:
    rng = np.random.default_rng(3)
    features = rng.normal(size=(N, 2))
    y = 50 + features @ [2.0, 1.0] + 0.5 * rng.normal(size=N)
    bad = rng.random(N) < 0.005
    bad[: 500 * MACHINES] = False
    features[bad, 0] = 9999.0
    assert residual_alarms(DIRECT, events_of(features, y)) <= 5
