"""The rows that the messages of a file complete, as production would have them: by partition and shard."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ssm_stream.config import Config
from ssm_stream.engine.engine import shard_of
from ssm_stream.ingest.event_columns import concatenate
from ssm_stream.ingest.events import Events
from ssm_stream.ingest.factorize import factorize
from ssm_stream.ingest.rows.builder import RowBuilder, Rows


class MessageRows:
    """Makes rows of the messages of a file.

    partition: returns the partition of an entity's messages; None: all are of one
    """

    def __init__(self, config: Config, builder: RowBuilder, partition: Callable[[str], int] | None = None) -> None:
        self._builder, self._partition, self._shards = builder, partition, config.state.shards
        self._names: dict[str, int] = {}
        self._sources: list[int] = []
        self._watches = config.event.layout == "readings"
        self._read, self._made = set[str](), set[str]()

    @property
    def overtaken(self) -> int:
        """As of the builder."""
        return self._builder.overtaken

    @property
    def rowless(self) -> tuple[str, ...]:
        """Entities of which there are readings and no row so far, sorted."""
        return tuple(sorted(self._read - self._made))

    def flush(self) -> Events:
        """Return the rows that no message completes."""
        rows = self._builder.flush().events
        self._made.update(rows.entity)
        return rows

    def add(self, messages: Events) -> Rows:
        """Return the rows that the messages complete, in the order of those: `position` is theirs in the file."""
        rows = self._add(messages)
        if self._watches:
            self._read.update(messages.entity)
            self._made.update(rows.events.entity)
        return rows

    def _add(self, messages: Events) -> Rows:
        if self._partition is None and self._shards == 1:
            return self._of_source(messages, 0)
        codes = factorize(messages.entity, self._names)
        for name in list(self._names)[len(self._sources) :]:
            partition = 0 if self._partition is None else self._partition(name)
            self._sources.append(partition * self._shards + shard_of(name, self._shards))
        of = np.array(self._sources, np.int64)[codes]
        parts = [self._of_source(messages.take(np.flatnonzero(of == each)), each) for each in np.unique(of).tolist()]
        if not parts:
            return self._of_source(messages, 0)
        together = concatenate([part.events for part in parts])
        order = np.argsort(together.position, kind="stable")
        return Rows(together.take(order), [], [late for part in parts for late in part.late])

    def _of_source(self, messages: Events, source: int) -> Rows:
        place = messages.position
        made = self._builder.add(messages, place.tolist(), source)
        events = replace(made.events, position=np.array(made.offsets, np.int64))
        return Rows(events, [], [late._replace(position=int(place[late.position])) for late in made.late])
