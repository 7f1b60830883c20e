"""How the page writes what people do on it: verdicts and stops are messages on topics that others read, too."""

from __future__ import annotations

from typing import Any, Protocol


class PageWriter(Protocol):
    """Writes messages to one topic."""

    def __call__(self, key: str, document: dict[str, Any]) -> str:
        """Write a message, wait until the broker has it, and return its id.

        Raises:
            ValueError: the message could not be used.
            RuntimeError: the broker does not have it.
        """
