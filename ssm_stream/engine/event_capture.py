"""Captures the state of an entity and its pool at one event as bytes, for an alert that may need it later.

The kernel reports an event and then goes on, changing every array. Most reported events never become a message, and the
message's details are expensive to compute: so the rows are copied as they are, and evaluated only when needed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.core import loop, shapes
from ssm_stream.core.blocks import Block
from ssm_stream.engine.memory.growable_arrays import named_arrays

SCRATCH = ("flag", "fleet", "entity", "g", "places")
"""Arrays of the scratch that the details of an alert are computed from."""
NOT_HASHED, ENTITY, POOL, NORM, TRIAL, TRIAL_NORM = range(6)
"""Sections of a capture, in the order in which they are hashed."""
SECTIONS = {"norm": NORM, "challenger_norm": TRIAL_NORM} | dict.fromkeys(
    ("trial", "challenger", "challenger_pool", "challenger_fleet"), TRIAL
)
"""Sections of the groups of arrays that are not there, or not hashed, for each entity and pool."""
Index = tuple[Any, ...]
HashStep = slice | tuple[str, Index | None]
"""What to hash: bytes of a capture, or part of a named row, or all of it."""


class Field(NamedTuple):
    """Where the row of an array lies in a capture. size: its bytes; None: others lie between them"""

    start: int
    size: int | None
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    section: int


def _hashed_part(name: str, used: int, p: shapes.LearnerParams) -> Index | None:
    """Return which part of a row is hashed: not the slots that other pools' codes have made room for. None: all of it.

    used: code slots in use
    """
    group, field = name.split(".")
    if field in ("product_S", "product_R", "product_W", "product_batch") and p.products:
        at = slice(p.X - p.K + used)
        return (at, at) if field == "product_S" else (..., at)
    keep = slice(1 + p.F * (2 if group in ("norm", "challenger_norm") else 1) + used)
    if field == "S":
        return (..., keep, keep)
    if field in ("R", "W", "batch", "gradient", "weights") or (field == "gd" and p.gd):
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
        self.size_without_pool = 0
        self._fields: dict[str, Field] = {}
        self._steps: dict[int, list[list[HashStep]]] = {}  # by code slots in use: a list per section

    def add(self, name: str, row: NDArray[Any], start: int, section: int) -> None:
        """Add the row of an array that begins at that byte, in the order in which rows are hashed."""
        size = row.nbytes if row.flags.c_contiguous else None
        self._fields[name] = Field(start, size, row.dtype, row.shape, row.strides, section)

    def __contains__(self, name: str) -> bool:
        """Return whether captures have this array."""
        return name in self._fields

    def array(self, content: bytes, name: str) -> NDArray[Any]:
        """Return a captured row, read-only."""
        field = self._fields[name]
        return np.ndarray(field.shape, field.dtype, content, field.start, field.strides)

    def state_hash(self, content: bytes, waiting: bytes) -> str:
        """Return 16 hex digits over all that the entity's next prediction depends on: its own state and its pool's.

        Args:
            content: a capture, with or without a pool
            waiting: the records of events that wait for their targets
        """
        alone = len(content) == self.size_without_pool
        used = 0 if alone else int(self.array(content, "pool.used"))
        if used not in self._steps:
            self._steps[used] = [list(self._hash_steps(section, used)) for section in range(ENTITY, TRIAL_NORM + 1)]
        entity, pool, norm, trial, trial_norm = self._steps[used]
        digest = hashlib.blake2b(digest_size=8)
        self._hash(digest, content, entity)
        digest.update(waiting)
        if not alone:
            self._hash(digest, content, pool)
            # An entity that is alone in its pool does not use the norm scope.
            several = self.array(content, "pool.entities") > 1
            if several:
                self._hash(digest, content, norm)
            if "trial.number" in self and self.array(content, "trial.number")[loop.STAGE_OF_TRIAL] != loop.TRIAL_OVER:
                self._hash(digest, content, trial)
                if several:
                    self._hash(digest, content, trial_norm)
        return digest.hexdigest()

    def _hash(self, digest: Any, content: bytes, steps: list[HashStep]) -> None:
        whole, parts = memoryview(content), list[bytes | memoryview]()
        for step in steps:
            if isinstance(step, slice):
                parts.append(whole[step])
                continue
            name, index = step
            row = self.array(content, name)
            parts.append((row if index is None else row[index]).tobytes())
        digest.update(b"".join(parts))  # once: an update takes locks

    def _hash_steps(self, section: int, used: int) -> Iterator[HashStep]:
        """Yield what is hashed of a section, in order: rows that follow each other at once."""
        begin = end = 0
        for name, field in self._fields.items():
            if field.section != section:
                continue
            index = _hashed_part(name, used, self.params)
            size = field.size if index is None else None
            if end > begin and (size is None or field.start != end):
                yield slice(begin, end)
                begin = end = 0
            if size is None:
                yield name, index
            else:
                begin, end = begin if end > begin else field.start, field.start + size
        if end > begin:
            yield slice(begin, end)


class EventCapture:
    """Captures rows of a fixed set of arrays; make a new one when the arrays are replaced (`matches`).

    blocks: of the entities and of the pools, on which the arrays are views
    """

    def __init__(
        self,
        params: shapes.LearnerParams,
        report: loop.Reported,
        scratch: shapes.Scratch,
        state: loop.EntityStates,
        shared: loop.PoolStates,
        blocks: tuple[Block, Block],
    ) -> None:
        self._arrays = (state, shared, scratch)
        self._entities, self._pools = blocks
        self.layout = layout = CaptureLayout(params)
        self._event = [*report, *(getattr(scratch, name) for name in SCRATCH)]
        at = 0
        for name, array in zip([*(f"report.{name}" for name in report._fields), *SCRATCH], self._event, strict=True):
            layout.add(name, array, at, NOT_HASHED)
            at += array.nbytes
        # A disabled channel has no rows, nor has the norm scope while no pool has two entities.
        for groups, block in ((state, self._entities), (shared, self._pools)):
            for name, array in named_arrays(groups):
                if len(array):
                    name = f"pool_{name}" if name in layout else name  # entities and pools have a group of this name
                    section = SECTIONS.get(name.partition(".")[0], ENTITY if groups is state else POOL)
                    layout.add(name, array[0], at + array.ctypes.data - block.ctypes.data, section)
            at += block.shape[1]
        layout.size_without_pool = at - self._pools.shape[1]

    def matches(self, state: loop.EntityStates, shared: loop.PoolStates, scratch: shapes.Scratch) -> bool:
        """Return whether these are still the arrays that are captured."""
        return self._arrays[0] is state and self._arrays[1] is shared and self._arrays[2] is scratch

    def capture(self, row: int, pool: int | None) -> bytes:
        """Return the present content of these rows. pool: None if the entity has none"""
        # The processor's caches are cold when the core has just returned: one call, few objects.
        if pool is None:
            return b"".join([*self._event, self._entities[row]])
        return b"".join([*self._event, self._entities[row], self._pools[pool]])
