"""The hourly summaries of the last week, in columns, bounded in memory."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.engine.summaries.columns import HOUR_MS, KINDS

HOURS = 7 * 24
"""Hours that are kept, by the time of events."""
CELL = np.dtype(
    [
        ("hour", np.int32),  # since 1970; 0: none
        ("events", np.uint32),
        ("mean", np.float32),
        ("mean_predicted", np.float32),
        ("error", np.float32),
        ("relative", np.float16),
        ("coverage", np.float16),
        ("score", np.float16),
        ("inside", np.uint16),  # seconds with an open episode
        ("open", np.bool_),  # at the end
        ("alerts", np.uint8, (len(KINDS),)),
    ]
)
"""An hour of one target of an entity. NaN: the summary has null."""
UNKNOWN = "mean", "mean_predicted", "error", "relative", "coverage", "score"
"""Of an hour without a summary."""
MAX_BYTES = 64 * 2**20
"""Memory of the hours."""
MIN_ROWS = 64
IDLE = 24
"""Hours without a summary after which an entity makes room for others."""
MAX_OF_KIND, MOST = 255, 65_000.0
AHEAD = 86_400_000
"""Milliseconds by which the clock of a machine may be ahead."""
NEEDED = {"entity", "hour", "events"}
Key = tuple[str, str | None]
"""Entity, and of several targets one."""
Columns = dict[str, NDArray[Any]]


class Latest(NamedTuple):
    """The last summary of an entity. hour, last, silence (its begin): ms; open: kinds of the open episodes"""

    hour: int
    last: int | None
    open: tuple[str, ...]
    silence: int | None
    score: float


class HourlyHistory:
    """The last week of each entity and target, as many as there is room for."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.capacity = MAX_BYTES // (HOURS * CELL.itemsize)
        self.newest = 0
        """The latest hour of all, since 1970."""
        self.left_out = 0
        """Summaries for which there was no room."""
        self.latest: dict[str, Latest] = {}
        """By entity."""
        self.cells: NDArray[Any] = np.zeros((0, HOURS), CELL)
        self._rows: dict[Key, int] = {}
        self._targets: dict[str, list[str | None]] = {}
        self._free: list[int] = []
        self._made_room = 0

    def __len__(self) -> int:
        return len(self.latest)

    def add(self, contents: Iterable[Any]) -> list[str]:
        """Add summaries as their topic has them; return their entities. What is none is ignored, and hours to come."""
        most = int(1000 * time.time()) + AHEAD
        found = [each for each in contents if isinstance(each, dict) and each.keys() >= NEEDED and each["hour"] < most]
        if not found:
            return []
        with self.lock:
            self.newest = max(self.newest, max(each["hour"] for each in found) // HOUR_MS)
            rows = [self._row((each["entity"], each.get("target"))) for each in found]
            found = [each for each, row in zip(found, rows, strict=True) if row is not None]
            self.left_out += len(rows) - len(found)
            for each in found:
                self._note(each)
            hours = np.array([each["hour"] // HOUR_MS for each in found], np.int64)
            at, slots = np.array([row for row in rows if row is not None], np.int64), hours % HOURS
            cells = np.array([_cell(each, hour) for each, hour in zip(found, hours.tolist(), strict=True)], CELL)
            kept = np.argsort(hours, kind="stable")  # a slot keeps its latest hour, and the last summary of it
            kept = kept[(hours >= self.cells["hour"][at, slots])[kept]]
            self.cells[at[kept], slots[kept]] = cells[kept]
            return list(dict.fromkeys(each["entity"] for each in found))

    def _row(self, key: Key) -> int | None:
        """Return the row of an entity and target; None if there is no room."""
        row = self._rows.get(key)
        if row is not None:
            return row
        if not self._free and len(self._rows) >= self.capacity:
            self._make_room()
        if self._free:
            row = self._free.pop()
        elif len(self._rows) < self.capacity:
            row = len(self._rows)
            if row == len(self.cells):
                more = np.zeros((min(max(row, MIN_ROWS), self.capacity - row), HOURS), CELL)
                self.cells = np.concatenate([self.cells, more])
        else:
            return None
        self._rows[key] = row
        self._targets.setdefault(key[0], []).append(key[1])
        return row

    def _make_room(self) -> None:
        """Remove the entities without a summary for a day; an hour later again."""
        if self._made_room == self.newest:
            return
        self._made_room = self.newest
        idle = [name for name, each in self.latest.items() if each.hour < (self.newest - IDLE) * HOUR_MS]
        for name in idle:
            del self.latest[name]
            for target in self._targets.pop(name):
                row = self._rows.pop((name, target))
                self.cells[row] = 0
                self._free.append(row)

    def _note(self, content: Mapping[str, Any]) -> None:
        entity, hour = content["entity"], content["hour"]
        before = self.latest.get(entity)
        if before is not None and before.hour > hour:
            return
        score = float(content.get("score") or 0.0)
        if before is not None and before.hour == hour:
            score = max(score, before.score)
        open_ = tuple(content.get("open") or ())
        self.latest[entity] = Latest(hour, content.get("last"), open_, content.get("silent_since"), score)

    def rows_of(self, entity: str) -> list[tuple[str | None, NDArray[Any]]]:
        """Return the targets of an entity and their hours, oldest first."""
        with self.lock:
            found = []
            for target in self._targets.get(entity, ()):
                cells = self.cells[self._rows[entity, target]]
                between = _between(cells["hour"][None], cells["open"][None], self.newest)[1]
                cells = np.concatenate([cells, between])
                cells = cells[cells["hour"] > self.newest - HOURS]
                found.append((target, cells[np.argsort(cells["hour"])]))
            return found

    def hours(self, last: int) -> tuple[list[Key], Columns]:
        """Return the entities and targets, and columns of the hours in the last so many: `row`, an index of these, and
        those of `CELL`."""
        with self.lock:
            keys, rows = list(self._rows), np.array(list(self._rows.values()), np.int64)
            hour, first = self.cells["hour"][rows], self.newest - min(last, HOURS) + 1
            at, slot = np.nonzero(hour >= first)
            own = self.cells[rows[at], slot]
            rest, between = _between(hour, self.cells["open"][rows], self.newest)
        shown = between["hour"] >= first
        at, own = np.concatenate([at, rest[shown]]), np.concatenate([own, between[shown]])
        return keys, {"row": at, **{name: np.ascontiguousarray(own[name]) for name in CELL.names or ()}}


def _between(hour: NDArray[np.int32], opened: NDArray[np.bool_], newest: int) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Return the hours without a summary in which an episode went on: the row of each, and its cell.

    An hour without an event has no summary, and what was open at the end of the one before lasts until the next.

    Args:
        hour: since 1970, (rows, HOURS), as in `CELL`
        opened: whether an episode was open at the end of each
        newest: the hour before which all summaries are there
    """
    rows = np.flatnonzero(opened.any(axis=1))
    hour, opened = hour[rows], opened[rows]
    order = np.argsort(hour, axis=1)
    hour, opened = np.take_along_axis(hour, order, 1), np.take_along_axis(opened, order, 1)
    following = np.concatenate([hour[:, 1:], np.full((len(rows), 1), newest, np.int32)], axis=1)
    row, at = np.nonzero(opened & (following > hour + 1))
    first = np.maximum(hour[row, at] + 1, newest - HOURS + 1).astype(np.int64)
    n = np.maximum(following[row, at] - first, 0)
    found = np.zeros(int(n.sum()), CELL)
    found["hour"] = np.arange(len(found)) + np.repeat(first - (np.cumsum(n) - n), n)
    found["inside"], found["open"] = HOUR_MS // 1000, True
    for name in UNKNOWN:
        found[name] = np.nan
    return np.repeat(rows[row], n), found


def _cell(content: Mapping[str, Any], hour: int) -> tuple[Any, ...]:
    nan, alerts = float("nan"), content.get("alerts") or {}

    def number(name: str, most: float = math.inf) -> float:
        value = content.get(name)
        return nan if value is None else min(value, most)

    return (
        hour,
        content["events"],
        number("mean"),
        number("mean_predicted"),
        number("error"),
        number("relative_error", MOST),
        number("coverage"),
        number("score", MOST),
        round(content.get("episode_seconds") or 0.0),
        bool(content.get("open")),
        tuple(min(alerts.get(kind, 0), MAX_OF_KIND) for kind in KINDS),
    )
