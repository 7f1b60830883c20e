"""What comes again in the first events of a pool's machines is usual; once is a spike, and old ones have theirs."""

from __future__ import annotations

import numpy as np
from engines import config, made, run
from numpy.typing import NDArray

from ssm_stream.engine.engine import Alert, Engine
from ssm_stream.ingest.events import Events

Floats = NDArray[np.float64]
MINUTES = 5 * 60_000
ALONE = "alerts: {fleet: {enabled: false}, drift: {enabled: false}}"
"""Alerts of one machine each."""


def noise(n: int, machines: int, seed: int = 0) -> Floats:
    """(n, machines) What cannot be predicted."""
    return np.random.default_rng(seed).normal(size=(n, machines))


def events_of(targets: Floats) -> Events:
    """targets (n, machines): of machines in turn, with two features that tell nothing"""
    n, machines = targets.shape
    features = np.random.default_rng(9).normal(size=(n * machines, 2))
    names = [f"m{i % machines}" for i in range(n * machines)]
    return made(targets.ravel(), features, names, np.arange(n * machines) // machines * MINUTES)


def anomalies(targets: Floats) -> list[tuple[int, int]]:
    """Event and machine of each anomaly alert that starts."""
    machines = targets.shape[1]
    _, alerts = run(Engine(config("features: [a, b]", ALONE)), events_of(targets))

    def starts(alert: Alert) -> bool:
        return bool(alert.message["phase"] == "started" and alert.message["kind"] == "anomaly")

    return [divmod(alert.row, machines) for alert in alerts if starts(alert)]


def test_a_saw_tooth_alarms_at_most_once_a_machine() -> None:
    saw = (np.arange(800)[:, None] % 97) + 0.3 * noise(800, 4)
    found = anomalies(saw)
    assert len(found) <= 4
    assert all(at < 200 for at, _ in found)


def test_a_spike_that_came_once_does_not_hide_the_next() -> None:
    targets = 50 + noise(900, 4)
    targets[[200, 500, 700], [1, 1, 2]] += [60.0, 40.0, 40.0]
    assert {(200, 1), (500, 1), (700, 2)} <= set(anomalies(targets))


def test_faults_that_come_again_are_found_at_a_machine_of_some_age() -> None:
    targets, spikes = 50 + noise(2_600, 4), range(1_200, 2_600, 200)
    targets[list(spikes), 0] += 30.0
    assert {(at, 0) for at in spikes} <= set(anomalies(targets))


def test_spikes_of_all_machines_at_once_are_one() -> None:
    targets = 50 + noise(900, 4)
    targets[200] += 60.0
    targets[500, 1] += 40.0
    assert (500, 1) in anomalies(targets)
