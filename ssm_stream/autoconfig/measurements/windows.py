"""Windows that make one row of a machine's measurements, each of which comes in a row of its own."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.autoconfig.columns import Column

MAX_KINDS = 32
MIN_OWN = 0.9
"""Share of a measurement's rows that have a number, from which on it is one of its own."""
MIN_TOGETHER = 0.8
"""Share of the windows that have a row of each measurement: what comes at times of its own belongs to no other."""
MAX_TWICE = 0.02
"""Share of a measurement's rows that are not the only one of their window, as of a machine with several disks."""
LENGTHS = {
    f"{n}{unit}": n * seconds
    for unit, seconds, counts in (("s", 1.0, (1, 2, 5, 10, 15, 20, 30)), ("m", 60.0, (1, 2, 3, 5, 10, 15, 30)))
    for n in counts
} | {"1h": 3600.0}


class Measurements(NamedTuple):
    """Rows of several measurements as one row a machine and window.

    by: path of the measurement's name; kinds: its values; names: column of the windows → path; every: their length;
    rows: the windows as documents; left_out: path → why
    """

    by: str
    kinds: list[str]
    names: dict[str, str]
    every: str
    rows: list[dict[str, Any]]
    left_out: dict[str, str]


def find_measurements(
    found: dict[str, Column], entity: str | None, timestamp: str, ts: NDArray[np.int64]
) -> Measurements | None:
    """Return how rows that share a machine and a time, each with numbers of its own, become one; None if they do not.

    Args:
        found: path → column
        entity, timestamp: paths of the machine's name and of the time
        ts: (n,) times, ms
    """
    if entity is None or len(ts) == 0:
        return None
    owners = found[entity].values
    for column in found.values():
        if column.path == entity or column.kind != "text" or not 2 <= column.distinct <= MAX_KINDS:
            continue
        own, shared = _numbers(column, found, {entity, timestamp})
        kinds = sorted({kind for kind, paths in own.items() if paths})
        if len(kinds) < 2 or len(column.values) < len(ts):
            continue
        every = _step(column, owners, ts)
        if every is None:
            continue
        windows = _windows(column, owners, ts, LENGTHS[every])
        rows_of = Counter(column.values.values())
        once = [k for k in kinds if sum(k in of for of in windows.values()) >= (1.0 - MAX_TWICE) * rows_of[k]]
        if len(once) < 2 or sum(all(k in of for k in once) for of in windows.values()) < MIN_TOGETHER * len(windows):
            continue
        left_out = dict.fromkeys(shared, f"in rows of several of `{column.path}`, of which a window has one")
        several = f"several rows of one time in each of `{column.path}`"
        left_out |= {path: f"{several}: {k}" for k in kinds if k not in once for path in own[k]}
        paths = [path for k in once for path in own[k]]
        names = _names(paths)
        documents = [
            {entity: name, timestamp: found[timestamp].values[min(of.values())]}
            | {names[path]: found[path].values.get(of[k]) for k in once if k in of for path in own[k]}
            for (name, _), of in windows.items()
        ]
        by_name = {name: path for path, name in names.items()}
        return Measurements(column.path, once, by_name, every, documents, left_out)
    return None


def _numbers(by: Column, found: dict[str, Column], taken: set[str]) -> tuple[dict[Any, list[str]], list[str]]:
    """Return the numbers that only one measurement has, by measurement, and those that several have and not all."""
    rows_of = Counter(by.values.values())
    own, shared = defaultdict[Any, list[str]](list), list[str]()
    for column in found.values():
        if column.path in taken or column.kind not in ("number", "whole"):
            continue
        having = Counter(by.values[i] for i in column.values if i in by.values)
        kinds = [kind for kind, count in having.items() if count >= MIN_OWN * rows_of[kind]]
        if len(kinds) == len(having) == 1:
            own[kinds[0]].append(column.path)
        elif len(having) < len(rows_of):
            shared.append(column.path)
    return own, shared


def _step(by: Column, owners: dict[int, Any], ts: NDArray[np.int64]) -> str | None:
    """Return how far apart the rows of a machine and measurement usually are; None if that is no usual length."""
    last, gaps = dict[tuple[Any, Any], int](), list[int]()
    for i, kind in by.values.items():
        key, at = (owners.get(i), kind), int(ts[i])
        if at > last.get(key, at):
            gaps.append(at - last[key])
        last[key] = at
    usual = float(np.median(gaps)) / 1000.0 if gaps else 0.0
    return next((text for text, seconds in LENGTHS.items() if abs(usual - seconds) <= 0.02 * seconds), None)


def _windows(
    by: Column, owners: dict[int, Any], ts: NDArray[np.int64], seconds: float
) -> dict[tuple[Any, int], dict[Any, int]]:
    """Return the windows in the order of their times: machine and number → measurement → its last row."""
    out = defaultdict[tuple[Any, int], dict[Any, int]](dict)
    for i, kind in by.values.items():
        if owners.get(i) is not None:
            out[owners[i], int(ts[i] // (1000.0 * seconds))][kind] = i
    return dict(sorted(out.items(), key=lambda item: item[0][1]))


def _names(paths: Sequence[str]) -> dict[str, str]:
    """Return a name of a column for each path: its last part, where no other path has the same."""
    ends = Counter(path.rpartition(".")[2] for path in paths)
    return {path: end if ends[end := path.rpartition(".")[2]] == 1 else path.replace(".", "_") for path in paths}
