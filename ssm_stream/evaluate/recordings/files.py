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


class NotUtf8Error(RecordingError):
    """The file is not UTF-8. data: the bytes that are not"""

    def __init__(self, text: str, path: Path, data: bytes) -> None:
        super().__init__(text)
        self.path, self.data = path, data


BinaryFile = gzip.GzipFile | io.BufferedReader
GZIP, ZSTANDARD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


def is_json(path: Path) -> bool:
    """Return whether a file is named .json, packed or not: it may be one document, where .jsonl has lines."""
    return path.name.lower().removesuffix(".gz").removesuffix(".zst").endswith(".json")


def open_file(path: Path) -> BinaryFile:
    """Open a file, unpacked if it is packed by gzip or Zstandard."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise RecordingError(f"{path}: cannot be opened: {error}") from error
    begin, suffix = file.peek(4)[:4], path.suffix.lower()
    if begin.startswith(GZIP) or suffix == ".gz":
        return gzip.open(file, "rb")
    if begin == ZSTANDARD or suffix == ".zst":
        return _open_zstandard(path, file)
    if begin.startswith(b"PK\x03\x04"):
        raise RecordingError(f"{path}: a zip archive; unpack it, or name a sheet of Excel .xlsx")
    return file


def _open_zstandard(path: Path, file: io.BufferedReader) -> io.BufferedReader:
    try:
        import zstandard
    except ImportError:
        install = "pip install 'ssm-stream[zstd]'"
        raise RecordingError(f"{path}: to unpack Zstandard, install {install}; or unpack the file") from None
    return io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True))


def lines_of(file: Iterable[bytes], path: Path) -> Iterator[bytes]:
    """Yield the lines with their line ends."""
    with readable(path):
        yield from file


def read_block(file: BinaryFile, path: Path, size: int) -> bytes:
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
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in ("zstd", "zstandard"):
            raise
        raise RecordingError(f"{path}: not a sound Zstandard file ({error}); copy or download it again") from None


def decode(data: bytes, path: Path, first: int) -> str:
    """Return lines as text. first: number of the first line"""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = first + data.count(b"\n", 0, error.start)
        cure = "convert the file, for example with `iconv -f latin1 -t utf-8`"
        text = f"{path}:{line}: not UTF-8 (byte 0x{data[error.start]:02x}); {cure}"
        raise NotUtf8Error(text, path, data[error.start :]) from None


def to_dicts(names: list[str], columns: list[list[Any]]) -> list[Row]:
    """Return columns as rows."""
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]
