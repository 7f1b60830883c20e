"""Collects the events that the kernel reports, captures their state, and builds their alerts a few at a time."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ssm_stream.core import levels, lifecycle, loop, pending, shapes
from ssm_stream.engine.alerts import Alert, AlertBuilder, CapturedState, ReportedEvent, TargetAndPrediction
from ssm_stream.engine.entity_store import EntityStore
from ssm_stream.engine.event_capture import EventCapture

BATCH = 16
"""Reported events whose alerts are built at once, while the processor's caches hold what that needs."""


class Location(NamedTuple):
    """Where the state of a reported event's entity lies: its row, its pool's row, and the pool's source."""

    row: int
    pool: int
    source: int


class WorkingMemory(Protocol):
    """What the kernel writes apart from the state."""

    @property
    def scratch(self) -> shapes.Scratch:
        """Of one event."""

    @property
    def report(self) -> loop.Reported:
        """Of an event that changed an episode."""


class ReportCollector:
    """Builds the alerts of one target.

    store: whose arrays the kernel has just written; memory: where it writes what is no state, None: the store's own
    """

    def __init__(self, store: EntityStore, builder: AlertBuilder, memory: WorkingMemory | None = None) -> None:
        self._store, self.builder = store, builder
        self._memory = store if memory is None else memory
        self._capture: EventCapture | None = None
        self._events: list[ReportedEvent] = []
        self._alerts: list[Alert] = []

    def add(self, index: int, entity: str, ts: int, values: TargetAndPrediction, at: Location) -> None:
        """Add the event of the kernel's last report, as `read` does."""
        self.keep(self.read(index, entity, ts, values, at))

    def keep(self, event: ReportedEvent) -> None:
        """Add an event that has been read."""
        self._events.append(event)
        if len(self._events) == BATCH:
            self._build()

    def read(self, index: int, entity: str, ts: int, values: TargetAndPrediction, at: Location) -> ReportedEvent:
        """Return the event of the kernel's last report, with the state as it is. index: in the batch; ts: ms"""
        store = self._store
        phase, shifts = self._memory.report.phase, None
        if phase[0] != lifecycle.UNCHANGED and phase[loop.CHANNEL] == loop.LEVELS_CHANNEL:
            shifts = np.empty(2 * (store.params.features + 1))
            levels.causes(store.state.levels, at.row, shifts)
        for kind in np.flatnonzero(phase[: len(lifecycle.KINDS)] == lifecycle.RECOVERED).tolist():
            store.tally.end(store.state, at.row, entity, kind)
        pool = int(store.shards[at.row]), at.source
        state = self.capture(at.row, at.pool, index)
        return ReportedEvent(index, entity, ts, values, pool, state, shifts)

    def finish(self) -> list[Alert]:
        """Return the alerts of the events added since the last call, without their details."""
        self._build()
        alerts, self._alerts = self._alerts, []
        return alerts

    def _build(self) -> None:
        for event in self._events:
            self._alerts += self.builder.build(event)
        self._events.clear()

    def capture(self, row: int, pool: int | None, index: int | None = None) -> CapturedState:
        """Return the present state of an entity and its pool.

        Args:
            pool: None if its shard has no events of the source
            index: of the event in the batch, after which the state is that of derived inputs, too
        """
        store, report, scratch = self._store, self._memory.report, self._memory.scratch
        if self._capture is None or not self._capture.matches(store.state, store.shared, scratch):
            self._capture = EventCapture(
                store.params, report, scratch, store.state, store.shared,
                (store.entity_block, store.pool_block),
            )  # fmt: skip
        waiting = b""
        if store.delayed is not None:
            _, turn, place = pending.waiting(store.pending, np.array([row]))
            q, records = store.pending, store.pending[pending.BY_ENTITY : pending.OF_CHALLENGER]
            parts = [turn, *(array[row] for array in q[: pending.BY_ENTITY]), *(array[row, place] for array in records)]
            if store.challenger is not None:
                both = place[q.predicted[row, place, 0] == 1.0]
                parts += [array[row, both] for array in q[pending.OF_CHALLENGER :]]
            parts[1 + store.pending._fields.index("pool")] = self._sources(store.pending.pool[row, place])
            waiting = b"".join(part.tobytes() for part in parts)
        if store.own is not None:
            waiting += store.own.dump_one(store.names[row])
        if store.windows is not None:
            waiting += store.windows.hashed(store.names[row], index)
        return CapturedState(self._capture.layout, self._capture.capture(row, pool), waiting)

    def _sources(self, pools: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the source of each pool row: which row it is depends on what else the process reads."""
        found = {row: source for (_, source), row in self._store.pools.items()}
        return np.array([found.get(row, 0) for row in pools.tolist()], np.int64)
