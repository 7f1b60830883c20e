"""Captures the state of an entity and its pool at one event as bytes, for an alert that may need it later.

The kernel reports an event and then goes on, changing every array. Most reported events never become a message, and the
message's details are expensive to compute: so the rows are copied as they are, and evaluated only when needed.
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
"""Arrays of the scratch that the details of an alert are computed from."""
NOT_HASHED, ENTITY, POOL, NORM = range(4)
"""Sections of a capture, in the order in which they are hashed."""
Index = tuple[Any, ...]
HashStep = slice | tuple[str, Index]
"""Bytes to hash: a slice of the capture, or part of a named row."""


class Field(NamedTuple):
    """Where the row of an array lies in a capture."""

    start: int
    stop: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    section: int


def _hashed_part(name: str, used: int, p: shapes.LearnerParams) -> Index | None:
    """Return which part of a row is hashed: not the slots that other pools' codes have made room for. None: all of it.

    used: code slots in use
    """
    group, field = name.split(".")
    keep = slice(1 + p.F * (2 if group == "norm" else 1) + used)
    if field == "S":
        return (..., keep, keep)
    if field in ("R", "W", "gradient", "weights") or (field == "gd" and p.gd):
        return (..., keep)
    if field == "embedding" and p.R:
        return (..., slice(p.R + keep.stop))
    if name == "clock.number":  # other entities advance the watermark, too
        return ([loop.LAST, loop.GAP, loop.GAPS],)
    return (keep,) if field == "keys" else None


class CaptureLayout:
    """Where each row lies in the captures of one set of arrays. params: sizes of the arrays"""

    def __init__(self, params: shapes.LearnerParams) -> None:
        self.params = params
        self._size = self._size_without_pool = 0
        self._fields: dict[str, Field] = {}
        self._steps: dict[int, list[list[HashStep]]] = {}  # by code slots in use: a list per section

    def add(self, name: str, row: NDArray[Any], section: int) -> None:
        """Append the row of an array; those of pools come last."""
        stop = self._size + row.nbytes
        self._fields[name] = Field(self._size, stop, row.dtype, row.shape, section)
        self._size = stop
        if section in (NOT_HASHED, ENTITY):
            self._size_without_pool = stop

    def array(self, content: bytes, name: str) -> NDArray[Any]:
        """Return a captured row, read-only."""
        field = self._fields[name]
        return np.ndarray(field.shape, field.dtype, content, field.start)

    def state_hash(self, content: bytes, waiting: bytes) -> str:
        """Return 16 hex digits over all that the entity's next prediction depends on: its own state and its pool's.

        Args:
            content: a capture, with or without a pool
            waiting: the records of events that wait for their targets
        """
        alone = len(content) == self._size_without_pool
        used = 0 if alone else int(self.array(content, "pool.used"))
        if used not in self._steps:
            self._steps[used] = [list(self._hash_steps(section, used)) for section in (ENTITY, POOL, NORM)]
        entity, pool, norm = self._steps[used]
        digest = hashlib.blake2b(digest_size=8)
        self._hash(digest, content, entity)
        digest.update(waiting)
        if not alone:
            self._hash(digest, content, pool)
            # An entity that is alone in its pool does not use the norm scope.
            if self.array(content, "pool.entities") > 1:
                self._hash(digest, content, norm)
        return digest.hexdigest()

    def _hash(self, digest: Any, content: bytes, steps: list[HashStep]) -> None:
        view = memoryview(content)
        for step in steps:
            if isinstance(step, slice):
                digest.update(view[step])
            else:
                name, index = step
                digest.update(self.array(content, name)[index].tobytes())

    def _hash_steps(self, section: int, used: int) -> Iterator[HashStep]:
        """Yield what is hashed of a section: runs of whole adjacent rows, and the used part of others."""
        start = stop = 0
        for name, field in self._fields.items():
            if field.section != section:
                continue
            index = _hashed_part(name, used, self.params)
            if index is None and field.start == stop:
                stop = field.stop
                continue
            if stop > start:
                yield slice(start, stop)
            start, stop = field.start, field.stop
            if index is not None:
                yield name, index
                start = stop
        if stop > start:
            yield slice(start, stop)


class EventCapture:
    """Captures rows of a fixed set of arrays; make a new one when the arrays are replaced (`matches`)."""

    def __init__(
        self,
        params: shapes.LearnerParams,
        report: loop.Reported,
        scratch: shapes.Scratch,
        state: loop.EntityStates,
        shared: loop.PoolStates,
    ) -> None:
        self._arrays = (state, shared, scratch)
        self.layout = layout = CaptureLayout(params)
        self._event = [*report, *(getattr(scratch, name) for name in SCRATCH)]
        for name, array in zip([*(f"report.{name}" for name in report._fields), *SCRATCH], self._event, strict=True):
            layout.add(name, array, NOT_HASHED)
        # A disabled channel has no rows, nor has the norm scope while no pool has two entities.
        entity = [(name, array) for name, array in named_arrays(state) if len(array)]
        pool = [(name, array) for name, array in named_arrays(shared) if len(array)]
        for name, array in entity:
            layout.add(name, array[0], ENTITY)
        for name, array in pool:
            layout.add(name, array[0], NORM if name.startswith("norm.") else POOL)
        self._entity, self._pool = [array for _, array in entity], [array for _, array in pool]

    def matches(self, state: loop.EntityStates, shared: loop.PoolStates, scratch: shapes.Scratch) -> bool:
        """Return whether these are still the arrays that are captured."""
        return self._arrays[0] is state and self._arrays[1] is shared and self._arrays[2] is scratch

    def capture(self, row: int, pool: int | None) -> bytes:
        """Return the present content of these rows. pool: None if the entity has none"""
        # The processor's caches are cold when the kernel has just returned: one call, few objects.
        rows = map(itemgetter(row), self._entity)
        if pool is None:
            return b"".join([*self._event, *rows])
        return b"".join([*self._event, *rows, *map(itemgetter(pool), self._pool)])
