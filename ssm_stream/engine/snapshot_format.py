"""The format of snapshots: named arrays and JSON metadata, the same in memory and in a file. No pickled classes.

Layout, little-endian: `SSMS`, format version (uint16), zero (uint16), then length and XXH3-64 of the header, length and
XXH3-64 of the body (uint64 each); the header, JSON {"words": {…}, "arrays": [[name, dtype, shape], …]}; the body, which
is the arrays' bytes, one after another. Equal content gives equal bytes.

Only selected rows are copied, a block at a time: a state may fill most of the memory.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray
from xxhash import xxh3_64, xxh3_64_hexdigest

from ssm_stream.core import native

MAGIC = b"SSMS"
VERSION = 9
PREFIX = struct.Struct("<4sHHQQQQ")
BLOCK = 1 << 20
"""Bytes that are written, read and added to the checksum at once: few enough to stay in the processor's cache."""
_ALIGNED = 64
DTYPE_KINDS = "biuf"
"""numpy kinds that arrays may have: numbers only, no objects, no text."""
Rows = tuple[NDArray[np.int64], ...]
"""Selected rows of an array: an index of its first axis or axes."""
Live = dict[str, tuple[NDArray[np.bool_], NDArray[np.bool_]]]
"""Whether each row of the entities and of the pools is loaded, by the prefix of a target."""


class StateError(ValueError):
    """A snapshot that cannot be used; the message has the reason and the cure."""


class BodyError(StateError):
    """A body that differs from its checksum, as is found only where it is read; the cure depends on where it is."""


@contextmanager
def damage_as_state_error() -> Iterator[None]:
    """Turn errors raised by inconsistent content, whose checksums are right, into a `StateError`."""
    try:
        yield
    except StateError:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise StateError(
            f"the snapshot is damaged: its content is inconsistent ({type(error).__name__}: {error})"
        ) from error


class ArrayPart(NamedTuple):
    """An array of a snapshot: `array`, or `array[rows]`, whose rows are gathered while they are written."""

    name: str
    array: NDArray[Any]
    rows: Rows | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape if self.rows is None else (len(self.rows[0]), *self.array.shape[len(self.rows) :])


def bytes_part(name: str, content: bytes) -> ArrayPart:
    """Return content as an array of bytes."""
    return ArrayPart(name, np.frombuffer(content, np.uint8))


def write(file: BinaryIO, metadata: dict[str, Any], parts: list[ArrayPart]) -> str:
    """Write a snapshot; whatever the file held is overwritten.

    Returns:
        its name: 16 hex digits that identify all of the content
    """
    return _write(file, _header(metadata, parts), parts)


def _header(metadata: dict[str, Any], parts: list[ArrayPart]) -> bytes:
    listed = [[part.name, part.array.dtype.str, part.shape] for part in parts]
    return orjson.dumps({"words": metadata, "arrays": listed}, option=orjson.OPT_SORT_KEYS)


def _write(file: BinaryIO, header: bytes, parts: list[ArrayPart]) -> str:
    file.write(bytes(PREFIX.size))
    file.write(header)
    body, size = xxh3_64(), 0
    for block in _blocks(parts):
        body.update(block.data)
        file.write(block.data)
        size += len(block)
    head = xxh3_64(header).intdigest()
    prefix = PREFIX.pack(MAGIC, VERSION, 0, len(header), head, size, body.intdigest())
    file.truncate()
    file.seek(0)
    file.write(prefix)
    return xxh3_64_hexdigest(prefix)


def _blocks(parts: list[ArrayPart]) -> Iterator[NDArray[np.uint8]]:
    """Yield the bytes of arrays in order, several small ones together. A block is valid until the next one."""
    block, used = np.empty(BLOCK, np.uint8), 0
    for _, array, rows in parts:
        if rows is not None and len(rows) > 1:
            yield block[:used]
            used, step = 0, _rows_per_block(array, len(rows))
            for at in range(0, len(rows[0]), step):
                yield array[tuple(index[at : at + step] for index in rows)].reshape(-1).view(np.uint8)
            continue
        index = None if rows is None else rows[0]
        at, count, size = 0, len(array if index is None else index), array.itemsize * math.prod(array.shape[1:])
        while at < count and size:
            some = min((len(block) - used) // size, count - at)
            native.gather_rows(array, index, at, some, block[used:])
            at, used = at + some, used + some * size
            if at < count:
                yield block[:used]
                block, used = block if size <= len(block) else np.empty(size, np.uint8), 0
    yield block[:used]


class SnapshotCopy:
    """The content of a snapshot in memory: what it is taken from may change, and any thread may `write` it. Its arrays
    may be read, in their order, as those of a `SnapshotReader`.

    metadata: as read from a file; size: in bytes, of the file
    memory: that is used as far as it suffices; `memory` is then what suffices for as much again
    blocks: rows of bytes that hold arrays: they are copied whole, which is much faster
    """

    def __init__(
        self,
        metadata: dict[str, Any],
        parts: list[ArrayPart],
        memory: NDArray[np.uint8],
        blocks: Sequence[NDArray[np.uint8]] = (),
    ) -> None:
        self._header, self.prefix = _header(metadata, parts), ""
        self.metadata: dict[str, Any] = orjson.loads(self._header)["words"]
        self.size = PREFIX.size + len(self._header)
        self.size += sum(part.array.itemsize * math.prod(part.shape) for part in parts)
        self.memory, self._used = memory, 0
        rows = dict[tuple[int, int], NDArray[np.uint8]]()
        self._parts = [self._copied(part, blocks, rows) for part in parts]
        self._left = self._parts[::-1]
        if self._used > len(memory):
            self.memory = np.empty(self._used + self._used // 4, np.uint8)

    def _copied(
        self, part: ArrayPart, blocks: Sequence[NDArray[np.uint8]], copies: dict[tuple[int, int], NDArray[np.uint8]]
    ) -> ArrayPart:
        """Return a part whose content is in the memory. copies: of rows of blocks, by block and index"""
        name, array, rows = part
        for block in blocks if rows is not None and len(rows) == 1 and array.size else ():
            begin = array.__array_interface__["data"][0] - block.__array_interface__["data"][0]
            if array.strides[0] != block.strides[0] or not 0 <= begin < block.strides[0]:
                continue
            assert rows is not None
            if (copy := copies.get((id(block), id(rows[0])))) is None:
                copy = self._take(len(rows[0]) * block.shape[1]).reshape(len(rows[0]), -1)
                native.gather_rows(block, rows[0], 0, len(copy), copy)
                copies[id(block), id(rows[0])] = copy
            strides = (copy.strides[0], *array.strides[1:])
            return ArrayPart(name, np.ndarray(part.shape, array.dtype, copy, begin if len(copy) else 0, strides))
        content, at = self._take(array.itemsize * math.prod(part.shape)), 0
        for each in _blocks([part]):
            content[at : at + len(each)], at = each, at + len(each)
        return ArrayPart(name, content.view(array.dtype).reshape(part.shape))

    def _take(self, size: int) -> NDArray[np.uint8]:
        at, self._used = self._used, self._used - (-size // _ALIGNED) * _ALIGNED
        return self.memory[at : at + size] if at + size <= len(self.memory) else np.empty(size, np.uint8)

    def write(self, file: BinaryIO) -> str:
        """Write it to a file; returns its name, as `write` does."""
        return _write(file, self._header, self._parts)

    @property
    def names(self) -> list[str]:
        """Names of the unread arrays that have the prefix, without it, in their order."""
        return [each.name.removeprefix(self.prefix) for each in self._left[::-1] if each.name.startswith(self.prefix)]

    def read(self, name: str) -> NDArray[Any]:
        """Return the next array, which must have this name."""
        found = self._left.pop()
        assert found.name == self.prefix + name
        return found.array.copy()

    def empty(self) -> NDArray[Any]:
        """Skip the next array; return one like it without rows."""
        array = self._left.pop().array
        return np.empty((0, *array.shape[1:]), array.dtype)


def _rows_per_block(array: NDArray[Any], axes: int) -> int:
    return max(BLOCK // max(array.itemsize * math.prod(array.shape[axes:]), 1), 1)


class SnapshotReader:
    """Reads a snapshot array by array, in the order in which they were written, within `checking` or after `check`.

    metadata: as given to `write`; name: as returned by `write`; size: in bytes
    prefix: is put before each array name that a method is given
    live: which rows are loaded; of a target that it lacks: all

    Memory is never reserved for more than the file holds, whatever its header claims.

    Raises:
        StateError: no snapshot, another version, or damaged. So do its methods.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.prefix = file, ""
        self.live: Live = {}
        self._running: xxh3_64 | None = None
        self._block = np.empty(0, np.uint8)
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
        with damage_as_state_error():
            content = orjson.loads(header)
            self.metadata: dict[str, Any] = content["words"]
            self._left: list[tuple[str, np.dtype[Any], tuple[int, ...]]] = [_listed(*row) for row in content["arrays"]]
            # Before any memory is reserved: the arrays are no larger than the file.
            if sum(map(_bytes_of, self._left)) != body or not isinstance(self.metadata, dict):
                raise StateError("the snapshot is damaged: its header does not describe the body")
        self._left.reverse()
        self._start = PREFIX.size + head

    def check(self) -> None:
        """Compare the checksum of the body, before any of it is used."""
        body = xxh3_64()
        self._file.seek(self._start)
        for block in self._read_blocks(self.size - self._start):
            body.update(block)
        if body.intdigest() != self._sum:
            raise BodyError("the snapshot is damaged: the checksum of its body differs")
        self._file.seek(self._start)

    @contextmanager
    def checking(self) -> Iterator[None]:
        """Compare the checksum of the body with what is read meanwhile: all of it, from its beginning to `finish`.

        An error is that of the checksum, where it differs.
        """
        self._running = xxh3_64()
        try:
            yield
        except Exception:
            self.check()
            raise

    def into(self, name: str, array: NDArray[Any], rows: Rows | None = None) -> None:
        """Read the next array, which must have this name, into `array`, or into `array[rows]`; row −1 is left out."""
        dtype, shape = self._next(name)
        part = ArrayPart(name, array, rows)
        if shape != part.shape or dtype != array.dtype:
            raise incompatible_array(name)
        if rows is not None and len(rows) > 1:
            array[rows] = self._filled(np.empty(shape, dtype))
            return
        step, size = _rows_per_block(array, 1), dtype.itemsize * math.prod(shape[1:])
        for at in range(0, shape[0], step):
            some = min(step, shape[0] - at)
            block = self._next_block(some * size)
            native.scatter_rows(array, None if rows is None else rows[0], at, some, block)

    def read(self, name: str) -> NDArray[Any]:
        """Return the next array, which must have this name."""
        dtype, shape = self._next(name)
        return self._filled(np.empty(shape, dtype))

    def copy(self, name: str, file: BinaryIO) -> None:
        """Copy the bytes of the next array, which must have this name, to a file."""
        dtype, shape = self._next(name)
        for block in self._read_blocks(math.prod(shape) * dtype.itemsize):
            file.write(block)

    def empty(self) -> NDArray[Any]:
        """Skip the next array; return one like it without rows."""
        _, dtype, shape = self._left[-1]
        self.skip()
        return np.empty((0, *shape[1:]), dtype)

    def skip(self) -> None:
        """Skip the next array."""
        size = _bytes_of(self._left.pop())
        if self._running is None:
            self._file.seek(size, 1)
            return
        for _ in self._read_blocks(size):
            pass

    @property
    def names(self) -> list[str]:
        """Names of the unread arrays that have the prefix, without it, in their order."""
        return [name.removeprefix(self.prefix) for name, *_ in self._left[::-1] if name.startswith(self.prefix)]

    def row_count(self, name: str) -> int:
        """Return the number of rows of an unread array; 0 if there is no such array."""
        return next((shape[0] for found, _, shape in self._left if found == self.prefix + name and shape), 0)

    def _next(self, name: str) -> tuple[np.dtype[Any], tuple[int, ...]]:
        if not self._left or self._left[-1][0] != self.prefix + name:
            raise incompatible_array(self.prefix + name)
        _, dtype, shape = self._left.pop()
        return dtype, shape

    def _filled(self, array: NDArray[Any]) -> NDArray[Any]:
        """Read the bytes of an array into it, and return it."""
        content = array.reshape(-1).view(np.uint8)
        for at in range(0, len(content), BLOCK):
            self._read_into(content[at : at + BLOCK])
        return array

    def _read_blocks(self, size: int) -> Iterator[memoryview]:
        """Yield the next bytes of the file. A block is valid until the next one."""
        for at in range(0, size, BLOCK):
            yield self._next_block(min(BLOCK, size - at)).data

    def _next_block(self, size: int) -> NDArray[np.uint8]:
        """Return the next bytes of the file, in memory that is used again."""
        if size > len(self._block):
            self._block = np.empty(max(size, BLOCK), np.uint8)
        self._read_into(self._block[:size])
        return self._block[:size]

    def _read_into(self, block: NDArray[np.uint8]) -> None:
        if self._file.readinto(block.data) != len(block):  # type: ignore[attr-defined]
            raise StateError("the snapshot is damaged: it ends too early")
        if self._running is not None:
            self._running.update(block.data)

    def finish(self) -> None:
        """Check that every array has been read, and within `checking` their checksum."""
        if self._left:
            raise incompatible_array(self._left[-1][0])
        running, self._running = self._running, None
        if running is not None and running.intdigest() != self._sum:
            raise BodyError("the snapshot is damaged: the checksum of its body differs")


def _listed(name: Any, dtype: Any, shape: Any) -> tuple[str, np.dtype[Any], tuple[int, ...]]:
    """Return an array's entry of the header, checked."""
    number = np.dtype(dtype)
    sizes = all(type(size) is int and size >= 0 for size in shape)
    if not isinstance(name, str) or not isinstance(dtype, str) or number.kind not in DTYPE_KINDS or not sizes:
        raise StateError("the snapshot is damaged: its header lists something that is no array of numbers")
    return name, number, tuple(shape)


def _bytes_of(listed: tuple[str, np.dtype[Any], tuple[int, ...]]) -> int:
    return math.prod(listed[2]) * listed[1].itemsize


def incompatible_array(name: str) -> StateError:
    """Return the error for a snapshot whose arrays are not those of this release."""
    return StateError(
        f"the snapshot's `{name}` is not what this release keeps: use the release that wrote it, or start anew with "
        "another recovery.directory"
    )


def read_bytes(reader: SnapshotReader | SnapshotCopy, name: str) -> bytes:
    """Return the next array, which must have this name and be bytes, as `bytes_part` made it."""
    array = reader.read(name)
    if array.dtype != np.uint8 or array.ndim != 1:
        raise incompatible_array(name)
    return array.tobytes()
