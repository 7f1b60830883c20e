"""Events as a struct of columns."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssm_stream.ingest.entity_filter import EntityFilter


@dataclass(frozen=True, slots=True)
class Events:
    """n events in the order of their source."""

    entity: list[str]
    """n names"""
    ts: NDArray[np.int64]
    """(n,) ms since 1970 UTC"""
    features: NDArray[np.float64]
    """(n, d), NaN = unknown: the numeric features, then the categories as codes (see `text_code`)"""
    target: NDArray[np.float64]
    """(n,), with m targets (n, m), NaN = none"""
    position: NDArray[np.int64]
    """(n,) index of each among the documents read"""
    key: NDArray[np.int64] | None = None
    """(n,) hashes of the events' ids, if labels are joined by them"""
    category_texts: dict[float, str] | None = None
    """text of each category code; None if no category is text"""
    windows: NDArray[np.float64] | None = None
    """(n, k) what lagged and averaged derived inputs are made of; the engine fills in their columns of `features`"""
    context: NDArray[np.float64] | None = None
    """(n, c) columns that only conditions and limits use (`Event.context`), as those of categories"""
    idle: NDArray[np.bool_] | None = None
    """(n,) events that do not meet `event.when`, whose `target` is NaN; None without it"""
    raw_target: NDArray[np.float64] | None = None
    """as `target`, with those of idle events; None without them"""
    doubtful: NDArray[np.bool_] | None = None
    """(n,) events with a value that `event.quality` made unknown; None without it"""
    maintenance: NDArray[np.int8] | None = None
    """(n,) whether each lies in a planned stop, see `planned_stops`; None: not determined"""
    stopped: NDArray[np.int8] | None = None
    """(n,) of the model's kinds of episodes, a bit each, those that the stop which an event lies in, or ends, is long
    enough to end (`engine/episodes/stops`); None: not determined, or none"""
    number: NDArray[np.int64] | None = None
    """(n,) numbers, not 0, of rows of which one message causes several (`ingest/rows`): ids of their predictions and
    alerts end with them; None: a row a message"""

    empty: NDArray[np.bool_] | None = None
    """(n,) rows of windows without events; None: rows are not of windows"""
    came: NDArray[np.int64] | None = None
    """(n,) of messages that are no rows yet: when the broker got each, ms, not positive: unknown; None where no row has
    facts of context topics"""
    held: NDArray[np.bool_] | None = None
    """(n, r) of rows of readings, which values of the numeric features, and then of the targets, are those of the row
    before, as there was no reading since; None: each value is one of its own"""
    share: NDArray[np.float64] | None = None
    """(n,) of several targets, the share that each event has a value of: they alone divide its part of the budget
    among them; None: each has values of all"""

    def __len__(self) -> int:
        return len(self.entity)

    @property
    def measured(self) -> NDArray[np.float64]:
        """The targets as they came, those of idle events among them."""
        return self.target if self.raw_target is None else self.raw_target

    @property
    def active(self) -> NDArray[np.intp] | None:
        """(k,) the rows that are not idle; None if none is."""
        return np.flatnonzero(~self.idle) if self.idle is not None and self.idle.any() else None

    def with_idle(self, idle: NDArray[np.bool_]) -> Events:
        """Return the events, of which these (n,) do not meet `event.when`: their targets are hidden."""
        if not idle.any():
            return replace(self, idle=idle)
        target = self.target
        hidden = np.where(idle if target.ndim == 1 else idle[:, None], np.nan, target)
        return replace(self, idle=idle, raw_target=target, target=hidden)

    def take(self, rows: NDArray[np.intp]) -> Events:
        """Return these rows, in this order."""
        names = self.entity
        found = {name: getattr(self, name) for name in COLUMNS}
        own = {name: column[rows] for name, column in found.items() if column is not None}
        return Events([names[i] for i in rows.tolist()], category_texts=self.category_texts, **own)


COLUMNS = tuple(each.name for each in fields(Events) if each.name not in ("entity", "category_texts"))
"""The arrays of `Events`, each None or with a row an event."""


def select_entities(events: Events, only: EntityFilter | None) -> Events:
    """Return the events of the entities that a filter lets through; all of them without a filter."""
    if only is None or all(matched := list(map(only.matches, events.entity))):
        return events
    return events.take(np.flatnonzero(matched))


def text_code(text: str) -> float:
    """Return the code of a category's text: the same in every process, and at least 2³³, above category numbers."""
    return float(2**33 + zlib.crc32(text.encode()))


def concatenate(batches: list[Events]) -> Events:
    """Return the events of one or more batches of one configuration as one batch."""
    if len(batches) == 1:
        return batches[0]
    texts = {code: text for each in batches if each.category_texts for code, text in each.category_texts.items()}
    columns: dict[str, Any] = {name: _joined([getattr(each, name) for each in batches], batches) for name in COLUMNS}
    return Events([name for each in batches for name in each.entity], category_texts=texts or None, **columns)


def _joined(parts: list[NDArray[Any] | None], batches: list[Events]) -> NDArray[Any] | None:
    """Return a column of all batches; None where none has it. Only `raw_target` may be missing in some."""
    if all(part is None for part in parts):
        return None
    pairs = zip(parts, batches, strict=True)
    return np.concatenate([each.target if part is None else part for part, each in pairs])
