"""Turns the alerts of each target and entity into those that are sent: merged over targets, then over the fleet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Sequence
from typing import Any

import orjson

from ssm_stream.config import Config
from ssm_stream.engine.alert_kinds import KINDS
from ssm_stream.engine.alert_summary import Summarizer
from ssm_stream.engine.alerts import Alert, render
from ssm_stream.engine.entity_store import EntityStore
from ssm_stream.engine.fleet_alerts import FleetAlerts, withheld_episodes
from ssm_stream.engine.multi_target_alerts import MultiTargetAlerts
from ssm_stream.engine.snapshot_format import ArrayPart, SnapshotReader, bytes_part


class AlertPipeline:
    """The episodes that targets and entities have in common.

    multi_target: None with one target; fleet: None if fleet alerts are off

    Args:
        stores: the state of each target
    """

    def __init__(self, config: Config, stores: Sequence[EntityStore]) -> None:
        self._config, self._stores = config, stores
        self._summarizer = Summarizer(config)
        self._withheld: list[tuple[str, str]] = []  # loaded episodes that only a fleet alert had reported
        self._clear()

    def _clear(self) -> None:
        config = self._config
        self.multi_target = MultiTargetAlerts(config) if len(self._stores) > 1 else None
        self.fleet = FleetAlerts(config) if config.model.fleet and config.alerts.fleet.enabled else None

    def process(self, alerts: Sequence[list[Alert]]) -> list[Alert]:
        """Return the alerts to send for those of a batch, complete, in the order of their events.

        alerts: of each target
        """
        for own, store in zip(alerts, self._stores, strict=True):
            if own or store.reset_entities:
                break
        else:
            return []
        merged = alerts[0]
        if self.multi_target is not None:
            merged = self.multi_target.update(alerts, [each.reset_entities for each in self._stores])
        if self.fleet is not None:
            # An entity has started afresh if all its targets have.
            reset = Counter(item for each in self._stores for item in each.reset_entities)
            merged = self.fleet.update(
                merged,
                [item for item, count in reset.items() if count == len(self._stores)],
                lambda entity, row: max(each.last_labelled(entity, row) for each in self._stores),
            )
        return [self._complete(alert) for alert in merged]

    def _complete(self, alert: Alert) -> Alert:
        """Return an alert with its details and its sentence."""
        alert = render(alert)
        if not alert.message["summary"]:  # no event caused it
            summary = self._summarizer(alert.message, entities=alert.entities)
            alert = alert._replace(message=alert.message | {"summary": summary})
        return alert

    def end_episodes(self, kind: str, entity: str | None = None) -> None:
        """End the episodes of a kind without an alert: of one entity, or of all."""
        for each in (*self._stores, self.multi_target, self.fleet):
            if each is not None:
                each.end_episodes(kind, entity)

    def end_disabled(self) -> None:
        """End loaded episodes without an alert: of disabled kinds, and those that only a fleet alert had reported."""
        alerts = self._config.alerts
        enabled = {"anomaly": alerts.anomaly.enabled, "drift": alerts.drift.enabled}
        for kind in KINDS:
            if not enabled[kind]:
                self.end_episodes(kind)
        for entity, kind in self._withheld:
            self.end_episodes(kind, entity)
        self._withheld = []

    def dump(self, entities: Container[str]) -> list[ArrayPart]:
        """Return the common episodes as arrays of a snapshot. entities: those in memory; the rest is removed"""
        parts = []
        if self.multi_target is not None:
            self.multi_target.retain(self._stores)
            parts.append(bytes_part("joint", orjson.dumps(self.multi_target.dump())))
        if self.fleet is not None:
            self.fleet.retain(entities)
            parts.append(bytes_part("fleet", orjson.dumps(self.fleet.dump())))
        return parts

    def load(self, reader: SnapshotReader, *, migrates: bool) -> None:
        """Load what `dump` returned. migrates: under other settings, which may have enabled fleet alerts or not"""
        self._clear()
        if self.multi_target is not None:
            self.multi_target.load(orjson.loads(reader.read("joint").tobytes()))
        rows: list[list[Any]] = []
        if "fleet" in reader.names if migrates else self.fleet is not None:
            rows = orjson.loads(reader.read("fleet").tobytes())
        if self.fleet is not None:
            self.fleet.load(rows)
        else:
            self._withheld = withheld_episodes(rows)
