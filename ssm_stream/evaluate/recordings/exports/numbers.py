"""Notations of numbers: a decimal comma, and separators between thousands."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import NamedTuple

import polars as pl

from ssm_stream.evaluate.recordings.exports.cells import MINUS, NUMBER, SPACES, without_unit

GROUPS = {".": rf"[,{SPACES}]", ",": rf"[.{SPACES}]"}
"""Decimal sign → separators between thousands."""
MIN_MARKED = 20
"""Numbers with decimals to one without, where a few may have been written so."""


class Notation(NamedTuple):
    """How the numbers of a file are written."""

    decimal: str = "."
    grouped: bool = False
    """Whether there are separators between thousands."""
    minus: bool = False
    """Whether U+2212 is the sign of some."""
    certain: bool = False
    """Whether a number shows the decimal sign beyond doubt, or it is given."""
    spaced: bool = False
    """Whether blanks stand after the sign of some."""

    @property
    def is_plain(self) -> bool:
        """Whether the numbers can be read as they stand."""
        return self.decimal == "." and not (self.grouped or self.minus or self.spaced)

    def is_like(self, other: Notation) -> bool:
        """Return whether numbers are written alike in both."""
        return self._replace(certain=False) == other._replace(certain=False)

    @property
    def pattern(self) -> str:
        """Regular expression of a number."""
        decimal = re.escape(self.decimal)
        whole = rf"(?:[1-9][0-9]{{0,2}}(?:{GROUPS[self.decimal]}[0-9]{{3}})+|[0-9]+)"
        return rf"^\s*(?:[+{MINUS}-] *)?(?:{whole}(?:{decimal}[0-9]*)?|{decimal}[0-9]+)(?:[eE][+-]?[0-9]+)?\s*$"

    def plain(self, name: str) -> pl.Expr:
        """Return a column with its numbers as plain ones; other texts stay."""
        text = pl.col(name)
        if self.is_plain:
            return text
        number = (
            text.str.strip_chars()
            .str.replace_all(GROUPS[self.decimal], "")
            .str.replace(self.decimal, ".", literal=True)
            .str.replace(MINUS, "-", literal=True)
            .str.replace("^([+-]) +", "$1")
        )
        return pl.when(text.str.contains(self.pattern)).then(number).otherwise(text).alias(name)

    def count_foreign(self, frame: pl.DataFrame) -> dict[str, int]:
        """Return the number of cells of each column that are numbers in another notation only."""
        other = Notation("." if self.decimal == "," else ",", True).pattern
        cells = (pl.col(name) for name in frame.columns)
        found = frame.select((each.str.contains(other) & ~each.str.contains(self.pattern)).sum() for each in cells)
        return dict(found.row(0, named=True))


class Signs(NamedTuple):
    """What the cells of a column show of the decimal sign: numbers of cells, and ranges without signs of +, −."""

    filled: int = 0
    numbers: int = 0
    points: int = 0
    """With what only a decimal point can be."""
    commas: int = 0
    minus: int = 0
    """With U+2212."""
    groups: int = 0
    """With separators between thousands beyond doubt."""
    point_groups: int = 0
    """Such as 1.234.567."""
    comma_groups: int = 0
    point_marks: int = 0
    """Such as 1.234, which is a thousand or one and a bit."""
    comma_marks: int = 0
    bare: int = 0
    """With neither."""
    long: int = 0
    """Of these, those of more than three digits."""
    small: int = 0
    """Of these, the others, without zeros."""
    spaced: int = 0
    """With blanks after the sign."""
    small_range: tuple[float, float] = (math.inf, 0.0)
    marked_range: tuple[float, float] = (math.inf, 0.0)
    """Of `point_marks`, as decimals."""

    def plus(self, other: Signs) -> Signs:
        """Return what the cells of both show."""
        ranges = [(min(a[0], b[0]), max(a[1], b[1])) for a, b in zip(self[-2:], other[-2:], strict=True)]
        return Signs._make([*(a + b for a, b in zip(self[:-2], other[:-2], strict=True)), *ranges])

    def marks(self, sign: str) -> int:
        """Return how many cells have a sign that is that of decimals or of thousands."""
        return self.point_marks if sign == "." else self.comma_marks

    @property
    def has_comma_thousands(self) -> bool:
        """Whether commas separate thousands: only numbers of up to three digits have none."""
        return bool(self.comma_groups or (self.comma_marks and self.bare and not self.long))

    @property
    def has_point_thousands(self) -> bool | None:
        """Whether points separate thousands; None if that is not clear.

        As for commas. But a point is a decimal sign unless something speaks against it, and decimals, too, may have
        whole numbers among them: a zero, or a few within their range.
        """
        if not (self.point_marks and self.small) or self.long:
            return bool(self.point_groups)
        low, high = self.small_range
        if low < high and high > self.marked_range[1]:
            return True
        few = MIN_MARKED * self.small <= self.point_marks
        return False if few and self.marked_range[0] <= low and high <= self.marked_range[1] else None


def count_signs(column: pl.Series) -> Signs:
    """Return what the cells of a column of text show of the decimal sign."""
    text = column.drop_nulls().str.strip_chars()
    text = text.filter(text != "")
    numbers = text.filter(text.str.contains(f"^(?:{NUMBER.pattern})$") & text.str.contains("[0-9]"))
    if not len(numbers):
        return Signs(len(text))
    spaced = numbers.str.contains(f"^[+{MINUS}-] ")
    numbers = numbers.str.replace(f"^([+{MINUS}-]) +", "$1")
    minus = numbers.str.contains(MINUS, literal=True)
    numbers = numbers.str.replace(MINUS, "-", literal=True)
    point, comma = numbers.str.count_matches(".", literal=True), numbers.str.count_matches(",", literal=True)
    bare = numbers.filter((point == 0) & (comma == 0))
    short = bare.filter(bare.str.contains("^[+-]?[0-9]{1,3}$")).cast(pl.Int64, strict=False).abs()
    small = short.filter(short > 0)
    marked = numbers.filter(numbers.str.contains(_mark("."))).cast(pl.Float64, strict=False).abs()
    grouped = numbers.str.contains(f"[{SPACES}]") | ((point > 0) & (comma > 0)) | (point > 1) | (comma > 1)
    clear, groups = ([int(numbers.str.contains(of(sign)).sum()) for sign in ".,"] for of in (_last, _groups))
    marks = [len(marked), int(numbers.str.contains(_mark(",")).sum())]
    clear = [number - doubtful for number, doubtful in zip(clear, marks, strict=True)]
    wholes = [len(bare), len(bare) - len(short), len(small), int(spaced.sum())]
    counts = [len(text), len(numbers), *clear, int(minus.sum()), int(grouped.sum()), *groups, *marks, *wholes]
    return Signs._make([*counts, _range(small), _range(marked)])


def _last(sign: str) -> str:
    """Return the pattern of a number with a sign once, and no other after it."""
    return rf"^[^{sign}]*[{sign}][^.,]*$"


def _groups(sign: str) -> str:
    """Return the pattern of a number with a sign before several groups of three digits."""
    return rf"^[+-]?[0-9]{{1,3}}(?:[{sign}][0-9]{{3}}){{2,}}$"


def _mark(sign: str) -> str:
    """Return the pattern of a number of which a sign is that of decimals or of thousands."""
    return rf"^[+-]?[1-9][0-9]{{0,2}}[{sign}][0-9]{{3}}(?:[eE]|$)"


def _range(values: pl.Series) -> tuple[float, float]:
    return (float(values.min()), float(values.max())) if len(values) else (math.inf, 0.0)  # type: ignore[arg-type]


def find_notation(columns: Iterable[Signs], decimal: str | None = None) -> Notation:
    """Return how numbers are written in columns. decimal: if it is given"""
    some = [each for each in columns if 2 * each.numbers > each.filled]
    points, commas = sum(each.points for each in some), sum(each.commas for each in some)
    certain = decimal is not None or points + commas > 0
    doubtful = any(each.comma_marks for each in some)
    if decimal is None and certain:
        decimal = "," if commas > points else "."
    elif decimal is None:
        thousands = any(each.has_comma_thousands for each in some)
        decimal = "," if not thousands and (doubtful or any(each.has_point_thousands for each in some)) else "."
    grouped = decimal == "," or any(each.groups or each.commas or each.comma_marks for each in some)
    return Notation(decimal, grouped, any(each.minus for each in some), certain, any(each.spaced for each in some))


def is_doubtful(cell: str, sign: str, unit: str = "") -> bool:
    """Return whether the sign in a number, which has this unit, is that of decimals or of thousands."""
    return re.match(_mark(sign), without_unit(cell, unit).strip()) is not None
