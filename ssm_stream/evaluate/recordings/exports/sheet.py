"""Sheets of Excel and OpenDocument files as tables of text."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from ssm_stream.evaluate.recordings.files import RecordingError

INSTALL = "pip install 'ssm-stream[excel]'"


class Sheet(NamedTuple):
    """A sheet without a header.

    rows: its cells as text; numbers: whether each is a number, and no text; name: its own
    """

    rows: pl.DataFrame
    numbers: pl.DataFrame
    name: str


def read_sheet(path: Path, sheet: str | None) -> Sheet:
    """Return a sheet of a file; of several, that with most cells.

    Raises:
        RecordingError: the file is broken, has no such sheet, or the package for it is not installed.
    """
    try:
        import fastexcel
    except ImportError:
        raise RecordingError(f"{path}: to read sheets, install {INSTALL}; or save it as CSV") from None
    try:
        book = fastexcel.read_excel(path)
        names: list[str] = book.sheet_names
        if sheet is not None and sheet not in names:
            raise RecordingError(f"{path}: --read sheet={sheet}: no such sheet; its sheets: {', '.join(names)}")
        options: dict[str, Any] = {"header_row": None, "dtypes": "string"}
        sheets = [(name, book.load_sheet(name, **options)) for name in (names if sheet is None else [sheet])]
    except fastexcel.FastExcelError as error:
        reason = str(error).split("\n")[0]
        raise RecordingError(f"{path}: not a sound sheet ({reason}); save it again, or as CSV") from error
    name, found = max(sheets, key=lambda each: each[1].height * max(each[1].width, 1))
    frame = found.to_polars() if found.width else pl.DataFrame()
    rows = frame.select(map(_as_shown, frame.get_columns()))
    # What is read as true or false is a number (or true or false), and no text of one.
    numbers = book.load_sheet(name, **options | {"dtypes": "boolean"}).to_polars() if found.width else frame
    return Sheet(rows, numbers.select(pl.all().is_not_null()), name)


def _as_shown(cells: pl.Series) -> pl.Series:
    """Return cells with times of day without the day 0 that they are stored with, and dates without midnight."""
    cells = cells.str.replace(r"^18(?:99-12-3[01]|00-01-01) ", "")
    timed = cells.filter(cells.str.contains(r"^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:.]+$"))
    return cells.str.replace(" 00:00:00$", "") if len(timed) and timed.str.ends_with(" 00:00:00").all() else cells
