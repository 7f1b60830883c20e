"""Cells that may mean something else than they are taken for: a file is refused for them, or they are named."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import NoReturn

from ssm_stream.evaluate.recordings.exports.cells import is_missing
from ssm_stream.evaluate.recordings.exports.columns import PADDED, Counts
from ssm_stream.evaluate.recordings.exports.format import Format
from ssm_stream.evaluate.recordings.exports.numbers import Signs, is_doubtful
from ssm_stream.evaluate.recordings.exports.options import FileOptions
from ssm_stream.evaluate.recordings.exports.part_rows import find_cell
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
    cure = (
        f"or give --read decimal={other} if all of them have one"
        if options.decimal is None
        else "or leave the option out"
    )
    if len(form.parts) > 1:
        cure += "; files of one folder must have the same decimal sign: export them alike"
    raise RecordingError(
        f"{line}: `{name}` holds {cell!r}, while the other numbers have a decimal {sign}; correct it, {cure}"
    )


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
    """Yield for each column that is text although it has many numbers the first cell that makes it so."""
    for name, counts in total.items():
        if name in dict(form.dates) or not counts.is_mixed:
            continue
        line, cell = find_cell(
            form, name, functools.partial(_is_odd, form, counts.has_names, dict(form.units).get(name, ""))
        )
        yield f"`{name}` is text, as line {line.rpartition(':')[2]} holds {cell!r}"


def _is_odd(form: Format, has_names: bool, unit: str, text: str) -> bool:
    text = text.removesuffix(unit)
    if has_names:
        return re.match(PADDED, text.strip()) is not None
    return not is_missing(text) and re.match(form.notation.pattern, text) is None
