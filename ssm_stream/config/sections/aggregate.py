"""The section `event.aggregate`: windows of events, such as one a request, become the rows that are predicted."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_serializer, model_validator

from ssm_stream.config.quantities import Duration
from ssm_stream.config.sections.base import Path, Section
from ssm_stream.config.sections.conditions import Condition, Test, fields
from ssm_stream.config.sections.readings import Grace

MAX_COLUMNS = 256
MAX_WINDOW = 86400.0
"""Longest window, s."""
QUANTILE = re.compile(r"p(\d{1,2}(?:\.\d{1,3})?)")
NUMBERS = ("sum", "mean", "min", "max", "last")
"""Aggregates of a number, by its path."""
CONDITIONS = ("count", "share")
"""Aggregates of a condition."""
EXAMPLES = "count, {share: {status: {from: 500}}}, {sum: bytes} or {p95: latency_ms}"


class Column(Section):
    """A column of a window's row: `count`, or one aggregate of a number or of a condition."""

    operation: Literal["count", "share", "sum", "mean", "min", "max", "last", "quantile"]
    """What it is."""
    path: Path | None = None
    """Path of the number; None for a count or share."""
    condition: Condition | None = None
    """What a count or share is of; None: all events."""
    percent: Annotated[float, Field(gt=0, lt=100)] = 50.0
    """Of a quantile."""

    @model_validator(mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        if value == "count":
            return {"operation": "count"}
        if not isinstance(value, dict) or len(value) != 1:
            raise ValueError(f"found {value!r}; write one of {EXAMPLES}")
        ((name, of),) = value.items()
        if name in NUMBERS:
            return {"operation": name, "path": of}
        if name in CONDITIONS:
            return {"operation": name, "condition": of}
        if found := QUANTILE.fullmatch(str(name)):
            return {"operation": "quantile", "percent": float(found[1]), "path": of}
        names = [*CONDITIONS, *NUMBERS, "p50, p95, p99.9 and so on"]
        raise ValueError(f"found {name!r}; write one of {', '.join(names)}")

    @model_validator(mode="after")
    def _complete(self) -> Column:
        if self.operation not in CONDITIONS and self.path is None:
            raise ValueError(f"{self.name}: found null; name a number of the event, such as {{{self.name}: value}}")
        return self

    @model_serializer
    def _as_written(self) -> Any:
        if self.condition is not None:
            return {self.name: {path: test.model_dump() for path, test in self.condition.items()}}
        return self.name if self.path is None else {self.name: self.path}

    @property
    def name(self) -> str:
        """The aggregate as the file has it: `p95` of a quantile."""
        return f"p{self.percent:g}" if self.operation == "quantile" else self.operation

    @property
    def text(self) -> str:
        """`share of status from 500`, `p95 of latency_ms`."""
        if self.path is not None:
            return f"{self.name} of {self.path}"
        tests = {} if self.condition is None else self.condition
        met = " and ".join(f"{path} {test.words}" for path, test in tests.items())
        return f"{self.name} of {met}" if met else self.name


ColumnSetting = Annotated[
    Column,
    BeforeValidator(lambda value: value, json_schema_input_type=Literal["count"] | dict[str, Path | Condition]),
]


class Aggregate(Section):
    """Windows of event time. Each window of an entity becomes a row, and the row is what is predicted: `features`,
    `target` and all other settings name the columns of rows."""

    every: Annotated[Duration, Field(ge=0.1, le=MAX_WINDOW)]
    """Length of a window, 100ms to 1d. Windows begin at whole multiples of it since 1970 in UTC. The time of a row is
    the last millisecond of its window."""
    grace: Annotated[Grace, Field(le=MAX_WINDOW)] = 10.0
    """How far events may be out of order. A window's row is made when the time of the events has come so far beyond
    its end; an event that comes later is a dead letter."""
    columns: Annotated[dict[Path, ColumnSetting], Field(min_length=1, max_length=MAX_COLUMNS)]
    """A name for each column, and what it is: `count`, or `count` or `share` of a condition such as `{share: {status:
    {from: 500}}}`; `sum`, `mean`, `min`, `max` or `last` of a number such as `{sum: bytes}`; a quantile such as `{p95:
    latency_ms}`. A window without events has 0 for counts and sums, and unknown values for the others."""

    @field_validator("every", mode="after")
    @classmethod
    def _whole(cls, every: float) -> float:
        if abs(1000 * every - round(1000 * every)) > 1e-6:
            raise ValueError(f"every: found {every:g} s; write whole milliseconds")
        return every

    @property
    def numbers(self) -> list[str]:
        """Paths of the numbers that are aggregated, each once."""
        return list(dict.fromkeys(each.path for each in self.columns.values() if each.path is not None))

    @property
    def conditions(self) -> list[dict[str, Test]]:
        """The conditions of counts and shares, in the order of the columns."""
        return [each.condition for each in self.columns.values() if each.condition is not None]

    @property
    def fields(self) -> list[str]:
        """Paths of the fields in conditions, each once."""
        return fields(self.conditions)

    @property
    def paths(self) -> list[str]:
        """Paths that an event must have, those of its entity and time aside."""
        return list(dict.fromkeys([*self.numbers, *self.fields]))

    @property
    def example(self) -> dict[str, Any]:
        """A value at each of `paths`, that of a field in a condition one that it names."""
        out: dict[str, Any] = dict.fromkeys(self.numbers, 20.25)
        for condition in self.conditions:
            for path, test in condition.items():
                bounds = [bound for bound in (test.least, test.most, test.above, test.below) if bound is not None]
                out[path] = bounds[0] if test.one_of is None else test.one_of[0]
        return out

    def check(self, used: Iterable[tuple[str, str]]) -> None:
        """Check that what the other settings name are columns of rows.

        Args:
            used: key of the configuration and the column that it names

        Raises:
            ValueError: one of them is not.
        """
        for key, path in used:
            if path not in self.columns:
                names = ", ".join(list(self.columns)[:20])
                raise ValueError(f"{key}: {path!r} is no column of a window; the columns of `aggregate` are {names}")
