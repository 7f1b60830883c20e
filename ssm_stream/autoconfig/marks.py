"""Numbers that may stand for no value, such as -999: they are learned as they stand, so a note names them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ssm_stream.autoconfig.columns import Column
from ssm_stream.autoconfig.target import runs_of

MIN_REPEATS = 3
"""How often a number must stand in a column to be a mark for no value."""
MIN_OTHERS = 10
"""Different other numbers that a measurement has at least; with fewer it is a level or a mode."""
MAX_SHARE, MAX_STRETCH = 0.02, 5.0
"""Share of the rows, and mean rows in a row, beyond which a number is that of a standstill: a pump that is off."""
SIZES = frozenset(2.0**bits for bits in (15, 16, 31, 32))
"""What whole numbers of so many bits end at: the lowest and the highest stand for no value, as nines do (-999)."""
MAX_NAMED = 3
"""Columns that a note names."""


class _Mark(NamedTuple):
    """number: the lowest or highest of a column; rows: that have it; low, high: range of the others; rare: whether it
    comes in few rows, now and then"""

    column: str
    number: float
    rows: int
    low: float
    high: float
    rare: bool

    @property
    def is_far(self) -> bool:
        """Whether it is further from the others than they are from each other."""
        return max(self.low - self.number, self.number - self.high) > self.high - self.low

    @property
    def is_nines(self) -> bool:
        """Whether it is such as programs write for none: 999, -9999."""
        size = abs(self.number)
        return size >= 99 and set(f"{size:.10g}") <= {"9", "."}

    @property
    def is_below_zero(self) -> bool:
        """Whether it is negative nines, and no other number is negative, however far the others reach."""
        return self.is_nines and self.number < 0.0 <= self.low

    @property
    def may_mean_none(self) -> bool:
        """Whether it may stand for no value: it is far and rare, or such as programs write for none."""
        size = abs(self.number)
        written = self.is_nines or bool(SIZES & {size, size + 1.0})
        return self.is_below_zero or (self.is_far and (self.rare or written))


def mark_notes(columns: Sequence[Column], owners: dict[int, Any], may_judge: bool = True) -> list[str]:
    """Return notes on numbers that repeat exactly far outside all others of their column, but 0 and those of a machine
    that stands still; and where the same number bounds further columns, with these.

    owners: row → name of its entity; may_judge: whether a value may be its own flag, in `event.quality`
    """
    found = [mark for column in columns for mark in _bounds(column, owners)]
    notes = []
    for number in dict.fromkeys(mark.number for mark in found if mark.may_mean_none):
        marks = sorted((mark for mark in found if mark.number == number), key=lambda mark: not mark.is_far)
        first, n = marks[0], max(column.n for column in columns)
        named = ", ".join(f"`{mark.column}` ({mark.rows})" for mark in marks[:MAX_NAMED])
        named += f" and {len(marks) - MAX_NAMED} others" if len(marks) > MAX_NAMED else ""
        off = "far from all others" if first.is_far else "below all others"
        where = f"{number:g} stands in {named} of {n} rows, {off} ({first.low:g} to {first.high:g})"
        bound = "above" if number < first.low else "below"
        cure = "where it means no value, write such cells empty (in messages null)"
        if may_judge:
            own = ", ".join(f"{mark.column!r}: {mark.column!r}" for mark in marks)
            cure += f", or take it for none by event.quality: {{columns: {{{own}}}, good: {{{bound}: {number:g}}}}}"
        notes.append(f"{where}, and is learned as a measurement: {cure}")
    return notes


def _bounds(column: Column, owners: dict[int, Any]) -> list[_Mark]:
    """Return the lowest and the highest number of a column, where they repeat and others differ."""
    if column.kind not in ("number", "whole"):
        return []
    numbers, counts = np.unique(column.numbers[np.isfinite(column.numbers)], return_counts=True)
    if len(numbers) <= MIN_OTHERS:
        return []
    bounds = ((0, numbers[1], numbers[-1]), (-1, numbers[0], numbers[-2]))
    ends = [(float(numbers[at]), int(counts[at]), low, high) for at, low, high in bounds]
    return [
        _Mark(column.path, number, rows, float(low), float(high), _is_rare(column, owners, number, rows))
        for number, rows, low, high in ends
        if rows >= MIN_REPEATS and number
    ]


def _is_rare(column: Column, owners: dict[int, Any], number: float, rows: int) -> bool:
    """Return whether a number comes in few rows, and not in long stretches of them."""
    if rows > MAX_SHARE * column.n:
        return False
    stretches = sum(
        bool(run[0] == number) + int(np.count_nonzero((run[1:] == number) & (run[:-1] != number)))
        for run in runs_of(column, owners)
    )
    return rows <= MAX_STRETCH * stretches
