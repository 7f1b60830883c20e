"""Fields of a message that are not in its document: the key and the headers, at the paths `$key` and `$header.NAME`.

They are added to the document under these names, so that whatever reads documents reads them like its own fields. A
document cannot bring them itself: they are replaced, with null where the message has none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from ssm_stream.config import Config, Event
from ssm_stream.config.paths import HEADER, KEY, is_message_field
from ssm_stream.config.sections.conditions import fields
from ssm_stream.ingest.json_values import text_of
from ssm_stream.ingest.rows.reader import message_event

NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


class MessageFields:
    """Reads the fields of messages that a configuration names.

    A field that is a name (entity, category, id) is text. Any other one is a number where its text is that of a number.

    Attributes:
        paths: of the fields
        has_headers: whether one of them is a header
    """

    def __init__(self, config: Config) -> None:
        labels, event = config.labels, message_event(config.event)
        own = [] if labels is None else [labels.marker, labels.entity, labels.id, labels.event_id]
        times = [] if labels is None else [labels.timestamp, labels.target]
        names = {event.entity, *event.categories, *own}
        used = [*_event_paths(event), *own, *times, *(limit.column for limit in config.alerts.limits)]
        self.paths = tuple(dict.fromkeys(path for path in used if path is not None and is_message_field(path)))
        self.has_headers = any(path != KEY for path in self.paths)
        self._numeric = {path: path not in names for path in self.paths}

    def values(self, key: bytes | str | None, headers: Iterable[tuple[str, Any]]) -> dict[str, Any]:
        """Return the value at each path; of several headers of one name the last one's."""
        found = {HEADER + name: value for name, value in headers} if self.has_headers else {}
        found[KEY] = key
        return {path: _value(found.get(path), numeric) for path, numeric in self._numeric.items()}


def decode_text(value: bytes | str | None) -> str | None:
    """Return a key or header as text; see `text_of`."""
    return text_of(value) if isinstance(value, bytes) else value


def _value(value: Any, numeric: bool) -> str | float | int | None:
    text = decode_text(value)
    if not numeric or text is None or len(text) > 40 or NUMBER.fullmatch(text) is None:
        return text
    return int(text) if text.isdigit() else float(text)


def _event_paths(event: Event) -> list[str]:
    """Return the paths that are read of an event; with `features: auto` without the features."""
    listed = [] if event.features == "auto" else [*event.features, *(event.inputs or [])]
    targets = [] if event.watches_all else event.targets
    derived = [path for each in event.derive.values() for path in each.sources]
    flags = [] if event.quality is None else event.quality.flags
    conditions = fields(each.condition for each in event.when)
    return [event.entity, event.timestamp, *targets, *listed, *event.categories, *derived, *flags, *conditions]
