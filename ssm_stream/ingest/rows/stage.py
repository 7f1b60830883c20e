"""The builder of a configuration's layout. A layout is added here and in `MessageReader`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ssm_stream.config import Event
from ssm_stream.ingest.context.facts import JoinFacts
from ssm_stream.ingest.event_columns import concatenate
from ssm_stream.ingest.events import Events, RefusedDocument
from ssm_stream.ingest.rows.builder import RowBuilder
from ssm_stream.ingest.rows.reader import MessageReader
from ssm_stream.ingest.rows.readings import ReadingBuilder
from ssm_stream.ingest.rows.window_builder import WindowBuilder


def row_builder(event: Event, ttl: float | None = None, *, keyed: bool = False) -> RowBuilder | None:
    """Return what makes the rows of one shard; None if each message is a row.

    Args:
        event: the section of the configuration
        ttl: ms of event time after which an entity without messages starts afresh; None: never
        keyed: refuse an entity that is in several partitions, if its rows depend on how these are read
    """
    if event.aggregate is not None:
        return WindowBuilder(event, ttl)
    return ReadingBuilder(event, ttl, keyed=keyed) if event.layout == "readings" else None


def read_rows(
    event: Event, documents: Sequence[Any], join: JoinFacts | None = None
) -> tuple[Events, list[RefusedDocument]]:
    """Return the rows of all documents, whose `position` is that of the document which completed them, and the
    refusals; of plain events as `EventReader.read`. join: joins facts of context topics"""
    messages, refused = MessageReader(event).read(documents)
    builder = row_builder(event)
    if builder is None:
        return messages, refused
    if join is not None:
        builder.join_facts(join)
    place = messages.position
    rows = builder.add(messages, place.tolist(), 0)
    refused += [each._replace(position=int(place[each.position])) for each in rows.late]
    last = builder.flush()
    events = concatenate([rows.events, last.events])
    position = np.array([*rows.offsets, *[len(documents) - 1] * len(last)], np.int64)
    return replace(events, position=position), sorted(refused)
