"""Recent quality of the predictions of a target over all entities: for a chart, not for a decision."""

from __future__ import annotations

import math
import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.core.loop import LAST, Settled
from ssm_stream.core.scores import judge

if TYPE_CHECKING:
    from ssm_stream.engine.engine import Engine

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

LATE_ENTITIES = 1000
"""Entities with late targets of which the last known ones are remembered: those that came first."""
LATE_STEPS = 256
"""Late targets of an entity that are remembered: as many as events may wait by default (`labels.pending`)."""
LATE_IDLE = 100_000
"""Late targets of others after which an entity without one makes room."""


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


class _KnownTargets:
    """The last target of an entity that was known when an event was predicted, where targets come late.

    An entity has the times (ms) of its latest events at which targets came, ascending, and the last target of each.
    """

    def __init__(self) -> None:
        self._of: dict[tuple[int, str], tuple[deque[float], deque[float], list[int]]] = {}  # with when it came last
        self._came = 0

    def add(self, entity: list[str], s: Settled, since: NDArray[np.float64], source: int) -> NDArray[np.float64]:
        """Add m targets, in order, and return (m,) what was known before them: at the predictions that they met.

        Args:
            entity: m names
            s: the predictions
            since: (m,) time of the latest event of the entity that was predicted without this target, ms
            source: the Kafka partition that they come from
        """
        out = np.full(len(entity), np.nan)
        for row, (name, ts, y, at) in enumerate(zip(entity, s.ts.tolist(), s.y.tolist(), since.tolist(), strict=True)):
            self._came += 1
            place = (source, name)
            own = self._of.pop(place, None) or self._new()
            if own is None:
                continue
            self._of[place] = own
            times, values, last = own
            last[0] = self._came
            i = bisect_left(times, ts)
            if i:
                out[row] = values[i - 1]
            if times and at <= times[-1]:
                values[-1] = y
            elif at == at:
                times.append(at)
                values.append(y)
        return out

    def _new(self) -> tuple[deque[float], deque[float], list[int]] | None:
        """Return room for one entity more; None if there is none."""
        if len(self._of) >= LATE_ENTITIES:
            oldest = next(iter(self._of))
            if self._of[oldest][2][0] > self._came - LATE_IDLE:
                return None
            del self._of[oldest]
        return deque(maxlen=LATE_STEPS), deque(maxlen=LATE_STEPS), [0]


class PredictionQuality:
    """Decayed means over the events past their warm-up.

    compares: with repeating the last value, which is no input of a soft sensor whose targets come with their events

    >>> quality = PredictionQuality()
    >>> ones = np.ones(2)
    >>> quality.add(["a", "a"], ones, 0.5 * ones, 0 * ones, 2 * ones, np.zeros(2, bool))
    >>> quality.add(["a"], 3 * ones[:1], ones[:1], 0 * ones[:1], 2 * ones[:1], np.zeros(1, bool))
    >>> tuple(round(value, 3) for value in quality.read())
    (1.0, 1.0, 0.667)
    """

    def __init__(self, *, compares: bool = True) -> None:
        self._lock, self._compares = threading.Lock(), compares
        self._known = _KnownTargets()
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
        n, errors, inside = _judge(y, yhat, lower, upper, warmup)
        with self._lock:
            sample = self._samples.setdefault(source, _PersistenceSample())
            if self._compares:
                if sample.begins_in(len(entity)):
                    mean, weight = sample.mean_at(self._judged)
                    self._naive, self._naive_weight = self._naive + mean * weight, self._naive_weight + weight
                    sample.begin()
                sample.add(entity, y, warmup)
            self._judged += n
            sample.count(n, self._judged)
            self._decay(n, errors, inside)

    def add_late(self, entity: list[str], s: Settled, since: NDArray[np.float64], source: int = 0) -> None:
        """Add m predictions that have met their late targets; arguments as of `_KnownTargets.add`.

        Compared are those of entities of which a target was known at the event.
        """
        n, errors, inside = _judge(s.y, s.yhat, s.lower, s.upper, s.warmup)
        with self._lock:
            self._judged += n
            self._decay(n, errors, inside)
            if not self._compares:
                return
            steps = np.abs(s.y - self._known.add(entity, s, since, source))[~s.warmup]
            steps = steps[~np.isnan(steps)]
            self._naive, self._naive_weight = self._naive + float(steps.sum()), self._naive_weight + len(steps)

    def _decay(self, n: int, errors: float, inside: float) -> None:
        """Let all that came before count for less, and add n judged events."""
        keep = 0.5 ** (n / HALF_LIFE)
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


def _judge(*columns: NDArray[Any]) -> tuple[int, float, float]:
    """Return number, sum of |y − yhat| and number inside of predictions; columns: as of `core.scores.judge`."""
    return judge(*map(np.ascontiguousarray, columns))


def add_resolved(
    of_targets: Iterable[PredictionQuality],
    engine: Engine,
    names: list[str],
    ts: NDArray[np.int64] | None,
    source: int,
) -> None:
    """Add the predictions that have met their late targets in the engine's last batch.

    Args:
        of_targets: one a target of the engine
        engine: after the batch
        names: entities of the batch
        ts: times of its events, ms; None: they are labels, which came after all events until now
        source: the Kafka partition that they come from
    """
    for each, s in zip(of_targets, engine.resolved_predictions, strict=True):
        own = [names[i] for i in s.item.tolist()]
        # A horizon's target is used before its own event is predicted, a label after it.
        since = _latest(engine, own) if ts is None else ts[s.item].astype(np.float64) - (engine.config.labels is None)
        each.add_late(own, s, since, source)


def _latest(engine: Engine, names: list[str]) -> NDArray[np.float64]:
    """Return (m,) the time of the latest event of each entity, ms; NaN for one that is not in memory."""
    store = engine.target_engines[0].store
    rows = store.row_by_name
    return np.array([store.state.clock.number[rows[each], LAST] if each in rows else np.nan for each in names])
