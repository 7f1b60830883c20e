"""Answers without secrets: no answer holds a secret of the configuration, nor what a placeholder stands for."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr

from ssm_stream.config import Config
from ssm_stream.config.client_properties import REDACTED, is_redacted
from ssm_stream.config.file import MAX_FILE_BYTES, PLACEHOLDER
from ssm_stream.kafka.client import redact_text

MIN_PART = 4
"""Characters from which on a placeholder's value is replaced within a longer text, too."""


def secrets_of(config: Config) -> list[str]:
    """Return the values of a configuration that no answer may hold."""
    registry = config.schema_registry
    groups = (config.source.kafka, config.sinks.kafka, {} if registry is None else registry.properties)
    found = [str(value) for group in groups for name, value in group.items() if is_redacted(name)]
    return sorted({*found, *_secret_fields(config)}, key=len, reverse=True)  # one may be part of another


def _secret_fields(content: Any) -> Iterator[str]:
    """Yield the values of the secret fields of a model, whatever section they are in."""
    if isinstance(content, SecretStr):
        yield content.get_secret_value()
    elif isinstance(content, BaseModel):
        for name in type(content).model_fields:
            yield from _secret_fields(getattr(content, name))
    elif isinstance(content, dict):
        for value in content.values():
            yield from _secret_fields(value)
    elif isinstance(content, list | tuple):
        for value in content:
            yield from _secret_fields(value)


class Redactor:
    """Replaces secrets in answers by `***`. secrets: their values"""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = [each for each in secrets if len(each) > 2]

    def text(self, text: str) -> str:
        """Return a text without secrets."""
        for each in self._secrets:
            text = text.replace(each, REDACTED)
        return redact_text(text)

    def __call__(self, content: Any) -> Any:
        """Return JSON content without secrets."""
        return map_texts(content, self.text)


def map_texts(content: Any, change: Any) -> Any:
    """Return JSON content with each of its texts changed, names of fields excluded."""
    if isinstance(content, str):
        return change(content)
    if isinstance(content, dict):
        return {name: map_texts(value, change) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [map_texts(each, change) for each in content]
    return content


class Placeholders:
    """The placeholders of a configuration file: where an answer would hold the value of one, it has the placeholder.

    file: the configuration file
    """

    def __init__(self, file: Path) -> None:
        try:
            text = file.read_text(encoding="utf-8", errors="replace")
        except OSError:
            text = ""
        found = {each[0]: _value(each[1], each[2]) for each in PLACEHOLDER.finditer(text)}
        self._values = {value: placeholder for placeholder, value in found.items() if value}

    def restore(self, content: Any) -> Any:
        """Return JSON content with placeholders in the place of their values."""
        return map_texts(content, self._restored)

    def _restored(self, text: str) -> str:
        if (placeholder := self._values.get(text)) is not None:
            return placeholder
        for value, placeholder in self._values.items():
            if len(value) >= MIN_PART:
                text = text.replace(value, placeholder)
        return text


def _value(file: str | None, variable: str | None) -> str:
    """Return what a placeholder stands for; empty without a value, and of a default, which the file itself has."""
    if file is None:
        return os.environ.get(variable or "", "").rstrip("\r\n")
    try:
        with Path(file).open(encoding="utf-8", errors="replace") as opened:
            return opened.read(MAX_FILE_BYTES).rstrip("\r\n")
    except (OSError, ValueError):
        return ""
