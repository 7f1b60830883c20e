"""Own message formats: the bytes of a message to a document, by a function of another package (`event.format`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ssm_stream.ingest.faults import describe_exception
from ssm_stream.ingest.json_values import json_value

FormatFunction = Callable[[bytes], Any]
"""Returns the document in the value of a message: a dict, with text as keys.

Values may be what JSON has, datetimes, decimals, and numpy's numbers. An exception makes the message a dead letter with
its type and text. The function must return equal documents for equal bytes, in every process.
"""


class FormatError(ValueError):
    """An own format cannot read a message. The text names the format and the reason."""


class OwnFormat:
    """A format that another package brings. name: in the configuration; function: the own part"""

    def __init__(self, name: str, function: FormatFunction) -> None:
        self._name, self._function = name, function

    def __call__(self, value: bytes) -> dict[str, Any]:
        """Return the document in a message. Raises FormatError."""
        try:
            document = self._function(value)
        except MemoryError:
            raise
        except Exception as error:
            raise FormatError(f"format {self._name!r} failed: {describe_exception(error)}") from error
        if not isinstance(document, dict) or not all(type(key) is str for key in document):
            found = "keys that are no text" if isinstance(document, dict) else type(document).__name__
            raise FormatError(f"format {self._name!r} returned {found}; it must return a dict with text as keys")
        try:
            return {key: json_value(item) for key, item in document.items()}
        except (TypeError, ValueError) as error:
            raise FormatError(f"format {self._name!r} returned a value that is no number or text: {error}") from error
