"""Names in a document: the entity of a message, and the signal of a reading."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ssm_stream.config import Event
from ssm_stream.ingest.paths import path_getter


def entity_getter(event: Event) -> Callable[[dict[str, Any]], Any]:
    """Return a function that gets the entity of a document, as the document has it; None if it has none."""
    get = path_getter(event.entity)
    return get if event.tag is None else _part_getter(event, get, "entity")


def signal_getter(event: Event) -> Callable[[dict[str, Any]], Any]:
    """Return a function that gets the signal of a reading; None if it has none."""
    if event.tag is not None:
        return _part_getter(event, path_getter(event.entity), "signal")
    assert event.signal is not None, "readings have a signal or a tag"
    return path_getter(event.signal)


def _part_getter(event: Event, get: Callable[[Any], Any], part: str) -> Callable[[dict[str, Any]], Any]:
    assert event.tag is not None
    expression = event.tag.expression

    def value(document: dict[str, Any]) -> Any:
        tag = get(document)
        found = expression.fullmatch(tag) if isinstance(tag, str) else None
        return None if found is None else found[part]

    return value
