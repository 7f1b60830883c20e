"""The engine: events in, predictions and alerts out, state inside. No Kafka, no Bytewax.

A target is predicted by a `TargetEngine` of its own; with several targets, what they have to tell of an entity is put
together (`Joint`), and what happens to many entities that learn together is told once (`Fleet`).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import replace

import numpy as np
import orjson
from numpy.typing import NDArray

from ssm_stream.config import Config
from ssm_stream.events import Events
from ssm_stream.fleet import Fleet
from ssm_stream.joint import Joint
from ssm_stream.labels import Labels, Unmatched
from ssm_stream.loop import Predictions, Settled
from ssm_stream.model.features import FeaturePlan
from ssm_stream.model.shapes import LearnerParams
from ssm_stream.state import StateError, pack, unpack
from ssm_stream.target import SLOT_STEP, Alert, Labelled, TargetEngine, require_config, shard_of

__all__ = ["SLOT_STEP", "Alert", "Engine", "Labelled", "shard_of"]


class Engine:
    """Predicts, judges and learns events of many entities.

    targets: the engine of each, in the order of the configuration

    >>> from ssm_stream.config import parse_config
    >>> config = parse_config('''
    ... source: {brokers: "localhost:9092", topic: events}
    ... event: {entity: machine, timestamp: ts, features: [load], target: [temp, noise]}
    ... ''')
    >>> engine = Engine(config)
    >>> from ssm_stream.events import EventReader
    >>> rows = [{"machine": "press-1", "ts": 60 * i, "load": i % 5, "temp": 20 + 3 * (i % 5)} for i in range(300)]
    >>> events, refused = EventReader(config.event).read(rows)
    >>> predictions, alerts = engine.process(events)
    >>> predictions.yhat.shape, bool(abs(predictions.yhat[-1, 0] - events.target[-1, 0]) < 0.5), refused
    ((300, 2), True, [])
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self._take([TargetEngine(config.for_target(path)) for path in config.event.targets])

    def _take(self, targets: list[TargetEngine]) -> None:
        self.targets = targets
        self._joint = Joint(self.config) if len(targets) > 1 else None
        self._fleet = Fleet(self.config) if self.config.model.fleet and self.config.alerts.fleet.enabled else None

    def __len__(self) -> int:
        """Entities in memory."""
        return len(self.names)

    @property
    def names(self) -> list[str]:
        """Entities in memory, in order of appearance."""
        if self._joint is None:
            return self.targets[0].names
        return list(dict.fromkeys(name for each in self.targets for name in each.names))

    @property
    def plan(self) -> FeaturePlan:
        """The inputs, the same for each target."""
        return self.targets[0].plan

    @property
    def params(self) -> LearnerParams:
        """The learner's constants; with several targets the first one's, which differ in the room for codes at most."""
        return self.targets[0].params

    @property
    def bytes_per_entity(self) -> int:
        """Memory of one entity's own state, over all targets."""
        return sum(each.bytes_per_entity for each in self.targets)

    @property
    def bytes_per_pool(self) -> int:
        """Memory of what the entities of one shard and source have learned together, over all targets."""
        return sum(each.bytes_per_pool for each in self.targets)

    @property
    def settled(self) -> list[Settled]:
        """By target: the predictions that met it in the last `process` or `learn`, where targets come late."""
        return [each.settled for each in self.targets]

    @property
    def late_counts(self) -> dict[str, int]:
        """As `TargetEngine.late_counts`, over all targets."""
        counts = [each.late_counts for each in self.targets]
        return {name: sum(count[name] for count in counts) for name in counts[0]}

    def process(self, events: Events, source: int = 0) -> tuple[Predictions, list[Alert]]:
        """Predict, judge and learn, in order.

        Args:
            events: n events, their `target` (n,), or with m targets (n, m)
            source: the stream that they come from (the Kafka partition); each has a watermark of its own

        Returns:
            predictions, columns of the shape of `target`, and the alerts in the order of their events
        """
        if self._joint is None:
            predictions, alerts_ = self.targets[0].process(events, source)
            return predictions, self._over_fleet(alerts_)
        told: list[Predictions] = []
        alerts: list[list[Alert]] = []
        for j, each in enumerate(self.targets):
            predictions, mine = each.process(replace(events, target=np.ascontiguousarray(events.target[:, j])), source)
            told.append(predictions)
            alerts.append(mine)
        together = self._joint.follow(alerts, [each.expired for each in self.targets])
        stacked = Predictions(*(np.stack(columns, axis=1) for columns in zip(*told, strict=True)))
        return stacked, self._over_fleet(together)

    def _over_fleet(self, alerts: list[Alert]) -> list[Alert]:
        """The alerts of the last batch, with what is told of the fleet instead of its entities."""
        if self._fleet is None:
            return alerts
        # An entity has started afresh where all its targets have.
        gone = Counter(item for each in self.targets for item in each.expired)
        return self._fleet.follow(
            alerts,
            [item for item, count in gone.items() if count == len(self.targets)],
            lambda entity, row: max(each.heard(entity, row) for each in self.targets),
        )

    def learn(self, labels: Labels, source: int = 0) -> Labelled:
        """Learn targets that come by themselves, where the configuration has `labels` (and so one target).

        A label whose event is still to come waits for it. Those that find no event, now or later: `take_unmatched`.

        Args:
            labels: n labels
            source: the stream that they come from (the Kafka partition)
        """
        outcome = self.targets[0].learn(labels, source)
        return outcome._replace(alerts=self._over_fleet(outcome.alerts))

    def take_unmatched(self) -> list[Unmatched]:
        """The labels given up since the last call, in order."""
        return self.targets[0].take_unmatched()

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
            return self.targets[0].state_hash(entity, source)
        # What an entity has for one target may have expired before the rest.
        known = [each.state_hash(entity, source) if entity in each else "" for each in self.targets]
        if not any(known):
            raise KeyError(entity)
        return hashlib.blake2b(orjson.dumps([known, self._joint.rows(entity)]), digest_size=8).hexdigest()

    def _of(self, target: str) -> TargetEngine:
        engines: dict[str, TargetEngine] = dict(zip(self.config.event.targets, self.targets, strict=True))
        return engines[target]

    def snapshot(self) -> bytes:
        """All state as bytes, for `restore`. Expired entities are dropped first."""
        for each in self.targets:
            each.evict()
        fleet = b""
        if self._fleet is not None:
            self._fleet.retain(self.names)
            fleet = orjson.dumps(self._fleet.rows())
        if self._joint is None:
            return self.targets[0].snapshot(fleet)
        arrays: dict[str, NDArray[np.generic]] = {
            f"target.{j}": np.frombuffer(each.snapshot(), np.uint8) for j, each in enumerate(self.targets)
        }
        self._joint.retain(self.targets)
        arrays["joint"] = np.frombuffer(orjson.dumps(self._joint.rows()), np.uint8)
        arrays["fleet"] = np.frombuffer(fleet, np.uint8)
        return pack({"config": self.config.hash}, [], arrays)

    @classmethod
    def restore(cls, config: Config, data: bytes) -> Engine:
        """The engine that `snapshot` described.

        Raises:
            StateError: damaged bytes, or a state that another configuration made.
        """
        engine, paths = cls.__new__(cls), config.event.targets
        engine.config = config
        if len(paths) == 1:
            engine._take([TargetEngine.restore(config, data)])
            engine._load_fleet(engine.targets[0].beside)
            return engine
        header, _, arrays = unpack(data)
        require_config(header, config)
        try:
            parts = [arrays[f"target.{j}"].tobytes() for j in range(len(paths))]
            rows, fleet = orjson.loads(arrays["joint"].tobytes()), arrays["fleet"].tobytes()
        except (KeyError, orjson.JSONDecodeError) as error:
            raise StateError(
                f"the snapshot of {len(paths)} targets is not what this release keeps ({error}): use the release that "
                "wrote it, or start anew with another recovery.directory"
            ) from error
        pairs = zip(paths, parts, strict=True)
        engine._take([TargetEngine.restore(config.for_target(path), part) for path, part in pairs])
        assert engine._joint is not None
        engine._joint.load(rows)
        engine._load_fleet(fleet)
        return engine

    def _load_fleet(self, rows: bytes) -> None:
        if self._fleet is not None and rows:
            self._fleet.load(orjson.loads(rows))
