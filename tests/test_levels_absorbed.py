"""A level that has been taken as normal is normal: what stays there is no second alert."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from engines import config, made, run

from ssm_stream.engine.engine import Engine

MINUTE = 60_000
MOVES = 4000
"""Event at which the level moves, for good."""


def episodes(by: float, seed: int, budget: str) -> list[dict[str, Any]]:
    """Messages of anomaly alerts of a target with noise of 0.02 that moves by so much, and stays."""
    rng = np.random.default_rng(seed)
    n = MOVES + 5000
    load = rng.normal(size=n)
    y = 2.4 + 0.1 * load + 0.02 * rng.normal(size=n)
    y[MOVES:] += by
    settings = config("features: [load], target: temp", f"alerts: {{anomaly: {{budget: {budget}}}}}")
    _, alerts = run(Engine(settings), made(y, load[:, None], ts=np.arange(n) * MINUTE))
    return [alert.message for alert in alerts if alert.message["kind"] == "anomaly" and alert.row >= MOVES]


@pytest.mark.parametrize("budget", ["1 per 10000 events", "1 per 30d"])
@pytest.mark.parametrize("by", [-2.3, 1.0, 40.0])
@pytest.mark.parametrize("seed", range(4))
def test_a_level_that_stays_is_one_alert(by: float, seed: int, budget: str) -> None:
    """Its mean had been set back on the way there, and was taken for the level: the same move was found again."""
    found = episodes(by, seed, budget)
    first = next(i for i, each in enumerate(found) if each["phase"] == "recovered")
    assert found[0]["phase"] == "started"
    assert found[first]["ended_by"] == "absorbed"
    assert not [each for each in found[first + 1 :] if each["channel"] == "levels" and each["phase"] == "started"]


@pytest.mark.parametrize("times", [40.0, 200.0])
@pytest.mark.parametrize("seed", range(4))
def test_noise_that_stays_many_times_as_large_is_one_alert(times: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = MOVES + 6000
    load, other = rng.normal(size=n), rng.normal(size=n)
    other[MOVES:] *= times
    y = 2.4 + 0.1 * load + 0.02 * rng.normal(size=n)
    settings = config("features: [load, other], target: temp", "alerts: {anomaly: {budget: 1 per 30d}}")
    _, alerts = run(Engine(settings), made(y, np.c_[load, other], ts=np.arange(n) * MINUTE))
    started = [alert.row for alert in alerts if alert.message["phase"] == "started" and alert.row >= MOVES]
    assert len(started) == 1
