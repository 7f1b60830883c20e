"""Reads messages that are no rows yet, by the reader of events under a section of its own.

Every reader (`EventReader`, `FastReader`, a file's columns) reads by `message_event`, and `MessageReader.translate`
makes of what it read the columns that the layout's `RowBuilder` needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from ssm_stream.config import Event
from ssm_stream.ingest.events import EventReader, Events, RefusedDocument
from ssm_stream.ingest.rows.reading_columns import ReadingColumns, reading_event
from ssm_stream.ingest.rows.window_builder import window_event


class Translator(Protocol):
    """Makes of messages that were read what the builder of the layout needs."""

    def __call__(self, events: Events) -> tuple[Events, list[RefusedDocument]]:
        """Return the messages that are used, and the refused ones; `position` is as of the events."""
        ...


def message_event(event: Event) -> Event:
    """Return the section by which messages are read, with the fields that a message has: for plain events the section
    itself. It may have no target (`target: []`).
    """
    if event.aggregate is not None:
        return window_event(event)
    return reading_event(event) if event.layout == "readings" else event


class MessageReader:
    """Reads documents by the `event` section; of plain events as `EventReader` does.

    Attributes:
        event: the section of the messages
    """

    def __init__(self, event: Event) -> None:
        self.event = message_event(event)
        self._reader = EventReader(self.event)
        self._translate: Translator | None = ReadingColumns(event) if event.layout == "readings" else None

    def read(
        self, documents: Sequence[Any], names: Sequence[str] | None = None
    ) -> tuple[Events, list[RefusedDocument]]:
        """Return the messages among the documents, and the refused documents; see `EventReader.read`."""
        return self.translate(*self._reader.read(documents, names))

    def translate(self, events: Events, refused: list[RefusedDocument]) -> tuple[Events, list[RefusedDocument]]:
        """Return what the builder needs of messages that were read, and the refusals with those found here."""
        if self._translate is None:
            return events, refused
        events, more = self._translate(events)
        return events, sorted([*refused, *more]) if more else refused
