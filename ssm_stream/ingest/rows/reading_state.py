"""What a `ReadingBuilder` holds of each signal, mapped by name to the signals of another configuration."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

LENGTH = struct.Struct("<I")
OF_ENTITY = [np.int64] * 6
OF_SIGNAL = [np.int64, np.float64, np.float64, np.int64, np.bool_]
OF_WAITING = [np.int64, np.int64, np.float64, np.bool_]
DTYPES = [*OF_ENTITY, *OF_SIGNAL, *OF_WAITING]
"""Of the columns that `ReadingRows.dump` returns."""
UNKNOWN = (np.iinfo(np.int64).min, np.nan, 0.0, 0, False)
"""Of OF_SIGNAL: a signal without a reading so far."""
WAITS = len(OF_ENTITY) - 1
"""Place of the numbers of readings that wait, by entity."""
Columns = list[NDArray[Any]]


def read_columns(data: bytes, sizes: Sequence[int], signals: int) -> Columns:
    """Return the columns of a state, those of signals as (E, signals).

    Raises:
        ValueError: they are of another length.
    """
    columns, at = Columns(), 0
    for dtype, size in zip(DTYPES, sizes, strict=True):
        columns.append(np.frombuffer(data[at : at + size], dtype))
        at += size
    if at != len(data):
        raise ValueError("columns of another length")
    first, last = len(OF_ENTITY), len(OF_ENTITY) + len(OF_SIGNAL)
    columns[first:last] = [column.reshape(len(columns[0]), signals) for column in columns[first:last]]
    return columns


def read_header(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the header of a state, and its columns."""
    (length,) = LENGTH.unpack_from(data)
    at = LENGTH.size + length
    return orjson.loads(data[LENGTH.size : at]), data[at:]


def write_state(header: dict[str, Any], columns: bytes) -> bytes:
    """Return the state of which `read_header` returns these."""
    content = orjson.dumps(header)
    return b"".join([LENGTH.pack(len(content)), content, columns])


def rename_signal(data: bytes, old: str, new: str) -> bytes:
    """Return a state in which a signal has another name."""
    header, columns = read_header(data)
    renamed = {kind: [new if name == old else name for name in header[kind]] for kind in ("signals", "categories")}
    return write_state({**header, **renamed, "categories": sorted(renamed["categories"])}, columns)


def map_signals(columns: Columns, former: list[str], present: list[str]) -> Columns:
    """Return the columns for other signals: the last readings and those that wait stay, of the signals that stay.

    Args:
        columns: of the former signals
        former, present: their names, in their order
    """
    places = {name: i for i, name in enumerate(former)}
    of = np.array([places.get(name, -1) for name in present])
    first, last = len(OF_ENTITY), len(OF_ENTITY) + len(OF_SIGNAL)
    out = list(columns)
    for k, (dtype, unknown) in enumerate(zip(OF_SIGNAL, UNKNOWN, strict=True), first):
        mapped: NDArray[Any] = np.full((len(columns[0]), len(present)), unknown, dtype)
        mapped[:, of >= 0] = columns[k][:, of[of >= 0]]
        out[k] = mapped
    names = {name: i for i, name in enumerate(present)}
    to = np.array([names.get(name, -1) for name in former])
    ts, signal, value, bad = columns[last:]
    kept = to[signal] >= 0
    entity = np.repeat(np.arange(len(columns[0])), columns[WAITS])
    out[WAITS] = np.bincount(entity[kept], minlength=len(columns[0])).astype(np.int64)
    out[last:] = [ts[kept], to[signal[kept]].astype(np.int64), value[kept], bad[kept]]
    return [np.ascontiguousarray(column) for column in out]


def without_texts(columns: Columns, numbers: Sequence[int], codes: Sequence[float]) -> Columns:
    """Return the columns without the texts of signals that are numbers now. numbers: places of those signals"""
    if not codes:
        return columns
    value, signal, waiting = (
        len(OF_ENTITY) + 1,
        len(OF_ENTITY) + len(OF_SIGNAL) + 1,
        len(OF_ENTITY) + len(OF_SIGNAL) + 2,
    )
    out, held = list(columns), columns[value].copy()
    held[:, numbers] = np.where(np.isin(held[:, numbers], codes), np.nan, held[:, numbers])
    of_numbers = np.isin(columns[signal], numbers) & np.isin(columns[waiting], codes)
    out[value], out[waiting] = held, np.where(of_numbers, np.nan, columns[waiting])
    return out
