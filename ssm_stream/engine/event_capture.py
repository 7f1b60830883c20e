"""Moments: all that is known of an entity and its pool at one event, as bytes, for what may be asked of it later.

The kernel tells of an event and goes on at once, changing every array. What is to be said of the event is seldom needed
in the end, and dear: so the rows are copied as they are, and looked at when there is need.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.engine.growable_arrays import named_arrays
from ssm_stream.kernels import loop, shapes

SCRATCH = ("flag", "fleet", "entity", "g", "places")
"""Of the scratch, what words are made of."""
NOTHING, ENTITY, POOL, NORM = range(4)
"""Parts of a state in the order in which they are hashed, after what is of none."""
Index = tuple[Any, ...]
Step = slice | tuple[str, Index]


class Place(NamedTuple):
    """Where an array's row lies in the bytes."""

    start: int
    stop: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    part: int


def _in_use(name: str, used: int, p: shapes.LearnerParams) -> Index | None:
    """What of an array's row is hashed: not the room that other pools' codes have made in it. None: all of it.

    used: codes in use
    """
    group, field = name.split(".")
    keep = slice(1 + p.F * (2 if group == "norm" else 1) + used)
    if field == "S":
        return (..., keep, keep)
    if field in ("R", "W", "gradient", "weights") or (field == "gd" and p.gd):
        return (..., keep)
    if field == "embedding" and p.R:
        return (..., slice(p.R + keep.stop))
    if name == "clock.number":  # the watermark is the neighbours' work too
        return ([loop.LAST, loop.GAP, loop.GAPS],)
    return (keep,) if field == "keys" else None


class Layout:
    """Where everything lies in moments. params: as the arrays are"""

    def __init__(self, params: shapes.LearnerParams) -> None:
        self.params = params
        self._size = self._alone = 0  # bytes of a moment, and of one without a pool
        self._places: dict[str, Place] = {}
        self._steps: dict[int, list[list[Step]]] = {}  # by codes in use, a list a part

    def add(self, name: str, row: NDArray[Any], part: int) -> None:
        """One array more, those of pools last."""
        stop = self._size + row.nbytes
        self._places[name] = Place(self._size, stop, row.dtype, row.shape, part)
        self._size = stop
        if part in (NOTHING, ENTITY):
            self._alone = stop

    def array(self, content: bytes, name: str) -> NDArray[Any]:
        """A row as it was, to be read."""
        place = self._places[name]
        return np.ndarray(place.shape, place.dtype, content, place.start)

    def state_hash(self, content: bytes, waiting: bytes) -> str:
        """16 hex digits over all that the entity's next prediction depends on: its own state and its pool's.

        Args:
            content: a moment, with or without a pool
            waiting: the records of events that wait for their targets
        """
        alone = len(content) == self._alone
        used = 0 if alone else int(self.array(content, "pool.used"))
        if used not in self._steps:
            self._steps[used] = [list(self._steps_of(part, used)) for part in (ENTITY, POOL, NORM)]
        entity, pool, norm = self._steps[used]
        digest = hashlib.blake2b(digest_size=8)
        self._hash(digest, content, entity)
        digest.update(waiting)
        if not alone:
            self._hash(digest, content, pool)
            # What the pool has for many entities is nothing to one that is alone.
            if self.array(content, "pool.entities") > 1:
                self._hash(digest, content, norm)
        return digest.hexdigest()

    def _hash(self, digest: Any, content: bytes, steps: list[Step]) -> None:
        view = memoryview(content)
        for step in steps:
            if isinstance(step, slice):
                digest.update(view[step])
            else:
                name, index = step
                digest.update(self.array(content, name)[index].tobytes())

    def _steps_of(self, part: int, used: int) -> Iterator[Step]:
        """What is hashed of a part: whole rows that lie side by side, and what is in use of others."""
        start = stop = 0
        for name, place in self._places.items():
            if place.part != part:
                continue
            index = _in_use(name, used, self.params)
            if index is None and place.start == stop:
                stop = place.stop
                continue
            if stop > start:
                yield slice(start, stop)
            start, stop = place.start, place.stop
            if index is not None:
                yield name, index
                start = stop
        if stop > start:
            yield slice(start, stop)


class Moments:
    """Takes moments of an engine's arrays, as long as they are these."""

    def __init__(
        self,
        params: shapes.LearnerParams,
        told: loop.Reported,
        scratch: shapes.Scratch,
        state: loop.EntityStates,
        shared: loop.PoolStates,
    ) -> None:
        self._of = (state, shared, scratch)
        self.layout = layout = Layout(params)
        self._now = [*told, *(getattr(scratch, name) for name in SCRATCH)]
        for name, array in zip([*(f"told.{name}" for name in told._fields), *SCRATCH], self._now, strict=True):
            layout.add(name, array, NOTHING)
        # A channel that is switched off has no rows, nor has the norm scope while no pool has two entities.
        mine = [(name, array) for name, array in named_arrays(state) if len(array)]
        theirs = [(name, array) for name, array in named_arrays(shared) if len(array)]
        for name, array in mine:
            layout.add(name, array[0], ENTITY)
        for name, array in theirs:
            layout.add(name, array[0], NORM if name.startswith("norm.") else POOL)
        self._mine, self._theirs = [array for _, array in mine], [array for _, array in theirs]

    def are_of(self, state: loop.EntityStates, shared: loop.PoolStates, scratch: shapes.Scratch) -> bool:
        """Are these still the arrays?"""
        return self._of[0] is state and self._of[1] is shared and self._of[2] is scratch

    def take(self, row: int, pool: int | None) -> bytes:
        """What there is now, of these rows. pool: None where the entity has none"""
        # Caches are cold when the kernel has just returned: one call, few objects.
        rows = map(itemgetter(row), self._mine)
        if pool is None:
            return b"".join([*self._now, *rows])
        return b"".join([*self._now, *rows, *map(itemgetter(pool), self._theirs)])
