"""What the clock brings each night is no alert each night: levels and residuals know it from the day before."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from engines import config, made, run
from numpy.typing import NDArray

from ssm_stream.engine.engine import Engine

MINUTE = 60
DAY = 86_400
Values = NDArray[np.float64]


def started(times: Values, y: Values, load: Values | None = None) -> list[int]:
    """Rows at which anomalies start: of one entity; load: an input, of noise where there is none."""
    load = np.random.default_rng(99).normal(size=len(y)) if load is None else load
    settings = config("features: [load], target: temp", "alerts: {anomaly: {budget: 1 per 30d}}")
    _, alerts = run(Engine(settings), made(y, load[:, None], ts=(times * 1000).astype(np.int64)))
    return [alert.row for alert in alerts if alert.message["phase"] == "started" and alert.message["kind"] == "anomaly"]


def found(times: Values, rows: list[int], day: int, hour: float) -> bool:
    """Whether an alert starts within half an hour of then."""
    return any(-MINUTE < times[row] - day * DAY - hour * 3600 <= 1800 for row in rows)


def signal(days: float, step: int, seed: int) -> tuple[Values, Values, Values, np.random.Generator]:
    """Seconds, hours of the day and a target with a mild day and noise. step: seconds"""
    rng = np.random.default_rng(seed)
    times = np.arange(int(days * DAY / step)) * float(step)
    hour = times / 3600 % 24
    return times, hour, 2.4 + 0.1 * np.sin(2 * np.pi * (hour - 9) / 24) + 0.05 * rng.normal(size=len(times)), rng


def job(times: Values, hour: Values, y: Values, rng: np.random.Generator) -> None:
    """A backup at about one, 45 to 51 minutes long."""
    for day in range(int(times[-1] // DAY) + 1):
        y[(times // DAY == day) & (hour >= 1 + rng.uniform(0, 0.02)) & (hour < 1.8 + rng.uniform(-0.05, 0.05))] += 1


def reset(times: Values, hour: Values, y: Values, rng: np.random.Generator) -> None:
    """A disk that fills by day, and is emptied at midnight."""
    y += 1.5 * hour / 24


def weekly(times: Values, hour: Values, y: Values, rng: np.random.Generator) -> None:
    """A clean-up on Sundays, in the early morning. 1970-01-01 was a Thursday."""
    y[(times // DAY % 7 == 3) & (hour >= 3) & (hour < 7)] += 1


@pytest.mark.parametrize("step", [60, 300])
@pytest.mark.parametrize(("event", "known"), [(job, 7), (reset, 2), (weekly, 14)])
def test_what_comes_again_is_no_anomaly(
    event: Callable[[Values, Values, Values, np.random.Generator], None], known: int, step: int
) -> None:
    """Of four machines in the weeks after its first times: five to thirteen alerts before. known: days"""
    after = 0
    for seed in range(4):
        times, hour, y, rng = signal(23, step, seed)
        event(times, hour, y, rng)
        after += sum(times[row] >= (known + 1) * DAY for row in started(times, y))
    assert after <= 1


@pytest.mark.parametrize("seed", range(3))
def test_the_same_at_another_time_or_for_longer_is_an_anomaly(seed: int) -> None:
    times, hour, y, rng = signal(23, MINUTE, seed)
    job(times, hour, y, rng)
    day = times // DAY
    y[(day == 12) & (hour >= 14.3) & (hour < 15.1)] += 1
    y[(day == 20) & (hour >= 2) & (hour < 4)] += 1
    rows = started(times, y)
    assert found(times, rows, 12, 14.3)
    assert found(times, rows, 20, 2.0)


@pytest.mark.parametrize("seed", range(3))
def test_another_size_at_the_same_time_is_an_anomaly(seed: int) -> None:
    times, hour, y, rng = signal(23, MINUTE, seed)
    job(times, hour, y, rng)
    y[(times // DAY == 20) & (hour >= 1.1) & (hour < 1.7)] += 2
    assert found(times, started(times, y), 20, 1.1)


@pytest.mark.parametrize("seed", range(3))
def test_a_monday_that_stands_like_a_sunday_is_an_anomaly(seed: int) -> None:
    times, hour, y, _ = signal(26, MINUTE, seed)
    weekday = (times // DAY + 3) % 7
    works = (weekday < 5) & (hour >= 6) & (hour < 22)
    stops = (times // DAY == 25) & (hour >= 9.2) & (hour < 12)  # a Monday
    assert weekday[stops][0] == 0
    y[works & ~stops] += 1
    assert found(times, started(times, y), 25, 9.2)


@pytest.mark.parametrize("seed", range(3))
def test_a_target_that_goes_on_as_a_week_ago_although_its_input_is_off_is_an_anomaly(seed: int) -> None:
    times, hour, y, rng = signal(26, 300, seed)
    works = ((times // DAY + 3) % 7 < 5) & (hour >= 8) & (hour < 18)
    stops = (times // DAY == 21) & (hour >= 10) & (hour < 14)  # a Thursday
    load = 1.0 * (works & ~stops) + 0.05 * rng.normal(size=len(y))
    y += 2 * np.where(stops, 1.0, load)
    assert found(times, started(times, y, load=load), 21, 10)
