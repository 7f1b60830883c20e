"""Recorded files as rows: CSV, JSON lines (both also gzipped) and Parquet.

A `Recording` gives dicts of native Python values, in file order: the form of an event as it comes from the topic. Its
`slices` give the same rows some at a time, as dicts or by column. `read_recording(path)` gives polars frames. A file is
read slice by slice, so its size is not bounded by memory.

A CSV column holds numbers when most of its filled cells, over the whole file, are numbers. A stray text in it ("NaN",
"n/a") does not spoil the file: a row keeps it as it stands, `read_recording` shows NaN there, and the event decoder
refuses that row only. Numbers written with leading zeros ("007") are names and stay text.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import polars as pl

from ssm_stream.evaluate.recordings.csv_file import csv_column, csv_rows, csv_slices, number, scan_csv
from ssm_stream.evaluate.recordings.file import RecordingError, Row, decode, lines_of, open_file, to_dicts

__all__ = ["Recording", "RecordingError", "Row", "Slice", "count_rows", "frame_slices", "read_recording", "rows"]

SLICE = 50_000
"""Rows of a slice."""
CELLS = 2_000_000
"""Cells of a Parquet file that are read at a time, 16 MB: each read decodes anew the group of rows it begins in."""
FORMATS = {
    ".csv": "csv",
    ".csv.gz": "csv",
    ".jsonl": "jsonl",
    ".jsonl.gz": "jsonl",
    ".ndjson": "jsonl",
    ".ndjson.gz": "jsonl",
    ".parquet": "parquet",
}


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
        columns = scan_csv(path).columns
        for frame in csv_slices(path, SLICE):
            yield frame.select(number(name, columns[name]) for name in frame.columns)
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
        columns = scan_csv(self.path).columns if kind == "csv" else {}
        left = self.limit
        for part in self._parts(kind, names):
            some = part if left is None else part[:left]
            if kind == "csv":
                yield Slice(len(some), partial(csv_rows, some, columns), partial(csv_column, some, columns))
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
            return csv_slices(self.path, SLICE)
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
        return scan_csv(path).rows
    if kind == "jsonl":
        with open_file(path) as file:
            return sum(1 for line in lines_of(file, path) if line.strip())
    return _parquet_height(path)


def _format(path: Path) -> str:
    suffix = next((s for s in sorted(FORMATS, key=len, reverse=True) if path.name.lower().endswith(s)), None)
    if suffix is None:
        raise RecordingError(f"{path}: unknown kind of file; name it {', '.join(FORMATS)}, by what it holds")
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "no such file"
        raise RecordingError(f"{path}: {found}; give the path of a recording ({', '.join(FORMATS)})")
    return FORMATS[suffix]


def _batched(items: Iterable[Row]) -> Iterator[list[Row]]:
    """A broken row is told of when those before it have been had."""
    some: list[Row] = []
    try:
        for item in items:
            some.append(item)
            if len(some) == SLICE:
                yield some
                some = []
    except RecordingError:
        if some:
            yield some
        raise
    if some:
        yield some


# JSON lines.


def _json_lines(path: Path) -> Iterator[Row]:
    number = 0
    seen = False
    with open_file(path) as file:
        for line in lines_of(file, path):
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
            row = json.loads(decode(line, path, number).strip().removeprefix("\ufeff"))
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


def frame_slices(frame: pl.DataFrame) -> Iterator[Slice]:
    """The rows of a frame in memory, as `Recording.slices` has those of a file."""
    for some in frame.iter_slices(SLICE):
        yield Slice(len(some), partial(_parquet_rows, some), partial(_parquet_column, some))


def _parquet_rows(frame: pl.DataFrame) -> list[Row]:
    return to_dicts(frame.columns, [_plain_column(frame[name]) for name in frame.columns])


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
