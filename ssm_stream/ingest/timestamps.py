"""Times of events: ISO 8601 text and numbers since 1970 → milliseconds since 1970 UTC."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, tzinfo

import numpy as np
from numpy.typing import NDArray

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MIN_MS, MAX_MS = -62_104_060_800_000, 253_370_764_799_999
"""Years 2 to 9998: in any time zone, datetime can hold them."""
DAYS_OF_MONTH = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
"""By the number of the month, from 1."""
YEAR_2000_MS, YEAR_2100_MS = 946_684_800_000.0, 4_102_444_800_000.0
UNITS_PER_MS = {"s": 0.001, "ms": 1.0, "us": 1_000.0, "ns": 1_000_000.0}
"""`timestamp_format` of numbers → units of it in a millisecond."""
END_OF_DAY = re.compile(r"(.+[T ])24((?::?00){0,2}(?:[.,]0+)?(?:Z|[+-][0-9:]+)?)")
"""A time of ISO 8601 that is 00:00 of the next day."""
AUTO_LIMITS = {"s": 1e11, "ms": 1e14, "us": 1e17, "ns": math.inf}
"""Unit → the limit below which a number is in it, with format `auto`; the first that holds."""
EPOCH_TEXTS = {
    unit: re.compile(f"[0-9]{{9,{digits}}}(?:[.][0-9]{{1,9}})?")
    for unit, digits in {"s": 11, "ms": 14, "us": 17, "ns": 20}.items()
}
"""Unit → numbers since 1970 as text; with fewer digits they may be dates of ISO 8601, such as 20260131."""

OTHER_TIME = 3_600_000
"""Milliseconds between events' time and the wall clock from which on the events' time is another one."""


def parse_iso_time(text: str, zone: tzinfo = UTC) -> datetime:
    """Return the time in an ISO 8601 text; without an offset it is in `zone`. 24:00 is 00:00 of the next day.

    Raises:
        ValueError: it is not ISO 8601.
    """
    if len(text) > 8 and text.isdecimal():
        raise ValueError  # an epoch as text; fromisoformat would read some as dates of long ago
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = _end_of_day(text)
    return found.replace(tzinfo=zone) if found.tzinfo is None else found


def _end_of_day(text: str) -> datetime:
    """Return the time in an ISO 8601 text with 24:00. Raises as `parse_iso_time`."""
    if (match := END_OF_DAY.fullmatch(text)) is None:
        raise ValueError
    try:
        return datetime.fromisoformat(f"{match[1]}00{match[2]}") + timedelta(days=1)
    except OverflowError:
        raise ValueError from None


def is_iso_time(text: str) -> bool:
    """Return whether `parse_iso_time` can read it."""
    try:
        parse_iso_time(text)
    except ValueError:
        return False
    return True


def is_epoch_text(text: str, unit: str = "ns") -> bool:
    """Return whether it is a number since 1970 in quotes, in this unit; by default in any."""
    return EPOCH_TEXTS[unit].fullmatch(text) is not None


def iso_to_ms(text: str, zone: tzinfo = UTC) -> int:
    """Return the time in an ISO 8601 text, ms since 1970, rounded down.

    Raises:
        ValueError, OverflowError: it is not ISO 8601, or out of datetime's range.
    """
    since = parse_iso_time(text, zone) - EPOCH
    return (since.days * 86_400 + since.seconds) * 1000 + since.microseconds // 1000


def in_range(ms: float) -> int:
    """Return a time, ms since 1970, as a whole number.

    Raises:
        OverflowError: it is out of the years that datetime can hold in any time zone.
    """
    if not MIN_MS <= ms <= MAX_MS:
        raise OverflowError(f"{ms:.4g} ms since 1970 is no time of the years 2 to 9998")
    return round(ms)


def plain_iso_to_ms(texts: Sequence[str], *, without_zone: bool) -> NDArray[np.int64] | None:
    """Return what `iso_to_ms` returns for each text; None if one is not of the usual form, which all must share.

    The form is `2026-01-31T12:00:00`, with a space in place of the T or a fraction of up to 6 digits, and `Z` or
    `+00:00` at the end.

    Args:
        without_zone: texts may have none, and are in UTC then
    """
    n, joined = len(texts), "".join(texts)
    if not n or not joined.isascii() or len(joined) % n:
        return None
    first = texts[0]
    end = next((end for end in ("Z", "+00:00") if first.endswith(end)), "")
    digits = len(first) - len(end) - 20  # of the fraction, and −1 without
    if (not end and not without_zone) or not (digits == -1 or 1 <= digits <= 6) or set(map(len, texts)) != {len(first)}:
        return None
    letters = np.frombuffer(joined.encode(), np.uint8).reshape(n, -1)
    form = "dddd-dd-ddTdd:dd:dd" + ("." + "d" * digits if digits > 0 else "") + end
    numbers = letters.astype(np.int64) - ord("0")
    fixed = np.array([letter != "d" and at != 10 for at, letter in enumerate(form)])
    expected = np.frombuffer(form.encode(), np.uint8)
    is_digit = ~fixed
    is_digit[10] = False
    if (
        (letters[:, fixed] != expected[fixed]).any()
        or not np.isin(letters[:, 10], [ord("T"), ord(" ")]).all()
        or (numbers[:, is_digit] < 0).any()
        or (numbers[:, is_digit] > 9).any()
    ):
        return None

    def field(at: int, size: int) -> NDArray[np.int64]:
        out = np.zeros(n, np.int64)
        for place in range(at, at + size):
            out = 10 * out + numbers[:, place]
        return out

    year, month, day = field(0, 4), field(5, 2), field(8, 2)
    hour, minute, second = field(11, 2), field(14, 2), field(17, 2)
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    if (month < 1).any() or (month > 12).any() or (hour > 23).any() or (minute > 59).any() or (second > 59).any():
        return None
    if (day < 1).any() or (day > DAYS_OF_MONTH[month] + (leap & (month == 2))).any() or (year < 1).any():
        return None
    # Days since 1970 by the Gregorian calendar, in years that begin in March.
    y = year - (month <= 2)
    era, of_era = y // 400, y % 400
    of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    days = 146_097 * era + 365 * of_era + of_era // 4 - of_era // 100 + of_year - 719_468
    ms: NDArray[np.int64] = ((days * 24 + hour) * 60 + minute) * 60_000 + second * 1000
    if digits > 0:
        ms = ms + field(20, digits) * 10 ** (6 - digits) // 1000
    return ms if np.all((ms >= MIN_MS) & (ms <= MAX_MS)) else None


def ms_to_iso(ms: int) -> str:
    """Return a time, ms since 1970, as ISO 8601 in UTC: `2026-08-10T06:00:00Z`."""
    time = EPOCH + timedelta(milliseconds=ms)
    return time.isoformat(timespec="milliseconds" if ms % 1000 else "seconds").replace("+00:00", "Z")


def number_to_ms(number: float, timestamp_format: str) -> float:
    """Return a time since 1970, ms and not rounded, from a finite number in the unit of `timestamp_format`."""
    if timestamp_format == "auto":
        size = abs(number)
        for timestamp_format, limit in AUTO_LIMITS.items():  # noqa: B007  # no generator: this runs for each event
            if size < limit:
                break
    return number / UNITS_PER_MS[timestamp_format]


def find_other_unit(ms: float, timestamp_format: str) -> str:
    """Return in words that a time is one of this century in another unit than the format's; empty if it is not so.

    Args:
        ms: the time since 1970 as it was read, ms
        timestamp_format: by which it was read
    """
    if timestamp_format not in UNITS_PER_MS or YEAR_2000_MS <= ms < YEAR_2100_MS:
        return ""
    number = ms * UNITS_PER_MS[timestamp_format]
    for unit, per_ms in UNITS_PER_MS.items():
        if YEAR_2000_MS <= number / per_ms < YEAR_2100_MS:
            day = (EPOCH + timedelta(milliseconds=number / per_ms)).date()
            return f"event.timestamp_format is {timestamp_format}, and in {unit} it is {day}"
    return ""


def to_milliseconds(numbers: NDArray[np.float64], timestamp_format: str) -> NDArray[np.int64] | None:
    """Return times (n,), ms since 1970, from numbers in the unit of `timestamp_format`; None if one is out of range."""
    whole: NDArray[np.int64]
    if len(numbers) and (unit := _one_unit(float(numbers.min()), float(numbers.max()), timestamp_format)):
        whole = np.floor(numbers / unit).astype(np.int64)
        return whole
    with np.errstate(invalid="ignore", over="ignore"):
        if timestamp_format == "auto":
            below = [np.abs(numbers) < limit for limit in AUTO_LIMITS.values()]
            ms = numbers / np.select(below, [np.float64(UNITS_PER_MS[unit]) for unit in AUTO_LIMITS], np.nan)
        else:
            ms = numbers / UNITS_PER_MS[timestamp_format]
    if not np.all((ms >= MIN_MS) & (ms <= MAX_MS)):
        return None
    whole = np.floor(ms).astype(np.int64)
    return whole


def _one_unit(least: float, most: float, timestamp_format: str) -> float | None:
    """Return the one unit of all times from `least` to `most`, by ms; None: there are several, or one is before 1970 or
    out of range."""
    if not least >= 0.0:
        return None
    auto = timestamp_format == "auto"
    name = next((unit for unit, limit in AUTO_LIMITS.items() if least < limit), "ns") if auto else timestamp_format
    unit = UNITS_PER_MS[name]
    return unit if most / unit <= MAX_MS and not (auto and most >= AUTO_LIMITS[name]) else None
