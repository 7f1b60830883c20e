"""Samples whose rows are single operations, such as one a request: windows of them become rows (`event.aggregate`)."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.autoconfig.columns import Column, name_words, word_set
from ssm_stream.autoconfig.target import TARGETS, TIMES, counter_reason
from ssm_stream.config.quantities import rough_duration

LATENCY = word_set("latency duration elapsed response took rtt runtime responsetime processing wait")
"""Words for the duration of an operation."""
STATUS = word_set("status code statuscode http")
LEVELS = word_set("level severity outcome result state status success ok error")
"""Words for columns that name how an operation ended."""
ERRORS = word_set("error err failed failure fail fatal critical timeout exception denied rejected 5xx false")
SUMS = word_set("bytes size length amount volume count items quantity total")
"""Words for numbers that are added up."""
IRREGULAR = 0.5
"""Standard deviation of the gaps between an entity's rows over their mean, from which they come by chance."""
MIN_ROWS = 200
MIN_EACH = 20
"""Operations a window of a usual entity."""
ENOUGH = 0.75
"""Share of `MIN_EACH` that a window must have."""
LENGTHS = {"10s": 10.0, "1m": 60.0, "5m": 300.0, "15m": 900.0, "1h": 3600.0, "6h": 21600.0, "1d": 86400.0}
MAX_OTHERS = 4
"""Further numbers that become columns of windows."""
MIN_MEASURED = 3
"""Numbers that each operation measures, but its duration and what is added up, from which on it is an event by itself:
a mean over a window of the vibration and the current of each trip shows later, and less, what is wrong with one."""


class Operations(NamedTuple):
    """section: settings of `event`; why: setting → reason; left_out: path → why; seconds: length of a window"""

    section: dict[str, Any]
    why: dict[str, str]
    left_out: dict[str, str]
    seconds: float


def find_operations(
    found: dict[str, Column], taken: set[str], ts: NDArray[np.int64], entity: Column | None, notes: list[str]
) -> Operations | None:
    """Return how windows of the sample's rows become rows; None if each row is one.

    Args:
        found: path → column
        taken: paths of the entity and the time
        ts: times of the rows, ms
        entity: column with the entity's name
        notes: one is added where rows are single operations that are no windows
    """
    columns = [column for path, column in found.items() if path not in taken]
    named = {word for column in columns for word in column.name}
    latency = [c for c in columns if c.kind in ("number", "whole") and set(c.name) & LATENCY and c.distinct > 10]
    errors = next((each for c in columns if (each := _errors(c)) is not None), None)
    if (not latency and errors is None) or {word for tier in TARGETS for word in tier} & named or len(ts) < MIN_ROWS:
        return None
    gap = _usual_gap(entity, ts)
    if gap is None:
        return None
    often = f"they come at irregular gaps, {rough_duration(gap)} on average"
    known = {c.path for c in latency} | set(errors or ())
    numbers = [c for c in columns if c.path not in known and c.kind in ("number", "whole") and c.distinct > 10]
    others = [c for c in numbers if not set(c.name) & set(TIMES) and "id" not in c.name]
    names = {} if entity is None else entity.values
    counted = {c.path: reason for c in others if (reason := counter_reason(c, names, ts)) is not None}
    others = [c for c in others if c.path not in counted]
    measured = [c.path for c in others if not set(c.name) & SUMS]
    if len(measured) >= MIN_MEASURED:
        notes.append(
            f"a row is one operation ({often}) and measures by itself ("
            f"{', '.join(measured[:MIN_MEASURED])}{', …' if len(measured) > MIN_MEASURED else ''}): each is an event. "
            "Windows of them, with how many there are: event.aggregate (docs/data-shapes.md#windows)"
        )
        return None
    every = next((text for text, seconds in LENGTHS.items() if seconds >= ENOUGH * MIN_EACH * gap), "1d")
    what = "requests" if {"request", "route", "method", "path", "url", "endpoint", "http"} & named else "events"
    out: dict[str, Any] = {what: "count"}
    if errors is not None:
        out["errors"] = {"share": errors}
    for column in latency:
        out[_name(column, "p95")] = {"p95": column.path}
    for column in others[:MAX_OTHERS]:
        operation = "sum" if set(column.name) & SUMS else "mean"
        out[_name(column, operation)] = {operation: column.path}
    if len(out) < 2:
        return None
    used = {path for each in out.values() if isinstance(each, dict) for path in _paths(each)}
    left_out = {c.path: "of single operations, in no window" for c in columns if c.path not in used}
    more = f"windows have {MAX_OTHERS} further numbers; name it in event.aggregate.columns if it matters"
    left_out |= {c.path: more for c in others[MAX_OTHERS:]} | counted
    why = {
        "aggregate": f"a row is one operation ({often}): windows with some {MIN_EACH} or more of an entity become rows",
        "target": "every column of the windows",
        "inputs": "how many there are explains the others, and not the other way round",
    }
    section = {
        "aggregate": {"every": every, "columns": out}, "target": "all", "features": list(out), "inputs": [what],
    }  # fmt: skip
    return Operations(section, why, left_out, LENGTHS[every])


def _paths(operation: dict[str, Any]) -> list[str]:
    (of,) = operation.values()
    return list(of) if isinstance(of, dict) else [of]


def _name(column: Column, operation: str) -> str:
    words = [word for word in name_words(column.path) if word not in ("ms", "us", "s", "seconds", "millis")]
    return f"{'_'.join(words) or column.path}_{operation}"


def _errors(column: Column) -> dict[str, Any] | None:
    """Return the condition that an operation failed, by a status of HTTP or a word; None if the column has neither."""
    if column.kind == "whole" and set(column.name) & STATUS:
        codes = column.numbers[~np.isnan(column.numbers)]
        return {column.path: {"from": 500}} if len(codes) and codes.min() >= 100 and codes.max() < 600 else None
    if not set(column.name) & LEVELS or column.distinct > 20 or column.kind not in ("text", "flag"):
        return None
    counts = Counter(column.values.values())
    if column.kind == "flag":
        return {column.path: "error" in column.name or "failed" in column.name}
    failed = [value for value in counts if str(value).strip().lower() in ERRORS]
    return {column.path: failed} if failed and len(failed) < len(counts) else None


def _usual_gap(entity: Column | None, ts: NDArray[np.int64]) -> float | None:
    """Return the median over entities of the mean gap between rows, s; None if the gaps are regular."""
    times: dict[Any, list[int]] = defaultdict(list)
    for i, time in enumerate(ts.tolist()):
        times[None if entity is None else entity.values.get(i)].append(time)
    gaps = [np.diff(np.sort(np.array(each))) / 1000.0 for each in times.values() if len(each) >= MIN_EACH]
    if not gaps or not all(each.mean() > 0 for each in gaps):
        return None
    irregular = float(np.median([each.std() / each.mean() for each in gaps]))
    return float(np.median([each.mean() for each in gaps])) if irregular >= IRREGULAR else None
