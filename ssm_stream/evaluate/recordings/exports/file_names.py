"""Folders with a file a machine: the name of the file is that of the machine."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import polars as pl

from ssm_stream.autoconfig.columns import FROM_MS, TO_MS
from ssm_stream.evaluate.recordings.exports.format import Format
from ssm_stream.ingest.timestamps import UNITS_PER_MS, iso_to_ms

COLUMN = "file"
MIN_COMMON = 0.1
"""Share of the shorter of two files' times that both have, where these are of two machines."""


def name_of(path: Path) -> str:
    """Return the name of a file without its suffixes."""
    return re.sub(r"(\.[A-Za-z]{2,7})(\.(gz|zst))?$", "", path.name)


def find_file_column(form: Format, ends: Sequence[pl.DataFrame]) -> str | None:
    """Return the name of a column for the names of the files, if these distinguish rows of the same time.

    So it is where two files have a good part of their time in common, and no column names each file's rows. A row or
    two that come again in the file of the next day do not count, and neither do files without rows.

    Args:
        form: of the files
        ends: first and last rows of each file, as text; empty of one without rows
    """
    if len(form.parts) < 2 or form.tags is not None:
        return None
    spans = [_span(rows, form) for rows in ends if rows.height]
    known = [span for span in spans if span is not None]
    if len(known) < len(spans) or not any(_overlap(a, b) for a, b in combinations(known, 2)):
        return None
    for j in range(len(form.parts[0].head.names)):
        values = [{row[j] for row in part.head.rows if j < len(row)} for part in form.parts if part.head.rows]
        if all(len(each) == 1 for each in values) and len(set.union(*values)) == len(values):
            return None
    name = COLUMN
    while name in form.parts[0].head.names:
        name += "_"
    return name


def _overlap(a: tuple[float, float], b: tuple[float, float]) -> bool:
    """Return whether two spans of time have a good part of the shorter in common."""
    common = min(a[1], b[1]) - max(a[0], b[0])
    return a == b or (common > 0 and common >= MIN_COMMON * min(a[1] - a[0], b[1] - b[0]))


def _span(rows: pl.DataFrame, form: Format) -> tuple[float, float] | None:
    """Return the earliest and the latest time of the first and the last rows of a file; the last may be a footer."""
    ends = form.cells(form.columns(rows))
    dated = [name for name, _ in form.dates]
    for name in (*dated, *(name for name in ends.columns if name not in dated)):
        times = [_time(text) for text in ends[name].to_list()]
        if times[0] is not None:
            found = [time for time in times if time is not None]
            return min(found), max(found)
    return None


def _time(text: str | None) -> float | None:
    """Return a time in ISO 8601, or as a number since 1970, in ms; None if it is none."""
    try:
        return iso_to_ms(text or "")
    except (ValueError, TypeError, OverflowError):
        pass
    try:
        number = float(text or "")
    except ValueError:
        return None
    return next((ms for per_ms in UNITS_PER_MS.values() if FROM_MS <= (ms := number / per_ms) < TO_MS), None)
