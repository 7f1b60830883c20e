"""Recorded files as rows: CSV, JSON lines (both also gzipped) and Parquet.

A `Recording` gives dicts of native Python values, in file order: the form of an event as it comes from the topic. Its
`slices` give the same rows some at a time, as dicts or by column. `read_recording(path)` gives polars frames. A file is
read slice by slice, so its size is not bounded by memory.

A CSV column holds numbers when most of its filled cells, over the whole file, are numbers. A stray text in it ("NaN",
"n/a") does not spoil the file: a row keeps it as it stands, `read_recording` shows NaN there, and the event decoder
refuses that row only. Numbers written with leading zeros ("007") are names and stay text.
"""

from __future__ import annotations

import contextlib
import csv
import datetime
import functools
import gzip
import io
import itertools
import json
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import orjson
import polars as pl

SLICE = 50_000
"""Rows of a slice."""
CELLS = 8_000_000
"""Cells of a Parquet file that are read at a time, 64 MB: each read decodes anew the group of rows it begins in."""
BLOCK = 4_000_000
"""Bytes of a CSV file that are read at a time."""
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


class Slice(NamedTuple):
    """Some rows of a recording, in file order.

    rows(): as dicts; len(slice) of them: `height`
    column(name): the column, where all its cells are of one plain type (a name that no row has: all null); else None
    """

    height: int
    rows: Callable[[], list[Row]]
    column: Callable[[str], pl.Series | None]


class Recording:
    """The rows of a file as dicts: numbers as int or float, an empty cell as None, nested JSON as it is.

    Times stay text in CSV and JSON; Parquet's dates and times become ISO 8601 text. A CSV line whose
    cells are all empty is no row.

    Args:
        path: of the file
        limit: only so many rows; None: all

    Raises:
        RecordingError: as `read_recording`, when the first row is asked for.
    """

    def __init__(self, path: str | Path, limit: int | None = None) -> None:
        self.path, self.limit = Path(path), limit

    def __iter__(self) -> Iterator[Row]:
        for part in self.slices():
            yield from part.rows()

    def slices(self, names: Collection[str] | None = None) -> Iterator[Slice]:
        """The rows, up to 50,000 at a time; with `names`, of Parquet these columns only (those that there are)."""
        kind = _format(self.path)
        columns = _scan_csv(self.path).columns if kind == "csv" else {}
        left = self.limit
        for part in self._parts(kind, names):
            some = part if left is None else part[:left]
            if kind == "csv":
                yield Slice(len(some), partial(_csv_rows, some, columns), partial(_csv_column, some, columns))
            elif kind == "jsonl":
                yield Slice(len(some), partial(list, some), lambda _: None)
            else:
                yield Slice(len(some), partial(_parquet_rows, some), partial(_parquet_column, some))
            if left is not None:
                left -= len(some)
                if not left:
                    return

    def _parts(self, kind: str, names: Collection[str] | None) -> Iterator[Any]:
        """Frames of text (CSV) or of the file's types (Parquet), or lists of rows."""
        if kind == "csv":
            return _csv_slices(self.path)
        return _batched(_json_lines(self.path)) if kind == "jsonl" else _parquet_slices(self.path, names)


def rows(path: str | Path) -> Iterator[Row]:
    """The rows of a `Recording`, one by one."""
    return iter(Recording(path))


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
    """Lines with their line ends."""
    with _readable(path):
        yield from file


def _read(file: gzip.GzipFile | io.BufferedReader, path: Path, size: int) -> bytes:
    with _readable(path):
        return file.read(size)


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """The errors of a broken archive are told in words."""
    try:
        yield
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


def _dicts(names: list[str], columns: list[list[Any]]) -> list[Row]:
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


# CSV. Read as text in slices of our own: the slices of polars differ between its versions, and it types a column by its
# first rows or by rereading the file.


def _csv_slices(path: Path) -> Iterator[pl.DataFrame]:
    """Frames of text columns; an empty cell is null."""
    with _open(path) as file:
        with _readable(path):
            first_line = file.readline()
        header = first_line.removeprefix(b"\xef\xbb\xbf")
        names, separator = _header(header, path)
        first = 2
        for some in _texts(file, path):
            yield _csv_frame(header, some, names, separator, path, first)
            first += some.count(b"\n")


def _texts(file: gzip.GzipFile | io.BufferedReader, path: Path) -> Iterator[bytes]:
    """The lines that are left, up to `SLICE` rows at a time; a line break inside quotes does not cut a row."""
    first, rest, more = 2, b"", True
    while more:
        block = _read(file, path, max(BLOCK, len(rest)))
        more, rest = bool(block), rest + block
        letters = np.frombuffer(rest, np.uint8)
        ends = np.flatnonzero(letters == ord("\n")) + 1
        ends = ends[np.searchsorted(np.flatnonzero(letters == ord('"')), ends) % 2 == 0]
        start = 0
        for end in [*ends[SLICE - 1 :: SLICE].tolist(), *ends[-1:].tolist()]:
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
        for name, found in frame.select(map(_counts, frame.columns)).to_dicts()[0].items():
            total[name] = [a + b for a, b in zip(total.get(name, [0, 0, 0, 0]), found, strict=True)]
    if not count:
        raise RecordingError(f"{path}: no rows; a header alone cannot be replayed")
    return _Scan({name: _column(*counts) for name, counts in total.items()}, count)


def _counts(name: str) -> pl.Expr:
    """Cells of a text column that are filled, numbers, whole numbers, and numbers with leading zeros."""
    text = pl.col(name).str.strip_chars()
    numbers = [text.cast(kind, strict=False).count() for kind in (pl.Float64, pl.Int64)]
    padded = text.str.contains(r"^[+-]?0[0-9]").sum()
    return pl.concat_list(*(count.cast(pl.Int64) for count in (text.count(), *numbers, padded))).alias(name)


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


def _csv_rows(frame: pl.DataFrame, columns: dict[str, _Column]) -> list[Row]:
    return _dicts(frame.columns, [_cells(frame[name], columns[name].kind) for name in frame.columns])


def _csv_column(frame: pl.DataFrame, columns: dict[str, _Column], name: str) -> pl.Series | None:
    if name not in columns:
        return pl.Series([None]).new_from_index(0, len(frame))
    text = frame[name]
    number = _parsed(text, columns[name].kind)
    return None if number.null_count() > text.null_count() else number


def _parsed(text: pl.Series, kind: Kind) -> pl.Series:
    """The column as its kind; what is none is null."""
    if kind == "text":
        return text
    return text.str.strip_chars().cast(pl.Int64 if kind == "int" else pl.Float64, strict=False)


def _cells(text: pl.Series, kind: Kind) -> list[Any]:
    """The column as Python values; a text among numbers stays as it is."""
    number = _parsed(text, kind)
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


def _parquet_slices(path: Path, names: Collection[str] | None = None) -> Iterator[pl.DataFrame]:
    height = _parquet_height(path)
    scan = pl.scan_parquet(path)
    if names is not None:
        scan = scan.select([name for name in scan.collect_schema().names() if name in names])
    width = max(len(scan.collect_schema()), 1)
    step = max(CELLS // width // SLICE, 1) * SLICE
    for start in range(0, height, step):
        try:
            frame = scan.slice(start, step).collect()
        except (pl.exceptions.PolarsError, OSError) as error:
            reason = str(error).split("\n")[0]
            raise RecordingError(f"{path}: rows {start} and after cannot be read ({reason}); copy it again") from error
        yield from frame.iter_slices(SLICE)


def _parquet_rows(frame: pl.DataFrame) -> list[Row]:
    return _dicts(frame.columns, [_plain_column(frame[name]) for name in frame.columns])


def _parquet_column(frame: pl.DataFrame, name: str) -> pl.Series | None:
    if name not in frame.columns:
        return pl.Series([None]).new_from_index(0, len(frame))
    column = frame[name]
    if isinstance(column.dtype, pl.Categorical | pl.Enum):
        return column.cast(pl.String)
    return None if column.dtype.is_nested() or column.dtype.is_decimal() else column


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
