"""Events that are the one before of their entity again, as where parts of an export overlap."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ssm_stream.ingest.events import Events
from ssm_stream.ingest.factorize import factorize


class RepeatedEvents:
    """Counts events of the time of their entity's event before, and of all its values. count: so many so far"""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}
        self._last = np.empty((0, 0))
        self.count = 0

    def add(self, events: Events) -> None:
        """Count the next events."""
        if not len(events):
            return
        codes = factorize(events.entity, self._codes)
        order = np.argsort(codes, kind="stable")
        codes, ts = codes[order], events.ts[order].astype(np.float64)
        first = np.flatnonzero(np.diff(codes, prepend=-1))
        latest = self._rows(events, order[np.append(first[1:], len(ts)) - 1])
        unknown = np.full((len(self._codes) - len(self._last), latest.shape[1]), np.inf)  # no time
        self._last = np.concatenate([self._last.reshape(-1, latest.shape[1]), unknown])
        before = np.append(ts[:1], ts[:-1])
        before[first] = self._last[codes[first], 0]
        # Rows whole only of those that may be the same: few are of one time.
        same = np.flatnonzero(ts == before)
        begins = np.isin(same, first)
        rows, others = self._rows(events, order[same]), self._rows(events, order[same - 1])
        others[begins] = self._last[codes[same[begins]]]
        self._last[codes[first]] = latest
        self.count += int(np.count_nonzero(((rows == others) | (np.isnan(rows) & np.isnan(others))).all(axis=1)))

    @staticmethod
    def _rows(events: Events, at: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return time and values of some events."""
        return np.column_stack([events.ts[at].astype(np.float64), events.features[at], events.target[at]])
