"""Paths of fields in documents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def path_getter(path: str) -> Callable[[Any], Any]:
    """Return a function that gets the value at a path of a document.

    The value of the key itself if the document has it, else key by key along the dots; None if there is no such path.
    """
    keys = path.split(".")

    def nested(document: Any) -> Any:
        if path in document:
            return document[path]
        for key in keys:
            if type(document) is not dict:
                return None
            document = document.get(key)
        return document

    return nested if len(keys) > 1 else lambda document: document.get(path)
