"""Plain events without the interpreter: JSON objects straight into columns.

The native reader reads numbers, names and texts of categories at the paths of the configuration. A chunk with anything
else in it (a message that is no event, an escape in a text, a missing name, time as text, …) is left to `EventReader`,
which reads it or names the fault. What the native reader reads equals the result of `EventReader` to the last bit.
"""

from __future__ import annotations

import numpy as np

from ssm_stream.config import Event
from ssm_stream.core import native
from ssm_stream.ingest.assembler import Assembler, Columns
from ssm_stream.ingest.entity_filter import entity_filter
from ssm_stream.ingest.events import Events, select_entities
from ssm_stream.ingest.timestamps import to_milliseconds


class FastReader:
    """Reads chunks of plain events by the `event` section of the configuration."""

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
        paths = [event.entity, event.timestamp, *event.targets, *columns]
        self._columns, self._targets = len(columns), len(event.targets)
        self.supported = event.timestamp_format != "iso"
        """Whether events of this configuration may be plain at all."""
        try:
            self._reader = native.Reader([path.encode() for path in paths], self._targets, len(paths) - len(names))
        except ValueError:  # a path is, or leads through, another
            self.supported = False

    def read(self, values: list[bytes | None]) -> Events | None:
        """Return the events of all messages, but of entities that `event.only` leaves out; None if a message is not
        plain."""
        n, m = len(values), self._targets
        time, features = np.empty(n), np.empty((n, self._columns))
        target = np.empty(n) if m == 1 else np.empty((n, m))
        found = self._reader.read(values, self.event.entity_default, time, target, features)
        if found is None or (ts := to_milliseconds(time, self.event.timestamp_format)) is None:
            return None
        entity, texts = found
        if self._places is not None:
            features = features[:, self._places]
        return select_entities(self._assembler(Columns(entity, ts, features, target, np.arange(n), texts)), self._only)
