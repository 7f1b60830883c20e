"""Recordings of JSON: an object a line, or one document that holds them all, as programs and interfaces export it.

A line of line protocol is an object, too.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from ssm_stream.evaluate.recordings.files import (
    BinaryFile,
    RecordingError,
    Row,
    decode,
    is_json,
    lines_of,
    open_file,
    readable,
    to_dicts,
)
from ssm_stream.evaluate.recordings.line_protocol import LineReader, is_line_protocol

SPACE = b"\xef\xbb\xbf \t\r\n"
"""What may stand before the text: the mark of UTF-8, and white space."""
CURE = "write one JSON object a line, or a list of objects"


def json_rows(path: Path, *, unfinished: bool = False) -> Iterator[Row]:
    """Yield the object of each line, or those of a document.

    A document is a list of objects, or columns that are lists of one length, by themselves or as the only ones in an
    object.

    Lines are read as they are needed, a document as a whole.

    unfinished: leave out a last line that is unfinished, see `unfinished_line`

    Raises:
        RecordingError: no rows, or a line or an item that is no JSON object.
    """
    found = False
    for row in _document(path) if _is_document(path) else _objects(path, unfinished):
        found = True
        yield row
    if not found:
        raise RecordingError(f"{path}: no rows; {CURE}")


def unfinished_line(path: Path) -> int | None:
    """Return the number of a last line that has no end and is no JSON, as where a program still writes or was killed;
    None if there is none. The lines before it are sound."""
    if _ends_with_a_line(path) or _is_document(path):
        return None
    number, line = next(iter(deque(_lines(path), 1)), (0, b"\n"))
    return number if number > 1 and _is_unfinished(line, path, _line_reader(path)) else None


def _ends_with_a_line(path: Path) -> bool:
    """Return whether a file that is not packed ends with the end of a line: it need not be read as a whole."""
    with open_file(path) as file, readable(path):
        if not isinstance(getattr(file, "raw", None), io.FileIO) or not path.stat().st_size:
            return False
        file.seek(-1, io.SEEK_END)
        return file.read() == b"\n"


def _is_unfinished(line: bytes, path: Path, reader: LineReader | None) -> bool:
    if line.endswith(b"\n"):
        return False
    if reader is not None:
        return reader.is_cut(line.decode(errors="replace"))
    try:
        _parsed(line, path, 1)
    except RecordingError:
        return True
    return False


def count_json_rows(path: Path) -> int:
    """Return the number of rows; of lines, those that are not empty, without an unfinished last one."""
    if _is_document(path):
        return len(_document(path))
    return sum(1 for _ in _lines(path, comments=is_line_protocol(path))) - (unfinished_line(path) is not None)


def _is_document(path: Path) -> bool:
    """Return whether the file is a list, or one object that ends in another line than it begins in or is all there
    is in a file named .json."""
    with open_file(path) as file:
        if _begin(file, path) == b"[":
            return True
        lines = (line for line in lines_of(file, path) if line.strip(SPACE))
        first, more = next(lines, None), next(lines, None)
    if first is None:
        return False
    if more is None:
        return is_json(path)
    return first.strip(SPACE) == b"{"


def _begin(file: BinaryFile, path: Path) -> bytes:
    """Return the first character of the text, which is left in the file."""
    with readable(path):
        return file.peek(1)[:4096].lstrip(SPACE)[:1]


def _document(path: Path) -> list[Row]:
    with open_file(path) as file, readable(path):
        data = file.read()
    value = _parsed(data, path, 1)
    if isinstance(value, list):
        for number, row in enumerate(value, 1):
            if not isinstance(row, dict):
                raise RecordingError(f"{path}: item {number}: found {type(row).__name__}; {CURE}")
        return value
    if not isinstance(value, dict):
        raise RecordingError(f"{path}: found {type(value).__name__}; {CURE}")
    if (rows := _series(value, path) or _table(value)) is not None:
        return rows
    tables = {key: rows for key, each in value.items() if (rows := _table(each)) is not None}
    if len(tables) > 1:
        names = ", ".join(tables)
        raise RecordingError(f"{path}: several tables ({names}); write the one with the events into a file of its own")
    if tables:
        return next(iter(tables.values()))
    if any(isinstance(each, dict | list) for each in value.values()):
        raise RecordingError(f"{path}: one object without a list of objects (its keys: {_keys(value)}); {CURE}")
    return [value]


def _series(document: Row, path: Path) -> list[Row] | None:
    """Return a row a sample of what Prometheus's interface answers to `query_range`: labels, `time` and `value`.

    There series comes after series; the rows are in the order of their times.
    """
    match document:
        case {"data": {"resultType": "matrix", "result": [*found]}}:
            try:
                rows = [{**each["metric"], "time": at, "value": float(y)} for each in found for at, y in each["values"]]
                return sorted(rows, key=lambda row: row["time"])
            except (KeyError, TypeError, ValueError) as error:
                text = f"{path}: a matrix of Prometheus with a series that is none ({error!r}); query it again"
                raise RecordingError(text) from None
        case {"data": {"resultType": str(kind)}}:
            raise RecordingError(
                f"{path}: what Prometheus answers to `query` (resultType: {kind}) is one moment, and no recording; "
                "export the answer of /api/v1/query_range, with start, end and step"
            )
    return None


def _table(value: Any) -> list[Row] | None:
    """Return the rows of a list of objects, or of an object whose lists, two at least, are columns; None: neither.

    Next to columns, what is no list describes them, and is left out.
    """
    if isinstance(value, list):
        return value if value and all(isinstance(row, dict) for row in value) else None
    columns = {name: each for name, each in value.items() if isinstance(each, list)} if isinstance(value, dict) else {}
    lengths = {len(each) for each in columns.values()}
    objects = any(isinstance(cell, dict | list) for each in columns.values() for cell in each[:1])
    if len(columns) < 2 or len(lengths) > 1 or 0 in lengths or objects:
        return None
    return to_dicts([*columns], [*columns.values()])


def _keys(document: Row) -> str:
    keys = [*document]
    return ", ".join(keys[:5]) + (", …" if len(keys) > 5 else "")


def _objects(path: Path, unfinished: bool) -> Iterator[Row]:
    reader = _line_reader(path)
    for number, line in _lines(path, comments=reader is not None):
        if unfinished and number > 1 and _is_unfinished(line, path, reader):
            return
        if reader is not None:
            try:
                yield reader.row(decode(line, path, number).removeprefix("\ufeff"))
            except ValueError as error:
                raise RecordingError(f"{path}:{number}: {error}; mend the line, or leave it out") from None
            continue
        row = _parsed(line, path, number)
        if not isinstance(row, dict):
            raise RecordingError(f"{path}:{number}: found {type(row).__name__}; {CURE}")
        yield row


def _line_reader(path: Path) -> LineReader | None:
    """Return a reader that has the unit of the first line's time; None where the lines are JSON."""
    if not is_line_protocol(path):
        return None
    reader = LineReader()
    with contextlib.suppress(ValueError):  # for who reads the line
        reader.row(next(_lines(path, comments=True))[1].decode(errors="replace").removeprefix("\ufeff"))
    return reader


def _lines(path: Path, *, comments: bool = False) -> Iterator[tuple[int, bytes]]:
    """Yield number and text of each line that is not empty. comments: leave out lines that begin with `#`"""
    with open_file(path) as file:
        for number, line in enumerate(lines_of(file, path), 1):
            if line.strip() and not (comments and line.startswith(b"#")):
                yield number, line


def _parsed(text: bytes, path: Path, number: int) -> Any:
    """Return the value of a text. number: of its first line"""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        # Python's own reader also takes NaN, Infinity and numbers of any length, which files in the wild hold.
        try:
            return json.loads(decode(text, path, number).strip().removeprefix("\ufeff"))
        except json.JSONDecodeError as error:
            where = f"{error.msg} at character {error.colno}"
            raise RecordingError(f"{path}:{number + error.lineno - 1}: not JSON ({where}); {CURE}") from None
        except RecursionError:
            raise RecordingError(f"{path}:{number}: nested too deeply; write one flat JSON object a line") from None
