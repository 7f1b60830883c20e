"""What is remembered of entities' names, up to a bound: whoever sends names without end may not fill the memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

NAMES_KEPT = 1_000_000
BYTES_KEPT = 64 * 1024**2
Name = TypeVar("Name", str, bytes)
Value = TypeVar("Value")


class Remembered(dict[Name, Value]):
    """Name → what is made of it. Where the bound is reached, it begins anew."""

    def __init__(self, make: Callable[[Name], Value]) -> None:
        super().__init__()
        self._make: Callable[[Name], Value] = make
        self._size = 0

    def of(self, names: list[Name]) -> list[Value]:
        """What each of the names stands for."""
        try:
            return list(map(self.__getitem__, names))
        except KeyError:
            new = set(names) - self.keys()
            self._size += sum(map(len, new))
            if len(self) > NAMES_KEPT or self._size > BYTES_KEPT:
                self.clear()
                new, self._size = set(names), 0
            self.update((name, self._make(name)) for name in new)
            return list(map(self.__getitem__, names))
