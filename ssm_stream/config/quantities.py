"""Values of the file that are written as text: durations, alarm budgets, half-lives, horizons."""

from __future__ import annotations

import math
import re
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
LONG_UNITS = ((31_557_600, "years"), (86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))
DURATION = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)\s*$")
BUDGET = re.compile(r"^\s*(\d+(?:\.\d+)?)\s+per\s+(?:(\d+)\s+events?|(\d+(?:\.\d+)?\s*(?:ms|s|m|h|d)))\s*$")


MAX_DURATION = 36_500 * UNITS["d"]
"""Seconds of the longest duration, a century: clocks and timers count no further than a few."""


def to_seconds(value: object) -> object:
    """Return a duration in seconds, from a number or a text such as '30s'. Raises ValueError."""
    if isinstance(value, str):
        found = DURATION.match(value)
        if not found:
            raise ValueError(f"found {value!r}; write a duration such as '500ms', '30s', '5m', '6h' or '30d'")
        return _seconds(found)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"found {value!r}; write a duration such as '30s' or '30d'")
    return _bounded(float(max(min(value, 1e300), -1e300)), value)  # an int may be larger than any float


def _seconds(found: re.Match[str]) -> float:
    return _bounded(float(found[1]) * UNITS[found[2]], found[0])


def _bounded(seconds: float, value: object) -> float:
    if seconds > MAX_DURATION:
        raise ValueError(f"found {value!r}; write a duration of at most {format_duration(MAX_DURATION)}")
    return seconds


Duration = Annotated[
    float,
    Field(gt=0, allow_inf_nan=False),
    BeforeValidator(
        to_seconds,
        json_schema_input_type=Annotated[float, Field(gt=0)] | Annotated[str, Field(pattern=DURATION.pattern)],
    ),
]
"""Seconds. In the file: '500ms', '30s', '5m', '6h', '30d', or a number of seconds."""


class Budget(BaseModel):
    """How many false alarms an entity may raise: `count` in `events` events, or in `seconds` of event time."""

    model_config = ConfigDict(frozen=True)
    text: str
    events: float = Field(default=0.0, description="mean events between false alarms; 0 where the budget is in time")
    seconds: float = Field(
        default=0.0, description="mean seconds between false alarms; 0 where the budget is in events"
    )

    def split(self, m: float) -> Budget:
        """Return the budget of one of m equal parts, which together keep this one; the text stays that of the whole."""
        return self.model_copy(update={"events": m * self.events, "seconds": m * self.seconds})


def format_duration(seconds: float) -> str:
    """Return a duration as the file has it, in the largest unit that divides it."""
    unit = next((unit for unit in reversed(UNITS) if seconds and seconds % UNITS[unit] == 0), "s")
    return f"{seconds / UNITS[unit]:.15g}{unit}"


def rough_duration(seconds: float) -> str:
    """Return a time with its unit, to two digits."""
    if math.isnan(seconds):
        return "?"
    size, unit = next(((size, unit) for size, unit in LONG_UNITS if seconds >= 2 * size), (1, "s"))
    return f"{float(f'{seconds / size:.2g}'):g} {unit}"


def _budget(value: object) -> object:
    if not isinstance(value, str) or not (found := BUDGET.match(value)) or float(found[1]) <= 0:
        raise ValueError(f"found {value!r}; write a budget such as '1 per 10000 events' or '1 per 30d'")
    count = float(found[1])
    if found[2]:
        gap = int(found[2]) / count
        if gap < 20:
            raise ValueError(
                f"found {value!r}; a budget below one alarm in 20 events cannot be distinguished from noise"
            )
        return Budget(text=value.strip(), events=gap)
    every = DURATION.match(found[3])
    assert every is not None  # it is part of the pattern
    return Budget(text=value.strip(), seconds=_seconds(every) / count)


BudgetSetting = Annotated[
    Budget,
    BeforeValidator(_budget, json_schema_input_type=Annotated[str, Field(pattern=BUDGET.pattern)]),
    PlainSerializer(lambda budget: budget.text, return_type=str),
]


class HalfLife(BaseModel):
    """A half-life: in events of the learner, or in seconds of event time (the other is 0)."""

    model_config = ConfigDict(frozen=True)
    text: str
    events: float = 0.0
    seconds: float = 0.0


EVENTS = re.compile(r"^\s*(\d+(?:\.\d+)?)\s+events?\s*$")


def _half_life(value: object) -> object:
    if isinstance(value, str):
        if found := EVENTS.match(value):
            if float(found[1]) < 1:
                raise ValueError(f"found {value!r}; a half-life is at least 1 event")
            return HalfLife(text=value.strip(), events=float(found[1]))
        if (found := DURATION.match(value)) and (seconds := _seconds(found)) > 0:
            return HalfLife(text=value.strip(), seconds=seconds)
    raise ValueError(f"found {value!r}; write a half-life such as '500 events' or '6h'")


HalfLifeSetting = Annotated[
    HalfLife,
    BeforeValidator(
        _half_life, json_schema_input_type=Annotated[str, Field(pattern=f"{EVENTS.pattern}|{DURATION.pattern}")]
    ),
    PlainSerializer(lambda half_life: half_life.text, return_type=str),
]


class Lasting(BaseModel):
    """How long something lasts: events of an entity, or seconds of event time (the other is 0)."""

    model_config = ConfigDict(frozen=True)
    text: str
    events: int = 1
    seconds: float = 0.0


LASTING = re.compile(r"^\s*(\d+)\s+events?\s*$")


def _lasting(value: object) -> object:
    if isinstance(value, str):
        if (found := LASTING.match(value)) and int(found[1]) >= 1:
            return Lasting(text=value.strip(), events=int(found[1]))
        if found := DURATION.match(value):
            return Lasting(text=value.strip(), events=0, seconds=_seconds(found))
    raise ValueError(f"found {value!r}; write a number of events such as '3 events', or a duration such as '5m'")


LastingSetting = Annotated[
    Lasting,
    BeforeValidator(
        _lasting, json_schema_input_type=Annotated[str, Field(pattern=f"{LASTING.pattern}|{DURATION.pattern}")]
    ),
    PlainSerializer(lambda lasting: lasting.text, return_type=str),
]


class Horizon(BaseModel):
    """How far ahead the predicted target is: events of the entity, or seconds of event time (the other is 0)."""

    model_config = ConfigDict(frozen=True)
    text: str
    events: int = 0
    seconds: float = 0.0


MAX_PENDING = 4096
HORIZON = re.compile(r"^\s*(\d+)(\s+events?)?\s*$")


def _horizon(value: object) -> object:
    if isinstance(value, str):
        if found := HORIZON.match(value):
            value = int(found[1])
        elif found := DURATION.match(value):
            return Horizon(text=value.strip(), seconds=_seconds(found))
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_PENDING:
        return Horizon(text=f"{value} events" if value else "0", events=value)
    raise ValueError(
        f"found {value!r}; write 0, a number of events such as '5 events' (at most {MAX_PENDING}), or a duration such "
        "as '1h'"
    )


HorizonSetting = Annotated[
    Horizon,
    BeforeValidator(
        _horizon,
        json_schema_input_type=Annotated[int, Field(ge=0, le=MAX_PENDING)]
        | Annotated[str, Field(pattern=f"{HORIZON.pattern}|{DURATION.pattern}")],
    ),
    PlainSerializer(lambda horizon: horizon.text, return_type=str),
]


def plural(count: int, noun: str) -> str:
    """Return the count with its noun, as in 1 lag, 2 lags."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
