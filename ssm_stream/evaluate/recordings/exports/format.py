"""What the cells of a table mean, and how they become plain rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from ssm_stream.evaluate.recordings.exports.cells import BEFORE, CURRENCIES, MISSING
from ssm_stream.evaluate.recordings.exports.dates import TimeForm
from ssm_stream.evaluate.recordings.exports.header import Head
from ssm_stream.evaluate.recordings.exports.numbers import Notation
from ssm_stream.evaluate.recordings.exports.options import FileOptions
from ssm_stream.evaluate.recordings.exports.tags import Tags

UTF8 = "utf-8"
DOTS = r"^([0-9]{1,2})[.]([0-9]{2})(?:[.]([0-9]{2}))?$"
"""Regular expression of a time of day with dots."""
MAX_BELOW = 60
"""Characters of what is left out below the header that are shown."""
DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "pipes", " ": "blanks"}


class Part(NamedTuple):
    """One file of a table."""

    path: Path
    encoding: str
    """Empty for a sheet."""
    head: Head
    sheet: str = ""

    @property
    def is_sheet(self) -> bool:
        """Whether it is a sheet of Excel or OpenDocument."""
        return not self.encoding


class Joined(NamedTuple):
    """Two columns that are one time."""

    date: str
    clock: str
    digits: int = 0
    """Of times of day that are whole numbers or have dots: 4, 6 or, for the hour, 2; 0: they have a colon."""

    @property
    def cells(self) -> pl.Expr:
        """The column that they become, with dashes in dates that are whole numbers and colons in such times of day."""
        date = pl.col(self.date).str.replace(r"^\s*([0-9]{4})([0-9]{2})([0-9]{2})\s*$", "$1-$2-$3")
        clock = pl.col(self.clock)
        if self.digits:
            text = clock.str.strip_chars().str.replace(DOTS, "$1$2$3").str.zfill(self.digits)
            colons = text.str.replace_all("([0-9]{2})", "$1:").str.strip_suffix(":") + ":00" * (self.digits == 2)
            clock = pl.when(text.str.contains(rf"^[0-9]{{{self.digits}}}$")).then(colons).otherwise(clock)
        return pl.concat_str(date, clock, separator=" ").alias(self.name)

    def texts(self, dates: Sequence[str], clocks: Sequence[str]) -> list[str]:
        """Return the cells of the column that cells of the two become."""
        pairs = list(zip(dates, clocks, strict=False))
        frame = pl.DataFrame(pairs, schema=dict.fromkeys((self.date, self.clock), pl.String), orient="row")
        return [text.strip() for text in frame.select(self.cells).to_series()]

    @property
    def name(self) -> str:
        """Name of the column that they become."""
        return f"{self.date} {self.clock}"


def strip_unit(column: pl.Series, unit: str) -> pl.Series:
    """Return a column of text without a unit in its cells, as `unit_of` has it."""
    if unit and unit in CURRENCIES:
        column = column.str.replace(BEFORE, "$1")
    return column.str.strip_suffix(unit)


class Format(NamedTuple):
    """What the cells of a table mean."""

    parts: tuple[Part, ...]
    notation: Notation = Notation()
    joined: Joined | None = None
    units: tuple[tuple[str, str], ...] = ()
    """Column and the unit in its cells."""
    dates: tuple[tuple[str, TimeForm], ...] = ()
    tags: Tags | None = None
    missing: tuple[str, ...] = ()
    """Columns of numbers with texts that stand for no value."""
    doubtful: str | None = None
    """A number that is read with decimals, and might be one of thousands."""
    mixed: tuple[str, ...] = ()
    """Columns that are text although they have many numbers, and why."""
    file: str | None = None
    """Column with the name of the file, which is added."""
    numbered: str | None = None
    """Column with times by the number of the row, which is added."""
    again: int = 0
    """Lines further down that hold the names again, and are no rows."""

    def columns(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return a frame of text with date and time of day joined, and without units in cells."""
        if self.units:
            frame = frame.with_columns(strip_unit(frame[name], unit) for name, unit in self.units)
        if self.joined is None:
            return frame
        date, clock, name = self.joined.date, self.joined.clock, self.joined.name
        whole = frame.with_columns(self.joined.cells)
        return whole.select(name if each == date else each for each in frame.columns if each != clock)

    def cells(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return a frame of text with plain numbers and times."""
        dates = dict(self.dates)
        changed = [form.iso(name) for name, form in dates.items()]
        if not self.notation.is_plain:
            changed += [self.notation.plain(name) for name in frame.columns if name not in dates]
        return frame.with_columns(changed) if changed else frame

    def rows(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return a frame of text as rows: plain cells, a row for each entity, nothing where a text stands for it."""
        frame = self.cells(self.columns(frame))
        if self.tags is not None:
            frame = self.tags.to_rows(frame)
        if not self.missing:
            return frame
        nothing = [pl.col(name).str.strip_chars().str.to_lowercase().is_in(list(MISSING)) for name in self.missing]
        return frame.with_columns(
            pl.when(each).then(None).otherwise(pl.col(name)).alias(name)
            for name, each in zip(self.missing, nothing, strict=True)
        )


def describe(form: Format, options: FileOptions) -> str:
    """Return in words what was detected, without what every file has; empty if there is nothing else."""
    first = form.parts[0]
    out = [f"{len(form.parts)} files in the order of their names"] if len(form.parts) > 1 else []
    if form.file is not None:
        out.append(f"they are of the same time, so `{form.file}` is the name of the file")
    if first.is_sheet:
        out.append(f"sheet {first.sheet!r}")
    elif first.head.delimiter != ",":
        out.append(DELIMITERS.get(first.head.delimiter, repr(first.head.delimiter)))
    if first.encoding not in ("", UTF8):
        out.append({"cp932": "shift_jis (cp932)"}.get(first.encoding, first.encoding))
    if not first.head.header:
        out.append("no header")
    elif first.head.of_two:
        out.append(f"header in line {first.head.header} and the one above it")
    elif first.head.header > 1:
        out.append(f"header in line {first.head.header}")
    if first.head.below:
        below = ", ".join(cell.strip() for cell in first.head.below if cell.strip())
        out.append(f"left out below it: {below if len(below) <= MAX_BELOW else f'{below[:MAX_BELOW]}…'}")
    if form.again:
        lines = "line" if form.again == 1 else "lines"
        out.append(f"left out further down: {form.again:,} {lines} with the names again")
    if form.notation.decimal == ",":
        out.append("decimal comma")
    elif form.notation.grouped:
        out.append("thousands with separators")
    if form.notation.minus:
        out.append("− (U+2212) as the minus sign")
    if form.doubtful is not None:
        other = "point" if form.notation.decimal == "," else "comma"
        out.append(f"{form.doubtful} has decimals (if these are thousands: --read decimal={other})")
    if form.units:
        out.append(f"units in cells ({', '.join(dict.fromkeys(unit.strip() for _, unit in form.units))})")
    out += describe_times(form)
    out += form.mixed
    if form.tags is not None:
        out.append(form.tags.describe())
    if form.numbered is not None:
        out.append(f"`{form.numbered}` counts rows, {options.every:g} s each")
    return "; ".join(out)


def describe_times(form: Format) -> list[str]:
    """Return in words how times are written."""
    joined = form.joined
    one = [] if joined is None else [f"`{joined.date}` and `{joined.clock}` are one time, `{joined.name}`"]
    return [*one, *dict.fromkeys(found.describe() for _, found in form.dates)]
