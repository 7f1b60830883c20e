"""The engine: events in, predictions and alerts out, state inside. No Kafka, no Bytewax.

Each target is predicted by a `TargetEngine` of its own. With several targets, an entity's alerts of one event are
merged into one (`MultiTargetAlerts`); what affects many entities that learn together is one alert, too (`FleetAlerts`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from io import BytesIO
from typing import Any, BinaryIO, Self

import numpy as np
import orjson

from ssm_stream.config import Config
from ssm_stream.core.features import FeaturePlan
from ssm_stream.core.loop import Predictions, Settled
from ssm_stream.core.shapes import LearnerParams
from ssm_stream.engine import snapshot, snapshot_format
from ssm_stream.engine.alert_kinds import KINDS
from ssm_stream.engine.alert_pipeline import AlertPipeline
from ssm_stream.engine.alerts import Alert
from ssm_stream.engine.delayed_labels import LabelResult
from ssm_stream.engine.entity_limiter import EntityLimiter, Segment
from ssm_stream.engine.entity_store import shard_of
from ssm_stream.engine.episodes.endings import Batch
from ssm_stream.engine.episodes.event_values import values_of_batch, values_of_one
from ssm_stream.engine.episodes.ids import EventIds
from ssm_stream.engine.input_changes.conversion import converted
from ssm_stream.engine.input_changes.former_config import former_config
from ssm_stream.engine.kernel_params import ttl_ms
from ssm_stream.engine.parallel.lanes import Task
from ssm_stream.engine.parallel.side_by_side import SideBySide
from ssm_stream.engine.segments import process_segments
from ssm_stream.engine.single_event import PredictedValues, locate_targets, process_targets
from ssm_stream.engine.state_check import check_state
from ssm_stream.engine.summaries.hourly import HourlySummaries
from ssm_stream.engine.target_engine import TargetEngine, TargetInputs
from ssm_stream.ingest.events import Events, RefusedDocument
from ssm_stream.ingest.faults import Fault
from ssm_stream.ingest.labels import Labels, UnmatchedLabel
from ssm_stream.ingest.rows.stage import row_builder
from ssm_stream.ingest.single_event import SingleEvent
from ssm_stream.ingest.windows import Windows

__all__ = ["Alert", "Engine", "LabelResult", "shard_of"]


class Engine:
    """Predicts, scores and learns events of many entities.

    target_engines: one a target, in the order of the configuration; inputs: what each reads of the events
    episodes: those that targets and entities have in common
    windows: past values of derived inputs, which all targets have in common; summaries: of the hours of each entity
    rows: makes the events of messages that are none yet (`ingest/rows`); None: a message is an event
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.target_engines = [TargetEngine(config.for_target(path)) for path in config.event.targets]
        self.inputs, self.windows = TargetInputs(config.event), Windows(config.event, ttl_ms(config))
        self.episodes = AlertPipeline(config, [each.store for each in self.target_engines])
        for each in self.target_engines:
            each.store.windows, each.summarizer.container = self.windows, self.episodes.summarizer.container
        self.episodes.restarts = [each.restarts for each in self.target_engines if each.restarts is not None]
        self.rows = row_builder(config.event, ttl_ms(config), keyed=config.delivery == "exactly_once")
        self._limiter = EntityLimiter(config.state) if config.state.max_entities else None
        self.summaries = HourlySummaries(config)
        self._side_by_side = SideBySide(self.target_engines, self.inputs.select)
        self._admitted: tuple[Events, list[Segment]] | None = None
        self.primed: dict[str, dict[str, Any]] = {}  # by entity: its last examples (`recovery/prime.py`)
        self._loaded_config = config.hash  # of the snapshot that was loaded last
        self._former: Engine | None = None  # loads a state of other inputs or targets, until it is converted

    def __len__(self) -> int:
        """Entities in memory."""
        return len(self.names)

    def __contains__(self, entity: object) -> bool:
        """Return whether the entity is in memory."""
        return any(entity in each.store for each in self.target_engines)

    @property
    def names(self) -> list[str]:
        """Entities in memory, in the order of their rows: of appearance, until some are removed."""
        if len(self.target_engines) == 1:
            return self.target_engines[0].store.names
        return list(dict.fromkeys(name for each in self.target_engines for name in each.store.names))

    @property
    def plan(self) -> FeaturePlan:
        """The inputs of the first target: the same for each, but with `target: all`."""
        return self.target_engines[0].plan

    @property
    def params(self) -> LearnerParams:
        """The learner's sizes and rates; with several targets, the first one's: they differ in their inputs only."""
        return self.target_engines[0].store.params

    @property
    def bytes_per_entity(self) -> int:
        """Memory of one entity's own state, over all targets."""
        return self.windows.bytes_per_entity + sum(each.bytes_of_rows[0] for each in self.target_engines)

    @property
    def bytes_per_pool(self) -> int:
        """Memory of what the entities of one shard and source have learned together, over all targets."""
        return sum(each.bytes_of_rows[1] for each in self.target_engines)

    @property
    def resolved_predictions(self) -> list[Settled]:
        """By target: the predictions that met their targets in the last `process` or `learn`, if these are delayed."""
        return [each.resolved for each in self.target_engines]

    @property
    def labels_delayed(self) -> bool:
        """Whether targets come after their events, so that `resolved_predictions` has the errors."""
        return self.target_engines[0].delayed is not None

    def count_open_episodes(self, kind: str) -> int:
        """Return the number of entities with an open episode of a kind, of the target with the most; thread-safe."""
        if kind not in KINDS:
            return self.episodes.count_entities(kind)
        return max(each.count_open_episodes(kind) for each in self.target_engines)

    @property
    def fullness(self) -> float | None:
        """Share of `state.max_entities` that the fullest shard and source has reached; None without a limit."""
        return None if self._limiter is None else self._limiter.fullness

    def pop_evicted_count(self) -> int:
        """Return the number of entities evicted since the last call; with several targets, of the one with the most."""
        counts = [each.store.evicted for each in self.target_engines]
        for each in self.target_engines:
            each.store.evicted = 0
        return max(counts)

    @property
    def label_counts(self) -> dict[str, int]:
        """Counts of delayed targets, over all targets; empty if targets are not delayed.

        `waiting`, `matched`, `dropped` (waited too long, too many, or evicted): events
        `unmatched`: labels without an event, or with a horizon, predictions whose time came without a target
        `early`: labels that wait for their events
        """
        counts = [each.delayed.counts for each in self.target_engines if each.delayed is not None]
        return {name: sum(count[name] for count in counts) for name in counts[0]} if counts else {}

    def admit(self, events: Events, source: int = 0) -> tuple[Events, list[RefusedDocument]]:
        """Return the events to call `process` with next, and those rejected by `state.max_entities`.

        The limit holds only for events that come through here.

        events, source: as of `process`
        """
        if self._limiter is None or not len(events):
            return events, []
        shards = self.config.state.shards
        shard_by_name = {name: shard_of(name, shards) for name in set(events.entity)} if shards > 1 else {}
        segments, rejected = self._limiter.admit(events.entity, events.ts, shard_by_name, source)
        refused = [
            RefusedDocument(i, Fault.TOO_MANY_ENTITIES, self._limiter.rejection_reason(events.entity[i]))
            for i in rejected
        ]
        if rejected:
            rows = np.setdiff1d(np.arange(len(events)), rejected, assume_unique=True)
            at = np.zeros(len(events), np.intp)
            at[rows] = np.arange(len(rows))
            events = events.take(rows)
            segments = [Segment(at[s.rows], [(int(at[i]), name) for i, name in s.evicted]) for s in segments]
        self._admitted = (events, segments)
        return events, refused

    def begin(self, batches: Sequence[tuple[Events, int]], others: int = 0) -> list[Task]:
        """Return what learns batches of several sources at once, as far as that goes, for `lanes.run_all`.

        Then `process` must get each of them, in this order. batches: events and source; others: events of other engines
        """
        plain = self._limiter is None and not self.windows and self.episodes.windows is None
        return self._side_by_side.begin(batches, others) if plain else []

    def process(self, events: Events, source: int = 0, ids: EventIds | None = None) -> tuple[Predictions, list[Alert]]:
        """Predict, score and learn, in order.

        Args:
            events: n events, their `target` (n,), or with m targets (n, m)
            source: the stream that they come from (the Kafka partition); each has a watermark of its own
            ids: from which alerts get their `episode`; None: it is null, and there are no suppressed alerts

        Returns:
            predictions, columns of the shape of `target`, and the alerts in the order of their events
        """
        admitted, self._admitted = self._admitted, None
        if admitted is None or admitted[0] is not events:
            return self._process(events, source, (), ids)
        segments = admitted[1]
        if len(segments) < 2:  # none: of the batch nothing was admitted
            return self._process(events, source, segments[0].evicted if segments else (), ids)
        delayed = [each.delayed for each in self.target_engines if each.delayed is not None]
        return process_segments(
            segments, events, ids, lambda part, leaving, some: self._process(part, source, leaving, some), delayed
        )

    def process_one(self, event: SingleEvent, source: int = 0) -> tuple[list[PredictedValues], list[Alert]] | None:
        """Return the prediction of each target and the alerts of one event, faster than `process` and equal to it.

        None if only `process` can: targets are delayed, entities limited, there are rules or windows, or it is new.
        """
        episodes = self.episodes
        if self._limiter or episodes.rules is not None or episodes.windows is not None or self.config.event.when:
            return None
        if any(each.restarts is not None and each.restarts.any_open for each in self.target_engines):
            return None  # of a condition that the configuration no longer has
        batch = Batch([event.ts], source, self.target_engines[0].store.watermark(source))
        ready = locate_targets([each.single for each in self.target_engines], event, source)
        if ready is None:
            return None
        event = self.windows.fill_one(event, source)
        predicted, alerts = process_targets(ready, event, source, self.inputs.select_one)
        return predicted, self.episodes.process(alerts, batch, values=values_of_one(event.targets, predicted))

    def _process(
        self, events: Events, source: int, evicted: Sequence[tuple[int, str]], ids: EventIds | None
    ) -> tuple[Predictions, list[Alert]]:
        """Process a segment. evicted: row and name of the entities to evict there"""
        begun, watermark = self._side_by_side.take(events, source)
        events = self.episodes.begin(events, ids)
        batch = Batch(events.ts, source, watermark, events.idle, ids and ids.offsets, events.entity, events.stopped)
        self.windows.fill(events, source, [name for _, name in evicted])
        results = self._side_by_side.process(events, source, evicted, begun)
        parts, alerts = [part for part, _ in results], [own for _, own in results]
        several = len(parts) > 1
        together = Predictions(*(np.stack(c, axis=1) for c in zip(*parts, strict=True))) if several else parts[0]
        judged = self.resolved_predictions if self.labels_delayed else parts
        sent = self.episodes.process(alerts, batch, ids, events, values=values_of_batch(events.target, judged))
        self.summaries.add(events, source, ids, judged, sent)
        return together, sent

    def freeze_learning(self, entities: Sequence[str]) -> None:
        """Freeze learning for these entities: from now on their predictions are those of a model that does not adapt.

        Needs `alerts.anomaly: {enabled: false, learn: hold}` and no `state.ttl`.
        """
        for each in self.target_engines:
            each.freeze_learning(entities)

    def learn(self, labels: Labels, source: int = 0, ids: EventIds | None = None) -> LabelResult:
        """Learn targets that come by themselves; needs the section `labels` (and so has one target).

        A label whose event is still to come waits for it. `pop_unmatched_labels` returns those that find no event.

        Args:
            labels: n labels
            source: the stream that they come from (the Kafka partition)
            ids: of the labels, as of `process`
        """
        self.windows.end_batch()
        result = self.target_engines[0].learn(labels, source)
        result = result._replace(alerts=self.episodes.process([result.alerts], ids=ids, labels=len(labels)))
        self.summaries.learn(labels, result.resolved, result.alerts)
        return result

    def pop_unmatched_labels(self) -> list[UnmatchedLabel]:
        """Return the labels given up since the last call, in order."""
        delayed = self.target_engines[0].delayed
        return [] if delayed is None else delayed.pop_unmatched()

    def input_names(self, pool: int = 0, target: str | None = None) -> list[str]:
        """Return the names of a pool's implicit weights for a target (None: the first), else KeyError."""
        return self._target_engine(target or self.config.event.targets[0]).input_names(pool)

    def state_hash(self, entity: str, source: int = 0, target: str | None = None) -> str:
        """Return 16 hex digits over all that the entity's next prediction depends on: its own state and its pool's.

        source: that its events come from; target: of this one only; None: of all, and of the episodes in common

        Raises:
            KeyError: no such entity or target.
        """
        if target is not None:
            return self._target_engine(target).state_hash(entity, source)
        if self.episodes.multi_target is None:
            return self.target_engines[0].state_hash(entity, source)
        # An entity's state may have expired for one target before the others.
        hashes = [each.state_hash(entity, source) if entity in each.store else "" for each in self.target_engines]
        if not any(hashes):
            raise KeyError(entity)
        content = orjson.dumps([hashes, self.episodes.multi_target.dump(entity)])
        return hashlib.blake2b(content, digest_size=8).hexdigest()

    def _target_engine(self, target: str) -> TargetEngine:
        return dict(zip(self.config.event.targets, self.target_engines, strict=True))[target]

    @property
    def changed_share(self) -> float:
        """Share of the entities that changed since the last `write_snapshot`, of the target with the most."""
        return max(each.store.changed_share for each in self.target_engines)

    def write_snapshot(self, file: BinaryIO, *, full: bool, base: str = "") -> str:
        """Write the state, or what changed since the last time, and return its name. Removes expired entities first.

        Args:
            file: at its start; its content is overwritten
            full: all of it; an incremental snapshot needs a `changed_share` below 1
            base: for an incremental snapshot: the name of the one that was written last
        """
        metadata, parts = self.dump(full=full)
        name = snapshot_format.write(file, {**metadata, "after": base}, parts)
        self.mark_persisted()
        return name

    def mark_persisted(self) -> None:
        """Mark the state as persisted: the next incremental snapshot has what changes from now on."""
        for each in self.target_engines:
            each.store.mark_persisted()
        self.windows.mark_persisted()
        self.summaries.mark_persisted()

    def snapshot(self) -> bytes:
        """Return all state as bytes, for `restore`. Removes expired entities first."""
        snapshot_format.write(file := BytesIO(), *self.dump(full=True))
        return file.getvalue()

    def dump(self, *, full: bool) -> tuple[dict[str, Any], list[snapshot_format.ArrayPart]]:
        """Return metadata and arrays of a snapshot: each target's, then what they have in common."""
        targets = [snapshot.dump(each.store, f"{j}.", full=full) for j, each in enumerate(self.target_engines)]
        metadata: dict[str, Any] = {"config": self.config.hash, "whole": full, "targets": [own for own, _ in targets]}
        metadata |= {"settings": self.config.model_settings} if full else {}
        if self.primed:
            metadata["primed"] = {name: each for name, each in self.primed.items() if name in self}
        parts = [part for _, arrays in targets for part in arrays] + self.episodes.dump()
        common, more = snapshot.dump_common(self.windows, self.rows, self._limiter, self.summaries, full=full)
        return metadata | common, parts + more

    @classmethod
    def restore(cls, config: Config, data: bytes) -> Self:
        """Return an engine with the state that `snapshot` returned; raises StateError as `load` does."""
        engine = cls(config)
        engine.load(snapshot_format.SnapshotReader(BytesIO(data)))
        engine.finish_load()
        return engine

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).restore, (self.config, self.snapshot())

    def load(self, reader: snapshot_format.SnapshotReader) -> None:
        """Load what `write_snapshot` wrote: a full snapshot, then the incremental ones; then call `finish_load`.

        Raises:
            StateError: damaged, or a state that another configuration made and that does not fit this one.
        """
        with reader.checking(), snapshot_format.damage_as_state_error():
            if reader.metadata["whole"]:
                config = former_config(self.config, reader.metadata)
                self._former = None if config is None else Engine(config)
            (self if self._former is None else self._former)._load(reader)

    def _load(self, reader: snapshot_format.SnapshotReader) -> None:
        metadata, full = reader.metadata, bool(reader.metadata["whole"])
        if not full and metadata["config"] != self._loaded_config:
            raise snapshot_format.StateError("the incremental snapshot follows one that another configuration made")
        self._loaded_config, self.primed = metadata["config"], dict(metadata.get("primed", {}))
        migrates = self._loaded_config != self.config.hash
        for j, (each, own) in enumerate(zip(self.target_engines, metadata["targets"], strict=True)):
            reader.prefix = f"{j}."
            snapshot.load(each.store, own, reader, full=full, migrates=migrates)
        reader.prefix = ""
        self.episodes.load(reader, migrates=migrates)
        snapshot.load_common(reader, self.windows, self.rows, self._limiter, self.summaries, full=full)
        reader.finish()

    def finish_load(self) -> None:
        """Check the state (StateError), and end the episodes that the settings do not allow, after the last `load`."""
        if self._former is not None:
            former, self._former = self._former, None
            former.finish_load()
            with converted(former.episodes, former.dump, former.target_engines, self.target_engines) as reader:
                self._load(reader)
        for each in self.target_engines:
            check_state(each.store)
            each.store.tally.begin(each.store.state, len(each.store))
        if self._loaded_config != self.config.hash:
            self.episodes.end_disabled()
            self._loaded_config = self.config.hash

    def remove(self, entity: str) -> None:
        """Remove an entity (KeyError: there is none), which then starts afresh; what others have learned from it stays.

        The end of its episodes is sent at the next event of their source.
        """
        if entity not in self:
            raise KeyError(entity)
        for each in self.target_engines:
            each.store.remove(entity)
        self.primed.pop(entity, None)
        self.windows.remove(entity)
        self.summaries.remove(entity)
        self.episodes.remove(entity)
