"""Conditions on an event's fields: the one grammar of `event.when`, `event.quality`, limits and windows. No code.

    {state: [running, auto], speed: {above: 10}, quality: good}

holds where every field passes its test: equal to the value, or to one of a list, or within bounds. A field that is
missing or null passes none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, model_serializer, model_validator

from ssm_stream.config.sections.base import Path, Section

Value = bool | int | float | str
"""What a field may be equal to. A truth value is the number 1 or 0, as in events."""
Number = Annotated[float, Field(allow_inf_nan=False)]


class Test(Section):
    """What the value of one field must be. All that is set must hold."""

    one_of: list[Value] | None = None
    """Equal to one of these texts, numbers or truth values."""
    above: Number | None = None
    """A number greater than this."""
    below: Number | None = None
    """A number smaller than this."""
    least: Annotated[Number | None, Field(alias="from")] = None
    """A number of at least this."""
    most: Annotated[Number | None, Field(alias="to")] = None
    """A number of at most this."""

    @model_serializer
    def _as_written(self) -> dict[str, Any]:
        return self._tests()

    @property
    def bounds(self) -> dict[str, float]:
        """The bounds that are set, by the words of the file."""
        words = {"above": self.above, "below": self.below, "from": self.least, "to": self.most}
        return {word: bound for word, bound in words.items() if bound is not None}

    @property
    def words(self) -> str:
        """`is running or auto`, `above 10 and below 20`."""
        parts = [f"{word} {bound:.15g}" for word, bound in self.bounds.items()]
        if self.one_of is not None:
            parts.insert(0, f"is {' or '.join(map(value_text, self.one_of))}")
        return " and ".join(parts)

    def _tests(self) -> dict[str, Any]:
        return self.bounds if self.one_of is None else {"one_of": self.one_of, **self.bounds}

    @model_validator(mode="after")
    def _not_empty(self) -> Test:
        bounds = (self.above, self.below, self.least, self.most)
        if self.one_of is None and all(bound is None for bound in bounds):
            raise ValueError("found {}; write a value, a list of values, or above, below, from or to with a number")
        if self.one_of == []:
            raise ValueError("found []; a list names at least one value")
        low = max((bound for bound in (self.above, self.least) if bound is not None), default=None)
        high = min((bound for bound in (self.below, self.most) if bound is not None), default=None)
        open_ended = low in (self.above,) or high in (self.below,)
        if low is not None and high is not None and (low > high or (low == high and open_ended)):
            raise ValueError(f"found bounds that no number keeps, from {low:g} to {high:g}; exchange or widen them")
        return self


def value_text(value: object) -> str:
    """Return a value as the file has it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def as_test(value: object) -> object:
    """Return a test as its model has it: of a value or a list of values, one of them."""
    if isinstance(value, bool | int | float | str):
        return {"one_of": [value]}
    if isinstance(value, list):
        return {"one_of": value}
    return value


def _named(condition: dict[str, Test]) -> dict[str, Test]:
    if not condition:
        raise ValueError("found {}; name at least one field, such as `state: running`")
    return condition


Condition = Annotated[
    dict[
        Path,
        Annotated[Test, BeforeValidator(as_test, json_schema_input_type=Value | list[Value] | Test)],
    ],
    AfterValidator(_named),
]
"""Path of a field → its test; all must hold."""


def _pattern(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"found {value!r}; write a name, or a pattern such as 'pump-*'")
    return value


EntityPattern = Annotated[str, BeforeValidator(_pattern)]
"""The name of an entity, or a pattern of names: `*` for any text, `?` for one character, `[ab]` for one of them."""


def fields(conditions: Iterable[Mapping[str, Test]]) -> list[str]:
    """Return the paths of the fields in conditions, each once, in order of appearance."""
    return list(dict.fromkeys(path for condition in conditions for path in condition))
