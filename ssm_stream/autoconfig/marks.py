"""Numbers that may stand for no value, such as -999: they are learned as they stand, so a note names them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ssm_stream.autoconfig.columns import Column

MIN_REPEATS = 3
"""How often a number must stand in a column to be a mark for no value."""
MIN_OTHERS = 10
"""Different other numbers that a measurement has at least; with fewer it is a level or a mode."""
MAX_NAMED = 3
"""Columns that a note names."""


class _Mark(NamedTuple):
    """number: the lowest or highest of a column; rows: that have it; low, high: range of the others"""

    column: str
    number: float
    rows: int
    low: float
    high: float

    @property
    def is_far(self) -> bool:
        """Whether it is further from the others than they are from each other."""
        return max(self.low - self.number, self.number - self.high) > self.high - self.low


def mark_notes(columns: Sequence[Column]) -> list[str]:
    """Return notes on numbers that repeat exactly far outside all others of their column, but 0, as of a machine that
    stands still; and where the same number bounds further columns, with these."""
    found = [mark for column in columns for mark in _bounds(column)]
    notes = []
    for number in dict.fromkeys(mark.number for mark in found if mark.is_far):
        marks = sorted((mark for mark in found if mark.number == number), key=lambda mark: not mark.is_far)
        first, n = marks[0], max(column.n for column in columns)
        named = ", ".join(f"`{mark.column}` ({mark.rows})" for mark in marks[:MAX_NAMED])
        named += f" and {len(marks) - MAX_NAMED} others" if len(marks) > MAX_NAMED else ""
        where = f"{number:g} stands in {named} of {n} rows, far from all others ({first.low:g} to {first.high:g})"
        bound = "above" if number < first.low else "below"
        notes.append(
            f"{where}, and is learned as a measurement: where it means no value, write such cells empty (in messages "
            f"null), or leave the rows out with event.when: {{{first.column!r}: {{{bound}: {number:g}}}}}"
        )
    return notes


def _bounds(column: Column) -> list[_Mark]:
    """Return the lowest and the highest number of a column, where they repeat and others differ."""
    if column.kind not in ("number", "whole"):
        return []
    numbers, counts = np.unique(column.numbers[np.isfinite(column.numbers)], return_counts=True)
    if len(numbers) <= MIN_OTHERS:
        return []
    ends = ((0, numbers[1], numbers[-1]), (-1, numbers[0], numbers[-2]))
    return [
        _Mark(column.path, float(numbers[at]), int(counts[at]), float(low), float(high))
        for at, low, high in ends
        if counts[at] >= MIN_REPEATS and numbers[at]
    ]
