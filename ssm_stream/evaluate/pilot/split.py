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


def known_targets(run: EngineRun, rows: Ints) -> Ints:
    """Return how many targets were known when each row was predicted, −1 if it was not.

    Args:
        rows: of one entity, those with a target
    """
    if not run.ahead:
        return np.arange(len(rows))
    origin = run.origin[rows]
    return np.where(origin >= 0, np.searchsorted(rows, origin, side="right"), -1)
