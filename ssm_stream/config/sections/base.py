"""What all sections share: their base class, the error of a configuration, and types used in several sections."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from ssm_stream.config.paths import parse_path


class ConfigError(ValueError):
    """The configuration cannot be used. The text is meant for the person who wrote the file."""


class Section(BaseModel):
    """A section of the file: frozen, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


KafkaProperties = dict[str, str | int | float | bool]
Topic = Annotated[str, Field(min_length=1, max_length=249, pattern=r"^[A-Za-z0-9._-]+$")]


def _path(path: str) -> str:
    parse_path(path)
    return path


Path = Annotated[str, Field(min_length=1), AfterValidator(_path)]
"""Path of a field in a JSON document or a row, or of the message's key or a header; see `config.paths`."""
