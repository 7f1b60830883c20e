"""The first events after a stop (`event.when`, a planned stop that holds learning): how large their scores are, and
what allowance they get.

A machine that starts again is not what it was when it stopped: it is cold, and past targets are those of before. So its
first events are learned, but their scores are judged by what they were at earlier restarts, after stops that lasted
about as long. A pool keeps the highest score of these by the number of the event since the start (1, 2, 3 to 4, 5 to 8,
…); an event alarms beyond `MARGIN` times that, and never below 1; it is no evidence of drift. After few restarts the
highest is worth less: until there are `RESTARTS`, the factor is larger; until `FEWEST`, none of their events alarms.
Machines that start together, after a Sunday, show what one of them would: they count as one restart.

A restart lasts as long as the stop did, by time (at most `LONGEST`) or by events (at most `EVENTS`), whichever is more,
but all restarts of a machine no longer than a part of its runs. It is judged by what was known when it began, and
counts when it is over: so no batch changes what it is judged by.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.config import Config
from ssm_stream.engine.entity_store import shard_of
from ssm_stream.ingest.event_columns import Events
from ssm_stream.ingest.planned_stops import HELD

RESTARTS = 12
MARGIN = 3.0
"""After n restarts, 3 · 12 / n while n < 12: if the tail is exponential, the next one is beyond it in 1 of 450 cases at
most."""
FEWEST = 3
LEAST = 1.0 + 2.0**-20
"""Allowance of an event of a restart at least: above 1, so that it is no evidence of drift."""
LONGEST = 4 * 3_600_000
SHORTER = (LONGEST // 16, LONGEST // 4, LONGEST)
"""Stops are of four kinds, by how long they lasted: up to 15 minutes, an hour, four hours, or longer."""
EVENTS = 8
RUNS = 8
"""Restarts are at most this part of all runs: a machine that often stops is judged all the same. What is left of a run
is kept for later ones, up to `LONGEST`."""
PLACES = 13
"""Of the table: the last is of all events from the 2,049th on."""
KEPT = 0.98
"""Of a highest score at each later restart: what was long ago is forgotten."""
BEGINS, ENDS = -1, -2
"""Places of a step that is no event of a restart."""


@dataclass(slots=True)
class Restart:
    """A restart of an entity.

    table: that it is judged by; begin: time of its first event, ms; lasts, most: ms, and events
    events: so far; limits: allowance by place, as it began; highest: score by place so far, 0 for none
    dropped: the entity started afresh
    """

    table: str
    begin: int
    lasts: int
    most: int
    events: int = 0
    limits: list[float] = field(default_factory=list)
    highest: list[float] = field(default_factory=lambda: [0.0] * PLACES)
    dropped: bool = False


class Step(NamedTuple):
    """What happens at an event of a batch (row among those that are not idle). place: of the table, or `BEGINS`, …"""

    row: int
    entity: str
    restart: Restart
    place: int


class Segment(NamedTuple):
    """Events up to `stop`, and the steps among them; no table changes in them before it is needed."""

    stop: int
    steps: list[Step]


class Restarts:
    """The entities that stand still and the restarts of one target."""

    def __init__(self, config: Config) -> None:
        self._shards, self._fleet = config.state.shards, config.model.fleet
        self._idle: dict[str, list[int]] = {}  # entity → time of the first event of its stop, ms, and their number
        self._begun: dict[str, int] = {}  # entity → time at which it started again last, ms
        self._left: dict[str, int] = {}  # entity → for how long its next restart may last, ms
        self._open: dict[str, Restart] = {}
        self._tables: dict[str, list[float]] = {}
        """Pool and kind of stop → restarts seen, begin of the last that counts, and the highest score by place."""

    @property
    def any_open(self) -> bool:
        """Whether an entity stands still, or has just started again."""
        return bool(self._idle or self._open)

    def plan(self, events: Events, source: int, known: Container[str]) -> list[Segment]:
        """Return the segments of a batch; without a restart, none.

        Args:
            events: all of the batch, the idle ones among them
            known: entities in memory, which had an event before the batch that was not idle. One that a snapshot has
                removed since, as it was away for `state.ttl`, starts afresh as it would with its state
        """
        if events.idle is None and events.maintenance is None and not self.any_open:
            return []
        idle = np.zeros(len(events), np.bool_) if events.idle is None else events.idle
        stopped = idle if events.maintenance is None else idle | (events.maintenance == HELD)
        mine = {events.entity[i] for i in np.flatnonzero(stopped).tolist()}
        if not mine and not self.any_open:
            return []
        mine |= self._idle.keys() | self._open.keys()
        seen, steps, at = set[str](), list[Step](), np.cumsum(~idle)
        for i in [i for i, name in enumerate(events.entity) if name in mine]:
            name, ts = events.entity[i], int(events.ts[i])
            is_known, row = name in seen or name in known, int(at[i]) - (not idle[i])
            is_kept = is_known or name in self._left or name in self._begun or name in self._idle
            if stopped[i]:
                self._stop(steps, row, name, ts, is_known=is_kept)
            elif is_kept:
                self._run(steps, row, name, ts, source)
                if not is_known and (restart := self._open.get(name)) is not None:
                    restart.dropped = True
            else:  # it starts afresh
                self._forget(name)
            if not idle[i]:
                seen.add(name)
        return list(_segments(steps, int(at[-1]) if len(at) else 0))

    def _stop(self, steps: list[Step], row: int, name: str, ts: int, *, is_known: bool) -> None:
        restart = self._open.pop(name, None)
        if restart is not None:
            steps.append(Step(row, name, restart, ENDS))
        if name in self._idle:
            self._idle[name][1] += 1
        elif is_known:
            self._idle[name] = [ts, 1]
            begun = self._begun.pop(name, None)
            if begun is not None:
                self._left[name] = min(self._left.get(name, 0) + max(ts - begun, 0) // RUNS, LONGEST)

    def _run(self, steps: list[Step], row: int, name: str, ts: int, source: int) -> None:
        if name in self._idle:
            since, count = self._idle.pop(name)
            pool = f"{shard_of(name, self._shards)}-{source}" if self._fleet else name
            stood = max(ts - since, 1)
            full = min(stood, LONGEST)
            lasts = min(full, self._left.get(name, full))
            self._left[name] = self._left.get(name, full) - lasts
            most = max(min(count, EVENTS) * lasts / full, 1.0)
            table = f"{pool} {bisect_left(SHORTER, stood)}"
            restart = self._open[name] = Restart(table, ts, lasts, int(most))
            self._begun[name] = ts
            steps.append(Step(row, name, restart, BEGINS))
        elif name in self._open:
            restart = self._open[name]
        else:
            return
        restart.events += 1
        if restart.events > restart.most and ts - restart.begin > restart.lasts:
            del self._open[name]
            steps.append(Step(row, name, restart, ENDS))
        else:
            steps.append(Step(row, name, restart, min((restart.events - 1).bit_length(), PLACES - 1)))

    def begin(self, segment: Segment, allowance: NDArray[np.float64]) -> None:
        """Fill in the allowance of the events of a segment; the others have 1."""
        for row, _, restart, place in segment.steps:
            if place == BEGINS:
                restart.limits = self._limits(restart.table)
            elif place >= 0 and not restart.dropped:
                allowance[row] = restart.limits[place]

    def end(self, segment: Segment, scores: NDArray[np.float64], labelled: NDArray[np.bool_]) -> None:
        """Learn from the events of a segment. scores, labelled (n,): before the allowance, and whether there is one"""
        for row, name, restart, place in segment.steps:
            if restart.dropped:
                if self._open.get(name) is restart:
                    del self._open[name]
            elif place >= 0 and labelled[row]:
                restart.highest[place] = max(restart.highest[place], float(scores[row]))
            elif place == ENDS:
                self._count(restart)

    def drop(self, entity: str, row: int, segments: Iterable[Segment], allowance: NDArray[np.float64]) -> None:
        """Drop the restart that an entity is in at an event, as it starts afresh there."""
        later = [step for each in segments for step in each.steps if step.entity == entity and step.row >= row]
        mine = [step for step in later if step.place >= 0]
        if not mine or mine[0].row != row:  # it starts afresh within its stop, whatever comes after that in the batch
            return
        for step in mine:
            if step.restart is mine[0].restart:
                step.restart.dropped = True
                allowance[step.row] = 1.0

    def _limits(self, table: str) -> list[float]:
        seen, _, *highest = self._tables.get(table, [0.0, 0.0])
        if seen < FEWEST:
            return [math.inf] * PLACES
        margin = MARGIN * max(RESTARTS / seen, 1.0)
        return [max(margin * max(highest[max(i - 1, 0) : i + 2]), LEAST) for i in range(PLACES)]

    def _count(self, restart: Restart) -> None:
        """Count a restart that is over: a score counts up to its allowance, so that a fault does not hide the next."""
        if not any(restart.highest):
            return
        table = self._tables.setdefault(restart.table, [0.0, -math.inf] + [0.0] * PLACES)
        limits, kept = self._limits(restart.table), 1.0
        if abs(restart.begin - table[1]) > restart.lasts:
            kept, table[0], table[1] = KEPT, table[0] + 1.0, float(restart.begin)
        for i, score in enumerate(restart.highest):
            if score > 0.0:
                table[2 + i] = max(kept * table[2 + i], min(score, limits[i]))

    def mute(self, segments: Iterable[Segment], allowance: NDArray[np.float64]) -> None:
        """Fill in an unlimited allowance for the first events of restarts, where the targets come later."""
        for segment in segments:
            for row, _, restart, place in segment.steps:
                if place >= 0 and 1 << max(place - 1, 0) <= restart.most:
                    allowance[row] = math.inf

    def remove(self, entity: str) -> None:
        """Forget where an entity is, as it starts afresh."""
        self._forget(entity)
        if not self._fleet:
            for kind in range(len(SHORTER) + 1):
                self._tables.pop(f"{entity} {kind}", None)

    def _forget(self, entity: str) -> None:
        self._idle.pop(entity, None)
        self._open.pop(entity, None)
        self._begun.pop(entity, None)
        self._left.pop(entity, None)

    def dump(self) -> dict[str, Any]:
        """Return the state as JSON has it; an unlimited allowance is null there."""
        names = ("table", "begin", "lasts", "most", "events", "limits", "highest")
        return {
            "idle": dict(sorted(self._idle.items())),
            "begun": dict(sorted(self._begun.items())),
            "left": dict(sorted(self._left.items())),
            "open": {
                name: [getattr(each, part) for part in names[:5]]
                + [[None if math.isinf(limit) else limit for limit in each.limits], each.highest]
                for name, each in sorted(self._open.items())
            },
            "tables": dict(sorted(self._tables.items())),
        }

    def load(self, content: dict[str, Any] | None) -> None:
        """Load what `dump` returned; None: nothing has stopped yet."""
        if content is None:
            content = {"idle": {}, "begun": {}, "left": {}, "open": {}, "tables": {}}
        self._idle, self._tables = content["idle"], content["tables"]
        self._begun, self._left = content["begun"], content["left"]
        self._open = {
            name: Restart(table, begin, lasts, most, events, [math.inf if x is None else x for x in limits], highest)
            for name, (table, begin, lasts, most, events, limits, highest) in content["open"].items()
        }


def _segments(steps: list[Step], n: int) -> Iterable[Segment]:
    """Yield segments: one ends where a restart begins after another of them has ended, which it is judged by."""
    first, ended = 0, False
    for i, step in enumerate(steps):
        if step.place == BEGINS and ended:
            yield Segment(step.row, steps[first:i])
            first, ended = i, False
        ended = ended or step.place == ENDS
    yield Segment(n, steps[first:])
