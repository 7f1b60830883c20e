"""Which events of the last batch were labelled, and in which pools: the clock of alerts that wait."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NONE = np.empty(0, np.int64)


class BatchLabels:
    """The labelled events of a batch of one target. Costs nothing until they are needed."""

    def __init__(self) -> None:
        self._target: NDArray[np.float64] | None = None
        self._one: tuple[float, int] | None = None
        self._rows = self._pools = NONE

    def set_targets(self, target: NDArray[np.float64], pools: NDArray[np.int64]) -> None:
        """Set the targets (n,) of n events, NaN for none, and the row of each event's pool."""
        self._one, self._target, self._pools = None, target, pools

    def set_one(self, target: float, pool: int) -> None:
        """Set the target and the pool of a batch of one event."""
        self._one = target, pool

    def set_rows(self, rows: NDArray[np.int64], pools: NDArray[np.int64]) -> None:
        """Set the rows (m,) at which targets came, and the row of each one's pool."""
        self._one = self._target = None
        self._rows, self._pools = rows, pools

    def rows_of(self, pool: int) -> NDArray[np.int64]:
        """Return the rows at which events of a pool were labelled."""
        if self._one is not None:
            target, mine = self._one
            return np.zeros(1, np.int64) if target == target and mine == pool else NONE
        if self._target is not None:
            return np.flatnonzero((self._pools == pool) & ~np.isnan(self._target))
        rows: NDArray[np.int64] = self._rows[self._pools == pool]
        return rows
