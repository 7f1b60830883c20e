"""The column to predict, among those of a sample."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.autoconfig.columns import Column, mixed_values, name_words, time_format, word_set
from ssm_stream.autoconfig.feature_selection import count_expected
from ssm_stream.autoconfig.labels import is_known_later
from ssm_stream.autoconfig.no_signals.amount import AMOUNT, begins_anew_near_zero
from ssm_stream.autoconfig.no_signals.angle import is_angle
from ssm_stream.autoconfig.uplinks.late_rows import without_late
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
BITS, MAX_STEP = (2.0**16, 2.0**32), 1.5
"""Sizes of counters; times the longest step that one may make where it wraps."""
MAX_RESETS = 1
"""How often a total of an entity begins anew: a meter is replaced once. What does so more often, and not by the clock,
has a course of its own, as the time since a batch began has."""
CLOCKS = (168, 24, 12, 8, 1)
"""Hours by which totals of a week, a day, a shift or an hour begin anew."""
MIN_AT_CLOCK, MAX_ACCIDENT, MAX_MOMENTS = 0.9, 0.05, 50
"""Share of the resets that are by the clock, and near zero; probability that as many are by accident; times that are
tried."""
HOUR_MS = 3_600_000
MAX_LISTED = 3
"""Columns that an error names, of each sort."""
MIN_RISES = 0.7
"""Share of the changes that go one way where a calendar or a counter begins anew, such as 23 of 24 hours."""
CLOCK_TOTAL = (
    "it only grows, and begins anew by the clock, every {}: a total of that time, no signal; what it grew by since the "
    "row before is one: send that as a column"
)
MIN_ANEW, MIN_GOING_ON, MIN_REGULAR = 3, 0.9, 0.99
"""How often a count of rows begins anew at least; shares of its steps that are by one, and that are this or to its
lowest number."""
COUNTED_ANEW = "it counts the rows, and begins anew again and again: a place in a cycle, no signal"
SAME_IN_EACH = "the same in all rows of each entity"
COUNTED = "a counter or a part of the calendar, no signal"
NEVER_FALLS = (
    "whole numbers that never fall: a counter or a part of the calendar, no signal; where it counts what happens, such "
    "as stops or parts, what it grew by since the row before is one: send that as a column"
)
TOTAL = (
    "it never falls, and grows all along the sample: a total or a running clock, no signal; what it grew by since the "
    "row before is one: send that as a column"
)


class Target(NamedTuple):
    """path: of the column; others: that might be it as well; reason: for it"""

    path: str
    others: list[str]
    reason: str


def rank(column: Column, ranked: Sequence[str]) -> int:
    """Return the index of its best word in a ranked list; the length of the list if none is in it."""
    return min((ranked.index(word) for word in column.name if word in ranked), default=len(ranked))


def find_target(found: dict[str, Column], taken: Collection[str], entity: str | None, ts: NDArray[np.int64]) -> Target:
    """Return the column to predict: one that is named so, else the last number that varies freely.

    Args:
        found: path → column
        taken: paths that have another role
        entity: path of the entity's name
        ts: (n,) times of the rows, ms

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
    later = [c.path for c in usable if is_known_later(c.name, free=c.name == ["target"])]
    reasons = {c.path: COUNTED if c.path in later else no_signal_reason(c, names, ts) for c in usable}
    varied = [c for c in usable if reasons[c.path] is None]
    if not varied:
        why = "".join(f"; `{path}` is none: {reason}" for path, reason in list(reasons.items())[:MAX_LISTED])
        raise ConfigError(
            f"no column is a number that varies and could be predicted{why}; name the target with "
            f"--target{mixed_values(found.values())}. Columns: {', '.join(found)}"
        )
    named = [c for c in varied if any(word in TARGETS[1] for word in c.name)]
    if len(named) == 1:
        return Target(named[0].path, [], "by its name")
    best = max(named or varied, key=lambda c: (min(c.distinct, 20), c.index))
    others = [c.path for c in varied if c is not best]
    reason = "no column is named like one: the last number that varies freely" if others else "the only number"
    return Target(best.path, others, reason)


def no_signal_reason(column: Column, names: dict[int, Any], ts: NDArray[np.int64]) -> str | None:
    """Return why a column is no signal: a part of the calendar, a counter or an id; None if it is one.

    Args:
        column: its rows of each entity are in the order of their times
        names: row → name of its entity
        ts: (n,) times of the rows, ms
    """
    if column.distinct < 2:
        return None  # not by what it holds: it is the same in all rows
    rows = _rows_of(column, names)
    runs = [column.numbers[at] for at in rows]
    counted = without_late(rows, runs)
    if column.distinct > 2 and not len(_changes(runs)):
        return SAME_IN_EACH
    if is_part_of_time(column) or _is_counted_by_name(column, runs):
        return COUNTED
    in_order = [column.numbers[at] for at in counted]
    if column.distinct > 2 and _is_whole(column) and _never_falls(in_order):
        return COUNTED if _grows_evenly(in_order) else NEVER_FALLS
    if (total := _total_reason(in_order, [ts[at] for at in counted])) is not None:
        return total
    if _counts_anew(runs):
        return COUNTED_ANEW
    if begins_anew_near_zero(in_order):
        return AMOUNT
    if is_angle(column.path, runs, _changes(runs)):
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
    return [column.numbers[at] for at in _rows_of(column, names)]


def _rows_of(column: Column, names: dict[int, Any]) -> list[NDArray[np.int64]]:
    """Return the rows with a number, of each entity."""
    found: dict[Any, list[int]] = {}
    for i in np.flatnonzero(~np.isnan(column.numbers)).tolist():
        found.setdefault(names.get(i), []).append(i)
    return [np.array(rows) for rows in found.values()]


def _changes(runs: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the differences between two rows of an entity that are not zero."""
    steps: NDArray[np.float64] = np.concatenate([np.diff(run) for run in runs]) if runs else np.empty(0)
    return np.compress(steps != 0, steps)


def _never_falls(runs: Sequence[NDArray[np.float64]]) -> bool:
    return all(bool(np.all(np.diff(run) >= 0)) for run in runs)


def _grows_evenly(runs: Sequence[NDArray[np.float64]]) -> bool:
    """Return whether numbers grow by the same in each row, as those that number rows do."""
    return len(np.unique(np.concatenate([np.diff(run) for run in runs]))) < 2


def _total_reason(runs: Sequence[NDArray[np.float64]], times: Sequence[NDArray[np.int64]]) -> str | None:
    """Return why numbers are a total: they never fall but to begin anew, and grow in many steps all along; None if they
    are none.

    What is measured falls now and then, by its noise; what warms up or fills does not grow all along. A machine may
    stand still: half of those with enough rows must grow. A total begins anew once, or by the clock: what does so at
    other times has a course of its own, as a tank or the time since a batch began has.

    Args:
        runs: the numbers of each entity
        times: of these, ms
    """
    grown = [_grown(run) for run in runs]
    if any(total is None for total in grown):
        return None
    long = [total for total in grown if total is not None and len(total) >= MIN_TOTAL]
    if not 0 < len(long) <= 2 * sum(map(_grows, long)):
        return None
    if all(np.count_nonzero(np.diff(run) < 0) <= MAX_RESETS for run in runs) or _wraps(runs):
        return TOTAL
    hours = _clock_of_resets(runs, times)
    return None if hours is None else CLOCK_TOTAL.format(f"{hours} hours" if hours > 1 else "hour")


def _wraps(runs: Sequence[NDArray[np.float64]]) -> bool:
    """Return whether nearly each fall is that of a counter of 16 or 32 bits at its end, as those of interfaces are."""
    steps, most = _changes(runs), max((float(run.max(initial=0.0)) for run in runs), default=0.0)
    size = next((size for size in BITS if most < size < 2.0 * most), np.inf)
    as_steps = np.count_nonzero(size + steps[steps < 0] <= MAX_STEP * steps.max(initial=0.0))
    return bool(as_steps >= MIN_AT_CLOCK * np.count_nonzero(steps < 0))


def _grows(total: NDArray[np.float64]) -> bool:
    """Return whether it grows in many steps, and in each part of the rows."""
    ends = total[np.linspace(0, len(total) - 1, PARTS + 1).astype(int)]
    return bool(np.all(np.diff(ends) > 0)) and int(np.count_nonzero(np.diff(total))) >= MIN_STEPS


def _grown(run: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Return a total as if it had never begun anew; None if numbers fall otherwise."""
    steps = np.diff(run)
    fallen = np.flatnonzero(steps < 0)
    if not np.all(2.0 * np.abs(run[fallen + 1]) <= np.abs(run[fallen])):
        return None
    return np.concatenate([[0.0], np.cumsum(np.clip(steps, 0.0, None))])


def _clock_of_resets(runs: Sequence[NDArray[np.float64]], times: Sequence[NDArray[np.int64]]) -> int | None:
    """Return the hours of the clock by which numbers begin anew, near zero; None if they do not by the clock.

    Each reset was between two rows. There must be a time (of the week, the day, half of it, a shift, the hour) that is
    between nearly all of these pairs, so often that it is no accident, and that is hardly ever passed without a reset.

    Args:
        runs: the numbers of each entity, which never fall otherwise
        times: of these, ms
    """
    fallen = [np.flatnonzero(np.diff(run) < 0) for run in runs]
    after = np.concatenate([ts[at] for ts, at in zip(times, fallen, strict=True)])
    before = np.concatenate([ts[at + 1] for ts, at in zip(times, fallen, strict=True)])
    ends = list(zip(runs, fallen, strict=True))
    # What was counted since a reset is no more than what is at most in the time between two rows.
    near_zero = [np.count_nonzero(run[at + 1] <= np.diff(run).max(initial=0.0)) for run, at in ends]
    if sum(near_zero) < MIN_AT_CLOCK * len(after) or _repeats([run[at] for run, at in ends]) or _are_pulses(ends):
        return None
    for hours in CLOCKS:
        period, late = hours * HOUR_MS, HOUR_MS if hours >= 24 else 0  # local clocks change by an hour
        span = before - after + late
        moments = np.unique(before % period)
        some = np.linspace(0, len(moments) - 1, min(len(moments), MAX_MOMENTS)).astype(int)
        for moment in moments[some].tolist():
            hit = (moment - after) % period <= span
            days = len(np.unique((before[hit] - moment) // period))
            chance = float(np.median(span)) / period
            if hit.sum() < MIN_AT_CLOCK * len(hit) or chance ** (days - 1) > MAX_ACCIDENT:
                continue
            passed = sum(_passed(run, ts - moment, period, late) for run, ts in zip(runs, times, strict=True))
            if passed <= (1.0 - MIN_AT_CLOCK) * len(hit):
                return hours
    return None


def _are_pulses(ends: Sequence[tuple[NDArray[np.float64], NDArray[np.intp]]]) -> bool:
    """Return whether numbers are zero until just before most resets: what is fed at set hours is measured then, and
    counts nothing. ends: of each entity, the numbers, and the rows before its resets"""
    after_zero = sum(int(np.count_nonzero((at > 0) & (run[at - 1] == 0.0))) for run, at in ends)
    return 2 * after_zero > sum(len(at) for _, at in ends)


def _repeats(ends: Sequence[NDArray[np.float64]]) -> bool:
    """Return whether numbers are the same before most resets: a part of the calendar, such as the seconds since
    midnight, counts nothing of the machine. ends: of each entity, the numbers before its resets"""
    several = [np.unique(each, return_counts=True)[1] for each in ends if len(each) > 1]
    return 2 * sum(int(counts.max()) for counts in several) > sum(int(counts.sum()) for counts in several)


def _passed(run: NDArray[np.float64], ts: NDArray[np.int64], period: int, late: int) -> int:
    """Return how often a total that has grown goes on at a multiple of a period.

    Args:
        run: (n,) numbers of an entity
        ts: (n,) their times, ms
        period: ms
        late: by how much a reset may be before it, ms
    """
    fell = np.diff(run) < 0
    last = np.maximum.accumulate(np.where(np.concatenate([[False], fell]), ts, ts.min(initial=0) - 2 * late - 1))
    goes_on = (np.diff(ts // period) > 0) & ~fell & (run[:-1] > run.min(initial=0.0)) & (ts[:-1] - last[:-1] > late)
    return int(np.count_nonzero(goes_on))


def _counts_anew(runs: Sequence[NDArray[np.float64]]) -> bool:
    """Return whether numbers count the rows since something came, again and again: parts since a cleaning, places in a
    lot. Counts begin at 0 or 1, and may stand there."""
    steps = [run for run in runs if len(run) > 1]
    if not steps or (first := min(float(run.min()) for run in steps)) not in (0.0, 1.0):
        return False
    before, after = (np.concatenate([run[part] for run in steps]) for part in (slice(None, -1), slice(1, None)))
    goes_on = after == before + 1.0
    anew = ~goes_on & (after == first)
    many = len(before) >= MIN_TOTAL and np.count_nonzero(anew & (before > first)) >= MIN_ANEW
    return bool(many and goes_on.mean() >= MIN_GOING_ON and (goes_on | anew).mean() >= MIN_REGULAR)


def begins_anew(column: Column, names: dict[int, Any]) -> bool:
    """Return whether it counts the rows since something came. names: row → name of its entity"""
    return _counts_anew([column.numbers[at] for at in _rows_of(column, names)])


def counter_reason(column: Column, names: dict[int, Any], ts: NDArray[np.int64]) -> str | None:
    """Return why a column is no input: it counts the rows, or is a total; None if it is none of both.

    Args:
        column: its rows of each entity are in the order of their times
        names: row → name of its entity
        ts: (n,) times of the rows, ms
    """
    if numbers_rows(column, names):
        return "it counts the rows"
    if column.kind not in ("number", "whole") or {*column.name} <= CALENDAR | WITH_THOSE:
        return None  # a part of the calendar may be an input, and need not begin anew in a sample of a day
    rows = _rows_of(column, names)
    rows = without_late(rows, [column.numbers[at] for at in rows])
    return _total_reason([column.numbers[at] for at in rows], [ts[at] for at in rows])


def given_reason(targets: Sequence[Column], names: dict[int, Any], ts: NDArray[np.int64]) -> str:
    """Return the reason for targets that the user names, with what comes of one that counts.

    Args:
        targets: their rows of each entity are in the order of their times; names, ts: as of `counter_reason`
    """
    for column in targets:
        if reason := counter_reason(column, names, ts):
            return (
                f"as given. But of `{column.path}`: {reason}. Watched as it is, it alerts where it begins anew, as a "
                "meter that is replaced, and its slow changes are lost in its growth. Make what it grows by the target "
                "(event.derive makes inputs alone), or a column that has its rate, as a power or a flow has"
            )
    return "as given"


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
