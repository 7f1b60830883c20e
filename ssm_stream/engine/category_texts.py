"""Keeps the text of category values that the state holds as codes, so that alerts show `product=B` and not a number.

A code is a hash of the text (`ingest.events.text_code`), so one table serves all pools of a store. It holds the texts
of the values that pools have learned (at most 32 a category and pool) and of those of events that wait for their
labels. No prediction depends on it, and no state hash covers it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ssm_stream.engine.entity_store import EntityStore
from ssm_stream.ingest.events import Events

WatchedPools = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Rows of pools, and how many values they had before a batch."""
MIN_PRUNED = 1_000
"""Texts up to which the table is not pruned."""


class CategoryTexts:
    """Adds the texts of a batch to `EntityStore.category_texts` and removes those that are no longer in use."""

    def __init__(self, store: EntityStore) -> None:
        self._store = store
        self._batch: Mapping[float, str] = {}
        self._new: list[float] = []
        self._prune_above = MIN_PRUNED

    def get(self, code: float) -> str | None:
        """Return the text of a code; None if it is a number, or its text has been lost."""
        text = self._store.category_texts.get(code)
        return self._batch.get(code) if text is None else text

    def begin(self, events: Events) -> None:
        """Start a batch."""
        self._batch = events.category_texts or {}
        known = self._store.category_texts
        self._new = [code for code in self._batch if code not in known]

    def begin_known(self, texts: Mapping[float, str] | None) -> None:
        """Start a batch of events whose texts the store has already."""
        self._batch, self._new = texts or {}, []

    def watch(self, pools: NDArray[np.int64]) -> WatchedPools | None:
        """Return how many values these pools have, before the batch is learned; None if all its texts are known."""
        if not self._new:
            return None
        rows = np.unique(pools)
        return rows, self._store.shared.pool.seen[rows]

    def keep_learned(self, watched: WatchedPools | None) -> None:
        """Keep the texts of values that the watched pools have learned since. watched: of the batch that has begun"""
        if watched is None or not self._new:
            return
        pool, (rows, counts) = self._store.shared.pool, watched
        if not self._store.reset_entities:  # else a pool may have started afresh and have as many values as before
            rows = rows[(pool.seen[rows] != counts).any(axis=1)]
        if len(rows):
            learned = np.array(self._new)
            self._add(learned[np.isin(learned, _learned(self._store, rows))].tolist())

    def keep_all(self, events: Events) -> None:
        """Keep the texts of all events of the batch: they wait for their labels."""
        if self._new:
            codes = np.unique(events.features[:, len(self._store.plan.features) :])
            self._add(sorted(set(codes.tolist()).intersection(self._new)))

    def _add(self, codes: list[float]) -> None:
        if len(self._store.category_texts) + len(codes) > self._prune_above:
            prune(self._store)
            self._prune_above = max(2 * (len(self._store.category_texts) + len(codes)), MIN_PRUNED)
        self._store.category_texts |= {code: self._batch[code] for code in codes}


def _learned(store: EntityStore, pools: slice | NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the codes that these pools have learned: of the categories, which stand after the features."""
    p = store.params
    codes: NDArray[np.float64] = store.shared.pool.value[pools, p.features : p.features + p.categories]
    return codes


def prune(store: EntityStore) -> None:
    """Remove the texts of codes that neither a pool nor a waiting event holds."""
    if not store.category_texts:
        return
    used = len(store.pools) if store.config.model.fleet else len(store.names)
    codes = set(np.unique(_learned(store, slice(used))).tolist())
    if store.delayed is not None:
        codes |= set(np.unique(store.pending.named[store.pending.open > 0]).tolist())
    store.category_texts = {code: text for code, text in store.category_texts.items() if code in codes}
