"""Entities that a browser shows: all their events, and explanations of their predictions.

A prediction can be explained only before its event is learned. So the worker of the dataflow does it, between two parts
of a batch: results do not depend on how events are cut into batches.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import structlog

from ssm_stream.engine.engine import Engine
from ssm_stream.engine.explain import Explanation
from ssm_stream.engine.explain import explain as explain_prediction
from ssm_stream.ingest.events import Events
from ssm_stream.ui.entity_cache import BatchColumns, EntityCache, RowEvents

LOG = structlog.get_logger("ssm_stream.ui")
MAX_FOLLOWED = 32
"""Entities that are followed at a time."""
MAX_POINTS = 600
"""Events of a followed entity."""
MAX_EXPLANATIONS = 240
"""Explanations of it whose weights are kept."""
EXPLAIN_EVERY = 1.0
"""Seconds between two explanations of an entity."""
FOLLOW_FOR = 600.0
"""Seconds for which an entity is followed after a browser has shown it."""
SEARCH_EVERY = 0.02
"""Seconds between two large batches that are searched for the entities; small ones always are."""
SMALL_BATCH = 200
MAX_PARTS, MAX_ANSWERS = 16, 12
"""Inputs and heads of an explanation that are sent, largest first."""
MAX_TRACED = 8
"""Inputs whose weights over time are sent."""

Point = tuple[int, list[float]]


class FollowedEntity:
    """An entity and one of its targets.

    points: (ts, [y, yhat, lower, upper, score]) of its last events; total: number of its events so far
    explained: number of its explanations so far, the last one in `explanation`
    """

    def __init__(self, entity: str, target: int) -> None:
        self.entity, self.target = entity, target
        self.points: deque[Point] = deque(maxlen=MAX_POINTS)
        self.total = 0
        self.explanation: dict[str, Any] | None = None
        self.explained = 0
        self.weights: deque[tuple[int, dict[str, float]]] = deque(maxlen=MAX_EXPLANATIONS)
        self.until = self.due = 0.0

    def since(self, total: int) -> list[Point]:
        """Return the points after the first `total`."""
        fresh = min(self.total - total, len(self.points))
        return [self.points[i] for i in range(len(self.points) - fresh, len(self.points))]

    def weights_over_time(self) -> dict[str, Any]:
        """Return `ts`, and by name the weights of the inputs with the largest recent weights."""
        explanations = list(self.weights)
        if not explanations:
            return {"ts": [], "weights": {}}
        mean: dict[str, float] = {}
        for _, weights in explanations[-20:]:
            for name, weight in weights.items():
                mean[name] = mean.get(name, 0.0) + abs(weight)
        names = sorted(mean, key=lambda name: -mean[name])[:MAX_TRACED]
        return {
            "ts": [ts for ts, _ in explanations],
            "weights": {name: [w.get(name) for _, w in explanations] for name in names},
        }


class FollowedEntities:
    """The followed entities.

    Args:
        cache: the last events of all entities
        unavailable: why predictions cannot be explained; None: they can
    """

    def __init__(self, cache: EntityCache, unavailable: str | None = None) -> None:
        self.unavailable = unavailable
        self._cache = cache
        self._lock = threading.Lock()
        self._all: dict[tuple[str, int], FollowedEntity] = {}
        self._next = self._last_search = 0.0

    def follow(self, entity: str, target: int) -> FollowedEntity:
        """Follow an entity for `FOLLOW_FOR` seconds from now on."""
        now = time.monotonic()
        with self._lock:
            found = self._all.get((entity, target))
            if found is None:
                found = self._all[entity, target] = FollowedEntity(entity, target)
                self._fill(found)
                if len(self._all) > MAX_FOLLOWED:
                    del self._all[min(self._all, key=lambda key: self._all[key].until or now)]
            if now > found.until - FOLLOW_FOR + 1.0:
                found.until = now + FOLLOW_FOR
                self._drop(now)
            self._next = 0.0 if found.explanation is None else self._next
            return found

    def _fill(self, followed: FollowedEntity) -> None:
        """Fill in the events that the cache has."""
        with self._cache.lock:
            row = self._cache.row_of(followed.entity)
            if row is None:
                return
            ts, values = self._cache.tail(row, followed.target)
        followed.points.extend(zip(ts.tolist(), values.astype(float).tolist(), strict=True))
        followed.total = len(followed.points)

    def _drop(self, now: float) -> None:
        """Drop entities whose time is over, and update the rows to follow; the caller holds the lock."""
        self._all = {key: each for key, each in self._all.items() if each.until > now}
        rows = (self._cache.row_of(entity) for entity, _ in self._all)
        self._cache.followed_rows = frozenset(row for row in rows if row is not None)

    def refresh(self) -> None:
        """Find the rows of entities that had none when they were followed."""
        with self._lock:
            self._drop(time.monotonic())

    def add(self, rows: list[RowEvents], batch: BatchColumns) -> None:
        """Add the events of followed entities in a batch."""
        with self._lock:
            for row, positions in rows:
                for target in range(self._cache.targets):
                    followed = self._all.get((self._cache.names[row], target))
                    if followed is not None:
                        values = batch.values[positions, target].tolist()
                        followed.points.extend(zip(batch.ts[positions].tolist(), values, strict=True))
                        followed.total += len(positions)

    # In a worker of the dataflow.

    def positions_to_explain(self, names: Sequence[str]) -> list[int]:
        """Return the positions in a batch, ascending, before which `explain` must be called."""
        if not self._all or self.unavailable is not None:
            return []
        now = time.monotonic()
        if now < self._next or (len(names) > SMALL_BATCH and now < self._last_search + SEARCH_EVERY):
            return []
        self._last_search = now
        with self._lock:
            due = {each.entity for each in self._all.values() if each.due <= now}
            self._next = min((each.due for each in self._all.values()), default=now + EXPLAIN_EVERY)
        found = due.intersection(names)
        return sorted({len(names) - 1 - names[::-1].index(name) for name in found})

    def explain(self, engine: Engine, event: Events, source: int) -> None:
        """Explain the prediction of an event that is about to be learned. Never raises."""
        now, name = time.monotonic(), event.entity[0]
        with self._lock:
            due = [each for (entity, _), each in self._all.items() if entity == name and each.due <= now]
        for followed in due:
            followed.due = now + EXPLAIN_EVERY
            try:
                one = engine.inputs.select(followed.target, engine.windows.filled(event, source))
                found = explain_prediction(engine.target_engines[followed.target], one, source)
            except KeyError:
                continue  # its first event
            except Exception:  # the flow must not end for a chart
                LOG.exception("look_failed", entity=name)
                self.unavailable = "failed"
                return
            followed.weights.append((found.ts, {part.feature: part.weight for part in found.parts}))
            followed.explanation, followed.explained = explanation_content(found), followed.explained + 1


def explanation_content(found: Explanation) -> dict[str, Any]:
    """Return an explanation as JSON content; it adds up, since what is left out is summed."""
    others = found.parts[MAX_PARTS:]
    return {
        "ts": found.ts,
        "n": found.n,
        "yhat": found.yhat,
        "base": found.base,
        "constant": found.constant,
        "rest": found.rest,
        "fleet": found.fleet,
        "parts": [[p.feature, p.value, p.weight, p.contribution, p.reading] for p in found.parts[:MAX_PARTS]],
        "others": [len(others), sum(part.contribution for part in others)],
        "answers": [[a.head, a.answer, a.weight] for a in found.answers[:MAX_ANSWERS]],
    }
