"""Alarms against true events.

An event is found by an alarm that starts within it (both ends included), of its entity or of a fleet alert that names
it; the first such alarm counts, later ones are repeats. An event that names its signal is found by an alarm of that
signal, or by one that names none, as the silence of a machine does; where the signal joins an open episode, from then
on. An alarm outside every event is false. Events that began before the judged part are not judged, nor are alarms
within them. Nothing is point-adjusted.
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
    joined: signals that joined it later, each with the time, ms
    """

    ts: int
    entities: tuple[int, ...]
    kind: str = ""
    row: int = -1
    message: Mapping[str, Any] = MappingProxyType({})
    end: int | None = None
    joined: tuple[tuple[int, str], ...] = ()

    def meets(self, event: TrueEvent) -> int | None:
        """Return the time at which it meets an event of its entity, ms; None if it does not."""
        signals = signals_of(self.message)
        times = [self.ts] if not (event.signal and signals) or event.signal in signals else []
        times += [ts for ts, signal in self.joined if signal == event.signal]
        return next((ts for ts in times if event.start <= ts <= event.end), None)


def signals_of(message: Mapping[str, Any]) -> set[str]:
    """Return the signals that an alert names; none of the silence of a machine, and of one target alone."""
    named = [each["target"] for each in message.get("targets") or ()]
    return {name for name in (message.get("target"), message.get("column"), *named) if name}


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
        alarm = alarms[a]
        near = [(i, alarm.meets(event)) for e in alarm.entities for i, event in by_entity.get(e, ())]
        met = [(i, ts) for i, ts in near if ts is not None]
        if met:
            outcomes[a] = "true" if any(first[i] is None for i, _ in met) else "repeat"
            for i, ts in met:  # a signal may join an episode after another alarm has found its event
                first[i] = min(ts, first[i] or ts)
        elif any(alarm.meets(event) is not None for e in alarm.entities for event in ignored_by_entity.get(e, ())):
            outcomes[a] = "ignored"
    return Matches(first, outcomes)
