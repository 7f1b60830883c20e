"""What all sections share: their base class, the error of a configuration, and types used in several sections."""

from __future__ import annotations

import functools
import pathlib
import types
import typing
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)
from pydantic.fields import FieldInfo

from ssm_stream.config.paths import parse_path


class ConfigError(ValueError):
    """The configuration cannot be used. The text is meant for the person who wrote the file."""


class Section(BaseModel):
    """A section of the file: frozen, unknown keys and numbers without an end refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: object, info: ValidationInfo) -> object:
        if isinstance(value, bool) and info.field_name in _numbers(cls):
            raise ValueError(f"found {str(value).lower()}; write a number")
        return value


@functools.cache
def _numbers(section: type[BaseModel]) -> frozenset[str]:
    """Return the names of the fields that are numbers as they stand, which Python takes true and false for."""
    found = {name: set(_alternatives(field)) for name, field in section.model_fields.items()}
    return frozenset(name for name, kinds in found.items() if kinds & {int, float} and bool not in kinds)


def _alternatives(kind: Any) -> Iterator[object]:
    """Yield the types that a value of a kind may be of, without those that are read by a validator of their own."""
    metadata: Any = getattr(kind, "metadata", None) or getattr(kind, "__metadata__", ())
    if any(isinstance(each, BeforeValidator) for each in metadata):
        return
    inner: Any = kind.annotation if isinstance(kind, FieldInfo) else kind
    origin, parts = typing.get_origin(inner), typing.get_args(inner)
    if origin is typing.Annotated:
        yield from _alternatives(parts[0])
    elif origin in (typing.Union, types.UnionType):
        for each in parts:
            yield from _alternatives(each)
    else:
        yield inner


def _property(value: object) -> object:
    if not isinstance(value, str | int | float):
        kinds = {type(None): "null", list: "a list", dict: "settings below it"}
        found = kinds.get(type(value), type(value).__name__)
        raise ValueError(f"found {found}; write a text, a number, true or false, or leave it out")
    return value


KafkaProperties = dict[str, Annotated[str | int | float | bool, BeforeValidator(_property)]]
TOPIC_PATTERN = r"^[A-Za-z0-9._-]+$"
Topic = Annotated[str, Field(min_length=1, max_length=249, pattern=TOPIC_PATTERN)]


def _path(path: str) -> str:
    parse_path(path)
    return path


Path = Annotated[str, Field(min_length=1), AfterValidator(_path)]
"""Path of a field in a JSON document or a row, or of the message's key or a header; see `config.paths`."""


def nonempty_file(path: object) -> object:
    """Return the path of a file or folder as it is. Raises ValueError: there is no such name."""
    if isinstance(path, str) and (not path.strip() or "\0" in path):
        raise ValueError(f"found {path!r}; write the path of a file or folder, or null")
    return path


File = Annotated[pathlib.Path, BeforeValidator(nonempty_file)]
"""Path of a file or folder of this machine: an empty one would be the folder that the process happens to be in."""
