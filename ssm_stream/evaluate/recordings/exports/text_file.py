"""Tables in text files: their heads, and their rows as frames of text, some at a time.

Polars' own reader is not used on the whole file: its slices differ between versions.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ssm_stream.evaluate.recordings.exports.encoding import Utf8File, ends_in_cr, find_encoding
from ssm_stream.evaluate.recordings.exports.format import UTF8
from ssm_stream.evaluate.recordings.exports.header import Head, collapse, find_head
from ssm_stream.evaluate.recordings.exports.options import FileOptions
from ssm_stream.evaluate.recordings.files import RecordingError, decode, open_file, read_block, readable

HEAD_BYTES, HEAD_LINES = 262_144, 500
"""The beginning of a file by which it is judged."""
BLANKS = (b" ", b"\t", "\u00a0".encode())
BLOCK = 4_000_000
"""Bytes that are read at a time."""


def open_text(path: Path, encoding: str) -> Any:
    """Return the file as bytes of UTF-8, with LF where lines end in CR alone."""
    if encoding != UTF8:
        return io.BufferedReader(Utf8File(path, encoding))
    file = open_file(path)
    try:
        with readable(path):
            in_cr = ends_in_cr(file.peek(1))
    except RecordingError:
        file.close()
        raise
    if not in_cr:
        return file
    file.close()
    return io.BufferedReader(Utf8File(path, encoding))


def text_head(path: Path, options: FileOptions, legacy: str | None) -> tuple[str, Head]:
    """Return the encoding of a file, and how its table begins. legacy: the encoding, if it is no UTF-8 further on"""
    with open_file(path) as file:
        first = read_block(file, path, HEAD_BYTES)
    encoding = options.encoding or legacy or find_encoding(first)
    with open_text(path, encoding) as file:
        data = read_block(file, path, HEAD_BYTES)
    cut = data.rfind(b"\n") + 1
    data = data[:cut] if len(data) >= HEAD_BYTES and cut else data
    lines = data.splitlines(keepends=True)[:HEAD_LINES]
    text = decode(b"".join(lines), path, 1).removeprefix("\ufeff")
    return encoding, find_head(text, path, options)


def text_frames(path: Path, encoding: str, head: Head, size: int) -> Iterator[pl.DataFrame]:
    """Yield frames of text columns, up to `size` rows each; an empty cell is null."""
    with open_text(path, encoding) as file:
        for _ in range(head.first - 1):
            with readable(path):
                file.readline()
        first = head.first
        for lines in _texts(file, path, size, first):
            yield _frame(lines.removeprefix(b"\xef\xbb\xbf") if first == 1 else lines, head, path, first)
            first += lines.count(b"\n")


def _texts(file: Any, path: Path, size: int, first: int) -> Iterator[bytes]:
    """Yield the remaining lines, up to `size` rows at a time; a line break inside quotes does not cut a row."""
    rest, more = b"", True
    while more:
        block = read_block(file, path, max(BLOCK, len(rest)))
        more, rest = bool(block), rest + block
        letters = np.frombuffer(rest, np.uint8)
        ends = np.flatnonzero(letters == ord("\n")) + 1
        ends = ends[np.searchsorted(np.flatnonzero(letters == ord('"')), ends) % 2 == 0]
        start = 0
        for end in [*ends[size - 1 :: size].tolist(), *ends[-1:].tolist()]:
            if end > start:
                yield rest[start:end]
                start = end
        first += rest.count(b"\n", 0, start)
        rest = rest[start:]
    if rest.count(b'"') % 2:
        opened = first + next(i for i, line in enumerate(rest.split(b"\n")) if line.count(b'"') % 2)
        raise RecordingError(f"{path}:{opened}: a quote is opened and never closed; close it, or double it in a cell")
    if rest:
        yield rest


def _frame(data: bytes, head: Head, path: Path, first: int) -> pl.DataFrame:
    # With a header before every slice, a line with too few cells has its last ones empty, wherever it stands.
    if head.delimiter == " ":
        data = "".join(map(collapse, decode(data, path, first).splitlines())).encode()
    header = head.delimiter.join(map(str, range(len(head.names)))).encode() + b"\n"
    try:
        frame = pl.read_csv(io.BytesIO(header + data), separator=head.delimiter, infer_schema=False)
        frame.columns = list(head.names)
    except (pl.exceptions.PolarsError, ValueError) as error:
        text = decode(data, path, first)
        line = _odd_line(text, len(head.names), head.delimiter)
        where = f"{path}:{first + line[0]}" if line else f"{path}: lines {first} and after"
        what = (
            f"{line[1]} cells where the header names {len(head.names)} columns" if line else str(error).split("\n")[0]
        )
        cure = f"mend the line, or quote cells that hold {head.delimiter!r}"
        raise RecordingError(f"{where}: {what}; {cure}") from error
    return filled_rows(frame, _may_have_blanks(data, head.delimiter))


def filled_rows(frame: pl.DataFrame, blanks: bool = True) -> pl.DataFrame:
    """Return rows without those of nothing, as empty lines come. blanks: whether cells may be blanks, which are null"""
    if blanks:
        frame = frame.with_columns(
            pl.when(pl.col(name).str.strip_chars() != "").then(pl.col(name)) for name in frame.columns
        )
    return frame.filter(~pl.all_horizontal(pl.all().is_null()))


def _may_have_blanks(data: bytes, delimiter: str) -> bool:
    """Return whether a cell may be blanks alone, which takes much less time than to test each."""
    ends = (delimiter.encode(), b"\n", b"\r", b'"')
    return any(data.endswith(blank) or any(blank + end in data for end in ends) for blank in BLANKS)


def _odd_line(text: str, cells: int, delimiter: str) -> tuple[int, int] | None:
    """Return offset and number of cells of the first line with more cells than the header, if any."""
    reader = csv.reader(io.StringIO(text), delimiter=delimiter)
    start = 0
    for row in reader:
        if len(row) > cells:
            return start, len(row)
        start = reader.line_num
    return None


def numbered_rows(path: Path, encoding: str, head: Head) -> Iterator[tuple[int, list[str]]]:
    """Yield number of the line and cells of each row."""
    with open_text(path, encoding) as file:
        lines = (line.decode(errors="replace") for line in islice(file, head.first - 1, None))
        reader = csv.reader(map(collapse, lines) if head.delimiter == " " else lines, delimiter=head.delimiter)
        start = head.first
        for row in reader:
            yield start, row
            start = head.first + reader.line_num
