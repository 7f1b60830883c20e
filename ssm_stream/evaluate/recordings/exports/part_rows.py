"""Rows of the files of a table as they stand: of text files, and of sheets, whose numbers have no notation."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import polars as pl

from ssm_stream.evaluate.recordings.exports.format import Format, Part
from ssm_stream.evaluate.recordings.exports.header import ANNOTATIONS
from ssm_stream.evaluate.recordings.exports.sheet import Sheet, read_sheet
from ssm_stream.evaluate.recordings.exports.text_file import filled_rows, numbered_rows, text_frames

ROWS = 50_000
"""Rows of a sheet at a time."""


def sheet_of(path: Path, sheet: str | None) -> Sheet:
    """Return a sheet of a file, cached until the file changes. Raises as `read_sheet`."""
    return _sheet_version(path, sheet, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=2)
def _sheet_version(path: Path, sheet: str | None, _modified: int) -> Sheet:
    return read_sheet(path, sheet)


def part_frames(part: Part, size: int, decimal: str) -> Iterator[pl.DataFrame]:
    """Yield the rows of a file, up to `size` at a time. decimal: sign that numbers of a sheet get"""
    if not part.is_sheet:
        yield from text_frames(part.path, part.encoding, part.head, size)
        return
    for frame in _sheet_rows(part, decimal).iter_slices(size):
        yield filled_rows(frame)


def without_names(frame: pl.DataFrame) -> pl.DataFrame:
    """Return rows without those that hold the names of the columns again, as where files were put after each other.

    So do lines of InfluxDB above the names of each table. frame: of text, an empty cell is null
    """
    names = frame.columns
    own = [name for i, name in enumerate(names, 1) if name != f"column_{i}"]
    cells = {name: pl.col(name).str.strip_chars(" \t\ufeff") for name in {names[0], *own}}
    annotated = frame.select(cells[names[0]].is_in(list(ANNOTATIONS))).to_series()
    again = frame.select(cells[own[0]] == own[0]).to_series() if own else annotated
    if not (annotated.any() or again.any()):  # nearly always: one column shows it
        return frame
    same = [cells[name].eq_missing(name) if name in own else pl.col(name).is_null() for name in names]
    no_rows = annotated.fill_null(value=False)
    if own:
        no_rows |= frame.select(pl.all_horizontal(same)).to_series()
    return frame.filter(~no_rows)


def written_cells(part: Part) -> list[pl.Series]:
    """Return columns of what is written in some notation: cells of the beginning of a file, or all texts of a sheet."""
    if part.is_sheet:
        return _sheet_rows(part, None).get_columns()
    rows = part.head.rows
    return [
        pl.Series(name, [row[j] for row in rows if j < len(row)], pl.String) for j, name in enumerate(part.head.names)
    ]


def _sheet_rows(part: Part, decimal: str | None) -> pl.DataFrame:
    """Return the rows of a sheet, whose numbers have a decimal sign, or are left out."""
    sheet = sheet_of(part.path, part.sheet)
    rows = sheet.rows
    if decimal != ".":
        rows = rows.with_columns(
            pl.when(sheet.numbers[name]).then(text.str.replace(".", decimal, literal=True) if decimal else None)
            .otherwise(text).alias(name) for name in rows.columns for text in [pl.col(name)]
        )  # fmt: skip
    rows = rows[part.head.first - 1 :]
    return rows.rename(dict(zip(rows.columns, part.head.names, strict=True)))


def find_cell(form: Format, name: str, test: Callable[[str], bool]) -> tuple[str, str]:
    """Return place and text of the first filled cell of a column that passes a test."""
    raw = form.joined.date if form.joined is not None and name == form.joined.name else name
    for part in form.parts:
        j = part.head.names.index(raw)
        for number, row in _numbered(part, form.notation.decimal):
            if j < len(row) and row[j] and row[j].strip() and test(row[j]):
                return f"{part.path}:{number}", row[j].strip()
    return str(form.parts[0].path), "?"


def _numbered(part: Part, decimal: str) -> Iterator[tuple[int, Sequence[Any]]]:
    if not part.is_sheet:
        return numbered_rows(part.path, part.encoding, part.head)
    frames = chain.from_iterable(frame.iter_rows() for frame in part_frames(part, ROWS, decimal))
    return enumerate(frames, part.head.first)
