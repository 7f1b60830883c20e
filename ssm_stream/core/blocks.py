"""State as blocks of bytes, a row an entity or a pool, and numpy's view of the fields in it.

The core gives the place of each field (`native.schema`). A group is a tuple of arrays, views on one block (rows,
bytes); several groups may share a block, each at its place in the row.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from ssm_stream.core import native

LINE = 64  # bytes of a processor's cache: rows begin at one
Group = TypeVar("Group", bound=tuple[Any, ...])
Block = NDArray[np.uint8]


class Schema(NamedTuple):
    """Bytes of a row, and of each field in it: name, type, shape, bytes between its numbers by axis, place."""

    size: int
    fields: tuple[tuple[str, str, tuple[int, ...], tuple[int, ...], int], ...]


def schema(group: str, params: Any = None, size: int = 0) -> Schema:
    """Of a group of state. params: of the learner, where its sizes matter; size: columns, features"""
    numbers = params and params[: params._fields.index("half_life")]  # arrays follow, whose sizes these say
    key = group, size, numbers
    if key not in _SCHEMAS:
        bytes_, fields = native.schema(group, params, size)
        _SCHEMAS[key] = Schema(bytes_, tuple(fields))
    return _SCHEMAS[key]


_SCHEMAS = dict[tuple[Any, ...], Schema]()  # an engine asks for twenty, and at each new code again


def empty_block(rows: int, size: int) -> Block:
    """Zeros (rows, size), beginning at a cache line."""
    memory = np.zeros(rows * size + LINE, np.uint8)
    start = -memory.ctypes.data % LINE
    return memory[start : start + rows * size].reshape(rows, size)


def views(kind: type[Group], of: Schema, block: Block, at: int = 0) -> Group:
    """The fields of a group whose part of each row begins at byte `at`."""
    rows, stride = len(block), block.strides[0]
    data, at = (block, at) if rows else (np.zeros(0, np.uint8), 0)
    return kind(
        **{
            name: np.ndarray((rows, *shape), dtype, data, at + place if rows else 0, (stride, *strides))
            for name, dtype, shape, strides, place in of.fields
        }
    )


class Layout(NamedTuple):
    """Several groups in one block. groups: name, kind, schema, and where it begins in a row; −1: it has no rows"""

    kind: type[Any]
    size: int
    groups: tuple[tuple[str, type[Any], Schema, int], ...]

    def has(self, group: str) -> bool:
        """Return whether rows have the group."""
        return any(name == group and at >= 0 for name, _, _, at in self.groups)

    def views(self, block: Block) -> Any:
        """The groups, as the fields of `kind`."""
        found = {
            name: views(group, of, block, at) if at >= 0 else views(group, of, empty_block(0, of.size))
            for name, group, of, at in self.groups
        }
        return self.kind(*(found[name] for name in self.kind._fields))


def layout(kind: type[Any], groups: list[tuple[str, type[Any], Schema, bool]]) -> Layout:
    """One group after another in each row. groups: name, kind, schema, and whether it is there at all"""
    at, placed = 0, []
    for name, group, of, there in groups:
        if there and of.size % LINE == 0:  # with vectors in it
            at = -(-at // LINE) * LINE
        placed.append((name, group, of, at if there else -1))
        at += of.size if there else 0
    return Layout(kind, -(-at // LINE) * LINE, tuple(placed))


def zeros(kind: type[Group], group: str, rows: int, params: Any = None, size: int = 0) -> Group:
    """A group in a block of its own."""
    of = schema(group, params, size)
    return views(kind, of, empty_block(rows, of.size))
