"""Snapshots: arrays with names and a few words about them, the same in memory and in a file. No pickled classes.

Layout, little-endian: `SSMS`, format version (uint16), zero (uint16), then length and XXH3-64 of the header, length and
XXH3-64 of the body (uint64 each); the header, JSON {"words": {…}, "arrays": [[name, dtype, shape], …]}; the body, which
is the arrays' bytes, one after another. Equal content gives equal bytes.

Nothing is copied on the way but rows that are picked out, a block at a time: a state may fill most of the memory.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray
from xxhash import xxh3_64, xxh3_64_hexdigest

MAGIC = b"SSMS"
VERSION = 3
PREFIX = struct.Struct("<4sHHQQQQ")
BLOCK = 1 << 20
"""Bytes that are written, read and added to the checksum at once: they stay in the cache meanwhile."""
KINDS = "biuf"
"""Kinds of numbers that arrays hold, as numpy names them: no objects, no text."""
Rows = tuple[NDArray[np.int64], ...]
"""What to pick out of an array, as an index of its first axis or axes."""


class StateError(ValueError):
    """A snapshot that cannot be used; the text says why and what to do."""


@contextmanager
def sound() -> Iterator[None]:
    """What does not hold together in a snapshot's content, its checksums notwithstanding, is a `StateError` too."""
    try:
        yield
    except StateError:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise StateError(
            f"the snapshot is damaged: what it says does not hold together ({type(error).__name__}: {error})"
        ) from error


class ArrayPart(NamedTuple):
    """An array of a snapshot: `array`, or `array[rows]`, which is gathered while it is written."""

    name: str
    array: NDArray[Any]
    rows: Rows | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape if self.rows is None else (len(self.rows[0]), *self.array.shape[len(self.rows) :])


def text_part(name: str, content: bytes) -> ArrayPart:
    """Text, as an array of bytes."""
    return ArrayPart(name, np.frombuffer(content, np.uint8))


def write(file: BinaryIO, words: dict[str, Any], parts: list[ArrayPart]) -> str:
    """A snapshot, over all that a file holds.

    Returns:
        its name: 16 hex digits that stand for all of the content
    """
    listed = [[part.name, part.array.dtype.str, part.shape] for part in parts]
    header = orjson.dumps({"words": words, "arrays": listed}, option=orjson.OPT_SORT_KEYS)
    file.write(bytes(PREFIX.size))
    file.write(header)
    body, size = xxh3_64(), 0
    for part in parts:
        for block in _blocks(part):
            body.update(block.data)
            file.write(block.data)
            size += len(block)
    head = xxh3_64(header).intdigest()
    prefix = PREFIX.pack(MAGIC, VERSION, 0, len(header), head, size, body.intdigest())
    file.truncate()
    file.seek(0)
    file.write(prefix)
    return xxh3_64_hexdigest(prefix)


def _blocks(part: ArrayPart) -> Iterator[NDArray[np.uint8]]:
    array, rows = part.array, part.rows
    if rows is None:
        content = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        for at in range(0, len(content), BLOCK):
            yield content[at : at + BLOCK]
        return
    step = _rows_a_block(array, len(rows))
    for at in range(0, len(rows[0]), step):
        yield array[tuple(index[at : at + step] for index in rows)].reshape(-1).view(np.uint8)


def _rows_a_block(array: NDArray[Any], axes: int) -> int:
    return max(BLOCK // max(array.itemsize * math.prod(array.shape[axes:]), 1), 1)


class SnapshotReader:
    """A snapshot that is read array by array, in the order in which they were written. `check` it first.

    metadata: as it was given to `write`; name: what `write` returned; size: bytes
    prefix: of the names that are asked for

    No room is made for more than the file holds, whatever its header says.

    Raises:
        StateError: no snapshot, another version, or damaged. So do its methods.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.prefix = file, ""
        self.size = file.seek(0, 2)
        file.seek(0)
        prefix = file.read(PREFIX.size)
        if len(prefix) < PREFIX.size or prefix[:4] != MAGIC:
            raise StateError("this is not an ssm-stream snapshot")
        _, version, zero, head, head_sum, body, self._sum = PREFIX.unpack(prefix)
        if version != VERSION:
            raise StateError(
                f"the snapshot has format {version}, this release reads {VERSION}: use the release that wrote it, or "
                "start anew with another recovery.directory"
            )
        if PREFIX.size + head + body != self.size:
            raise StateError(f"the snapshot is damaged: {self.size} bytes instead of {PREFIX.size + head + body}")
        header = file.read(head)
        if zero or xxh3_64(header).intdigest() != head_sum:
            raise StateError("the snapshot is damaged: the checksum of its header differs")
        self.name = xxh3_64_hexdigest(prefix)
        with sound():
            content = orjson.loads(header)
            self.metadata: dict[str, Any] = content["words"]
            self._left: list[tuple[str, np.dtype[Any], tuple[int, ...]]] = [_listed(*row) for row in content["arrays"]]
            # Before any room is made for them: the arrays are no larger than the file.
            if sum(map(_bytes_of, self._left)) != body or not isinstance(self.metadata, dict):
                raise StateError("the snapshot is damaged: its header does not describe what follows")
        self._left.reverse()

    def check(self) -> None:
        """Compare the checksum of the body, before anything is read of it."""
        body, start = xxh3_64(), self._file.tell()
        while block := self._file.read(BLOCK):
            body.update(block)
        if body.intdigest() != self._sum:
            raise StateError("the snapshot is damaged: the checksum of its body differs")
        self._file.seek(start)

    def into(self, name: str, array: NDArray[Any], rows: Rows | None = None) -> None:
        """Read the next array, which must be this one, into `array` (contiguous), or into `array[rows]`."""
        dtype, shape = self._next(name)
        part = ArrayPart(name, array, rows)
        if shape != part.shape or dtype != array.dtype:
            raise unlike(name)
        if rows is None:
            self._fill(array)
            return
        step = _rows_a_block(array, len(rows))
        for at in range(0, len(rows[0]), step):
            picked = tuple(index[at : at + step] for index in rows)
            block = np.empty((len(picked[0]), *shape[1:]), dtype)
            self._fill(block)
            array[picked] = block

    def read(self, name: str) -> NDArray[Any]:
        """The next array, which must have this name."""
        dtype, shape = self._next(name)
        array = np.empty(shape, dtype)
        self._fill(array)
        return array

    def copy(self, name: str, file: BinaryIO) -> None:
        """The bytes of the next array, which must have this name, into a file."""
        dtype, shape = self._next(name)
        left = math.prod(shape) * dtype.itemsize
        while left:
            block = self._file.read(min(left, BLOCK))
            if not block:
                raise StateError("the snapshot is damaged: it ends too early")
            file.write(block)
            left -= len(block)

    def skip(self) -> None:
        """Leave the next array out."""
        self._file.seek(_bytes_of(self._left.pop()), 1)

    @property
    def names(self) -> list[str]:
        """The arrays still to come under the prefix, without it, in their order."""
        return [name.removeprefix(self.prefix) for name, *_ in self._left[::-1] if name.startswith(self.prefix)]

    def rows_of(self, name: str) -> int:
        """Rows of an array still to come; 0 where it is not."""
        return next((shape[0] for found, _, shape in self._left if found == self.prefix + name and shape), 0)

    def _next(self, name: str) -> tuple[np.dtype[Any], tuple[int, ...]]:
        if not self._left or self._left[-1][0] != self.prefix + name:
            raise unlike(self.prefix + name)
        _, dtype, shape = self._left.pop()
        return dtype, shape

    def _fill(self, array: NDArray[Any]) -> None:
        content = array.reshape(-1).view(np.uint8)
        for at in range(0, len(content), BLOCK):
            block = content[at : at + BLOCK].data
            if self._file.readinto(block) != len(block):  # type: ignore[attr-defined]
                raise StateError("the snapshot is damaged: it ends too early")

    def finish(self) -> None:
        """Everything has been read."""
        if self._left:
            raise unlike(self._left[-1][0])


def _listed(name: Any, dtype: Any, shape: Any) -> tuple[str, np.dtype[Any], tuple[int, ...]]:
    """An array as a header lists it."""
    number = np.dtype(dtype)
    sizes = all(type(size) is int and size >= 0 for size in shape)
    if not isinstance(name, str) or not isinstance(dtype, str) or number.kind not in KINDS or not sizes:
        raise StateError("the snapshot is damaged: its header lists what is no array of numbers")
    return name, number, tuple(shape)


def _bytes_of(listed: tuple[str, np.dtype[Any], tuple[int, ...]]) -> int:
    return math.prod(listed[2]) * listed[1].itemsize


def unlike(name: str) -> StateError:
    """A snapshot whose arrays are not those of this release."""
    return StateError(
        f"the snapshot's `{name}` is not what this release keeps: use the release that wrote it, or start anew with "
        "another recovery.directory"
    )
