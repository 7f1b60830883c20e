"""Dates and times that are numbers in files with types of their own, JSON and Parquet: they become ISO 8601, too.

So they are read only where no other column is a time: other numbers stay as they are.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from types import NoneType
from typing import Any, NamedTuple

import polars as pl

from ssm_stream.autoconfig.date_numbers import DAYS, is_date_number
from ssm_stream.evaluate.recordings.exports.dates import TimeForm, find_days, find_form, find_joined, is_time
from ssm_stream.evaluate.recordings.exports.format import Format, Joined, describe_times
from ssm_stream.evaluate.recordings.exports.options import FileOptions
from ssm_stream.evaluate.recordings.files import Row

HEAD = 500
"""Rows by which a file is judged."""
TIMES = {datetime.datetime, datetime.date}


class TypedDates(NamedTuple):
    """The columns of a file that are a time written as numbers."""

    form: Format = Format(())

    def describe(self) -> str:
        """Return in words how times are read; empty if all is read as it stands."""
        return "; ".join(describe_times(self.form))

    @property
    def sources(self) -> list[str]:
        """Columns of the file that are read as a time; none: all is read as it stands."""
        joined = self.form.joined
        return [joined.date, joined.clock] if joined is not None else [name for name, _ in self.form.dates]

    def names(self, names: Sequence[str]) -> list[str]:
        """Return the names of the columns, from those of the file."""
        joined = self.form.joined
        if joined is None:
            return list(names)
        return [joined.name if name == joined.date else name for name in names if name != joined.clock]

    def frame(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return a frame with its times in ISO 8601."""
        if not self.sources or not {*self.sources} <= {*frame.columns}:
            return frame
        times = self._times({name: frame[name].to_list() for name in self.sources})
        place = self.sources[0]
        return frame.select(
            times if name == place else frame[name] for name in frame.columns if name not in self.sources[1:]
        )

    def rows(self, rows: Sequence[Row]) -> list[Row]:
        """Return rows with their times in ISO 8601."""
        if not self.sources:
            return list(rows)
        times = self._times({name: [row.get(name) for row in rows] for name in self.sources})
        place, left_out = self.sources[0], self.sources[1:]
        return [
            {times.name if k == place else k: time if k == place else v for k, v in row.items() if k not in left_out}
            for row, time in zip(rows, times, strict=True)
        ]

    def _times(self, values: Mapping[str, Sequence[Any]]) -> pl.Series:
        texts = {name: [None if each is None else _text(each) for each in column] for name, column in values.items()}
        frame = pl.DataFrame(texts, schema=dict.fromkeys(texts, pl.String))
        return self.form.cells(self.form.columns(frame)).to_series()


def find_typed_dates(columns: Mapping[str, Sequence[Any]], options: FileOptions) -> TypedDates:
    """Return which columns of the first rows are a time written as numbers.

    Args:
        columns: name → values of the rows, None for those without
    """
    kinds = {name: {type(value) for value in column} - {NoneType} for name, column in columns.items()}
    numbers = [name for name, each in kinds.items() if each and each <= {int, float, str} and _begins(columns[name])]
    if not numbers or options.every is not None or any(each & TIMES for each in kinds.values()):
        return TypedDates()
    cells = {
        name: ["" if value is None else _text(value) for value in columns[name]]
        for name, each in kinds.items()
        if each <= {int, float, str}
    }
    if any(is_time(column) for name, column in cells.items() if name not in numbers):
        return TypedDates()
    form = Format(())
    found = find_joined(cells)
    if found is not None and found[0] in numbers:
        joined = Joined(*found)
        times = {joined.name: joined.texts(cells[joined.date], cells[joined.clock])}
        form = form._replace(joined=joined)
    else:
        times = {name: cells[name] for name in numbers}
    forms: list[tuple[str, TimeForm]]
    forms = [(name, each) for name, column in times.items() if (each := find_form(column)) is not None]
    dates = (*forms, *(find_days(times) if not forms else ()))[:1]
    name = dates[0][0] if dates else "" if form.joined is None else form.joined.name
    chosen = name and options.timestamp in (None, name)
    return TypedDates(form._replace(dates=dates)) if chosen else TypedDates()


def _begins(column: Sequence[Any]) -> bool:
    """Return whether the first value of a column may be a date in digits, or a day of a spreadsheet."""
    text = _text(next(value for value in column if value is not None))
    return is_date_number(text) or DAYS.fullmatch(text) is not None


def _text(value: float | str) -> str:
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value) if whole else value)
