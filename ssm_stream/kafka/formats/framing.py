"""Which schema a message names: by Confluent's frame before its content, or in a header.

The frame is a zero byte and the schema's id (four bytes, the highest first), or a byte 1 and its GUID (16 bytes). The
header `__value_schema_id` has the same bytes, and nothing stands before the content then. In Protobuf, the indexes of
the message within its schema follow: their number, and each of them, as zigzag varints; a single zero is the first.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import NamedTuple

AnyHeaders = Sequence[tuple[str, str | bytes | None]] | Mapping[str, str | bytes | None] | None
"""Headers of a message, as the client has them."""

HEADER = "__value_schema_id"
FIRST_BYTES = (b"\0", b"\1")
"""First byte of a frame with an id and with a GUID."""
ID_BYTES, GUID_BYTES = 5, 17
"""Length of a frame, its first byte included."""
MAX_DEPTH = 32
"""Indexes of a Protobuf message: each level of nesting is one."""


class Frame(NamedTuple):
    """The schema that a message names.

    key: its id, or its GUID
    content: where the content of the message begins
    indexes: those of Protobuf, where a header has them; None: they are before the content
    """

    key: int | str
    content: int
    indexes: bytes | None = None


def strip_frame(value: bytes | None) -> bytes | None:
    """Return the value without a frame, if it has one. No JSON begins with its first byte."""
    if value is None or value[:1] not in FIRST_BYTES:
        return value
    return value[ID_BYTES if value[:1] == b"\0" else GUID_BYTES :]


def frame_in_headers(headers: AnyHeaders) -> Frame | None:
    """Return the schema that the headers of a message name; None if they name none.

    Raises:
        ValueError: the header is not as it has to be.
    """
    for name, value in headers.items() if isinstance(headers, Mapping) else headers or ():
        if name == HEADER:
            content = value.encode("latin-1") if isinstance(value, str) else value or b""
            found = frame_of(content)
            if found is None:
                raise ValueError(f"the header {HEADER} has {content[:20].hex() or 'nothing'}; it must name a schema")
            return Frame(found.key, 0, content[found.content :])
    return None


def schema_key(value: bytes | None, headers: AnyHeaders) -> int | str | None:
    """Return the id or the GUID of the schema that a message names; None if it names none."""
    try:
        frame = frame_in_headers(headers) or frame_of(value or b"")
    except ValueError:
        return None
    return None if frame is None else frame.key


def frame_of(value: bytes) -> Frame | None:
    """Return the schema that the first bytes of a message name; None if they name none."""
    if value[:1] == b"\0" and len(value) >= ID_BYTES:
        return Frame(int.from_bytes(value[1:ID_BYTES], "big"), ID_BYTES)
    if value[:1] == b"\1" and len(value) >= GUID_BYTES:
        return Frame(str(uuid.UUID(bytes=value[1:GUID_BYTES])), GUID_BYTES)
    return None


def read_indexes(value: bytes, at: int) -> tuple[tuple[int, ...], int]:
    """Return the indexes of a Protobuf message, and where its content begins.

    Raises:
        ValueError: they are cut off, negative, or too many.
    """
    if value[at : at + 1] == b"\0":  # as almost always
        return (0,), at + 1
    count, at = _zigzag(value, at)
    if not 0 < count <= MAX_DEPTH:
        raise ValueError(f"found {count} message indexes")
    found = []
    for _ in range(count):
        index, at = _zigzag(value, at)
        found.append(index)
    if min(found) < 0:
        raise ValueError(f"found the message index {min(found)}")
    return tuple(found), at


def _zigzag(value: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        if at >= len(value) or shift > 63:
            raise ValueError("its message indexes are cut off")
        byte = value[at]
        at += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return (number >> 1) ^ -(number & 1), at
