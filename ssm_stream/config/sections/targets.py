"""The value of `event.target`: one path, or a list of them."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from ssm_stream.config.paths import parse_path
from ssm_stream.config.sections.base import Path

MAX_TARGETS = 64
ALL = "all"
"""As `target`: every feature is one."""


def repeated(paths: list[Any]) -> list[Any]:
    """Return those that are named more than once."""
    return sorted(path for path, count in Counter(paths).items() if count > 1)


def _targets(value: object) -> object:
    paths: list[Any] = value if isinstance(value, list) else [value]
    if not all(isinstance(path, str) and path for path in paths) or not 1 <= len(paths) <= MAX_TARGETS:
        found = repr(value) if len(repr(value)) <= 60 else f"{len(paths)} entries"
        raise ValueError(f"found {found}; write a path such as 'temp', or a list of 1 to {MAX_TARGETS} paths")
    for path in paths:
        parse_path(path)
    if twice := repeated(paths):
        raise ValueError(f"found {twice} twice; name each target once")
    # A list of one means the same as its path alone: the same messages, state and hash.
    return paths[0] if len(paths) == 1 else paths


Targets = Annotated[
    str | list[str],
    BeforeValidator(
        _targets,
        json_schema_input_type=Path
        | Annotated[list[Path], Field(min_length=1, max_length=MAX_TARGETS, json_schema_extra={"uniqueItems": True})],
    ),
]
"""Paths; with one, the path itself."""
