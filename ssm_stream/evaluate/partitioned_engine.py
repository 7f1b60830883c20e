"""The production engine over a recording as production would have it: by partition of the source.

Partitions are learned side by side, as in production.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.config import Config
from ssm_stream.core.loop import Predictions, Settled
from ssm_stream.engine.alerts import EventPlace
from ssm_stream.engine.engine import Alert, Engine
from ssm_stream.engine.entity_limiter import Segment
from ssm_stream.engine.episodes.ids import EventIds
from ssm_stream.engine.parallel.lanes import run_all
from ssm_stream.evaluate.pools import partition_of
from ssm_stream.ingest.events import Events, RefusedDocument
from ssm_stream.ingest.factorize import factorize
from ssm_stream.ingest.faults import Fault
from ssm_stream.ingest.labels import Labels


class AdmittedPart(NamedTuple):
    """The events of one partition in a batch. rows: of the batch; admitted: what `Engine.admit` noted of them"""

    partition: int
    rows: NDArray[np.intp]
    events: Events
    admitted: tuple[Events, list[Segment]] | None


class PartitionedEngine(Engine):
    """Processes each event as of the partition that its entity's name has as a key.

    Entities of a partition and shard learn together, and are watched together by the fleet alerts.

    Args:
        config: of the run
        partitions: of the source; 1: all entities of a shard form one pool
        side_by_side: learn partitions and targets on all cores; else one after another, on the calling thread
    """

    def __init__(self, config: Config, partitions: int = 1, *, side_by_side: bool = True) -> None:
        super().__init__(config.without_shadow())
        self._side_by_side.enabled &= side_by_side
        self.partitions = partitions
        self._partition_by_entity: dict[str, int] = {}
        self._parts: tuple[Events, list[AdmittedPart]] | None = None
        self._resolved: list[Settled] | None = None

    @property
    def pool_count(self) -> int:
        """Number of pools: of a shard and partition; with `model.fleet` off, an entity each."""
        store = self.target_engines[0].store
        return len(store.pools) if self.config.model.fleet else len(store)

    def partition(self, entity: str) -> int:
        """Return the partition of an entity."""
        found = self._partition_by_entity.get(entity)
        if found is None:
            found = self._partition_by_entity[entity] = partition_of(entity, self.partitions)
        return found

    def _split(self, events: Events) -> Iterator[tuple[int, NDArray[np.intp]]]:
        """Yield each partition of a batch, and its rows."""
        codes = dict[str, int]()
        code = factorize(events.entity, codes)
        of = np.array([self.partition(name) for name in codes], np.int64)[code]
        for partition in np.unique(of).tolist():
            yield partition, np.flatnonzero(of == partition)

    def admit(self, events: Events, source: int = 0) -> tuple[Events, list[RefusedDocument]]:
        """Return the events to call `process` with next, and those rejected; see `Engine.admit`."""
        if self._limiter is None or self.partitions == 1:
            return super().admit(events, source)
        parts, refused, kept = list[AdmittedPart](), list[RefusedDocument](), list[NDArray[np.intp]]()
        for partition, rows in self._split(events):
            some, more = super().admit(events.take(rows), partition)
            refused += [each._replace(position=int(rows[each.position])) for each in more]
            rows = np.delete(rows, [each.position for each in more])
            parts.append(AdmittedPart(partition, rows, some, self._admitted))
            kept.append(rows)
        refused.sort(key=lambda each: each.position)
        admitted = np.sort(np.concatenate(kept)) if kept else np.empty(0, np.intp)
        if refused:
            events = events.take(admitted)
        parts = [part._replace(rows=np.searchsorted(admitted, part.rows)) for part in parts]
        self._parts = events, parts
        return events, refused

    def process(self, events: Events, source: int = 0, ids: EventIds | None = None) -> tuple[Predictions, list[Alert]]:
        """Predict, score and learn; see `Engine.process`. The partition follows from the entity, not from `source`."""
        if self.partitions == 1:
            return super().process(events, source, ids)
        admitted, self._parts = self._parts, None
        if admitted is not None and admitted[0] is events:
            parts = admitted[1]
        else:
            parts = [AdmittedPart(p, rows, events.take(rows), None) for p, rows in self._split(events)]
        if not parts:
            parts = [AdmittedPart(0, np.empty(0, np.intp), events, None)]
        run_all(self.begin([(part.events, part.partition) for part in parts]))
        made, alerts = list[Predictions](), list[Alert]()
        resolved: list[list[Settled]] = [[] for _ in self.target_engines]
        for part in parts:
            self._admitted = part.admitted
            own_ids = None if ids is None else ids.take(part.rows.tolist())
            predictions, own = super().process(part.events, part.partition, own_ids)
            if events.windows is not None:  # the engine has filled in their columns
                events.features[part.rows] = part.events.features
            made.append(predictions)
            alerts += [alert._replace(row=int(part.rows[alert.row])) for alert in own]
            for all_, each in zip(resolved, super().resolved_predictions, strict=True):
                all_.append(each._replace(item=part.rows[each.item]))
        order = np.argsort(np.concatenate([part.rows for part in parts]))
        self._resolved = [_in_order(each) for each in resolved]
        together = (np.concatenate(columns)[order] for columns in zip(*made, strict=True))
        return Predictions(*together), sorted(alerts, key=lambda alert: alert.row)

    @property
    def resolved_predictions(self) -> list[Settled]:
        """By target: the predictions that met their targets in the last `process`; see `Engine`."""
        return super().resolved_predictions if self._resolved is None else self._resolved


def _in_order(parts: list[Settled]) -> Settled:
    """Return them as one, in the order of the events that brought the targets."""
    whole = Settled(*map(np.concatenate, zip(*parts, strict=True)))
    order = np.argsort(whole.item, kind="stable")
    return Settled(*(column[order] for column in whole))  # type: ignore[arg-type]


class KnownLabels:
    """The last label of each entity, and the one that was known at each event that waits for its own.

    That is what persistence can answer where labels come late.
    """

    def __init__(self, pending: int) -> None:
        """Begin without labels. pending: events of an entity that may wait"""
        self._pending = pending
        self._last = dict[str, float]()
        self._waiting = dict[str, dict[int, float]]()

    def last(self, entity: str) -> float:
        """Return the last label that has come; NaN for none."""
        return self._last.get(entity, np.nan)

    def come(self, entity: str, y: float) -> None:
        """Take a label for the last one."""
        self._last[entity] = y

    def at_events(self, events: Events, settled: Settled) -> NDArray[np.float64]:
        """Return (m,) the labels that were known at the predictions that met their targets with these events."""
        found = np.full(len(settled.item), np.nan)
        met: dict[int, list[int]] = {}
        for row, item in enumerate(settled.item.tolist()):
            met.setdefault(item, []).append(row)
        for i, (name, ts) in enumerate(zip(events.entity, events.ts.tolist(), strict=True)):
            waiting = self._waiting.setdefault(name, {})
            waiting[ts] = self.last(name)
            if len(waiting) > self._pending:
                del waiting[next(iter(waiting))]
            for row in met.get(i, ()):
                found[row] = self._meet(name, int(settled.ts[row]), float(settled.y[row]))
        return found

    def at_labels(self, names: Sequence[str], settled: Settled) -> NDArray[np.float64]:
        """Return as `at_events`, of predictions that met labels. names: entities of the labels"""
        rows = zip(settled.item.tolist(), settled.ts.tolist(), settled.y.tolist(), strict=True)
        return np.array([self._meet(names[i], ts, y) for i, ts, y in rows], np.float64)

    def _meet(self, entity: str, ts: int, y: float) -> float:
        """Return what was known at the event of this time, which now has its target."""
        known = self._waiting.get(entity, {}).pop(ts, np.nan)
        self.come(entity, y)
        return known


class LabelledBatch:
    """What the engine makes of a batch of events and labels.

    At least one call of `predict` is needed.

    Attributes:
        refused: the rows that are neither, and labels without an event
        alerts: at the events, or the event before a label, whose place they then have
    """

    def __init__(self, engine: PartitionedEngine, source: str, first: int, known: KnownLabels) -> None:
        """Begin a batch.

        Args:
            engine: of a configuration with `labels`
            source: of ids
            first: number of the first row
            known: of the batches before
        """
        self.refused, self.alerts = list[RefusedDocument](), list[Alert]()
        self._engine, self._source, self._first = engine, source, first
        self._rows, self._predictions = list[int](), list[Predictions]()
        self._names, self._settled = list[str](), list[Settled]()
        self._met_at = list[NDArray[np.int64]]()
        self._known, self._naive = known, list[NDArray[np.float64]]()

    def _ids(self, position: NDArray[np.int64]) -> EventIds:
        return EventIds(self._source, 0, (self._first + position).tolist())

    def predict(self, events: Events) -> None:
        """Predict the next events."""
        place = events.position
        events, more = self._engine.admit(self._engine.episodes.mark(events))
        self.refused += [each._replace(position=int(place[each.position])) for each in more]
        predictions, alerts = self._engine.process(events, 0, self._ids(events.position))
        self.alerts += [alert._replace(row=len(self._rows) + alert.row) for alert in alerts]
        self._rows += events.position.tolist()
        self._predictions.append(predictions)
        settled = self._engine.resolved_predictions[0]
        self._naive.append(self._known.at_events(events, settled))
        self._settle(events.entity, events.position, settled)

    def learn(self, labels: Labels) -> None:
        """Learn the next labels. An alert is sent at the event before, and its place is that of the label."""
        ids = self._ids(labels.position)
        result = self._engine.learn(labels, 0, ids)
        for alert in result.alerts:
            place = alert.place or EventPlace(ids.topic, 0, ids.offsets[alert.row])
            self.alerts.append(alert._replace(row=max(len(self._rows) - 1, 0), place=place))
        self._naive.append(self._known.at_labels(labels.entity, result.resolved))
        self._settle(labels.entity, labels.position, result.resolved)

    def _settle(self, names: list[str], position: NDArray[np.int64], settled: Settled) -> None:
        self._names += [names[i] for i in settled.item.tolist()]
        self._settled.append(settled)
        self._met_at.append(position[settled.item])
        self.refused += [
            RefusedDocument(
                int(position[each.row]), Fault.UNMATCHED_LABEL, f"a label of {each.entity!r}: {each.reason}"
            )
            for each in self._engine.pop_unmatched_labels()
        ]

    @property
    def admitted(self) -> list[int]:
        """The positions of the events that have predictions, in order."""
        return self._rows

    @property
    def predictions(self) -> Predictions:
        """Those of the admitted events."""
        return Predictions(*(np.concatenate(columns) for columns in zip(*self._predictions, strict=True)))

    @property
    def met(self) -> tuple[list[str], Settled]:
        """The predictions that met their targets, and their entities."""
        return self._names, Settled(*(np.concatenate(columns) for columns in zip(*self._settled, strict=True)))

    @property
    def met_at(self) -> NDArray[np.int64]:
        """Of those that met their targets: the position of the label, or of the event that has it."""
        return np.concatenate(self._met_at)

    @property
    def naive(self) -> NDArray[np.float64]:
        """Of those that met their targets: the last label that was known when each was made, NaN for none."""
        return np.concatenate(self._naive)
