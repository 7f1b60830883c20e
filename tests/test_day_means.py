"""Charts of alerts about days: which alerts these are, and the means that are drawn."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from ssm_stream.evaluate.pilot.day_means import DAYS_AFTER, DAYS_BEFORE, day_end, day_means

HOUR, DAY = 3_600_000, 86_400_000
START = int(datetime(2026, 3, 1, tzinfo=UTC).timestamp() * 1000)


def message(since: int, change: str | None = "creeping up") -> dict[str, object]:
    return {"change": change, "since": since, "ts": since + 20 * HOUR}


def test_an_alert_about_days_is_found_as_a_day_ends() -> None:
    ts = START + HOUR * np.arange(72)
    assert day_end(message(START + DAY), ts, "UTC") == 24
    assert day_end(message(START + DAY + HOUR), ts, "UTC") is None
    assert day_end(message(START + DAY, "higher"), ts, "UTC") is None
    assert day_end(message(START + DAY, None), ts, "UTC") is None
    assert day_end(message(START), ts, "UTC") is None, "no day has ended before the first event"


def test_days_are_those_of_the_calendar() -> None:
    ts = START + HOUR * np.arange(72)
    assert day_end(message(START + DAY), ts, "Asia/Tokyo") is None
    assert day_end(message(START + 15 * HOUR), ts, "Asia/Tokyo") == 15
    middles, (mean,) = day_means(ts, [np.arange(72.0)], 15, "Asia/Tokyo")
    assert mean.tolist() == [7.0, 26.5, 50.5, 67.0]
    assert middles.tolist() == [START + each * HOUR for each in mean]


def test_a_clock_that_goes_forward_makes_a_day_of_23_hours() -> None:
    start = int(datetime(2026, 3, 27, 23, tzinfo=UTC).timestamp() * 1000)
    ts = start + HOUR * np.arange(72)
    _, (mean,) = day_means(ts, [np.ones(72)], 0, "Europe/Berlin")
    assert len(mean) == 4
    assert [day_end(message(start + h * HOUR), ts, "Europe/Berlin") for h in (24, 47, 48)] == [24, 47, None]


@pytest.mark.parametrize("end", [0, 24 * 5, 24 * 60, 24 * 99])
def test_a_chart_has_weeks_and_not_the_whole_recording(end: int) -> None:
    ts = START + HOUR * np.arange(24 * 100)
    values = np.repeat(np.arange(100.0), 24)
    middles, (mean,) = day_means(ts, [values], end, "UTC")
    first, last = max(end // 24 - DAYS_BEFORE, 0), min(end // 24 + DAYS_AFTER, 100)
    assert mean.tolist() == list(map(float, range(first, last)))
    assert len(middles) == len(mean)


def test_a_day_without_a_value_leaves_a_gap() -> None:
    ts = START + HOUR * np.arange(72)
    y = np.where(ts // DAY == START // DAY + 1, np.nan, 5.0)
    y[3] = np.nan
    _, (mean, whole) = day_means(ts, [y, np.ones(72)], 48, "UTC")
    assert mean[[0, 2]].tolist() == [5.0, 5.0]
    assert np.isnan(mean[1])
    assert whole.tolist() == [1.0, 1.0, 1.0]
