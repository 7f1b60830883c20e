"""Local times without an offset from UTC: the hour that comes twice when clocks go back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

ZONES = ("Europe/Berlin", "Europe/London", "Europe/Helsinki", "America/New_York", "Australia/Sydney")
"""Zones of which each stands for those whose clocks go back at the same local time."""
HOUR = timedelta(hours=1)
HOUR_MS = 3_600_000


@lru_cache(maxsize=256)
def repeated_hours(zone: str, year: int) -> list[datetime]:
    """Return the beginnings of the local hours of a year that come twice, without a zone."""
    where, out = ZoneInfo(zone), list[datetime]()
    if not 1900 <= year <= 9000:
        return out
    time = datetime(year, 1, 1, tzinfo=UTC)
    while time.year == year:
        before, after = time.astimezone(where).utcoffset(), (time + HOUR).astimezone(where).utcoffset()
        if before is not None and after is not None and after < before:
            out.append((time + HOUR).astimezone(where).replace(tzinfo=None))
        time += HOUR
    return out


def find_zone(names: Sequence[object] | None, ts: NDArray[np.int64]) -> str | None:
    """Return a zone whose clocks went back where times did; None if there is none.

    Args:
        names: of the entity of each row; None: one entity
        ts: local times, ms, read as if they were UTC
    """
    last: dict[object, int] = {}
    back: list[tuple[int, int]] = []
    for name, time in zip(names if names is not None else [None] * len(ts), ts.tolist(), strict=True):
        before = last.get(name)
        if before is not None and time <= before:
            back.append((before, time))
        last[name] = time
    zone, count = zone_by_steps(back)
    return zone if count == len(back) else None


def zone_by_steps(back: Sequence[tuple[int, int]]) -> tuple[str | None, int]:
    """Return the zone in whose repeated hours most steps back lie, and how many do; None if none does.

    back: the latest time before the step, and that after it, local, ms, read as if they were UTC
    """
    years = {datetime.fromtimestamp(time / 1000, UTC).year for _, time in back}
    best: tuple[str | None, int] = None, 0
    for zone in ZONES:
        hours = [_ms(hour) for year in sorted(years) for hour in repeated_hours(zone, year)]
        count = sum(any(hour <= time <= before < hour + HOUR_MS for hour in hours) for before, time in back)
        if count > best[1]:
            best = zone, count
    return best


def _ms(time: datetime) -> int:
    return int(time.replace(tzinfo=UTC).timestamp() * 1000)
