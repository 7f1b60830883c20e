"""Which episodes of the model a stop ends: the entity has left its operating condition (`event.when`) for a while.

What stands still has no errors by which an episode could recover. So it ends at the idle event at which `STOPPED_AFTER`
of them have come in a row. A pause of a batch or a cycle is shorter and ends none, so that what lasts through such
pauses is one alert. What is still wrong at the next start is a new alert, beyond the restart's allowance.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ssm_stream.config import Config
from ssm_stream.core import lifecycle
from ssm_stream.engine.alert_kinds import KINDS
from ssm_stream.engine.entity_store import EntityStore
from ssm_stream.engine.kernel_params import build_rules
from ssm_stream.ingest.event_columns import Events

STOPPED_AFTER = 100
"""Idle events in a row from which on it is a stop."""


class Stops:
    """The entities that stand still, and the number of their idle events in a row."""

    def __init__(self, config: Config) -> None:
        rules = build_rules(config)
        enabled = (rules.anomaly, rules.drift)
        self._kinds = sum(1 << kind for kind in range(len(KINDS)) if enabled[kind])
        self._idle: dict[str, int] = {}

    def mark(self, events: Events, known: Sequence[Container[str]]) -> Events:
        """Return the events of a batch with `stopped`, where one is idle or follows such.

        known: the entities in memory, of each target; others have no episodes
        """
        if not self._idle and (events.idle is None or not events.idle.any()):
            return events
        idle = np.zeros(len(events), np.bool_) if events.idle is None else events.idle
        stopped, seen, names = np.zeros(len(events), np.int8), set[str](), events.entity
        for i, stands in enumerate(idle.tolist()):
            name = names[i]
            count = self._idle.get(name, 0)
            if stands and (count or name in seen or any(name in each for each in known)):
                count = self._idle[name] = count + 1
            elif not stands:
                seen.add(name)
                if not count:
                    continue
                del self._idle[name]
            stopped[i] = self._kinds if count >= STOPPED_AFTER else 0
        return replace(events, stopped=stopped)

    def stands(self, entity: str) -> bool:
        """Return whether the last event of an entity was idle."""
        return entity in self._idle

    def dump(self, known: Sequence[Container[str]]) -> dict[str, Any]:
        """Return the state as JSON has it, and forget the entities that are in memory no more (`known`, as of `mark`).

        These have no episodes, and where they come back idle they are not counted.
        """
        self._idle = {name: n for name, n in sorted(self._idle.items()) if any(name in each for each in known)}
        return {"idle": dict(self._idle)} if self._idle else {}

    def load(self, content: dict[str, Any]) -> None:
        """Load what `dump` returned."""
        self._idle = dict(content.get("idle", {}))


def end_kinds(store: EntityStore, kinds: int, row: int) -> None:
    """End the open episodes of an entity before its first event after a stop, whose ends `Endings` reports.

    kinds: a bit each, as of `Events.stopped`; row: of the entity
    """
    for kind, name in enumerate(KINDS):
        if kinds >> kind & 1 and store.state.lifecycle.number[row, kind, lifecycle.OPEN]:
            store.end_episodes(name, store.names[row])
