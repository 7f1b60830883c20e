"""Grows and compacts groups of arrays: tuples of tuples of arrays, all with one row an entity, or one row a pool.

Rows are reserved well ahead of those in use. That takes address space only: the operating system assigns memory when a
row is first written. When the reserved rows are used up, each array in turn moves into a larger one. On Linux its pages
are remapped: nothing is copied, and rows that were never written stay without memory. Elsewhere the memory of the old
array is released at once, so that there is never a second copy of the whole state.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import mmap
import time
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssm_stream.core.blocks import Block, Layout, empty_block

RESERVED_PER_ROW = 4
"""Rows reserved for each row that is needed."""
MIN_ROWS = 16
MAX_HEAP_BYTES = 1 << 16
"""Arrays up to this size come from the heap: the number of mappings is limited, and each ends at a page."""
REMAP_FLAGS = 1 | 2 | 4
"""mremap to a fixed address; the old range stays readable, as zeros (MAYMOVE | FIXED | DONTUNMAP)."""
HUGE_PAGE = 1 << 21
"""Bytes of a huge page: one address translation for many rows. Larger arrays begin at one and request them."""
POPULATED, SLOW = 1 << 23, 0.6e-9
"""Bytes that are given memory at once, and seconds of CPU for one from which on huge pages are not worth their time."""
MAP_FAILED = ctypes.c_void_p(-1).value


def named_arrays(groups: Any) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield all arrays with their names, `group.array`."""
    for group_name, group in groups._asdict().items():
        for name, array in group._asdict().items():
            yield f"{group_name}.{name}", array


def rows_to_reserve(needed: int) -> int:
    """Return how many rows to reserve when so many are needed."""
    return max(RESERVED_PER_ROW * needed, MIN_ROWS)


def zeros(rows: int, like: NDArray[Any]) -> NDArray[Any]:
    """Return zeros (rows, …) with rows as in `like` (1, …); an empty array if `like` has no row."""
    shape = (rows * len(like), *like.shape[1:])
    size = like.itemsize * math.prod(shape)
    if size < MAX_HEAP_BYTES:
        return np.zeros(shape, like.dtype)
    huge = size >= 4 * HUGE_PAGE and hasattr(mmap, "MADV_HUGEPAGE")
    try:
        memory = mmap.mmap(-1, size + huge * HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError:  # the number of mappings of a process is limited
        return np.zeros(shape, like.dtype)
    if huge:
        with contextlib.suppress(OSError):  # a kernel without them
            memory.madvise(mmap.MADV_HUGEPAGE)
    return np.ndarray(shape, like.dtype, memory, -_address(memory) % HUGE_PAGE if huge else 0)


def _address(memory: mmap.mmap) -> int:
    return np.frombuffer(memory, np.uint8).ctypes.data


def new_block(rows: int, size: int) -> Block:
    """Return zeros (rows, size bytes)."""
    if rows * size < MAX_HEAP_BYTES:
        return empty_block(rows, size)
    block: Block = zeros(rows, np.empty((1, size), np.uint8))
    return block


def fit_block(old: Block, rows: int, used: int) -> Block:
    """Return a block with so many rows; the first `used` rows of `old` move over, `old` is left empty."""
    new = new_block(rows, old.shape[1])
    size = min(used, len(old)) * old.shape[1]
    before, after = old.reshape(-1), new.reshape(-1)
    moved = _remap_pages(old, new, size)
    after[moved:size] = before[moved:size]
    _release(old, 0)
    return new


def fit_fields(old: Any, block: Block, layout: Layout, rows: int, used: int) -> tuple[Block, Any]:
    """Return a block of another layout and its groups with so many rows; the first `used` rows of `old` move over.

    Args:
        old: groups of arrays, views on `block`, which is left empty; a group that it lacks begins with zeros
    """
    new, count = new_block(rows, layout.size), min(used, len(block))
    groups = layout.views(new)
    for before, after in zip(old, groups, strict=True):
        for source, target in zip(before, after, strict=True):
            if len(source) and len(target):
                target[(slice(count), *map(slice, source.shape[1:]))] = source[:count]
    _release(block, 0)
    return new, groups


def fit_group(old: Any, like: Any, rows: int, used: int) -> Any:
    """Return a group with so many rows; the first `used` rows of `old` move over, `old` is left empty.

    like: arrays of one row each, or of none, which stay empty; an axis after the first may be longer than in `old`
    """
    return type(old)(*(_move(array, one, rows, used) for array, one in zip(old, like, strict=True)))


def _move(old: NDArray[Any], like: NDArray[Any], rows: int, used: int) -> NDArray[Any]:
    new, count = zeros(rows, like), min(used, len(old))
    # Unused rows are not copied: they have no memory.
    if old.shape[1:] == new.shape[1:]:
        size = count * old.nbytes // max(len(old), 1)
        before, after = (array.reshape(-1).view(np.uint8) for array in (old, new))
        moved = _remap_pages(old, new, size)
        after[moved:size] = before[moved:size]
    else:
        kept = (slice(count), *map(slice, old.shape[1:]))
        new[kept] = old[kept]
    _release(old, 0)
    return new


def populate(block: Block, rows: int) -> None:
    """Give memory to the first rows of a block, which are about to be written; then call `request_huge_pages`.

    Huge pages are slow where a virtual machine gets its memory from the host as it is touched: up to 20 times the time
    of pages that were in use before. From there on the block gets pages of the usual size.
    """
    memory, size = block.base, min(rows, len(block)) * block.shape[1]
    if not isinstance(memory, mmap.mmap) or size < 4 * HUGE_PAGE or not hasattr(mmap, "MADV_NOHUGEPAGE"):
        return
    content = block.reshape(-1)
    for at in range(0, size, POPULATED):
        began = time.thread_time()
        content[at : min(at + POPULATED, size) : HUGE_PAGE] |= 0
        if time.thread_time() - began > SLOW * POPULATED:
            with contextlib.suppress(OSError):
                memory.madvise(mmap.MADV_NOHUGEPAGE)
            return


def request_huge_pages(block: Block) -> None:
    """Have the system put huge pages in place of others, in its own time."""
    if isinstance(block.base, mmap.mmap) and block.nbytes >= 4 * HUGE_PAGE and hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):
            block.base.madvise(mmap.MADV_HUGEPAGE)


def _remapper() -> Any:
    """Return the mremap function of the C library; None if it has none."""
    call = getattr(ctypes.CDLL(None), "mremap", None)
    if call is not None:
        call.restype = ctypes.c_void_p
        call.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p]
    return call


_MREMAP = _remapper()


def _remap_pages(old: NDArray[Any], new: NDArray[Any], size: int) -> int:
    """Move whole pages of the first `size` bytes to `new`; return how many bytes moved, 0 if the system cannot remap.

    The old range stays mapped, as zeros: another thread may still be reading it.
    """
    pages = size // mmap.PAGESIZE * mmap.PAGESIZE
    if _MREMAP is None or not pages or not all(isinstance(array.base, mmap.mmap) for array in (old, new)):
        return 0
    found = _MREMAP(old.ctypes.data, pages, pages, REMAP_FLAGS, new.ctypes.data)
    return 0 if found == MAP_FAILED else pages


def moves(count: int, gone: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (to, from): the moves of the last of `count` rows that close the gaps which the `gone` rows leave.

    Args:
        gone: ascending
    """
    left = count - len(gone)
    stay = np.setdiff1d(np.arange(left, count), gone, assume_unique=True)
    return gone[gone < left], stay


def remove_rows(arrays: Iterable[NDArray[Any]], count: int, gone: NDArray[np.int64]) -> None:
    """Remove rows of `count`: the last rows fill the gaps and become zeros. Arrays without rows are left alone."""
    into, stay = moves(count, gone)
    left = count - len(gone)
    for array in arrays:
        if len(array):
            array[into] = array[stay]
            whole = min(max(_release(array, left), left), count)
            array[left:whole] = 0


def _release(array: NDArray[Any], first: int) -> int:
    """Release the memory of whole pages from row `first` on: their rows are zeros again.

    Returns:
        the first row that was released, the number of rows if none was
    """
    memory, row = array.base, array.nbytes // max(len(array), 1)
    start = -(-first * row // mmap.PAGESIZE) * mmap.PAGESIZE
    if not isinstance(memory, mmap.mmap) or start >= array.nbytes:
        return len(array)
    memory.madvise(mmap.MADV_DONTNEED, array.ctypes.data - _address(memory) + start)
    return -(-start // row)
