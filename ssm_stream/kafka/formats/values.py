"""Logical values of Avro and Protobuf as documents have them: times, dates and decimals."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta

from ssm_stream.ingest.timestamps import AUTO_LIMITS, EPOCH, UNITS_PER_MS

PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
"""Unit → how many make a second."""
LOCAL_EPOCH = EPOCH.replace(tzinfo=None)
EXACT = 2**53
"""Whole numbers below it are 64-bit floats."""
MAX_EXACT_SCALE = 22
"""Largest power of ten that is a 64-bit float."""


def time_writer(unit: str, timestamp_format: str) -> Callable[[int], int | float | str]:
    """Return a function from a time since 1970, in a unit, to the same time in `event.timestamp_format`.

    So whatever that is, a schema's time is read as the time it is. With `auto` it is in ms, and before 1973, where that
    would be taken for seconds, as text.
    """
    per_second = PER_SECOND[unit]
    if timestamp_format == "iso":
        return lambda value: _iso(value, per_second)
    if timestamp_format == "auto":
        return _auto(per_second)
    target = PER_SECOND[timestamp_format]
    if target == per_second:
        return lambda value: value
    if target > per_second:
        factor = target // per_second
        return lambda value: value * factor
    divisor = per_second // target
    return lambda value: value / divisor


def _auto(per_second: int) -> Callable[[int], int | float | str]:
    smallest = int(AUTO_LIMITS["s"] * UNITS_PER_MS["ms"])
    largest = int(AUTO_LIMITS["ms"])
    divisor = per_second // 1000

    def write(value: int) -> int | float | str:
        ms = value // divisor if divisor else value * 1000
        return ms if smallest <= abs(ms) < largest else _iso(value, per_second)

    if divisor == 1:  # as almost always

        def write_ms(value: int) -> int | float | str:
            return value if smallest <= abs(value) < largest else _iso(value, 1000)

        return write_ms
    return write


def _iso(value: int, per_second: int) -> str:
    return _shifted(EPOCH, value, per_second)


def local_time(unit: str) -> Callable[[int], str]:
    """Return a function from a local time, in a unit since 1970, to text without an offset."""
    per_second = PER_SECOND[unit]
    return lambda value: _shifted(LOCAL_EPOCH, value, per_second)


def _shifted(epoch: datetime, value: int, per_second: int) -> str:
    """Raises OverflowError out of the range of datetime."""
    seconds, rest = divmod(value, per_second)
    return (epoch + timedelta(seconds=seconds, microseconds=rest * 1_000_000 // per_second)).isoformat()


def date_text(days: int) -> str:
    """Return a date from days since 1970, as ISO 8601."""
    return (date(1970, 1, 1) + timedelta(days=days)).isoformat()


def decimal_number(unscaled: int, scale: int) -> float:
    """Return unscaled · 10^−scale as the nearest 64-bit float: what the same digits are in JSON."""
    if -EXACT < unscaled < EXACT and 0 <= scale <= MAX_EXACT_SCALE:
        return unscaled / 10.0**scale
    return float(f"{unscaled}e{-scale}")
