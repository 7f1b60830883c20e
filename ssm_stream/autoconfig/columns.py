"""What the columns of a sample look like: names taken apart, kinds of values, times, and the order of the rows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ssm_stream.autoconfig.feature_selection import columns_of, is_number
from ssm_stream.config import MAX_NAME_LENGTH
from ssm_stream.ingest.events import FIRST_MS, LAST_MS, UNITS_PER_MS, tells_time

FULL = 0.99
"""Share of rows that must have an entity or a time, as those without are refused."""
FROM_MS, TO_MS = 946_684_800_000.0, 4_102_444_800_000.0
"""2000 to 2100: numbers within are taken for times."""


def words(path: str) -> list[str]:
    """The words of a column's name, in small letters: `payload.machineId` → payload, machine, id."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", path)
    return re.findall(r"[a-z]+|[0-9]+", spaced.lower())


@dataclass(frozen=True)
class Column:
    """A column of a sample of n rows. values: row → value, without nulls; place: among the columns"""

    path: str
    values: dict[int, Any]
    n: int
    place: int

    @cached_property
    def name(self) -> list[str]:
        """Words of the last part of the path."""
        return words(self.path.rpartition(".")[2])

    @cached_property
    def kind(self) -> Literal["number", "whole", "flag", "text", "mixed"]:
        """What most of its values are; a few strays among numbers do not count."""
        kinds = [type(value) for value in self.values.values()]
        if all(kind is bool for kind in kinds):
            return "flag"
        if all(kind is int for kind in kinds):
            return "whole"
        if sum(map(is_number, self.values.values())) >= 0.95 * len(kinds):
            return "number"
        return "text" if all(kind is str for kind in kinds) else "mixed"

    @cached_property
    def distinct(self) -> int:
        """Different values; 0 where there are lists or objects among them."""
        try:
            return len(set(self.values.values()))
        except TypeError:
            return 0

    @property
    def full(self) -> bool:
        """Hardly a row lacks it."""
        return len(self.values) >= FULL * self.n

    @property
    def names_things(self) -> bool:
        """Text or whole numbers, such as may be the name of an entity."""
        if not self.full or self.kind not in ("text", "whole") or not self.distinct:
            return False
        return all(0 < len(str(value)) <= MAX_NAME_LENGTH for value in self.values.values())

    @cached_property
    def numbers(self) -> NDArray[np.float64]:
        """The numbers (n,), NaN where there is none."""
        out = np.full(self.n, np.nan)
        for i, value in self.values.items():
            if is_number(value):
                out[i] = value
        return out


def columns(documents: Sequence[dict[str, Any]]) -> list[Column]:
    """The columns of a sample, in the order in which they appear, without those that are always null."""
    found, _ = columns_of(documents)
    order = [path for path, values in found.items() if values]
    return [Column(path, found[path], len(documents), place) for place, path in enumerate(order)]


def time_format(column: Column) -> str | None:
    """How its values tell a time, as `timestamp_format` has it; None: they do not."""
    if not column.full:
        return None
    some = list(column.values.values())[:: max(len(column.values) // 500, 1)]
    if column.kind == "text":
        return "iso" if sum(map(tells_time, some)) >= FULL * len(some) else None
    if column.kind not in ("number", "whole") or column.distinct < min(3, column.n):
        return None
    numbers = column.numbers[~np.isnan(column.numbers)]
    fits = [form for form, per_ms in UNITS_PER_MS.items() if _within(numbers / per_ms, FROM_MS, TO_MS)]
    return fits[0] if fits else None


def _within(numbers: NDArray[np.float64], low: float, high: float) -> bool:
    return bool(np.all((numbers >= low) & (numbers < high)))


def counts_seconds(column: Column) -> bool:
    """Numbers that may be seconds since some beginning: `t`, from 0 on."""
    numbers = column.numbers[~np.isnan(column.numbers)]
    usable = column.full and column.kind in ("number", "whole") and column.distinct > 2
    return usable and _within(numbers * 1000.0, max(FIRST_MS, 0), LAST_MS)


def has_offset(column: Column) -> bool:
    """Whether its texts say which zone they are in."""
    first = next((v for v in column.values.values() if isinstance(v, str) and tells_time(v)), "")
    return bool(re.search(r"[T ][0-9:.,]+(?:Z|[+-][0-9:]+)$", first))


def disorder(names: Sequence[Any] | None, ts: NDArray[np.int64]) -> int:
    """Rows whose time is not after that of their entity's row before. names: of each row; None: all are one entity's"""
    if names is None:
        return int(np.count_nonzero(np.diff(ts) <= 0))
    last: dict[Any, int] = {}
    count = 0
    for name, t in zip(names, ts.tolist(), strict=True):
        if name in last and t <= last[name]:
            count += 1
        last[name] = t
    return count


def step_of(names: Sequence[str], ts: NDArray[np.int64]) -> float:
    """Median time between two rows of an entity, s; NaN where none has two."""
    last: dict[str, int] = {}
    gaps = []
    for name, t in zip(names, ts.tolist(), strict=True):
        if name in last and t > last[name]:
            gaps.append(t - last[name])
        last[name] = t
    return float(np.median(gaps)) / 1000 if gaps else float("nan")
