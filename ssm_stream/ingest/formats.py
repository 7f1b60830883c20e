"""Message formats: the bytes of a message to a document. JSON, or an own part by its name (`event.format`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from ssm_stream.config import Event
from ssm_stream.config.sections.own_parts import load_part
from ssm_stream.ingest.json_values import json_value

MessageFormat = Callable[[bytes], Any]
"""Returns the document in the value of a message: for an own part a dict, with text as keys.

Values may be what JSON has, datetimes, decimals, and numpy's numbers. An exception makes the message a dead letter with
its type and text. The function must return equal documents for equal bytes, in every process.
"""


class FormatError(ValueError):
    """An own format cannot read a message. The text names the format and the reason."""


def message_format(event: Event) -> MessageFormat:
    """Return the function that reads the messages of the events topic.

    It raises `orjson.JSONDecodeError` or `FormatError` for a message that it cannot read.

    Raises:
        ConfigError: the format is not installed, or cannot be imported.
    """
    return orjson.loads if event.format == "json" else OwnFormat(event.format, load_part("format", event.format))


class OwnFormat:
    """A format that another package brings. name: in the configuration; function: the own part"""

    def __init__(self, name: str, function: MessageFormat) -> None:
        self._name, self._function = name, function

    def __call__(self, value: bytes) -> dict[str, Any]:
        """Return the document in a message. Raises FormatError."""
        try:
            document = self._function(value)
        except MemoryError:
            raise
        except Exception as error:
            raise FormatError(f"format {self._name!r} failed: {type(error).__name__}: {str(error)[:200]}") from error
        if not isinstance(document, dict) or not all(type(key) is str for key in document):
            found = "keys that are no text" if isinstance(document, dict) else type(document).__name__
            raise FormatError(f"format {self._name!r} returned {found}; it must return a dict with text as keys")
        try:
            return {key: json_value(item) for key, item in document.items()}
        except (TypeError, ValueError) as error:
            raise FormatError(f"format {self._name!r} returned a value that is no number or text: {error}") from error
