"""A drift alert is about errors: a target at rest has none, so that one ends there, and none begins."""

from __future__ import annotations

import numpy as np
import pytest
from engines import config, made
from numpy.typing import NDArray

from ssm_stream.engine.engine import Alert, Engine

Floats = NDArray[np.float64]
QUARTER_HOUR, HOUR = 900_000, 4
EVENTS, STOP = 6_000, 5_000
AT_REST = "is at rest"


def heating(seed: int, events: int = EVENTS) -> Floats:
    """A flow that is lower at night, in noise of 0.3, in steps of 0.1."""
    rng, k = np.random.default_rng(seed), np.arange(events)
    day = (k // HOUR % 24 >= 6) & (k // HOUR % 24 < 22)
    return np.round(np.where(day, 40.0, 31.0) + 3 * np.sin(k / 300) + rng.normal(size=events) * 0.3, 1)


def drifts(y: Floats) -> list[Alert]:
    """Drift alerts of one machine, with their sentences."""
    ts = np.arange(len(y)) * QUARTER_HOUR
    _, alerts = Engine(config("features: [], lags: 8")).process(made(y, np.zeros((len(y), 0)), ts=ts))
    return [alert for alert in alerts if alert.message["kind"] == "drift"]


def starts(alerts: list[Alert], after: int) -> list[int]:
    """Events after that one at which an alert starts."""
    return [alert.row for alert in alerts if alert.message["phase"] == "started" and alert.row >= after]


@pytest.mark.parametrize("seed", range(4))
def test_a_drift_ends_once_the_machine_has_stopped(seed: int) -> None:
    """It went on for 10 days at rest, as predicted to the last digit, and was then taken as normal."""
    y = heating(seed)
    y[STOP - 20 : STOP] += np.random.default_rng(seed).choice([-4.0, 4.0], 20)
    y[STOP:] = 0.0
    alerts = drifts(y)
    assert starts(alerts, STOP - 20), "the disturbance is found"
    end = [alert for alert in alerts if alert.row > STOP][-1]
    assert end.message["phase"] == "recovered"
    assert end.message["ended_by"] == "recovered"
    assert end.row <= STOP + 2 * 24 * HOUR, "the first day, the night still moves the prediction"
    assert AT_REST in end.message["summary"]


@pytest.mark.parametrize("seed", range(4))
def test_a_drift_outlasts_the_pauses_of_a_machine(seed: int) -> None:
    """It runs for 80 events and rests for 100: what disturbs it is one alert, and none more at its next start."""
    rng, k = np.random.default_rng(seed), np.arange(EVENTS)
    runs = k % 180 < 80
    y = np.where(runs, 40 + rng.normal(size=EVENTS) * 0.3, 0.0)
    y[STOP : STOP + 900] += np.where(runs, rng.choice([-4.0, 4.0], EVENTS), 0.0)[STOP : STOP + 900]
    alerts = drifts(np.round(y, 1))
    # When it is over, with its last run, errors are smaller again, which is a change of its own.
    assert len([row for row in starts(alerts, STOP) if row < STOP + 840]) == 1
    end = next(alert for alert in alerts if alert.row > STOP and alert.message["phase"] == "recovered")
    assert AT_REST not in end.message["summary"], "it is learned by then, in 200 events"


@pytest.mark.parametrize("seed", range(3))
def test_a_night_is_no_stop_though_readings_often_stand_still_by_day(seed: int) -> None:
    """Two in five readings by day are the one before; a usual rest is as long as the night all the same."""
    rng, k = np.random.default_rng(seed), np.arange(EVENTS)
    day = k % 240 < 140
    y = np.where(day, np.round(2 * (40 + rng.normal(size=EVENTS) * 0.3)) / 2, 0.0)
    y[STOP : STOP + 700] += np.where(day, rng.choice([-4.0, 4.0], EVENTS), 0.0)[STOP : STOP + 700]
    alerts = drifts(y)
    assert starts(alerts, STOP)
    assert not [alert for alert in alerts if AT_REST in alert.message["summary"]]


@pytest.mark.parametrize("seed", range(6))
def test_no_drift_begins_at_rest(seed: int) -> None:
    """After days of exactly 0, what the hours still moved the prediction by was `only 0.14 × as large as usual`."""
    y = heating(seed)
    y[STOP:] = 0.0
    assert not starts(drifts(y), STOP + 100)


@pytest.mark.parametrize("seed", range(4))
def test_a_change_after_a_stop_is_found(seed: int) -> None:
    y = heating(seed, EVENTS + 1_000)
    y[STOP:EVENTS] = 0.0
    y[EVENTS + 600 :] += np.random.default_rng(seed).choice([-4.0, 4.0], 400)
    assert starts(drifts(y), EVENTS + 600)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_no_drift_begins_at_a_rest_that_an_input_announces(seed: int) -> None:
    """Of five fans one stands by in turn: that its prediction is off by less than at work was a drift."""
    rng, events, fans = np.random.default_rng(seed), 9_000, 5
    k = np.arange(events)
    speeds = np.stack([np.round(1200 + 80 * np.sin(k / 46 + m) + rng.normal(0, 5, events)) for m in range(fans)], 1)
    runs = (k[:, None] // 1_000) % fans != np.arange(fans)
    y, inputs = np.where(runs, speeds, 0.0).ravel(), np.stack([runs.ravel(), np.zeros(events * fans)], 1).astype(float)
    names = [f"fan-{m}" for m in range(fans)] * events
    rows = made(y, inputs, names, np.repeat(k, fans) * 300_000)
    _, alerts = Engine(config("features: [a, b], lags: 8")).process(rows)
    begun = [a.row for a in alerts if a.message["kind"] == "drift" and a.message["phase"] == "started"]
    assert not [row for row in begun if row >= 5_000 * fans and not runs.ravel()[row]], "the first round is new"
