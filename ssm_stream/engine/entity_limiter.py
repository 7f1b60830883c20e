"""Who is known: how many entities may be, who makes room for a new one, and which new one stays out.

The limit holds for each shard and source by itself. What is decided at an event depends on the events before it there
and on nothing else: not on batches, snapshots, workers or how sources interleave, so that a replay decides alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.config import State

STEPS = 100
"""One event moves the clock by at most the TTL's hundredth: a wrong time cannot make everyone look long silent."""


class Stretch(NamedTuple):
    """Events that may be processed together. rows: which; leaving: row and name of those that leave, each at that row,
    or without an event of theirs in the stretch before it"""

    rows: NDArray[np.intp]
    leaving: list[tuple[int, str]]


class Group:
    """The entities of a shard and source. seen: name → clock at its last event, ms, the longest ago first"""

    def __init__(self, clock: int | None = None, seen: dict[str, int] | None = None) -> None:
        self.clock, self.seen = clock, seen if seen is not None else {}

    def at(self, ts: int, step: float) -> int:
        """The clock after an event of that time."""
        return ts if self.clock is None else self.clock + int(min(max(ts - self.clock, 0), step))


class EntityLimiter:
    """The groups. rules: with `max_entities`"""

    def __init__(self, rules: State) -> None:
        assert rules.max_entities is not None
        self._most, self._evict = rules.max_entities, rules.when_full == "evict"
        self._ttl = rules.ttl * 1000.0 if rules.ttl else math.inf
        self._groups: dict[tuple[int, int], Group] = {}

    @property
    def fullness(self) -> float:
        """Share of the limit that the fullest group has; may be asked from another thread."""
        return max((len(group.seen) for group in list(self._groups.values())), default=0) / self._most

    def __len__(self) -> int:
        """Entities that are known, of all groups."""
        return sum(len(group.seen) for group in self._groups.values())

    def admit(
        self, names: list[str], ts: NDArray[np.int64], shards: Mapping[str, int], source: int
    ) -> tuple[list[Stretch], list[int]]:
        """Which events are processed, in which stretches, and the rows of those that are refused.

        Args:
            names: of n events, in order; ts: their times, ms
            shards: of each name; empty: all are of shard 0
        """
        homes = set(shards.values()) or {0}
        if len(homes) == 1 and self._roomy(names, ts, self._group(homes.pop(), source)):
            return [Stretch(np.arange(len(names)), [])], []
        stretches: list[Stretch] = []
        refused, rows, leaving, here = list[int](), list[int](), list[tuple[int, str]](), set[str]()
        for i, (name, time) in enumerate(zip(names, ts.tolist(), strict=True)):
            group = self._group(shards[name] if shards else 0, source)
            if name not in group.seen:
                gone = self._for_one_more(group)
                if gone is None:
                    refused.append(i)
                    continue
                if not here.isdisjoint(gone):  # their events so far come before they leave
                    stretches.append(Stretch(np.array(rows, np.intp), leaving))
                    rows, leaving, here = [], [], set()
                leaving += [(i, one) for one in gone]
            here.add(name)
            rows.append(i)
            group.clock = group.at(time, self._ttl / STEPS)
            group.seen.pop(name, None)
            group.seen[name] = group.clock
        if rows:
            stretches.append(Stretch(np.array(rows, np.intp), leaving))
        return stretches, refused

    def _group(self, shard: int, source: int) -> Group:
        return self._groups.setdefault((shard, source), Group())

    def _roomy(self, names: list[str], ts: NDArray[np.int64], group: Group) -> bool:
        """Take note of all events at once, where nobody need leave or stay out; false: it cannot be told so simply."""
        new, seen = dict.fromkeys(reversed(names)), group.seen
        if len(seen) + len(new) > self._most and len(seen) + sum(name not in seen for name in new) > self._most:
            return False
        start = int(ts[0]) if group.clock is None else group.clock
        if int(ts.max()) - start <= self._ttl / STEPS:
            clocks: list[int] = np.maximum.accumulate(np.maximum(ts, start)).tolist()
            group.clock = clocks[-1]
        else:
            clocks = []
            for time in ts.tolist():
                group.clock = group.at(time, self._ttl / STEPS)
                clocks.append(group.clock)
        last = dict(zip(names, clocks, strict=True))
        for name in reversed(new):
            seen.pop(name, None)
            seen[name] = last[name]
        return True

    def _for_one_more(self, group: Group) -> list[str] | None:
        """Those that leave, so that one more may be known; None: nobody does."""
        gone: list[str] = []
        while len(group.seen) >= self._most:
            name = next(iter(group.seen))
            assert group.clock is not None
            if not self._evict and group.clock - group.seen[name] <= self._ttl:
                return None
            del group.seen[name]
            gone.append(name)
        return gone

    def refusal(self, name: str) -> str:
        """Why an event of this entity is refused."""
        return (
            f"{name!r} is new, and {self._most} entities are known already (state.max_entities, of each shard and "
            "partition)"
        )

    def rows(self) -> list[list[Any]]:
        """All groups as JSON has them, sorted; the entities of each in their order."""
        return [
            [*key, group.clock, list(group.seen), list(group.seen.values())]
            for key, group in sorted(self._groups.items())
        ]

    def load(self, rows: list[list[Any]]) -> None:
        """What `rows` gave."""
        self._groups = {
            (shard, source): Group(clock, dict(zip(names, clocks, strict=True)))
            for shard, source, clock, names, clocks in rows
        }
