"""What persistence can answer where labels come late: the last one that is there when an event is predicted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ssm_stream.core.loop import Settled
from ssm_stream.ingest.events import Events


class KnownLabels:
    """The last label of each entity, and the one that was known at each event that waits for its own."""

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
