"""The column to predict, among those of a sample."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from ssm_stream.autoconfig.columns import Column, time_format, word_set
from ssm_stream.autoconfig.feature_selection import is_number
from ssm_stream.autoconfig.labels import KNOWN_LATER
from ssm_stream.config import ConfigError

TIMES = ("timestamp", "ts", "datetime", "time", "date", "t", "when", "created", "epoch")
TARGETS = (("target", "y"), ("value", "measurement", "reading", "output"))
CALENDAR = word_set("hour minute second day dow weekday week month year quarter holiday weekend")
COUNTERS = word_set("index row record cycle step count counter seq sequence offset n")
MAX_MIXED = 3
"""Columns of numbers and other values that an error names."""
MIN_COUNTED = 20
"""Rows without which a column does not show that it numbers them."""


class Target(NamedTuple):
    """path: of the column; others: that might be it as well; reason: for it"""

    path: str
    others: list[str]
    reason: str


def rank(column: Column, ranked: Sequence[str]) -> int:
    """Return the index of its best word in a ranked list; the length of the list if none is in it."""
    return min((ranked.index(word) for word in column.name if word in ranked), default=len(ranked))


def find_target(found: dict[str, Column], taken: Collection[str], entity: str | None) -> Target:
    """Return the column to predict: one that is named so, else the last number that varies freely.

    Args:
        found: path → column
        taken: paths that have another role
        entity: path of the entity's name

    Raises:
        ConfigError: no column is a number that varies.
    """
    names = found[entity].values if entity else {}
    usable = [
        column
        for column in found.values()
        if column.path not in taken and column.kind in ("number", "whole") and column.distinct > 2
        and 2 * len(column.values) >= column.n and (rank(column, TIMES) == len(TIMES) or time_format(column) is None)
    ]  # fmt: skip
    for tier in TARGETS:
        for word in tier:
            if exact := [c for c in usable if c.name == [word]]:
                return Target(exact[0].path, [], "by its name")
    varied = [c for c in usable if not is_no_signal(c, names)]
    if not varied:
        raise ConfigError(
            f"no column is a number that varies and could be predicted; name the target with --target{_mixed(found)}. "
            f"Columns: {', '.join(found)}"
        )
    named = [c for c in varied if any(word in TARGETS[1] for word in c.name)]
    if len(named) == 1:
        return Target(named[0].path, [], "by its name")
    best = max(named or varied, key=lambda c: (min(c.distinct, 20), c.index))
    others = [c.path for c in varied if c is not best]
    reason = "no column is named like one: the last number that varies freely" if others else "the only number"
    return Target(best.path, others, reason)


def _mixed(found: dict[str, Column]) -> str:
    """Return which columns have numbers in at least half of their rows, and what else; empty if none has."""
    out = []
    for column in found.values():
        others = [value for value in column.values.values() if not is_number(value)]
        if others and column.kind == "mixed" and 2 * len(others) <= len(column.values):
            out.append(f"`{column.path}` holds {others[0]!r} and the like in {len(others)} of {column.n} rows")
    return f"; {', '.join(out[:MAX_MIXED])}, else numbers" if out else ""


def _is_auxiliary(column: Column) -> bool:
    """Return whether it is named like a label, a part of the calendar, a counter or an id."""
    return any(w in KNOWN_LATER or w in CALENDAR or w in COUNTERS or w == "id" for w in column.name)


def is_no_signal(column: Column, names: dict[int, Any]) -> bool:
    """Return whether it is no signal: a label, a part of the calendar, a counter or an id."""
    return (_is_auxiliary(column) and column.name != ["target"]) or _never_decreases(column, names)


def _never_decreases(column: Column, names: dict[int, Any]) -> bool:
    """Return whether it has whole numbers that never decrease within an entity."""
    last: dict[Any, float] = {}
    for i, value in column.values.items():
        name = names.get(i)
        if not isinstance(value, int) or value < last.get(name, -math.inf):
            return False
        last[name] = value
    return True


def numbers_rows(column: Column, names: dict[int, Any]) -> bool:
    """Return whether it counts the rows, or those of each entity: whole numbers that grow by one."""
    values = column.values
    if column.kind != "whole" or len(values) < MIN_COUNTED:
        return False
    for owner in ({}, names):
        last: dict[Any, int] = {}
        odd = 0
        for i, value in values.items():
            name = owner.get(i)
            odd += name in last and value != last[name] + 1
            last[name] = value
        if odd <= 0.01 * len(values) and len(last) < 0.1 * len(values):
            return True
    return False
