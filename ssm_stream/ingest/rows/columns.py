"""The columns of a row: which values a builder must bring, and `Events` of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from ssm_stream.config import Event
from ssm_stream.ingest.assembler import Assembler, Columns
from ssm_stream.ingest.context.facts import JoinFacts, absent_facts
from ssm_stream.ingest.event_columns import Events

Floats = NDArray[np.float64]
NUMBER_BITS = 52
"""Of a row's number: few enough for every JSON reader."""


class RowColumns:
    """Makes `Events` of rows by the `event` section: derived inputs, `event.when`, categories, as of plain events.

    Attributes:
        names: the columns that a row must have, in their order: targets, numbers, categories, context; each once; those
            of context topics are not among them
        categories: those of them that may be text
        join: returns the columns of context topics, where a row has such
    """

    def __init__(self, event: Event) -> None:
        # Flags are of messages, whose reader has judged them.
        self._assembler = Assembler(event.model_copy(update={"quality": None}))
        inputs = [*self._assembler.derived.paths, *event.categories, *event.context]
        self._facts = event.facts
        self.join: JoinFacts | None = absent_facts if event.facts else None
        self.names = [name for name in dict.fromkeys([*event.targets, *inputs]) if name not in self._facts]
        numbers = {*event.targets, *self._assembler.derived.paths}
        self.categories = {name for name in self.names if name not in numbers}
        place = {name: i for i, name in enumerate([*self.names, *self._facts])}
        signals = {name: i for i, name in enumerate(self.names)}
        self._signals = np.array([signals.get(name, -1) for name in [*event.numbers, *event.targets]], np.int64)
        self._targets, self._inputs = [place[name] for name in event.targets], [place[name] for name in inputs]

    def events(
        self,
        entity: list[str],
        ts: NDArray[np.int64],
        values: Floats,
        texts: dict[float, str] | None = None,
        doubtful: NDArray[np.bool_] | None = None,
        *,
        numbered: bool = False,
        came: NDArray[np.int64] | None = None,
    ) -> Events:
        """Return rows as events.

        Args:
            entity, ts: of n rows
            values: (n, k) columns in the order of `names`: numbers, codes of texts (`text_code`), NaN = unknown
            texts: text of each code
            doubtful: (n,) rows with a value that `event.quality` made unknown; None without it
            numbered: one message may cause several rows
            came: (n,) of the message that caused each row, as of `Events`
        """
        if self.join is not None:
            facts, more = self.join(entity, ts, came)
            values, texts = np.concatenate([values, facts], axis=1), {**(texts or {}), **more}
        target = values[:, self._targets]
        if len(self._targets) == 1:
            target = np.ascontiguousarray(target[:, 0])
        columns = Columns(entity, ts, values[:, self._inputs], target, np.arange(len(entity)), texts or None)
        events = self._assembler(columns, doubtful)
        if not numbered:
            return events
        numbers = np.fromiter(map(row_number, entity, ts.tolist()), np.int64, len(entity))
        return replace(events, number=numbers)

    def of_signals(self, marks: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return marks of the numbers and targets of rows, False for what is no column of `names`. marks (n, k)"""
        of: NDArray[np.bool_] = np.concatenate([marks, np.zeros((len(marks), 1), np.bool_)], axis=1)[:, self._signals]
        return of


def row_number(entity: str, ts: int) -> int:
    """Return the number of a row that is one of several of its message: by entity and time, not 0."""
    return (xxh3_64_intdigest(f"{ts} {entity}".encode()) >> (64 - NUMBER_BITS)) or 1
