"""Limits the number of entities per shard and source (`state.max_entities`); evicts or rejects entities beyond it.

Each shard and source has a limit of its own. A decision depends only on the events before it in that shard and source:
not on batches, snapshots, workers or how sources interleave. So a replay decides alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.config import State

CLOCK_STEPS_PER_TTL = 100
"""One event advances the clock by at most the TTL's hundredth, so that a wrong time cannot expire all entities."""


class Segment(NamedTuple):
    """Events that may be processed in one call.

    rows: of the batch; evicted: row and name of the entities to evict there, without an event before it in the segment
    """

    rows: NDArray[np.intp]
    evicted: list[tuple[int, str]]


class PoolEntities:
    """The entities of a shard and source. clock: ms; last_seen: name → clock at its last event, oldest first"""

    def __init__(self, clock: int | None = None, last_seen: dict[str, int] | None = None) -> None:
        self.clock, self.last_seen = clock, last_seen if last_seen is not None else {}

    def advanced_clock(self, ts: int, step: float) -> int:
        """Return the clock after an event of that time. step: by which it may advance at most"""
        return ts if self.clock is None else self.clock + int(min(max(ts - self.clock, 0), step))


class EntityLimiter:
    """Decides which entities are in memory. rules: with `max_entities`"""

    def __init__(self, rules: State) -> None:
        assert rules.max_entities is not None
        self._max_entities, self._evict = rules.max_entities, rules.when_full == "evict"
        self._ttl = rules.ttl * 1000.0 if rules.ttl else math.inf
        self._pools: dict[tuple[int, int], PoolEntities] = {}

    @property
    def fullness(self) -> float:
        """Share of the limit that the fullest shard and source has reached; safe to read from another thread."""
        return max((len(pool.last_seen) for pool in list(self._pools.values())), default=0) / self._max_entities

    def __len__(self) -> int:
        """Entities in memory, over all shards and sources."""
        return sum(len(pool.last_seen) for pool in self._pools.values())

    def admit(
        self, names: list[str], ts: NDArray[np.int64], shards: Mapping[str, int], source: int
    ) -> tuple[list[Segment], list[int]]:
        """Return the events to process, in segments, and the rows of those that are rejected.

        Args:
            names: entities of n events, in order; ts: their times, ms
            shards: shard of each name; empty: all are of shard 0
            source: of the events
        """
        present = set(shards.values()) or {0}
        if len(present) == 1 and self._accept_all(names, ts, self._pool(present.pop(), source)):
            return [Segment(np.arange(len(names)), [])], []
        segments: list[Segment] = []
        rejected, rows, evictions, here = list[int](), list[int](), list[tuple[int, str]](), set[str]()
        for i, (name, time) in enumerate(zip(names, ts.tolist(), strict=True)):
            pool = self._pool(shards[name] if shards else 0, source)
            if name not in pool.last_seen:
                evicted = self._evict_for_one(pool)
                if evicted is None:
                    rejected.append(i)
                    continue
                if not here.isdisjoint(evicted):  # process their events so far before they are evicted
                    segments.append(Segment(np.array(rows, np.intp), evictions))
                    rows, evictions, here = [], [], set()
                evictions += [(i, one) for one in evicted]
            here.add(name)
            rows.append(i)
            pool.clock = pool.advanced_clock(time, self._ttl / CLOCK_STEPS_PER_TTL)
            pool.last_seen.pop(name, None)
            pool.last_seen[name] = pool.clock
        if rows:
            segments.append(Segment(np.array(rows, np.intp), evictions))
        return segments, rejected

    def _pool(self, shard: int, source: int) -> PoolEntities:
        return self._pools.setdefault((shard, source), PoolEntities())

    def _accept_all(self, names: list[str], ts: NDArray[np.int64], pool: PoolEntities) -> bool:
        """Accept all events at once if none can exceed the limit; return False, with nothing changed, if one might."""
        new, last_seen = dict.fromkeys(reversed(names)), pool.last_seen
        room = self._max_entities - len(last_seen)
        if len(new) > room and sum(name not in last_seen for name in new) > room:
            return False
        start = int(ts[0]) if pool.clock is None else pool.clock
        if int(ts.max()) - start <= self._ttl / CLOCK_STEPS_PER_TTL:
            clocks: list[int] = np.maximum.accumulate(np.maximum(ts, start)).tolist()
            pool.clock = clocks[-1]
        else:
            clocks = []
            for time in ts.tolist():
                pool.clock = pool.advanced_clock(time, self._ttl / CLOCK_STEPS_PER_TTL)
                clocks.append(pool.clock)
        last = dict(zip(names, clocks, strict=True))
        for name in reversed(new):
            last_seen.pop(name, None)
            last_seen[name] = last[name]
        return True

    def _evict_for_one(self, pool: PoolEntities) -> list[str] | None:
        """Evict entities until one more has room; return their names, or None if none may be evicted."""
        evicted: list[str] = []
        while len(pool.last_seen) >= self._max_entities:
            name = next(iter(pool.last_seen))
            assert pool.clock is not None
            if not self._evict and pool.clock - pool.last_seen[name] <= self._ttl:
                return None
            del pool.last_seen[name]
            evicted.append(name)
        return evicted

    def rejection_reason(self, name: str) -> str:
        """Return why an event of this entity is rejected."""
        return (
            f"{name!r} is new, and {self._max_entities} entities are in memory already (state.max_entities, of each "
            "shard and partition)"
        )

    def dump(self) -> list[list[Any]]:
        """Return all shards and sources as JSON has them, sorted; the entities of each, oldest first."""
        return [
            [*key, pool.clock, list(pool.last_seen), list(pool.last_seen.values())]
            for key, pool in sorted(self._pools.items())
        ]

    def load(self, rows: list[list[Any]]) -> None:
        """Load what `dump` returned."""
        self._pools = {
            (shard, source): PoolEntities(clock, dict(zip(names, clocks, strict=True)))
            for shard, source, clock, names, clocks in rows
        }
