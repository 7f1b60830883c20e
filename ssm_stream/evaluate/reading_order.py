"""Files of messages that are not in the order of their times, such as tag after tag: sorted, as a topic has them.

Of messages that are no rows yet: readings, and the events of windows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from ssm_stream.config import Event
from ssm_stream.ingest.event_columns import concatenate
from ssm_stream.ingest.events import Events, RefusedDocument
from ssm_stream.ingest.factorize import factorize
from ssm_stream.ingest.rows.readings import SIGNAL

MAX_HELD = 3_000_000
"""Readings of a file that are held in memory until they are known to be in order."""
OUT_OF_ORDER = 0.01
"""Share of readings that are late from which a file is sorted: a few are late in production, too."""
PIECE = 50_000
"""Readings of a sorted file that are passed on together."""
Part = tuple[Events, list[RefusedDocument], int]
"""Readings, refusals, and number of rows."""


class TimeOrder:
    """Passes on the readings of a file. event: by which they are read. sorted: they were sorted by time"""

    def __init__(self, event: Event) -> None:
        self._grace = 1000 * (event.grace if event.aggregate is None else event.aggregate.grace)
        self._readings, self.sorted = event.aggregate is None, False
        self._codes: dict[str, int] = {}
        self._latest = np.empty(0, np.int64)
        self._late = 0

    def __call__(self, parts: Iterable[Part]) -> Iterator[Part]:
        """Yield the readings, some at a time; sorted by time, if many are behind others of their entity.

        Positions of sorted ones are such that they are rows of the file, if they are added to the rows before.
        """
        held, size, going = list[Part](), 0, iter(parts)
        for part in going:
            held.append(part)
            size += len(part[0])
            self._count(part[0])
            if self._late > OUT_OF_ORDER * size or size > MAX_HELD:
                break
        if self._late > OUT_OF_ORDER * size:
            self.sorted = True
            yield from _sorted([*held, *going], readings=self._readings)
            return
        while held:
            yield held.pop(0)
        yield from going

    def _count(self, readings: Events) -> None:
        """Count the readings that are late."""
        code = factorize(readings.entity, self._codes)
        more = len(self._codes) - len(self._latest)
        self._latest = np.concatenate([self._latest, np.full(more, np.iinfo(np.int64).min)])
        order = np.argsort(code, kind="stable")
        cuts = np.flatnonzero(np.diff(code[order])) + 1
        for rows in np.split(order, cuts) if len(order) else []:
            e, ts = code[rows[0]], readings.ts[rows]
            latest = np.maximum.accumulate(np.maximum(ts, self._latest[e]))
            self._late += int(np.count_nonzero(ts < latest - self._grace))
            self._latest[e] = latest[-1]


def _sorted(parts: list[Part], *, readings: bool) -> Iterator[Part]:
    """Yield the readings of all parts by time."""
    events, refused, rows = list[Events](), list[RefusedDocument](), 0
    for some, refusals, height in parts:
        events.append(replace(some, position=some.position + rows))
        refused += [each._replace(position=each.position + rows) for each in refusals]
        rows += height
    together = concatenate(events)
    # At one time the target counts last, as with `event.grace`.
    last = together.features[:, SIGNAL] == 0 if readings else np.zeros(len(together))
    order = np.lexsort((last, together.ts))
    first = 0
    for begin in range(0, max(len(order), 1), PIECE):
        piece = together.take(order[begin : begin + PIECE])
        height = rows - first if begin + PIECE >= len(order) else len(piece)
        yield replace(piece, position=piece.position - first), refused, height
        refused, first = [], first + height
