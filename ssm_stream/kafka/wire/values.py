"""Values of messages without an object for each: they stay where the native core has written them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import overload

from ssm_stream.core import native


class WrittenValues(Sequence[bytes]):
    """Values that were written one behind the other; objects are made of those that are needed one by one."""

    def __init__(self, rows: native.JsonRows) -> None:
        self.native, self._size = rows, len(rows)

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.native.rows())

    @overload
    def __getitem__(self, at: int) -> bytes: ...
    @overload
    def __getitem__(self, at: slice) -> list[bytes]: ...
    def __getitem__(self, at: int | slice) -> bytes | list[bytes]:
        if isinstance(at, slice):
            return [self.native.row(i) for i in range(*at.indices(self._size))]
        if not -self._size <= at < self._size:
            raise IndexError(at)
        return self.native.row(at % self._size)
