"""Times of a sentence: hours and minutes, and the date where it is another day."""

from __future__ import annotations

import zoneinfo
from datetime import datetime, timedelta, tzinfo

from ssm_stream.ingest.timestamps import EPOCH

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def zone_of(name: str) -> tzinfo:
    """Return the time zone of an IANA name."""
    return zoneinfo.ZoneInfo(name)


def local_time(ms: float, zone: tzinfo) -> datetime | None:
    """Return a time in a zone; None if it is beyond the calendar."""
    try:
        return (EPOCH + timedelta(milliseconds=ms)).astimezone(zone)
    except (OverflowError, ValueError):
        return None


def clock(ms: float, now: float, zone: tzinfo, *, japanese: bool) -> str:
    """Return a time as HH:MM, with its date if that is not the day of `now`, with the year if that is not its year.

    >>> zone = zone_of("Asia/Tokyo")
    >>> clock(0, 3_600_000, zone, japanese=False), clock(0, 86_400_000, zone, japanese=False)
    ('09:00', '1 Jan 09:00')
    """
    at, day = local_time(ms, zone), local_time(now, zone)
    if at is None:
        return "?"
    text = f"{at:%H:%M}"
    if day is not None and at.date() == day.date():
        return text
    year = day is None or at.year != day.year
    if japanese:
        return f"{f'{at.year}年' if year else ''}{at.month}月{at.day}日 {text}"
    return f"{at.day} {MONTHS[at.month - 1]}{f' {at.year}' if year else ''} {text}"
