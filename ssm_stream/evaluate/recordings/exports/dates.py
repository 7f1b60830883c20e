"""Dates and times in other forms than ISO 8601, which become ISO 8601.

Which of two numbers is the day is decided by all dates of a file: one above 12 is a day. Where none is, by the order of
the rows: read one way the dates follow each other, read the other way they jump by months. Where a year of two digits
may come first, the order of the rows decides, too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from itertools import pairwise
from typing import NamedTuple

import polars as pl

from ssm_stream.autoconfig.columns import name_words
from ssm_stream.autoconfig.date_numbers import (
    DAYS,
    MINUTES,
    clock_digits,
    day_decimals,
    grows,
    is_date_number,
    is_hour,
    quantum,
)
from ssm_stream.evaluate.recordings.exports.cells import is_missing
from ssm_stream.evaluate.recordings.exports.header import is_time_name
from ssm_stream.ingest.timestamps import is_iso_time

MONTHS = (
    "jan ene gen", "feb fév fev", "mar mär mrz maa", "apr avr abr", "may mai maj mag mei", "jun juin giu",
    "jul juil lug", "aug aoû aou ago", "sep set", "oct okt out ott", "nov", "dec dez déc dic",
)  # fmt: skip
"""The first letters of the months' names, in English, German, French, Spanish, Italian, Portuguese, Dutch, Swedish."""
MONTH_NUMBERS = {name: f"{i:02d}" for i, names in enumerate(MONTHS, 1) for name in names.split()}
FORMS = {
    "ymd": r"(?P<y>[0-9]{4})[./-](?P<m>[0-9]{1,2})[./-](?P<d>[0-9]{1,2})",
    "dmy": r"(?P<d>[0-9]{1,2})[./-](?P<m>[0-9]{1,2})[./-](?P<y>[0-9]{4}|[0-9]{2})",
    "dny": r"(?P<d>[0-9]{1,2})(?:\. ?|[ /-])(?P<m>\p{L}{3,9})\.?[ /-](?P<y>[0-9]{4}|[0-9]{2})",
    "ndy": r"(?P<m>\p{L}{3,9})\.? (?P<d>[0-9]{1,2}),? (?P<y>[0-9]{4})",
    "compact": r"(?P<y>(?:19|20)[0-9]{2})(?P<m>[01][0-9])(?P<d>[0-3][0-9])",
    "kanji": r"(?P<y>[0-9]{4})年(?P<m>[0-9]{1,2})月(?P<d>[0-9]{1,2})日",
}
"""Kind of date → its pattern. `dmy` is also month, day, year, and year of two digits, month, day."""
ZONES = {
    "Z": "Z", "UTC": "Z", "GMT": "Z", "WET": "+00:00", "WEST": "+01:00", "BST": "+01:00", "CET": "+01:00",
    "CEST": "+02:00", "MEZ": "+01:00", "MESZ": "+02:00", "EET": "+02:00", "EEST": "+03:00", "JST": "+09:00",
    "EST": "-05:00", "EDT": "-04:00", "CST": "-06:00", "CDT": "-05:00", "MST": "-07:00", "MDT": "-06:00",
    "PST": "-08:00", "PDT": "-07:00",
}  # fmt: skip
"""Abbreviations of zones, with the offset for which they are taken."""
CLOCK = (
    r"(?P<H>[0-9]{1,2})[:.時](?P<M>[0-9]{2})(?:[:.分](?P<S>[0-9]{2})(?:[.,:](?P<f>[0-9]{1,9}))?秒?|分)?"
    rf"\s*(?P<p>[AaPp](?:\.?\s?[Mm]\.?)?)?\s*(?P<z>{'|'.join(ZONES)}|[+-][0-9]{{2}}:?[0-9]{{2}})?"
)
WEEKDAY = r"(?:\p{L}{2,10}\.?,? +)?"
TIMES = {"compact": r"(?:[T _-]?(?P<H>[0-9]{2})(?::?(?P<M>[0-9]{2})(?::?(?P<S>[0-9]{2})(?:[.,](?P<f>[0-9]{1,9}))?)?)?"
         r"(?P<p>)(?P<z>Z)?)?"}  # fmt: skip
TIME = rf"(?:[T,_ ]+\s*{CLOCK})?"
DAYS_TO_1970 = 25_569
"""From 1899-12-30 on."""
MIN_SHARE = 0.98
"""Share of the filled cells of a sample that must have a form."""
ORDERS = {"dmy": "day-first", "mdy": "month-first", "yymd": "year-first"}
"""Kind of date → what its order is called, where numbers do not show it."""
YEAR_FIRST = r"(?P<y>[0-9]{2})[./-](?P<m>[0-9]{1,2})[./-](?P<d>[0-9]{1,2})"


class DateForm(NamedTuple):
    """How the times of a column are written."""

    kind: str
    """A key of `FORMS` or of `ORDERS`."""
    timed: bool
    """Whether there is a time of day."""
    example: str

    @property
    def pattern(self) -> str:
        """Regular expression of the whole cell."""
        return rf"^\s*{WEEKDAY}{_date_pattern(self.kind)}{TIMES.get(self.kind, TIME)}\s*$"

    def iso(self, name: str) -> pl.Expr:
        """Return a column with its times as ISO 8601, 24:00 as 00:00 of the next day; other texts stay."""
        text = pl.col(name)
        parts = text.str.extract_groups(self.pattern)
        part = {key: pl.field(key) for key in "ymdHMSfpz"}  # so the pattern is searched once
        year = pl.when(part["y"].str.len_chars() == 2).then(_century(part["y"])).otherwise(part["y"])
        month = part["m"].str.zfill(2)
        if self.kind in ("dny", "ndy"):
            letters = part["m"].str.to_lowercase()
            month = pl.coalesce(
                letters.str.slice(0, n).replace_strict(MONTH_NUMBERS, default=None, return_dtype=pl.String)
                for n in (4, 3)
            )
        day = pl.concat_str(year, month, part["d"].str.zfill(2), separator="-")
        if not self.timed:
            return pl.coalesce(parts.struct.with_fields(iso=day).struct.field("iso"), text).alias(name)
        afternoon = part["p"].str.to_lowercase().str.starts_with("p")
        hour = part["H"].cast(pl.Int64, strict=False)
        halves = (hour % 12 + pl.when(afternoon).then(12).otherwise(0)).cast(pl.String)
        hours = pl.when(part["p"].fill_null("") != "").then(halves).otherwise(part["H"]).str.zfill(2).fill_null("00")
        fraction = pl.when(part["f"].fill_null("") != "").then("." + part["f"].str.slice(0, 6)).otherwise(pl.lit(""))
        zone = part["z"].fill_null("").replace(ZONES).str.replace(r"([0-9]{2})([0-9]{2})$", "$1:$2")
        minutes, seconds = part["M"].fill_null("00"), part["S"].fill_null("00")
        at_end = (hours == "24") & (minutes == "00") & (seconds == "00") & ~fraction.str.contains("[1-9]")
        following = pl.when(at_end).then(day).str.to_date("%Y-%m-%d", strict=False).dt.offset_by("1d")
        day = pl.when(at_end).then(following.dt.strftime("%Y-%m-%d")).otherwise(day)
        valid = ((hours <= "23") | at_end) & (minutes <= "59") & (seconds <= "59")
        hours = pl.when(at_end).then(pl.lit("00")).otherwise(hours)
        clock = pl.concat_str(pl.lit("T"), hours, pl.lit(":"), minutes, pl.lit(":"), seconds, fraction, zone)
        time = parts.struct.with_fields(iso=pl.when(valid).then(day + clock)).struct.field("iso")
        return pl.coalesce(time, text).alias(name)

    def dates(self, frame: pl.DataFrame, name: str) -> list[tuple[str, str, str]]:
        """Return the different dates of a column, in the order in which they appear: year, month and day as written."""
        parts = frame[name].str.extract_groups(rf"^\s*{WEEKDAY}{_date_pattern(self.kind)}").struct.unnest()
        found: list[tuple[str, str, str]] = parts.select("y", "m", "d").drop_nulls().unique(maintain_order=True).rows()
        return found

    def parts(self, text: str) -> tuple[str, str, str] | None:
        """Return year, month and day of a cell, as written."""
        match = _python(rf"\s*{WEEKDAY}{_date_pattern(self.kind)}").match(text)
        return None if match is None else (match["y"], match["m"], match["d"])

    def describe(self) -> str:
        """Return the form in words."""
        order = f"{ORDERS[self.kind]} " if self.kind in ORDERS else ""
        zone = next((name for name in re.findall("[A-Z]+$", self.example) if ZONES.get(name, "Z") != "Z"), "")
        return f"{order}dates ({self.example}{f'; {zone} is {ZONES[zone]}' if zone else ''})"


class SpreadsheetDays(NamedTuple):
    """Times as days since 1899-12-30, as cells of spreadsheets hold them."""

    decimals: int
    """Of the days, 8 at most."""
    example: str

    def iso(self, name: str) -> pl.Expr:
        """Return a column with its times as ISO 8601, as exact as their decimals; other texts stay."""
        text, finest = pl.col(name), round(quantum(self.decimals) * 1e6)
        number = text.str.strip_chars().str.replace(",", ".", literal=True).cast(pl.Float64, strict=False)
        us = (number * (86_400e6 / finest)).round().cast(
            pl.Int64, strict=False
        ) * finest - DAYS_TO_1970 * 86_400_000_000
        time = us.cast(pl.Datetime("us")).dt.strftime("%Y-%m-%dT%H:%M:%S%.3f").str.strip_suffix(".000")
        return pl.when(text.str.contains(f"^{DAYS.pattern}$")).then(time).otherwise(text).alias(name)

    def dates(self, _frame: pl.DataFrame, _name: str) -> list[tuple[str, str, str]]:
        """Return none: they are no texts."""
        return []

    def describe(self) -> str:
        """Return the form in words."""
        return f"dates as days of a spreadsheet ({self.example})"


TimeForm = DateForm | SpreadsheetDays


def _century(year: pl.Expr) -> pl.Expr:
    return pl.when(year.cast(pl.Int64, strict=False) < 70).then("20" + year).otherwise("19" + year)


def _date_pattern(kind: str) -> str:
    if kind == "yymd":
        return YEAR_FIRST
    if kind == "mdy":
        return FORMS["dmy"].replace("P<d>", "P<x>").replace("P<m>", "P<d>").replace("P<x>", "P<m>")
    return FORMS[kind]


def _python(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern.replace(r"\p{L}", r"[^\W\d_]"))


PATTERNS = {kind: _python(rf"\s*{WEEKDAY}{pattern}{TIMES.get(kind, TIME)}\s*") for kind, pattern in FORMS.items()}
CLOCK_PATTERN = re.compile(r"\s*[0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]+)?)?\s*(?:[AaPp](?:\.?[Mm]\.?)?)?\s*")
DOTTED_CLOCK = re.compile(r"[0-9]{1,2}\.[0-9]{2}(?P<seconds>\.[0-9]{2})?")


def find_form(cells: Iterable[str]) -> DateForm | None:
    """Return how the times in a column's cells are written; None if they are none, or ISO 8601 already."""
    filled = [cell for cell in cells if cell.strip() and not is_missing(cell)]
    if not filled or not filled[0].strip()[:1].isalnum() or _share(is_iso_time, filled) >= MIN_SHARE:
        return None
    for kind, pattern in PATTERNS.items():
        if pattern.fullmatch(filled[0]) is None and pattern.fullmatch(filled[-1]) is None:
            continue
        matches = [match for cell in filled if (match := pattern.fullmatch(cell)) is not None]
        if len(matches) < MIN_SHARE * len(filled) or (kind == "compact" and not _is_compact(matches)):
            continue
        if kind in ("dny", "ndy") and not all(_month(match["m"]) for match in matches):
            continue
        timed = any(match["H"] for match in matches)
        example = next((match[0] for match in matches if match["H"]), matches[0][0])
        return DateForm(kind, timed, example.strip())
    return None


def _share(test: Callable[[str], bool], cells: Sequence[str]) -> float:
    return sum(map(test, cells)) / len(cells)


def _is_compact(matches: list[re.Match[str]]) -> bool:
    """Return whether runs of digits are times: with hour and minute, and each a date."""
    parts = [(match["y"] + match["m"] + match["d"], match["H"], match["M"], match["S"]) for match in matches]
    return all(minute and is_date_number(f"{day}{hour}{minute}{second or ''}") for day, hour, minute, second in parts)


def _month(text: str) -> int:
    letters = text.lower()
    return int(MONTH_NUMBERS.get(letters[:4], MONTH_NUMBERS.get(letters[:3], "0")))


def is_date_alone(cells: Iterable[str]) -> bool:
    """Return whether a column's cells are dates without a time of day."""
    filled = [cell.strip() for cell in cells if cell.strip()]
    if filled and all(len(cell) == 8 and cell.isdecimal() for cell in filled):
        return all(map(is_date_number, filled))
    if filled and all(len(cell) == 10 and is_iso_time(cell) for cell in filled):
        return True
    form = find_form(filled)
    return form is not None and not form.timed


def is_clock(cells: Iterable[str]) -> bool:
    """Return whether a column's cells are times of day."""
    filled = [cell for cell in cells if cell.strip()]
    return bool(filled) and all(CLOCK_PATTERN.fullmatch(cell) for cell in filled)


def dotted_digits(name: str, dates: Sequence[str], cells: Sequence[str]) -> int:
    """Return the number of digits of times of day with dots, `18.00.00` or `00.15`; 0 if a column holds none.

    As such they grow within a date, and what might be a number with two decimals has zeros before it, as no number
    has, or the name of a time.
    """
    texts = [cell.strip() for cell in cells]
    matches = [DOTTED_CLOCK.fullmatch(text) for text in texts if text]
    if not matches or None in matches or len({text.count(".") for text in texts if text}) > 1:
        return 0
    digits = 6 if matches[0] and matches[0]["seconds"] else 4
    if digits == 4 and not any(re.match("0[0-9]", text) for text in texts) and not is_time_name(name):
        return 0
    return digits if clock_digits(dates, [text and text.replace(".", "").zfill(digits) for text in texts]) else 0


def find_joined(cells: dict[str, list[str]]) -> tuple[str, str, int] | None:
    """Return the first column of dates alone, the next of times of day, and the digits of these as whole numbers or
    with dots; 0: they have a colon; 2: the hour, where the file has no other time."""
    names = list(cells)
    date = next((name for name in names if is_date_alone(cells[name])), None)
    if date is None:
        return None
    after = names[names.index(date) + 1 :] + names[: names.index(date)]
    if (clock := next((name for name in after if is_clock(cells[name])), None)) is not None:
        return date, clock, 0
    found = (
        (date, name, dotted_digits(name, cells[date], cells[name]) or clock_digits(cells[date], cells[name]))
        for name in after
    )
    if (joined := next((each for each in found if each[2]), None)) is not None:
        return joined
    words = {name: name_words(name) or [name.strip()] for name in names}
    hour = next((name for name in after if is_hour(words[name], cells[date], cells[name])), None)
    others = [name for name in names if not is_date_alone(cells[name])] if hour is not None else []
    if hour is None or any(is_time(cells[name]) or {*words[name]} <= MINUTES for name in others):
        return None
    return date, hour, 2


def find_days(cells: dict[str, list[str]]) -> tuple[tuple[str, TimeForm], ...]:
    """Return the first column of dates as whole numbers, alone or with the hour, or as days of a spreadsheet, which
    grow, and how they are written; none if another is a time."""
    if any(is_time(column) and not _are_hours(column) for column in cells.values()):
        return ()
    for name, column in cells.items():
        filled = [cell.strip() for cell in column if cell.strip()]
        if filled and DAYS.fullmatch(filled[0]) and (decimals := day_decimals(filled)) is not None:
            return ((name, SpreadsheetDays(decimals, filled[0])),)
        timed = _are_hours(filled)
        dates = [float(cell) for cell in filled if timed or (len(cell) == 8 and is_date_number(cell))]
        if len(dates) == len(filled) and len(set(dates)) > 2 and grows(dates):
            return ((name, DateForm("compact", timed, filled[0])),)
    return ()


def _are_hours(cells: Iterable[str]) -> bool:
    """Return whether a column's cells are dates with the hour as whole numbers: 2026020306."""
    filled = [cell.strip() for cell in cells if cell.strip()]
    return bool(filled) and all(len(cell) == 10 and is_date_number(cell) for cell in filled)


def is_time(cells: Iterable[str]) -> bool:
    """Return whether cells are times: text, or numbers since 1970."""
    filled = [cell.strip() for cell in cells if cell.strip()]
    if not filled or find_form(filled) is not None:
        return bool(filled)
    if all(cell.isdecimal() for cell in filled):
        return all(len(cell) in (10, 13, 16, 19) for cell in filled) and grows([float(cell) for cell in filled])
    return _share(is_iso_time, filled) >= MIN_SHARE


def _date(year: str, month: str, day: str) -> date | None:
    """Return the date of numbers as text; None if there is none."""
    try:
        number = int(month) if month.isdecimal() else _month(month)
        if len(year) not in (2, 4):
            return None
        century = (2000 if int(year) < 70 else 1900) if len(year) == 2 else 0
        return date(century + int(year), number, int(day))
    except ValueError:
        return None


def first_invalid(dates: Iterable[tuple[str, str, str]]) -> tuple[str, str, str] | None:
    """Return the first year, month and day that are no date."""
    return next((each for each in dates if _date(*each) is None), None)


def in_order(kind: str, dates: Sequence[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """Return year, month and day of dates that were read as `dmy`, in another order: a key of `ORDERS`."""
    places = {"dmy": (0, 1, 2), "mdy": (0, 2, 1), "yymd": (2, 1, 0)}[kind]
    return [(each[places[0]], each[places[1]], each[places[2]]) for each in dates]


def find_order(dates: Sequence[tuple[str, str, str]], separator: str, hints: tuple[bool, bool]) -> str | None:
    """Return the order of dates of three numbers, a key of `ORDERS`; None if that cannot be decided.

    Args:
        dates: third, second and first number as written, in the order of the rows
        separator: between them
        hints: whether other signs in the file speak for the day first, and for the month first
    """
    kind = _year_last(dates, separator, hints)
    steps = {each: _steps(in_order(each, dates)) for each in ([kind] if kind else ["dmy", "mdy"])}
    if not all(len(first) == len(third) == 2 for third, _, first in dates):
        return kind
    of_years = _steps(in_order("yymd", dates))
    if of_years is None:
        return kind
    others = [each for each in steps.values() if each is not None]
    if not others or min(others) > 2 * of_years:
        return "yymd"
    if kind is None or of_years > 2 * min(others) or separator == ".":
        return kind
    # One day, or one of each month: a sign for the order counts where the year is the later one with it, too.
    latest = [max(map(_year, in_order(each, dates))) for each in (kind, "yymd")]
    return kind if hints == (kind == "dmy", kind == "mdy") and latest[0] > latest[1] else None


def _steps(dates: Sequence[tuple[str, str, str]]) -> int | None:
    """Return the days between dates and the next ones, all together; None if most of them are none."""
    found = [each for each in (_date(*each) for each in dates) if each is not None]
    return sum(abs((b - a).days) for a, b in pairwise(found)) if 2 * len(found) > len(dates) else None


def _year(of: tuple[str, str, str]) -> int:
    found = _date(*of)
    return 0 if found is None else found.year


def _year_last(dates: Sequence[tuple[str, str, str]], separator: str, hints: tuple[bool, bool]) -> str | None:
    """Return whether the day or the month comes first, where the year comes last. Arguments as of `find_order`."""
    if any(int(first) > 12 for _, _, first in dates):
        return "dmy"
    if any(int(second) > 12 for _, second, _ in dates):
        return "mdy"
    if separator == ".":
        return "dmy"
    moved = [_steps(in_order(kind, dates)) or 0 for kind in ("dmy", "mdy")]
    if max(moved) > 2 * min(moved):
        return "dmy" if moved[0] < moved[1] else "mdy"
    return None if hints[0] == hints[1] else ("mdy" if hints[1] else "dmy")
