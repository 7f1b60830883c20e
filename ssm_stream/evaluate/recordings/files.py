"""Files that may be packed, and the errors of reading them."""

from __future__ import annotations

import contextlib
import gzip
import io
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

Row = dict[str, Any]


class RecordingError(ValueError):
    """The recording cannot be read. The text names the file, the line if it is known, and the cure."""


def open_file(path: Path) -> gzip.GzipFile | io.BufferedReader:
    """Open a file, unpacked if its name ends in .gz."""
    try:
        return gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb")
    except OSError as error:
        raise RecordingError(f"{path}: cannot be opened: {error}") from error


def lines_of(file: Iterable[bytes], path: Path) -> Iterator[bytes]:
    """Yield the lines with their line ends."""
    with readable(path):
        yield from file


def read_block(file: gzip.GzipFile | io.BufferedReader, path: Path, size: int) -> bytes:
    """Return the next `size` bytes, fewer at the end."""
    with readable(path):
        return file.read(size)


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn the errors of a broken archive into a RecordingError."""
    try:
        yield
    except EOFError as error:
        raise RecordingError(f"{path}: the gzip file ends too early; copy or download it again") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise RecordingError(
            f"{path}: not a sound gzip file ({error}); copy it again, or drop .gz from its name"
        ) from None
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read: {error}") from error


def decode(data: bytes, path: Path, first: int) -> str:
    """Return lines as text. first: number of the first line"""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = first + data.count(b"\n", 0, error.start)
        cure = "convert the file, for example with `iconv -f latin1 -t utf-8`"
        raise RecordingError(f"{path}:{line}: not UTF-8 (byte 0x{data[error.start]:02x}); {cure}") from None


def to_dicts(names: list[str], columns: list[list[Any]]) -> list[Row]:
    """Return columns as rows."""
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]
