"""The builder and the reader of a configuration. A layout is added here."""

from __future__ import annotations

from ssm_stream.config import Event
from ssm_stream.ingest.rows.builder import RowBuilder


def row_builder(event: Event, ttl: float | None = None) -> RowBuilder | None:
    """Return what makes the rows of one shard; None if each message is a row.

    ttl: ms of event time after which an entity without messages may be forgotten
    """
    return None
