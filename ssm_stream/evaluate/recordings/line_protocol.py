"""Line protocol, InfluxDB's and Telegraf's own format of files, and what else agents of measurements write as text.

A line is `measurement,tag=value field=value,field=value time`. Its row is what Telegraf makes of it as JSON, so that
one configuration reads a file of lines and a topic of JSON.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ssm_stream.evaluate.recordings.files import RecordingError, Row, open_file, read_block

HEAD_BYTES = 65_536
"""The beginning of a file by which its format is recognised."""
NAME, KEY = r"(?:[^, \\]|\\.)+", r"(?:[^,= \\]|\\.)+"
NUMBER = r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
TRUE, FALSE = {"t", "T", "true", "True", "TRUE"}, {"f", "F", "false", "False", "FALSE"}
FIELD = rf'{KEY}=(?:"(?:[^"\\]|\\.)*"|{NUMBER}[iu]?|{"|".join(sorted(TRUE | FALSE, reverse=True))})'
LINE = re.compile(rf"({NAME})((?:,{KEY}={KEY})*) +({FIELD}(?:,{FIELD})*)(?: +(-?[0-9]+))?\s*")
PAIR, FIELDS = re.compile(rf",({KEY})=({KEY})"), re.compile(FIELD)
ESCAPED, QUOTED = re.compile(r"\\([,= ])"), re.compile(r'\\(["\\])')
SAMPLE = re.compile(rf"[a-zA-Z_:][a-zA-Z0-9_:]*\{{.*\}} +(?:{NUMBER}|NaN|[-+]?Inf)(?: +-?[0-9]+)?\s*")
UNITS = {10: 1, 13: 1_000, 16: 1_000_000, 19: 1_000_000_000}
"""Digits of a time of now → its units in a second."""


def is_line_protocol(path: Path) -> bool:
    """Return whether the first line of a file is line protocol, but for comments.

    Raises:
        RecordingError: the file is Prometheus's text format, which has no times, or it cannot be read.
    """
    with open_file(path) as file:
        data = read_block(file, path, HEAD_BYTES)
    lines = [line for line in data.decode(errors="replace").removeprefix("\ufeff").splitlines() if line.strip()]
    if lines and (lines[0].startswith(("# HELP ", "# TYPE ")) or SAMPLE.fullmatch(lines[0])):
        raise RecordingError(
            f"{path}: Prometheus's text format has what is measured at one moment, and is no recording; export the "
            "answer of /api/v1/query_range of a Prometheus that scrapes it into a .json file"
        )
    first = next((line for line in lines if not line.startswith("#")), "")
    return is_line(first)


def is_line(text: str) -> bool:
    """Return whether the first line of a text is line protocol."""
    return LINE.fullmatch(text.partition("\n")[0]) is not None


class LineReader:
    """Makes a row of each line. The first time shows the unit of all, as a file has one."""

    def __init__(self) -> None:
        self._digits = 0

    def row(self, line: str) -> Row:
        """Return the row of a line; its time is in seconds, and is left out where the line has none.

        Raises:
            ValueError: it is no line of line protocol.
        """
        found = LINE.fullmatch(line)
        if found is None:
            raise ValueError("not `measurement,tag=value field=value time`")
        name, tags, fields, time = found.groups()
        row: Row = {
            "fields": dict(map(_field, FIELDS.findall(fields))),
            "name": _plain(name),
            "tags": {_plain(key): _plain(value) for key, value in PAIR.findall(tags)},
        }
        return row if time is None else row | {"timestamp": self._seconds(time)}

    def is_cut(self, line: str) -> bool:
        """Return whether a last line ends within itself: it is none, or its time lacks digits."""
        found = LINE.fullmatch(line)
        return found is None or len(found[4] or "") < self._digits

    def _seconds(self, time: str) -> float:
        self._digits = self._digits or len(time)
        units = UNITS[min(UNITS, key=lambda digits: abs(digits - self._digits))]
        whole, rest = divmod(int(time), units)
        return whole if rest == 0 else round(whole + rest / units, 6)


def _plain(text: str) -> str:
    return ESCAPED.sub(r"\1", text) if "\\" in text else text


def _field(text: str) -> tuple[str, Any]:
    """Return name and value of a field."""
    found = re.match(KEY, text)
    assert found is not None
    value = text[found.end() + 1 :]
    if value.startswith('"'):
        return _plain(found[0]), QUOTED.sub(r"\1", value[1:-1])
    if value in TRUE or value in FALSE:
        return _plain(found[0]), value in TRUE
    return _plain(found[0]), int(value[:-1]) if value[-1] in "iu" else float(value)
