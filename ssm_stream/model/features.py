"""The inputs of the learner, in one fixed order: what the columns mean and how the calendar is encoded.

The raw inputs of an event are, in order: the features, the calendar columns (both known before the event is learned),
then what the kernel derives from the entity's own past: each feature's change, the last target, and the differences of
successive past targets.
"""

from __future__ import annotations

from typing import NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

CALENDAR_COLUMNS = {
    "hour": ("hour_sin", "hour_cos", "hour_sin2", "hour_cos2"),
    "weekday": ("weekday_sin", "weekday_cos", "weekend"),
}
DAY = 86_400.0
FIRST_MONDAY = 4 * DAY  # 1970-01-05, in seconds since 1970-01-01


class FeaturePlan(NamedTuple):
    """Which inputs there are.

    features: names of the numeric inputs taken from the event
    calendar: which calendar encodings follow them
    lags: number of past targets used, 0 for none
    differences: whether each feature's change since the entity's last learned event is an input
    time_zone: zone of the calendar
    """

    features: tuple[str, ...]
    calendar: tuple[str, ...]
    lags: int
    differences: bool
    time_zone: str = "UTC"

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that `calendar_columns` completes, shape (C,)."""
        return self.features + tuple(name for part in self.calendar for name in CALENDAR_COLUMNS[part])

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all inputs, the constant first, shape (D,): the order of every head's weights."""
        changes = tuple(f"change({name})" for name in self.features) if self.differences else ()
        last = ("last",) if self.lags else ()
        lags = tuple(f"lag{k}-lag{k + 1}" for k in range(1, self.lags))
        return ("constant", *self.columns, *changes, *last, *lags)


def calendar_columns(plan: FeaturePlan, ts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Smooth cycles of the local time, so that 23:59 and 00:01 are neighbours.

    Args:
        plan: which encodings
        ts: (n,) milliseconds since 1970-01-01 UTC

    Returns:
        (n, c) values in [-1, 1]
    """
    count = sum(len(CALENDAR_COLUMNS[part]) for part in plan.calendar)
    out = np.empty((len(ts), count))
    if not count:
        return out
    local = ts / 1000.0 + _offsets(plan.time_zone, ts)
    at = 0
    for part in plan.calendar:
        if part == "hour":
            angle = 2 * np.pi * ((local % DAY) / DAY)
            encoded = [np.sin(angle), np.cos(angle), np.sin(2 * angle), np.cos(2 * angle)]
        else:
            week = ((local - FIRST_MONDAY) % (7 * DAY)) / DAY
            angle = 2 * np.pi * week / 7
            encoded = [np.sin(angle), np.cos(angle), (week >= 5).astype(np.float64)]
        for column in encoded:
            out[:, at] = column
            at += 1
    return out


def _offsets(zone: str, ts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Seconds east of UTC at each time; looked up once a quarter of an hour, the finest that zones change at."""
    if zone == "UTC":
        return np.zeros(len(ts))
    from datetime import UTC, datetime, timedelta

    tz, epoch = ZoneInfo(zone), datetime(1970, 1, 1, tzinfo=UTC)
    quarters, back = np.unique(ts // 900_000, return_inverse=True)
    offsets = [(epoch + timedelta(minutes=15 * int(q))).astimezone(tz).utcoffset() for q in quarters]
    return np.array([o.total_seconds() if o else 0.0 for o in offsets])[back]
