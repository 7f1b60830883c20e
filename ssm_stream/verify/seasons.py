"""What a target was at this time in 64-bit floats, from the events themselves.

The kernel keeps rings of places; here every quarter of an hour has an entry of its own, by its number since 1970 or by
its place in the week.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ssm_stream.core.constants import HALF_SECOND, QUARTER, SEASON_REACH, USUAL_RATE
from ssm_stream.core.implicit import seasonal_names
from ssm_stream.core.shapes import DAY_BINS, HOURS, WEEK_BINS, LearnerParams, corrected_heads
from ssm_stream.verify.reference import Array


class Seasons:
    """Of an entity.

    over: mean target of the last day's quarters that are over, by place in the day; usual: usual one by place in the
    week; now: targets of the one that is not over, at its (number, place); first: place of the first answer
    """

    def __init__(self, p: LearnerParams) -> None:
        self.p = p
        self.first = p.bases - len(corrected_heads(p)) - len(seasonal_names(p))
        self.over: dict[int, float] = {}
        self.usual: dict[int, float] = {}
        self.at, self.now = (0, 0), list[float]()

    def learn(self, steps: NDArray[np.int64], ts: float, y: float) -> None:
        """Target y of an event at ts ms."""
        at = self._quarter(steps, ts)
        if self.now and at[0] < self.at[0]:
            self._close(at, y)
            return
        if at[0] > self.at[0] and self.now:
            self._close(self.at, sum(self.now) / len(self.now))
            self.now = []
            for i in range(1, min(at[0] - self.at[0] - 1, DAY_BINS) + 1):  # of those in between nothing is known
                self.over.pop((at[1] - i) % DAY_BINS, None)
        self.at = at
        self.now.append(y)

    def answers(self, steps: NDArray[np.int64], ts: float, gap: float, last: float) -> Array:
        """The seasonal answers, NaN where unknown. gap: usual one between events, s; last: last known target"""
        reach = int(SEASON_REACH * 1000.0 * gap / QUARTER)
        at = self._quarter(steps, ts + self.p.ahead)
        now = self._recalled(at, reach)
        if not (self.p.lags or self.p.known):
            return now
        changed = last + (now - self._recalled(self.at, reach)) if at[0] != self.at[0] else np.full_like(now, np.nan)
        return np.concatenate([now, changed])

    def put(
        self,
        a: Array,
        active: NDArray[np.bool_],
        time: tuple[NDArray[np.int64], float],
        known: tuple[float, float],
        bounds: tuple[float, float],
        far: Array,
    ) -> None:
        """Put those that are active (t,) in a (t,), within `bounds`, and within `far` (t,) of the answer before them.

        time: steps and ts; known: gap and last target
        """
        first = self.first
        places = first + np.flatnonzero(active[first : first + len(seasonal_names(self.p))])
        if len(places):
            last, limits = a[first - 1], far[places]
            a[places] = np.clip(self.answers(*time, *known)[places - first], last - limits, last + limits).clip(*bounds)

    def _quarter(self, steps: NDArray[np.int64], ts: float) -> tuple[int, int]:
        number = math.floor((ts + HALF_SECOND) / QUARTER)
        return number, 4 * (HOURS * int(steps[1]) + int(steps[0])) + (number + self.p.quarters) % 4

    def _close(self, at: tuple[int, int], mean: float) -> None:
        number, place = at
        self.usual[place] = self.usual.get(place, mean) + USUAL_RATE * (mean - self.usual.get(place, mean))
        if number >= self.at[0] - DAY_BINS:
            self.over[place % DAY_BINS] = mean

    def _recalled(self, at: tuple[int, int], reach: int) -> Array:
        number, place = at
        offs = sorted(range(-reach, reach + 1), key=abs)

        def ago() -> float:
            for off in offs:
                mean = self.over.get((place + off) % DAY_BINS, math.nan)
                if not math.isnan(mean) and self.at[0] - DAY_BINS <= number - DAY_BINS + off < self.at[0]:
                    return mean
            return math.nan

        def usual(of: int) -> float:
            found = (self.usual[at] for off in offs if (at := (of + off) % WEEK_BINS) in self.usual)
            return next(found, math.nan)

        days = [usual(place % DAY_BINS + DAY_BINS * day) for day in range(7)]
        known = [value for value in days if not math.isnan(value)]
        return np.array([ago(), usual(place), sum(known) / len(known) if known else math.nan])
