"""Values computed once per entity name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

MAX_NAMES = 1_000_000
MAX_BYTES = 64 * 1024**2
Value = TypeVar("Value")


class BoundedCache(dict[str, Value]):
    """Name → the value computed from it. Bounded, so that unlimited distinct names cannot exhaust memory: at the bound
    it starts empty again."""

    def __init__(self, compute: Callable[[str], Value]) -> None:
        super().__init__()
        self._compute: Callable[[str], Value] = compute
        self._bytes = 0

    def values_of(self, names: list[str]) -> list[Value]:
        """Return the value of each name, computed where it is new."""
        try:
            return list(map(self.__getitem__, names))
        except KeyError:
            new = set(names) - self.keys()
            self._bytes += sum(map(len, new))
            if len(self) > MAX_NAMES or self._bytes > MAX_BYTES:
                self.clear()
                new, self._bytes = set(names), 0
            self.update((name, self._compute(name)) for name in new)
            return list(map(self.__getitem__, names))
