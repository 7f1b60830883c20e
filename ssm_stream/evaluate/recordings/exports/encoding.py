"""Encodings of text files: found from the bytes, and read as UTF-8.

A file is UTF-8 if all of it is. Otherwise it is Shift_JIS (cp932) if it can be, and most of its letters of two bytes
begin as those of kana and common kanji do (0x81 to 0x9F, which hardly occur in Western text); else cp1252.
"""

from __future__ import annotations

import codecs
import io
from pathlib import Path
from typing import Any

from ssm_stream.evaluate.recordings.files import RecordingError, open_file, readable

BLOCK = 1_000_000
CR_SAMPLE = 8192
"""Characters by which line ends are judged."""
BOMS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
CP932_LEADS = range(0x81, 0xA0)


def find_encoding(head: bytes) -> str:
    """Return the encoding of the bytes that a file begins with; `utf-8` if they could be ASCII."""
    for mark, name in BOMS.items():
        if head.startswith(mark):
            return name
    if b"\0" in head[:2000]:  # UTF-16 without its mark: every other byte of Western text is zero
        return "utf-16-le" if head[1:2000:2].count(0) >= head[:2000:2].count(0) else "utf-16-be"
    return "utf-8" if is_utf8(head) else find_legacy(head)


def is_utf8(data: bytes) -> bool:
    """Return whether bytes are UTF-8, up to a letter that is cut off at their end."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data)
    except UnicodeDecodeError:
        return False
    return True


def find_legacy(data: bytes) -> str:
    """Return the encoding of bytes that are not UTF-8."""
    try:
        text = codecs.getincrementaldecoder("cp932")().decode(data)
    except UnicodeDecodeError:
        return "cp1252"
    pairs = [letter.encode("cp932")[0] for letter in text if letter > "\x7f" and len(letter.encode("cp932")) == 2]
    likely = sum(lead in CP932_LEADS for lead in pairs)
    return "cp932" if pairs and 2 * likely > len(pairs) else "cp1252"


def ends_in_cr(begin: bytes) -> bool:
    """Return whether lines end in CR alone, as of old Macs. begin: of a file"""
    return b"\r" in begin[:-1] and b"\n" not in begin


class Utf8File(io.RawIOBase):
    """A text file of any encoding, read as UTF-8 without a byte order mark, and with LF where lines end in CR alone."""

    def __init__(self, path: Path, encoding: str) -> None:
        self._path, self._file = path, open_file(path)
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._encoding, self._first, self._lines, self._rest = encoding, True, 1, memoryview(b"")
        self._ended, self._in_cr = False, False

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read the next bytes into a buffer, and return their number."""
        while not self._rest and not self._ended:
            with readable(self._path):
                raw = self._file.read(BLOCK)
            self._rest, self._ended = self._decode(raw), not raw
        part, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(part)] = part
        return len(part)

    def _decode(self, raw: bytes) -> memoryview:
        if self._first:  # some programs write the mark of UTF-8, and then text in another encoding
            raw = raw.removeprefix(codecs.BOM_UTF8)
        try:
            text = self._decoder.decode(raw, final=not raw)
        except UnicodeDecodeError as error:
            good = self._decoder_text(error)
            line = self._lines + good.count("\n")
            byte = error.object[error.start]
            raise RecordingError(
                f"{self._path}:{line}: not {self._encoding} (byte 0x{byte:02x}); name the encoding, such as "
                "--read encoding=cp1252, or --read encoding=latin-1, which takes every byte"
            ) from None
        if self._first and text:
            text, self._first = text.removeprefix("\ufeff"), False
            self._in_cr = ends_in_cr(text[:CR_SAMPLE].encode())
        if self._in_cr:
            text = text.replace("\r", "\n")
        self._lines += text.count("\n")
        return memoryview(text.encode())

    def _decoder_text(self, error: UnicodeDecodeError) -> str:
        return error.object[: error.start].decode(self._encoding, errors="replace")

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()
