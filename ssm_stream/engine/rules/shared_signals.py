"""Signals that several entities have in common, such as the weather: where one repeats its value, that is one alert.

Of entities of a source whose column repeats one value since about the same moment (a bound that all of them get has
reached each at its own event), the first raises the alert. When it goes on, one whose next event shows that it does not
takes its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Place = tuple[str, int]
"""An entity, and the index of its column."""
Run = tuple[int, int, float, float]
"""Source, index of the column, since (ms), value."""
MAX_APART = 0.25
"""Share of a run's length by which another one may have begun sooner or later to be of the same cause."""


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
        self._led_by: dict[Place, Run] = {}
        """Of each of those, the run whose first raises the alert."""
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
        source, column, since, value = run
        # The nearest, so that the order in which they are kept, which a restart changes, does not matter.
        alike = [
            (abs(each[2] - since), self._led_by[other])
            for other, each in self._run.items()
            if (*each[:2], each[3]) == (source, column, value)
        ]
        apart, led_by = min(alike, default=(0.0, run))
        if apart > MAX_APART * (ts - since):
            led_by = run
        self._run[place], self._led_by[place] = run, led_by
        return self._first.setdefault(led_by, place) == place

    def _leave(self, place: Place) -> dict[Place, Run] | None:
        """Note that a column goes on; return those that now wait, None if it was not the first of its run."""
        run = self._run.pop(place, None)
        led_by = self._led_by.pop(place, None)
        if self._waiting.pop(place, None) is not None or (led_by is not None and self._first.get(led_by) != place):
            return None
        if run is None or led_by is None:  # of a state that does not have it
            return {}
        del self._first[led_by]
        others = {each: own for each, own in self._run.items() if self._led_by[each] == led_by}
        for each in others:
            del self._run[each], self._led_by[each]
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
            self._run[place] = run
            led_by = self._led_by[place] = (source, column, led[0] if led else since, value)
            if kind == 1:
                self._first[led_by] = place
