"""Parquet recordings."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import polars as pl

from ssm_stream.evaluate.recordings.document_columns import PLACE
from ssm_stream.evaluate.recordings.files import RecordingError
from ssm_stream.evaluate.recordings.frames import SLICE
from ssm_stream.evaluate.recordings.topic_file import is_recorded

CELLS = 2_000_000
"""Cells that are read at a time, 16 MB: each read decodes anew the group of rows it begins in."""


def parquet_height(path: Path) -> int:
    """Return the number of rows, from the footer. Raises RecordingError for a broken file or one without rows."""
    try:
        height = int(pl.scan_parquet(path).select(pl.len()).collect().item())
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).split("\n")[0]
        raise RecordingError(f"{path}: not a sound Parquet file ({reason}); write or copy it again") from error
    if not height:
        raise RecordingError(f"{path}: no rows; there is nothing to replay")
    return height


def parquet_columns(path: Path) -> list[str]:
    """Return the names of the columns, without those that `ssm-stream record` adds."""
    names = _all_columns(path)
    return [name for name in names if name not in PLACE] if is_recorded(names) else names


def is_recorded_topic(path: Path) -> bool:
    """Return whether `ssm-stream record` wrote the file."""
    return is_recorded(_all_columns(path))


def _all_columns(path: Path) -> list[str]:
    parquet_height(path)
    return pl.scan_parquet(path).collect_schema().names()


def parquet_head(path: Path, rows: int) -> dict[str, list[Any]]:
    """Return the values of each column of plain values in the first rows, None for those without."""
    parquet_height(path)
    frame = pl.scan_parquet(path).head(rows).collect()
    return {each.name: each.to_list() for each in frame if not each.dtype.is_nested()}


def parquet_slices(path: Path, names: Collection[str] | None = None) -> Iterator[pl.DataFrame]:
    """Yield frames of up to 50,000 rows. names: of the columns to read; None: all"""
    height = parquet_height(path)
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
