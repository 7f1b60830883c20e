"""When the model judges at all, and which values it believes: `event.when` and `event.quality`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_serializer, model_validator

from ssm_stream.config.sections.base import Path, Section
from ssm_stream.config.sections.conditions import Condition, EntityPattern, Test, Value, as_test

ENTITIES = "entities"
"""Key of an entry that names its entities; the other keys are the condition."""


class When(Section):
    """An operating condition of some entities: `{entities: "pump-*", state: running, speed: {above: 10}}`."""

    entities: EntityPattern = "*"
    """Entities that it holds for: a name, or a pattern such as `pump-*`."""
    condition: Condition
    """Path of a field → what its value must be; all must hold."""

    @model_validator(mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            raise ValueError(f"found {value!r}; write fields and their values, such as {{state: running}}")
        rest = {path: test for path, test in value.items() if path != ENTITIES}
        return {**({ENTITIES: value[ENTITIES]} if ENTITIES in value else {}), "condition": rest}

    @property
    def text(self) -> str:
        """`state is running or auto, speed above 10 (pump-*)`."""
        found = ", ".join(f"{path} {test.words}" for path, test in self.condition.items())
        return found if self.entities == "*" else f"{found} ({self.entities})"

    @model_serializer
    def _as_written(self) -> dict[str, Any]:
        return {ENTITIES: self.entities, **{path: test.model_dump() for path, test in self.condition.items()}}


def _listed(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


Conditions = Annotated[
    list[When],
    BeforeValidator(_listed, json_schema_input_type=Condition | list[dict[str, Any]]),
    Field(max_length=100),
]
"""Of entities: the first whose pattern matches holds."""


class Quality(Section):
    """Quality flags of the values: what is not good counts as unknown."""

    column: Path | None = None
    """Path of the flag of all values of the event."""
    columns: dict[Path, Path] = {}
    """Path of a value → path of its own flag, where each has one: `{temp: temp_quality}`. A number may be its own flag,
    `{temp: temp}`: with `good: {above: -9999}` a -9999 is no value."""
    good: Annotated[Test, BeforeValidator(as_test, json_schema_input_type=Value | list[Value] | Test)] = Test(
        one_of=["good", 192]
    )
    """What a good flag is: a text or number, a list of them, or bounds such as `{from: 192}`. A flag that is missing
    or null is not good."""

    @model_validator(mode="after")
    def _has_flag(self) -> Quality:
        if self.column is None and not self.columns:
            raise ValueError("found no flag; name its column, such as {column: quality, good: [good, 192]}")
        if self.judged_by_value and not self.good.bounds:
            raise ValueError(
                f"{self.judged_by_value} is judged by its own value, and `good` has no bounds; write some, such as "
                "good: {above: -9999}"
            )
        return self

    @property
    def flags(self) -> list[str]:
        """Paths of the flags, each once; a value that is its own flag is none of them."""
        others = [flag for value, flag in self.columns.items() if flag != value]
        return list(dict.fromkeys([*([self.column] if self.column else []), *others]))

    @property
    def judged_by_value(self) -> list[str]:
        """Paths of the values that are their own flags."""
        return [value for value, flag in self.columns.items() if flag == value]
