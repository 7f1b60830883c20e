"""The section `event`: which fields of an event are its entity, time, features and targets."""

from __future__ import annotations

import zoneinfo
from collections import Counter
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from ssm_stream.config.sections.base import ConfigError, Path, Section
from ssm_stream.config.sections.own_parts import require_part

MAX_TARGETS = 64
MAX_NAME_LENGTH = 512
"""Characters of an entity's or a category's name."""


def _repeated(paths: list[Any]) -> list[Any]:
    return sorted(path for path, count in Counter(paths).items() if count > 1)


def _targets(value: object) -> object:
    paths: list[Any] = value if isinstance(value, list) else [value]
    if not all(isinstance(path, str) and path for path in paths) or not 1 <= len(paths) <= MAX_TARGETS:
        found = repr(value) if len(repr(value)) <= 60 else f"{len(paths)} entries"
        raise ValueError(f"found {found}; write a path such as 'temp', or a list of 1 to {MAX_TARGETS} paths")
    if twice := _repeated(paths):
        raise ValueError(f"found {twice} twice; name each target once")
    # A list of one means the same as its path alone: the same messages, state and hash.
    return paths[0] if len(paths) == 1 else paths


def _format(value: str) -> str:
    if value != "json":
        require_part("format", value)
    return value


Targets = Annotated[
    str | list[str],
    BeforeValidator(
        _targets,
        json_schema_input_type=Path
        | Annotated[list[Path], Field(min_length=1, max_length=MAX_TARGETS, json_schema_extra={"uniqueItems": True})],
    ),
]
"""Paths; with one, the path itself."""


class Event(Section):
    """How a JSON event (or a row of a file) is read. Paths may be dotted: `payload.sensor.temp`."""

    entity: Path
    """Path of the name of the machine, sensor, service or line (text or whole number)."""
    entity_default: Annotated[str, Field(min_length=1, max_length=MAX_NAME_LENGTH)] | None = None
    """Name for events (and labels) that have none at `entity`: for a topic of one machine. Default: they are dead
    letters."""
    timestamp: Path
    """Path of the event's time."""
    timestamp_format: Literal["auto", "s", "ms", "us", "ns", "iso"] = "auto"
    """`auto`: text is ISO 8601; a number is seconds, milli-, micro- or nanoseconds since 1970 by its size."""
    time_zone: str = "UTC"
    """Zone of ISO times without an offset, and of the calendar features."""
    max_bytes: Annotated[int, Field(ge=100, le=1_000_000_000)] = 1_048_576
    """A larger message is a dead letter and is not parsed."""
    format: Annotated[str, AfterValidator(_format)] = "json"
    """How an event is read from the bytes of its message: `json`, or the name of an own part that is installed."""
    framed: bool = False
    """Events and labels may begin with a schema registry's frame, a zero byte and four bytes of id, which is skipped;
    what follows is JSON, or in `format`."""
    features: Literal["auto"] | list[Path] = []
    """Paths of the numeric inputs. A missing or null feature counts as unknown, not as zero. A column of 3 to 32 whole
    numbers is also read as a category, until it has another value. `auto`: selected from the first events at start."""
    categories: list[Path] = []
    """Paths of inputs that are names (text, numbers or true/false): each of the first 32 values is an input of its own,
    later ones share one."""
    target: Targets = "target"
    """Path of the number to predict, or a list of up to 64: each is predicted by itself, with past values of its own;
    alerts are by entity. Missing or null in an event: it is predicted, not learned."""
    lags: Annotated[int, Field(ge=0, le=64)] = 8
    """Past targets used as inputs. 0: a soft sensor that must not lean on the last measurement."""
    differences: bool | None = None
    """Use each feature's change since the entity's last event as an input too. Default: where `lags` is 1 or more; a
    change predicts the target's next step, but hardly its level."""
    feature_lags: Annotated[int, Field(ge=0, le=16)] = 0
    """Past events whose features are inputs too, each as its difference from the present value; the first of them is
    the change of `differences`. For effects that arrive some events later."""
    calendar: Literal["auto"] | list[Literal["hour", "weekday", "hour_cycle", "weekday_cycle"]] = "auto"
    """Inputs made from the event's time: hour of day and day of week, a step each or as smooth cycles. `auto`: steps,
    where events come often enough to have a day and the columns do not hold the same already."""

    @property
    def uses_differences(self) -> bool:
        """Whether the features' changes are inputs."""
        return self.feature_lags > 0 or (self.lags > 0 if self.differences is None else self.differences)

    @model_validator(mode="after")
    def _usable(self) -> Event:
        try:
            zoneinfo.ZoneInfo(self.time_zone)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(f"time_zone: found {self.time_zone!r}; write an IANA name such as 'Asia/Tokyo'") from error
        selected_later = self.features == "auto"
        columns = self.categories if selected_later else self.columns
        if not selected_later and not columns and not self.lags and not self.calendar:
            raise ValueError("nothing to predict from; name features, or set lags to 1 or more")
        if twice := _repeated(columns):
            raise ValueError(f"features: {twice} named twice; name each once")
        for target in self.targets:
            if target in columns:
                which = "the target" if len(self.targets) == 1 else "a target"
                raise ValueError(f"features: {target!r} is {which}; it may not be a feature")
        return self

    @property
    def targets(self) -> list[str]:
        """`target` as a list."""
        return [self.target] if isinstance(self.target, str) else self.target

    @property
    def numbers(self) -> list[str]:
        """`features` as a list.

        Raises:
            ConfigError: `auto`, and `autoconfig.feature_selection` has not filled them in yet.
        """
        if self.features == "auto":
            raise ConfigError(
                "event.features: found auto, and none are selected yet; select them from the first events, or list "
                "the paths"
            )
        return self.features

    @property
    def columns(self) -> list[str]:
        """Paths of the columns of `Events.features`: `features`, then `categories`. Raises as `numbers`."""
        return [*self.numbers, *self.categories]
