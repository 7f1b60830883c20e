"""Which rows of a run only teach, and which are judged."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ssm_stream.evaluate.engine_run import EngineRun, Flags, Ints


@dataclass
class Split:
    """The judged part of a run of E entities and n rows."""

    first: Ints
    """(E,) row from which an entity is judged; the length of the run if it never is."""
    judged: Flags
    """(n,) whether the row is judged: it has a target and a prediction."""
    rows: list[Ints]
    """Of each entity, its rows with a target, in order."""

    def beginning(self, run: EngineRun, first: Ints) -> Split:
        """Return the split with entities judged from later rows on. first: (E,) of an entity that is never, any"""
        first = np.where(self.first < len(run), np.maximum(self.first, first), self.first)
        judged = self.judged & (np.arange(len(run)) >= first[run.entity])
        return Split(first, judged, self.rows)


def split_run(run: EngineRun, share: float, warmup: int) -> Split:
    """Return the split: each entity's first `share` of rows, and at least its warm-up, only teaches."""
    E, n = len(run.names), len(run)
    order = np.argsort(run.entity, kind="stable")
    edges = np.searchsorted(run.entity[order], np.arange(E + 1))
    first, rows = np.full(E, n), []
    judged = np.zeros(n, np.bool_)
    for e in range(E):
        mine = order[edges[e] : edges[e + 1]]
        labelled = mine[np.isfinite(run.y[mine])]
        rows.append(labelled)
        need = max(math.ceil(share * len(mine)), 1)
        at = int(mine[need]) if need < len(mine) else n
        if len(labelled) > warmup:
            at = max(at, int(labelled[warmup]))
            # A horizon's first predictions come later than its first targets.
            young = labelled[run.warmup[labelled] | ~np.isfinite(run.yhat[labelled])]
            if (young < at).any():
                at = max(at, int(young[young < at][-1]) + 1)
        else:
            at = n
        first[e] = at
        judged[labelled[labelled >= at]] = True
    judged &= np.isfinite(run.yhat)
    return Split(first, judged, rows)


def split_targets(runs: list[EngineRun], share: float, warmup: int) -> tuple[Split, list[Split]]:
    """Return the split of the whole, and that of each target.

    An entity is judged from where all of its targets can be. Of the whole, its rows are those with any target.

    Args:
        runs: of each target
        share, warmup: as of `split_run`
    """
    parts, n = [split_run(run, share, warmup) for run in runs], len(runs[0])
    if len(parts) == 1:
        return parts[0], parts
    all_first = np.array([part.first for part in parts]).reshape(len(parts), -1)
    latest = np.where(all_first < n, all_first, -1).max(axis=0)
    first = np.where(latest < 0, n, latest)
    parts = [part.beginning(run, first) for part, run in zip(parts, runs, strict=True)]
    judged = np.logical_or.reduce([part.judged for part in parts])
    rows = [np.unique(np.concatenate(of_entity)) for of_entity in zip(*(part.rows for part in parts), strict=True)]
    return Split(first, judged, rows), parts


def known_targets(run: EngineRun, rows: Ints) -> Ints:
    """Return how many targets were known when each row was predicted, −1 if it was not.

    Args:
        rows: of one entity, those with a target
    """
    if not run.ahead:
        return np.arange(len(rows))
    origin = run.origin[rows]
    return np.where(origin >= 0, np.searchsorted(rows, origin, side="right"), -1)
