"""Plain events without the interpreter: JSON objects straight into columns.

The native reader reads numbers, names and texts of categories at the paths of the configuration that lead through
objects; the key of a message may be its entity. A chunk with anything else in it (a message that is no event, an escape
in a text, a missing name, time as text, …) is left to `EventReader`, which reads it or names the fault. What the native
reader reads equals the result of `EventReader` to the last bit.
"""

from __future__ import annotations

import numpy as np

from ssm_stream.config import MAX_NAME_LENGTH, Event
from ssm_stream.config.paths import KEY, has_list_step, is_message_field
from ssm_stream.core import native
from ssm_stream.ingest.assembler import Assembler, Columns
from ssm_stream.ingest.entity_filter import entity_filter
from ssm_stream.ingest.events import Events, select_entities
from ssm_stream.ingest.json_values import is_utf8
from ssm_stream.ingest.message_fields import decode_text
from ssm_stream.ingest.timestamps import to_milliseconds

NOWHERE = "\0"
"""A path that no message has: the native reader gives up at control characters."""


class FastReader:
    """Reads chunks of plain events by the `event` section of the configuration.

    Attributes:
        supported: whether events of this configuration may be plain at all
        by_key: whether their entities are the keys of the messages
    """

    def __init__(self, event: Event) -> None:
        self.event = event
        self._assembler = Assembler(event)
        self._only = entity_filter(event.only)
        numbers = self._assembler.derived.paths
        names = [*event.categories, *(path for path in event.context if path not in numbers)]
        columns = [*numbers, *names]
        every = [*numbers, *event.categories, *event.context]
        # What others are derived from may be in a condition, too: it is read once.
        self._places = [columns.index(path) for path in every] if len(every) > len(columns) else None
        self.by_key = event.entity == KEY
        paths = [NOWHERE if self.by_key else event.entity, event.timestamp, *event.targets, *columns]
        self._columns, self._targets = len(columns), len(event.targets)
        of_keys = not any(has_list_step(path) or is_message_field(path) for path in paths)
        self.supported = event.timestamp_format != "iso" and of_keys
        try:
            self._reader = native.Reader([path.encode() for path in paths], self._targets, len(paths) - len(names))
        except ValueError:  # a path is, or leads through, another
            self.supported = False

    def read(
        self, values: list[bytes | None] | native.Messages, keys: list[bytes | str | None] | None = None
    ) -> Events | None:
        """Return the events of all messages, but of entities that `event.only` leaves out; None if a message is not
        plain. keys: of the messages, with `by_key`"""
        n, m = len(values), self._targets
        names = None if keys is None else self._names(keys)
        if self.by_key and names is None:
            return None
        time, features = np.empty(n), np.empty((n, self._columns))
        target = np.empty(n) if m == 1 else np.empty((n, m))
        default = NOWHERE if self.by_key else self.event.entity_default
        found = self._reader.read(values, default, time, target, features)
        if found is None or (ts := to_milliseconds(time, self.event.timestamp_format)) is None:
            return None
        entity, texts = found
        entity = entity if names is None else names
        if self._places is not None:
            features = features[:, self._places]
        return select_entities(self._assembler(Columns(entity, ts, features, target, np.arange(n), texts)), self._only)

    def _names(self, keys: list[bytes | str | None]) -> list[str] | None:
        """Return the entities by the keys of messages; None if one is no name."""
        names: dict[bytes | str | None, str] = {}
        for key in set(keys):
            name = self.event.entity_default if key is None else decode_text(key)
            if not name or len(name) > MAX_NAME_LENGTH or not is_utf8([name]):
                return None
            names[key] = name
        return [names[key] for key in keys]
