"""Versioned snapshot bytes: arrays with names, a few words about them, and a checksum. No pickled classes.

Layout: `SSMS`, format version (uint16), CRC-32 of the rest (uint32), then one safetensors block whose metadata is the
header. Entities are rows of every array; their names are a tensor of JSON text.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
import orjson
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

MAGIC = b"SSMS"
VERSION = 2
PREFIX = struct.Struct("<4sHI")
NAMES = "entity_names"
HEADER = "header"


class StateError(ValueError):
    """Snapshot bytes that cannot be used; the text says why and what to do."""


def pack(header: dict[str, str], names: list[str], arrays: dict[str, NDArray[np.generic]]) -> bytes:
    """Snapshot bytes of E named entities and their arrays (E, ...). Equal content gives equal bytes."""
    tensors = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    # Metadata of safetensors has no fixed order; a tensor of sorted text has.
    text = "\n".join(f"{key}\t{value}" for key, value in sorted(header.items()))
    tensors[HEADER] = np.frombuffer(text.encode(), np.uint8)
    tensors[NAMES] = np.frombuffer(orjson.dumps(names), np.uint8)
    body = save(tensors)
    return PREFIX.pack(MAGIC, VERSION, zlib.crc32(body)) + body


def unpack(data: bytes) -> tuple[dict[str, str], list[str], dict[str, NDArray[np.generic]]]:
    """What `pack` was given.

    Raises:
        StateError: not a snapshot, a newer version, or damaged.
    """
    if len(data) < PREFIX.size or data[:4] != MAGIC:
        raise StateError("this is not an ssm-stream snapshot")
    _, version, checksum = PREFIX.unpack_from(data)
    body = data[PREFIX.size :]
    if version != VERSION:
        raise StateError(
            f"the snapshot has format {version}, this release reads {VERSION}: use the release that wrote it"
        )
    if zlib.crc32(body) != checksum:
        raise StateError("the snapshot is damaged (its checksum differs): restore the recovery directory from a copy")
    try:
        tensors = load(body)
        names: list[str] = orjson.loads(tensors.pop(NAMES).tobytes())
    except (SafetensorError, KeyError, orjson.JSONDecodeError) as error:
        raise StateError(f"the snapshot is damaged: {error}") from error
    header = dict(line.split("\t", 1) for line in tensors.pop(HEADER).tobytes().decode().split("\n") if line)
    return header, names, tensors
