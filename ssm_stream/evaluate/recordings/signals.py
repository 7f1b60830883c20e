"""The signals of a file of readings."""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from ssm_stream.config import Config, ConfigError
from ssm_stream.config.suggestions import missing_signals
from ssm_stream.evaluate.recordings.frames import Slice
from ssm_stream.ingest.rows.names import signal_getter


def check_signals(config: Config, slices: Iterable[Slice], place: str) -> None:
    """Check that a file of readings has each configured signal; reads it only as far as needed.

    Raises:
        ConfigError: names the missing signal and the nearest one.
    """
    event, seen = config.event, set[str]()
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
            return
    raise ConfigError("\n".join(missing))
