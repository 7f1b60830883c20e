"""Avro records of numbers and texts, without nesting, in half of fastavro's time.

Such a record is a few texts and whole numbers, and runs of doubles: each of these is read at once. Whatever is unusual
(a value that is cut off, a number of more than 64 bits, …) is left to fastavro, which reads it or names the fault; what
is read here equals its result.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from itertools import groupby
from typing import Any, NamedTuple

from fastavro.read import LOGICAL_READERS

Part = Callable[[bytes, int, list[Any]], int]
"""Appends the values that begin at a place, and returns where they end."""
FIXED = {"double": "d", "float": "f"}
MAX_SHIFT = 56
"""Shift of the last byte of a number that surely fits in 64 bits."""


class UnusualError(ValueError):
    """The value is left to fastavro."""


def flat_reader(schema: dict[str, Any]) -> Callable[[bytes, int], dict[str, Any] | None] | None:
    """Return the function that reads records of a parsed schema; it returns None for one that is left to fastavro. None
    if the schema has more than numbers and texts."""
    if schema.get("type") != "record":
        return None
    kinds = [_kind(field["type"]) for field in schema["fields"]]
    if None in kinds:
        return None
    names = [field["name"] for field in schema["fields"]]
    parts: list[Part] = []
    for kind, run in groupby(kinds):
        assert kind is not None
        size = len(list(run))
        parts += [_run(kind, size)] if kind.name in FIXED else [_part(kind)] * size

    def read(value: bytes, at: int) -> dict[str, Any] | None:
        found: list[Any] = []
        try:
            for part in parts:
                at = part(value, at, found)
        except (IndexError, struct.error, UnicodeDecodeError, UnusualError):
            return None
        return dict(zip(names, found, strict=True)) if at == len(value) else None

    return read


class Kind(NamedTuple):
    """The type of a field.

    more: logical reader of a whole number, or symbols of an enum
    branch: of its values, where null is the other one
    """

    name: str
    more: Any = None
    branch: int | None = None


def _kind(schema: Any) -> Kind | None:
    """Return the type of a field; None for one that is not read here."""
    if isinstance(schema, list):
        if len(schema) != 2 or "null" not in schema:
            return None
        branch = 1 - schema.index("null")
        inner = None if isinstance(schema[branch], list) else _kind(schema[branch])
        return None if inner is None else inner._replace(branch=branch)
    kind = schema if isinstance(schema, str) else schema["type"]
    logical = None if isinstance(schema, str) else schema.get("logicalType")
    if kind in FIXED or kind in ("string", "boolean"):
        return None if logical and f"{kind}-{logical}" in LOGICAL_READERS else Kind(kind)
    if kind in ("int", "long"):
        return Kind("long", LOGICAL_READERS.get(f"{kind}-{logical}"))
    if kind == "enum" and not isinstance(schema, str):
        return Kind("enum", tuple(schema["symbols"]))
    return None


def _run(kind: Kind, size: int) -> Part:
    """Return what reads several doubles or floats in a row."""
    letter, branch = FIXED[kind.name], kind.branch
    if branch is None:
        every = struct.Struct(f"<{size}{letter}")

        def read(value: bytes, at: int, found: list[Any]) -> int:
            found += every.unpack_from(value, at)
            return at + every.size

        return read
    one, marked = struct.Struct(f"<{letter}"), struct.Struct(f"<{f'B{letter}' * size}")
    mark, null = 2 * branch, 2 - 2 * branch
    marks = (mark,) * size

    def read_marked(value: bytes, at: int, found: list[Any]) -> int:
        if len(value) >= at + marked.size:
            values = marked.unpack_from(value, at)
            if values[::2] == marks:  # as almost always: none is null
                found += values[1::2]
                return at + marked.size
        for _ in range(size):
            if value[at] == mark:
                found += one.unpack_from(value, at + 1)
                at += 1 + one.size
            elif value[at] == null:
                found.append(None)
                at += 1
            else:
                raise UnusualError
        return at

    return read_marked


def _part(kind: Kind) -> Part:
    name, more, branch = kind
    read: Part = _truth if name == "boolean" else _text
    if name not in ("string", "boolean"):
        read = _symbol(more) if name == "enum" else _whole(more)
    if branch is None:
        return read
    mark, null = 2 * branch, 2 - 2 * branch

    def read_marked(value: bytes, at: int, found: list[Any]) -> int:
        if value[at] == mark:
            return read(value, at + 1, found)
        if value[at] != null:
            raise UnusualError
        found.append(None)
        return at + 1

    return read_marked


def _number(value: bytes, at: int) -> tuple[int, int]:
    """Return a whole number, and where it ends."""
    byte = value[at]
    number, shift = byte & 0x7F, 7
    while byte > 0x7F:
        if shift > MAX_SHIFT:
            raise UnusualError
        at += 1
        byte = value[at]
        number |= (byte & 0x7F) << shift
        shift += 7
    return (number >> 1) ^ -(number & 1), at + 1


def _whole(convert: Callable[[Any, Any, Any], Any] | None) -> Part:
    def read(value: bytes, at: int, found: list[Any]) -> int:
        number, at = _number(value, at)
        found.append(number if convert is None else convert(number, None, None))
        return at

    return read


def _symbol(symbols: tuple[str, ...]) -> Part:
    def read(value: bytes, at: int, found: list[Any]) -> int:
        index, at = _number(value, at)
        if not 0 <= index < len(symbols):
            raise UnusualError
        found.append(symbols[index])
        return at

    return read


def _text(value: bytes, at: int, found: list[Any]) -> int:
    size, at = (value[at] >> 1, at + 1) if not value[at] & 0x81 else _number(value, at)
    if size < 0:
        raise UnusualError
    found.append(value[at : at + size].decode())
    return at + size


def _truth(value: bytes, at: int, found: list[Any]) -> int:
    if value[at] > 1:
        raise UnusualError
    found.append(value[at] == 1)
    return at + 1
