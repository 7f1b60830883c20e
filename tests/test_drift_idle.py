"""Shifts where errors are smaller than usual, as of a motor that idles: less than a usual error is no drift."""

from __future__ import annotations

import numpy as np
import pytest
from engines import config, made, run

from ssm_stream.engine.engine import Engine

WORK, IDLE, CYCLES = 240, 60, 40


def starts_in_last_idle(by: float, seed: int) -> list[str]:
    """Kinds of the alerts that start while a motor idles for longer than ever, off by so much."""
    rng = np.random.default_rng(seed)
    idle = np.append(np.tile(np.repeat([0.0, 1.0], [WORK, IDLE]), CYCLES), np.ones(400))
    begin = CYCLES * (WORK + IDLE)
    y = np.where(idle > 0, 1.0 + 0.05 * rng.normal(size=len(idle)), 50.0 + rng.normal(size=len(idle)))
    y[begin:] += by
    events = made(y.round(3), idle[:, None], ts=1_767_571_200_000 + 10_000 * np.arange(len(y)))
    _, alerts = run(Engine(config("features: [], categories: [state], lags: 0")), events)
    return [each.message["kind"] for each in alerts if each.row >= begin and each.message["phase"] == "started"]


@pytest.mark.parametrize("by", [0.2, 0.3])
def test_less_than_a_usual_error_is_no_drift_where_they_are_smaller(by: float) -> None:
    """Four and six deviations of what it idles with, a quarter of an error at work."""
    assert [seed for seed in range(4) if "drift" in starts_in_last_idle(by, seed)] == []


def test_what_it_never_drew_is_an_anomaly_all_the_same() -> None:
    assert [seed for seed in range(4) if "anomaly" not in starts_in_last_idle(2.0, seed)] == []
