"""Fixed limits on columns (`alerts.limits`).

An entity's episode of a limit starts at the event at which its value has been beyond the limit for as long as is
configured, and recovers at the first event at which it is not. An event without a value changes nothing. Where
no value is beyond a limit and no entity is near one, a batch costs one comparison of a column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ssm_stream.config import Config
from ssm_stream.config.sections.alerts import LIMIT, Limit
from ssm_stream.engine.alerts import Alert
from ssm_stream.engine.entity_store import ResetEntity, shard_of
from ssm_stream.engine.rules.messages import rule_kind, rule_message
from ssm_stream.ingest.conditions import event_column, passes
from ssm_stream.ingest.entity_filter import EntityFilter
from ssm_stream.ingest.events import Events


@dataclass(slots=True)
class Beyond:
    """An entity whose last value is beyond a limit.

    since: time of the first event beyond it, ms; events: since then; open: whether its episode has started
    pool: shard and source at the start
    """

    since: int
    pool: tuple[int, int]
    events: int = 0
    open: bool = False


class LimitAlerts:
    """The episodes of all limits and entities."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._limits = config.alerts.limits
        self._beyond: list[dict[str, Beyond]] = [{} for _ in self._limits]
        self._filters = [EntityFilter([limit.entities]) for limit in self._limits]

    def process(self, events: Events, source: int, resets: Sequence[ResetEntity]) -> list[Alert]:
        """Return the alerts of a batch, in the order of its events.

        Args:
            events: n events
            source: that they come from
            resets: the entities that started afresh in the batch; the ends of their episodes are the caller's
        """
        out = list[Alert]()
        for j, limit in enumerate(self._limits):
            values = event_column(self._config.event, events, limit.column)
            met, beyond = passes(limit, values), self._beyond[j]
            rows: list[int] = np.flatnonzero(met).tolist()
            if rows or beyond:
                near = beyond.keys() | {events.entity[row] for row in rows}
                rows = [row for row, name in enumerate(events.entity) if name in near]
            left = sorted(resets, key=lambda each: each.row, reverse=True)
            for row in [*rows, len(events)]:
                while left and left[-1].row <= row:
                    beyond.pop(left.pop().entity, None)
                if row == len(events):
                    break
                if self._filters[j].matches(events.entity[row]):
                    alert = self._update(j, events, row, float(values[row]), bool(met[row]), source)
                    if alert is not None:
                        out.append(alert)
        if len(self._limits) > 1:
            out.sort(key=lambda alert: alert.row)
        return out

    @property
    def kinds(self) -> list[str]:
        """The `episode_kind` of each limit."""
        return [rule_kind(LIMIT, limit.text) for limit in self._limits]

    def _update(self, number: int, events: Events, row: int, value: float, met: bool, source: int) -> Alert | None:
        """Take one value of an entity; return its alert, if there is one."""
        limit, beyond = self._limits[number], self._beyond[number]
        entity, ts = events.entity[row], int(events.ts[row])
        if np.isnan(value):
            return None
        if not met:
            ended = beyond.pop(entity, None)
            if ended is None or not ended.open:
                return None
            return self._alert(limit, "recovered", events, row, value, ended)
        state = beyond.get(entity)
        if state is None:
            state = beyond[entity] = Beyond(ts, (shard_of(entity, self._config.state.shards), source))
        state.events += 1
        if not state.open:
            lasts = limit.lasts
            state.open = state.events >= lasts.events if lasts.events else ts - state.since >= 1000.0 * lasts.seconds
            return self._alert(limit, "started", events, row, value, state) if state.open else None
        if state.events % self._config.alerts.ongoing_every == 0:
            return self._alert(limit, "ongoing", events, row, value, state)
        return None

    def _alert(self, limit: Limit, phase: str, events: Events, row: int, value: float, state: Beyond) -> Alert:
        text = (events.category_texts or {}).get(value)
        message = rule_message(
            self._config, LIMIT, limit.text, events.entity[row], state.since, int(events.ts[row])
        ) | {
            "phase": phase,
            "ended_by": "recovered" if phase == "recovered" else None,
            "severity": limit.severity,
            "value": value if text is None else text,
        }
        return Alert(row, message, state.pool)

    def end(self, kind: str, entity: str | None = None) -> None:
        """End the episodes of a limit without an alert: of one entity, or of all. kind: see `episode_kind`"""
        for limit, beyond in zip(self._limits, self._beyond, strict=True):
            if kind == rule_kind(LIMIT, limit.text):
                for name in [entity] if entity is not None else list(beyond):
                    beyond.pop(name, None)

    def remove(self, entity: str) -> None:
        """Remove an entity, which then starts afresh."""
        for beyond in self._beyond:
            beyond.pop(entity, None)

    def dump(self) -> list[list[Any]]:
        """Return the entities beyond each limit as JSON has them, sorted."""
        return [
            [
                limit.text,
                limit.entities,
                [[name, e.since, *e.pool, e.events, e.open] for name, e in sorted(own.items())],
            ]
            for limit, own in zip(self._limits, self._beyond, strict=True)
        ]

    def load(self, rows: list[list[Any]]) -> None:
        """Load what `dump` returned, without limits that are no longer set."""
        kept = {(limit.text, limit.entities): own for limit, own in zip(self._limits, self._beyond, strict=True)}
        for text, entities, mine in rows:
            own = kept.get((text, entities), {})
            for name, since, shard, source, events, is_open in mine:
                own[name] = Beyond(since, (shard, source), events, is_open)
