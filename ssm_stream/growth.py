"""Rows of groups of arrays (a tuple of tuples of arrays, all with a row an entity, or a row a pool): grown, closed up.

Arrays grow in place: a large one is moved by the kernel's page tables (`mremap` behind `realloc`), so growing costs
neither a copy nor a second state's memory, and so small steps are cheap. No view of an array may live across it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray


def arrays_of(groups: Any) -> list[NDArray[Any]]:
    """All arrays of a tuple of tuples, in their order."""
    return [array for group in groups for array in group]


def named(groups: Any) -> Iterator[tuple[str, NDArray[Any]]]:
    """All arrays with their names: group.array."""
    for group_name, group in groups._asdict().items():
        for name, array in group._asdict().items():
            yield f"{group_name}.{name}", array


def more_rows(have: int, needed: int) -> int:
    """Rows to make room for: an eighth more than there are, at least."""
    return max(needed, have + max(have // 8, 16))


def resize(array: NDArray[Any], rows: int) -> None:
    """So many rows, in place; new ones are zeros."""
    array.resize((rows, *array.shape[1:]), refcheck=False)


def fit(old: Any, new: Any) -> Any:
    """`old` with the shapes of `new`, whose arrays are zeros: more or fewer rows, or wider ones.

    Where rows are wider, array after array is copied, and freed at once.
    """
    return type(old)(*(type(mine)(*map(_fit_array, mine, other)) for mine, other in zip(old, new, strict=True)))


def _fit_array(old: NDArray[Any], new: NDArray[Any]) -> NDArray[Any]:
    if old.shape[1:] == new.shape[1:]:
        resize(old, len(new))
        return old
    new[tuple(map(slice, old.shape))] = old
    resize(old, 0)
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
    for array in arrays:
        if len(array):
            array[into] = array[stay]
            array[count - len(gone) : count] = 0
