"""Recorded files as rows: CSV, JSON lines (both also gzipped) and Parquet.

`rows(path)` gives dicts of native Python values, in file order: the form of an event as it comes from the topic.
`read_recording(path)` gives the same rows as polars frames, for work by column. A file is read slice by slice, so its
size is not bounded by memory.

A CSV column holds numbers when most of its filled cells, over the whole file, are numbers. A stray text in it ("NaN",
"n/a") does not spoil the file: `rows` keeps it as it stands, `read_recording` shows NaN there, and the event decoder
refuses that row only. Numbers written with leading zeros ("007") are names and stay text.
"""

from __future__ import annotations

import csv
import datetime
import functools
import gzip
import io
import itertools
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import orjson
import polars as pl

SLICE = 50_000
"""Rows of a slice."""
FORMATS = {
    ".csv": "csv",
    ".csv.gz": "csv",
    ".jsonl": "jsonl",
    ".jsonl.gz": "jsonl",
    ".ndjson": "jsonl",
    ".ndjson.gz": "jsonl",
    ".parquet": "parquet",
}

Row = dict[str, Any]
Kind = Literal["text", "int", "float"]


class RecordingError(ValueError):
    """The recording cannot be read. The text names the file, the line where it is known, and the cure."""


class _Column(NamedTuple):
    """What a CSV column holds, and whether some of its filled cells are something else."""

    kind: Kind
    stray: bool


class _Scan(NamedTuple):
    """What one pass over a CSV file tells."""

    columns: dict[str, _Column]
    rows: int


def read_recording(path: str | Path) -> Iterator[pl.DataFrame]:
    """Frames of up to 50,000 rows, in file order.

    CSV columns are Int64, Float64 or String, the same in every slice; a stray text in a number column is NaN.
    JSON lines and Parquet keep their own types (nested objects become structs).

    Raises:
        RecordingError: no such file, unknown suffix, broken file, or no rows; raised when the first slice is asked for.
    """
    path = Path(path)
    kind = _format(path)
    if kind == "csv":
        columns = _scan_csv(path).columns
        for frame in _csv_slices(path):
            yield frame.select(_number(name, columns[name]) for name in frame.columns)
    elif kind == "jsonl":
        for some in _batched(_json_lines(path)):
            yield pl.DataFrame(some, infer_schema_length=None, strict=False)
    else:
        yield from _parquet_slices(path)


def rows(path: str | Path) -> Iterator[Row]:
    """The rows as dicts, in file order: numbers as int or float, an empty cell as None, nested JSON as it is.

    Times stay text in CSV and JSON; Parquet's dates and times become ISO 8601 text. A CSV line whose
    cells are all empty is no row.

    Raises:
        RecordingError: as `read_recording`.
    """
    path = Path(path)
    kind = _format(path)
    if kind == "csv":
        columns = _scan_csv(path).columns
        for frame in _csv_slices(path):
            yield from _dicts(frame.columns, [_cells(frame[name], columns[name].kind) for name in frame.columns])
    elif kind == "jsonl":
        yield from _json_lines(path)
    else:
        for frame in _parquet_slices(path):
            yield from _dicts(frame.columns, [_plain_column(frame[name]) for name in frame.columns])


def count_rows(path: str | Path) -> int:
    """The number of rows: from Parquet's footer, or by one pass over the text.

    Raises:
        RecordingError: as `read_recording`.
    """
    path = Path(path)
    kind = _format(path)
    if kind == "csv":
        return _scan_csv(path).rows
    if kind == "jsonl":
        with _open(path) as file:
            return sum(1 for line in _lines(file, path) if line.strip())
    return _parquet_height(path)


def _format(path: Path) -> str:
    suffix = next((s for s in sorted(FORMATS, key=len, reverse=True) if path.name.lower().endswith(s)), None)
    if suffix is None:
        raise RecordingError(f"{path}: unknown kind of file; name it {', '.join(FORMATS)}, by what it holds")
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "no such file"
        raise RecordingError(f"{path}: {found}; give the path of a recording ({', '.join(FORMATS)})")
    return FORMATS[suffix]


def _open(path: Path) -> gzip.GzipFile | io.BufferedReader:
    try:
        return gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb")
    except OSError as error:
        raise RecordingError(f"{path}: cannot be opened: {error}") from error


def _lines(file: Iterable[bytes], path: Path) -> Iterator[bytes]:
    """Lines with their line ends; the errors of a broken archive are told in words."""
    try:
        yield from file
    except EOFError as error:
        raise RecordingError(f"{path}: the gzip file ends too early; copy or download it again") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise RecordingError(
            f"{path}: not a sound gzip file ({error}); copy it again, or drop .gz from its name"
        ) from None
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read: {error}") from error


def _batched(items: Iterable[Row]) -> Iterator[list[Row]]:
    source = iter(items)
    while some := list(itertools.islice(source, SLICE)):
        yield some


def _dicts(names: list[str], columns: list[list[Any]]) -> Iterator[Row]:
    for values in zip(*columns, strict=True):
        yield dict(zip(names, values, strict=True))


# CSV. Read as text in slices of our own: the slices of polars differ between its versions, and it types a column by its
# first rows or by rereading the file.


def _csv_slices(path: Path) -> Iterator[pl.DataFrame]:
    """Frames of text columns; an empty cell is null."""
    with _open(path) as file:
        lines = _lines(file, path)
        header = next(lines, b"").removeprefix(b"\xef\xbb\xbf")
        names, separator = _header(header, path)
        first = 2
        while some := _slice(lines, path, first):
            yield _csv_frame(header, b"".join(some), names, separator, path, first)
            first += len(some)


def _slice(lines: Iterator[bytes], path: Path, first: int) -> list[bytes]:
    """The next lines, ending where no quoted cell is open, so that a line break inside quotes does not cut a row."""
    some = list(itertools.islice(lines, SLICE))
    quotes = sum(line.count(b'"') for line in some)
    while quotes % 2:
        line = next(lines, None)
        if line is None:
            opened = first + next(i for i, line in enumerate(some) if line.count(b'"') % 2)
            raise RecordingError(
                f"{path}:{opened}: a quote is opened and never closed; close it, or double it in a cell"
            )
        some.append(line)
        quotes += line.count(b'"')
    return some


def _header(line: bytes, path: Path) -> tuple[list[str], str]:
    if not line.strip():
        raise RecordingError(f"{path}: no header in line 1; the first line must name the columns")
    text = _decode(line, path, 1)
    separator = max(",;\t", key=text.count)
    names = [name.strip() for name in next(csv.reader([text], delimiter=separator))]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise RecordingError(f"{path}:1: the columns {twice} stand twice in the header; give each its own name")
    return names, separator


def _decode(data: bytes, path: Path, first: int) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = first + data.count(b"\n", 0, error.start)
        cure = "convert the file, for example with `iconv -f latin1 -t utf-8`"
        raise RecordingError(f"{path}:{line}: not UTF-8 (byte 0x{data[error.start]:02x}); {cure}") from None


def _csv_frame(header: bytes, data: bytes, names: list[str], separator: str, path: Path, first: int) -> pl.DataFrame:
    try:
        # With the header before every slice, a line with too few cells has its last ones empty, wherever it stands.
        frame = pl.read_csv(io.BytesIO(header + data), separator=separator, infer_schema=False)
        frame.columns = names
    except (pl.exceptions.PolarsError, ValueError) as error:
        text = _decode(data, path, first)
        line = _odd_line(text, len(names), separator)
        where = f"{path}:{first + line[0]}" if line else f"{path}: lines {first} and after"
        what = f"{line[1]} cells where the header names {len(names)} columns" if line else str(error).split("\n")[0]
        raise RecordingError(f"{where}: {what}; mend the line, or quote cells that hold {separator!r}") from error
    # An empty line between rows comes as a row of nothing.
    return frame.filter(~pl.all_horizontal(pl.all().is_null()))


def _odd_line(text: str, cells: int, separator: str) -> tuple[int, int] | None:
    """Offset and number of cells of the first line with more cells than the header."""
    reader = csv.reader(io.StringIO(text), delimiter=separator)
    start = 0
    for row in reader:
        if len(row) > cells:
            return start, len(row)
        start = reader.line_num
    return None


def _scan_csv(path: Path) -> _Scan:
    stat = path.stat()
    return _scan_version(path, stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=16)
def _scan_version(path: Path, _modified: int, _size: int) -> _Scan:
    """One pass over the file, remembered until the file changes: `count_rows` and `rows` share it."""
    total: dict[str, list[int]] = {}
    count = 0
    for frame in _csv_slices(path):
        count += frame.height
        for name in frame.columns:
            text = frame[name].str.strip_chars()
            padded = int(text.str.contains(r"^[+-]?0[0-9]").sum() or 0)
            found = (
                text.count(),
                text.cast(pl.Float64, strict=False).count(),
                text.cast(pl.Int64, strict=False).count(),
                padded,
            )
            total[name] = [a + b for a, b in zip(total.get(name, [0, 0, 0, 0]), found, strict=True)]
    if not count:
        raise RecordingError(f"{path}: no rows; a header alone cannot be replayed")
    return _Scan({name: _column(*counts) for name, counts in total.items()}, count)


def _column(filled: int, numbers: int, whole: int, padded: int) -> _Column:
    if padded or 2 * numbers <= filled:
        return _Column("text", False)
    return _Column("int" if whole == numbers else "float", numbers < filled)


def _number(name: str, column: _Column) -> pl.Expr:
    """The column as its kind; a stray text becomes NaN, and whole numbers beside it floats, as NaN is one."""
    text = pl.col(name)
    if column.kind == "text":
        return text
    whole = column.kind == "int" and not column.stray
    value = text.str.strip_chars().cast(pl.Int64 if whole else pl.Float64, strict=False)
    if not column.stray:
        return value
    return pl.when(text.is_not_null() & value.is_null()).then(float("nan")).otherwise(value).alias(name)


def _cells(text: pl.Series, kind: Kind) -> list[Any]:
    """The column as Python values; a text among numbers stays as it is."""
    if kind == "text":
        return text.to_list()
    number = text.str.strip_chars().cast(pl.Int64 if kind == "int" else pl.Float64, strict=False)
    values: list[Any] = number.to_list()
    if number.null_count() > text.null_count():
        return [t if v is None else v for v, t in zip(values, text.to_list(), strict=True)]
    return values


# JSON lines.


def _json_lines(path: Path) -> Iterator[Row]:
    number = 0
    seen = False
    with _open(path) as file:
        for line in _lines(file, path):
            number += 1
            if not line.strip():
                continue
            seen = True
            yield _json_row(line, path, number)
    if not seen:
        raise RecordingError(f"{path}: no rows; write one JSON object a line")


def _json_row(line: bytes, path: Path, number: int) -> Row:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        # Python's own reader also takes NaN, Infinity and numbers of any length, which files in the wild hold.
        try:
            row = json.loads(_decode(line, path, number).strip().removeprefix("\ufeff"))
        except json.JSONDecodeError as error:
            where = f"{error.msg} at character {error.pos + 1}"
            raise RecordingError(f"{path}:{number}: not JSON ({where}); write one JSON object a line") from None
        except RecursionError:
            raise RecordingError(f"{path}:{number}: nested too deeply; write one flat JSON object a line") from None
    if not isinstance(row, dict):
        raise RecordingError(f"{path}:{number}: found {type(row).__name__}; write one JSON object a line")
    return row


# Parquet.


def _parquet_height(path: Path) -> int:
    try:
        height = int(pl.scan_parquet(path).select(pl.len()).collect().item())
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).split("\n")[0]
        raise RecordingError(f"{path}: not a sound Parquet file ({reason}); write or copy it again") from error
    if not height:
        raise RecordingError(f"{path}: no rows; there is nothing to replay")
    return height


def _parquet_slices(path: Path) -> Iterator[pl.DataFrame]:
    height = _parquet_height(path)
    for start in range(0, height, SLICE):
        try:
            yield pl.scan_parquet(path).slice(start, SLICE).collect()
        except (pl.exceptions.PolarsError, OSError) as error:
            reason = str(error).split("\n")[0]
            raise RecordingError(f"{path}: rows {start} and after cannot be read ({reason}); copy it again") from error


def _plain_column(column: pl.Series) -> list[Any]:
    values: list[Any] = column.to_list()
    if column.dtype.is_integer() or column.dtype.is_float() or column.dtype in (pl.String, pl.Boolean, pl.Null):
        return values
    return [_plain(value) for value in values]


def _plain(value: Any) -> Any:
    """A value of Parquet as JSON knows it: times as ISO 8601, bytes as text, decimals as float."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return float(value)
