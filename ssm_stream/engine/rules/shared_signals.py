"""Signals that several entities have in common, such as the weather: where one stops, that is one alert.

Of entities of a source whose column repeats one value since about the same moment (a bound that all of them get has
reached each at its own event), the first raises the alert. When it goes on, one whose next event shows that it does not
takes its place. Columns without values are compared by the last value that they had.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Place = tuple[str, int]
"""An entity, and the index of its column."""
Run = tuple[int, int, float, float]
"""Source, index of the column, since (ms), the value that it repeats or had last."""
MAX_APART = 0.25
"""Share of a run's length by which another one may have begun sooner or later to be of the same cause."""


class Change(NamedTuple):
    """A column that begins to repeat a value, or to have none, or goes on, at an event of its entity.

    event: index in the batch; value: that it repeats, or had last, or goes on with; since: of the run, ms
    """

    event: int
    place: Place
    begins: bool
    value: float
    since: float


class SharedSignals:
    """Which of the entities whose column has stopped, in one of the two ways, raise the alert for the others."""

    def __init__(self) -> None:
        self._first: dict[Run, Place] = {}
        self._run: dict[Place, Run] = {}
        self._led_by: dict[Place, Run] = {}
        """Of each of those, the run whose first raises the alert."""
        self._alike: dict[tuple[int, int, float], list[tuple[float, Run, Place]]] = {}
        """By source, column and value: since when, that run and the place of each, in order, as thousands may stop."""
        self._waiting: dict[Place, Run] = {}
        """Those whose first has gone on: they go on with it at their next event, or one of them takes its place."""

    def alerts(
        self, entities: Sequence[str], ts: NDArray[np.int64], source: int, changes: Sequence[Change], events: range
    ) -> Iterator[tuple[Change, bool]]:
        """Yield the changes of some events of a batch, and whether each is an alert; those that take a place, too.

        Args:
            entities, ts: of each event of the batch; ms
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
                    if self._begin(place, run, float(ts[event])):
                        yield Change(event, place, True, run[3], run[2]), True
                continue
            if change.begins:
                yield change, self._begin(place, (source, place[1], change.since, change.value), float(ts[event]))
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

    def _begin(self, place: Place, run: Run, ts: float) -> bool:
        """Note that a column repeats a value; return whether it is the first. ts: of its event, ms"""
        since = run[2]
        alike = self._alike.get((run[0], run[1], run[3]), [])
        # The nearest, later or sooner; of several the first, so that it does not matter in which order they came.
        at = bisect_left(alike, (since,))
        near = alike[at : at + 1]
        if at:
            near.append(alike[bisect_left(alike, alike[at - 1][:1])])
        apart, led_by = min(((abs(begun - since), lead) for begun, lead, _ in near), default=(0.0, run))
        if apart > MAX_APART * (ts - since):
            led_by = run
        self._take(place)
        self._add(place, run, led_by)
        return self._first.setdefault(led_by, place) == place

    def _add(self, place: Place, run: Run, led_by: Run) -> None:
        self._run[place], self._led_by[place] = run, led_by
        insort(self._alike.setdefault((run[0], run[1], run[3]), []), (run[2], led_by, place))

    def _take(self, place: Place) -> Run | None:
        """Remove a place; return the run whose first raises its alert, None where the place has no run."""
        run, led_by = self._run.pop(place, None), self._led_by.pop(place, None)
        if run is None or led_by is None:
            return None
        alike = self._alike[run[0], run[1], run[3]]
        del alike[bisect_left(alike, (run[2], led_by, place))]
        if not alike:
            del self._alike[run[0], run[1], run[3]]
        return led_by

    def _leave(self, place: Place) -> dict[Place, Run] | None:
        """Note that a column goes on; return those that now wait, None if it was not the first of its run."""
        led_by = self._take(place)
        if self._waiting.pop(place, None) is not None or (led_by is not None and self._first.get(led_by) != place):
            return None
        if led_by is None:  # of a state that does not have it
            return {}
        del self._first[led_by]
        alike = self._alike.get((led_by[0], led_by[1], led_by[3]), [])
        others = {each: self._run[each] for _, lead, each in alike if lead == led_by}
        for each in others:
            self._take(each)
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
        return [
            [
                *place,
                *run,
                2 if place in self._waiting else int(place in firsts),
                self._led_by.get(place, run)[2],
            ]
            for place, run in runs.items()
        ]

    def load(self, rows: Sequence[Sequence[Any]]) -> None:
        """Load what `dump` returned."""
        for entity, column, source, _, since, value, kind, *led in rows:
            place, run = (entity, column), (source, column, since, value)
            if kind == 2:
                self._waiting[place] = run
                continue
            led_by = (source, column, led[0] if led else since, value)
            self._add(place, run, led_by)
            if kind == 1:
                self._first[led_by] = place
