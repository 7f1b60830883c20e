"""Errors of values as a person who wrote the file needs them: one for each value, in words of the file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ssm_stream.config.sections.base import TOPIC_PATTERN

KINDS = ("function-", "constrained-", "literal[", "list[")
"""Beginnings of pydantic's names of a validator or an alternative, in an error's location."""
NUMBERS = {"int_parsing": "a whole number", "float_parsing": "a number"}
"""pydantic's kind of an error, of text in place of a number → what is expected."""


def is_kind(part: str | int) -> bool:
    """Return whether a part of an error's location is pydantic's name of a validator or an alternative, not a key."""
    return isinstance(part, str) and part.startswith(KINDS)


def plain_errors(items: Sequence[Any]) -> list[dict[str, Any]]:
    """Return pydantic's errors, of the alternatives of one value only the one that was meant, with the cure.

    Of `features: load`, which may be `auto` or a list, pydantic has two errors, and of `features: [load, 3]` one that a
    list is not `auto`.
    """
    places = [tuple(part for part in item["loc"] if not is_kind(part)) for item in items]
    out: list[dict[str, Any]] = []
    for item, place in zip(items, places, strict=True):
        alone = not any(
            other is not item and where[: len(place)] == place for other, where in zip(items, places, strict=True)
        )
        if item["type"] == "literal_error" and is_kind(item["loc"][-1]) and not alone:
            continue
        words = [
            other["ctx"]["expected"].strip("'")
            for other, where in zip(items, places, strict=True)
            if other["type"] == "literal_error" and where == place and is_kind(other["loc"][-1])
        ]
        out.append({**item, "msg": _message(item, words)})
    return out


def _message(item: dict[str, Any], words: list[str]) -> str:
    """Return what is expected. words: that the value may be instead"""
    if item["type"] == "list_type":
        example = item["input"] if isinstance(item["input"], str) and item["input"].isidentifier() else "a, b"
        return ", or ".join([f"write a list, such as [{example}]", *words])
    if item["type"] == "string_type" and isinstance(item["input"], (bool, int, float)):
        return "write text, such as a name; one that is a number stands in quotes"
    if item["type"] == "string_pattern_mismatch" and item["ctx"]["pattern"] == TOPIC_PATTERN:
        return "a topic's name may have letters, digits, `.`, `_` and `-` only"
    if item["type"] in NUMBERS:
        return f"write {NUMBERS[item['type']]}"
    message: str = item["msg"]
    return message
