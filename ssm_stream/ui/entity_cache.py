"""What the page knows of the entities: the last events of each, in columns, bounded in memory and in time.

Batches come from the threads that send predictions. They are taken in by array operations, as long as that costs no
more than a small share of the time; beyond it some are left out, and the page shows a sample. The last batch of a
source is never left out for good: it is taken in when somebody looks.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.ingest.events import Events
from ssm_stream.kernels.loop import Predictions

POINTS = 48
"""Last events of an entity that are kept."""
MOST_BYTES = 48 * 2**20
"""Of those events, over all entities."""
MOST_ENTITIES = 20_000
FREED = 20
"""When there is no room, one row in so many is freed: those silent for longest."""
ALONE, WATCHED, PRESSED = 0.004, 0.05, 0.004
"""Share of the time that taking batches in may cost: while nobody looks, while somebody does, and while the dataflow
lags besides."""
ENOUGH, OLD = 2_000, 0.5
"""Events that are taken in together, and the age of a batch that is not kept waiting while nobody looks, s."""
SAVED = 0.02
"""Seconds of that share that a pause may save."""
FADES = 6.0
"""Seconds in which a high score loses half of the attention that it gets."""
ANOMALY, DRIFT, FLEET_ANOMALY, FLEET_DRIFT = 1, 2, 4, 8
"""Of `flags`: an open episode of the entity's own, or one of the fleet that it is in."""
MIN_ROWS = 256
COLUMNS = ("y", "yhat", "lower", "upper", "score")
Waiting = tuple[tuple[int, int], Events, Predictions]
"""Source and thread of a batch, and the batch."""


class RowEvents(NamedTuple):
    """A row's events in a batch: their places in it, in order."""

    row: int
    places: NDArray[np.intp]


class Batch(NamedTuple):
    """n events with m targets: names; ts (n,); values (n, m, 5) float32 in the order of `COLUMNS`; the rest (n, m)."""

    names: list[str]
    ts: NDArray[np.int64]
    values: NDArray[np.float32]
    warmup: NDArray[np.bool_]
    labelled: NDArray[np.int64]
    fleet: NDArray[np.float64]


def joined(waiting: list[Waiting], m: int, most: int) -> Batch:
    """Batches as one. most: different names; of a flood of them the first events count"""
    names = [name for _, events, _ in waiting for name in events.entity]
    n = len(names)

    def column(name: str) -> Any:
        return np.concatenate([getattr(p, name) for _, _, p in waiting]).reshape(n, m)

    values = np.empty((n, m, len(COLUMNS)), np.float32)
    values[:, :, 0] = np.concatenate([events.target for _, events, _ in waiting]).reshape(n, m)
    for i, name in enumerate(COLUMNS[1:], 1):
        values[:, :, i] = column(name)
    ts = np.concatenate([events.ts for _, events, _ in waiting])
    found = Batch(names, ts, values, column("warmup"), column("n"), column("fleet"))
    if n > most and len(set(names)) > most:
        k = slice(most)
        return Batch(names[k], ts[k], values[k], found.warmup[k], found.labelled[k], found.fleet[k])
    return found


class Tail(NamedTuple):
    """The last events of an entity, oldest first: ts (k,), values (k, 5) float32 in the order of `COLUMNS`."""

    ts: NDArray[np.int64]
    values: NDArray[np.float32]


class EntityCache:
    """Entities by row.

    targets: of an event
    """

    def __init__(self, targets: int = 1) -> None:
        self.targets = targets
        self.most = max(min(MOST_ENTITIES, MOST_BYTES // (POINTS * (8 + 4 * len(COLUMNS) * targets))), 16)
        self.lock = threading.Lock()
        self.names: list[str] = []
        self.version = 0
        """Grows with each batch."""
        self.layout = 0
        """Grows when rows are added or change their entity."""
        self.left_out = 0
        """Batches that were not taken in."""
        self.taken = 0
        self.listen: Callable[[list[RowEvents], Batch], None] = lambda groups, batch: None
        """Is told of the events of the rows in `groups`."""
        self.freed = 0
        """Entities that had to make room."""
        self.watched = self.pressed = False
        """Somebody looks; the dataflow lags."""
        self._index: dict[str, int] = {}
        self._folding = threading.Lock()
        self._waiting: list[Waiting] = []
        self._events, self._oldest = 0, 0.0
        self._saved, self._since = SAVED, time.monotonic()
        self.groups: frozenset[int] = frozenset()
        """Rows whose events `listen` is told of."""
        self._free: list[int] = []
        self._room = 0
        self._widen(MIN_ROWS)

    def __len__(self) -> int:
        return len(self.names)

    def _widen(self, room: int) -> None:
        room, before, m = min(room, self.most), self._room, self.targets

        def wider(name: str, shape: tuple[int, ...], kind: Any, fill: float = 0) -> None:
            new = np.full((room, *shape), fill, kind)
            if before:
                new[:before] = getattr(self, name)
            setattr(self, name, new)

        wider("ts", (), np.int64)
        wider("seen", (), np.float64)
        wider("changed", (), np.int64)
        wider("count", (), np.int64)
        wider("last", (m, len(COLUMNS)), np.float32, np.nan)
        wider("warmup", (m,), np.bool_, 1)
        wider("labelled", (m,), np.int64)
        wider("fleet", (m,), np.float32)
        wider("heat", (), np.float32)
        wider("heated", (), np.float64)
        wider("flags", (), np.uint8)
        wider("ring_ts", (POINTS,), np.int64)
        wider("ring", (POINTS, m, len(COLUMNS)), np.float32, np.nan)
        self._room = room

    ts: NDArray[np.int64]
    """(rows,) time of the last event, ms; `seen` when it came, by the monotonic clock; `changed`: the version then."""
    seen: NDArray[np.float64]
    changed: NDArray[np.int64]
    count: NDArray[np.int64]
    last: NDArray[np.float32]
    """(rows, m, 5) of the last event, in the order of `COLUMNS`."""
    warmup: NDArray[np.bool_]
    labelled: NDArray[np.int64]
    fleet: NDArray[np.float32]
    heat: NDArray[np.float32]
    """(rows,) high scores of late, which fade."""
    heated: NDArray[np.float64]
    flags: NDArray[np.uint8]
    ring_ts: NDArray[np.int64]
    ring: NDArray[np.float32]

    # What comes in.

    def observe(self, source: int, events: Events, predictions: Predictions) -> None:
        """Keep a batch until it is taken in: with others, when somebody looks, there are thousands, or it is old.

        Args:
            source: partition that the events come from
        """
        now = time.monotonic()
        with self.lock:
            if not self._waiting:
                self._oldest = now
            self._waiting.append(((source, threading.get_ident()), events, predictions))
            self._events += len(events)
            due = self._events >= ENOUGH or (now - self._oldest > OLD and not self.watched)
        if due:
            self.settle()

    def settle(self) -> None:
        """Take in what waits; where that has cost too much of late, only what came last, and later."""
        if not self._waiting or not self._folding.acquire(blocking=False):
            return
        try:
            now = time.monotonic()
            share = ALONE if not self.watched else PRESSED if self.pressed else WATCHED
            self._saved = min(self._saved + share * (now - self._since), SAVED)
            self._since = now
            with self.lock:
                if self.behind or self.pressed:
                    last = {key: (key, events, predictions) for key, events, predictions in self._waiting}
                    self.left_out += len(self._waiting) - len(last)
                    self._waiting = list(last.values())
                self._events = 0  # so that the next ones are waited for
                if self.behind:
                    return
                # While the flow lags one source after the other, so that something is new more often.
                most = 1 if self.pressed else len(self._waiting)
                waiting, self._waiting = self._waiting[:most], self._waiting[most:]
            began = time.thread_time()
            batch = joined(waiting, self.targets, self.most // 2)
            with self.lock:
                groups = self._take(batch, now)
            if groups:
                self.listen(groups, batch)
            self._saved -= time.thread_time() - began
        finally:
            self._folding.release()

    @property
    def behind(self) -> bool:
        """More has come than may be taken in."""
        return self._saved <= 0

    def row_of(self, name: str) -> int | None:
        """Of an entity; None where it is not known."""
        return self._index.get(name)

    def _rows(self, names: list[str]) -> NDArray[np.intp]:
        index = self._index
        try:
            return np.array(list(map(index.__getitem__, names)), np.intp)
        except KeyError:
            pass
        new = [name for name in dict.fromkeys(names) if name not in index]
        for at, name in enumerate(new):
            if len(self.names) < self.most:
                if len(self.names) == self._room:
                    self._widen(self._room * 2)
                index[name] = len(self.names)
                self.names.append(name)
                continue
            if not self._free:
                self._make_room(set(names), len(new) - at)
            row = self._free.pop()
            index.pop(self.names[row], None)
            self._clear(row)
            index[name] = row
            self.names[row] = name
        self.layout += 1
        return np.array(list(map(index.__getitem__, names)), np.intp)

    def _make_room(self, needed: set[str], least: int) -> None:
        """Rows of the longest silent that a batch does not name; as many as there are where these are too few."""
        order = np.argsort(self.seen[: len(self.names)], kind="stable").tolist()
        wanted = max(self.most // FREED, least)
        silent = [row for row in order if self.names[row] not in needed]
        self._free = (silent or order)[:wanted][::-1]

    def _clear(self, row: int) -> None:
        self.freed += 1
        self.count[row] = self.heat[row] = self.flags[row] = 0
        self.ring[row] = self.last[row] = np.nan

    def _take(self, batch: Batch, now: float) -> list[RowEvents]:
        names, ts, values = batch.names, batch.ts, batch.values
        n = len(names)
        rows = self._rows(names)
        order = np.argsort(rows, kind="stable")
        sorted_rows = rows[order]
        starts = np.concatenate([[0], np.flatnonzero(np.diff(sorted_rows)) + 1])
        ends = np.append(starts[1:], n)
        row, size = sorted_rows[starts], ends - starts
        # Of each row the last events, each to its place in the ring.
        rank = np.arange(n) - np.repeat(starts, size)
        kept = rank >= np.repeat(size - POINTS, size)
        place = (np.repeat(self.count[row], size) + rank)[kept] % POINTS
        at, of = sorted_rows[kept], order[kept]
        self.ring_ts[at, place] = ts[of]
        self.ring[at, place] = values[of]
        latest = order[ends - 1]
        self.count[row] += size
        self.ts[row], self.seen[row] = ts[latest], now
        self.last[row] = values[latest]
        self.warmup[row] = batch.warmup[latest]
        self.labelled[row] = batch.labelled[latest]
        self.fleet[row] = batch.fleet[latest]
        peak = np.fmax.reduceat(np.fmax.reduce(values[:, :, 4], axis=1)[order], starts)
        self.heat[row] = np.maximum(self.heat[row] * 0.5 ** ((now - self.heated[row]) / FADES), peak)
        self.heated[row] = now
        self.version += 1
        self.taken += 1
        self.changed[row] = self.version
        found = []
        for wanted in self.groups:
            at = int(np.searchsorted(row, wanted))
            if at < len(row) and row[at] == wanted:
                found.append(RowEvents(wanted, order[starts[at] : ends[at]]))
        return found

    def mark(self, names: list[str], bit: int, on: bool) -> None:
        """Set or clear a flag of entities that are known."""
        with self.lock:
            rows = [row for name in names if (row := self._index.get(name)) is not None]
            if rows:
                self.version += 1
                self.flags[rows] = self.flags[rows] | bit if on else self.flags[rows] & np.uint8(255 - bit)
                self.changed[rows] = self.version

    # What is asked.

    def tail(self, row: int, target: int) -> Tail:
        """The last events of a row; the caller holds the lock."""
        count = int(self.count[row])
        if count < POINTS:
            return Tail(self.ring_ts[row, :count].copy(), self.ring[row, :count, target].copy())
        turn = -(count % POINTS)
        return Tail(np.roll(self.ring_ts[row], turn), np.roll(self.ring[row, :, target], turn, axis=0))

    def attention(self, now: float) -> NDArray[np.float64]:
        """(rows,) what a person should look at first: open episodes, then high scores of late."""
        n = len(self.names)
        heat = self.heat[:n] * 0.5 ** ((now - self.heated[:n]) / FADES)
        flags = self.flags[:n]
        rank = np.where(flags & (ANOMALY | DRIFT), 2, 0) + np.where(flags & (FLEET_ANOMALY | FLEET_DRIFT), 1, 0)
        return rank * 1e7 + np.minimum(heat, 1e6)

    def worst(self) -> NDArray[np.intp]:
        """(rows,) the target with the highest score, of which an overview shows the values."""
        n = len(self.names)
        if self.targets == 1:
            return np.zeros(n, np.intp)
        return np.asarray(np.nan_to_num(self.last[:n, :, 4], nan=-1.0).argmax(axis=1), np.intp)

    def levels(self) -> NDArray[np.uint8]:
        """(rows,) 0 warming up, 1 calm, 2 score above 0.7, 3 above 1, 4 drift, 5 anomaly (open episodes)."""
        n = len(self.names)
        score = np.fmax.reduce(self.last[:n, :, 4], axis=1)
        level = np.ones(n, np.uint8)
        level[score > 0.7] = 2
        level[score > 1.0] = 3
        level[self.warmup[:n].all(axis=1)] = 0
        flags = self.flags[:n]
        level[(flags & (DRIFT | FLEET_DRIFT)) > 0] = 4
        level[(flags & (ANOMALY | FLEET_ANOMALY)) > 0] = 5
        return level
