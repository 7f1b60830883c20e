"""CSV recordings: read as text, in slices, then converted by what the whole file holds in a column.

Polars' own reader is not used on the file: its slices differ between versions, and it types a column by its first rows.
"""

from __future__ import annotations

import csv
import functools
import gzip
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import polars as pl

from ssm_stream.evaluate.recordings.files import RecordingError, Row, decode, open_file, read_block, readable, to_dicts

SCANNED = 50_000
"""Rows that are scanned together to find what the columns hold."""
BLOCK = 4_000_000
"""Bytes of a CSV file that are read at a time."""
Kind = Literal["text", "int", "float"]


class Column(NamedTuple):
    """What a CSV column holds, and whether some of its filled cells are something else."""

    kind: Kind
    stray: bool


class Scan(NamedTuple):
    """What one pass over a CSV file finds."""

    columns: dict[str, Column]
    rows: int


def csv_slices(path: Path, size: int) -> Iterator[pl.DataFrame]:
    """Yield frames of text columns, up to `size` rows each; an empty cell is null."""
    with open_file(path) as file:
        with readable(path):
            first_line = file.readline()
        header = first_line.removeprefix(b"\xef\xbb\xbf")
        names, separator = _header(header, path)
        first = 2
        for lines in _texts(file, path, size):
            yield _frame(header, lines, names, separator, path, first)
            first += lines.count(b"\n")


def _texts(file: gzip.GzipFile | io.BufferedReader, path: Path, size: int) -> Iterator[bytes]:
    """Yield the remaining lines, up to `size` rows at a time; a line break inside quotes does not cut a row."""
    first, rest, more = 2, b"", True
    while more:
        block = read_block(file, path, max(BLOCK, len(rest)))
        more, rest = bool(block), rest + block
        letters = np.frombuffer(rest, np.uint8)
        ends = np.flatnonzero(letters == ord("\n")) + 1
        ends = ends[np.searchsorted(np.flatnonzero(letters == ord('"')), ends) % 2 == 0]
        start = 0
        for end in [*ends[size - 1 :: size].tolist(), *ends[-1:].tolist()]:
            if end > start:
                yield rest[start:end]
                start = end
        first += rest.count(b"\n", 0, start)
        rest = rest[start:]
    if rest.count(b'"') % 2:
        opened = first + next(i for i, line in enumerate(rest.split(b"\n")) if line.count(b'"') % 2)
        raise RecordingError(f"{path}:{opened}: a quote is opened and never closed; close it, or double it in a cell")
    if rest:
        yield rest


def _header(line: bytes, path: Path) -> tuple[list[str], str]:
    if not line.strip():
        raise RecordingError(f"{path}: no header in line 1; the first line must name the columns")
    text = decode(line, path, 1)
    separator = max(",;\t", key=text.count)
    names = [name.strip() for name in next(csv.reader([text], delimiter=separator))]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise RecordingError(f"{path}:1: the columns {twice} stand twice in the header; give each its own name")
    return names, separator


def _frame(header: bytes, data: bytes, names: list[str], separator: str, path: Path, first: int) -> pl.DataFrame:
    try:
        # With the header before every slice, a line with too few cells has its last ones empty, wherever it stands.
        frame = pl.read_csv(io.BytesIO(header + data), separator=separator, infer_schema=False)
        frame.columns = names
    except (pl.exceptions.PolarsError, ValueError) as error:
        text = decode(data, path, first)
        line = _odd_line(text, len(names), separator)
        where = f"{path}:{first + line[0]}" if line else f"{path}: lines {first} and after"
        what = f"{line[1]} cells where the header names {len(names)} columns" if line else str(error).split("\n")[0]
        raise RecordingError(f"{where}: {what}; mend the line, or quote cells that hold {separator!r}") from error
    # An empty line between rows comes as a row of nothing.
    return frame.filter(~pl.all_horizontal(pl.all().is_null()))


def _odd_line(text: str, cells: int, separator: str) -> tuple[int, int] | None:
    """Return offset and number of cells of the first line with more cells than the header, if any."""
    reader = csv.reader(io.StringIO(text), delimiter=separator)
    start = 0
    for row in reader:
        if len(row) > cells:
            return start, len(row)
        start = reader.line_num
    return None


def scan_csv(path: Path) -> Scan:
    """Return what the columns hold, and the number of rows, from one pass over the file, cached until it changes."""
    stat = path.stat()
    return _scan_version(path, stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=16)
def _scan_version(path: Path, _modified: int, _size: int) -> Scan:
    total: dict[str, list[int]] = {}
    count = 0
    for frame in csv_slices(path, SCANNED):
        count += frame.height
        for name, found in frame.select(map(_counts, frame.columns)).to_dicts()[0].items():
            total[name] = [a + b for a, b in zip(total.get(name, [0, 0, 0, 0]), found, strict=True)]
    if not count:
        raise RecordingError(f"{path}: no rows; a header alone cannot be replayed")
    return Scan({name: _column(*counts) for name, counts in total.items()}, count)


def _counts(name: str) -> pl.Expr:
    """Count the cells of a text column that are filled, numbers, whole numbers, and numbers with leading zeros."""
    text = pl.col(name).str.strip_chars()
    numbers = [text.cast(kind, strict=False).count() for kind in (pl.Float64, pl.Int64)]
    padded = text.str.contains(r"^[+-]?0[0-9]").sum()
    return pl.concat_list(*(count.cast(pl.Int64) for count in (text.count(), *numbers, padded))).alias(name)


def _column(filled: int, numbers: int, whole: int, padded: int) -> Column:
    if padded or 2 * numbers <= filled:
        return Column("text", False)
    return Column("int" if whole == numbers else "float", numbers < filled)


def number(name: str, column: Column) -> pl.Expr:
    """Return the column as its kind; a stray text becomes NaN, and with one whole numbers become floats."""
    text = pl.col(name)
    if column.kind == "text":
        return text
    whole = column.kind == "int" and not column.stray
    value = text.str.strip_chars().cast(pl.Int64 if whole else pl.Float64, strict=False)
    if not column.stray:
        return value
    return pl.when(text.is_not_null() & value.is_null()).then(float("nan")).otherwise(value).alias(name)


def csv_rows(frame: pl.DataFrame, columns: dict[str, Column]) -> list[Row]:
    """Return the rows of a frame of text."""
    return to_dicts(frame.columns, [_cells(frame[name], columns[name].kind) for name in frame.columns])


def csv_column(frame: pl.DataFrame, columns: dict[str, Column], name: str) -> pl.Series | None:
    """Return a column of a frame of text as its kind; None if it has a stray text, all null if it is not there."""
    if name not in columns:
        return pl.Series([None]).new_from_index(0, len(frame))
    text = frame[name]
    number = _parsed(text, columns[name].kind)
    return None if number.null_count() > text.null_count() else number


def _parsed(text: pl.Series, kind: Kind) -> pl.Series:
    """Return the column as its kind; other cells are null."""
    if kind == "text":
        return text
    return text.str.strip_chars().cast(pl.Int64 if kind == "int" else pl.Float64, strict=False)


def _cells(text: pl.Series, kind: Kind) -> list[Any]:
    """Return the column as Python values; a text among numbers stays as it is."""
    number = _parsed(text, kind)
    values: list[Any] = number.to_list()
    if number.null_count() > text.null_count():
        return [t if v is None else v for v, t in zip(values, text.to_list(), strict=True)]
    return values
