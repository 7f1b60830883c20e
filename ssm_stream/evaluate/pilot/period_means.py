"""An alert about an entity's days or hours is drawn as means of these: in its last events there is nothing to see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.core.features import utc_offsets

HOUR, DAY = 3_600_000, 86_400_000
"""ms"""
SHOWN = {DAY: (28, 14), HOUR: (72, 12)}
"""Periods of the entity before and after the alert that its chart shows."""
CHANGES = {"creeping up": DAY, "creeping down": DAY, "higher": HOUR, "lower": HOUR}
"""The period whose end may have shown a change."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Period(NamedTuple):
    """What an alert is about.

    length: of an hour or a day, ms; end: place of the first event of the entity after the last one
    """

    length: int
    end: int


def alert_period(message: Mapping[str, Any], ts: Ints, y: Floats, zone: str) -> Period | None:
    """Return the last day or hour that an alert is about; None: it is about events.

    What creeps, or is higher, is found by errors, at any time, or by a mean, at the first event of the next period that
    counts: where the target rests, or has no value, none does.

    Args:
        message: the alert
        ts: (n,) times of the entity's events, ms
        y: (n,) its targets
        zone: of the calendar
    """
    length = CHANGES.get(str(message["change"]))
    if length is None:
        return None
    at = int(np.searchsorted(ts, message["since"] or message["ts"]))
    numbers = _numbers(ts[: at + 1], length, zone)
    end = int(np.searchsorted(numbers, numbers[-1]))
    counts = np.isfinite(y[end:at]) & (y[end:at] != y[end - 1 : at - 1])
    return Period(length, end) if 0 < end <= at < len(ts) and not counts.any() else None


def period_means(ts: Ints, columns: Sequence[Floats], period: Period, zone: str) -> tuple[Floats, list[Floats]]:
    """Return the middles (d,) of the days or hours before and after an alert, ms, and each column's means (d,) of them.

    Args:
        ts: (n,) times of the entity's events, ms
        columns: (n,) each; NaN where there is no value
        period: that the alert is about
        zone: of the calendar
    """
    numbers, place, count = np.unique(_numbers(ts, period.length, zone), return_inverse=True, return_counts=True)
    middles = np.bincount(place, ts.astype(np.float64)) / count
    before, after = SHOWN[period.length]
    at = int(place[period.end])
    shown = slice(max(at - before, 0), at + after)
    means = []
    for column in columns:
        known = np.isfinite(column)
        sums = np.bincount(place[known], column[known], len(numbers))
        with np.errstate(invalid="ignore"):
            means.append((sums / np.bincount(place[known], minlength=len(numbers)))[shown])
    return middles[shown], means


def _numbers(ts: Ints, length: int, zone: str) -> Ints:
    return (ts + 1000 * utc_offsets(zone, ts)) // length
