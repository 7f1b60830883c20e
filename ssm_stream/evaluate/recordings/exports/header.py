"""Where a table begins: the sign between its cells, the line with the names, and lines next to it that are no rows.

Exports have titles and comments above their header, units below it, and no header at all. The sign between cells is
the one with which most lines have the same number of cells, and most of these are numbers and times.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from ssm_stream.evaluate.recordings.exports.cells import is_missing, is_number, is_time, is_value
from ssm_stream.evaluate.recordings.exports.options import FileOptions
from ssm_stream.evaluate.recordings.files import RecordingError

CANDIDATES = (",", ";", "\t", "|")
COMMENTS = ("#", "//", "%", "--")
MAX_BELOW = 3
"""Lines of units and descriptions below the names."""
MAX_UNIT = 40
"""Characters of a cell with a unit or a description."""
MAX_PREAMBLE = 30
"""Lines below one that could be the names in which these may still come."""
TIME_NAMES = frozenset([
    "time", "timestamp", "datetime", "date", "ts", "zeit", "zeitstempel", "zeitpunkt", "uhrzeit", "datum", "heure",
    "horodatage", "horodate", "fecha", "hora", "data", "ora", "orario", "tijd", "tijdstip", "tid", "klockslag", "klo",
    "czas", "時刻", "時間", "日時", "日付", "年月日", "时间", "日期", "시간", "일시", "날짜", "время", "дата",
])  # fmt: skip
"""Words in the names of columns of times."""
TIME_PARTS = re.compile("zeit|time|datum|stamp|heure|fecha", re.IGNORECASE)
"""What longer words for times have in them."""

ANNOTATIONS = ("#group", "#datatype", "#default")
"""First cells of the lines that InfluxDB writes above the names of each of its tables."""

Cells = list[str]


class Head(NamedTuple):
    """The beginning of a table."""

    delimiter: str
    names: tuple[str, ...]
    header: int
    """Number of its line, from 1; 0: there is none."""
    first: int
    """Number of the line of the first row."""
    below: tuple[str, ...]
    """Cells of the line below the names that is no row."""
    rows: tuple[tuple[str, ...], ...]
    """Cells of the first rows."""
    of_two: bool = False
    """Whether the line above is part of the names."""


def split(lines: Sequence[str], delimiter: str) -> list[tuple[int, Cells]]:
    """Return number, from 1, and cells of each row of text; quoted cells may hold line breaks."""
    reader = csv.reader(map(collapse, lines) if delimiter == " " else lines, delimiter=delimiter)
    out: list[tuple[int, Cells]] = []
    start = 1
    try:
        for row in reader:
            out.append((start, row))
            start = reader.line_num + 1
    except csv.Error:
        pass  # a cell that is too long: what was read is enough of a sample
    return out


def collapse(line: str) -> str:
    """Return a line with one blank in place of several, and none at its ends."""
    return re.sub(r"[ \t]+", " ", line.strip()) + "\n"


def find_head(text: str, path: Path, options: FileOptions) -> Head:
    """Return how the table in a text begins. text: the first lines of a file

    Raises:
        RecordingError: the text is empty, or the table has no names.
    """
    lines = io.StringIO(text).readlines()
    candidates = (options.delimiter,) if options.delimiter else CANDIDATES
    found = [(delimiter, split(lines, delimiter)) for delimiter in candidates]
    delimiter, rows = max(found, key=lambda each: _score(each[1]))
    if options.delimiter is None and not _names(rows):
        by_blanks = split(lines, " ")
        if _is_of_blanks(by_blanks) or (_width(rows) < 2 and _are_values(by_blanks)):
            delimiter, rows = " ", by_blanks
    return find_table(rows, delimiter, path, options)


def _names(rows: list[tuple[int, Cells]]) -> Cells:
    """Return the first row that may be the names of several columns."""
    width = max(_width(rows), 2)
    return next((row for _, row in rows if len(row) >= width and not any(map(is_value, row))), [])


def _is_of_blanks(rows: list[tuple[int, Cells]]) -> bool:
    """Return whether blanks separate cells: of names and values there are as many."""
    return len(_names(rows)) == _width(rows) and _score(rows) > 0.5


def _are_values(rows: list[tuple[int, Cells]]) -> bool:
    """Return whether rows have as many cells, and the first has no names but values."""
    filled = [row for _, row in rows if any(row)]
    return bool(filled) and len(filled[0]) == _width(rows) > 1 and all(map(is_value, filled[0])) and _score(rows) > 0.5


def _score(rows: list[tuple[int, Cells]]) -> float:
    """Return how well rows of cells are a table: the share of rows of one width, times that of numbers and times.

    Half as well where a quote is left at the end of a cell, as where it was split inside of quotes.
    """
    width = _width(rows)
    if width < 2:
        return 0.0
    filled = [row for _, row in rows if any(row)]
    header = next((i for i, row in enumerate(filled) if len(row) >= width), 0)
    of_width = [row for row in filled[header:] if len(row) == width]
    cells = [cell for row in of_width[-200:] for cell in row if cell.strip()]
    values = sum(is_value(cell) or is_missing(cell) for cell in cells) / max(len(cells), 1)
    inside = any(cell.endswith('"') for row in filled[:200] for cell in row)
    share = len(of_width) / max(len(filled[header:]), 1) * (0.5 if inside else 1.0)
    return share * (0.1 + values) - 0.01 * min(header, 10)


def _width(rows: list[tuple[int, Cells]]) -> int:
    """Return the number of cells that most rows have, those of the beginning counted least."""
    counts = Counter(len(row) for _, row in rows[len(rows) // 4 :] if any(cell.strip() for cell in row))
    return max(counts, key=lambda width: (counts[width], width), default=0)


def find_table(rows: list[tuple[int, Cells]], delimiter: str, path: Path, options: FileOptions) -> Head:
    """Return how the table in numbered rows of cells begins. Raises as `find_head`."""
    if not rows or not any(cell.strip() for _, row in rows for cell in row):
        raise RecordingError(f"{path}: the file is empty; it needs a line with names of columns, and rows below")
    width = _width(rows)
    at = _header(rows, width, path, options)
    under_groups = _named_below(rows, at) if at is not None and options.header is None else []
    at = at + 1 if at is not None and under_groups else at
    names = [] if at is None else _own_names(rows[at][1]) if at else [name.strip() for name in rows[0][1]]
    two = under_groups or (_joined(rows, at) if at and _repeated(names) else [])
    names = two or names
    rest = rows if at is None else rows[at + 1 :]
    below: Cells = []
    commented = at is not None and _is_comment(rows[at][1])
    for _ in range(MAX_BELOW if at is not None else 0):
        remark = commented and bool(rest) and _is_comment(rest[0][1]) and not any(rest[0][1][1:])
        if len(rest) < 2 or not (remark or _is_no_row(rest[0][1], [row for _, row in rest[1:200]])):
            break
        below = below or (rest[0][1] if "".join(rest[0][1]).strip("#/% \t") else [])
        rest = rest[1:]
    if width == len(names) + 1 and all(not row[-1].strip() for _, row in rest if len(row) == width):
        names.append("")  # a sign at the end of each row, and none at the end of the header
    names += [""] * (width - len(names) if at is None else 0)
    names = [name or f"column_{i}" for i, name in enumerate(names, 1)]
    if twice := _repeated(names):
        cure = "give each its own name"
        if options.header is None and all(len(row) <= width for _, row in rows):
            cure += ", or give --read header=none, and they are column_1, column_2, …"
        raise RecordingError(f"{path}:{rows[at or 0][0]}: the columns {twice} stand twice in the header; {cure}")
    number = 0 if at is None else rows[at][0]
    first = rest[0][0] if rest else number + 1
    cells = tuple(tuple(row) for _, row in rest if not _is_again(row, names))
    return Head(delimiter, tuple(names), number, first, tuple(below), cells, bool(two))


def _header(rows: list[tuple[int, Cells]], width: int, path: Path, options: FileOptions) -> int | None:
    """Return the index of the row with the names."""
    if options.header is not None:
        at = next((i for i, (number, _) in enumerate(rows) if number == options.header), None)
        if options.header and at is None:
            raise RecordingError(f"{path}: --read header={options.header}: no such line in the first {len(rows)}")
        return at
    for i, (_, row) in enumerate(rows):
        if _may_be_names(row, width) and not (_is_comment(row) and not _has_value(_following(rows, i))):
            return _above_rows(rows, _below_preamble(rows, i, width), width)
    first = next(i for i, (_, row) in enumerate(rows) if any(cell.strip() for cell in row))
    number, cells = rows[first]
    filled = [cell for cell in cells if cell.strip()]
    if len(cells) == width and all(map(is_value, filled)) and not _are_numbered(rows, first):
        raise RecordingError(
            f"{path}:{number}: no header: the line holds values ({', '.join(filled[:3])}, …); put a line with the "
            "names of the columns above it, or give --read header=none, and they are column_1, column_2, …"
        )
    if len(cells) + 1 < width:
        line = _line_of_names(rows, first, width)
        cure = f"--read header={line}" if line else "--read header=N with the number of its line"
        raise RecordingError(
            f"{path}:{number}: no header: the rows below have {width} cells, and this line {len(cells)}; if another "
            f"line names the columns, give {cure}"
        )
    return first


def _line_of_names(rows: list[tuple[int, Cells]], first: int, width: int) -> int | None:
    """Return the number of the first line above rows that has as many cells, and is none of them."""
    for i, (number, row) in enumerate(rows[: first + MAX_PREAMBLE]):
        kinds = {_kinds(each) for _, each in rows[i + 1 : i + 30] if _has_value(each)}
        fits = width <= len(row) <= width + 1 and _kinds(row) not in kinds and not _repeated(_own_names(row))
        if fits and _is_above_rows(rows, first, i):
            return number
    return None


def _may_be_names(row: Cells, width: int) -> bool:
    """Return whether a row of cells may name as many columns: most are filled, and none with a number or a time."""
    filled = [cell for cell in row if cell.strip()]
    return len(row) >= width and bool(filled) and not any(map(is_value, filled)) and 2 * len(filled) > len(row)


def _is_comment(row: Cells) -> bool:
    return bool(row) and row[0].lstrip().startswith(COMMENTS)


def _following(rows: list[tuple[int, Cells]], at: int) -> Cells:
    """Return the row after another, without empty ones and those that are a sign of comments alone."""
    signs = "".join(COMMENTS)
    return next((row for _, row in rows[at + 1 :] if any(cell.strip(f"{signs} \t") for cell in row)), [])


def _are_numbered(rows: list[tuple[int, Cells]], at: int) -> bool:
    """Return whether a row's cells are whole numbers that grow, as names may be, and those of the next are not."""
    grow = [
        all(map(str.isdecimal, cells)) and all(int(a) < int(b) for a, b in pairwise(cells))
        for _, row in rows[at : at + 2]
        for cells in [[cell.strip() for cell in row]]
    ]
    return grow == [True, False]


def _above_rows(rows: list[tuple[int, Cells]], at: int, width: int) -> int:
    """Return the index of the names: of the row `at`, unless another has them.

    Another may, if names of `at` repeat, or if it has more cells than the rows that follow, as a line about the file:
    one just above rows, or a comment above `at`. Without one, it is the last that may, where it is made unique by the
    row above it.
    """
    if not _repeated(_own_names(rows[at][1])) and len(rows[at][1]) <= width + 1:
        return at
    above = rows[at - 1][1] if at and _is_comment(rows[at][1]) else [""]
    if _is_comment(above) and _may_be_names(above, width) and not _repeated(_own_names(above)):
        return at - 1
    found = [
        i
        for i, (_, row) in enumerate(rows[: at + MAX_PREAMBLE + 1])
        if i >= at and width <= len(row) <= width + 1 and _may_be_names(row, width) and _is_above_rows(rows, at, i)
    ]
    single = (i for i in found if not _repeated(_own_names(rows[i][1])))
    return next(single, next((i for i in found if _joined(rows, i)), found[-1] if found else at))


def _is_above_rows(rows: list[tuple[int, Cells]], at: int, i: int) -> bool:
    """Return whether rows with values begin after row `i`, and none of their kind is between it and the row `at`."""
    below = [row for _, row in rows[i + 1 : i + 30]]
    data = {_kinds(row) for row in below[1 + MAX_BELOW :] if _has_value(row)}
    begins = any(_kinds(row) in data for row in below[: 1 + MAX_BELOW])
    return begins and not any(_kinds(row) in data for _, row in rows[at + 1 : i])


def _kinds(row: Cells) -> str:
    """Return a letter for each cell: time, number, text or nothing, without what is nothing at the end."""
    kinds = (
        "t" if is_time(cell) else "n" if is_number(cell) else "x" if cell.strip() and not is_missing(cell) else " "
        for cell in row
    )
    return "".join(kinds).rstrip()


def _own_names(row: Cells) -> list[str]:
    """Return the names in a row, without the sign of a comment before them."""
    names = [name.strip() for name in row]
    if names and _is_comment(names):
        names[0] = names[0].lstrip("#/%- ")
    return names


def _repeated(names: list[str]) -> list[str]:
    """Return the names that stand more than once, in their order in the alphabet."""
    return sorted({name for name in names if name and names.count(name) > 1})


def _joined(rows: list[tuple[int, Cells]], at: int) -> list[str]:
    """Return the names of a row with what stands above them, or further left where cells are merged; empty if they
    repeat even so."""
    above, own = ([cell.strip() for cell in row[1]] for row in (rows[at - 1] if at else (0, []), rows[at]))
    above = [*above, *[""] * (len(own) - len(above))][: len(own)]
    merged = above[:1]
    for cell in above[1:]:
        merged.append(cell or merged[-1])
    for groups in (above, merged):
        names = [f"{group} {name}".strip() for group, name in zip(groups, own, strict=True)]
        if not _repeated(names):
            return names
    return []


def _is_again(row: Cells, names: list[str]) -> bool:
    """Return whether a row is the names again, or an annotation of another table."""
    if row and row[0].strip() in ANNOTATIONS:
        return True
    return all(
        cell.strip(" \t\ufeff") in (name, "" if name == f"column_{i}" else name)
        for i, (cell, name) in enumerate(zip([*row, *[""] * len(names)], names, strict=False), 1)
    )


def _named_below(rows: list[tuple[int, Cells]], at: int) -> list[str]:
    """Return the names of two rows, where cells of the first are merged and the second names the columns below them.

    In `Time; Motor 1; ; Motor 2; ` above ` ; Temp; Current; Temp; Current` the first row names groups: each cell that
    it lacks is filled below. Empty if the rows are no such pair, as the names and their units.
    """
    if len(rows) < at + 4:
        return []
    groups, own = ([cell.strip() for cell in row] for _, row in rows[at : at + 2])
    width = len(groups)
    own = [*own, *[""] * (width - len(own))]
    lacking = [j for j, group in enumerate(groups) if not group]
    if len(own) > width or not lacking or not all(own[j] for j in lacking):
        return []
    if not _is_no_row(own, [row for _, row in rows[at + 2 : at + 200]]):
        return []
    merged: list[str] = []
    for group in groups:
        merged.append(group or (merged[-1] if merged else ""))
    names = [f"{group} {name}".strip() for group, name in zip(merged, own, strict=True)]
    return [] if _repeated(names) else names


def _below_preamble(rows: list[tuple[int, Cells]], at: int, width: int) -> int:
    """Return the index of the names: of the row `at`, unless it is one of pairs of names and texts above them.

    So it is if no cell of it names a time, and one further down does, above times or numbers.
    """
    if _time_names(rows[at][1]) or any(map(TIME_PARTS.search, rows[at][1])):
        return at
    for i, (_, row) in enumerate(rows[at + 1 : at + MAX_PREAMBLE], at + 1):
        if len(row) < width or any(map(is_value, row)) or len({*filter(None, row)}) < len(row):
            continue
        below = [each for _, each in rows[i + 1 : i + 2 + MAX_BELOW]]
        if any(j < len(each) and is_value(each[j]) for j in _time_names(row) for each in below):
            return i
    return at


def _time_names(row: Cells) -> list[int]:
    """Return the places of the cells with a word for a time."""
    return [j for j, cell in enumerate(row) if is_time_name(cell)]


def is_time_name(name: str) -> bool:
    """Return whether a name has a word for a time."""
    return bool(TIME_NAMES & {*re.findall(r"[^\W\d_]+", name.lower())})


def _has_value(row: Cells) -> bool:
    return any(map(is_value, row))


def _is_no_row(row: Cells, following: list[Cells]) -> bool:
    """Return whether a row below the names holds units, descriptions or a rule in place of values."""
    filled = [cell.strip() for cell in row if cell.strip()]
    if filled and all(set(cell) <= set("-=+_") for cell in filled) and any(len(cell) > 1 for cell in filled):
        return True
    if not filled or any(map(is_value, filled)) or max(map(len, filled)) > MAX_UNIT or all(map(is_missing, filled)):
        return False
    numbers = [j for j in range(len(row)) if _mostly(is_number, j, following)]
    times = [j for j in range(len(row)) if _mostly(is_time, j, following)]
    return any(row[j].strip() for j in numbers) and not any(is_time(row[j]) for j in times)


def _mostly(test: Callable[[str], bool], j: int, rows: list[Cells]) -> bool:
    cells = [row[j] for row in rows if j < len(row) and row[j].strip()]
    return bool(cells) and sum(map(test, cells)) >= 0.8 * len(cells)
