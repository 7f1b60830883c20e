"""Recent quality of the predictions of a target over all entities: for a chart, not for a decision."""

from __future__ import annotations

import math
import threading
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.core.scores import judge

HALF_LIFE = 10_000
"""Labelled events after which the weight of an error has halved."""
COMPARED = 256
"""Errors of repeating the last value that one sample collects; then nothing is remembered for a while."""
CHUNK = 512
"""Events of a batch that a sample takes at once: of a large one it needs the first only."""
MAX_REPEATS = 4096
"""Last values that one sample compares at most: a fleet in its warm-up has no errors to collect."""
PAUSE = 7
"""Length of the pause after a sample, in lengths of the sample."""


class QualityFigures(NamedTuple):
    """Mean absolute errors, in the target's unit, and the share of targets inside their interval; NaN: unknown."""

    mae: float
    persistence: float
    coverage: float


class _PersistenceSample:
    """Samples the errors of repeating the last value of each entity of a source, with pauses, so that a large fleet is
    not remembered. Each sample stands for all events until the next one: in a backlog, too, where batches are large.

    last: entity → last value, empty in a pause; seen: events so far; until: number of events at which the pause ends
    began: number of events at which the sample began; compared, total: number and sum of its errors
    repeats: events in it of an entity that it has; weight: judged events that it stands for, decayed as of `at`
    """

    def __init__(self) -> None:
        self.last: dict[str, float] = {}
        self.seen = self.until = self.began = self.compared = self.repeats = 0
        self.total = self.weight = self.at = 0.0

    def begins_in(self, n: int) -> bool:
        """Return whether a sample begins within the next n events."""
        return not self.last and self.until < self.seen + n

    def begin(self) -> None:
        """Begin a sample, at the end of the pause."""
        self.began, self.compared, self.repeats = max(self.until, self.seen), 0, 0
        self.total = self.weight = 0.0

    def add(self, entity: list[str], y: NDArray[np.float64], warmup: NDArray[np.bool_]) -> None:
        """Add a batch: without the events in the pause, and those behind the end of the sample."""
        first, last = max(self.until - self.seen, 0), self.last
        for at in range(first, len(entity), CHUNK):
            values, young = y[at : at + CHUNK].tolist(), warmup[at : at + CHUNK].tolist()
            for i, name in enumerate(entity[at : at + CHUNK]):
                value = values[i]
                if name in last:
                    self.repeats += 1
                    if not young[i] and value == value:
                        self.total, self.compared = self.total + abs(value - last[name]), self.compared + 1
                if value == value:
                    last[name] = value
                if self.compared >= COMPARED or self.repeats >= MAX_REPEATS:
                    end = self.seen + at + i + 1
                    self.until, self.last = end + PAUSE * (end - self.began), {}
                    self.seen += len(entity)
                    return
        self.seen += len(entity)

    def count(self, judged: int, now: float) -> None:
        """Add judged events that it stands for. now: number of all of them, these included"""
        self.weight, self.at = self.weight_at(now) + judged, now

    def weight_at(self, now: float) -> float:
        """Return the decayed number of events that it stands for. now: number of all judged events"""
        return self.weight * math.exp2((self.at - now) / HALF_LIFE)

    def mean_at(self, now: float) -> tuple[float, float]:
        """Return the mean error and its weight: in proportion where the sample has few errors yet."""
        if not self.compared:
            return 0.0, 0.0
        return self.total / self.compared, self.weight_at(now) * min(self.compared / COMPARED, 1.0)


class PredictionQuality:
    """Decayed means over the events past their warm-up.

    >>> quality = PredictionQuality()
    >>> ones = np.ones(2)
    >>> quality.add(["a", "a"], ones, 0.5 * ones, 0 * ones, 2 * ones, np.zeros(2, bool))
    >>> quality.add(["a"], 3 * ones[:1], ones[:1], 0 * ones[:1], 2 * ones[:1], np.zeros(1, bool))
    >>> tuple(round(value, 3) for value in quality.read())
    (1.0, 1.0, 0.667)
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._errors = self._count = self._inside = 0.0
        self._judged = self._naive = self._naive_weight = 0.0
        self._samples: dict[int, _PersistenceSample] = {}

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
        """Add n predictions, in order, and their targets, NaN for none.

        Args:
            source: the Kafka partition that they come from
        """
        n, errors, inside = judge(
            np.ascontiguousarray(y), np.ascontiguousarray(yhat), np.ascontiguousarray(lower),
            np.ascontiguousarray(upper), np.ascontiguousarray(warmup),
        )  # fmt: skip
        keep = 0.5 ** (n / HALF_LIFE)
        with self._lock:
            sample = self._samples.setdefault(source, _PersistenceSample())
            if sample.begins_in(len(entity)):
                mean, weight = sample.mean_at(self._judged)
                self._naive, self._naive_weight = self._naive + mean * weight, self._naive_weight + weight
                sample.begin()
            sample.add(entity, y, warmup)
            self._judged += n
            sample.count(n, self._judged)
            self._errors = keep * self._errors + errors
            self._count = keep * self._count + n
            self._inside = keep * self._inside + inside
            self._naive, self._naive_weight = keep * self._naive, keep * self._naive_weight

    def read(self) -> QualityFigures:
        """Return the present figures: all are of the same events, with the same weights."""
        with self._lock:
            n, naive, m = self._count, self._naive, self._naive_weight
            for sample in self._samples.values():
                mean, weight = sample.mean_at(self._judged)
                naive, m = naive + mean * weight, m + weight
            return QualityFigures(
                self._errors / n if n else math.nan, naive / m if m else math.nan,
                self._inside / n if n else math.nan,
            )  # fmt: skip
