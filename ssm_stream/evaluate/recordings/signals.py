"""The signals of a file of readings."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable

import numpy as np
import polars as pl

from ssm_stream.config import Config, Event
from ssm_stream.config.suggestions import missing_signals
from ssm_stream.evaluate.recordings.column_reader import ColumnReader
from ssm_stream.evaluate.recordings.files import RecordingError
from ssm_stream.evaluate.recordings.frames import Slice
from ssm_stream.ingest.rows.columns import RowColumns
from ssm_stream.ingest.rows.names import signal_getter


def absent_signals(config: Config, slices: Iterable[Slice], place: str) -> list[str]:
    """Return an error sentence for each configured signal that a file of readings does not have; reads it only as far
    as needed."""
    event, seen, missing = config.event, set[str](), list[str]()
    path = event.signal or event.entity
    get = signal_getter(event)
    for part in slices:
        column = part.column(path)
        if column is not None and (column.dtype == pl.String or column.dtype.is_integer()):
            documents = [{path: each} for each in column.drop_nulls().unique().cast(pl.String).to_list()]
        else:
            documents = part.rows()
        seen.update(str(name) for each in documents if (name := get(each)) is not None)
        if not (missing := missing_signals(config, seen, place)):
            break
    return missing


def signal_texts(
    event: Event, signal: str, slices: Callable[[Collection[str]], Iterable[Slice]], most: int
) -> set[str]:
    """Return the different good values of a signal of text in readings.

    Args:
        event: of readings, the signal among its categories
        slices: returns slices of a recording with these columns
        most: number of values after which no more are searched
    """
    reader, found = ColumnReader(event), set[str]()
    place = RowColumns(event).names.index(signal)
    with contextlib.suppress(RecordingError):  # what can be read up to there is known
        for part in slices(reader.names):
            events, _ = reader.read(part)
            name, value, bad = events.features.T
            texts = events.category_texts or {}
            codes = np.unique(value[(name == place) & (bad == 0.0)]).tolist()
            found |= {texts[code] for code in codes if code in texts}
            if len(found) >= most:
                break
    return found
