"""Events of a recording by whole columns: what `EventReader` makes of its rows, without a dict a row.

A slice with anything that `EventReader` would refuse, or that this reader cannot read, goes through it row by row. So
both ways give the same events and the same refusals.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ssm_stream.config import MAX_NAME_LENGTH, Event
from ssm_stream.config.paths import columns_of, is_flat
from ssm_stream.evaluate.recordings.frames import Slice
from ssm_stream.ingest.assembler import Columns
from ssm_stream.ingest.entity_filter import entity_filter
from ssm_stream.ingest.events import (
    MAX_NUMBER,
    EventReader,
    Events,
    RefusedDocument,
    select_entities,
    stack_targets,
    text_code,
)
from ssm_stream.ingest.rows.reader import MessageReader
from ssm_stream.ingest.timestamps import MAX_MS, MIN_MS, to_milliseconds

ISO = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-5][0-9](?:\.[0-9]{1,6})?"
ZONES = {r"$": "", r"Z$": "Z", r"[+-][0-9]{2}:[0-9]{2}$": "%:z"}
"""The end of a time: a pattern, and the directive for it."""


class ColumnReader:
    """Reads slices of a recording by the `event` section of the configuration.

    Attributes:
        names: the columns of the file that it reads

    Raises:
        ConfigError: `event.features` is `auto`, and no features are selected yet.
    """

    def __init__(self, event: Event) -> None:
        self._messages, self._facts = MessageReader(event), event.facts
        self._event = event = self._messages.event
        self._by_row, self._only = EventReader(event), entity_filter(event.only)
        paths = self._by_row.paths
        self.names = {name for path in paths for name in columns_of(path)}

    def read(self, part: Slice) -> tuple[Events, list[RefusedDocument]]:
        """Return the events of a slice, and the refusals, both in order of position: messages, where these are no rows
        yet."""
        events = self._by_column(part) if part.height else None
        events, refused = self._by_row.read(part.rows()) if events is None else (events, [])
        if part.came is not None and self._facts:
            events = replace(events, came=part.came[events.position])
        return self._messages.translate(events, refused)

    def _by_column(self, part: Slice) -> Events | None:
        """Return the events; None if the rows must be read one by one."""
        event, paths = self._event, self._by_row.paths
        found = [part.column(path) for path in paths]
        columns = [column for column in found if column is not None]
        # A nested value, or a column that holds more than one type.
        if len(columns) < len(paths) or any(
            not is_flat(path) and column.dtype == pl.Null for path, column in zip(paths, columns, strict=True)
        ):
            return None
        first, numbers = 2 + len(event.targets), len(self._by_row.derived.paths)
        named = columns[0]
        readable = named.dtype in (pl.String, pl.Null) or named.dtype.is_integer()
        if event.entity_default is not None and readable and named.null_count():
            named = named.cast(pl.String).fill_null(event.entity_default)
        entity, ts = _names(named), self._times(columns[1])
        targets = [_numbers(column, truth=False) for column in columns[2:first]]
        features = [_numbers(column, truth=True) for column in columns[first : first + numbers]]
        texts: dict[float, str] = {}
        features += [_categories(column, texts) for column in columns[first + numbers :]]
        if entity is None or ts is None:
            return None
        usable = [[column for column in some if column is not None] for some in (targets, features)]
        if len(usable[0]) < len(targets) or len(usable[1]) < len(features):
            return None
        target = stack_targets(usable[0], part.height)
        together = np.stack(usable[1], axis=1) if features else np.empty((part.height, 0))
        read = Columns(entity, ts, together, target, np.arange(part.height), texts or None)
        return select_entities(self._by_row.assembler(read), self._only)

    def _times(self, column: pl.Series) -> NDArray[np.int64] | None:
        form, dtype = self._event.timestamp_format, column.dtype
        if column.null_count():
            return None
        if dtype.is_integer() or dtype.is_float():
            return None if form == "iso" else to_milliseconds(column.cast(pl.Float64).to_numpy(), form)
        if form not in ("auto", "iso"):
            return None
        if dtype == pl.String:
            found = _iso(column)
            if found is None:
                return None
            column = found
        elif not isinstance(dtype, pl.Datetime | pl.Date):
            return None
        zoned = isinstance(column.dtype, pl.Datetime) and column.dtype.time_zone is not None
        if not zoned and self._event.time_zone != "UTC":
            return None
        if column.dtype == pl.Date:
            column = column.cast(pl.Datetime("us"))
        assert isinstance(column.dtype, pl.Datetime)
        ms = column.to_physical().to_numpy() // {"ms": 1, "us": 1_000, "ns": 1_000_000}[column.dtype.time_unit]
        return ms if np.all((ms >= MIN_MS) & (ms <= MAX_MS)) else None


def _iso(column: pl.Series) -> pl.Series | None:
    """Return times, if all texts are of one common form of ISO 8601: in UTC with an offset, else without a zone."""
    for end, directive in ZONES.items():
        if not column.str.contains(ISO + end).all():
            continue
        separator = "T" if column[0][10] == "T" else " "
        if directive == "Z":
            column, directive = column.str.strip_suffix("Z") + "+00:00", "%:z"
        form = f"%Y-%m-%d{separator}%H:%M:%S%.f{directive}"
        times = column.str.strptime(pl.Datetime("us"), form, strict=False)
        return None if times.null_count() else times
    return None


def _names(column: pl.Series) -> list[str] | None:
    if column.dtype.is_integer():
        column = column.cast(pl.String)
    if column.dtype != pl.String or column.null_count():
        return None
    codes, texts = _distinct(column)
    if texts is None or "" in texts:
        return None
    if len(texts) == 1:
        return texts * len(column)
    names: list[str] = np.array(texts, object)[codes].tolist()
    return names


def _distinct(column: pl.Series) -> tuple[NDArray[np.int64], list[str] | None]:
    """Return the place of each cell among the distinct texts, −1 for null, and these; None if one is too long."""
    cells = column.cast(pl.Categorical)
    distinct = cells.drop_nulls().unique()
    texts = distinct.cast(pl.String)
    if (texts.str.len_chars().max() or 0) > MAX_NAME_LENGTH:  # type: ignore[operator]
        return np.empty(0, np.int64), None
    # Polars numbers the texts of all columns of the process together.
    numbers = distinct.to_physical().cast(pl.Int64).to_numpy()
    table = np.full(numbers.max(initial=-1) + 2, -1)
    table[numbers] = np.arange(len(numbers))
    codes: NDArray[np.int64] = table[cells.to_physical().cast(pl.Int64).fill_null(len(table) - 1).to_numpy()]
    return codes, texts.to_list()


def _numbers(column: pl.Series, *, truth: bool) -> NDArray[np.float64] | None:
    """Return numbers with NaN for null; None if one is not finite or too large, or no number."""
    dtype = column.dtype
    if not (dtype.is_integer() or dtype.is_float() or dtype == pl.Null or (truth and dtype == pl.Boolean)):
        return None
    values: NDArray[np.float64] = column.cast(pl.Float64).fill_null(np.nan).to_numpy()
    with np.errstate(invalid="ignore"):
        usable = np.count_nonzero(np.abs(values) <= MAX_NUMBER)
    return values if usable + column.null_count() == len(values) else None


def _categories(column: pl.Series, text_by_code: dict[float, str]) -> NDArray[np.float64] | None:
    """Return codes and numbers of a category, and add the texts of its codes to `text_by_code`."""
    if column.dtype != pl.String:
        return _numbers(column, truth=True)
    codes, texts = _distinct(column)
    if texts is None:
        return None
    numbers = [text_code(text) for text in texts]
    text_by_code.update(zip(numbers, texts, strict=True))
    return np.array([*numbers, np.nan])[codes]
