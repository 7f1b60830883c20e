"""Columns of a sample: the words of their names, kinds of values, time formats, and the order of their rows."""

from __future__ import annotations

import contextlib
import re
import shlex
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ssm_stream.autoconfig.date_numbers import is_date_number, may_be_days
from ssm_stream.autoconfig.feature_selection import (
    MAX_CATEGORY_VALUES,
    count_expected,
    is_number,
    spread_rows,
    values_by_column,
)
from ssm_stream.config import MAX_NAME_LENGTH
from ssm_stream.config.paths import PathError, has_list_step
from ssm_stream.ingest.paths import leaf_paths, path_getter
from ssm_stream.ingest.timestamps import (
    MAX_MS,
    MIN_MS,
    UNITS_PER_MS,
    YEAR_2000_MS,
    is_epoch_text,
    is_iso_time,
    to_milliseconds,
)

MIN_FILLED = 0.99
"""Share of rows that must have an entity or a time, as rows without are refused."""
FROM_MS, TO_MS = YEAR_2000_MS, 4_102_444_800_000.0
"""2000 to 2100: numbers in this range are read as times."""
MAX_SEARCHED = 20
"""Documents in which paths into lists are searched."""
MAX_REGULAR = 1.25
"""Times the median step, up to which the mean of the steps is that of regular rows."""
MIN_STATE = 10
"""Rows of a value of a text, from which on it is a state, and not a slip."""
MAX_LISTED = 3
"""Columns that an error names, of each sort."""
SPARSE = "a number in only"
"""How the reason begins by which a number in few rows is left out."""
WATCH_SPARSE = (
    ": to watch it, draft a flow of its own with --target {}, where rows without it are events without a label: they "
    "are read, and neither learned nor judged"
)
"""How a number in few rows is watched."""
QUOTED = re.compile("[+-]?[0-9]+(?:[.,][0-9]+)?(?:[eE][+-]?[0-9]+)?")
"""A number as text."""

QUANTITIES = "temperatur|druck|drehzahl|leistung|spannung|sollwert|istwert"
FLOWS = "".join(f"(?<!{word})" for word in ["volumen", "massen", "luft", "gas", "wasser", "dampf", "förder", "foerder"])
THINGS = "programm|rezept|artikel|produkt|werkzeug|nummer"
JOINED = re.compile(f"([a-zäöüß]+)({QUANTITIES}|{FLOWS}strom|{THINGS})(?![a-zäöüß])")
"""German words whose end is a quantity, which is their head, or a thing. Of Volumenstrom it is no current."""
WORDS = re.compile("[a-zäöüß]+|[0-9]+|[^\\W0-9_\u0000-\u024f]+")
"""Words of names: of Latin letters, of digits, and of letters of other scripts, all of which are beyond U+024F."""


def word_set(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(text.split())


def name_words(path: str) -> list[str]:
    """Return the words of a column's name, in lower case: `payload.machineId` → payload, machine, id.

    German joins words: Kerntemperatur → kern, temperatur. In another script letters without a gap are one
    word: 差圧_Q → 差圧, q.
    """
    spaced = re.sub(r"(?<=[a-z0-9äöüß])(?=[A-ZÄÖÜ])", " ", path).lower()
    return WORDS.findall(JOINED.sub(r"\1 \2", spaced))


@dataclass(frozen=True)
class Column:
    """A column of a sample of n rows. values: row → value, without nulls; index: among the columns"""

    path: str
    values: dict[int, Any]
    n: int
    index: int

    @cached_property
    def name(self) -> list[str]:
        """Words of the last part of the path."""
        return name_words(self.path.rpartition(".")[2])

    @cached_property
    def kind(self) -> Literal["number", "whole", "flag", "text", "mixed"]:
        """Type of its values; up to 5 % of other values among numbers do not count."""
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
        """Number of different values; 0 if there are lists or objects among them."""
        try:
            return len(set(self.values.values()))
        except TypeError:
            return 0

    @property
    def is_filled(self) -> bool:
        """Whether almost every row has it."""
        return len(self.values) >= MIN_FILLED * self.n

    @property
    def may_be_entity(self) -> bool:
        """Whether its values are text or whole numbers, such as may be the name of an entity."""
        if not self.is_filled or self.kind not in ("text", "whole") or not self.distinct:
            return False
        return all(0 < len(str(value)) <= MAX_NAME_LENGTH for value in self.values.values())

    @cached_property
    def numbers(self) -> NDArray[np.float64]:
        """The numbers (n,), NaN where a row has no number."""
        out = np.full(self.n, np.nan)
        for i, value in self.values.items():
            if is_number(value):
                out[i] = value
        return out


def reordered(column: Column, order: NDArray[np.int64]) -> Column:
    """Return the column with other places for its rows. order: the row (n,) in each place"""
    values = ((place, column.values.get(row)) for place, row in enumerate(order.tolist()))
    return Column(column.path, {place: value for place, value in values if value is not None}, column.n, column.index)


def examined_rows(columns: Mapping[str, Column], owners: Sequence[Any]) -> list[int]:
    """Return the rows of a sample that are examined, in their order: `spread_rows`, and one of each value that ten rows
    or more have of a text that is the same in all of these: of a state that seldom comes they may have none.

    Args:
        columns: path → column, with its values of all rows
        owners: of each row, the name of its entity
    """
    rows = spread_rows(owners)
    out = set(rows)
    for column in columns.values():
        if column.kind != "text" or not 1 < column.distinct <= MAX_CATEGORY_VALUES:
            continue
        if len({column.values[i] for i in rows if i in column.values}) == 1:
            counts = Counter(column.values.values())
            last = {value: i for i, value in column.values.items()}  # at its first, people write comments
            out |= {i for value, i in last.items() if counts[value] >= MIN_STATE}
    return sorted(out)


def whole_reason(column: Column | None, owners: Sequence[Any], reason: str) -> str:
    """Return why a column is left out, by all rows of the sample, where the reason is that of some of them.

    Args:
        column: with its values of all rows; None: it has none
        owners: of each row, the name of its entity
    """
    n = len(owners)
    if not reason.startswith(("null in all", "the same text", SPARSE)):
        return reason
    if column is None:
        return f"null in all of the {n:,} rows that were read"
    expected = count_expected(column.values, owners)
    if 2 * len(column.values) < expected:
        what = "number" if reason.startswith(SPARSE) else "value"
        few = f"a {what} in only {len(column.values):,} of {expected:,} rows"
        few += " of the machines that have it" if expected < n else ""
        return few + WATCH_SPARSE.format(shlex.quote(column.path)) if what == "number" and column.distinct > 2 else few
    if reason.startswith("the same text") and column.distinct > 1:
        ((usual, count),) = Counter(column.values.values()).most_common(1)
        return f"{usual!r} in {count:,} of {len(column.values):,} rows, and in those that were examined"
    return reason


def own_reason(found: Mapping[str, tuple[int, int]]) -> str:
    """Return why these are categories, and which setting suits them.

    found: path → values in the fleet, and most of one machine
    """
    each = ", ".join(f"{path} {fleet}, at most {own} of one machine" for path, (fleet, own) in found.items())
    return (
        f"text with few values for each machine ({each}). Machines that learn together have an input for each of the "
        f"first {MAX_CATEGORY_VALUES} values, and one for all others: where a name means something else on each "
        "machine, as numbers of programs do, model.fleet: false gives each its own"
    )


def columns(documents: Sequence[dict[str, Any]], given: Sequence[str] = ()) -> list[Column]:
    """Return the columns of a sample, in the order in which they appear, without those that are always null.

    given: paths whose values are a column wherever they lie: in lists, in the message's key or a header
    """
    found, _ = values_by_column(documents)
    for path in given:
        if path not in found:
            with contextlib.suppress(PathError):
                values = map(path_getter(path), documents)
                found[path] = {i: value for i, value in enumerate(values) if value is not None}
    order = [path for path, values in found.items() if values]
    return [Column(path, found[path], len(documents), index) for index, path in enumerate(order)]


def values_in_lists(documents: Sequence[Any]) -> dict[str, Any]:
    """Return the values in lists of the first documents, by the path that leads to each; of each the first one."""
    found = dict[str, Any]()
    for document in documents[:MAX_SEARCHED]:
        for path in leaf_paths(document) if type(document) is dict else ():
            with contextlib.suppress(PathError):
                if path not in found and has_list_step(path) and (value := path_getter(path)(document)) is not None:
                    found[path] = value
    return found


def time_format(column: Column) -> str | None:
    """Return the `timestamp_format` of a column's values; None if they are not times."""
    if not column.is_filled:
        return None
    some = list(column.values.values())[:: max(len(column.values) // 500, 1)]
    if column.kind == "text":
        if sum(map(is_iso_time, some)) >= MIN_FILLED * len(some):
            return "iso"
        if not all(map(is_epoch_text, column.values.values())):
            return None
    elif column.kind not in ("number", "whole"):
        return None
    if column.distinct < min(3, column.n):
        return None
    numbers = epochs(column)
    fits = [form for form, per_ms in UNITS_PER_MS.items() if _within(numbers / per_ms, FROM_MS, TO_MS)]
    return fits[0] if fits else None


def epochs(column: Column) -> NDArray[np.float64]:
    """Return the numbers of a column of times, also those in quotes, in the order of its rows."""
    if column.kind == "text":
        return np.array([value if is_epoch_text(value) else "nan" for value in column.values.values()], np.float64)
    return column.numbers[~np.isnan(column.numbers)]


def _within(numbers: NDArray[np.float64], low: float, high: float) -> bool:
    return bool(np.all((numbers >= low) & (numbers < high)))


def may_be_elapsed_seconds(column: Column) -> bool:
    """Return whether its numbers may be seconds since some beginning: `t`, from 0 on."""
    numbers = column.numbers[~np.isnan(column.numbers)]
    usable = column.is_filled and column.kind in ("number", "whole") and column.distinct > 2
    return usable and _within(numbers * 1000.0, max(MIN_MS, 0), MAX_MS)


def holds_several_units(column: Column) -> bool:
    """Return whether its numbers are times since 1970 by their size, not all in one unit."""
    if not column.is_filled or column.kind not in ("number", "whole") or time_format(column) is not None:
        return False
    ms = to_milliseconds(column.numbers[~np.isnan(column.numbers)], "auto")
    return ms is not None and column.distinct > 2 and _within(ms.astype(np.float64), FROM_MS, TO_MS)


def holds_date_numbers(column: Column) -> bool:
    """Return whether its numbers are dates written as whole numbers, which the flow cannot read: 202602030600."""
    if column.kind not in ("number", "whole"):
        return False
    texts = {f"{number:.0f}" for number in column.numbers[~np.isnan(column.numbers)].tolist()}
    return bool(texts) and all(map(is_date_number, texts))


def holds_spreadsheet_days(column: Column) -> bool:
    """Return whether its numbers may be days as spreadsheets count them, which the flow cannot read."""
    return column.kind in ("number", "whole") and may_be_days(column.numbers[~np.isnan(column.numbers)].tolist())


def holds_quoted_numbers(column: Column) -> bool:
    """Return whether its texts are mostly numbers; with zeros before them they are names, such as 007."""
    texts = [value.strip() for value in column.values.values() if isinstance(value, str)]
    numbers = sum(QUOTED.fullmatch(text) is not None for text in texts)
    return 2 * numbers > len(texts) and not any(re.match("[+-]?0[0-9]", text) for text in texts)


def mixed_values(found: Iterable[Column]) -> str:
    """Return which columns hold numbers in quotes, or numbers in at least half of their rows, and what else; empty if
    none does."""
    out = []
    for column in found:
        others = [value for value in column.values.values() if not is_number(value)]
        if others and holds_quoted_numbers(column) and time_format(column) is None:
            out.append(f"`{column.path}` holds {others[0]!r} and the like, numbers in quotes: write them as numbers")
        elif others and column.kind == "mixed" and 2 * len(others) <= len(column.values):
            out.append(
                f"`{column.path}` holds {others[0]!r} and the like in {len(others)} of {column.n} rows, else numbers"
            )
    return f"; {', '.join(out[:MAX_LISTED])}" if out else ""


def has_offset(column: Column) -> bool:
    """Return whether its texts have an offset from UTC."""
    first = next((v for v in column.values.values() if isinstance(v, str) and is_iso_time(v)), "")
    return bool(re.search(r"[T ][0-9:.,]+ ?(?:Z|[+-][0-9:]+)$", first.strip()))


def count_disorder(names: Sequence[Any] | None, ts: NDArray[np.int64]) -> int:
    """Return how many rows are not later than their entity's row before. names: of each row; None: one entity"""
    if names is None:
        return int(np.count_nonzero(np.diff(ts) <= 0))
    last: dict[Any, int] = {}
    count = 0
    for name, t in zip(names, ts.tolist(), strict=True):
        if name in last and t <= last[name]:
            count += 1
        last[name] = t
    return count


def usual_step(names: Sequence[str], ts: NDArray[np.int64]) -> float:
    """Return the time in which an entity's next row comes, s: the median, or the mean where that is far longer, as of
    what comes in bursts or by day only; NaN if no entity has two.
    """
    median, ends = median_step(names, ts), dict[str, tuple[int, int, int]]()
    for name, t in zip(names, ts.tolist(), strict=True):
        first, last, n = ends.get(name, (t, t, -1))
        ends[name] = min(first, t), max(last, t), n + 1
    rows = sum(n for _, _, n in ends.values())
    mean = sum(last - first for first, last, _ in ends.values()) / 1000 / rows if rows else float("nan")
    return mean if mean > MAX_REGULAR * median else median


def median_step(names: Sequence[str], ts: NDArray[np.int64]) -> float:
    """Return the median time between two rows of an entity, s; NaN if no entity has two."""
    last: dict[str, int] = {}
    gaps = []
    for name, t in zip(names, ts.tolist(), strict=True):
        if name in last and t > last[name]:
            gaps.append(t - last[name])
        last[name] = t
    return float(np.median(gaps)) / 1000 if gaps else float("nan")


def free_name(name: str, found: Collection[str]) -> str:
    """Return a name that no column has."""
    return free_name(f"{name}_", found) if name in found else name
