"""Alarms marked right or wrong by labels, one by one as they come."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ssm_stream.evaluate.alarm_matching import signals_of
from ssm_stream.evaluate.true_events import TrueEvent

Message = Mapping[str, Any]


class Mark(NamedTuple):
    """An alarm, judged. event: the true event within which it came, None if it is wrong; first: it found the event"""

    alarm: Message
    event: TrueEvent | None
    first: bool = False

    @property
    def right(self) -> bool:
        """Return True if the alarm came within a true event of its entity, or of one that a fleet alert names."""
        return self.event is not None


class AlarmMarker:
    """Marks alarms by the rule of `alarm_matching`: right if they start within a true event, both ends included.

    >>> marker = AlarmMarker([TrueEvent("pump-1", 1000, 2000, "leak")])
    >>> marker.mark({"scope": "entity", "entity": "pump-1", "ts": 1500}).right
    True
    >>> marker.missed
    []
    """

    def __init__(self, events: Iterable[TrueEvent]) -> None:
        self.events = sorted(events, key=lambda event: event.start)
        self.marks: list[Mark] = []
        self._found = set[TrueEvent]()

    def mark(self, alarm: Message) -> Mark:
        """Judge the alert that starts an episode."""
        fleet = alarm["scope"] == "fleet"
        entities = {each["entity"] for each in alarm["entities"]} if fleet else {alarm["entity"]}
        named = signals_of(alarm)
        within = [e for e in self.events if e.entity in entities and e.start <= alarm["ts"] <= e.end]
        within = [e for e in within if not (e.signal and named) or e.signal in named]
        new = [event for event in within if event not in self._found]
        self._found.update(new)
        event = new[0] if new else within[0] if within else None
        made = Mark(alarm, event, bool(new))
        self.marks.append(made)
        return made

    @property
    def missed(self) -> list[TrueEvent]:
        """The true events that no alarm has found so far."""
        return [event for event in self.events if event not in self._found]
