"""Recordings of JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import orjson

from ssm_stream.evaluate.recordings.files import RecordingError, Row, decode, lines_of, open_file


def json_rows(path: Path) -> Iterator[Row]:
    """Yield the object of each line.

    Raises:
        RecordingError: no rows, or a line that is no JSON object.
    """
    number = 0
    for number, line in _lines(path):
        yield _row(line, path, number)
    if not number:
        raise RecordingError(f"{path}: no rows; write one JSON object a line")


def count_json_rows(path: Path) -> int:
    """Return the number of lines that are not empty."""
    return sum(1 for _ in _lines(path))


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield number and text of each line that is not empty."""
    with open_file(path) as file:
        for number, line in enumerate(lines_of(file, path), 1):
            if line.strip():
                yield number, line


def _row(line: bytes, path: Path, number: int) -> Row:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        # Python's own reader also takes NaN, Infinity and numbers of any length, which files in the wild hold.
        try:
            row = json.loads(decode(line, path, number).strip().removeprefix("\ufeff"))
        except json.JSONDecodeError as error:
            where = f"{error.msg} at character {error.pos + 1}"
            raise RecordingError(f"{path}:{number}: not JSON ({where}); write one JSON object a line") from None
        except RecursionError:
            raise RecordingError(f"{path}:{number}: nested too deeply; write one flat JSON object a line") from None
    if not isinstance(row, dict):
        raise RecordingError(f"{path}:{number}: found {type(row).__name__}; write one JSON object a line")
    return row
