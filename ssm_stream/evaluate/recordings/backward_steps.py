"""Events that are earlier than the one before them of their entity, as in a file that is not sorted by time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ssm_stream.ingest.factorize import factorize

MAX_SHARE, MAX_EACH = 0.02, 2
"""Share of the events, and number for an entity, that a sorted file may have: rows come late, clocks go back."""


class BackwardSteps:
    """Counts events whose entity's event before is later; of one time they are in order."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}
        self._last = np.empty(0, np.int64)
        self._events, self._count = 0, 0

    def add(self, names: list[str], ts: NDArray[np.int64]) -> None:
        """Count the next events. names: of the entities; ts: (n,) ms"""
        if not names:
            return
        codes = factorize(names, self._codes)
        new = len(self._codes) - len(self._last)
        self._last = np.concatenate([self._last, np.full(new, np.iinfo(np.int64).min)])
        order = np.argsort(codes, kind="stable")
        codes, ts = codes[order], ts[order]
        first = np.flatnonzero(np.diff(codes, prepend=-1))
        before = np.concatenate([ts[:1], ts[:-1]])
        before[first] = self._last[codes[first]]
        self._last[codes[first]] = ts[np.append(first[1:], len(ts)) - 1]
        self._events += len(ts)
        self._count += int(np.count_nonzero(ts < before))

    @property
    def found(self) -> int:
        """Their number, or 0 if a sorted file may have as many."""
        return self._count if self._count > max(MAX_SHARE * self._events, MAX_EACH * len(self._codes)) else 0
