"""Errors that wander a little, for hundreds of events, are no drift; and a shift in such errors is found."""

from __future__ import annotations

import numpy as np
from engines import config, made, run
from numpy.typing import NDArray

from ssm_stream.engine.engine import Engine

Floats = NDArray[np.float64]
MACHINES, EVENTS = 8, 8_000
ALONE = "alerts: {fleet: {enabled: false}, anomaly: {enabled: false}}"
"""Drift alerts of one machine each."""


def wandering(seed: int) -> Floats:
    """(n, machines) Noise, and a fifth of the variance that wanders for hundreds of events, which nothing tells of."""
    rng = np.random.default_rng(seed)
    slow = rng.normal(size=(EVENTS, MACHINES))
    slow[1:] *= np.sqrt(1 - 0.995**2)
    for i in range(1, EVENTS):
        slow[i] += 0.995 * slow[i - 1]
    return 50 + 0.5 * slow + rng.normal(size=(EVENTS, MACHINES))


def drifts(targets: Floats) -> list[tuple[int, int]]:
    """Event and machine of each drift alert that starts."""
    features = np.random.default_rng(9).normal(size=(targets.size, 2))
    names = [f"m{i % MACHINES}" for i in range(targets.size)]
    ts = np.arange(targets.size) // MACHINES * 300_000
    _, alerts = run(Engine(config("features: [a, b], lags: 0", ALONE)), made(targets.ravel(), features, names, ts))
    return [divmod(alert.row, MACHINES) for alert in alerts if alert.message["phase"] == "started"]


def test_errors_that_wander_keep_the_budget() -> None:
    allowed = MACHINES * EVENTS / 10_000  # it was passed twice as often
    assert np.mean([len(drifts(wandering(seed))) for seed in range(4)]) <= allowed


def test_a_shift_of_one_machine_is_found_all_the_same() -> None:
    """By two deviations, which the model has learned after a few dozen events."""
    first = list[int]()
    for seed in range(8):
        targets = wandering(seed)
        targets[6_000:, 3] += 2.0
        first += [at - 6_000 for at, machine in drifts(targets) if machine == 3 and 6_000 <= at < 6_200][:1]
    assert len(first) >= 7
    assert np.median(first) <= 15  # 21 while the pool's false alarms raised the threshold
