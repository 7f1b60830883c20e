"""Counts the labelled events inside episodes: how much of the time an alert of a kind is open, not only how often."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.core import lifecycle
from ssm_stream.core.lifecycle import KINDS
from ssm_stream.core.loop import LAST, EntityStates


class EpisodeFigures(NamedTuple):
    """Episodes of a kind.

    events: labelled events inside episodes, since the state was created or loaded; longest: events of the longest one
    open_events, open_seconds: labelled events and event time, s, of the longest one that is open; 0 if none is
    """

    events: int = 0
    longest: int = 0
    open_events: int = 0
    open_seconds: float = 0.0


class EpisodeTally:
    """Counts the events inside the episodes of one target, an episode's first event and that of its end included.

    on_end: called with entity, kind and length, in events, of each episode that ends
    """

    def __init__(self) -> None:
        self.on_end: Callable[[str, str, int], None] = lambda entity, kind, events: None
        self._ended, self._longest = np.zeros(len(KINDS), np.int64), np.zeros(len(KINDS), np.int64)
        self._loaded = np.zeros(len(KINDS), np.int64)  # events of the open episodes in the state that was loaded

    def end(self, state: EntityStates, row: int, name: str, kind: int) -> None:
        """Count an episode that ends at the last event of its entity."""
        length = int(state.learner.n[row] - state.lifecycle.number[row, kind, lifecycle.SINCE_N])
        self._ended[kind] += length
        self._longest[kind] = max(self._longest[kind], length)
        self.on_end(name, KINDS[kind], length)

    def end_open(
        self, state: EntityStates, rows: NDArray[np.int64] | slice | int, names: list[str], kind: str | None = None
    ) -> None:
        """Count the open episodes of entities that end without a report. names: by row; kind: None: of all kinds"""
        chosen = np.atleast_1d(np.arange(len(state.learner.n))[rows])
        found, kinds = np.nonzero(state.lifecycle.number[chosen][:, :, lifecycle.OPEN])
        for row, each in zip(chosen[found].tolist(), kinds.tolist(), strict=True):
            if kind is None or KINDS[each] == kind:
                self.end(state, row, names[row], each)

    def begin(self, state: EntityStates, count: int) -> None:
        """Count from here on. count: entities in the loaded state"""
        self._ended[:] = self._longest[:] = 0
        self._loaded[:] = [_open_lengths(state, count, kind).sum() for kind in range(len(KINDS))]

    def read(self, state: EntityStates, count: int, kind: int) -> EpisodeFigures:
        """Return the figures of a kind; safe to call from another thread. count: entities"""
        number = state.lifecycle.number[:count, kind]
        lengths = _open_lengths(state, count, kind)
        since, last = number[:, lifecycle.SINCE_TS], state.clock.number[:count, LAST]
        seconds = np.where(number[:, lifecycle.OPEN] != 0.0, last - since, 0.0) / 1000.0
        longest = int(lengths.max(initial=0))
        return EpisodeFigures(
            int(self._ended[kind] + lengths.sum() - self._loaded[kind]),
            max(int(self._longest[kind]), longest),
            longest,
            max(float(seconds.max(initial=0.0)), 0.0),
        )


def count_open_episodes(state: EntityStates, count: int, kind: str) -> int:
    """Return how many of the entities have an open episode of a kind (`KINDS`); safe to call from another thread."""
    return int(np.count_nonzero(state.lifecycle.number[:count, KINDS.index(kind), lifecycle.OPEN]))


def open_episodes(state: EntityStates, names: list[str]) -> list[tuple[str, str, int]]:
    """Return entity, kind and length so far, in events, of the open episodes."""
    rows, kinds = np.nonzero(state.lifecycle.number[: len(names), :, lifecycle.OPEN])
    return [
        (names[row], KINDS[kind], int(_open_lengths(state, len(names), kind)[row]))
        for row, kind in zip(rows.tolist(), kinds.tolist(), strict=True)
    ]


def _open_lengths(state: EntityStates, count: int, kind: int) -> NDArray[np.int64]:
    """Return (count,) the labelled events of each open episode so far, 0 without one."""
    number = state.lifecycle.number[:count, kind]
    length = state.learner.n[:count] - number[:, lifecycle.SINCE_N].astype(np.int64)
    return np.where(number[:, lifecycle.OPEN] != 0.0, np.maximum(length, 0), 0)
