"""Rows of groups of arrays (a tuple of tuples of arrays, all with a row an entity, or a row a pool): grown, closed up.

Rows are reserved well ahead of those in use. That takes address space only: the kernel gives memory as rows are first
written. When the room is used up, array after array moves into a larger one. Its pages move with it, where the system
can do that (Linux): nothing is copied, and what was never written stays without memory. Else what was left is given
back at once, so that there is never a second state in memory.
"""

from __future__ import annotations

import ctypes
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
MOVES = 1 | 2 | 4
"""mremap: to a fixed place, and what is left stays readable, as zeros (MAYMOVE | FIXED | DONTUNMAP)."""
FAILED = ctypes.c_void_p(-1).value


def arrays_of(groups: Any) -> list[NDArray[Any]]:
    """All arrays of a tuple of tuples, in their order."""
    return [array for group in groups for array in group]


def named_arrays(groups: Any) -> Iterator[tuple[str, NDArray[Any]]]:
    """All arrays with their names: group.array."""
    for group_name, group in groups._asdict().items():
        for name, array in group._asdict().items():
            yield f"{group_name}.{name}", array


def room_for(needed: int) -> int:
    """Rows to reserve."""
    return max(AHEAD * needed, LEAST)


def zeros(rows: int, like: NDArray[Any]) -> NDArray[Any]:
    """Zeros (rows, …), a row as in `like` (1, …); none where `like` has no row."""
    shape = (rows * len(like), *like.shape[1:])
    size = like.itemsize * math.prod(shape)
    if size < SMALL:
        return np.zeros(shape, like.dtype)
    try:
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError:  # a process may have so many mappings only
        return np.zeros(shape, like.dtype)
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
    new, count = zeros(rows, like), min(used, len(old))
    # Rows out of use are left alone: they have no memory.
    if old.shape[1:] == new.shape[1:]:
        size = count * old.nbytes // max(len(old), 1)
        before, after = (array.reshape(-1).view(np.uint8) for array in (old, new))
        moved = _pages_moved(old, new, size)
        after[moved:size] = before[moved:size]
    else:
        kept = (slice(count), *map(slice, old.shape[1:]))
        new[kept] = old[kept]
    _give_back(old, 0)
    return new


def _remapper() -> Any:
    """The system's mremap; None where there is none."""
    call = getattr(ctypes.CDLL(None), "mremap", None)
    if call is not None:
        call.restype = ctypes.c_void_p
        call.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p]
    return call


_MREMAP = _remapper()


def _pages_moved(old: NDArray[Any], new: NDArray[Any], size: int) -> int:
    """Bytes of the first `size` whose pages were moved: all whole ones, or none where the system cannot do that.

    Nobody finds a hole where the old array was, which another thread may be reading: there are zeros.
    """
    pages = size // mmap.PAGESIZE * mmap.PAGESIZE
    if _MREMAP is None or not pages or not all(isinstance(array.base, mmap.mmap) for array in (old, new)):
        return 0
    found = _MREMAP(old.ctypes.data, pages, pages, MOVES, new.ctypes.data)
    return 0 if found == FAILED else pages


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
