"""Entities whose page somebody looks at: all their events, and their predictions taken apart.

A prediction can be taken apart only before its event is learned. So the dataflow's own thread does it, between two
parts of a batch: results do not depend on how events are cut into batches.
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
from ssm_stream.ui.entity_cache import Batch, EntityCache, RowEvents

LOG = structlog.get_logger("ssm_stream.ui")
MOST = 32
"""Entities that are followed at once."""
KEPT = 600
"""Events of a followed entity."""
LOOKS = 240
"""Predictions of it whose weights are kept."""
EVERY = 1.0
"""Seconds between two predictions of an entity that are taken apart."""
LONGER = 600.0
"""Seconds for which an entity is followed after somebody looked at it last."""
SEARCHED = 0.02
"""Seconds between two batches of thousands that are searched for the entities; small ones always are."""
SMALL = 200
PARTS, ANSWERS = 16, 12
"""Inputs and heads that are told, the weightiest first."""
TRACED = 8
"""Inputs whose weights are told over time."""

Point = tuple[int, list[float]]


class FollowedEntity:
    """An entity and one of its targets.

    points: (ts, [y, yhat, lower, upper, score]) of its events, each with a number that grows; total: of all so far
    """

    def __init__(self, entity: str, target: int) -> None:
        self.entity, self.target = entity, target
        self.points: deque[Point] = deque(maxlen=KEPT)
        self.total = 0
        self.look: dict[str, Any] | None = None
        self.looked = 0
        self.weights: deque[tuple[int, dict[str, float]]] = deque(maxlen=LOOKS)
        self.until = self.due = 0.0

    def since(self, total: int) -> list[Point]:
        """Points after the first `total`."""
        fresh = min(self.total - total, len(self.points))
        return [self.points[i] for i in range(len(self.points) - fresh, len(self.points))]

    def weights_over_time(self) -> dict[str, Any]:
        """`ts`, and by name the weights of the inputs that were the weightiest of late."""
        looks = list(self.weights)
        if not looks:
            return {"ts": [], "weights": {}}
        mean: dict[str, float] = {}
        for _, weights in looks[-20:]:
            for name, weight in weights.items():
                mean[name] = mean.get(name, 0.0) + abs(weight)
        names = sorted(mean, key=lambda name: -mean[name])[:TRACED]
        return {"ts": [ts for ts, _ in looks], "weights": {name: [w.get(name) for _, w in looks] for name in names}}


class FollowedEntities:
    """The followed entities.

    cache: with the last events of all; able: why predictions cannot be taken apart, None: they can
    """

    def __init__(self, cache: EntityCache, unable: str | None = None) -> None:
        self.unable = unable
        self.ready = False
        """The kernels that take predictions apart are compiled."""
        self.began = False
        """Somebody has looked at an entity."""
        self._cache = cache
        self._lock = threading.Lock()
        self._all: dict[tuple[str, int], FollowedEntity] = {}
        self._next = self._searched = 0.0

    def follow(self, entity: str, target: int) -> FollowedEntity:
        """From now on, until nobody has asked for it for a while."""
        now, self.began = time.monotonic(), True
        with self._lock:
            found = self._all.get((entity, target))
            if found is None:
                found = self._all[entity, target] = FollowedEntity(entity, target)
                self._fill(found)
                if len(self._all) > MOST:
                    del self._all[min(self._all, key=lambda key: self._all[key].until or now)]
            if now > found.until - LONGER + 1.0:
                found.until = now + LONGER
                self._drop(now)
            self._next = 0.0 if found.look is None else self._next
            return found

    def _fill(self, followed: FollowedEntity) -> None:
        """With what the cache has of it."""
        with self._cache.lock:
            row = self._cache.row_of(followed.entity)
            if row is None:
                return
            ts, values = self._cache.tail(row, followed.target)
        followed.points.extend(zip(ts.tolist(), values.astype(float).tolist(), strict=True))
        followed.total = len(followed.points)

    def _drop(self, now: float) -> None:
        """Those that nobody has looked at for long; the caller holds the lock."""
        self._all = {key: each for key, each in self._all.items() if each.until > now}
        rows = (self._cache.row_of(entity) for entity, _ in self._all)
        self._cache.groups = frozenset(row for row in rows if row is not None)

    def settle(self) -> None:
        """Entities that were unknown when somebody asked may have come since."""
        with self._lock:
            self._drop(time.monotonic())

    def take(self, groups: list[RowEvents], batch: Batch) -> None:
        """The events of followed entities in a batch."""
        with self._lock:
            for row, places in groups:
                for target in range(self._cache.targets):
                    followed = self._all.get((self._cache.names[row], target))
                    if followed is not None:
                        values = batch.values[places, target].tolist()
                        followed.points.extend(zip(batch.ts[places].tolist(), values, strict=True))
                        followed.total += len(places)

    # In the dataflow's thread.

    def positions_to_explain(self, names: Sequence[str]) -> list[int]:
        """Return the positions in a batch, ascending, before which `explain` must be called."""
        if not self._all or not self.ready:
            return []
        now = time.monotonic()
        if now < self._next or (len(names) > SMALL and now < self._searched + SEARCHED):
            return []
        self._searched = now
        with self._lock:
            due = {each.entity for each in self._all.values() if each.due <= now}
            self._next = min((each.due for each in self._all.values()), default=now + EVERY)
        found = due.intersection(names)
        return sorted({len(names) - 1 - names[::-1].index(name) for name in found})

    def explain(self, engine: Engine, event: Events, source: int) -> None:
        """Take the prediction of an event apart that is about to be learned. Never raises."""
        now, name = time.monotonic(), event.entity[0]
        with self._lock:
            wanted = [each for (entity, _), each in self._all.items() if entity == name and each.due <= now]
        for followed in wanted:
            followed.due = now + EVERY
            try:
                found = explain_prediction(engine.target_engines[followed.target], event, source)
            except KeyError:
                continue  # its first event
            except Exception:  # the flow does not end for a picture
                LOG.exception("look_failed", entity=name)
                self.unable, self.ready = "failed", False
                return
            followed.weights.append((found.ts, {part.feature: part.weight for part in found.parts}))
            followed.look, followed.looked = told(found), followed.looked + 1


def told(found: Explanation) -> dict[str, Any]:
    """What is shown of an explanation: it still adds up, as what is left out is summed."""
    others = found.parts[PARTS:]
    return {
        "ts": found.ts,
        "n": found.n,
        "yhat": found.yhat,
        "base": found.base,
        "constant": found.constant,
        "rest": found.rest,
        "fleet": found.fleet,
        "parts": [[p.feature, p.value, p.weight, p.contribution] for p in found.parts[:PARTS]],
        "others": [len(others), sum(part.contribution for part in others)],
        "answers": [[a.head, a.answer, a.weight] for a in found.answers[:ANSWERS]],
    }
