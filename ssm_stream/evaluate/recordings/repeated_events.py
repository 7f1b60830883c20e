"""Events that are the one before of their entity again, as where parts of an export overlap."""

from __future__ import annotations

import numpy as np

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
        target = events.target.reshape(len(events), -1)
        rows = np.concatenate([events.ts[:, None].astype(np.float64), events.features, target], axis=1)
        codes = factorize(events.entity, self._codes)
        unknown = np.full((len(self._codes) - len(self._last), rows.shape[1]), np.inf)  # no time
        self._last = np.concatenate([self._last.reshape(-1, rows.shape[1]), unknown])
        order = np.argsort(codes, kind="stable")
        codes, rows = codes[order], rows[order]
        first = np.flatnonzero(np.diff(codes, prepend=-1))
        before = np.concatenate([rows[:1], rows[:-1]])
        before[first] = self._last[codes[first]]
        self._last[codes[first]] = rows[np.append(first[1:], len(rows)) - 1]
        same = np.flatnonzero(rows[:, 0] == before[:, 0])
        rows, before = rows[same], before[same]
        self.count += int(np.count_nonzero(((rows == before) | (np.isnan(rows) & np.isnan(before))).all(axis=1)))
