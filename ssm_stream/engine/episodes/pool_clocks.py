"""One clock for each pool, whichever of several targets its entities alarm on.

A target counts its own labelled events, and a pool's by it: where a column is on some machines only, or is seldom
measured, that is another number than another target's. So an alert's `labelled` is counted anew here, over the events
that were labelled for any target, as those that wait are (`waiting`). Only differences matter: a pool is counted while
it has an open episode, and a state has the number of events since, so that it needs no count of all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ssm_stream.engine.alerts import Alert
from ssm_stream.engine.episodes.waiting import Labelled, Pool

CountLabelled = Callable[[Pool], int]
"""Pool → how many of its events in the batch are labelled."""


class PoolClocks:
    """The clocks of all pools, and how many entities each pool has at least."""

    def __init__(self) -> None:
        self._labelled: dict[Pool, int] = {}
        self._entities: dict[Pool, tuple[int, bool]] = {}

    def now(self, pool: Pool) -> int:
        """Return the labelled events of a pool before the batch, while it was counted."""
        return self._labelled.get(pool, 0)

    def entities(self, pool: Pool) -> tuple[int, bool]:
        """Return the labelled entities of a pool, and whether there may be more.

        These are those of the target that has the most of them. There may be more if another target has fewer: then
        some columns are on some machines only, and no target need be on all of them.
        """
        return self._entities.get(pool, (1, False))

    def note(self, alert: Alert) -> None:
        """Note how many entities a target has labelled in the pool. alert: of an event of its own"""
        most, partly = self._entities.get(alert.pool, (0, False))
        self._entities[alert.pool] = (max(most, alert.entities), partly or alert.entities < most)

    def count(self, row: int, pool: Pool, labelled: Labelled) -> int:
        """Return the labelled events of a pool up to a row of the batch, itself included."""
        return self.now(pool) + int(np.searchsorted(labelled(pool).rows, row, side="right"))

    def finish(self, open_pools: Iterable[Pool], count: CountLabelled) -> None:
        """End a batch: count the labelled events of the pools that have an open episode."""
        self._labelled = {pool: self.now(pool) + count(pool) for pool in open_pools}

    def dump(self) -> list[list[Any]]:
        """Return the entities of the pools as JSON has them."""
        return [[*pool, *of] for pool, of in sorted(self._entities.items())]

    def load(self, rows: list[list[Any]]) -> None:
        """Load what `dump` returned; all clocks begin anew."""
        self._labelled = {}
        self._entities = {(shard, source): (most, partly) for shard, source, most, partly in rows}
