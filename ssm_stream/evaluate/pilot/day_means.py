"""An alert about an entity's days is drawn as means of its days: in its last events there is nothing to see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssm_stream.core.features import utc_offsets

DAYS_BEFORE, DAYS_AFTER = 28, 14
"""Days of the entity before and after the alert that its chart shows."""
DAY = 86_400_000
"""ms"""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def day_end(message: Mapping[str, Any], ts: Ints, zone: str) -> int | None:
    """Return the place of the first event after the last day that an alert is about; None: it is not about days.

    What creeps is found by errors, at any time, or by days, as one of them ends.

    Args:
        message: the alert
        ts: (n,) times of the entity's events, ms
        zone: of the calendar
    """
    at = int(np.searchsorted(ts, message["since"] or message["ts"]))
    days = _days(ts[max(at - 1, 0) : at + 1], zone)
    is_new = len(days) == 2 and days[0] != days[1]
    return at if is_new and str(message["change"]).startswith("creeping") else None


def day_means(ts: Ints, columns: Sequence[Floats], end: int, zone: str) -> tuple[Floats, list[Floats]]:
    """Return the middles (d,) of the days before and after an alert, ms, and each column's means (d,) of them.

    Args:
        ts: (n,) times of the entity's events, ms
        columns: (n,) each; NaN where there is no value
        end: as of `day_end`
        zone: of the calendar
    """
    days, place, count = np.unique(_days(ts, zone), return_inverse=True, return_counts=True)
    middles = np.bincount(place, ts.astype(np.float64)) / count
    shown = slice(max(int(place[end]) - DAYS_BEFORE, 0), int(place[end]) + DAYS_AFTER)
    means = []
    for column in columns:
        known = np.isfinite(column)
        sums = np.bincount(place[known], column[known], len(days))
        with np.errstate(invalid="ignore"):
            means.append((sums / np.bincount(place[known], minlength=len(days)))[shown])
    return middles[shown], means


def _days(ts: Ints, zone: str) -> Ints:
    return (ts + 1000 * utc_offsets(zone, ts)) // DAY
