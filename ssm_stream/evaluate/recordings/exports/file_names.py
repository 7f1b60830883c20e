"""Folders with a file a machine: the name of the file is that of the machine."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import polars as pl

from ssm_stream.evaluate.recordings.exports.format import Format, Part
from ssm_stream.ingest.timestamps import iso_to_ms

COLUMN = "file"


def name_of(path: Path) -> str:
    """Return the name of a file without its suffixes."""
    return re.sub(r"(\.[A-Za-z]{2,7})(\.(gz|zst))?$", "", path.name)


def find_file_column(form: Format) -> str | None:
    """Return the name of a column for the names of the files, if these distinguish rows of the same time.

    So it is where files begin before the beginning of the one before them ends, and no column names each file's rows.
    """
    if len(form.parts) < 2 or form.tags is not None:
        return None
    spans = [_span(part, form) for part in form.parts]
    known = [span for span in spans if span is not None]
    if len(known) < len(spans) or not all(after[0] <= before[1] for before, after in pairwise(known)):
        return None
    for j in range(len(form.parts[0].head.names)):
        values = [{row[j] for row in part.head.rows if j < len(row)} for part in form.parts]
        if all(len(each) == 1 for each in values) and len(set.union(*values)) == len(values):
            return None
    name = COLUMN
    while name in form.parts[0].head.names:
        name += "_"
    return name


def _span(part: Part, form: Format) -> tuple[float, float] | None:
    """Return the first and the last time of the rows at the beginning of a file."""
    names, rows = part.head.names, part.head.rows
    if not rows:
        return None
    ends = pl.DataFrame([rows[0], rows[-1]], schema=list(names), orient="row", strict=False)
    ends = form.cells(form.columns(ends.cast(pl.String)))
    dated = [name for name, _ in form.dates]
    for name in (*dated, *(name for name in ends.columns if name not in dated)):
        try:
            first, last = (iso_to_ms(text) for text in ends[name].to_list())
        except (ValueError, TypeError, OverflowError):
            continue
        return first, last
    return None
