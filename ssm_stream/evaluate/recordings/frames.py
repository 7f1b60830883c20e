"""Frames in memory: their rows as dicts, their columns as plain series, frames of other libraries as polars frames."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ssm_stream.evaluate.recordings.files import Row, to_dicts
from ssm_stream.ingest.json_values import plain_value

SLICE = 50_000
"""Rows of a slice."""
PLAIN = {bool, float, int, str}
"""Types of cells of which a whole column can be read at once."""


class Slice(NamedTuple):
    """Some rows of a recording, in file order."""

    height: int
    """Number of rows."""
    rows: Callable[[], list[Row]]
    """Returns them as dicts."""
    column: Callable[[str], pl.Series | None]
    """Returns a column if all its cells are of one plain type, else None; all null for a name that no row has."""
    came: NDArray[np.int64] | None = None
    """(height,) when the broker got each, ms; None if that is not read, or not known."""


def frame_slices(frame: pl.DataFrame) -> Iterator[Slice]:
    """Yield the rows of a frame in slices."""
    for part in frame.iter_slices(SLICE):
        yield typed_slice(part)


def typed_slice(frame: pl.DataFrame) -> Slice:
    """Return a frame with types of its own, as of Parquet, as a slice."""
    return Slice(len(frame), partial(_rows, frame), partial(_column, frame))


def to_polars(frame: Any, names: Collection[str]) -> pl.DataFrame:
    """Return the columns of these names of a frame (narwhals); what other libraries have for a missing value, NaN among
    it, becomes null."""
    chosen = [name for name in frame.columns if name in names]
    if frame.implementation.is_polars():
        table: pl.DataFrame = frame.select(*chosen).to_native()
        return table
    columns: dict[str, pl.Series] = {}
    for name in chosen:
        columns[name] = _series(name, frame[name])
    return pl.DataFrame(columns)


def _series(name: str, column: Any) -> pl.Series:
    """Return a column (narwhals) with null for missing cells. Cells of more than one type stay as they are, and are
    read one by one: a series of one type would make texts of all its numbers, or numbers of true and false."""
    pairs = zip(column.to_list(), column.is_null().to_list(), strict=True)
    cells = [None if null or (type(cell) is float and cell != cell) else cell for cell, null in pairs]
    kinds = {type(cell) for cell in cells if cell is not None}
    if column.dtype.is_temporal() or not kinds or (len(kinds) == 1 and kinds <= PLAIN):
        try:
            return pl.Series(name, cells)
        except (OverflowError, TypeError, UnicodeEncodeError):  # integers and texts that only Python has
            pass
    return pl.Series(name, cells, dtype=pl.Object)


def _rows(frame: pl.DataFrame) -> list[Row]:
    return to_dicts(frame.columns, [_cells(frame[name]) for name in frame.columns])


def _column(frame: pl.DataFrame, name: str) -> pl.Series | None:
    if name not in frame.columns:
        return pl.Series([None]).new_from_index(0, len(frame))
    column = frame[name]
    if isinstance(column.dtype, pl.Categorical | pl.Enum):
        return column.cast(pl.String)
    return None if column.dtype.is_nested() or column.dtype.is_decimal() else column


def _cells(column: pl.Series) -> list[Any]:
    values: list[Any] = column.to_list()
    if column.dtype.is_integer() or column.dtype.is_float() or column.dtype in (pl.String, pl.Boolean, pl.Null):
        return values
    return [plain_value(value) for value in values]
