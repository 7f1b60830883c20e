"""Signals that several entities have in common, such as the weather: where one repeats its value, that is one alert.

Of entities of a source whose column repeats one value since the same moment, the first raises the alert. When it goes
on, one whose next event shows that it does not takes its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

Place = tuple[str, int]
"""An entity, and the index of its column."""
Run = tuple[int, int, float, float]
"""Source, index of the column, since (ms), value."""


class Change(NamedTuple):
    """A column that begins to repeat a value, or goes on, at an event of its entity.

    event: index in the batch; value: that it repeats, or goes on with; since: of the run, ms
    """

    event: int
    place: Place
    begins: bool
    value: float
    since: float


class SharedSignals:
    """Which of the entities whose column repeats a value raise the alert for the others."""

    def __init__(self) -> None:
        self._first: dict[Run, Place] = {}
        self._run: dict[Place, Run] = {}
        self._waiting: dict[Place, Run] = {}
        """Those whose first has gone on: they go on with it at their next event, or one of them takes its place."""

    def alerts(
        self, entities: Sequence[str], source: int, changes: Sequence[Change], events: range
    ) -> Iterator[tuple[Change, bool]]:
        """Yield the changes of some events of a batch, and whether each is an alert; those that take a place, too.

        Args:
            entities: of each event of the batch
            source: that they come from
            changes: in the order of the events
            events: indices of the events
        """
        if not self._waiting and not changes:
            return
        names = np.array(entities[events.start : events.stop])
        todo = sorted(
            [*((each.event, 0, each.place, each) for each in changes), *self._next(names, events.start, self._waiting)],
            key=lambda each: each[:2],
        )
        while todo:
            event, _, place, change = todo.pop(0)
            if change is None:
                if place in self._waiting:
                    run = self._waiting.pop(place)
                    if self._begin(place, run):
                        yield Change(event, place, True, run[3], run[2]), True
                continue
            if change.begins:
                yield change, self._begin(place, (source, place[1], change.since, change.value))
                continue
            left = self._leave(place)
            if left:
                todo = sorted([*todo, *self._next(names, events.start, left, event)], key=lambda each: each[:2])
            yield change, left is not None

    def _next(
        self, names: Any, start: int, places: dict[Place, Run], after: int = -1
    ) -> list[tuple[int, int, Place, Change | None]]:
        """Return the next event of each of these entities, in the order of what is to be done; some have none."""
        out: list[tuple[int, int, Place, Change | None]] = []
        for place in places:
            own = np.flatnonzero(names == place[0]) + start
            out += [(int(event), 1, place, None) for event in own[own > after][:1]]
        return out

    def _begin(self, place: Place, run: Run) -> bool:
        """Note that a column repeats a value; return whether it is the first."""
        self._run[place] = run
        return self._first.setdefault(run, place) == place

    def _leave(self, place: Place) -> dict[Place, Run] | None:
        """Note that a column goes on; return those that now wait, None if it was not the first of its run."""
        run = self._run.pop(place, None)
        if self._waiting.pop(place, None) is not None or (run is not None and self._first.get(run) != place):
            return None
        if run is None:  # of a state that does not have it
            return {}
        del self._first[run]
        others = {each: run for each, own in self._run.items() if own == run}
        for each in others:
            del self._run[each]
        self._waiting |= others
        return others

    def remove(self, entity: str, column: int | None = None) -> None:
        """Forget an entity, or a column of it."""
        for place in [*self._run, *self._waiting]:
            if place[0] == entity and column in (None, place[1]):
                self._leave(place)

    def clear(self, column: int) -> None:
        """Forget a column of all entities."""
        for entity in {place[0] for place in [*self._run, *self._waiting] if place[1] == column}:
            self.remove(entity, column)

    def dump(self) -> list[list[Any]]:
        """Return the state as JSON has it."""
        runs = {**self._run, **self._waiting}
        firsts = {*self._first.values()}
        return [[*place, *run, 2 if place in self._waiting else int(place in firsts)] for place, run in runs.items()]

    def load(self, rows: Sequence[Sequence[Any]]) -> None:
        """Load what `dump` returned."""
        for entity, column, source, _, since, value, kind in rows:
            place, run = (entity, column), (source, column, since, value)
            (self._waiting if kind == 2 else self._run)[place] = run
            if kind == 1:
                self._first[run] = place
