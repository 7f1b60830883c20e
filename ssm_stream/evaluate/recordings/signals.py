"""The signals of a file of readings."""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from ssm_stream.config import Config
from ssm_stream.config.suggestions import missing_signals
from ssm_stream.evaluate.recordings.frames import Slice
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
