"""The value of `event.holidays`: days from a country's calendar and from a plant's own files, as a list of dates.

The dates are determined once, when the file is read. What has been learned from them is kept with the state, as another
release of the package, or another file, may have other dates.
"""

from __future__ import annotations

import csv
import importlib
import re
import warnings
from datetime import date, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

EPOCH = date(1970, 1, 1)
YEARS = range(1990, 2060)
"""Years of the public holidays."""
MAX_SPAN = 366
"""Days from `from` to `to` in a file."""
COUNTRY = re.compile(r"([A-Z]{2})(?:-([A-Z0-9]{1,4}))?")
INSTALL = "pip install 'ssm-stream[holidays]'"


class Holidays(BaseModel):
    """Days that are no usual working days.

    of: the entries of the file; empty in the settings of a state, which depends on the days alone
    days: dates as `2026-01-31`, ascending, each once
    """

    model_config = ConfigDict(frozen=True)
    of: tuple[str, ...] = ()
    days: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Return whether holidays are an input."""
        return bool(self.of or self.days)

    @property
    def numbers(self) -> tuple[int, ...]:
        """The days since 1970-01-01, ascending."""
        return tuple((date.fromisoformat(day) - EPOCH).days for day in self.days)

    def with_learned(self, learned: Holidays, last: str) -> Holidays:
        """Return the days up to `last` (a date) from another list, by which they were learned, and later ones from this
        one."""
        days = (*(day for day in learned.days if day <= last), *(day for day in self.days if day > last))
        return Holidays(of=self.of, days=days)

    def difference(self, other: Holidays) -> tuple[list[str], list[str]]:
        """Return the days that only this list has, and those that only the other one has."""
        mine, theirs = set(self.days), set(other.days)
        return sorted(mine - theirs), sorted(theirs - mine)


def ranges(days: list[str]) -> str:
    """Return dates as text, consecutive ones as a range: `2026-01-01, 2026-08-10 to 2026-08-14`."""
    runs: list[list[date]] = []
    for day in map(date.fromisoformat, days):
        if runs and day - runs[-1][-1] == timedelta(days=1):
            runs[-1].append(day)
        else:
            runs.append([day])
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def by_year(days: tuple[str, ...]) -> dict[str, str]:
    """Return dates as a text a year: {"2026": "01-01 08-10"}."""
    out: dict[str, list[str]] = {}
    for day in days:
        out.setdefault(day[:4], []).append(day[5:])
    return {year: " ".join(inside) for year, inside in out.items()}


def from_years(years: dict[str, str]) -> tuple[str, ...]:
    """Return the dates of which `by_year` made a text a year."""
    return tuple(sorted(f"{year}-{day}" for year, days in years.items() for day in days.split()))


def _resolve(value: object) -> object:
    if isinstance(value, Holidays):
        return value
    if isinstance(value, dict) and isinstance(value.get("days"), dict) and set(value) <= {"of", "days"}:
        return Holidays(of=tuple(value.get("of", ())), days=from_years(value["days"]))  # as `_content` wrote it
    if not isinstance(value, list):
        raise ValueError(f"found {str(value)[:60]!r}; write a list such as [JP, shutdowns.csv]")
    days: set[str] = set()
    expected = "write a country such as JP or US-CA, or the path of a CSV file"
    for entry in value:
        if entry is False:
            raise ValueError("found false: without quotes YAML takes NO for a truth value; write 'NO' for Norway")
        if not isinstance(entry, str) or not entry:
            raise ValueError(
                f"found {str(entry)[:60]!r}; write a country such as JP or US-CA, or the path of a CSV file"
            )
        if found := COUNTRY.fullmatch(entry):
            days.update(_public(found[1], found[2]))
        elif "." in entry or "/" in entry:
            days.update(read_days(Path(entry)))
        else:
            raise ValueError(f"found {entry!r}; {expected}")
    return Holidays(of=tuple(value), days=tuple(sorted(days)))


@lru_cache(maxsize=64)
def _public(country: str, subdivision: str | None) -> tuple[str, ...]:
    """Return the public holidays of a country, or of one of its subdivisions, in YEARS."""
    name = country if subdivision is None else f"{country}-{subdivision}"
    try:
        package: Any = importlib.import_module("holidays")
    except ImportError as error:
        raise ValueError(
            f"found {name!r}, but the package `holidays`, which has the public holidays of countries, is not "
            f"installed: {INSTALL}, or list the days in a CSV file"
        ) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of years that it does not have
        try:
            found = package.country_holidays(country, subdiv=subdivision, years=YEARS)
        except NotImplementedError as error:
            raise ValueError(
                f"found {name!r}, which the package `holidays` does not have ({error}); write the country's two "
                "letters as in ISO 3166, with a subdivision as US-CA, or list the days in a CSV file"
            ) from error
    return tuple(sorted(day.isoformat() for day in found))


def read_days(path: Path) -> list[str]:
    """Return the dates of a CSV file with a column `date`, or with `from` and `to`, both included.

    Raises:
        ValueError: names the file and the line, what was found, and the cure.
    """
    if not path.is_file():  # reading a pipe might never end
        raise ValueError(
            f"found no file {path}; give the path of a CSV file of days, from the directory of the process, or a "
            "country such as JP or US-CA"
        )
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as UTF-8 text: {error}") from None
    rows = csv.reader(lines)
    header = [name.strip().lower() for name in next(rows, [])]
    columns = ["date"] if "date" in header else ["from", "to"]
    if not set(columns) <= set(header):
        raise ValueError(f"{path}:1: found the columns {header}; write `date`, or `from` and `to`, in the first line")
    out = set[str]()
    for row in rows:
        where = f"{path}:{rows.line_num}"
        if not any(cell.strip() for cell in row):
            continue
        first, last = (_day(row, header.index(name), name, where) for name in (columns[0], columns[-1]))
        if not 0 <= (last - first).days < MAX_SPAN:
            raise ValueError(
                f"{where}: from {first} to {last}: write the earlier date first, and at most {MAX_SPAN} days in a line"
            )
        out.update((first + timedelta(days=i)).isoformat() for i in range((last - first).days + 1))
    if not out:
        raise ValueError(f"{path}: has no day; write a line for each, such as 2026-08-13, or leave the file out")
    return sorted(out)


def _day(row: list[str], at: int, name: str, where: str) -> date:
    cell = row[at].strip() if at < len(row) else ""
    try:
        if len(cell) != len("2026-01-31"):
            raise ValueError(cell)
        return date.fromisoformat(cell)
    except ValueError:
        raise ValueError(f"{where}: `{name}` is {cell[:60]!r}; write a date such as 2026-01-31") from None


def _content(holidays: Holidays) -> Any:
    return {"of": list(holidays.of), "days": by_year(holidays.days)} if holidays else []


HolidaysSetting = Annotated[
    Holidays,
    BeforeValidator(_resolve, json_schema_input_type=list[Annotated[str, Field(min_length=1)]]),
    PlainSerializer(_content),
]
"""In the file: a list of countries and of CSV files."""
