"""The column to predict, among those of a sample."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.autoconfig.columns import Column, name_words, time_format, word_set
from ssm_stream.autoconfig.feature_selection import count_expected, is_number
from ssm_stream.autoconfig.labels import KNOWN_LATER
from ssm_stream.config import ConfigError

TIMES = ("timestamp", "ts", "datetime", "time", "date", "t", "when", "created", "epoch")
TARGETS = (("target", "y"), ("value", "measurement", "reading", "output"))
CALENDAR = word_set("hour minute second day dow doy weekday week month year quarter holiday weekend")
COUNTERS = word_set("index row record cycle step count counter seq sequence offset n")
STAMPS = word_set("timestamp ts datetime epoch")
FRACTIONS = word_set("offset nano nanos nanosecond nanoseconds ns micros")
"""Words for the part of a second that a time, of `STAMPS`, has in a column of its own."""
WITH_THOSE = word_set("of the is in id no nr num number sin cos time utc local nano nanos ns ms us")
"""Words that change nothing about these: `day_of_week`, `hour_sin`, `step no`."""
UNIT = re.compile(r"\([^)]*\)|\[[^]]*\]|(?:/|\bper)\s*[^\W\d_]+", re.IGNORECASE)
"""What stands in brackets, or after `/` or `per`, in a name."""
MIN_COUNTED = 20
"""Rows without which a column does not show that it numbers them."""
MIN_TOTAL, PARTS, MIN_STEPS = 200, 3, 20
"""Rows of an entity without which a number does not show that it is a total; in each third of them it grows, as a clock
stands still at nights and at weekends; and how often it grows at least: a setting is raised less often."""
MAX_RESETS = 1
"""How often a total of an entity begins anew: a meter is replaced once. What does so more often has a course of its
own, as the time since a batch began has."""
TURN, NEAR_END, MIN_AT_END, MIN_TURNS, MIN_SMALL = 360.0, 10.0, 5, 3, 0.95
"""Degrees of a turn, and of what is near its ends; values there, and steps from one to the other, that show an angle;
share of the steps that are these or small."""
MAX_LISTED = 3
"""Columns that an error names, of each sort."""
MIN_RISES = 0.7
"""Share of the changes that go one way where a calendar or a counter begins anew, such as 23 of 24 hours."""
COUNTED = "a counter or a part of the calendar, no signal"
TOTAL = (
    "it never falls, and grows all along the sample: a total or a running clock, no signal; if it is to be watched, "
    "name it with --target"
)


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
    owners = [names.get(i) for i in range(max((column.n for column in found.values()), default=0))]
    usable = [
        column
        for column in found.values()
        if column.path not in taken and column.kind in ("number", "whole") and column.distinct > 2
        and 2 * len(column.values) >= count_expected(column.values, owners)
        and (rank(column, TIMES) == len(TIMES) or time_format(column) is None)
    ]  # fmt: skip
    for tier in TARGETS:
        for word in tier:
            if exact := [c for c in usable if c.name == [word]]:
                return Target(exact[0].path, [], "by its name")
    reasons = {c.path: no_signal_reason(c, names) for c in usable}
    varied = [c for c in usable if reasons[c.path] is None]
    if not varied:
        why = "".join(f"; `{path}` is none: {reason}" for path, reason in list(reasons.items())[:MAX_LISTED])
        raise ConfigError(
            f"no column is a number that varies and could be predicted{why}; name the target with "
            f"--target{_mixed(found)}. Columns: {', '.join(found)}"
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
    return f"; {', '.join(out[:MAX_LISTED])}, else numbers" if out else ""


def no_signal_reason(column: Column, names: dict[int, Any]) -> str | None:
    """Return why a column is no signal: a label, a part of the calendar, a counter or an id; None if it is one.

    names: row → name of its entity
    """
    if column.distinct < 2:
        return None  # not by what it holds: it is the same in all rows
    if set(column.name) & KNOWN_LATER and column.name != ["target"]:
        return COUNTED
    runs = runs_of(column, names)
    if column.distinct > 2 and not len(_changes(runs)):
        return "the same in all rows of each entity"
    if is_part_of_time(column) or _is_counted_by_name(column, runs):
        return COUNTED
    if column.distinct > 2 and _is_whole(column) and _never_falls(runs):
        return COUNTED
    if _is_total(runs):
        return TOTAL
    if _is_angle(runs):
        return "an angle that passes through north: it jumps by a whole turn; send its sine and cosine"
    return None


def is_part_of_time(column: Column) -> bool:
    """Return whether it is the fraction of a time of another column: TIMESTAMP_NANO_OFFSET."""
    words = {*column.name}
    return bool(words & STAMPS and words & FRACTIONS) and words <= STAMPS | FRACTIONS | {"in"}


def _is_whole(column: Column) -> bool:
    return bool(np.all(column.numbers[~np.isnan(column.numbers)] % 1 == 0))


def _is_counted_by_name(column: Column, runs: Sequence[NDArray[np.float64]]) -> bool:
    """Return whether it is a part of the calendar or a counter by its name, or by a word of it and its values.

    A word may be that of a unit, or one of many: Wind speed N, Steam flow t/hour, Cycle time. What counts goes one way.
    """
    own = column.path.rpartition(".")[2]
    words = [word for word in name_words(UNIT.sub(" ", own)) if not word.isdecimal()]
    known = set(words) & (CALENDAR | COUNTERS | {"id"})
    if not known:
        return False
    if known == {"id"}:
        return _is_whole(column)
    if {*words} <= CALENDAR | WITH_THOSE:
        return True
    changes = _changes(runs)
    rises = int(np.count_nonzero(changes > 0))
    return max(rises, len(changes) - rises) >= MIN_RISES * len(changes)


def runs_of(column: Column, names: dict[int, Any]) -> list[NDArray[np.float64]]:
    """Return the numbers of each entity, in the order of their rows."""
    found: dict[Any, list[float]] = {}
    for i, value in enumerate(column.numbers.tolist()):
        if value == value:
            found.setdefault(names.get(i), []).append(value)
    return [np.array(run) for run in found.values()]


def _changes(runs: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the differences between two rows of an entity that are not zero."""
    steps: NDArray[np.float64] = np.concatenate([np.diff(run) for run in runs]) if runs else np.empty(0)
    return np.compress(steps != 0, steps)


def _never_falls(runs: Sequence[NDArray[np.float64]]) -> bool:
    return all(bool(np.all(np.diff(run) >= 0)) for run in runs)


def _is_total(runs: Sequence[NDArray[np.float64]]) -> bool:
    """Return whether numbers are a total: they never fall but to begin anew, and grow in many steps all along.

    What is measured falls now and then, by its noise; what warms up or fills does not grow all along. A machine may
    stand still: half of those with enough rows must grow.
    """
    grown = [_grown(run) for run in runs]
    if any(total is None for total in grown):
        return False
    long = [total for total in grown if total is not None and len(total) >= MIN_TOTAL]
    return 0 < len(long) <= 2 * sum(map(_grows, long))


def _grows(total: NDArray[np.float64]) -> bool:
    """Return whether it grows in many steps, and in each part of the rows."""
    ends = total[np.linspace(0, len(total) - 1, PARTS + 1).astype(int)]
    return bool(np.all(np.diff(ends) > 0)) and int(np.count_nonzero(np.diff(total))) >= MIN_STEPS


def _grown(run: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Return a total as if it had never begun anew; None if numbers fall otherwise, or too often."""
    steps = np.diff(run)
    fallen = np.flatnonzero(steps < 0)
    resets = 2.0 * np.abs(run[fallen + 1]) <= np.abs(run[fallen])
    if len(fallen) > MAX_RESETS or not resets.all():
        return None
    return np.concatenate([[0.0], np.cumsum(np.clip(steps, 0.0, None))])


def _is_angle(runs: Sequence[NDArray[np.float64]]) -> bool:
    """Return whether numbers are degrees that pass from one end of a turn to the other, and move by little otherwise.

    A machine that is switched on and off may jump as far, but has one value at its lower end.
    """
    values = np.unique(np.concatenate(runs)) if runs else np.empty(0)
    if not len(values) or not TURN - NEAR_END <= values[-1] - values[0] <= TURN:
        return False
    ends = (np.count_nonzero(values < values[0] + NEAR_END), np.count_nonzero(values > values[-1] - NEAR_END))
    steps = np.abs(_changes(runs))
    turns = int(np.count_nonzero(steps > TURN - 2 * NEAR_END))
    small = int(np.count_nonzero(steps < TURN / 4))
    return bool(min(ends) >= MIN_AT_END and turns >= MIN_TURNS and turns + small >= MIN_SMALL * len(steps))


def counter_reason(column: Column, names: dict[int, Any]) -> str | None:
    """Return why a column is no input: it counts the rows, or is a total; None if it is none of both."""
    if numbers_rows(column, names):
        return "it counts the rows"
    if column.kind not in ("number", "whole") or {*column.name} <= CALENDAR | WITH_THOSE:
        return None  # a part of the calendar may be an input, and need not begin anew in a sample of a day
    return TOTAL if _is_total(runs_of(column, names)) else None


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
