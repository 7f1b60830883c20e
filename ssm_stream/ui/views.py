"""The updates of a browser: first everything it shows, then only what has changed.

A view belongs to one connection. `next` returns what is new as a dict for JSON, empty if nothing is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssm_stream.config.natural_order import natural_key
from ssm_stream.engine.alert_kinds import target_of
from ssm_stream.ui.alert_episodes import AlertEpisodes
from ssm_stream.ui.entity_cache import (
    ANOMALY,
    DRIFT,
    FLEET_ANOMALY,
    FLEET_DRIFT,
    LIMIT_FLAG,
    OPEN,
    SILENCE_FLAG,
    STOPPED,
    STUCK_FLAG,
    EntityCache,
)
from ssm_stream.ui.followed_entities import FollowedEntities, FollowedEntity, Point

REORDER = 2.0
"""Seconds between two sortings of the tiles, so that the eye can follow a tile."""
REDRAW = 0.1
"""Seconds between two updates of the map of all entities."""
PAGE_SIZES = (12, 240)
"""The fewest and the most tiles of a page."""
SUMMARY = 40
"""Episodes that are sent with the fleet."""
MAX_LENGTH = 600
"""Characters of a filter or a name."""
STATES: dict[str, Callable[[EntityCache], NDArray[np.bool_]]] = {
    "open": lambda c: (c.flags[: len(c)] & OPEN) > 0,
    "anomaly": lambda c: (c.flags[: len(c)] & (ANOMALY | FLEET_ANOMALY)) > 0,
    "drift": lambda c: (c.flags[: len(c)] & (DRIFT | FLEET_DRIFT)) > 0,
    "limit": lambda c: (c.flags[: len(c)] & LIMIT_FLAG) > 0,
    "silence": lambda c: (c.flags[: len(c)] & SILENCE_FLAG) > 0,
    "stuck": lambda c: (c.flags[: len(c)] & STUCK_FLAG) > 0,
    "stopped": lambda c: (c.flags[: len(c)] & STOPPED) > 0,
    "warmup": lambda c: np.asarray(c.warmup[: len(c)].all(axis=1)),
    "other": lambda c: c.other[: len(c)].copy(),
}
SORTS = ("attention", "score", "name", "value", "seen")
Content = dict[str, Any]


def parse_int(text: str | None, default: int, least: int, most: int) -> int:
    """Parse a whole number of a query, within bounds."""
    try:
        return min(max(int(text or default), least), most)
    except ValueError:
        return default


class NameOrder:
    """The order of entities by name, updated when rows change. Shared by the views."""

    def __init__(self, cache: EntityCache) -> None:
        self._cache = cache
        self._layout = -1
        self._made = -REORDER
        self.rank: NDArray[np.intp] = np.zeros(0, np.intp)
        self.order: NDArray[np.intp] = np.zeros(0, np.intp)
        self._keys: dict[str, list[Any]] = {}

    def update(self) -> int:
        """Update the order, every two seconds at most, and return its version."""
        now = time.monotonic()
        if self._layout != self._cache.layout and now - self._made >= REORDER:
            with self._cache.lock:
                layout, names = self._cache.layout, list(self._cache.names)
            # While a fleet comes in, most names already have a key.
            self._keys = {name: self._keys.get(name) or natural_key(name) for name in names}
            keys = list(self._keys.values())
            order = np.array(sorted(range(len(names)), key=keys.__getitem__), np.intp)
            rank = np.empty(len(names), np.intp)
            rank[order] = np.arange(len(names))
            self.order, self.rank, self._layout, self._made = order, rank, layout, now
        return self._layout


class FleetView:
    """A page of tiles, and the level of every entity.

    Args:
        query: `q` (part of a name), `state` (of `STATES`), `sort` (attention, score, name, value, seen), `page`
            (from 0), `size`, `up` (1: ascending)
        least: the smallest `size`; of a smaller one it is taken
    """

    def __init__(
        self, cache: EntityCache, names: NameOrder, query: Mapping[str, str], *, least: int = PAGE_SIZES[0]
    ) -> None:
        self._cache, self._names = cache, names
        self._filter = query.get("q", "")[:MAX_LENGTH].casefold()
        self._state = STATES.get(query.get("state", ""))
        self._sort = query.get("sort", "attention")
        self._up = query.get("up") == "1"
        self._page = parse_int(query.get("page"), 0, 0, 100_000)
        self._size = parse_int(query.get("size"), 120, least, PAGE_SIZES[1])
        self._rows: NDArray[np.intp] = np.zeros(0, np.intp)
        self._sent_totals = self._counts = (-1, -1)
        self._ordered = self._drawn = -REORDER
        self._version = -1
        self._mapped = self._mapped_at = -1
        self._order: NDArray[np.intp] = np.zeros(0, np.intp)
        self._levels: NDArray[np.uint8] = np.zeros(0, np.uint8)

    def next(self) -> Content:
        """Return what is new since the last call."""
        cache, out = self._cache, Content()
        now = time.monotonic()
        layout = self._names.update()
        with cache.lock:
            version = cache.version
            if version == self._version and now - self._ordered < REORDER and version == self._mapped_at:
                return out
            if now - self._ordered >= REORDER:
                self._ordered = now
                self._arrange(now, out)
            self._tick(out)
            if now - self._drawn >= REDRAW:
                self._drawn = now
                self._map(layout, out)
            self._version = version
        return out

    def _arrange(self, now: float, out: Content) -> None:
        cache = self._cache
        n = len(cache)
        keep = np.ones(n, np.bool_) if self._state is None else self._state(cache)
        if self._filter:
            keep &= np.fromiter((self._filter in name.casefold() for name in cache.names), np.bool_, n)
        rows = np.flatnonzero(keep)
        key = self._key(rows, now)
        order = np.argsort(key if self._up else -key, kind="stable")
        pages = max(-(-len(rows) // self._size), 1)
        page = min(self._page, pages - 1)
        rows = rows[order[page * self._size : (page + 1) * self._size]]
        counts = (len(rows), n)
        totals = (cache.layout, int(keep.sum()))
        if np.array_equal(rows, self._rows) and counts == self._counts and totals == self._sent_totals:
            return
        self._rows, self._counts, self._sent_totals = rows, counts, totals
        out["page"] = {
            "total": n,
            "matching": int(keep.sum()),
            "page": page,
            "pages": pages,
            "names": [cache.names[row] for row in rows.tolist()],
            "spark": self._spark(rows),
        }
        self._version = -1  # send all values of the new page

    def _key(self, rows: NDArray[np.intp], now: float) -> NDArray[np.float64]:
        cache = self._cache
        if self._sort == "name":
            rank = self._names.rank
            # From a to z; rows that are newer than the order at the end.
            return -np.array([rank[row] if row < len(rank) else len(rank) + row for row in rows.tolist()], np.float64)
        if self._sort == "score":
            return np.asarray(np.nan_to_num(cache.last[rows, :, 4]).max(axis=1), np.float64)
        if self._sort == "value":
            return np.asarray(np.nan_to_num(cache.last[rows, 0, 0], nan=-np.inf), np.float64)
        if self._sort == "seen":
            return cache.ts[rows].astype(np.float64)
        return cache.attention(now)[rows]

    def _spark(self, rows: NDArray[np.intp]) -> list[list[float | None]]:
        target = self._cache.worst_targets()
        found = []
        for row in rows.tolist():
            values = self._cache.tail(row, int(target[row])).values[:, 0]
            found.append([None if v != v else v for v in np.round(values.astype(float), 6).tolist()])
        return found

    def _tick(self, out: Content) -> None:
        """Add the changed tiles: positions, ts, y, yhat, lower, upper, score, warm-up, flags, target, other."""
        cache, rows = self._cache, self._rows
        if not len(rows):
            return
        positions = np.flatnonzero(cache.changed[rows] > self._version)
        if not len(positions):
            return
        rows = rows[positions]
        target = cache.worst_targets()[rows]
        values = cache.last[rows, target]
        columns = [np.ascontiguousarray(values[:, i]) for i in range(values.shape[1])]
        warmup = cache.warmup[rows, target].astype(np.uint8)
        out["tick"] = [
            positions,
            cache.ts[rows],
            *columns,
            warmup,
            cache.flags[rows],
            target,
            cache.other[rows].astype(np.uint8),
        ]

    def _map(self, layout: int, out: Content) -> None:
        levels, self._mapped_at = self._cache.levels(), self._cache.version
        if self._mapped != layout:
            self._mapped, self._order = layout, self._names.order
            self._levels = levels[self._order]
            names = [self._cache.names[row][:80] for row in self._order.tolist()]
            out["map"] = {"names": names, "levels": bytes(self._levels + 48).decode()}
            return
        if not len(self._order):
            return
        levels = levels[self._order]
        changed = np.flatnonzero(levels != self._levels)
        if len(changed):
            self._levels = levels
            out["cells"] = [changed, levels[changed]]


class EntityView:
    """One entity and one of its targets.

    query: `name`, `target` (its number, from 0)
    limits: returns the fixed limits of an entity
    """

    def __init__(
        self,
        cache: EntityCache,
        followed_entities: FollowedEntities,
        query: Mapping[str, str],
        limits: Callable[[str], list[Content]] | None = None,
    ) -> None:
        self._cache, self._followed_entities, self._limits = cache, followed_entities, limits
        self.name = query.get("name", "")[:MAX_LENGTH]
        self._target = parse_int(query.get("target"), 0, 0, cache.targets - 1)
        self._row: int | None = None
        self._followed: FollowedEntity | None = None
        self._total = self._explained = -1
        self._version = -1

    def next(self) -> Content:
        """Return what is new since the last call."""
        out = Content()
        with self._cache.lock:
            row = self._cache.row_of(self.name)
        if row is None:
            if self._version != -2:
                self._version = -2
                out["entity"] = {"name": self.name, "known": False, "target": self._target}
            return out
        followed = self._followed_entities.follow(self.name, self._target)
        if row != self._row or followed is not self._followed:
            self._row, self._followed, self._total, self._explained = row, followed, 0, -1
            self._followed_entities.refresh()
            out["entity"] = {"name": self.name, "known": True, "target": self._target}
            if self._limits is not None:
                out["limits"] = self._limits(self.name)
        if followed.total != self._total:
            total = followed.total
            points = followed.since(self._total)
            self._total = total
            out["points"] = columns_of(points)
        if followed.explained != self._explained:
            self._explained = followed.explained
            if followed.explanation is not None:
                out["look"] = followed.explanation
                out["weights"] = followed.weights_over_time()
        with self._cache.lock:
            if self._cache.changed[row] > self._version:
                self._version = self._cache.version
                out["now"] = {
                    "ts": int(self._cache.ts[row]),
                    "labelled": int(self._cache.labelled[row, self._target]),
                    "fleet": round(float(self._cache.fleet[row, self._target]), 4),
                    "warmup": bool(self._cache.warmup[row, self._target]),
                    "flags": int(self._cache.flags[row]),
                    "other": bool(self._cache.other[row]),
                    "scores": np.round(self._cache.last[row, :, 4].astype(float), 4),
                }
        return out

    def reach(self) -> tuple[int, int] | None:
        """Return the times of the first and last event that are shown, ms; None without any."""
        points = None if self._followed is None else self._followed.points
        return (points[0][0], points[-1][0]) if points else None


def columns_of(points: list[Point]) -> list[list[Any]]:
    """Return points as columns ts, y, yhat, lower, upper, score."""
    ts = [at for at, _ in points]
    rest = np.array([values for _, values in points], np.float32).reshape(len(points), 5)
    return [ts, *(np.ascontiguousarray(rest[:, i]) for i in range(5))]  # type: ignore[list-item]


class AlertView:
    """The episode that an alert's id belongs to. name: the id"""

    def __init__(self, alert_episodes: AlertEpisodes, name: str) -> None:
        self._alert_episodes, self._name = alert_episodes, name[:MAX_LENGTH]
        self._sent: Content | None = None

    def series(self, targets: Sequence[str]) -> tuple[str, int] | None:
        """Return its entity, and the number of the target that shows it; None of a fleet alert, and of one that is not
        kept."""
        found = self._alert_episodes.find(self._name)
        return None if found is None or found["scope"] == "fleet" else (found["entity"], target_of(found, targets))

    def next(self) -> Content:
        """Return what is new since the last call."""
        found = self._alert_episodes.find(self._name)
        content: Content = {"n": None if found is None else found["n"]}
        if content == self._sent:
            return {}
        self._sent = content
        return {"alert": content}


class EpisodesView:
    """Episodes, with another view or by themselves (`everything`)."""

    def __init__(self, alert_episodes: AlertEpisodes, entity: str | None = None, *, everything: bool = False) -> None:
        self._alert_episodes, self._entity = alert_episodes, entity
        self._most = 10**6 if everything else SUMMARY
        self._version = -1
        self._open = -1

    def next(self) -> Content:
        """Return what is new since the last call; the first time everything (`fresh`)."""
        fresh = self._version < 0
        found = self._alert_episodes.changes(max(self._version, 0), self._entity, self._most)
        opened = self._alert_episodes.open
        if not fresh and not found.episodes and opened == self._open:
            return {}
        self._version, self._open = found.version, opened
        return {"episodes": {"fresh": fresh, "open": opened, "items": found.episodes}}
