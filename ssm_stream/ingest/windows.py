"""Derived inputs that depend on an entity's earlier events: rolling means, and lagged values.

An entity has the last values of each, oldest first, NaN where one was unknown or there was none. A mean is that of the
known values among them, added from the oldest to the newest: the same bits however the events are cut into batches.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from ssm_stream.config import Event
from ssm_stream.ingest.events import Events
from ssm_stream.ingest.factorize import factorize
from ssm_stream.ingest.single_event import SingleEvent

Floats = NDArray[np.float64]
CLOCK_STEPS_PER_TTL = 100
"""One event advances a source's clock by at most the TTL's hundredth: a wrong time cannot expire all entities."""
MIN_ROWS = 16


class _Window(NamedTuple):
    """A derived input: its column of the features, the events averaged, the lag, and where its past values lie."""

    column: int
    over: int
    past: slice

    @property
    def size(self) -> int:
        return int(self.past.stop - self.past.start)


class _Result(NamedTuple):
    """The windows of a batch.

    values (n, k): of the columns; names, past (g, width), seen (g,): of the entities, after their last event
    source, clock: ms after the last event; after: by window, the values of all lives and each event's place there
    """

    values: Floats
    names: list[str]
    past: Floats
    seen: Floats
    source: int
    clock: float
    after: list[tuple[Floats, NDArray[np.int64]]]


class Windows:
    """The past values of the entities of one engine. ttl: ms after which an entity starts afresh"""

    def __init__(self, event: Event, ttl: float) -> None:
        self._windows: list[_Window] = []
        at = 0
        for column, name in enumerate(event.numbers):
            if name in event.derive and (past := event.derive[name].past):
                self._windows.append(_Window(column, event.derive[name].over or 1, slice(at, at + past)))
                at += past
        self.width = at
        derived = [event.numbers[window.column] for window in self._windows]
        self.places = {
            (name, repr(event.derive[name])): window.past for name, window in zip(derived, self._windows, strict=True)
        }
        """Places of an entity's past values by derived input, its name and definition."""
        self._ttl = ttl
        self._clear()

    def _clear(self) -> None:
        self._rows: dict[str, int] = {}
        self._free: list[int] = []
        self._past, self._seen = np.full((0, self.width), math.nan), np.zeros(0)
        self._clocks: dict[int, float] = {}
        self._changed, self._gone = set[str](), set[str]()
        self._batch: list[tuple[Floats, NDArray[np.int64]]] | None = None

    def __bool__(self) -> bool:
        """Return whether any input depends on earlier events."""
        return self.width > 0

    @property
    def bytes_per_entity(self) -> int:
        """Memory of one entity's past values."""
        return 8 * (self.width + 1) if self.width else 0

    def fill(self, events: Events, source: int = 0, evicted: Iterable[str] = ()) -> None:
        """Compute the columns of these events in place, and keep their values; of idle ones there are none.

        Args:
            evicted: entities to forget first
        """
        for name in evicted:
            self.remove(name)
        active = events.active
        part = events if active is None else events.take(active)
        if part.windows is None or not len(part):
            return
        result = self._compute(part, source)
        for j, window in enumerate(self._windows):
            events.features[slice(None) if active is None else active, window.column] = result.values[:, j]
        self._keep(result)

    def filled(self, events: Events, source: int = 0) -> Events:
        """Return a copy of events with the columns that they would get now; nothing is kept."""
        if events.windows is None or not len(events) or events.active is not None:
            return events
        features, result = events.features.copy(), self._compute(events, source)
        for j, window in enumerate(self._windows):
            features[:, window.column] = result.values[:, j]
        return replace(events, features=features)

    def _compute(self, events: Events, source: int) -> _Result:
        assert events.windows is not None
        n, codes = len(events), dict[str, int]()
        ids = factorize(events.entity, codes)
        rows = np.array([self._rows.get(name, -1) for name in codes], np.int64)
        clock = self._advance(events.ts, source)
        order = np.argsort(ids, kind="stable")
        owner, seen = ids[order], np.maximum(clock, events.ts)[order]
        first = np.diff(owner, prepend=-1) != 0
        before = np.r_[math.nan, seen[:-1]]
        known = rows[owner[first]]
        before[first] = np.where(known >= 0, self._seen[known] if len(self._seen) else math.nan, math.nan)
        expired = clock[order] - before > self._ttl  # never, of an entity without events before
        begins = first | expired
        # A life begins with the entity's first event of the batch, and where its state has expired.
        starts = np.flatnonzero(begins)
        life = np.cumsum(begins) - 1
        rank, count = np.arange(n) - starts[life], np.diff(starts, append=n)
        goes_on = np.flatnonzero(first[starts] & ~expired[starts] & (rows[owner[starts]] >= 0))
        last = np.flatnonzero(np.diff(owner, append=-1) != 0)
        values, past = np.empty((n, len(self._windows))), np.empty((len(codes), self.width))
        after: list[tuple[Floats, NDArray[np.int64]]] = []
        for j, window in enumerate(self._windows):
            size = window.size
            base = np.cumsum(count + size) - count - size
            chain = np.full(n + len(starts) * size, math.nan)
            chain[base[goes_on, None] + np.arange(size)] = self._past[rows[owner[starts[goes_on]]], window.past]
            place = base[life] + size + rank
            chain[place] = events.windows[order, j]
            values[order, j] = _means(chain, place - size, window.over)
            past[owner[last], window.past] = chain[place[last, None] + np.arange(1 - size, 1)]
            by_event = np.empty(n, np.int64)
            by_event[order] = place
            after.append((chain, by_event))
        newest = np.empty(len(codes))
        newest[owner[last]] = seen[last]
        return _Result(values, list(codes), past, newest, source, float(clock[-1]), after)

    def _advance(self, ts: NDArray[np.int64], source: int) -> Floats:
        """Return the clock of a source at each event, ms; it is not kept yet."""
        step, start = self._ttl / CLOCK_STEPS_PER_TTL, self._clocks.get(source, float(ts[0]))
        if float(ts.max()) - start <= step:
            return np.maximum.accumulate(np.maximum(ts.astype(np.float64), start))
        clocks, clock = np.empty(len(ts)), start
        for i, time in enumerate(ts.tolist()):
            clock += min(max(time - clock, 0.0), step)
            clocks[i] = clock
        return clocks

    def _keep(self, result: _Result) -> None:
        new = [name for name in result.names if name not in self._rows]
        for name in new:
            if not self._free:
                rows = max(2 * len(self._seen), MIN_ROWS)
                self._free = list(range(rows - 1, len(self._seen) - 1, -1))
                self._past = np.concatenate([self._past, np.full((rows - len(self._seen), self.width), math.nan)])
                self._seen = np.concatenate([self._seen, np.zeros(rows - len(self._seen))])
            self._rows[name] = self._free.pop()
        at = np.fromiter(map(self._rows.__getitem__, result.names), np.int64, len(result.names))
        self._past[at], self._seen[at] = result.past, result.seen
        self._clocks[result.source] = result.clock
        self._changed.update(result.names)
        self._batch = result.after

    # One event.

    def fill_one(self, event: SingleEvent, source: int = 0) -> SingleEvent:
        """Return an event with its columns, and keep its values: the same bits as of `fill`."""
        if event.windows is None:
            return event
        start = self._clocks.get(source, float(event.ts))
        clock = start + min(max(event.ts - start, 0.0), self._ttl / CLOCK_STEPS_PER_TTL)
        row = self._rows.get(event.entity)
        past = [math.nan] * self.width
        if row is not None and not clock - self._seen[row] > self._ttl:
            past = self._past[row].tolist()
        features, kept = list(event.features), list[float]()
        after: list[tuple[Floats, NDArray[np.int64]]] = []
        for window, value in zip(self._windows, event.windows, strict=True):
            chain = [*past[window.past], value]
            features[window.column] = _mean(chain[: window.over])
            kept += chain[1:]
            after.append((np.array(chain), np.array([window.size])))
        seen = np.array([max(clock, event.ts)])
        self._keep(_Result(np.empty((0, 0)), [event.entity], np.array([kept]), seen, source, clock, after))
        return event._replace(features=features)

    # State.

    def remove(self, entity: str) -> None:
        """Forget an entity."""
        row = self._rows.pop(entity, None)
        if row is not None:
            self._free.append(row)
            self._past[row] = math.nan
            self._changed.discard(entity)
            self._gone.add(entity)

    def end_batch(self) -> None:
        """What is hashed from now on is the latest state, not that at an event of the last batch."""
        self._batch = None

    def hashed(self, entity: str, index: int | None = None) -> bytes:
        """Return an entity's past values, as they are now or after an event of the last batch."""
        if not self.width:
            return b""
        if self._batch is None or index is None:
            row = self._rows.get(entity)
            return np.full(self.width, math.nan).tobytes() if row is None else self._past[row].tobytes()
        parts = [
            chain[int(place[index]) + 1 - window.size : int(place[index]) + 1]
            for window, (chain, place) in zip(self._windows, self._batch, strict=True)
        ]
        return np.concatenate(parts).tobytes()

    def dump(self, *, full: bool) -> tuple[list[list[Any]], list[tuple[str, NDArray[Any]]]]:
        """Return the clocks, and names and arrays of a snapshot: all, or what changed since `mark_persisted`.

        Forgets the entities that have expired: their next event would begin afresh anyway.
        """
        latest = min(self._clocks.values(), default=-math.inf)
        for name in [name for name, row in self._rows.items() if latest - self._seen[row] > self._ttl]:
            self.remove(name)
        names = sorted(self._rows if full else self._changed)
        at = np.fromiter(map(self._rows.__getitem__, names), np.int64, len(names))
        arrays: list[tuple[str, NDArray[Any]]] = []
        if not full:
            arrays.append(("gone", _bytes(sorted(self._gone - self._rows.keys()))))
        arrays += [("names", _bytes(names)), ("seen", self._seen[at]), ("past", self._past[at])]
        return [[source, repr(clock)] for source, clock in sorted(self._clocks.items())], arrays

    def mark_persisted(self) -> None:
        """Mark the state as persisted: the next incremental snapshot has what changes from now on."""
        self._changed, self._gone = set(), set()

    def load(self, clocks: Sequence[Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Load what `dump` returned; without `gone`, it is a whole state.

        Raises:
            ValueError: the arrays are not those of this configuration.
        """
        if "gone" not in arrays:
            self._clear()
        for name in orjson.loads(arrays["gone"].tobytes()) if "gone" in arrays else ():
            self.remove(name)
        found: list[str] = orjson.loads(arrays["names"].tobytes())
        seen, past = arrays["seen"], arrays["past"]
        if past.shape != (len(found), self.width) or seen.shape != (len(found),) or past.dtype != np.float64:
            raise ValueError(f"windows of {past.shape[1:]} values")
        self._keep(_Result(np.empty((0, 0)), found, past, seen, 0, 0.0, []))
        self._clocks = {int(source): float(clock) for source, clock in clocks}
        self.end_batch()
        self.mark_persisted()


def _bytes(names: list[str]) -> NDArray[np.uint8]:
    return np.frombuffer(orjson.dumps(names), np.uint8)


def _means(chain: Floats, begin: NDArray[np.int64], over: int) -> Floats:
    """Return (n,) the mean of the known among the `over` values from each place on, NaN if none is known."""
    if over == 1:
        return chain[begin]
    total, count = np.zeros(len(begin)), np.zeros(len(begin))
    for i in range(over):
        value = chain[begin + i]
        known = value == value
        total += np.where(known, value, 0.0)
        count += known
    out: Floats = np.where(count > 0, total / np.maximum(count, 1.0), math.nan)
    return out


def _mean(values: list[float]) -> float:
    """Return what `_means` returns for one place."""
    if len(values) == 1:
        return values[0]
    total, count = 0.0, 0
    for value in values:
        if value == value:
            total += value
            count += 1
    return total / count if count else math.nan
