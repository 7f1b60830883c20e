"""Notations of numbers: a decimal comma, and separators between thousands."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import polars as pl

from ssm_stream.evaluate.recordings.exports.cells import SPACES, is_number

GROUPS = {".": rf"[,{SPACES}]", ",": rf"[.{SPACES}]"}
"""Decimal sign → separators between thousands."""


class Notation(NamedTuple):
    """How the numbers of a file are written."""

    decimal: str = "."
    grouped: bool = False
    """Whether there are separators between thousands."""

    @property
    def is_plain(self) -> bool:
        """Whether the numbers can be read as they stand."""
        return self == Notation()

    @property
    def pattern(self) -> str:
        """Regular expression of a number."""
        decimal = re.escape(self.decimal)
        whole = rf"(?:[0-9]{{1,3}}(?:{GROUPS[self.decimal]}[0-9]{{3}})+|[0-9]+)"
        return rf"^\s*[+-]?(?:{whole}(?:{decimal}[0-9]*)?|{decimal}[0-9]+)(?:[eE][+-]?[0-9]+)?\s*$"

    def plain(self, name: str) -> pl.Expr:
        """Return a column with its numbers as plain ones; other texts stay."""
        text = pl.col(name)
        if self.is_plain:
            return text
        number = (
            text.str.strip_chars()
            .str.replace_all(GROUPS[self.decimal], "")
            .str.replace(self.decimal, ".", literal=True)
        )
        return pl.when(text.str.contains(self.pattern)).then(number).otherwise(text).alias(name)

    def count_foreign(self, frame: pl.DataFrame) -> dict[str, int]:
        """Return the number of cells of each column that are numbers in another notation only."""
        other = Notation("." if self.decimal == "," else ",", True).pattern
        cells = (pl.col(name) for name in frame.columns)
        found = frame.select((each.str.contains(other) & ~each.str.contains(self.pattern)).sum() for each in cells)
        return dict(found.row(0, named=True))


def find_notation(columns: Sequence[Sequence[str]], delimiter: str, decimal: str | None = None) -> Notation:
    """Return how numbers are written in the cells of columns. decimal: if it is given"""
    points = commas = groups = 0  # what only a decimal point, only a decimal comma and only a separator can be
    doubtful: list[list[str]] = []  # columns with `1,234`
    for cells in columns:
        numbers = [cell.strip() for cell in cells if is_number(cell)]
        if 2 * len(numbers) <= sum(bool(cell.strip()) for cell in cells):
            continue
        for cell in numbers:
            sign = _decimal(cell)
            points, commas = points + (sign == "."), commas + (sign == ",")
            groups += any(letter in SPACES for letter in cell)
            groups += ("," in cell and "." in cell) or cell.count(",") > 1 or cell.count(".") > 1
        if any("," in cell for cell in numbers):
            doubtful.append(numbers)
    if decimal is None:
        decimal = "," if commas > points or (not points and doubtful and not _are_thousands(doubtful)) else "."
    grouped = bool(groups) or (decimal == "." and bool(doubtful)) or decimal == ","
    return Notation(decimal, grouped)


def _decimal(cell: str) -> str | None:
    """Return the decimal sign of a number if there is no doubt about it."""
    last = max(cell.rfind("."), cell.rfind(","))
    if last < 0:
        return None
    sign, before, after = cell[last], cell[:last].lstrip("+-"), re.split("[eE]", cell[last + 1 :])[0]
    if sign in before:
        return None  # the same sign twice: both are separators
    other = "," if sign == "." else "."
    if other in before:
        return sign
    return None if len(after) == 3 and 1 <= len(before) <= 3 and before not in ("0", "") else sign


def _are_thousands(columns: list[list[str]]) -> bool:
    """Return whether the commas of `1,234` separate thousands: only numbers of up to three digits have none."""
    for numbers in columns:
        bare = [cell for cell in numbers if "," not in cell]
        if bare and all(len(cell.lstrip("+-")) <= 3 for cell in bare):
            return True
    return False
