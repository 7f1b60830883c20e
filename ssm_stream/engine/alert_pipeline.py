"""Turns the alerts of each target and entity into those that are sent: merged over targets, then over the fleet."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import orjson

from ssm_stream.config import Config
from ssm_stream.engine.alert_kinds import KINDS, MAINTENANCE, SHADOW
from ssm_stream.engine.alert_summary import Evidence, Summarizer
from ssm_stream.engine.alerts import Alert, render
from ssm_stream.engine.counts.batch_labels import LabelledEvents, merge
from ssm_stream.engine.entity_store import EntityStore
from ssm_stream.engine.episodes.endings import Batch, Endings, ending_later
from ssm_stream.engine.episodes.event_values import ValuesAt
from ssm_stream.engine.episodes.ids import Ended, EpisodeIds, EventIds, load_ended, preview
from ssm_stream.engine.episodes.stops import Stops
from ssm_stream.engine.fleet_alerts import FleetAlerts, withheld_episodes
from ssm_stream.engine.maintenance.suppression import Suppression
from ssm_stream.engine.maintenance.windows import maintenance_windows
from ssm_stream.engine.multi_target_alerts import MultiTargetAlerts
from ssm_stream.engine.rules.messages import rule_fields, rule_kinds
from ssm_stream.engine.rules.restarts import Restarts
from ssm_stream.engine.rules.rule_alerts import RuleAlerts
from ssm_stream.engine.snapshot_format import ArrayPart, SnapshotReader, bytes_part, read_bytes
from ssm_stream.ingest.control import ControlWindow
from ssm_stream.ingest.events import Events


class AlertPipeline:
    """The episodes that targets and entities have in common.

    multi_target: None with one target; fleet: None if fleet alerts are off; rules: None without any
    windows: of planned stops; None without any

    Args:
        stores: the state of each target
    """

    def __init__(self, config: Config, stores: Sequence[EntityStore]) -> None:
        self._config, self._stores = config, stores
        self.rules = RuleAlerts(config) if rule_kinds(config) else None
        self.windows = maintenance_windows(config)
        self.restarts: list[Restarts] = []  # of each target that has them
        self._rule_fields = rule_fields(config)
        self.summarizer = Summarizer(config)
        self._delayed = stores[0].delayed is not None
        self._withheld: list[tuple[str, str]] = []  # loaded episodes that only a fleet alert had reported
        self.processed = 0
        """Events and labels since this object was made."""
        self._clear()

    def _clear(self) -> None:
        config = self._config
        self.multi_target = MultiTargetAlerts(config) if len(self._stores) > 1 else None
        self.fleet = FleetAlerts(config) if config.model.fleet and config.alerts.fleet.enabled else None
        stores = [*self._stores, *self._stores[: self.rules is not None]]
        self.stops = Stops(config)
        self._endings = Endings(config, stores, self._end_one, self.stops.stands)
        self._ids = EpisodeIds(shadow=config.alerts.shadow)
        self._suppression = Suppression(config, self.windows)
        self._ended: list[Ended] = []  # to be sent at the next event of their source

    def mark(self, events: Events, ids: EventIds | None = None) -> Events:
        """Return the events with what is determined before they are processed: whether they lie in a planned stop."""
        windows, marked = self.windows, events.maintenance is not None
        return events if windows is None or marked else windows.mark(events, ids and ids.offsets)

    def begin(self, events: Events, ids: EventIds | None) -> Events:
        """Return the events of a batch whose turn it is as `mark` does, with the episodes that stops end."""
        return self.stops.mark(self.mark(events, ids), [each.row_by_name for each in self._stores])

    def process(
        self,
        alerts: Sequence[list[Alert]],
        batch: Batch | None = None,
        ids: EventIds | None = None,
        events: Events | None = None,
        labels: int = 0,
        values: ValuesAt | None = None,
    ) -> list[Alert]:
        """Return the alerts to send for those of a batch, complete, in the order of their events.

        With `sinks.suppressed` the suppressed ones are among them, where the events have ids.

        Args:
            alerts: of each target
            batch: the events; None for labels
            ids: of the events or labels; None: they have none
            events: of the batch, for rules, whose alerts no other episode replaces
            labels: their number, where there are no events
            values: of all targets at the events; None: not known
        """
        first = self.processed
        self.processed += labels if batch is None else len(batch.ts)
        waits = self.fleet is not None and len(self.fleet.waiting) > 0
        by_rules = list[Alert]()
        if self.rules is not None and events is not None and batch is not None:
            by_rules = self.rules.process(events, batch.source, self._stores[0].reset_entities)
        some = any(alerts) or waits or self._ended or by_rules
        if not some and (batch is None or (self._endings.is_idle(batch) and self._suppression.is_idle(batch))):
            self._pass_by()
            return []
        out = self._ended_before(batch) if batch is not None else []
        own = [*alerts, *([by_rules] if self.rules is not None else [])]
        by_target = list(self._endings.update(own, batch))
        others = by_target.pop() if self.rules is not None else []
        others = self._suppression.split_rules(others, batch)
        if any(by_target) or waits:
            merged = by_target[0] if self.multi_target is None else self.multi_target.update(by_target, values)
            merged, suppressed = self._suppression.split(merged, batch)
            if self.fleet is not None:
                self.fleet.waiting.first = first
                merged = self.fleet.update(merged, self._labelled)
            out += merged
            others += suppressed
        else:
            self._pass_by()
        if others:
            out = sorted([*out, *others], key=lambda alert: alert.row)
        if not out:
            return out
        keep = ids is not None and self._config.sinks.suppressed is not None
        return [self._complete(alert) for alert in self._ids.assign(out, ids, keep_suppressed=keep)]

    def set_control(self, control: Sequence[ControlWindow] | None) -> None:
        """Set the planned stops of the control topic for the events that are processed next; None: no change."""
        if self.windows is not None and control is not None:
            self.windows.control = control

    def _complete(self, alert: Alert) -> Alert:
        """Return an alert with its details and its sentence."""
        alert = render(alert)
        if self._rule_fields:
            fields = {name: alert.message.get(name) for name in self._rule_fields}
            alert = alert._replace(message=alert.message | fields)
        if alert.message["summary"]:
            return alert
        evidence = Evidence(stopped=alert.others, still=alert.still)  # no event of its entity caused it
        summary = self.summarizer(alert.message, evidence, alert.entities)
        return alert._replace(message=alert.message | {"summary": summary})

    def release(self, row: int) -> list[Alert]:
        """Return the alerts that wait, as nothing follows at which they would be sent. row: the last of the batch"""
        waiting = [] if self.fleet is None else self.fleet.waiting.pop_all(row)
        return [self._complete(alert) for alert in self._ids.assign(waiting, None, keep_suppressed=False)]

    def waiting(self) -> list[Alert]:
        """Return the alerts that wait, complete as they will be sent; they go on waiting."""
        found = [] if self.fleet is None else [self._complete(preview(*pair)) for pair in self.fleet.waiting.peek()]
        if not self._config.alerts.shadow:
            return found
        by = {"suppressed_by": SHADOW}
        return [alert._replace(message=alert.message | by, suppressed_by=SHADOW) for alert in found]

    def _labelled(self, pool: tuple[int, int]) -> LabelledEvents:
        """Return the events of a pool in the last batch that were labelled for any target."""
        found = [store.labels.of_pool(store.pools.get(pool, -1)) for store in self._stores]
        # An event may bring the targets of several predictions, or of several paths: it counts once.
        return found[0] if len(found) == 1 and not self._delayed else merge(found)

    def _pass_by(self) -> None:
        """Let a batch go by in which no alert of a target needs a fleet's episode."""
        if self.fleet is not None:
            self.fleet.pass_by(self._count_labelled)

    def _count_labelled(self, pool: tuple[int, int]) -> int:
        """Return how many events of a pool in the last batch were labelled for any target."""
        for store in self._stores:
            count = store.labels.count_one(store.pools.get(pool, -1))
            if count is None:
                return len(self._labelled(pool).rows)
            if count:
                return count
        return 0

    def _ended_before(self, batch: Batch) -> list[Alert]:
        """Return the alerts of the episodes that ended before a batch, of its source, at its first event."""
        if not len(batch.ts):
            return []
        known = self._stores[0].sources
        mine = [each for each in self._ended if each.started.pool[1] in (batch.source, *_unknown(each, known))]
        self._ended = [each for each in self._ended if each not in mine]
        return [ending_later(self._config, each, int(batch.ts[0])) for each in mine]

    def remove(self, entity: str) -> None:
        """End the episodes of an entity that is removed, and send that at the next event of their source."""
        for each in self.restarts:
            each.remove(entity)
        for kind in self._kinds:
            self._end("reset", kind, entity)

    @property
    def _kinds(self) -> list[str]:
        """The kinds of the model's episodes, and of those of rules."""
        return [*KINDS, *(self.rules.kinds if self.rules is not None else [])]

    def end_all(self) -> list[list[Any]]:
        """End all episodes by a reset; return those whose end has yet to be sent, as JSON has them."""
        for kind in self._kinds:
            self._end("reset", kind)
        return [each.to_json() for each in self._ended]

    def open(self, ended_by: str) -> list[Ended]:
        """Return the episodes whose beginning consumers have seen and whose end they have not, those whose end has yet
        to be sent among them. ended_by: of the others, were they to end now"""
        return [*self._ended, *self._ids.open(ended_by)]

    def count_entities(self, kind: str) -> int:
        """Return the number of entities with an open episode of a kind of alerts; safe to call from another thread."""
        return self._ids.count_entities(kind)

    def add_ended(self, ended: Sequence[Ended]) -> None:
        """Add episodes whose end is to be sent at the next event of their source."""
        self._ended += ended

    def _end(self, ended_by: str, kind: str, entity: str | None = None) -> None:
        """End the episodes of a kind: of one entity, or of all and the fleet's."""
        self._ended += self._ids.end(ended_by, kind, entity)
        self._endings.remove(kind, entity)
        self._suppression.end(kind, entity)
        if kind not in KINDS:
            if self.rules is not None:
                self.rules.end(kind, entity)
            return
        for each in (*self._stores, self.multi_target, self.fleet):
            if each is not None:
                each.end_episodes(kind, entity)

    def _end_one(self, store: EntityStore, kind: str, entity: str) -> None:
        """End an episode of an entity without an alert: of a target, or of a rule."""
        if kind in KINDS:
            store.end_episodes(kind, entity)
        else:
            assert self.rules is not None
            self.rules.end(kind, entity)

    def end_disabled(self) -> None:
        """End loaded episodes: of disabled kinds, and if fleet alerts are off, theirs and those that they withheld."""
        alerts = self._config.alerts
        enabled = {"anomaly": alerts.anomaly.enabled, "drift": alerts.drift.enabled}
        for kind in KINDS:
            if not enabled[kind]:
                self._end("disabled", kind)
        for entity, kind in self._withheld:
            self._end("disabled", kind, entity)
        if self.fleet is None:
            self._ended += self._ids.end("disabled", entity="*")
        for kind in sorted(self._ids.kinds - set(self._kinds)):
            self._end("disabled", kind)
        self._withheld = []

    def end_judged(self) -> None:
        """End what is open of the model's kinds: between one target and several, which have their alerts in common."""
        for kind in KINDS:
            self._end("disabled", kind)

    def drop_targets(self, gone: Collection[str]) -> None:
        """End what is open of targets that are removed: their part of an episode, or all of it.

        All of it ends where no other target is open, and where a message that names one has yet to be sent.
        """
        if self.multi_target is None:
            return
        targets = self._config.event.targets
        for entity, kind, over in self.multi_target.drop(gone):
            left = self.multi_target.targets_of(entity, kind)
            unsent = [] if self.fleet is None else self.fleet.unsent(entity, kind)
            if not left or any({each["target"] for each in message["targets"]} & {*gone} for message in unsent):
                self._end("disabled", kind, entity)
                continue
            for target in over:
                self._stores[targets.index(target)].end_episodes(kind, entity)
                self._endings.leave(targets.index(target), kind, entity)
            if self.fleet is not None:
                self.fleet.retarget(entity, kind, left[0])

    def dump(self) -> list[ArrayPart]:
        """Return the common episodes as arrays of a snapshot."""
        parts = []
        if self.multi_target is not None:
            parts.append(bytes_part("joint", orjson.dumps(self.multi_target.dump())))
        if self.fleet is not None:
            parts.append(bytes_part("fleet", orjson.dumps(self.fleet.dump())))
        content: dict[str, Any] = {
            "open": self._endings.dump(),
            "ended": [each.to_json() for each in self._ended],
            **self._ids.dump(),
        }
        content["waiting"] = [] if self.fleet is None else self.fleet.waiting.dump()
        if self.fleet is not None and (pools := self.fleet.dump_pools()):
            content["pools"] = pools
        if self.rules is not None:
            content |= self.rules.dump()
        if stopped := self.stops.dump([each.row_by_name for each in self._stores]):
            content["stopped"] = stopped
        restarts = [each.dump() for each in self.restarts]
        if any(any(own.values()) for own in restarts):
            content["restarts"] = restarts
        return [*parts, bytes_part("episodes", orjson.dumps(content))]

    def load(self, reader: SnapshotReader, *, migrates: bool) -> None:
        """Load what `dump` returned. migrates: under other settings, which may have enabled fleet alerts or not"""
        self._clear()
        if self.multi_target is not None:
            self.multi_target.load(orjson.loads(read_bytes(reader, "joint")))
        rows: list[list[Any]] = []
        if "fleet" in reader.names if migrates else self.fleet is not None:
            rows = orjson.loads(read_bytes(reader, "fleet"))
        content = orjson.loads(read_bytes(reader, "episodes"))
        if self.fleet is not None:
            self.fleet.load(rows)
            self.fleet.waiting.load(content["waiting"])
            self.fleet.load_pools(content.get("pools", []))
        else:
            self._withheld = withheld_episodes(rows, content["waiting"])
        # Rules may have been added or removed.
        open_ = content["open"][: len(self._stores)]
        if self.rules is not None:
            open_ += content["open"][len(self._stores) :] or [[]]
        self._endings.load(open_)
        if self.rules is not None:
            self.rules.load(content)
        restarts = content.get("restarts") or [None] * len(self.restarts)
        for each, own in zip(self.restarts, restarts, strict=False):  # it may be new
            each.load(own)
        self.stops.load(content.get("stopped", {}))
        self._ids.load(content)
        self._suppression = Suppression(self._config, self.windows, self._ids.suppressed_by(MAINTENANCE))
        self._ended = load_ended(content["ended"])


def _unknown(ended: Ended, sources: dict[int, int]) -> tuple[int, ...]:
    """Return the source of an episode if it is none of these: then any will do."""
    source = ended.started.pool[1]
    return () if source in sources else (source,)
