"""Cells that may mean something else than they are taken for: a file is refused for them, or they are named."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import NoReturn

import polars as pl

from ssm_stream.evaluate.recordings.exports.cells import is_missing, unit_of, without_unit
from ssm_stream.evaluate.recordings.exports.columns import PADDED, Counts
from ssm_stream.evaluate.recordings.exports.format import Format, strip_unit
from ssm_stream.evaluate.recordings.exports.numbers import Notation, Signs, is_doubtful
from ssm_stream.evaluate.recordings.exports.options import FileOptions
from ssm_stream.evaluate.recordings.exports.part_rows import find_cell, written_cells
from ssm_stream.evaluate.recordings.files import RecordingError


def refuse_number(form: Format, name: str, options: FileOptions) -> NoReturn:
    """Refuse a column with numbers in another notation than the others.

    Raises:
        RecordingError: always; it names the first of them.
    """
    pattern = re.compile(Counts.PATTERN)
    own = re.compile(form.notation.pattern)
    line, cell = find_cell(form, name, lambda text: bool(pattern.match(text)) and not own.match(text))
    sign, other = ("point", "comma") if form.notation.decimal == "." else ("comma", "point")
    cure = "correct it"
    if _fits(form, "," if other == "comma" else "."):
        cure += f", or give --read decimal={other}" if options.decimal is None else ", or leave the option out"
    if len(form.parts) > 1:
        cure += "; files of one folder must have the same decimal sign: export them alike"
    found = next((f" (`{each.name}`: {one.strip()!r})" for each in _numbers(form) for one in each
                  if each.name != name and form.notation.decimal in one and own.match(one)), "")  # fmt: skip
    raise RecordingError(
        f"{line}: `{name}` holds {cell!r}, while the other numbers have a decimal {sign}{found}; {cure}"
    )


def _fits(form: Format, decimal: str) -> bool:
    """Return whether all numbers at the beginning of the table can be read with a decimal sign."""
    pattern = Notation(decimal, True).pattern
    return all(column.str.contains(pattern).all() for column in _numbers(form))


def _numbers(form: Format) -> Iterator[pl.Series]:
    """Yield the numbers at the beginning of each column of numbers, without times."""
    times = {*dict(form.dates), *(() if form.joined is None else (form.joined.date, form.joined.clock))}
    for part in form.parts:
        for column in written_cells(part):
            texts = strip_unit(column.drop_nulls(), dict(form.units).get(column.name, ""))
            filled = texts.filter(texts.str.strip_chars() != "")
            numbers = filled.filter(filled.str.contains(Counts.PATTERN))
            if column.name not in times and 2 * len(numbers) > len(filled):
                yield numbers


def doubtful_number(form: Format, signs: dict[str, Signs]) -> str | None:
    """Return a number of which nothing shows that its sign is that of decimals, as which it is read; None without one.

    Raises:
        RecordingError: that may well be wrong.
    """
    sign = form.notation.decimal
    for name, found in signs.items():
        if form.notation.certain or 2 * found.numbers <= found.filled or not found.marks(sign):
            continue
        test = functools.partial(is_doubtful, sign=sign, unit=dict(form.units).get(name, ""))
        line, cell = find_cell(form, name, test)
        if sign == "." and found.has_point_thousands is None:
            raise RecordingError(
                f"{line}: `{name}` holds {cell!r}, and numbers without a point: nothing in the file shows whether the "
                "point separates thousands or decimals: give --read decimal=comma or --read decimal=point"
            )
        return cell
    return None


def mixed_columns(form: Format, total: dict[str, Counts]) -> Iterator[str]:
    """Yield for each column that is text although it has many numbers what makes it so: its units, or a cell."""
    for column in written_cells(form.parts[0]):
        if column.name in total and (several := _several_units(column)):
            yield f"`{column.name}` is text, as its numbers have several units ({several}): export it in one"
    for name, counts in total.items():
        if name in dict(form.dates) or not counts.is_mixed:
            continue
        line, cell = find_cell(
            form, name, functools.partial(_is_odd, form, counts.has_names, dict(form.units).get(name, ""))
        )
        yield f"`{name}` is text, as line {line.rpartition(':')[2]} holds {cell!r}"


def _several_units(column: pl.Series) -> str:
    """Return the units of a column in which each cell is a number with one; empty if there are not several."""
    filled = [cell for cell in column.drop_nulls().to_list() if cell.strip() and not is_missing(cell)]
    units = [unit_of(cell) for cell in filled]
    return "" if None in units or len(set(units)) < 2 else ", ".join(dict.fromkeys(str(unit).strip() for unit in units))


def _is_odd(form: Format, has_names: bool, unit: str, text: str) -> bool:
    text = without_unit(text, unit)
    if has_names:
        return re.match(PADDED, text.strip()) is not None
    return not is_missing(text) and re.match(form.notation.pattern, text) is None
