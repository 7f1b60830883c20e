"""Absolute errors of two models over time, by entity."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Errors(NamedTuple):
    """Mean absolute errors of both models over the same events; NaN without an event."""

    events: int
    ours: float
    other: float


class ErrorComparison:
    """Collects the errors of two models.

    >>> both = ErrorComparison()
    >>> both.add("pump-1", 1000, 0.5, 2.0)
    >>> both.mean({"pump-1"}).other
    2.0
    """

    def __init__(self) -> None:
        self._rows: dict[str, list[tuple[int, float, float]]] = {}

    def add(self, entity: str, ts: int, ours: float, other: float) -> None:
        """Add the errors at an event; `ts` in ms."""
        self._rows.setdefault(entity, []).append((ts, abs(ours), abs(other)))

    @property
    def first(self) -> dict[str, int]:
        """The time of each entity's first event, ms."""
        return {name: rows[0][0] for name, rows in self._rows.items()}

    def mean(self, entities: set[str] | None = None, start: float = -np.inf, end: float = np.inf) -> Errors:
        """Return the errors of some entities (None: of all) from `start` to `end`, ms, without `end`."""
        table = self._table(entities)
        table = table[(table[:, 0] >= start) & (table[:, 0] < end)]
        if not len(table):
            return Errors(0, float("nan"), float("nan"))
        return Errors(len(table), float(table[:, 1].mean()), float(table[:, 2].mean()))

    def series(self, entities: set[str] | None, edges: Floats) -> tuple[list[float], list[float]]:
        """Return the errors of both in each span of time between two edges, NaN for one without events."""
        table = self._table(entities)
        at = np.searchsorted(edges, table[:, 0], side="right") - 1
        inside = (at >= 0) & (at < len(edges) - 1)
        count = np.bincount(at[inside], minlength=len(edges) - 1).astype(float)
        count[count == 0] = np.nan
        sums = [np.bincount(at[inside], table[inside, i], minlength=len(edges) - 1) for i in (1, 2)]
        return (sums[0] / count).tolist(), (sums[1] / count).tolist()

    def _table(self, entities: set[str] | None) -> Floats:
        """Return (n, 3) times and errors."""
        names = self._rows if entities is None else entities & self._rows.keys()
        return np.array([row for name in names for row in self._rows[name]], np.float64).reshape(-1, 3)
