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
    not remembered.

    last: entity → last value; seen: events so far; until: number of events at which the pause ends
    began: number of events at which the sample began; compared: its errors; repeats: entities seen again in it
    """

    def __init__(self) -> None:
        self.last: dict[str, float] = {}
        self.seen = self.until = self.began = self.compared = self.repeats = 0

    def add(self, entity: list[str], y: NDArray[np.float64], warmup: NDArray[np.bool_]) -> tuple[float, int]:
        """Add a batch; returns sum and number of errors of repeating the last value, at each entity's first event."""
        self.seen += len(entity)
        if self.seen <= self.until:
            return 0.0, 0
        if not self.last:
            self.began, self.compared, self.repeats = self.seen - len(entity), 0, 0
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
            self.repeats += len(again)
        if self.compared >= COMPARED or self.repeats >= MAX_REPEATS:
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
        naive, compared = self._samples.setdefault(source, _PersistenceSample()).add(entity, y, warmup)
        n, errors, inside = judge(
            np.ascontiguousarray(y), np.ascontiguousarray(yhat), np.ascontiguousarray(lower),
            np.ascontiguousarray(upper), np.ascontiguousarray(warmup),
        )  # fmt: skip
        if not n:
            return
        keep = 0.5 ** (n / HALF_LIFE)
        with self._lock:
            self._errors = keep * self._errors + errors
            self._count = keep * self._count + n
            self._inside = keep * self._inside + inside
            self._naive = keep * self._naive + naive
            self._naive_count = keep * self._naive_count + compared

    def read(self) -> QualityFigures:
        """Return the present figures."""
        with self._lock:
            n, m = self._count, self._naive_count
            return QualityFigures(
                self._errors / n if n else math.nan, self._naive / m if m else math.nan,
                self._inside / n if n else math.nan,
            )  # fmt: skip
