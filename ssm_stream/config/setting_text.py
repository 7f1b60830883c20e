"""Values of settings as the file has them, for lists of what has changed."""

from __future__ import annotations

from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from ssm_stream.config.config import Config
from ssm_stream.config.quantities import format_duration, to_seconds

WIDTH = 80
"""Characters of a value."""


def format_value(value: Any, path: str = "") -> str:
    """Return a value as it is written in YAML, of 80 characters at most: lists and sections lose whole entries.

    path: of the setting, by which numbers are durations or not
    """
    kinds: list[Any] = [Config] if path else []
    for key in path.split("."):
        kinds = _kinds_below(kinds, key)
    text = _written(value, kinds)
    return text if len(text) <= WIDTH else text[: WIDTH - 3] + "…"


def _written(value: Any, kinds: list[Any]) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float) and to_seconds in kinds:
        return format_duration(value)
    if isinstance(value, dict):
        entries = (f"{key}: {_written(each, _kinds_below(kinds, str(key)))}" for key, each in value.items())
        return f"{{{_joined(list(entries))}}}"
    if isinstance(value, list | tuple):
        below = _kinds_below(kinds, "")
        return f"[{_joined([repr(each) if isinstance(each, str) else _written(each, below) for each in value])}]"
    return str(value)


def _joined(entries: list[str]) -> str:
    """Return as many entries as there is room for."""
    if len(whole := ", ".join(entries)) <= WIDTH - 2:
        return whole
    count = len(entries) - 1
    while count > 1 and len(", ".join(entries[:count])) > WIDTH - 5:
        count -= 1
    return ", ".join([*entries[:count], "…"])


def _kinds(annotation: Any, metadata: Any = ()) -> list[Any]:
    """Return the types that a setting may have, `to_seconds` for a duration."""
    if any(getattr(each, "func", None) is to_seconds for each in metadata):
        return [to_seconds]
    if get_origin(annotation) is Annotated:
        return _kinds(annotation.__origin__, annotation.__metadata__)
    if get_origin(annotation) in (Union, UnionType):
        return [kind for each in get_args(annotation) for kind in _kinds(each)]
    return [annotation]


def _kinds_below(kinds: list[Any], key: str) -> list[Any]:
    """Return the types of an entry of settings that may have these."""
    out = []
    for kind in kinds:
        if get_origin(kind) in (dict, list, tuple):
            out += _kinds(get_args(kind)[-1 if get_origin(kind) is dict else 0])
        elif key in (fields := getattr(kind, "model_fields", {})):
            out += _kinds(fields[key].annotation, fields[key].metadata)
    return out
