"""Events that are earlier than others before them of their entity, as in a file that is not sorted by time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ssm_stream.ingest.factorize import factorize
from ssm_stream.ingest.local_times import zone_by_steps

MAX_SHARE, MAX_EACH = 0.02, 2
"""Share of the events, and number for an entity, that a sorted file may have: rows come late, clocks go back."""
MAX_KEPT = 10_000
"""Late events whose times are kept, to see whether clocks went back then."""


class BackwardSteps:
    """Counts events whose entity's event before is later; of one time they are in order.

    Attributes:
        late: events that came after any later one of their entity: all those of a gateway that was offline for an hour,
            of which the first alone is a step back
        late_by: by how much they did at most, ms
    """

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}
        self._last = np.empty(0, np.int64)
        self._latest = np.empty(0, np.int64)
        self._begin, self._number = np.empty(0, np.int64), np.empty(0, np.int64)
        self._events, self._count = 0, 0
        self.late, self.late_by = 0, 0
        self._steps_back = list[tuple[int, int]]()

    def add(self, names: list[str], ts: NDArray[np.int64]) -> None:
        """Count the next events. names: of the entities; ts: (n,) ms"""
        if not names:
            return
        codes = factorize(names, self._codes)
        new = len(self._codes) - len(self._last)
        unknown = np.full(new, np.iinfo(np.int64).min)
        self._last, self._latest = (np.concatenate([known, unknown]) for known in (self._last, self._latest))
        self._begin = np.append(self._begin, np.full(new, np.iinfo(np.int64).max))
        np.minimum.at(self._begin, codes, ts)
        self._number = np.append(self._number, np.zeros(new, np.int64)) + np.bincount(codes, minlength=len(self._last))
        order = np.argsort(codes, kind="stable")
        codes, ts = codes[order], ts[order]
        first = np.flatnonzero(np.diff(codes, prepend=-1))
        before = np.concatenate([ts[:1], ts[:-1]])
        before[first] = self._last[codes[first]]
        self._last[codes[first]] = ts[np.append(first[1:], len(ts)) - 1]
        self._events += len(ts)
        self._count += int(np.count_nonzero(ts < before))
        if np.any(ts < np.maximum(before, self._latest[codes])):
            self._add_late(codes, ts)
        np.maximum.at(self._latest, codes, ts)

    def _add_late(self, codes: NDArray[np.int64], ts: NDArray[np.int64]) -> None:
        """Count the late events. codes: (n,) of their entities, ascending; ts: (n,) ms"""
        seen = np.unique(codes)
        owners = np.concatenate([seen, codes])
        order = np.argsort(owners, kind="stable")  # of each entity the latest one so far, then its events
        times, ranks = np.unique(np.concatenate([self._latest[seen], ts]), return_inverse=True)
        # Ranks of a later entity are above all of an earlier one, so that one maximum runs over all.
        places = np.searchsorted(seen, owners)[order] * len(times) + ranks[order]
        highest = np.maximum.accumulate(places)
        late = places < highest
        latest, own = times[highest[late] % len(times)], times[places[late] % len(times)]
        by = latest - own
        room = MAX_KEPT - len(self._steps_back)
        self._steps_back += zip(latest[:room].tolist(), own[:room].tolist(), strict=True)
        self.late += len(by)
        self.late_by = max(self.late_by, int(by.max(initial=0)))

    @property
    def usual_step(self) -> float:
        """The median over the entities of the mean time between two events, s; 0 if none has two."""
        several = self._number > 1
        lasts = (self._latest - self._begin)[several] / 1000.0
        return float(np.median(lasts / (self._number[several] - 1))) if several.any() else 0.0

    @property
    def clocks_back(self) -> tuple[str | None, int]:
        """A zone whose clocks went back where late events came, if times were read as UTC, and how many of the events
        that are kept did; None if none."""
        return zone_by_steps(self._steps_back)

    @property
    def found(self) -> int:
        """Their number, or 0 if a sorted file may have as many."""
        return self._count if self._count > max(MAX_SHARE * self._events, MAX_EACH * len(self._codes)) else 0
