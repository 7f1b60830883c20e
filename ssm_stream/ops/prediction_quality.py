"""How good the predictions of a target have been of late, over all entities: for a chart, not for a decision."""

from __future__ import annotations

import math
import threading
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.kernels.scores import judge

HALF_LIFE = 10_000
"""Labelled events after which an error counts half."""
COMPARED = 256
"""Errors of repeating the last value that are taken in one go; then nothing is remembered for a while."""
MET = 4096
"""Last values that are met again in one go at most: a fleet in its warm-up has no errors to be compared."""
PAUSE = 7
"""Times as many events as that has taken."""


class Told(NamedTuple):
    """Mean absolute errors, in the target's unit, and the share of targets inside their interval; NaN: not known."""

    mae: float
    persistence: float
    coverage: float


class _Follow:
    """The last values of a source's entities, for as long as it takes to compare some with the next ones.

    last: by entity; seen: events; until: so many events nothing is remembered; began: at which that was begun
    compared: errors since then; met: last values that were there
    """

    def __init__(self) -> None:
        self.last: dict[str, float] = {}
        self.seen = self.until = self.began = self.compared = self.met = 0

    def add(self, entity: list[str], y: NDArray[np.float64], warmup: NDArray[np.bool_]) -> tuple[float, int]:
        """Sum and number of errors of repeating the last value, at each entity's first event of the batch."""
        self.seen += len(entity)
        if self.seen <= self.until:
            return 0.0, 0
        if not self.last:
            self.began, self.compared, self.met = self.seen - len(entity), 0, 0
        values, total, count = y.tolist(), 0.0, 0
        if self.last:
            before = self.last
            first = dict(zip(reversed(entity), range(len(entity) - 1, -1, -1), strict=True))
            again = first.keys() & before.keys()
            young = warmup.tolist()
            for name in again:
                i = first[name]
                if not young[i] and not math.isnan(values[i]):
                    total, count = total + abs(values[i] - before[name]), count + 1
            self.compared += count
            self.met += len(again)
        if self.compared >= COMPARED or self.met >= MET:
            self.until = self.seen + PAUSE * (self.seen - self.began)
            self.last = {}
        else:
            now = dict(zip(entity, values, strict=True))
            self.last |= {name: value for name, value in now.items() if not math.isnan(value)}
        return total, count


class PredictionQuality:
    """Decayed means over the events past their warm-up.

    >>> quality = PredictionQuality()
    >>> ones = np.ones(2)
    >>> quality.add(["a", "a"], ones, 0.5 * ones, 0 * ones, 2 * ones, np.zeros(2, bool))
    >>> quality.add(["a"], 3 * ones[:1], ones[:1], 0 * ones[:1], 2 * ones[:1], np.zeros(1, bool))
    >>> tuple(round(value, 3) for value in quality.read())
    (1.0, 2.0, 0.667)
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._errors = self._count = self._inside = 0.0
        self._naive = self._naive_count = 0.0
        self._follow: dict[int, _Follow] = {}

    def add(
        self,
        entity: list[str],
        y: NDArray[np.float64],
        yhat: NDArray[np.float64],
        lower: NDArray[np.float64],
        upper: NDArray[np.float64],
        warmup: NDArray[np.bool_],
        source: int = 0,
    ) -> None:
        """n predictions and their targets, NaN where there was none; in order.

        Args:
            source: the stream that they come from (the Kafka partition)
        """
        naive, compared = self._follow.setdefault(source, _Follow()).add(entity, y, warmup)
        n, errors, inside = judge(*map(np.ascontiguousarray, (y, yhat, lower, upper, warmup)))
        if not n:
            return
        keep = 0.5 ** (n / HALF_LIFE)
        with self._lock:
            self._errors = keep * self._errors + errors
            self._count = keep * self._count + n
            self._inside = keep * self._inside + inside
            self._naive = keep * self._naive + naive
            self._naive_count = keep * self._naive_count + compared

    def read(self) -> Told:
        """As it is now."""
        with self._lock:
            n, m = self._count, self._naive_count
            return Told(
                self._errors / n if n else math.nan, self._naive / m if m else math.nan,
                self._inside / n if n else math.nan,
            )  # fmt: skip
