"""The first event after a gap: its last target is old, and its interval knows."""

from __future__ import annotations

import numpy as np
import pytest
from engines import config, made, run
from numpy.typing import NDArray

from ssm_stream.engine.engine import Engine
from ssm_stream.ingest.events import Events

MINUTE = 60_000
MACHINES, MINUTES = 4, 12_000


def plant(alike: float, share: float, length: int, *, told: bool = False) -> tuple[Events, NDArray[np.bool_]]:
    """Machines with an event a minute, and gaps of so many minutes before such a share of the events; which those are.

    The target is an autoregression with the correlation `alike` a minute. told: the feature b is that, else noise
    """
    rng = np.random.default_rng(0)
    times, names, values, first = [], [], [], []
    for m in range(MACHINES):
        steps = np.where(rng.random(MINUTES) < share, length, 1)
        steps[:500] = 1
        ts = np.cumsum(steps)
        level = np.zeros(ts[-1] + 1)
        noise = np.sqrt(1 - alike**2) * rng.normal(size=len(level))
        for t in range(1, len(level)):
            level[t] = alike * level[t - 1] + noise[t]
        times.append(ts)
        names.append(np.full(MINUTES, m))
        values.append(level[ts])
        first.append(steps > 1)
    ts, m, level, after = (np.concatenate(each) for each in (times, names, values, first))
    order = np.argsort(ts, kind="stable")
    ts, m, level, after = ts[order], m[order], level[order], after[order]
    features = rng.normal(size=(len(ts), 2))
    if told:
        features[:, 1] = level
    y = 50 + 5 * level + 0.2 * rng.normal(size=len(ts))
    return made(y, features, [f"m{each}" for each in m], ts * MINUTE), after


@pytest.mark.parametrize("alike", [0.9, 0.99, 0.999])
@pytest.mark.parametrize(("share", "length"), [(0.01, 30), (0.002, 480)])
def test_the_interval_after_a_gap_knows_of_it(alike: float, share: float, length: int) -> None:
    events, after = plant(alike, share, length)
    predicted, alerts = run(Engine(config()), events)
    late = np.arange(len(after)) > 12_000
    inside = (events.target >= predicted["lower"]) & (events.target <= predicted["upper"])
    assert 0.8 < inside[after & late].mean() <= 1.0
    assert 0.89 < inside[~after & late].mean() < 0.91
    started = [alert.message["kind"] for alert in alerts if alert.message["phase"] == "started"]
    assert started.count("anomaly") <= 10  # 4.8 are allowed
    assert started.count("drift") <= 10


def test_where_features_tell_the_target_a_gap_soon_widens_nothing() -> None:
    events, after = plant(0.99, 0.01, 30, told=True)
    predicted, _ = run(Engine(config()), events)
    width = predicted["upper"] - predicted["lower"]
    old = np.arange(len(after)) > 24_000
    assert width[after & old].mean() < 1.5 * width[~after & old].mean()


def test_without_gaps_and_for_soft_sensors_nothing_is_wider() -> None:
    events, after = plant(0.99, 0.01, 30)
    soft, _ = run(Engine(config("features: [a, b], lags: 0")), events)
    width, late = soft["upper"] - soft["lower"], np.arange(len(after)) > 12_000
    assert width[after & late].mean() == pytest.approx(width[~after & late].mean(), rel=0.1)
