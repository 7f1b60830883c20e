"""Alerts of entities that wait, so that one cause is one alert from the first entity on.

An entity's `started` in a pool without a fleet episode waits for a number of labelled events of its pool. If a fleet
episode starts in that time, the alert is part of it; if not, it is sent as it would have been, with its own id. The
events of the pool are the clock, never a time: no batch, restart or replay changes what is sent where. Further alerts
of the entity queue behind the first, and its `recovered` ends the wait.

The members that are still open when a fleet episode recovers wait for their own end, before they get a `started` of
their own: most recover a few events later.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ssm_stream.engine.alerts import Alert, EventPlace, render
from ssm_stream.engine.counts.batch_labels import NONE, LabelledEvents

STOPPED = 4.0
"""Times the duration of a wait, by the entity's mean gap, after which the pool counts as having stopped meanwhile."""
Pool = tuple[int, int]
"""Shard and source."""
PoolKind = tuple[int, int, str]
"""Shard and source of a pool, and kind."""
Labelled = Callable[[Pool], LabelledEvents]
"""Pool → its labelled events in the batch."""


@dataclass(slots=True)
class Wait:
    """An entity whose alerts wait.

    alerts: its `started`, and what came after it; none for one that is left over from a fleet episode
    left: labelled events of the pool until they are sent; until: event time, ms, after which the next one is enough
    row: of the batch, after which they count, −1 if from its beginning; due: row at which they are sent, ∞ if later
    """

    key: PoolKind
    alerts: list[Alert]
    left: int
    until: float
    row: int
    due: float = math.inf


class Due(NamedTuple):
    """The alerts of an entity whose wait is over at a row of the batch; none for one that was left over."""

    row: int
    key: PoolKind
    entity: str
    alerts: list[Alert]


class WaitingAlerts:
    """The alerts that wait, of all pools."""

    def __init__(self) -> None:
        self._waits: dict[tuple[str, str], Wait] = {}  # kind and entity → wait, in the order of their starts
        self.labelled: Labelled = lambda pool: NONE
        """Pool → its labelled events in the batch at hand."""
        self._next = math.inf  # no alert is due before this row
        self.first = 0
        """Number of the first event, or label, of the batch among those that the engine has processed."""

    def __len__(self) -> int:
        """Entities and kinds that wait."""
        return len(self._waits)

    def begin(self, labelled: Labelled) -> None:
        """Begin a batch."""
        cache: dict[Pool, LabelledEvents] = {}

        def cached(pool: Pool) -> LabelledEvents:
            if pool not in cache:
                cache[pool] = labelled(pool)
            return cache[pool]

        self.labelled, self._next = cached, math.inf
        for wait in self._waits.values():
            self._set_due(wait)

    def _set_due(self, wait: Wait) -> None:
        rows, ts = self.labelled(wait.key[:2])
        first = int(np.searchsorted(rows, wait.row, side="right"))
        at = first + wait.left - 1
        late = np.flatnonzero(ts[first:at] > wait.until)
        at = first + int(late[0]) if len(late) else at
        wait.due = float(rows[at]) if at < len(rows) else math.inf
        self._next = min(self._next, wait.due)

    def add(self, key: PoolKind, alert: Alert, rounds: int, entities: int) -> Alert:
        """Hold an entity's `started`; return it as one that is not sent yet.

        rounds: labelled events of each of so many entities of the pool, in the mean, for which it waits
        """
        held = alert._replace(place=EventPlace(number=self.first + alert.row))
        self._add(key, alert.message["entity"], [held], alert, rounds, entities)
        return held._replace(waits=True)

    def add_left_over(self, key: PoolKind, entity: str, alert: Alert, rounds: int, entities: int) -> None:
        """Let an entity wait that a fleet episode has left open. alert: at whose event that was; others as of `add`"""
        self._add(key, entity, [], alert, rounds, entities)

    def _add(self, key: PoolKind, entity: str, held: list[Alert], at: Alert, rounds: int, entities: int) -> None:
        until = at.message["ts"] + STOPPED * rounds * at.gap
        wait = self._waits[key[2], entity] = Wait(key, held, rounds * entities, until, at.row)
        self._set_due(wait)

    def is_left_over(self, kind: str, entity: str) -> bool:
        """Return whether an entity waits that a fleet episode has left open."""
        wait = self._waits.get((kind, entity))
        return wait is not None and not wait.alerts

    def queue(self, alert: Alert) -> Alert | None:
        """Hold a further alert of an entity that waits; return it as one that is not sent yet, None if none waits."""
        wait = self._waits.get((alert.message["kind"], alert.message["entity"]))
        if wait is None:
            return None
        held = alert._replace(place=EventPlace(number=self.first + alert.row))
        wait.alerts.append(held)
        return held._replace(waits=True)

    def messages(self, entity: str, kind: str) -> list[dict[str, Any]]:
        """Return the complete messages of an entity that wait; they go on waiting."""
        wait = self._waits.get((kind, entity))
        return [] if wait is None else [render(alert).message for alert in wait.alerts]

    def pop(self, kind: str, entity: str, row: int) -> list[Alert]:
        """Return the alerts of an entity, to be sent at a row; none if it does not wait."""
        wait = self._waits.pop((kind, entity), None)
        # What the rule needed to know of its own event is past.
        return [] if wait is None else [each._replace(row=row, entities=1, labelled=0, gap=0.0) for each in wait.alerts]

    def pop_pool(self, key: PoolKind, row: int) -> dict[str, list[Alert]]:
        """Return the alerts of all entities of a pool and kind, by entity, to be sent at a row."""
        names = [name for (_, name), wait in self._waits.items() if wait.key == key]
        return {name: self.pop(key[2], name, row) for name in names}

    def pop_due(self, before: float = math.inf) -> list[Due]:
        """Return what is due before a row of the batch, in the order of the rows."""
        if self._next >= before:
            return []
        due = sorted((wait.due, i, of) for i, (of, wait) in enumerate(self._waits.items()) if wait.due < before)
        out = [Due(int(row), self._waits[of].key, of[1], self.pop(*of, int(row))) for row, _, of in due]
        self._next = min((wait.due for wait in self._waits.values()), default=math.inf)
        return out

    def pop_all(self, row: int) -> list[Alert]:
        """Return all alerts, in the order of their starts, to be sent at a row; none of those left over."""
        return [alert for of in list(self._waits) for alert in self.pop(*of, row)]

    def finish(self) -> None:
        """End the batch, whose due alerts have been taken: count its labelled events."""
        for wait in self._waits.values():
            rows, _ = self.labelled(wait.key[:2])
            wait.left -= len(rows) - int(np.searchsorted(rows, wait.row, side="right"))
            wait.row, wait.due = -1, math.inf
        self._next = math.inf

    def remove(self, kind: str, entity: str | None = None) -> None:
        """Remove what waits of a kind: of one entity, or of all."""
        for of in [of for of in self._waits if of[0] == kind and entity in (None, of[1])]:
            del self._waits[of]

    def peek(self) -> Iterable[tuple[Alert, Alert]]:
        """Yield all alerts, complete, each with its entity's first; they go on waiting."""
        for wait in self._waits.values():
            for alert in wait.alerts:
                yield render(alert), wait.alerts[0]

    def dump(self) -> list[list[Any]]:
        """Return all of it as JSON has it."""
        return [
            [*wait.key, entity, wait.left, wait.until, [_dump(render(alert)) for alert in wait.alerts]]
            for (_, entity), wait in self._waits.items()
        ]

    def load(self, rows: list[list[Any]]) -> None:
        """Load what `dump` returned."""
        for shard, source, kind, entity, left, until, alerts in rows:
            held = [Alert(0, message, (own, of), place=EventPlace(*place)) for message, (own, of), *place in alerts]
            self._waits[kind, entity] = Wait((shard, source, kind), held, left, until, -1)


def _dump(alert: Alert) -> list[Any]:
    assert alert.place is not None
    place = alert.place
    return [alert.message, alert.pool, place.topic, place.partition, place.offset, place.suffix]
