"""A target that is hardly true: it is an anomaly, once, and nothing else comes of it; what stays is followed."""

from __future__ import annotations

import numpy as np
import pytest
from engines import DAY, HOUR, config, made, run
from numpy.typing import NDArray

from ssm_stream.engine.engine import Alert, Engine

Floats = NDArray[np.float64]
DAYS, AT_DAY = 24, 10
MINUTE = 60_000


def temperature(step: int) -> tuple[Floats, Floats, NDArray[np.int64], int]:
    """A load, a temperature between 35 and 65 that follows it and the day, times, and an event of the tenth day.

    step: between events, ms
    """
    rng = np.random.default_rng(3)
    n = DAYS * DAY // step
    load, noise = np.zeros(n), rng.normal(size=(2, n))
    for i in range(1, n):
        load[i] = 0.95 * load[i - 1] + 0.3 * noise[0, i]
    ts = 1_767_571_200_000 + step * np.arange(n)
    y = 50 + 10 * np.sin(2 * np.pi * (ts % DAY) / DAY) + 2 * load + 0.5 * noise[1]
    return load.round(3), y.round(2), ts, (AT_DAY * DAY + 10 * HOUR) // step


def followed(step: int, read: Floats, event: str) -> tuple[Floats, list[Alert]]:
    """What is predicted where the target is read so, and the alerts."""
    load, _, ts, _ = temperature(step)
    predicted, alerts = run(Engine(config(event)), made(read, np.column_stack([load, 0 * load]), ts=ts))
    return predicted["yhat"], alerts


@pytest.mark.parametrize("event", ["features: [a, b]", "features: [a, b], lags: 0"])
@pytest.mark.parametrize("step", [10 * MINUTE, HOUR])
@pytest.mark.parametrize("bad", [9_999.0, 0.0, -9_999.0])
def test_a_misread_target_spoils_no_prediction(bad: float, step: int, event: str) -> None:
    """The next one was 9,000 off, and those at that time of later days and weeks up to 490, with an alert each."""
    _, y, _, at = temperature(step)
    read = y.copy()
    read[at] = bad
    (clean, _), (predicted, alerts) = (followed(step, each, event) for each in (y, read))
    off, usual = np.abs(predicted - y)[at + 1 :], np.abs(clean - y)[at + 1 :]
    assert off.max() < 3.0 * usual.max()
    assert off.mean() < 1.15 * usual.mean()
    anomalies = [
        each.row for each in alerts if each.message["kind"] == "anomaly" and each.message["phase"] == "started"
    ]
    assert [row for row in anomalies if row >= at] == [at]


@pytest.mark.parametrize("level", [0.0, 120.0, 9_999.0])
def test_a_level_that_stays_is_followed(level: float) -> None:
    step = 10 * MINUTE
    _, y, _, at = temperature(step)
    read = y.copy()
    read[at:] += level - 50.0
    predicted, _ = followed(step, read, "features: [a, b]")
    assert np.abs(predicted - read)[at + 4 : at + 10].max() < 0.1 * abs(level - 50.0)


def test_a_machine_that_starts_after_a_long_standstill_is_followed() -> None:
    """Its range until then is that of noise, which three targets widen to what it reaches."""
    rng = np.random.default_rng(1)
    y = np.concatenate([20 + 0.02 * rng.normal(size=400), 60 + 2 * rng.normal(size=200)])
    predicted, _ = run(Engine(config("features: [a, b]")), made(y))
    assert np.abs(predicted["yhat"] - y)[409:].max() < 15
