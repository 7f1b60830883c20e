"""Charts of alerts about days and hours: which alerts these are, and the means that are drawn."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from numpy.typing import NDArray

from ssm_stream.evaluate.pilot.period_means import DAY, HOUR, SHOWN, Period, alert_period, period_means

DAYS_BEFORE, DAYS_AFTER = SHOWN[DAY]
START = int(datetime(2026, 3, 1, tzinfo=UTC).timestamp() * 1000)


def message(since: int, change: str | None = "creeping up", after: int = 0) -> dict[str, object]:
    return {"change": change, "since": since, "ts": since + after}


def found(message: dict[str, object], ts: NDArray[np.int64], zone: str) -> Period | None:
    """The period of an alert of a target that never rests."""
    return alert_period(message, ts, np.arange(len(ts)) * 1.0, zone)


def test_an_alert_about_days_is_found_as_a_day_ends() -> None:
    ts = START + HOUR * np.arange(72)
    assert found(message(START + DAY), ts, "UTC") == Period(DAY, 24)
    assert found(message(START + DAY + HOUR), ts, "UTC") is None
    assert found(message(START + DAY, after=20 * HOUR), ts, "UTC") == Period(DAY, 24)
    for change in (None, "larger", "smaller"):
        assert found(message(START + DAY, change), ts, "UTC") is None
    assert found(message(START), ts, "UTC") is None, "no day has ended before the first event"


@pytest.mark.parametrize("change", ["higher", "lower"])
def test_an_alert_about_hours_is_found_as_an_hour_ends(change: str) -> None:
    ts = START + HOUR // 10 * np.arange(240)
    for zone in ("UTC", "Asia/Tokyo"):
        assert found(message(START + 5 * HOUR, change), ts, zone) == Period(HOUR, 50)
    assert found(message(START + 5 * HOUR, change), ts, "Asia/Kolkata") is None, "30 minutes off"
    assert found(message(int(ts[51]), change), ts, "UTC") is None
    assert found(message(START, change), ts, "UTC") is None
    middles, (mean,) = period_means(ts, [np.arange(240.0)], Period(HOUR, 50), "UTC")
    assert mean.tolist() == [4.5 + 10 * hour for hour in range(17)]
    assert middles[5] == START + 5.45 * HOUR


def test_where_the_target_rests_an_hour_ends_later() -> None:
    ts = START + HOUR // 10 * np.arange(240)
    y = np.arange(240.0)
    y[50] = y[51] = y[49]
    y[52] = np.nan
    for at, expected in ((50, Period(HOUR, 50)), (53, Period(HOUR, 50)), (54, None)):
        assert alert_period(message(int(ts[at]), "higher"), ts, y, "UTC") == expected
    assert alert_period(message(int(ts[-1]) + 1, "higher"), ts, y, "UTC") is None


def test_days_are_those_of_the_calendar() -> None:
    ts = START + HOUR * np.arange(72)
    assert found(message(START + DAY), ts, "Asia/Tokyo") is None
    assert found(message(START + 15 * HOUR), ts, "Asia/Tokyo") == Period(DAY, 15)
    middles, (mean,) = period_means(ts, [np.arange(72.0)], Period(DAY, 15), "Asia/Tokyo")
    assert mean.tolist() == [7.0, 26.5, 50.5, 67.0]
    assert middles.tolist() == [START + each * HOUR for each in mean]


def test_a_clock_that_goes_forward_makes_a_day_of_23_hours() -> None:
    start = int(datetime(2026, 3, 27, 23, tzinfo=UTC).timestamp() * 1000)
    ts = start + HOUR * np.arange(72)
    _, (mean,) = period_means(ts, [np.ones(72)], Period(DAY, 0), "Europe/Berlin")
    assert len(mean) == 4
    assert [found(message(start + h * HOUR), ts, "Europe/Berlin") for h in (24, 47, 48)] == [
        Period(DAY, 24),
        Period(DAY, 47),
        None,
    ]


@pytest.mark.parametrize("end", [0, 24 * 5, 24 * 60, 24 * 99])
def test_a_chart_has_weeks_and_not_the_whole_recording(end: int) -> None:
    ts = START + HOUR * np.arange(24 * 100)
    values = np.repeat(np.arange(100.0), 24)
    middles, (mean,) = period_means(ts, [values], Period(DAY, end), "UTC")
    first, last = max(end // 24 - DAYS_BEFORE, 0), min(end // 24 + DAYS_AFTER, 100)
    assert mean.tolist() == list(map(float, range(first, last)))
    assert len(middles) == len(mean)


def test_a_day_without_a_value_leaves_a_gap() -> None:
    ts = START + HOUR * np.arange(72)
    y = np.where(ts // DAY == START // DAY + 1, np.nan, 5.0)
    y[3] = np.nan
    _, (mean, whole) = period_means(ts, [y, np.ones(72)], Period(DAY, 48), "UTC")
    assert mean[[0, 2]].tolist() == [5.0, 5.0]
    assert np.isnan(mean[1])
    assert whole.tolist() == [1.0, 1.0, 1.0]
