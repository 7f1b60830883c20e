"""Which events of the last batch were labelled, and in which pools: the clock of alerts that wait."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class LabelledEvents(NamedTuple):
    """Labelled events of a pool in a batch, in their order. rows, ts (m,): of the batch, and their times, ms"""

    rows: NDArray[np.int64]
    ts: NDArray[np.int64]


NONE = LabelledEvents(np.empty(0, np.int64), np.empty(0, np.int64))


class BatchLabels:
    """The labelled events of a batch of one target. Costs nothing until they are needed."""

    def __init__(self) -> None:
        self._target: NDArray[np.float64] | None = None
        self._one: tuple[float, int, int] | None = None
        self._events, self._pools = NONE, NONE.rows
        self._places: NDArray[np.intp] | None = None

    def set_targets(self, target: NDArray[np.float64], ts: NDArray[np.int64], pools: NDArray[np.int64]) -> None:
        """Set the targets (n,) of n events, NaN for none, their times, ms, and the row of each event's pool."""
        self._one, self._target, self._pools, self._places = None, target, pools, None
        self._events = LabelledEvents(NONE.rows, ts)

    def set_one(self, target: float, ts: int, pool: int) -> None:
        """Set the target, the time and the pool of a batch of one event."""
        self._one, self._places = (target, ts, pool), None

    def set_rows(self, events: LabelledEvents, pools: NDArray[np.int64]) -> None:
        """Set the rows at which targets came, with the times of what they are for, and the row of each one's pool."""
        self._one = self._target = self._places = None
        self._events, self._pools = events, pools

    def place(self, rows: NDArray[np.intp]) -> None:
        """Set the rows in the whole batch of the events that were given; the others are idle."""
        self._places = rows

    def of_pool(self, pool: int) -> LabelledEvents:
        """Return the labelled events of a pool."""
        found = self._of_pool(pool)
        return found if self._places is None else LabelledEvents(self._places[found.rows], found.ts)

    def count_one(self, pool: int) -> int | None:
        """Return the number of labelled events of a pool in a batch of one event; None of another batch."""
        if self._one is None:
            return None
        target, _, mine = self._one
        return int(target == target and mine == pool)

    def _of_pool(self, pool: int) -> LabelledEvents:
        if self._one is not None:
            target, ts, mine = self._one
            known = target == target and mine == pool
            return LabelledEvents(np.zeros(1, np.int64), np.array([ts], np.int64)) if known else NONE
        if self._target is not None:
            rows = np.flatnonzero((self._pools == pool) & ~np.isnan(self._target))
            return LabelledEvents(rows, self._events.ts[rows])
        mine_ = self._pools == pool
        return LabelledEvents(self._events.rows[mine_], self._events.ts[mine_])


def merge(parts: Sequence[LabelledEvents]) -> LabelledEvents:
    """Return the events of several targets, each once."""
    rows, first = np.unique(np.concatenate([part.rows for part in parts]), return_index=True)
    return LabelledEvents(rows, np.concatenate([part.ts for part in parts])[first])
