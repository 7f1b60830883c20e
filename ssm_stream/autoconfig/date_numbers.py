"""Dates and times of day that are written as numbers: 20260203 and 61500, 20260203061500, and days of spreadsheets.

Read as times since 1970 they would be of 1970 to 1976, and those with the hour alone, 2026020306, of 2030 to 2036. The
seconds of these years are no such dates: most of them have no month, no day or no hour.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from datetime import date
from itertools import pairwise
from typing import Any

MIN_DAYS, MAX_DAYS = 30_000, 60_000
"""Days as spreadsheets count them, from 1899-12-30 on: of the years 1982 to 2064."""
DAYS = re.compile(r"\s*[3-5][0-9]{4}(?:[.,](?P<decimals>[0-9]+))?\s*")
MAX_FALLS = 0.1
"""Share of the changes by which a time that grows may go back: where other rows of a file begin anew."""
MIN_TIMES = 20
"""Different times without which a column of whole numbers is none of times of day, if there are as many rows."""
HOURS = frozenset(
    ["hour", "hr", "hh", "h", "hora", "heure", "stunde", "std", "uhrzeit", "ora", "uur", "timme", "時", "時刻"]
)
"""Words for the hour of the day; a number of 0 to 24 might count anything."""
MINUTES = frozenset(("minute", "minutes", "min", "mm", "mi", "minuto", "minuten"))
PARTS = frozenset((24, 25, 48, 50, 96, 100, 144, 288, 1440))
"""Numbers of equal parts of a day, where clocks go back, too."""
MIN_CERTAIN = 5
"""Numbers that must be whole seconds, and no short fractions, for a column to be days."""


def is_date_number(text: str) -> bool:
    """Return whether digits are a date, of 1900 to 2099, alone or with the hour, and its minute, and its second."""
    if len(text) not in (8, 10, 12, 14) or not (text.isascii() and text.isdecimal() and text.startswith(("19", "20"))):
        return False
    try:
        date(int(text[:4]), int(text[4:6]), int(text[6:8]))
    except ValueError:
        return False
    return len(text) == 8 or _is_clock(text[8:])


def _is_clock(text: str) -> bool:
    """Return whether 2, 4 or 6 digits are a time of day, up to 24:00."""
    return (text[:2] < "24" and all(text[at] < "6" for at in range(2, len(text), 2))) or text in (
        "24",
        "2400",
        "240000",
    )


def clock_digits(dates: Sequence[str], clocks: Sequence[str]) -> int:
    """Return the number of digits of times of day as whole numbers, without zeros before them or with: 4 or 6; 0 if a
    column holds none.

    It does if all its numbers could be, and within a date they grow.

    Args:
        dates: of the rows, as text
        clocks: of the same rows, as text
    """
    pairs = [(day, clock.strip()) for day, clock in zip(dates, clocks, strict=False) if day.strip() and clock.strip()]
    texts = {clock for _, clock in pairs}
    if not texts or not all(text.isascii() and text.isdecimal() and len(text) <= 6 for text in texts):
        return 0
    widths = {len(text) for text in texts}
    padded = any(len(text) > 1 and text.startswith("0") for text in texts)
    if padded and len(widths) > 1:
        return 0
    digits = 6 if max(widths) > 4 else 4
    # Below an hour, numbers without zeros may count anything.
    if not all(_is_clock(text.zfill(digits)) for text in texts) or not (padded or max(widths) > digits - 2):
        return 0
    if len(set(pairs)) < min(MIN_TIMES, len(pairs)):
        return 0
    return digits if runs_through([(day, int(clock)) for day, clock in pairs]) else 0


def is_hour(words: Collection[str], dates: Sequence[str], hours: Sequence[str]) -> bool:
    """Return whether whole numbers are the hour of the day, 0 to 23 or 1 to 24: by their name, growing in a date.

    Args:
        words: of the column's name
        dates: of the rows, as text
        hours: of the same rows, as text
    """
    pairs = [(day, hour.strip()) for day, hour in zip(dates, hours, strict=False) if day.strip() and hour.strip()]
    texts = {hour for _, hour in pairs}
    if not HOURS & {*words} or not all(text.isascii() and text.isdecimal() and len(text) <= 2 for text in texts):
        return False
    numbers = [(day, int(hour)) for day, hour in pairs]
    found = {hour for _, hour in numbers}
    return max(found, default=25) <= 24 and not {0, 24} <= found and runs_through(numbers)


def runs_through(numbers: Sequence[tuple[Any, float]]) -> bool:
    """Return whether numbers grow within each date, or fall within each. numbers: of rows, each after its date"""
    steps = [b - a for (before, a), (after, b) in pairwise(numbers) if before == after and a != b]
    return bool(steps) and min(_falls(steps), _falls([-step for step in steps])) <= MAX_FALLS


def _falls(steps: Sequence[float]) -> float:
    return sum(step < 0 for step in steps) / len(steps)


def grows(numbers: Sequence[float]) -> bool:
    """Return whether numbers change, and hardly ever fall."""
    steps = [b - a for a, b in pairwise(numbers) if a != b]
    return bool(steps) and _falls(steps) <= MAX_FALLS


def may_be_days(numbers: Sequence[float]) -> bool:
    """Return whether numbers may be days as spreadsheets count them, from one row to the next at most one."""
    if not numbers or not all(MIN_DAYS <= number < MAX_DAYS for number in numbers) or not grows(numbers):
        return False
    rises = sorted(b - a for a, b in pairwise(numbers) if b > a)
    return rises[len(rises) // 2] <= 1


def day_decimals(cells: Iterable[str]) -> int | None:
    """Return the decimals, 8 at most, of numbers that are certainly days as spreadsheets count them; None if they are
    not.

    They grow, and each is a whole minute or second (with 8 decimals or more, a tenth of it) as exactly as their
    decimals can give it; and they are no short fractions, such as are also those of seconds.
    """
    matches = [DAYS.fullmatch(cell) for cell in cells if cell.strip()]
    decimals = min(max((len(match["decimals"] or "") for match in matches if match), default=0), 8)
    if decimals < 4 or None in matches:
        return None
    numbers = [float(match[0].replace(",", ".")) for match in matches if match]
    if not may_be_days(numbers):
        return None
    finest = quantum(decimals)
    units = {round(number * 86_400 / finest) for number in numbers}
    whole = round({4: 60, 5: 60, 6: 1, 7: 1}.get(decimals, 0.1) / finest)
    if any(unit % whole for unit in units):
        return None
    return decimals if sum(unit % 27 != 0 for unit in units) >= min(MIN_CERTAIN, len(numbers)) else None


def quantum(decimals: int) -> float:
    """Return the seconds that days of so many decimals can distinguish."""
    return float(f"1e{5 - decimals}")
