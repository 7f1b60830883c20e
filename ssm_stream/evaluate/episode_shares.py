"""How much of a recording lies inside episodes, which the number of those that start does not show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssm_stream.core.lifecycle import KINDS
from ssm_stream.engine.counts.episode_tally import open_episodes
from ssm_stream.engine.engine import Engine
from ssm_stream.ingest.factorize import factorize


class EpisodeShares:
    """The labelled events inside the episodes of an engine's entities, by target, entity and kind.

    An episode lasts from its first event to that which ends it. Those of entities count, whether a fleet alert
    replaced theirs or not.

    engine: that has processed nothing yet; None: there are no alerts
    """

    def __init__(self, engine: Engine | None, targets: int = 1) -> None:
        self._stores = [] if engine is None else [each.store for each in engine.target_engines]
        self._codes: dict[str, int] = {}
        self._labelled = [np.zeros(0, np.int64) for _ in range(targets)]  # by code
        self._inside = [Counter[tuple[str, str]]() for _ in range(targets)]
        self._longest: list[dict[tuple[str, str], int]] = [{} for _ in range(targets)]
        for store, inside, longest in zip(self._stores, self._inside, self._longest, strict=False):
            store.tally.on_end = lambda *episode, inside=inside, longest=longest: _add(inside, longest, *episode)

    def add(self, names: list[str], y: NDArray[np.float64], target: int = 0) -> None:
        """Count events. y: their targets, NaN for none; target: number of the target"""
        codes = factorize(names, self._codes)[~np.isnan(y)]
        counts = np.bincount(codes, minlength=len(self._codes))
        counts[: len(self._labelled[target])] += self._labelled[target]
        self._labelled[target] = counts

    def finish(self) -> None:
        """Count the episodes that are still open."""
        for store, inside, longest in zip(self._stores, self._inside, self._longest, strict=False):
            for episode in open_episodes(store.state, store.names):
                _add(inside, longest, *episode)

    def figures(self, entity: str | None = None, targets: Iterable[int] | None = None) -> dict[str, Any]:
        """Return of each kind KIND_share, the share of the labelled events inside episodes (None without events), and
        KIND_longest, the events of the longest one.

        Args:
            entity: None: of all
            targets: numbers of the targets; None: all
        """
        chosen = list(range(len(self._labelled)) if targets is None else targets)
        labelled, out = sum(self._count(self._labelled[j], entity) for j in chosen), dict[str, Any]()
        for kind in KINDS:
            keys = [
                (j, key)
                for j in chosen
                for key in (self._inside[j] if entity is None else [(entity, kind)])
                if key[1] == kind
            ]
            inside = sum(self._inside[j][key] for j, key in keys)
            out[f"{kind}_share"] = inside / labelled if labelled else None
            out[f"{kind}_longest"] = max((self._longest[j].get(key, 0) for j, key in keys), default=0)
        return out

    def _count(self, labelled: NDArray[np.int64], entity: str | None) -> int:
        if entity is None:
            return int(labelled.sum())
        at = self._codes.get(entity, len(labelled))
        return int(labelled[at]) if at < len(labelled) else 0

    def longest_entity(self, kind: str) -> str | None:
        """Return the entity with the longest episode of a kind; None without episodes."""
        found = [(events, name) for each in self._longest for (name, of), events in each.items() if of == kind]
        return max(found, key=lambda item: item[0])[1] if found else None


def _add(
    inside: Counter[tuple[str, str]], longest: dict[tuple[str, str], int], entity: str, kind: str, events: int
) -> None:
    inside[entity, kind] += events
    longest[entity, kind] = max(longest.get((entity, kind), 0), events)
