"""Alarms against true events.

An event is found by an alarm that starts within it (both ends included), of its entity or of a fleet alert that names
it; the first such alarm counts, later ones are repeats. An alarm outside every event is false. Events that began before
the judged part are not judged, nor are alarms within them. Nothing is point-adjusted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from ssm_stream.evaluate.true_events import TrueEvent

Outcome = Literal["true", "repeat", "false", "ignored"]
EntityEvent = tuple[int, TrueEvent]
"""Number of the entity, and what happened to it."""


class Alarm(NamedTuple):
    """An alert episode that started at `ts`, ms.

    entities: number of its entity, or of those that a fleet alert stands for
    row: of the engine's run; message: the alert's, both where an engine raised it
    end: time of its end, ms; None: open at the end of the run, or unknown
    """

    ts: int
    entities: tuple[int, ...]
    kind: str = ""
    row: int = -1
    message: Mapping[str, Any] = MappingProxyType({})
    end: int | None = None


class Matches(NamedTuple):
    """first: of each event the time of the first alarm within it, ms, None if it was missed; outcomes: of each alarm"""

    first: list[int | None]
    outcomes: list[Outcome]


def match(alarms: Sequence[Alarm], events: Sequence[EntityEvent], ignored: Iterable[EntityEvent] = ()) -> Matches:
    """Return which events were found, and what each alarm was worth. ignored: events that are not judged"""
    first: list[int | None] = [None] * len(events)
    by_entity: dict[int, list[tuple[int, TrueEvent]]] = {}
    for i, (e, event) in enumerate(events):
        by_entity.setdefault(e, []).append((i, event))
    ignored_by_entity: dict[int, list[TrueEvent]] = {}
    for e, event in ignored:
        ignored_by_entity.setdefault(e, []).append(event)
    outcomes: list[Outcome] = ["false"] * len(alarms)
    for a in sorted(range(len(alarms)), key=lambda a: alarms[a].ts):
        ts, entities = alarms[a].ts, alarms[a].entities
        met = [i for e in entities for i, event in by_entity.get(e, ()) if event.start <= ts <= event.end]
        if met:
            new = [i for i in met if first[i] is None]
            for i in new:
                first[i] = ts
            outcomes[a] = "true" if new else "repeat"
        elif any(event.start <= ts <= event.end for e in entities for event in ignored_by_entity.get(e, ())):
            outcomes[a] = "ignored"
    return Matches(first, outcomes)
