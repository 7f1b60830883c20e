"""The inputs of the learner, in one fixed order: what the columns mean and how the calendar is encoded.

The raw inputs of an event are, in order: the features and the calendar's cycles (known before the event is learned),
each feature's changes since the entity's events before, the first values that each category has shown, and what the
kernel derives from the entity's past targets: the last one, the differences of successive ones, and how far the hour's
and the week's usual target lie from the last one. After the numbers come the codes: one input for each value that a
category has shown, a slot each, in order of appearance.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from ssm_stream.core import native
from ssm_stream.core.constants import DAY, HALF_SECOND

CYCLES = {
    "hour_cycle": ("hour_sin", "hour_cos", "hour_sin2", "hour_cos2"),
    "weekday_cycle": ("weekday_sin", "weekday_cos", "weekend"),
    "holiday": ("holiday",),
}
FIRST_MONDAY = 4 * DAY  # 1970-01-05, in seconds since 1970-01-01
QUARTER = 900_000  # ms; the finest interval at which the offset of a time zone changes
LATELY = 1_735_689_600_000  # 2025-01-01, ms: zones have the offsets of today
NEVER, BY_RULE, ALWAYS = range(3)  # is the hour (the weekday) a code?
INDICATED = 4  # values of a category, the first that it shows, of which each has a numeric input, too: 1 where it is


def value_name(category: str, i: int) -> str:
    """Return the name of the numeric input of a category's value. i: of the values, in order of appearance, from 0"""
    return f"{category}: value {i + 1}"


class FeaturePlan(NamedTuple):
    """Which inputs there are.

    features: names of the numeric inputs taken from the event
    categories: names of the inputs that are categories, after the features
    calendar: `("auto",)`, or which of hour, weekday, hour_cycle and weekday_cycle are inputs; then `holiday` if it is
    lags: number of past targets used, 0 for none
    differences: whether each feature's change since the entity's last learned event is an input
    time_zone: zone of the calendar
    feature_lags: number of past events k whose features are inputs, as u_t − u_{t−j} for j = 1 … k; 0 for none. That of
        j = 1 is the change of `differences`, counted from the last known value: it is there once, whichever of the two
        demands it. Those of j > 1 are unknown where u_t or u_{t−j} is
    holidays: local days since 1970-01-01 on which `holiday` is 1, ascending
    """

    features: tuple[str, ...]
    categories: tuple[str, ...] = ()
    calendar: tuple[str, ...] = ()
    lags: int = 0
    differences: bool = True
    time_zone: str = "UTC"
    feature_lags: int = 0
    holidays: tuple[int, ...] = ()

    @property
    def cycles(self) -> tuple[str, ...]:
        """Names of the calendar columns that are numbers: the smooth cycles, and whether the day is a holiday."""
        return tuple(name for part in self.calendar for name in CYCLES.get(part, ()))

    @property
    def steps(self) -> tuple[int, int]:
        """Whether the hour and the weekday are codes: NEVER, BY_RULE or ALWAYS."""
        if "auto" in self.calendar:
            return BY_RULE, BY_RULE
        return tuple(ALWAYS if part in self.calendar else NEVER for part in ("hour", "weekday"))  # type: ignore[return-value]

    @property
    def seasons(self) -> bool:
        """Whether is kept what the target was a day ago, and usually at this time of the week and of the day."""
        return max(self.steps) > NEVER

    @property
    def changes(self) -> bool:
        """Whether each feature's change since the last event is an input."""
        return self.differences or self.feature_lags > 0

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that the kernel is given, shape (C,): features, categories, cycles."""
        return self.features + self.categories + self.cycles

    @property
    def coded(self) -> tuple[str, ...]:
        """Names of what may become codes, shape (Q,)."""
        return (*self.features, *self.categories, "hour", "weekday")

    @property
    def category_values(self) -> tuple[str, ...]:
        """Names of the numeric inputs that are the first values of categories."""
        return tuple(value_name(name, i) for name in self.categories for i in range(INDICATED))

    @property
    def numbers(self) -> tuple[str, ...]:
        """Names of the numeric inputs, shape (F,)."""
        changes = tuple(f"change({name})" for name in self.features) if self.changes else ()
        changes += tuple(f"change({name}, {j})" for j in range(2, self.feature_lags + 1) for name in self.features)
        last = ("last",) if self.lags else ()
        lags = tuple(f"lag{k}-lag{k + 1}" for k in range(1, self.lags))
        usual = ("usual at this hour", "usual at this hour of the week")
        seasons = usual if self.seasons and self.lags else ()
        return (*self.features, *self.cycles, *changes, *self.category_values, *last, *lags, *seasons)


def calendar_columns(plan: FeaturePlan, ts: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Smooth cycles of the local time, so that 23:59 and 00:01 are neighbours, and its hour and weekday.

    Args:
        plan: which encodings
        ts: (n,) milliseconds since 1970-01-01 UTC

    Returns:
        (n, c) values in [-1, 1], of `holiday` 0 or 1; (n, 2) hour 0 to 23 and weekday 0 (Monday) to 6, to the second
    """
    out = np.empty((len(ts), len(plan.cycles)))
    steps = np.zeros((len(ts), 2), np.int64)
    offsets = utc_offsets(plan.time_zone, ts)
    native.whole_steps(np.ascontiguousarray(ts), offsets, steps)
    if not plan.cycles:
        return out, steps
    local = ts / 1000.0 + offsets
    at = 0
    for part in plan.calendar:
        encoded: list[NDArray[np.float64]] = []
        if part == "hour_cycle":
            turns = (local % DAY) / DAY
            encoded = [*_waves(turns), *_waves(2 * turns)]
        elif part == "weekday_cycle":
            week = ((local - FIRST_MONDAY) % (7 * DAY)) / DAY
            encoded = [*_waves(week / 7), (steps[:, 1] >= 5).astype(np.float64)]
        elif part == "holiday":
            days = ((ts + HALF_SECOND) // 1000 + offsets) // int(DAY)
            encoded = [np.isin(days, np.array(plan.holidays, np.int64)).astype(np.float64)]
        for column in encoded:
            out[:, at] = column
            at += 1
    return out, steps


def _waves(turns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sine and cosine of 2π turns, (2, n): the core's, as a library's differ from processor to processor."""
    out = np.empty((len(turns), 2))
    native.waves(turns, out)
    return out.T


def kernel_columns(
    plan: FeaturePlan, features: NDArray[np.float64], ts: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return columns (n, C) and steps (n, 2) of the features (n, d), with the calendar of the times `ts` (n,) ms."""
    cycles, steps = calendar_columns(plan, ts)
    return np.ascontiguousarray(np.hstack([features, cycles]) if cycles.shape[1] else features), steps


def quarters_ahead(zone: str) -> int:
    """Return the quarters of an hour, 0 to 3, by which a time zone is ahead of UTC beyond whole hours, as it is lately.

    >>> quarters_ahead("Asia/Kolkata"), quarters_ahead("Asia/Kathmandu"), quarters_ahead("Asia/Tokyo")
    (2, 3, 0)
    """
    return utc_offset(zone, LATELY) // QUARTER % 4


def utc_offset(zone: str, ts: int) -> int:
    """Return the offset of a time zone east of UTC, ms. ts: ms since 1970 UTC; the offset holds for its quarter-hour"""
    return 1000 * int(utc_offsets(zone, np.array([ts]))[0])


def utc_offsets(zone: str, ts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return seconds east of UTC at each time (n,) ms; determined once a quarter of an hour, the finest that zones
    change at."""
    if zone == "UTC" or not len(ts):
        return np.zeros(len(ts), np.int64)
    tz, epoch = ZoneInfo(zone), datetime(1970, 1, 1, tzinfo=UTC)
    quarters = ts // QUARTER
    # Times mostly come in order: one look-up for all that follow each other within a quarter.
    first = np.flatnonzero(np.diff(quarters, prepend=quarters[0] - 1))
    distinct, back = np.unique(quarters[first], return_inverse=True)
    offsets = [(epoch + timedelta(minutes=15 * int(q))).astimezone(tz).utcoffset() for q in distinct]
    seconds = np.array([round(o.total_seconds()) if o else 0 for o in offsets])
    return np.repeat(seconds[back], np.diff(first, append=len(ts)))
