"""Whether the rows of a sample are in the order of their times, in which they are learned, and the cure if not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssm_stream.autoconfig.columns import Column, count_disorder

MAX_FORWARD = 0.05
"""Share of the steps in time that may go forward where the newest row is first."""
MAX_DISORDER, MAX_OWN_DISORDER = 0.02, 0.2
"""Share of rows that may repeat a time or go back: where no column names an entity, and within one."""
MIN_DIFFERENT = 0.98
"""Share of the times that differ where rows of one machine are not sorted; several machines share theirs."""
HOUR_MS = 3_600_000
"""By so much times go back when clocks do."""
USUAL_STEPS = 10
"""A jump back is larger than so many usual steps."""
MIN_ROWS = 10
"""Rows of a thing that two columns name together, in the mean."""


def runs_backwards(ts: NDArray[np.int64]) -> bool:
    """Return whether the newest row is first. ts: (n,) ms"""
    return _backwards(np.diff(ts))


def _backwards(steps: NDArray[np.int64]) -> bool:
    moved = steps[steps != 0]
    return len(moved) > 2 and int(np.count_nonzero(moved > 0)) <= MAX_FORWARD * len(moved)


def second_name(entity: Column | None, found: Mapping[str, Column], ts: NDArray[np.int64]) -> Column | None:
    """Return the column that names one thing together with that of the entity, as routers and their interfaces do:
    times repeat or go back within the entity, and hardly do within both; None if there is none.

    Args:
        entity: the column with its name; None: all rows are of one
        found: path → column
        ts: (n,) times of the rows, ms
    """
    if entity is None:
        return None
    n, best = len(ts), None
    names = [entity.values.get(i) for i in range(n)]
    left = count_disorder(names, ts)
    if left <= MAX_OWN_DISORDER * n:
        return None
    fewest = n // MIN_ROWS + 1
    for column in found.values():
        if column is entity or not column.may_be_entity or not 1 < column.distinct < fewest:
            continue
        both = [(name, column.values.get(i)) for i, name in enumerate(names)]
        if len({*both}) < fewest and count_disorder(both, ts) <= MAX_DISORDER * left:
            best, fewest = column, len({*both})
    return best


def things(entity: Column | None, second: Column | None) -> dict[int, Any]:
    """Return row → name of the thing that a row is of: of the entity, or of both names."""
    if entity is None:
        return {}
    if second is None:
        return entity.values
    return {i: f"{name}/{second.values.get(i)}" for i, name in entity.values.items()}


def order_notes(
    entity: Column | None, timestamp: str, ts: NDArray[np.int64], second: Column | None = None
) -> list[str]:
    """Return a note where times go back, or repeat, within the rows of an entity; at most one.

    Args:
        entity: the column with its name; None: all rows are of one
        second: the one that names one thing together with it
        timestamp: path of the time
        ts: (n,) times of the rows, ms
    """
    n = len(ts)
    names = [None] * n if entity is None else [entity.values.get(i) for i in range(n)]
    rows, steps = _steps(names, ts)
    back, repeated = int(np.count_nonzero(steps < 0)), int(np.count_nonzero(steps == 0))
    within = "" if entity is None else f" within one `{entity.path}`"
    sort = f"sort the rows by `{timestamp}`, oldest first: they are learned in their order"
    several = "name the column that distinguishes them with --entity, or add one"
    if _backwards(steps):
        return [f"the newest row is first (times go back in {back} of {n} rows): {sort}"]
    if back + repeated > (MAX_DISORDER if entity is None else MAX_OWN_DISORDER) * n:
        if len(set(zip(names, ts.tolist(), strict=True))) >= MIN_DIFFERENT * n:
            others = f"; if they are of several machines, {several}" if entity is None else ""
            return [f"times go back in {back} of {n} rows{within}: {sort}{others}"]
        begin = f"times repeat or go back in {back + repeated} of {n} rows"
        if entity is None:
            return [f"{begin}, and no column distinguishes several machines: name one with --entity, or add one"]
        if second is not None:
            example = next(iter(things(entity, second).values()))
            return [
                f"{begin}{within}, and not if `{second.path}` is the same, too: both together name one thing, "
                f"which this file mixes up: send both in one column, such as {example}, and name it with --entity"
            ]
        return [f"{begin}{within}: if one thing is named by several columns, put them together into one"]
    usual = float(np.median(steps[steps > 0])) if (steps > 0).any() else 0.0
    far = np.flatnonzero(-steps > max(HOUR_MS, USUAL_STEPS * usual))
    if not len(far):
        return []
    hours = int(-steps.min()) / HOUR_MS
    length = f"{hours / 24:.0f} days" if hours >= 48 else f"{hours:.0f} hours"
    often = f"once{within}, by" if len(far) == 1 else f"{len(far)} times{within}, by up to"
    cure = sort if entity is not None else f"if they are of several machines, one after another, {several}; else {sort}"
    return [f"times go back {often} {length}, first in row {int(rows[far[0]]) + 1}: {cure}"]


def time_order(entity: Column | None, ts: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Return the row (n,) to put in each place, so that those of each entity are in the order of their times; None if
    they are, or if they may be of several machines that no column distinguishes.

    What a column does in time, such as to grow, is judged in this order: a gateway that was offline sends rows late.

    Args:
        entity: the column with its name; None: all rows are of one
        ts: (n,) times of the rows, ms
    """
    n = len(ts)
    codes = np.zeros(n, np.int64)
    if entity is not None:
        numbers: dict[Any, int] = {}
        codes = np.array([numbers.setdefault(entity.values.get(i), len(numbers)) for i in range(n)], np.int64)
    elif len(np.unique(ts)) < MIN_DIFFERENT * n:
        return None
    order = np.empty(n, np.int64)
    order[np.argsort(codes, kind="stable")] = np.lexsort((ts, codes))  # stable: equal times stay as they are
    return None if np.array_equal(order, np.arange(n)) else order


def _steps(names: Sequence[Any], ts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows that are not the first of their entity, and the time since its row before, ms."""
    last: dict[Any, int] = {}
    rows, steps = list[int](), list[int]()
    for row, (name, time) in enumerate(zip(names, ts.tolist(), strict=True)):
        if name in last:
            rows.append(row)
            steps.append(time - last[name])
        last[name] = time
    return np.array(rows, np.int64), np.array(steps, np.int64)
