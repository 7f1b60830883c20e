"""A table as people export it: one file or several, of text or sheets, as frames of plain text.

What cells mean is judged by the beginning of the file; then all of it is read once, and must agree. Afterwards numbers
have a decimal point, times are ISO 8601, and a column a tag has become a row an entity.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import polars as pl

from ssm_stream.evaluate.recordings.exports.cells import is_missing, unit_of, without_unit
from ssm_stream.evaluate.recordings.exports.columns import Column, Counts, count_cells
from ssm_stream.evaluate.recordings.exports.dates import (
    ORDERS,
    DateForm,
    TimeForm,
    find_days,
    find_form,
    find_joined,
    find_order,
    first_invalid,
    in_order,
)
from ssm_stream.evaluate.recordings.exports.doubts import doubtful_number, mixed_columns, refuse_number
from ssm_stream.evaluate.recordings.exports.file_names import find_file_column, name_of
from ssm_stream.evaluate.recordings.exports.format import Format, Joined, Part, describe, strip_unit
from ssm_stream.evaluate.recordings.exports.header import find_table
from ssm_stream.evaluate.recordings.exports.numbers import Signs, count_signs, find_notation
from ssm_stream.evaluate.recordings.exports.options import FileOptions
from ssm_stream.evaluate.recordings.exports.part_rows import (
    find_cell,
    part_frames,
    sheet_of,
    without_names,
    written_cells,
)
from ssm_stream.evaluate.recordings.exports.row_times import NumberedTimes, RepeatedHours
from ssm_stream.evaluate.recordings.exports.tags import find_tags
from ssm_stream.evaluate.recordings.exports.text_file import text_head
from ssm_stream.evaluate.recordings.files import NotUtf8Error, RecordingError

SCANNED = 50_000
"""Rows that are scanned together to find what the columns hold."""
MAX_MIXED = 3
"""Columns of numbers and text that are named."""
LAST = 5
"""Last rows of a file that are searched for a time."""
SHEETS = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods")


class Scan(NamedTuple):
    """What one pass over a table finds."""

    columns: dict[str, Column]
    rows: int
    format: Format


class Table(NamedTuple):
    """Files of one table in their order."""

    paths: tuple[Path, ...]
    options: FileOptions

    def scan(self) -> Scan:
        """Return what the table holds, from one pass over it, cached until a file changes.

        Raises:
            RecordingError: a file cannot be read, or what it holds is not clear.
        """
        versions = tuple((stat.st_mtime_ns, stat.st_size) for stat in (path.stat() for path in self.paths))
        return _scan_version(self, versions)

    def frames(self, size: int) -> Iterator[pl.DataFrame]:
        """Yield frames of plain text, up to about `size` rows each; an empty cell is null."""
        form = self.scan().format
        tags, options = form.tags, self.options
        entity = tags.entity if tags is not None else form.file or options.entity
        changes: list[Callable[[pl.DataFrame], pl.DataFrame]] = []
        if form.numbered is not None and options.every is not None:
            changes.append(NumberedTimes(options.every, form.numbered, entity).add)
        elif options.timestamp is not None and options.time_zone != "UTC":
            changes.append(RepeatedHours(options.time_zone, options.timestamp, entity).mark)
        lines = size if tags is None else max(size // len(tags.entities), 1)
        for part in form.parts:
            for frame in part_frames(part, lines, form.notation.decimal):
                rows = form.rows(without_names(frame).select(form.parts[0].head.names))
                if form.file is not None:
                    rows = rows.with_columns(pl.lit(name_of(part.path), pl.String).alias(form.file))
                for change in changes:
                    rows = change(rows)
                yield rows

    def describe(self) -> str:
        """Return in words what was detected, without what every file has; empty if there is nothing else."""
        return describe(self.scan().format, self.options)


@functools.lru_cache(maxsize=16)
def _scan_version(table: Table, _versions: tuple[tuple[int, int], ...]) -> Scan:
    legacy: dict[Path, str] = {}
    while True:
        try:
            parts = tuple(_part(path, table.options, legacy.get(path)) for path in table.paths)
            _check_names(parts)
            return _scan(parts, table.options)
        except NotUtf8Error as error:
            if error.path in legacy or table.options.encoding is not None:
                raise
            legacy[error.path] = _legacy(error.data)


def _legacy(data: bytes) -> str:
    from ssm_stream.evaluate.recordings.exports.encoding import find_legacy

    return find_legacy(data)


def _part(path: Path, options: FileOptions, legacy: str | None) -> Part:
    if path.suffix.lower() in SHEETS:
        rows, _, sheet = sheet_of(path, options.sheet)
        filled = [(i, [cell or "" for cell in row]) for i, row in enumerate(rows[:500].iter_rows(), 1)]
        return Part(path, "", find_table(filled, ",", path, options), sheet)
    return Part(path, *text_head(path, options, legacy))


def _check_names(parts: Sequence[Part]) -> None:
    """Raise RecordingError if files have other columns than the first."""
    first = parts[0]
    for part in parts[1:]:
        odd = sorted({*first.head.names} ^ {*part.head.names})
        if odd:
            raise RecordingError(
                f"{part.path}: other columns than {first.path.name}: {', '.join(odd[:5])}; put files of one table into "
                "a folder of their own"
            )


def _detect(parts: tuple[Part, ...], options: FileOptions) -> tuple[Format, dict[str, Signs]]:
    """Return what the beginnings of the files show, and what each column shows of the notation of numbers."""
    cells: dict[str, list[str]] = {name: [] for name in parts[0].head.names}
    for part in parts:
        for j, name in enumerate(part.head.names):
            cells[name] += [row[j] for row in part.head.rows if j < len(row)]
    units = tuple((name, unit) for name, column in cells.items() if (unit := _find_unit(column)) is not None)
    for name, unit in units:
        cells[name] = [without_unit(cell, unit) for cell in cells[name]]
    joined = None if (found := find_joined(cells)) is None else Joined(*found)
    signs = _signs(parts, dict(units))
    for name in () if joined is None else (joined.date, joined.clock):
        signs.pop(name)  # the dots of a time of day are no decimal points
    notation = find_notation(signs.values(), options.decimal)
    if joined is not None:
        cells[joined.name] = joined.texts(cells.pop(joined.date), cells.pop(joined.clock))
    forms: tuple[tuple[str, TimeForm], ...]
    forms = tuple((name, form) for name, column in cells.items() if (form := find_form(column)) is not None)
    if not forms and options.every is None:
        forms = find_days({name: column for name, column in cells.items() if name not in options.columns})
    tags = find_tags(list(cells), options.tags, options.columns)
    if options.tags not in (None, "none") and tags is None:
        raise RecordingError(
            f"{parts[0].path}: no column has the form {options.tags}; its columns: {', '.join(list(cells)[:10])}"
        )
    return Format(parts, notation, joined, units, forms, tags), signs


def _signs(parts: Sequence[Part], units: dict[str, str]) -> dict[str, Signs]:
    """Return what the cells of each column show of the notation: those of the beginning, or all texts of sheets."""
    signs: dict[str, Signs] = {}
    for part in parts:
        for column in written_cells(part):
            name = column.name
            found = count_signs(strip_unit(column, units[name]) if name in units else column)
            signs[name] = signs.get(name, Signs()).plus(found)
    return signs


def _find_unit(cells: list[str]) -> str | None:
    """Return the unit that all numbers of a column have in their cells."""
    filled = [cell for cell in cells if cell.strip() and not is_missing(cell)]
    if not filled or (unit := unit_of(filled[0])) is None:
        return None
    return unit if all(unit_of(cell) == unit for cell in filled) else None


def _scan(parts: tuple[Part, ...], options: FileOptions) -> Scan:
    """Read everything once: what columns hold, and whether it agrees with the beginning."""
    form, signs = _detect(parts, options)
    while True:
        passed = _Pass(form)
        foreign = next((name for name, counts in passed.total.items() if counts.is_foreign), None)
        if form.notation.certain and foreign is None:
            break
        if not all(part.is_sheet for part in parts):
            signs = passed.signs
        seen = find_notation(signs.values(), form.notation.decimal if form.notation.certain else None)
        if foreign is not None and (seen.is_like(form.notation) or not form.notation.is_plain):
            refuse_number(form, foreign, options)
        if seen.is_like(form.notation):
            form = form._replace(doubtful=doubtful_number(form._replace(notation=seen), signs))
            break
        form = form._replace(notation=seen._replace(certain=True))
    form = _order_dates(form, passed.dates, options)
    total: dict[str, Counts] = {}
    for name, counts in passed.total.items():
        row_name = form.tags.signal_of(name) if form.tags is not None else name
        total[row_name] = counts + total[row_name] if row_name in total else counts
    if form.tags is not None:
        names = form.tags.names(list(passed.total))
        total = {name: total.get(name, Counts(filled=1)) for name in names}
    form = form._replace(mixed=tuple(mixed_columns(form, passed.total))[:MAX_MIXED])
    if not passed.rows:
        raise RecordingError(f"{parts[0].path}: no rows below the names of the columns")
    columns = {name: counts.column() for name, counts in total.items()}
    columns |= {name: Column("text", False) for name, _ in form.dates if name in columns}  # digits count as numbers
    missing = tuple(name for name, column in columns.items() if column.missing)
    file = find_file_column(form, passed.ends)
    if file is not None:
        columns[file] = Column("text", False)
    numbered = None
    if options.every is not None:
        numbered = _numbered_name(list(columns), options)
        columns[numbered] = Column("text", False)
    return Scan(columns, passed.rows, form._replace(missing=missing, file=file, numbered=numbered, again=passed.again))


def _numbered_name(names: list[str], options: FileOptions) -> str:
    """Return the name of the column with times by the number of the row."""
    name = options.timestamp or "time"
    if options.timestamp is not None and name in names:
        raise RecordingError(f"--every: the file has times of its own, `{name}`; leave the option out")
    while name in names:
        name += "_"
    return name


class _Pass:
    """One pass over a table.

    Attributes:
        total: what the cells of each column are, before tags become rows
        rows: their number, after that
        dates: the different dates of each column of times
        signs: what each column shows of the notation, where that is not certain
        ends: the first and the last rows of each file, as they stand
        again: number of lines that are no rows, but the names again
    """

    def __init__(self, form: Format) -> None:
        self.total: dict[str, Counts] = {}
        self.rows = self.again = 0
        self.dates: dict[str, dict[tuple[str, str, str], None]] = {name: {} for name, _ in form.dates}
        self.signs: dict[str, Signs] = {}
        names = list(form.parts[0].head.names)
        self.ends: list[pl.DataFrame] = []
        for part in form.parts:
            ends = pl.DataFrame(schema=dict.fromkeys(names, pl.String))
            for raw in part_frames(part, SCANNED, form.notation.decimal):
                rows = without_names(raw).select(names)
                self.again += raw.height - rows.height
                self._add(form, form.columns(rows))
                ends = pl.concat([ends, rows])
                ends = pl.concat([ends[:1], ends[1:][-LAST:]])
            self.ends.append(ends)

    def _add(self, form: Format, frame: pl.DataFrame) -> None:
        for name, date_form in form.dates:
            self.dates[name] |= dict.fromkeys(date_form.dates(frame, name))
        raw, frame = frame, form._replace(dates=()).cells(frame)
        self.rows += frame.height if form.tags is None else form.tags.count(frame)
        counts = count_cells(frame)
        if form.notation.decimal == ",":  # a point is not foreign to the reader of plain numbers
            for name, number in form.notation.count_foreign(raw).items():
                counts[name] = replace(counts[name], foreign=counts[name].foreign + number)
        for name, found in counts.items():
            self.total[name] = found + self.total[name] if name in self.total else found
            if found.foreign or not form.notation.certain:
                shown = count_signs(raw[name]) if found.numbers or found.foreign else Signs(found.filled)
                self.signs[name] = self.signs.get(name, Signs()).plus(shown)


def _order_dates(form: Format, dates: dict[str, dict[tuple[str, str, str], None]], options: FileOptions) -> Format:
    """Return the format with the order of the numbers in its times, by all dates of the table."""
    comma = form.notation.decimal == "," or form.parts[0].head.delimiter == ";"
    ordered: list[tuple[str, TimeForm]] = []
    for name, found in form.dates:
        all_dates = list(dates[name])
        if isinstance(found, DateForm) and found.kind == "dmy":
            between = re.search("[0-9]([./-])[0-9]", found.example)
            separator = between[1] if between is not None else ""
            halves = re.search(r"[0-9]\s*[AaPp](\.?\s?[Mm]|\b)", found.example) is not None
            given = next((kind for kind, order in ORDERS.items() if order == options.dates), None)
            kind = given or find_order(all_dates, separator, (comma, halves))
            if kind is None:
                line, cell = find_cell(form, name, lambda _: True)
                raise RecordingError(
                    f"{line}: `{name}` holds {cell!r}, and no date of the file shows which number is the day: give "
                    + _orders(all_dates)
                )
            found = found._replace(kind=kind)
        if isinstance(found, DateForm):
            _check_dates(form, name, found, all_dates)
        ordered.append((name, found))
    return form._replace(dates=tuple(ordered))


def _orders(dates: list[tuple[str, str, str]]) -> str:
    """Return the options by which dates can be read."""
    return " or ".join(f"--read dates={order}" for order in _fitting(dates) or ORDERS.values())


def _fitting(dates: list[tuple[str, str, str]]) -> list[str]:
    """Return the orders in which numbers that were read as `dmy` are dates."""
    return [order for kind, order in ORDERS.items() if first_invalid(in_order(kind, dates)) is None]


def _check_dates(form: Format, name: str, found: DateForm, written: list[tuple[str, str, str]]) -> None:
    """Raise RecordingError if the numbers of a column, as written, are no dates in the order that was found."""
    ordered = in_order(found.kind, written) if found.kind in ORDERS else written
    if (bad := first_invalid(ordered)) is None:
        return
    as_written = found._replace(kind="dmy") if found.kind in ORDERS else found
    line, cell = find_cell(form, name, lambda text: as_written.parts(text) == written[ordered.index(bad)])
    fits = _fitting(written) if found.kind in ORDERS else []
    cure = "".join(f", or give --read dates={order}" for order in fits)
    raise RecordingError(
        f"{line}: `{name}` holds {cell!r}, which is no date, read as the others ({found.describe()}); correct it{cure}"
    )
