"""The last predictions of each entity, bounded in memory."""

from __future__ import annotations

import math
import threading
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

POINTS = 48
"""Last predictions that are kept of an entity and target."""
MAX_SERIES = 40_000
"""Entities times targets; those without a prediction for longest make room."""
COLUMNS = ("time", "y", "yhat", "yhat_lower", "yhat_upper", "anomaly_score")
"""Of the last predictions; the time in ms."""
NEEDED = {"entity", "ts", "yhat"}
_WIDTH = len(COLUMNS)


class Series:
    """The predictions of one target of an entity. last: the content of the last message; count: messages so far"""

    __slots__ = ("_values", "count", "entity", "last", "target")

    def __init__(self, entity: str, target: str | None) -> None:
        self.entity, self.target = entity, target
        self.last: Mapping[str, Any] = {}
        self.count = 0
        self._values = array("d")

    def add(self, message: Mapping[str, Any]) -> None:
        """Add a prediction message."""
        self.last = message
        self.count += 1
        numbers = (message.get(name) for name in COLUMNS[1:])
        self._values.extend((float(message["ts"]), *(math.nan if each is None else each for each in numbers)))
        if len(self._values) > 2 * POINTS * _WIDTH:
            del self._values[: -POINTS * _WIDTH]

    @property
    def ts(self) -> int:
        """Time of the last event, ms."""
        return int(self.last["ts"])

    @property
    def score(self) -> float:
        """The last anomaly score; 0 where the event has none."""
        return float(self.last.get("anomaly_score") or 0.0)

    def points(self, last: int = POINTS) -> list[list[float | None]]:
        """Return the last predictions, oldest first, in the order of `COLUMNS`."""
        flat = self._values[-min(last, POINTS) * _WIDTH :].tolist()
        rows = [flat[i : i + _WIDTH] for i in range(0, len(flat), _WIDTH)]
        return [[None if math.isnan(each) else each for each in row] for row in rows]


class Predictions:
    """The last predictions of all entities."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.evicted = 0
        """Series that have made room for others."""
        self.latest = 0
        """Time of the last event that came, ms."""
        self._series: OrderedDict[tuple[str, str | None], Series] = OrderedDict()
        self._of: dict[str, list[Series]] = {}

    def add(self, messages: Iterable[Any]) -> None:
        """Add prediction messages as their topic has them; others are ignored."""
        with self.lock:
            for message in messages:
                if isinstance(message, dict) and message.keys() >= NEEDED:
                    self._add(message)

    def _add(self, message: dict[str, Any]) -> None:
        key = message["entity"], message.get("target")
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = Series(*key)
            self._of.setdefault(key[0], []).append(series)
            if len(self._series) > MAX_SERIES:
                self._evict()
        self._series.move_to_end(key)
        series.add(message)
        self.latest = message["ts"]

    def _evict(self) -> None:
        (entity, _), series = self._series.popitem(last=False)
        self._of[entity].remove(series)
        if not self._of[entity]:
            del self._of[entity]
        self.evicted += 1

    def names(self) -> list[str]:
        """Return the names of all entities."""
        with self.lock:
            return list(self._of)

    def __len__(self) -> int:
        return len(self._of)

    def of(self, entity: str) -> list[Series]:
        """Return the series of an entity, a target each; empty if it is not kept."""
        with self.lock:
            return list(self._of.get(entity, ()))

    def worst(self, by: Callable[[Series], float] | None = None) -> dict[str, Series]:
        """Return for each entity the target with the highest last score, or with the highest of another figure."""
        figure = by or (lambda each: each.score)
        with self.lock:
            return {name: found[0] if len(found) == 1 else max(found, key=figure) for name, found in self._of.items()}
