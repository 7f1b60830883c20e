"""Rows of a counter that come after later ones, though no column has the time of which they are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MAX_LATE = 0.03
"""Share of the rows that may be of before the one that they follow, as messages that were delayed are."""
LATE_BY = 20
"""Values by which such a row may be late."""


def without_late(rows: Sequence[NDArray[np.int64]], runs: Sequence[NDArray[np.float64]]) -> list[NDArray[np.int64]]:
    """Return the rows without those that came late, if these are few: they fall, and the next go on as before.

    What began anew stays below for longer. Most have a value that no row just before had: what is measured falls back
    to one, by a step of its resolution.

    Args:
        rows: of each entity
        runs: their numbers
    """
    kept, late, falls, new = list[NDArray[np.int64]](), 0, 0, 0
    for at, run in zip(rows, runs, strict=True):
        starts = np.flatnonzero(np.diff(run, prepend=np.nan) != 0)  # a message may be there twice
        found = _late_values(run[starts])
        is_late = np.repeat(np.isin(np.arange(len(starts)), found), np.diff(starts, append=len(run)))
        kept.append(at[~is_late])
        values = run[starts].tolist()
        late += int(np.count_nonzero(is_late))
        falls += len(found)
        new += sum(values[i] not in values[max(i - LATE_BY, 0) : i] for i in found.tolist())
    return kept if late <= MAX_LATE * sum(map(len, rows)) and falls <= 2 * new else list(rows)


def _late_values(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the places of values (n,) below one before them, where they soon go on from it: what began anew does not,
    and falls further than to those shortly before."""
    is_below = values < np.maximum.accumulate(values)
    edges = np.flatnonzero(np.diff(is_below, prepend=False, append=False))
    late = [
        np.arange(start, stop)
        for start, stop in edges.reshape(-1, 2).tolist()
        if stop - start < LATE_BY and (start < LATE_BY or values[start:stop].min() >= values[start - LATE_BY])
    ]
    return np.concatenate(late) if late else np.empty(0, np.int64)
