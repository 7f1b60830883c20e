"""The last events of each entity, in columns, bounded in memory and in CPU time.

Batches come from the threads that send predictions. They are merged by array operations within a small share of the
CPU time; beyond it some are skipped, and the page shows a sample. The last batch of a source is never skipped for good:
it is merged when a browser needs it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.core.loop import Predictions
from ssm_stream.ingest.events import Events
from ssm_stream.ingest.planned_stops import OUTSIDE

POINTS = 48
"""Last events of an entity that are kept."""
MAX_BYTES = 48 * 2**20
"""Memory of those events, over all entities."""
MAX_ENTITIES = 20_000
EVICT_ONE_IN = 20
"""When the cache is full, one row in so many is evicted: those idle for longest."""
IDLE_SHARE, VIEWED_SHARE, LAGGING_SHARE = 0.004, 0.05, 0.004
"""Share of the time that merging may cost: without viewers, with viewers, and with viewers while the dataflow lags."""
MERGE_EVENTS, MERGE_AFTER = 2_000, 0.5
"""Waiting events, and the age of a waiting batch without viewers, s, at which batches are merged."""
MAX_BUDGET = 0.02
"""Seconds of CPU time that a pause may accumulate."""
HALF_LIFE = 6.0
"""Seconds after which the weight of a high score in `attention` has halved."""
ANOMALY, DRIFT, FLEET_ANOMALY, FLEET_DRIFT, LIMIT_FLAG, SILENCE_FLAG, STUCK_FLAG, STOPPED = (1 << i for i in range(8))
"""Bits of `flags`: an open episode of the entity, or an open fleet episode that includes it; an open episode of a rule;
the last event lies in a planned stop."""
OPEN = STOPPED - 1
"""All bits of open episodes."""
MIN_ROWS = 256
COLUMNS = ("y", "yhat", "lower", "upper", "score")
WaitingBatch = tuple[tuple[int, int], Events, Predictions]
"""Source and thread of a batch, and the batch."""


class RowEvents(NamedTuple):
    """The events of one row in a batch, by their positions, ascending."""

    row: int
    positions: NDArray[np.intp]


class BatchColumns(NamedTuple):
    """n events with m targets."""

    names: list[str]
    ts: NDArray[np.int64]  # (n,) ms
    values: NDArray[np.float32]  # (n, m, 5) in the order of `COLUMNS`
    warmup: NDArray[np.bool_]  # (n, m)
    labelled: NDArray[np.int64]  # (n, m) labelled events before
    fleet: NDArray[np.float64]  # (n, m) share learned from other entities
    stopped: NDArray[np.bool_]  # (n,) whether the event lies in a planned stop


def concatenate(waiting: list[WaitingBatch], m: int, most: int) -> BatchColumns:
    """Concatenate batches.

    Args:
        m: targets
        most: different names; of a batch with more only the first events are kept
    """
    names = [name for _, events, _ in waiting for name in events.entity]
    n = len(names)

    def column(name: str) -> Any:
        return np.concatenate([getattr(p, name) for _, _, p in waiting]).reshape(n, m)

    values = np.empty((n, m, len(COLUMNS)), np.float32)
    values[:, :, 0] = np.concatenate([events.target for _, events, _ in waiting]).reshape(n, m)
    for i, name in enumerate(COLUMNS[1:], 1):
        values[:, :, i] = column(name)
    ts = np.concatenate([events.ts for _, events, _ in waiting])
    stopped = np.concatenate([_stopped(events) for _, events, _ in waiting])
    found = BatchColumns(names, ts, values, column("warmup"), column("n"), column("fleet"), stopped)
    if n > most and len(set(names)) > most:
        k = slice(most)
        some = (found.warmup[k], found.labelled[k], found.fleet[k], found.stopped[k])
        return BatchColumns(names[k], ts[k], values[k], *some)
    return found


def _stopped(events: Events) -> NDArray[np.bool_]:
    return np.zeros(len(events), np.bool_) if events.maintenance is None else events.maintenance != OUTSIDE


class Tail(NamedTuple):
    """The last events of an entity, oldest first."""

    ts: NDArray[np.int64]  # (k,) ms
    values: NDArray[np.float32]  # (k, 5) in the order of `COLUMNS`


class EntityCache:
    """The last events of each entity; an entity has a row. targets: of an event"""

    def __init__(self, targets: int = 1) -> None:
        self.targets = targets
        self.capacity = max(min(MAX_ENTITIES, MAX_BYTES // (POINTS * (8 + 4 * len(COLUMNS) * targets))), 16)
        self.lock = threading.Lock()
        self.names: list[str] = []
        self.version = 0
        """Increases with each merge and each change of a flag."""
        self.layout = 0
        """Increases when rows are added or reused for another entity."""
        self.skipped = 0
        """Batches that were not merged."""
        self.merged = 0
        self.on_followed: Callable[[list[RowEvents], BatchColumns], None] = lambda groups, batch: None
        """Called with the events of `followed_rows` in a merged batch."""
        self.evicted = 0
        """Entities that were evicted."""
        self.has_viewers = self.lagging = False
        """A browser is connected; the dataflow lags."""
        self._index: dict[str, int] = {}
        self._merging = threading.Lock()
        self._waiting: list[WaitingBatch] = []
        self._events, self._oldest = 0, 0.0
        self._budget, self._budget_since = MAX_BUDGET, time.monotonic()
        self.followed_rows: frozenset[int] = frozenset()
        """Rows whose events are passed to `on_followed`."""
        self._free: list[int] = []
        self._room = 0
        self._widen(MIN_ROWS)

    def __len__(self) -> int:
        return len(self.names)

    def _widen(self, room: int) -> None:
        room, before, m = min(room, self.capacity), self._room, self.targets

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
        wider("other", (), np.bool_)
        wider("ring_ts", (POINTS,), np.int64)
        wider("ring", (POINTS, m, len(COLUMNS)), np.float32, np.nan)
        self._room = room

    ts: NDArray[np.int64]
    """(rows,) time of the last event, ms."""
    seen: NDArray[np.float64]
    """(rows,) when it was merged, by the monotonic clock."""
    changed: NDArray[np.int64]
    """(rows,) `version` at the last change."""
    count: NDArray[np.int64]
    last: NDArray[np.float32]
    """(rows, m, 5) of the last event, in the order of `COLUMNS`."""
    warmup: NDArray[np.bool_]
    labelled: NDArray[np.int64]
    fleet: NDArray[np.float32]
    heat: NDArray[np.float32]
    """(rows,) highest recent score, decayed by `HALF_LIFE`; of the time `heated`."""
    heated: NDArray[np.float64]
    flags: NDArray[np.uint8]
    other: NDArray[np.bool_]
    """(rows,) whether no event of it has come: it is known from its summaries, such as of another process."""
    ring_ts: NDArray[np.int64]
    ring: NDArray[np.float32]

    # Writing.

    def observe(self, source: int, events: Events, predictions: Predictions) -> None:
        """Keep a batch until it is merged: when a browser refreshes, enough events wait, or it is old.

        Args:
            source: partition that the events come from
        """
        now = time.monotonic()
        with self.lock:
            if not self._waiting:
                self._oldest = now
            self._waiting.append(((source, threading.get_ident()), events, predictions))
            self._events += len(events)
            due = self._events >= MERGE_EVENTS or (now - self._oldest > MERGE_AFTER and not self.has_viewers)
        if due:
            self.merge()

    def merge(self) -> None:
        """Merge the waiting batches; over budget, keep only the last one of each source and merge it later."""
        if not self._waiting or not self._merging.acquire(blocking=False):
            return
        try:
            now = time.monotonic()
            share = IDLE_SHARE if not self.has_viewers else LAGGING_SHARE if self.lagging else VIEWED_SHARE
            self._budget = min(self._budget + share * (now - self._budget_since), MAX_BUDGET)
            self._budget_since = now
            with self.lock:
                if self.over_budget or self.lagging:
                    last = {key: (key, events, predictions) for key, events, predictions in self._waiting}
                    self.skipped += len(self._waiting) - len(last)
                    self._waiting = list(last.values())
                self._events = 0  # wait for the next ones
                if self.over_budget:
                    return
                # While the flow lags, one source at a time, so that something is new more often.
                most = 1 if self.lagging else len(self._waiting)
                waiting, self._waiting = self._waiting[:most], self._waiting[most:]
            began = time.thread_time()
            batch = concatenate(waiting, self.targets, self.capacity // 2)
            with self.lock:
                groups = self._merge_batch(batch, now)
            if groups:
                self.on_followed(groups, batch)
            self._budget -= time.thread_time() - began
        finally:
            self._merging.release()

    @property
    def over_budget(self) -> bool:
        """Whether merging has used up its share of the time."""
        return self._budget <= 0

    def row_of(self, name: str) -> int | None:
        """Return the row of an entity; None if it has none."""
        return self._index.get(name)

    def _rows(self, names: list[str]) -> NDArray[np.intp]:
        index = self._index
        try:
            return np.array(list(map(index.__getitem__, names)), np.intp)
        except KeyError:
            pass
        new = [name for name in dict.fromkeys(names) if name not in index]
        for at, name in enumerate(new):
            if len(self.names) < self.capacity:
                if len(self.names) == self._room:
                    self._widen(self._room * 2)
                index[name] = len(self.names)
                self.names.append(name)
                continue
            if not self._free:
                self._evict(set(names), len(new) - at)
            row = self._free.pop()
            index.pop(self.names[row], None)
            self._clear(row)
            index[name] = row
            self.names[row] = name
        self.layout += 1
        return np.array(list(map(index.__getitem__, names)), np.intp)

    def _evict(self, needed: set[str], least: int) -> None:
        """Free at least `least` rows of the entities idle for longest, preferably not of those in `needed`."""
        order = np.argsort(self.seen[: len(self.names)], kind="stable").tolist()
        count = max(self.capacity // EVICT_ONE_IN, least)
        idle = [row for row in order if self.names[row] not in needed]
        self._free = (idle or order)[:count][::-1]

    def _clear(self, row: int) -> None:
        self.evicted += 1
        self.count[row] = self.heat[row] = self.flags[row] = self.other[row] = 0
        self.ring[row] = self.last[row] = np.nan

    def _merge_batch(self, batch: BatchColumns, now: float) -> list[RowEvents]:
        names, ts, values = batch.names, batch.ts, batch.values
        n = len(names)
        rows = self._rows(names)
        order = np.argsort(rows, kind="stable")
        sorted_rows = rows[order]
        starts = np.concatenate([[0], np.flatnonzero(np.diff(sorted_rows)) + 1])
        ends = np.append(starts[1:], n)
        row, size = sorted_rows[starts], ends - starts
        # The last events of each row, each to its slot in the ring.
        rank = np.arange(n) - np.repeat(starts, size)
        kept = rank >= np.repeat(size - POINTS, size)
        slot = (np.repeat(self.count[row], size) + rank)[kept] % POINTS
        at, of = sorted_rows[kept], order[kept]
        self.ring_ts[at, slot] = ts[of]
        self.ring[at, slot] = values[of]
        latest = order[ends - 1]
        self.count[row] += size
        self.ts[row], self.seen[row], self.other[row] = ts[latest], now, False
        self.last[row] = values[latest]
        self.warmup[row] = batch.warmup[latest]
        self.labelled[row] = batch.labelled[latest]
        self.fleet[row] = batch.fleet[latest]
        self.flags[row] = (self.flags[row] & OPEN) | STOPPED * batch.stopped[latest].astype(np.uint8)
        peak = np.fmax.reduceat(np.fmax.reduce(values[:, :, 4], axis=1)[order], starts)
        self.heat[row] = np.fmax(self.heat[row] * 0.5 ** ((now - self.heated[row]) / HALF_LIFE), peak)
        self.heated[row] = now
        self.version += 1
        self.merged += 1
        self.changed[row] = self.version
        found = []
        for followed in self.followed_rows:
            at = int(np.searchsorted(row, followed))
            if at < len(row) and row[at] == followed:
                found.append(RowEvents(followed, order[starts[at] : ends[at]]))
        return found

    def list_others(self, names: list[str], ts: list[int], scores: list[float]) -> None:
        """List entities that are known from their summaries, or bring them up to date; while there is room.

        ts, scores: of their last event, ms, and the highest of its hour
        """
        with self.lock:
            room = self.capacity - len(self.names)
            new = [name for name in names if name not in self._index]
            left = set(new[room:])
            if new[:room]:
                rows = self._rows(new[:room])
                self.other[rows], self.seen[rows], self.warmup[rows] = True, -np.inf, False
            at = [i for i, name in enumerate(names) if name not in left and self.other[self._index[name]]]
            if at:
                rows = np.array([self._index[names[i]] for i in at], np.intp)
                self.version += 1
                self.ts[rows], self.changed[rows] = [ts[i] for i in at], self.version
                self.last[rows, 0, COLUMNS.index("score")] = [scores[i] for i in at]

    def set_flag(self, names: list[str], bit: int, on: bool) -> None:
        """Set or clear a bit of the flags of entities that have a row."""
        with self.lock:
            rows = [row for name in names if (row := self._index.get(name)) is not None]
            if rows:
                self.version += 1
                self.flags[rows] = self.flags[rows] | bit if on else self.flags[rows] & np.uint8(255 - bit)
                self.changed[rows] = self.version

    # Reading.

    def tail(self, row: int, target: int) -> Tail:
        """Return the last events of a row; the caller holds the lock."""
        count = int(self.count[row])
        if count < POINTS:
            return Tail(self.ring_ts[row, :count].copy(), self.ring[row, :count, target].copy())
        turn = -(count % POINTS)
        return Tail(np.roll(self.ring_ts[row], turn), np.roll(self.ring[row, :, target], turn, axis=0))

    def attention(self, now: float) -> NDArray[np.float64]:
        """Return (rows,) the priority of each for a person: open episodes first, then recent high scores."""
        n = len(self.names)
        heat = self.heat[:n] * 0.5 ** ((now - self.heated[:n]) / HALF_LIFE)
        flags = self.flags[:n]
        own = ANOMALY | DRIFT | LIMIT_FLAG | SILENCE_FLAG | STUCK_FLAG
        rank = np.where(flags & own, 2, 0) + np.where(flags & (FLEET_ANOMALY | FLEET_DRIFT), 1, 0)
        return rank * 1e7 + np.minimum(heat, 1e6)

    def worst_targets(self) -> NDArray[np.intp]:
        """Return (rows,) the target with the highest score, which overviews show."""
        n = len(self.names)
        if self.targets == 1:
            return np.zeros(n, np.intp)
        return np.asarray(np.nan_to_num(self.last[:n, :, 4], nan=-1.0).argmax(axis=1), np.intp)

    def levels(self) -> NDArray[np.uint8]:
        """Return (rows,) 0 warming up, 1 normal, 2 score above 0.7, 3 above 1, 4 drift, 5 anomaly, 6 silence or stuck,
        7 limit (open episodes), 8 in a planned stop, 9 known from its summaries; the gravest."""
        n = len(self.names)
        score = np.fmax.reduce(self.last[:n, :, 4], axis=1)
        level = np.ones(n, np.uint8)
        level[score > 0.7] = 2
        level[score > 1.0] = 3
        level[self.warmup[:n].all(axis=1)] = 0
        flags = self.flags[:n]
        level[self.other[:n]] = 9
        level[(flags & STOPPED) > 0] = 8
        level[(flags & (DRIFT | FLEET_DRIFT)) > 0] = 4
        level[(flags & (SILENCE_FLAG | STUCK_FLAG)) > 0] = 6
        level[(flags & (ANOMALY | FLEET_ANOMALY)) > 0] = 5
        level[(flags & LIMIT_FLAG) > 0] = 7
        return level
