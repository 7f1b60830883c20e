"""Settings of `event.layout: readings`, where a message is one value of one signal."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator

from ssm_stream.config.quantities import DURATION, Duration, to_seconds
from ssm_stream.config.sections.base import Path, Section

NAMES = ("entity", "signal")
"""Parts of a tag that a pattern must have, each once."""
MAX_TICKS = 10_000
"""Rows of a grid that one gap of an entity may hold: `max_age` is at most so many times `every`."""

Grace = Annotated[
    float,
    Field(ge=0, allow_inf_nan=False),
    BeforeValidator(
        to_seconds,
        json_schema_input_type=Annotated[float, Field(ge=0)] | Annotated[str, Field(pattern=DURATION.pattern)],
    ),
]
"""A duration that may be 0."""
MaxAge = Duration | dict[Path, Duration]


class Tag(Section):
    """One text that names both entity and signal, such as `PUMP-3.TEMP`."""

    field: Path = "tag"
    """Path of the text."""
    pattern: Annotated[str, Field(max_length=500)]
    """How it is made up: `{entity}.{signal}`; `*` stands for any text, such as `*/{entity}/{signal}`. Where a text can
    be split in several ways, earlier parts are as long as possible: the entity of `LINE-1.PUMP-3.TEMP` is
    `LINE-1.PUMP-3`."""

    @field_validator("pattern", mode="after")
    @classmethod
    def _usable(cls, pattern: str) -> str:
        for name in NAMES:
            if pattern.count(f"{{{name}}}") != 1:
                raise ValueError(
                    f"found {pattern!r} with {pattern.count(f'{{{name}}}')} times {{{name}}}; write each of {{entity}} "
                    "and {signal} once, such as '{entity}.{signal}'"
                )
        if re.search(r"\}\*?\{", pattern):
            raise ValueError(
                f"found {pattern!r} with nothing between {{entity}} and {{signal}}; write the text that separates them"
            )
        return pattern

    @property
    def expression(self) -> re.Pattern[str]:
        """The pattern as a regular expression with the groups `entity` and `signal`."""
        parts = re.split(r"(\{entity\}|\{signal\}|\*)", self.pattern)
        known = {"{entity}": "(?P<entity>.+)", "{signal}": "(?P<signal>.+)", "*": ".*"}
        return re.compile("".join(known.get(part, re.escape(part)) for part in parts), re.DOTALL)

    @property
    def schema_pattern(self) -> str:
        """The pattern as one of JSON Schema, which has no named groups."""
        parts = re.split(r"(\{entity\}|\{signal\}|\*)", self.pattern)
        known = {"{entity}": ".+", "{signal}": ".+", "*": ".*"}
        plain = (known.get(part, re.sub(r"[\\^$.*+?()\[\]{}|/]", r"\\\g<0>", part)) for part in parts)
        return f"^{''.join(plain)}$"


def _tag(value: Any) -> Any:
    return {"pattern": value} if isinstance(value, str) else value


TagSetting = Annotated[Tag, BeforeValidator(_tag, json_schema_input_type=str | Tag)]


def check_max_age(max_age: float | dict[str, float] | None, every: float | None, signals: Collection[str]) -> None:
    """Check that ages are of signals, and bounded on a grid.

    Raises:
        ValueError: they are not.
    """
    ages = {} if max_age is None else max_age if isinstance(max_age, dict) else {"": max_age}
    if unknown := sorted(set(ages) - {""} - set(signals)):
        raise ValueError(f"max_age: {unknown} is no signal that is used; the signals are {', '.join(sorted(signals))}")
    if every is not None and ages and max(ages.values()) > MAX_TICKS * every:
        raise ValueError(
            f"max_age: found {max(ages.values()):g} s with every: {every:g} s; a gap would be filled with more than "
            f"{MAX_TICKS} rows: shorten max_age, or lengthen every"
        )
