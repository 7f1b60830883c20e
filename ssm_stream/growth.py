"""Rows of groups of arrays (a tuple of tuples of arrays, all with a row an entity, or a row a pool): grown, closed up.

Rows are reserved well ahead of those in use. That takes address space only: the kernel gives memory as rows are first
written. When the room is used up, array after array moves into a larger one, and what it left is given back at once, so
that there is never a second state in memory.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

AHEAD = 4
"""Rows reserved for each that is needed."""
LEAST = 16
SMALL = 1 << 16
"""Bytes up to which memory comes from the heap: mappings are counted, and end at a page."""
HUGE = 1 << 20
"""Bytes in use from which huge pages are asked for, half of one: rows are met at random, and a page costs a look-up each
time, as it costs a fault when it is first written."""


def arrays_of(groups: Any) -> list[NDArray[Any]]:
    """All arrays of a tuple of tuples, in their order."""
    return [array for group in groups for array in group]


def named(groups: Any) -> Iterator[tuple[str, NDArray[Any]]]:
    """All arrays with their names: group.array."""
    for group_name, group in groups._asdict().items():
        for name, array in group._asdict().items():
            yield f"{group_name}.{name}", array


def room_for(needed: int) -> int:
    """Rows to reserve."""
    return max(AHEAD * needed, LEAST)


def zeros(rows: int, like: NDArray[Any], used: int = 0) -> NDArray[Any]:
    """Zeros (rows, …), a row as in `like` (1, …). used: rows that will be in use soon; none where `like` has no row."""
    shape = (rows * len(like), *like.shape[1:])
    size = like.itemsize * math.prod(shape)
    if size < SMALL:
        return np.zeros(shape, like.dtype)
    try:
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError:  # a process may have so many mappings only
        return np.zeros(shape, like.dtype)
    if used * like.nbytes >= HUGE and hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return np.ndarray(shape, like.dtype, memory)


def fit(old: Any, like: Any, rows: int, used: int) -> Any:
    """The first `used` rows of all groups in so many rows, which are as in the groups `like`.

    like: arrays of one row, or none, which stays so; an axis after the first may be longer than in `old`
    """
    return type(old)(*(fit_group(group, ones, rows, used) for group, ones in zip(old, like, strict=True)))


def fit_group(old: Any, like: Any, rows: int, used: int) -> Any:
    """`fit` for one group."""
    return type(old)(*(_moved(array, one, rows, used) for array, one in zip(old, like, strict=True)))


def _moved(old: NDArray[Any], like: NDArray[Any], rows: int, used: int) -> NDArray[Any]:
    new = zeros(rows, like, used)
    # Rows out of use are left alone: they have no memory.
    kept = (slice(min(used, len(old))), *map(slice, old.shape[1:]))
    new[kept] = old[kept]
    _give_back(old, 0)
    return new


def moves(count: int, gone: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(to, from): where the last of `count` rows move, so that no row is left between when the `gone` ones are not.

    Args:
        gone: ascending
    """
    left = count - len(gone)
    stay = np.setdiff1d(np.arange(left, count), gone, assume_unique=True)
    return gone[gone < left], stay


def close(arrays: Iterable[NDArray[Any]], count: int, gone: NDArray[np.int64]) -> None:
    """Drop rows of `count`: the last ones take their places, and zeros theirs. Arrays without rows stay so."""
    into, stay = moves(count, gone)
    left = count - len(gone)
    for array in arrays:
        if len(array):
            array[into] = array[stay]
            whole = min(max(_give_back(array, left), left), count)
            array[left:whole] = 0


def _give_back(array: NDArray[Any], first: int) -> int:
    """Give the memory of rows from `first` on back, as far as it is whole pages: they are zeros again.

    Returns:
        the first row that is so, the number of rows where none is
    """
    memory, row = array.base, array.nbytes // max(len(array), 1)
    start = -(-first * row // mmap.PAGESIZE) * mmap.PAGESIZE
    if not isinstance(memory, mmap.mmap) or start >= array.nbytes:
        return len(array)
    memory.madvise(mmap.MADV_DONTNEED, start)
    return -(-start // row)
