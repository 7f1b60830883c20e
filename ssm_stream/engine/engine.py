"""The engine: events in, predictions and alerts out, state inside. No Kafka, no Bytewax.

A target is predicted by a `TargetEngine` of its own; with several targets, what they have to tell of an entity is put
together (`MultiTargetAlerts`), and what happens to many entities that learn together is told once (`FleetAlerts`).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
import orjson

from ssm_stream.config import Config
from ssm_stream.config.changes import diff_model_settings, overall_effect
from ssm_stream.engine import snapshot
from ssm_stream.engine.alerts import Alert, render
from ssm_stream.engine.entity_limiter import EntityLimiter, Stretch
from ssm_stream.engine.entity_store import shard_of
from ssm_stream.engine.fleet_alerts import FleetAlerts, inside
from ssm_stream.engine.kernel_params import SLOT_STEP
from ssm_stream.engine.multi_target_alerts import MultiTargetAlerts
from ssm_stream.engine.snapshot_format import ArrayPart, SnapshotReader, StateError, sound, text_part, write
from ssm_stream.engine.target_engine import LabelResult, TargetEngine
from ssm_stream.ingest.events import Events, Refused
from ssm_stream.ingest.labels import Labels, Unmatched
from ssm_stream.kernels.features import FeaturePlan
from ssm_stream.kernels.lifecycle import KINDS
from ssm_stream.kernels.loop import Predictions, Settled
from ssm_stream.kernels.shapes import LearnerParams

__all__ = ["SLOT_STEP", "Alert", "Engine", "LabelResult", "shard_of"]


class Engine:
    """Predicts, judges and learns events of many entities.

    target_engines: one a target, in the order of the configuration

    >>> from ssm_stream.config import parse_config
    >>> config = parse_config('''
    ... source: {brokers: "localhost:9092", topic: events}
    ... event: {entity: machine, timestamp: ts, features: [load], target: [temp, noise]}
    ... ''')
    >>> engine = Engine(config)
    >>> from ssm_stream.ingest.events import EventReader
    >>> rows = [{"machine": "press-1", "ts": 60 * i, "load": i % 5, "temp": 20 + 3 * (i % 5)} for i in range(300)]
    >>> events, refused = EventReader(config.event).read(rows)
    >>> predictions, alerts = engine.process(events)
    >>> predictions.yhat.shape, bool(abs(predictions.yhat[-1, 0] - events.target[-1, 0]) < 0.5), refused
    ((300, 2), True, [])
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.target_engines = [TargetEngine(config.for_target(path)) for path in config.event.targets]
        self._census = EntityLimiter(config.state) if config.state.max_entities else None
        self._admitted: tuple[Events, list[Stretch]] | None = None
        self._made_by = config.hash  # of what was loaded last
        self._inside: list[tuple[str, str]] = []  # entity and kind of episodes that a fleet alert stands for
        self._forget_episodes()

    def _forget_episodes(self) -> None:
        config = self.config
        self._joint = MultiTargetAlerts(config) if len(self.target_engines) > 1 else None
        self._fleet = FleetAlerts(config) if config.model.fleet and config.alerts.fleet.enabled else None

    def __len__(self) -> int:
        """Entities in memory."""
        return len(self.names)

    def __contains__(self, entity: object) -> bool:
        """Is that entity in memory?"""
        return any(entity in each.store for each in self.target_engines)

    @property
    def names(self) -> list[str]:
        """Entities in memory, in the order of their rows: of appearance, until some are dropped."""
        if self._joint is None:
            return self.target_engines[0].store.names
        return list(dict.fromkeys(name for each in self.target_engines for name in each.store.names))

    @property
    def plan(self) -> FeaturePlan:
        """The inputs, the same for each target."""
        return self.target_engines[0].plan

    @property
    def params(self) -> LearnerParams:
        """The learner's constants; with several targets the first one's, which differ in the room for codes at most."""
        return self.target_engines[0].store.params

    @property
    def bytes_per_entity(self) -> int:
        """Memory of one entity's own state, over all targets."""
        return sum(each.store.bytes_per_entity for each in self.target_engines)

    @property
    def bytes_per_pool(self) -> int:
        """Memory of what the entities of one shard and source have learned together, over all targets."""
        return sum(each.store.bytes_per_pool for each in self.target_engines)

    @property
    def resolved_predictions(self) -> list[Settled]:
        """By target: the predictions that met it in the last `process` or `learn`, where targets come late."""
        return [each.resolved for each in self.target_engines]

    @property
    def late(self) -> bool:
        """Whether targets come after their events, so that `resolved_predictions` has the errors."""
        return self.target_engines[0].late

    def count_open_episodes(self, kind: str) -> int:
        """Entities with an open episode of a kind (`lifecycle.KINDS`); may be asked from another thread.

        With several targets, of the one with the most.
        """
        return max(each.store.count_open_episodes(kind) for each in self.target_engines)

    @property
    def fullness(self) -> float | None:
        """Share of `state.max_entities` that the source with the most has; None without a limit."""
        return None if self._census is None else self._census.fullness

    def pop_evicted_count(self) -> int:
        """Entities forgotten since the last call; with several targets, of the one with the most."""
        counts = [each.store.evicted for each in self.target_engines]
        for each in self.target_engines:
            each.store.evicted = 0
        return max(counts)

    @property
    def label_counts(self) -> dict[str, int]:
        """As `TargetEngine.label_counts`, over all targets."""
        counts = [each.label_counts for each in self.target_engines]
        return {name: sum(count[name] for count in counts) for name in counts[0]}

    def admit(self, events: Events, source: int = 0) -> tuple[Events, list[Refused]]:
        """The events that `process` is to be called with next, and those of entities that are one too many.

        Without this, and without `state.max_entities`, there is no limit.

        Args:
            events, source: as of `process`
        """
        if self._census is None or not len(events):
            return events, []
        shards = self.config.state.shards
        homes = {name: shard_of(name, shards) for name in set(events.entity)} if shards > 1 else {}
        stretches, refused = self._census.admit(events.entity, events.ts, homes, source)
        told = [Refused(i, "TooManyEntities", self._census.refusal(events.entity[i])) for i in refused]
        if refused:
            rows = np.setdiff1d(np.arange(len(events)), refused, assume_unique=True)
            place = np.zeros(len(events), np.intp)
            place[rows] = np.arange(len(rows))
            events = events.take(rows)
            stretches = [Stretch(place[s.rows], [(int(place[i]), name) for i, name in s.leaving]) for s in stretches]
        self._admitted = (events, stretches)
        return events, told

    def process(self, events: Events, source: int = 0) -> tuple[Predictions, list[Alert]]:
        """Predict, judge and learn, in order.

        Args:
            events: n events, their `target` (n,), or with m targets (n, m)
            source: the stream that they come from (the Kafka partition); each has a watermark of its own

        Returns:
            predictions, columns of the shape of `target`, and the alerts in the order of their events
        """
        admitted, self._admitted = self._admitted, None
        if admitted is None or admitted[0] is not events:
            return self._process(events, source, ())
        stretches = admitted[1]
        if len(stretches) == 1:
            return self._process(events, source, stretches[0].leaving)
        told, alerts = list[Predictions](), list[Alert]()
        settled: list[list[Settled]] = []
        for rows, leaving in stretches:
            before, first = self.target_engines[0].unmatched, int(rows[0])
            here = [(i - first, name) for i, name in leaving]
            predictions, mine = self._process(events.take(rows), source, here)
            told.append(predictions)
            alerts += [alert._replace(row=first + alert.row) for alert in mine]
            settled.append([each.resolved._replace(item=first + each.resolved.item) for each in self.target_engines])
            self.target_engines[0].place_unmatched(before, rows)
        for each, parts in zip(self.target_engines, zip(*settled, strict=True), strict=True):
            each.resolved = Settled(*map(np.concatenate, zip(*parts, strict=True)))
        return Predictions(*map(np.concatenate, zip(*told, strict=True))), alerts

    def _process(
        self, events: Events, source: int, leaving: Sequence[tuple[int, str]]
    ) -> tuple[Predictions, list[Alert]]:
        """`process` of a stretch, at rows of which these entities leave."""
        if self._joint is None:
            predictions, alerts_ = self.target_engines[0].process(events, source, leaving)
            return predictions, self._over_fleet(alerts_)
        told: list[Predictions] = []
        alerts: list[list[Alert]] = []
        for j, each in enumerate(self.target_engines):
            column = replace(events, target=np.ascontiguousarray(events.target[:, j]))
            predictions, mine = each.process(column, source, leaving)
            told.append(predictions)
            alerts.append(mine)
        together = self._joint.follow(alerts, [each.store.expired for each in self.target_engines])
        stacked = Predictions(*(np.stack(columns, axis=1) for columns in zip(*told, strict=True)))
        return stacked, self._over_fleet(together)

    def _over_fleet(self, alerts: list[Alert]) -> list[Alert]:
        """The alerts of the last batch, with what is told of the fleet instead of its entities: whole messages."""
        if self._fleet is None:
            return [render(alert) for alert in alerts]
        # An entity has started afresh where all its targets have.
        gone = Counter(item for each in self.target_engines for item in each.store.expired)
        sent = self._fleet.follow(
            alerts,
            [item for item, count in gone.items() if count == len(self.target_engines)],
            lambda entity, row: max(each.store.heard(entity, row) for each in self.target_engines),
        )
        return [render(alert) for alert in sent]

    def freeze_learning(self, entities: Sequence[str]) -> None:
        """From now on nothing is learned of these entities: what they would be told by a model that does not adapt.

        Only where the configuration says `alerts.anomaly: {enabled: false, learn: hold}` and no `state.ttl`.
        """
        for each in self.target_engines:
            each.freeze_learning(entities)

    def learn(self, labels: Labels, source: int = 0) -> LabelResult:
        """Learn targets that come by themselves, where the configuration has `labels` (and so one target).

        A label whose event is still to come waits for it. `pop_unmatched_labels` returns those that find no event.

        Args:
            labels: n labels
            source: the stream that they come from (the Kafka partition)
        """
        outcome = self.target_engines[0].learn(labels, source)
        return outcome._replace(alerts=self._over_fleet(outcome.alerts))

    def pop_unmatched_labels(self) -> list[Unmatched]:
        """The labels given up since the last call, in order."""
        return self.target_engines[0].pop_unmatched_labels()

    def input_names(self, pool: int = 0, target: str | None = None) -> list[str]:
        """Names of the implicit weights of a pool for a target (None: the first), as `TargetEngine.input_names`.

        Raises:
            KeyError: no such target.
        """
        return self._of(target or self.config.event.targets[0]).input_names(pool)

    def state_hash(self, entity: str, source: int = 0, target: str | None = None) -> str:
        """16 hex digits over all that the entity's next prediction depends on: its own state and its pool's.

        Args:
            entity: its name
            source: the stream that its events come from
            target: of this one only; None: of all, and of the episodes that they have in common

        Raises:
            KeyError: no such entity or target.
        """
        if target is not None:
            return self._of(target).state_hash(entity, source)
        if self._joint is None:
            return self.target_engines[0].state_hash(entity, source)
        # What an entity has for one target may have expired before the rest.
        known = [each.state_hash(entity, source) if entity in each.store else "" for each in self.target_engines]
        if not any(known):
            raise KeyError(entity)
        return hashlib.blake2b(orjson.dumps([known, self._joint.rows(entity)]), digest_size=8).hexdigest()

    def _of(self, target: str) -> TargetEngine:
        engines: dict[str, TargetEngine] = dict(zip(self.config.event.targets, self.target_engines, strict=True))
        return engines[target]

    @property
    def changed_share(self) -> float:
        """Of the entities: that are not as the last `write_snapshot` told them, of the target with the most."""
        return max(each.store.changed_share for each in self.target_engines)

    def write_snapshot(self, file: BinaryIO, *, full: bool, base: str = "") -> str:
        """Write the state, or what has changed since the last `write_snapshot`. Expired entities are dropped first.

        Args:
            file: at its start; what it holds is written over
            full: all of it; else only where `changed_share` is below 1
            base: where not full: the name of the snapshot that was written last

        Returns:
            the name of this one
        """
        words, parts = self._told(whole=full)
        name = write(file, {**words, "after": base}, parts)
        for each in self.target_engines:
            each.store.told()
        return name

    def snapshot(self) -> bytes:
        """All state as bytes, for `restore`. Expired entities are dropped first."""
        file = BytesIO()
        write(file, *self._told(whole=True))
        return file.getvalue()

    def _told(self, *, whole: bool) -> tuple[dict[str, Any], list[ArrayPart]]:
        """Words and arrays of a snapshot: each target's, then what they have in common."""
        of_each = [snapshot.save(each.store, whole=whole) for each in self.target_engines]
        words: dict[str, Any] = {"config": self.config.hash, "whole": whole, "targets": [told for told, _ in of_each]}
        if whole:
            words["settings"] = self.config.model_settings
        parts = [part._replace(name=f"{j}.{part.name}") for j, (_, arrays) in enumerate(of_each) for part in arrays]
        if self._joint is not None:
            self._joint.retain([each.store for each in self.target_engines])
            parts.append(text_part("joint", orjson.dumps(self._joint.rows())))
        if self._fleet is not None:
            self._fleet.retain(self)
            parts.append(text_part("fleet", orjson.dumps(self._fleet.rows())))
        if self._census is not None:
            words["census"] = True
            parts.append(text_part("census", orjson.dumps(self._census.rows())))
        return words, parts

    @classmethod
    def restore(cls, config: Config, data: bytes) -> Engine:
        """The engine that `snapshot` described.

        Raises:
            StateError: damaged bytes, or a state that another configuration made, and that does not fit this one.
        """
        engine = cls(config)
        engine.load(SnapshotReader(BytesIO(data)))
        engine.finish_load()
        return engine

    def load(self, reader: SnapshotReader) -> None:
        """Take over what `write_snapshot` wrote; after it, one after another, what that wrote later that is not whole.

        `finish_load` is to be called in the end.

        Raises:
            StateError: damaged, or a state that another configuration made, and that does not fit this one.
        """
        reader.check()
        with sound():
            self._load(reader, reader.metadata)

    def _load(self, reader: SnapshotReader, words: dict[str, Any]) -> None:
        made, whole = words["config"], bool(words["whole"])
        if whole:
            require_compatible_state(words, self.config)
        elif made != self._made_by:
            raise StateError("the snapshot goes on from one that another configuration made")
        self._made_by = made
        for j, (each, of_one) in enumerate(zip(self.target_engines, words["targets"], strict=True)):
            reader.prefix = f"{j}."
            snapshot.load(each.store, of_one, reader, whole=whole, migrates=self._migrates)
        reader.prefix = ""
        self._forget_episodes()
        if self._joint is not None:
            self._joint.load(orjson.loads(reader.read("joint").tobytes()))
        fleet: list[list[Any]] = []
        if "fleet" in reader.names if self._migrates else self._fleet is not None:
            fleet = orjson.loads(reader.read("fleet").tobytes())
        if self._fleet is not None:
            self._fleet.load(fleet)
        else:
            self._inside = inside(fleet)
        if words.get("census"):  # the limit may have been set, or taken away, since then
            known = orjson.loads(reader.read("census").tobytes())
            if self._census is not None:
                self._census.load(known)
        reader.finish()

    @property
    def _migrates(self) -> bool:
        return self._made_by != self.config.hash

    def finish_load(self) -> None:
        """After the last `load`: episodes that the settings have no place for end, without a word.

        Those of a kind that is switched off now, and those that only a fleet alert told of, where it is switched off.
        """
        if not self._migrates:
            return
        alerts = self.config.alerts
        on = {"anomaly": alerts.anomaly.enabled, "drift": alerts.drift.enabled}
        for kind in (kind for kind in KINDS if not on[kind]):
            self._end_episodes(kind)
        for entity, kind in self._inside:
            self._end_episodes(kind, entity)
        self._inside, self._made_by = [], self.config.hash

    def _end_episodes(self, kind: str, entity: str | None = None) -> None:
        for each in self.target_engines:
            each.store.end_episodes(kind, entity)
        if self._joint is not None:
            self._joint.end(kind, entity)
        if self._fleet is not None:
            self._fleet.end(kind, entity)

    def remove(self, entity: str) -> None:
        """Drop an entity, which then starts afresh; what it has taught others stays.

        Raises:
            KeyError: no such entity.
        """
        if entity not in self:
            raise KeyError(entity)
        for each in self.target_engines:
            each.store.forget(entity)
        for kind in KINDS:
            self._end_episodes(kind, entity)


def require_compatible_state(words: dict[str, Any], config: Config) -> None:
    """Refuse a state that these settings cannot go on with. words: of a whole snapshot

    Raises:
        StateError: which settings differ, and what can be done.
    """
    if words["config"] == config.hash:
        return
    made = f"the state was made by configuration {words['config']}, this one is {config.hash}"
    if "settings" not in words:
        raise StateError(
            f"{made}: put `event`, `model`, `alerts` and `state` back as they were, or start anew with another "
            "recovery.directory"
        )
    changes = diff_model_settings(words["settings"], config.model_settings)
    if overall_effect(changes) == "refused":
        listed = "".join(f"\n  {change.text}" for change in changes)
        raise StateError(f"{made}:{listed}\nput back what is refused, or start anew with another recovery.directory")
