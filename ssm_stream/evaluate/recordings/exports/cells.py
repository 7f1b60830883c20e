"""What the text of a cell may be: a number in any notation, a time in any notation, or a mark for nothing."""

from __future__ import annotations

import re

MISSING = frozenset([
    "na", "n/a", "n.a.", "n. a.", "#n/a", "#nv", "nan", "null", "none", "nil", "(null)", "<null>", "-", "--", "---",
    "–", "?", "bad", "bad input", "no data", "nodata", "no value", "i/o timeout", "#value!", "#div/0!",
])  # fmt: skip
"""Texts among numbers that stand for no value, in lower case."""
MINUS = "\u2212"
"""The sign that typesetting has for minus."""
NUMBER = re.compile(
    r"(?:[+\u2212-] *)?(?:[0-9]{1,3}(?:[.,'’ \u00a0\u202f][0-9]{3})+|[0-9]+)?(?:[.,][0-9]+)?(?:[eE][+-]?[0-9]+)?"
)
"""A number with a point or a comma, with separators between thousands, and with blanks after its sign."""
CURRENCIES = "$€£¥₹"
"""Signs that may stand before a number, or after it as a unit does."""
BEFORE = rf"^\s*([+\u2212-]?)\s*[{CURRENCIES}]\s*"
"""Regular expression of a sign of currency before a number."""
WITH_UNIT = re.compile(
    rf"(?P<number>.*[0-9])(?P<unit>[ \u00a0]?(?:[%°‰][A-Za-z]?|[{CURRENCIES}])|[ \u00a0][^\W\d_][^\d]{{0,7}})\s*"
)
"""A number and its unit: after a blank, or beginning with a sign."""
SPACES = " \u00a0\u202f'’"
"""Separators of thousands that are no decimal sign."""
TIME_LIKE = re.compile(
    r"(?:[^\W\d_]{2,10}\.?,? +)?[0-9]{1,4}[./-][0-9A-Za-z]{1,3}\.?[./-][0-9]{2,4}(?:[T ,].*)?"
    r"|[0-9]{1,2}\.? [A-Za-zäéû]{3,9}\.? [0-9]{2,4}.*|[A-Za-z]{3,9}\.? [0-9]{1,2},? [0-9]{4}.*"
    r"|[0-9]{1,2}:[0-9]{2}.*|[0-9]{4}年.*"
)


def is_number(text: str) -> bool:
    """Return whether a text is a number in some notation."""
    text = text.strip()
    return any("0" <= letter <= "9" for letter in text) and NUMBER.fullmatch(text) is not None


def is_time(text: str) -> bool:
    """Return whether a text resembles a date or a time of day."""
    return TIME_LIKE.fullmatch(text.strip()) is not None


def is_value(text: str) -> bool:
    """Return whether a text is a number or a time, so that it is not the name of a column."""
    return is_number(text) or is_time(text)


def unit_of(text: str) -> str | None:
    """Return the unit after a number, with the blank before it, ` °C` of `20.5 °C`, or the sign of currency before it;
    None if there is none."""
    if (before := re.match(BEFORE, text)) is not None and is_number(text[before.end() :]):
        return before[0].strip()[-1]
    match = WITH_UNIT.fullmatch(text)
    return match["unit"] if match is not None and is_number(match["number"]) else None


def without_unit(text: str, unit: str) -> str:
    """Return the text of a cell without its unit, as `unit_of` has it."""
    text = re.sub(BEFORE, r"\1", text) if unit and unit in CURRENCIES else text
    return text.removesuffix(unit)


def is_missing(text: str) -> bool:
    """Return whether a text stands for no value."""
    return text.strip().lower() in MISSING
