"""Times of rows that a file does not have, or has twice: by the number of the row, and in the hour that comes again."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl

from ssm_stream.ingest.local_times import repeated_hours
from ssm_stream.ingest.timestamps import parse_iso_time

START = datetime(2000, 1, 1, tzinfo=UTC)
"""Time of the first row of a file without times."""
NAIVE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?$"
HOUR = timedelta(hours=1)


class NumberedTimes:
    """Adds times to rows by their number, that of each entity by itself.

    Args:
        every: seconds between two rows
        name: of the column
        entity: column with the entity's name, if there is one
    """

    def __init__(self, every: float, name: str, entity: str | None) -> None:
        self._every, self._name, self._entity = every, name, entity
        self._counts: dict[str | None, int] = defaultdict(int)

    def add(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return the next rows with their times."""
        whole = self._entity is None or self._entity not in frame.columns
        names = [None] * frame.height if whole else frame[self._entity or ""].to_list()
        times = []
        for name in names:
            time = START + timedelta(seconds=self._counts[name] * self._every)
            times.append(time.isoformat().replace("+00:00", "Z"))
            self._counts[name] += 1
        return frame.with_columns(pl.Series(self._name, times, dtype=pl.String))


class RepeatedHours:
    """Adds the offset from UTC to local times in the second pass of the hour that comes twice when clocks go back.

    Of an entity's rows in that hour, those from the first on that is not later than the one before are of the second
    pass.

    Args:
        zone: IANA name
        timestamp: column with the times; entity: column with the entity's name, if there is one
    """

    def __init__(self, zone: str, timestamp: str, entity: str | None) -> None:
        self._zone, self._timestamp, self._entity = ZoneInfo(zone), timestamp, entity
        self._last: dict[str | None, tuple[datetime, bool]] = {}

    def mark(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return the next rows with offsets where they are needed."""
        if self._timestamp not in frame.columns:
            return frame
        times = frame[self._timestamp]
        years = times.str.slice(0, 4).drop_nulls().unique().to_list()
        hours = [hour for year in years if year.isdecimal() for hour in repeated_hours(str(self._zone), int(year))]
        days = [hour.isoformat()[:10] for hour in hours]
        at = (times.str.slice(0, 10).is_in(days) & times.str.contains(NAIVE)).fill_null(False).arg_true().to_list()
        if not at:
            return frame
        names = frame[self._entity] if self._entity is not None and self._entity in frame.columns else None
        out = times.to_list()
        for i in at:
            try:
                time = parse_iso_time(out[i]).replace(tzinfo=None)
            except ValueError:  # for the reader of the rows
                continue
            name = None if names is None else names[i]
            if not any(hour <= time < hour + HOUR for hour in hours):
                self._last.pop(name, None)
                continue
            before = self._last.get(name)
            second = before is not None and (before[1] or time <= before[0])
            self._last[name] = time, second
            if second:
                out[i] = time.replace(tzinfo=self._zone, fold=1).isoformat()
        return frame.with_columns(pl.Series(self._timestamp, out, dtype=pl.String))
