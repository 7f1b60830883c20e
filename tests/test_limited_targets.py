"""Targets that reach a limit often: a valve that is open, a battery that is full. Nothing is expected beyond."""

from __future__ import annotations

import numpy as np
import pytest
from engines import config, made, run
from numpy.typing import NDArray

from ssm_stream.engine.engine import Engine

MINUTE, DAY = 60_000, 1440
SETTLED = 2 * DAY


def battery(seed: int, days: int = 8, full: float = 100.0) -> NDArray[np.float64]:
    """Charged to its limit and used, about twice a day, at no fixed time."""
    rng = np.random.default_rng(seed)
    legs = [(rng.uniform(0.15, 0.3), -rng.uniform(0.05, 0.2), int(rng.integers(200, 500))) for _ in range(6 * days)]
    steps = np.concatenate([np.repeat([up, down], of) for up, down, of in legs])[: days * DAY]
    level, y = 50.0, np.empty(len(steps))
    for i, step in enumerate(steps + rng.normal(0.0, 0.02, len(steps))):
        level = y[i] = min(max(level + step, 10.0), full)
    return y


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("seed", range(3))
def test_no_prediction_and_no_interval_is_beyond(seed: int, sign: float) -> None:
    """At the upper limit, and at the lower one of what is the other way round."""
    y = sign * battery(seed)
    predicted, _ = run(Engine(config("features: []")), made(y, np.empty((len(y), 0)), ts=MINUTE * np.arange(len(y))))
    assert 0.05 < (np.abs(y) == 100.0).mean() < 0.6
    assert np.abs(predicted["yhat"][SETTLED:]).max() == 100.0
    end = predicted["upper" if sign > 0 else "lower"][SETTLED:]
    assert np.abs(end).max() == 100.0
    inside = (predicted["lower"] <= y) & (y <= predicted["upper"])
    assert inside[SETTLED:].mean() > 0.85


def test_a_target_beyond_the_limit_moves_it() -> None:
    """The battery is another one, of which 120 is full."""
    y = np.concatenate([battery(0), battery(1, full=120.0)])
    predicted, _ = run(Engine(config("features: []")), made(y, np.empty((len(y), 0)), ts=MINUTE * np.arange(len(y))))
    after = np.arange(len(y)) > 8 * DAY + SETTLED
    assert predicted["yhat"][after].max() == 120.0
    assert predicted["yhat"][: 8 * DAY].max() < 101.0
    error = np.abs(predicted["yhat"] - y)
    assert error[after].mean() < 1.2 * error[SETTLED : 8 * DAY].mean()


def test_what_falls_from_the_limit_is_an_anomaly() -> None:
    y = battery(0)
    at = SETTLED + int(np.flatnonzero(np.convolve(y[SETTLED:] == 100.0, np.ones(60), "valid") == 60)[-1]) + 30
    y[at : at + 20] = 60.0
    predicted, alerts = run(
        Engine(config("features: []")), made(y, np.empty((len(y), 0)), ts=MINUTE * np.arange(len(y)))
    )
    assert predicted["score"][at] > 3.0
    assert at in [alert.row for alert in alerts]


def test_the_same_predictions_in_other_batches_and_after_a_restart() -> None:
    y = battery(2)
    events = made(y, np.empty((len(y), 0)), ts=MINUTE * np.arange(len(y)))
    whole, _ = run(Engine(config("features: []")), events)
    parts, _ = run(Engine(config("features: []")), events, [1, 150, 5_003])
    assert whole["yhat"].tobytes() == parts["yhat"].tobytes()
    assert whole["upper"].tobytes() == parts["upper"].tobytes()
