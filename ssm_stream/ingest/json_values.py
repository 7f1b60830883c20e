"""Values of Python as JSON has them, for rows of files and for events that are dicts; and as reasons show them."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Iterable
from typing import Any

import numpy as np


def json_value(value: Any) -> Any:
    """Return a value as JSON has it: times as ISO 8601, bytes as text, decimals and numpy's scalars as numbers, what
    pandas has for a missing value as None.

    Raises:
        TypeError, ValueError: JSON has no such value.
    """
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, np.datetime64):
        return str(np.datetime_as_string(value)) if not np.isnat(value) else None
    if isinstance(value, np.generic):
        return json_value(value.item())
    if isinstance(value, str | int | float):
        return value
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat() if value == value else None  # pandas.NaT is a datetime, unequal to itself
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, dict):
        return {key: json_value(item) for key, item in value.items()}
    if isinstance(value, list):
        return [json_value(item) for item in value]
    return None if _is_na(value) else float(value)


def plain_value(value: Any) -> Any:
    """Return `json_value`, None for NaN; what JSON cannot have stays as it is, for a reader to refuse."""
    try:
        found = json_value(value)
    except (TypeError, ValueError):
        return value
    return None if isinstance(found, float) and found != found else found


def plain_dicts(documents: list[Any]) -> list[Any]:
    """Return documents, those of a class derived from dict as dicts. Readers take no other: a defaultdict would answer
    for a field that it lacks."""
    if set(map(type, documents)) <= {dict}:
        return documents
    return [dict(each) if isinstance(each, dict) else each for each in documents]


def _is_na(value: object) -> bool:
    """Return whether a value is pandas.NA. There is none unless pandas is loaded, which is not needed here."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and value is getattr(pandas, "NA", pandas)


def show(value: object) -> str:
    """Return the text of any value: its `repr`, or that it cannot be shown."""
    try:
        return repr(value)
    except (RecursionError, ValueError):  # nested beyond the stack; an int of thousands of digits
        return f"a value of type {type(value).__name__} that is too deep or too long to show"


def abbreviated(value: object) -> str:
    """Return `show`, cut after 60 characters."""
    text = show(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def text_of(data: bytes) -> str:
    """Return bytes as text; those that are not UTF-8 become lone surrogates, which readers refuse where they need text:
    two names must not become one."""
    return data.decode("utf-8", "surrogateescape")


def bytes_of(text: str) -> bytes:
    """Return what `text_of` was given; of any other text its UTF-8."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a lone surrogate that never was bytes
        return text.encode("utf-8", "replace")


def why_not_utf8(text: str) -> str:
    """Return in words what a text has that UTF-8 has not, with the bytes that `text_of` was given."""
    try:
        return f"is not UTF-8, found {abbreviated(text.encode('utf-8', 'surrogateescape'))}"
    except UnicodeEncodeError:
        return f"has a lone surrogate, found {abbreviated(text)}"


def is_utf8(texts: Iterable[str]) -> bool:
    """Return whether texts can be encoded as UTF-8: not with a lone surrogate, which Python's JSON parser accepts."""
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        return False
    return True
