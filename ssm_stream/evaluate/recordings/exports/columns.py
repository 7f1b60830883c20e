"""What the columns of a frame of text hold: numbers, or text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, NamedTuple

import polars as pl

from ssm_stream.evaluate.recordings.exports.cells import MISSING
from ssm_stream.evaluate.recordings.exports.numbers import Notation

SAMPLE = 500
MIN_MIXED = 0.1
"""Share of numbers from which on it is worth a word that a column is text."""
PADDED = r"^[+-]?0[0-9]"
"""Regular expression of a number with zeros before it."""
Kind = Literal["text", "int", "float"]


class Column(NamedTuple):
    """What a column holds, and whether some of its filled cells are something else, or stand for no value."""

    kind: Kind
    stray: bool
    missing: bool = False


@dataclass(frozen=True)
class Counts:
    """Numbers of cells of a column of text."""

    PATTERN: ClassVar[str] = f"(?:{Notation('.', True).pattern})|(?:{Notation(',', True).pattern})"
    """Regular expression of a number in any notation."""
    filled: int = 0
    numbers: int = 0
    whole: int = 0
    padded: int = 0
    """With zeros before the number."""
    missing: int = 0
    """Texts that stand for no value."""
    foreign: int = 0
    """Numbers in another notation."""

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(a + b for a, b in zip(self._values, other._values, strict=True)))

    @property
    def _values(self) -> tuple[int, ...]:
        return self.filled, self.numbers, self.whole, self.padded, self.missing, self.foreign

    @property
    def is_foreign(self) -> bool:
        """Whether it is a column of numbers, some of them in another notation."""
        return (
            bool(self.foreign) and not self.has_names and 2 * (self.numbers + self.foreign) > self.filled - self.missing
        )

    @property
    def has_names(self) -> bool:
        """Whether whole numbers with zeros before them are names, such as 007; next to decimals they are numbers."""
        return self.padded > 0 and self.whole == self.numbers

    @property
    def is_mixed(self) -> bool:
        """Whether it is a column of text although many of its cells, and not all in the same way, are numbers."""
        if self.column().kind != "text":
            return False
        few = 2 * self.padded < self.numbers if self.has_names else self.numbers < self.filled - self.missing
        return few and self.numbers >= MIN_MIXED * (self.filled - self.missing)

    def column(self) -> Column:
        """Return what the column holds."""
        values = self.filled - self.missing
        if self.has_names or 2 * self.numbers <= values:
            return Column("text", False)
        kind: Kind = "int" if self.whole == self.numbers else "float"
        return Column(kind, self.numbers < values, self.missing > 0)


def count_cells(frame: pl.DataFrame) -> dict[str, Counts]:
    """Return what the cells of each column of text are."""
    numbers = frame.select(map(_number_counts, frame.columns)).row(0, named=True)
    found = {name: Counts(*counts) for name, counts in numbers.items()}
    # The rest takes time, and most columns of text show by their first cells that it is nothing.
    unclear = [
        name for name, counts in found.items() if counts.filled > counts.numbers and _may_be_numbers(frame[name])
    ]
    others = frame.select(map(_other_counts, unclear)).row(0, named=True) if unclear else {}
    for name, (missing, foreign) in others.items():
        found[name] = replace(found[name], missing=missing, foreign=foreign)
    return found


def _number_counts(name: str) -> pl.Expr:
    text = pl.col(name).str.strip_chars()
    value = text.cast(pl.Float64, strict=False)
    padded = text.str.contains(PADDED).sum()
    counts = (text.count(), value.is_not_nan().sum(), text.cast(pl.Int64, strict=False).count(), padded)
    return _listed(counts, name)


def _other_counts(name: str) -> pl.Expr:
    text = pl.col(name).str.strip_chars()
    value = text.cast(pl.Float64, strict=False)
    other = text.filter(text.is_not_null() & value.is_null())
    missing = other.str.to_lowercase().is_in(list(MISSING)).sum() + value.is_nan().sum()
    return _listed((missing, other.str.contains(Counts.PATTERN).sum()), name)


def _listed(counts: Sequence[pl.Expr], name: str) -> pl.Expr:
    return pl.concat_list(*(count.cast(pl.Int64) for count in counts)).alias(name)


def _may_be_numbers(column: pl.Series) -> bool:
    """Return whether a column's first cells have a number in any notation, or a text that stands for no value."""
    some = column.drop_nulls()[:SAMPLE]
    return bool(
        some.str.contains(Counts.PATTERN).any() or some.str.to_lowercase().str.strip_chars().is_in(list(MISSING)).any()
    )
