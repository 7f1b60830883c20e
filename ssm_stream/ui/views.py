"""What a browser is told: first all of what it shows, then only what has changed.

A view belongs to one connection. `next` gives what is new as a dict for JSON, empty where nothing is.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssm_stream.ui.alert_episodes import AlertEpisodes
from ssm_stream.ui.entity_cache import ANOMALY, DRIFT, FLEET_ANOMALY, FLEET_DRIFT, EntityCache
from ssm_stream.ui.followed_entities import FollowedEntities, FollowedEntity, Point

REORDER = 2.0
"""Seconds between two looks at what stands first, so that the eye can follow a tile."""
REDRAW = 0.1
"""Seconds between two looks at all entities."""
SIZES = (12, 240)
SUMMARY = 40
"""Episodes that are told beside the fleet."""
LONGEST = 600
"""Characters of a filter or a name."""
STATES: dict[str, Callable[[EntityCache], NDArray[np.bool_]]] = {
    "open": lambda b: b.flags[: len(b)] > 0,
    "anomaly": lambda b: (b.flags[: len(b)] & (ANOMALY | FLEET_ANOMALY)) > 0,
    "drift": lambda b: (b.flags[: len(b)] & (DRIFT | FLEET_DRIFT)) > 0,
    "warmup": lambda b: np.asarray(b.warmup[: len(b)].all(axis=1)),
}
DIGITS = re.compile(r"(\d+)")
Told = dict[str, Any]


def natural(name: str) -> list[Any]:
    """So that press-9 stands before press-10."""
    return [part.casefold() if i % 2 == 0 else int(part[:300]) for i, part in enumerate(DIGITS.split(name))]


def number(text: str | None, default: int, least: int, most: int) -> int:
    """A whole number from a query, within bounds."""
    try:
        return min(max(int(text or default), least), most)
    except ValueError:
        return default


class NameOrder:
    """Entities by name, made anew when some have come. Shared by the views."""

    def __init__(self, cache: EntityCache) -> None:
        self._cache = cache
        self._layout = -1
        self._made = -REORDER
        self.rank: NDArray[np.intp] = np.zeros(0, np.intp)
        self.order: NDArray[np.intp] = np.zeros(0, np.intp)
        self._keys: dict[str, list[Any]] = {}

    def update(self) -> int:
        """The number of the order; it grows with it, every two seconds at most."""
        now = time.monotonic()
        if self._layout != self._cache.layout and now - self._made >= REORDER:
            with self._cache.lock:
                layout, names = self._cache.layout, list(self._cache.names)
            # While a fleet comes in, most names are known from the last time.
            self._keys = {name: self._keys.get(name) or natural(name) for name in names}
            keys = list(self._keys.values())
            order = np.array(sorted(range(len(names)), key=keys.__getitem__), np.intp)
            rank = np.empty(len(names), np.intp)
            rank[order] = np.arange(len(names))
            self.order, self.rank, self._layout, self._made = order, rank, layout, now
        return self._layout


class FleetView:
    """A page of tiles, and the level of every entity.

    query: `q` (part of a name), `state` (of `STATES`), `sort` (attention, score, name, value, seen), `up` (1: from the
    least on), `page` (from 0), `size`
    """

    def __init__(self, cache: EntityCache, names: NameOrder, query: Mapping[str, str]) -> None:
        self._cache, self._names = cache, names
        self._filter = query.get("q", "")[:LONGEST].casefold()
        self._state = STATES.get(query.get("state", ""))
        self._sort = query.get("sort", "attention")
        self._up = query.get("up") == "1"
        self._page = number(query.get("page"), 0, 0, 100_000)
        self._size = number(query.get("size"), 120, *SIZES)
        self._rows: NDArray[np.intp] = np.zeros(0, np.intp)
        self._told = self._counts = (-1, -1)
        self._ordered = self._drawn = -REORDER
        self._version = -1
        self._mapped = self._mapped_at = -1
        self._order: NDArray[np.intp] = np.zeros(0, np.intp)
        self._levels: NDArray[np.uint8] = np.zeros(0, np.uint8)

    def next(self) -> Told:
        """What is new since the last call."""
        cache, out = self._cache, Told()
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

    def _arrange(self, now: float, out: Told) -> None:
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
        told = (cache.layout, int(keep.sum()))
        if np.array_equal(rows, self._rows) and counts == self._counts and told == self._told:
            return
        self._rows, self._counts, self._told = rows, counts, told
        out["page"] = {
            "total": n,
            "matching": int(keep.sum()),
            "page": page,
            "pages": pages,
            "names": [cache.names[row] for row in rows.tolist()],
            "spark": self._spark(rows),
        }
        self._version = -1  # all values of the new page are told

    def _key(self, rows: NDArray[np.intp], now: float) -> NDArray[np.float64]:
        cache = self._cache
        if self._sort == "name":
            rank = self._names.rank
            # From a to z, and those that came since the last look at the end.
            return -np.array([rank[row] if row < len(rank) else len(rank) + row for row in rows.tolist()], np.float64)
        if self._sort == "score":
            return np.asarray(np.nan_to_num(cache.last[rows, :, 4]).max(axis=1), np.float64)
        if self._sort == "value":
            return np.asarray(np.nan_to_num(cache.last[rows, 0, 0], nan=-np.inf), np.float64)
        if self._sort == "seen":
            return cache.ts[rows].astype(np.float64)
        return cache.attention(now)[rows]

    def _spark(self, rows: NDArray[np.intp]) -> list[list[float | None]]:
        target = self._cache.worst()
        found = []
        for row in rows.tolist():
            values = self._cache.tail(row, int(target[row])).values[:, 0]
            found.append([None if v != v else v for v in np.round(values.astype(float), 6).tolist()])
        return found

    def _tick(self, out: Told) -> None:
        """Of the tiles that have changed: places, ts, y, yhat, lower, upper, score, warm-up, flags, target."""
        cache, rows = self._cache, self._rows
        if not len(rows):
            return
        places = np.flatnonzero(cache.changed[rows] > self._version)
        if not len(places):
            return
        rows = rows[places]
        target = cache.worst()[rows]
        values = cache.last[rows, target]
        columns = [np.ascontiguousarray(values[:, i]) for i in range(values.shape[1])]
        warmup = cache.warmup[rows, target].astype(np.uint8)
        out["tick"] = [places, cache.ts[rows], *columns, warmup, cache.flags[rows], target]

    def _map(self, layout: int, out: Told) -> None:
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
    """

    def __init__(self, cache: EntityCache, followed_entities: FollowedEntities, query: Mapping[str, str]) -> None:
        self._cache, self._followed_entities = cache, followed_entities
        self.name = query.get("name", "")[:LONGEST]
        self._target = number(query.get("target"), 0, 0, cache.targets - 1)
        self._row: int | None = None
        self._followed: FollowedEntity | None = None
        self._total = self._looked = -1
        self._version = -1

    def next(self) -> Told:
        """What is new since the last call."""
        out = Told()
        with self._cache.lock:
            row = self._cache.row_of(self.name)
        if row is None:
            if self._version != -2:
                self._version = -2
                out["entity"] = {"name": self.name, "known": False}
            return out
        followed = self._followed_entities.follow(self.name, self._target)
        if row != self._row or followed is not self._followed:
            self._row, self._followed, self._total, self._looked = row, followed, 0, -1
            self._followed_entities.settle()
            out["entity"] = {"name": self.name, "known": True, "target": self._target}
        if followed.total != self._total:
            total = followed.total
            points = followed.since(self._total)
            self._total = total
            out["points"] = columns_of(points)
        if followed.looked != self._looked:
            self._looked = followed.looked
            if followed.look is not None:
                out["look"] = followed.look
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
                    "scores": np.round(self._cache.last[row, :, 4].astype(float), 4),
                }
        return out


def columns_of(points: list[Point]) -> list[list[Any]]:
    """Points as ts, y, yhat, lower, upper, score."""
    ts = [at for at, _ in points]
    rest = np.array([values for _, values in points], np.float32).reshape(len(points), 5)
    return [ts, *(np.ascontiguousarray(rest[:, i]) for i in range(5))]  # type: ignore[list-item]


class EpisodesView:
    """Episodes beside another view, or by themselves (`all`)."""

    def __init__(self, alert_episodes: AlertEpisodes, entity: str | None = None, *, everything: bool = False) -> None:
        self._alert_episodes, self._entity = alert_episodes, entity
        self._most = 10**6 if everything else SUMMARY
        self._version = -1
        self._open = -1

    def next(self) -> Told:
        """What is new since the last call; the first time, all that there is (`fresh`)."""
        fresh = self._version < 0
        found = self._alert_episodes.changes(max(self._version, 0), self._entity, self._most)
        opened = self._alert_episodes.open
        if not fresh and not found.episodes and opened == self._open:
            return {}
        self._version, self._open = found.version, opened
        return {"episodes": {"fresh": fresh, "open": opened, "items": found.episodes}}
