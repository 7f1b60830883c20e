"""From the columns that were read to `Events`: values that are not good, derived inputs, idle events.

All is a matter of each event alone, so that no batch changes it. What is not good becomes unknown first; whether an
event is idle is judged by the values as they came.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.config import Event
from ssm_stream.ingest.conditions import OperatingCondition, passes
from ssm_stream.ingest.derived import DerivedInputs
from ssm_stream.ingest.event_columns import Events

Floats = NDArray[np.float64]


class Columns(NamedTuple):
    """What a reader has read of n events: see `Events`. read (n, r + q + c): numbers, categories, `Event.context`"""

    entity: list[str]
    ts: NDArray[np.int64]
    read: Floats
    target: Floats
    position: NDArray[np.int64]
    category_texts: dict[float, str] | None


class Assembler:
    """Makes `Events` by the `event` section. derived: computes the derived inputs"""

    def __init__(self, event: Event) -> None:
        self._event = event
        self.derived = DerivedInputs(event)
        names = [*self.derived.paths, *event.categories, *event.context]
        self._inputs = len(names) - len(event.context)
        self._place = {path: i for i, path in enumerate(names)}
        self._meets = OperatingCondition(event.when)
        self._flagged = self._flags_of(names)

    def _flags_of(self, names: list[str]) -> dict[str, tuple[list[int], list[int]]]:
        """Return path of a flag → places of its columns among those read, and among the targets."""
        quality = self._event.quality
        if quality is None:
            return {}
        found: dict[str, tuple[list[int], list[int]]] = {}
        for group, paths in enumerate((names, self._event.targets)):
            for i, path in enumerate(paths):
                # A value that is its own flag is judged as it came, before any is made unknown.
                for flag in (quality.columns.get(path), quality.column):
                    if flag is not None and path not in quality.flags:
                        found.setdefault(flag, ([], []))[group].append(i)
        return found

    def __call__(self, columns: Columns, doubtful: NDArray[np.bool_] | None = None) -> Events:
        """Return the events. doubtful (n,): those with a value that was made unknown before; see `Events`"""
        entity, ts, read, _, position, texts = columns
        context = None
        good, good_target, found = self._good(columns)
        doubtful = found if doubtful is None else doubtful
        if self._inputs < read.shape[1]:
            inputs, context = np.ascontiguousarray(good[:, : self._inputs]), good[:, self._inputs :]
        else:
            inputs = good
        features, windows = self.derived.add(inputs, good_target)
        events = Events(entity, ts, features, good_target, position, None, texts, windows, context, doubtful=doubtful)
        if not self._event.when:
            return events
        return events.with_idle(~self._meets(entity, lambda path: self._column(columns, path, features)))

    def _good(self, columns: Columns) -> tuple[Floats, Floats, NDArray[np.bool_] | None]:
        """Return the values read and the targets, NaN for those that are not good, and the events that have such."""
        read, target, quality = columns.read, columns.target, self._event.quality
        if quality is None:
            return read, target, None
        doubtful = np.zeros(len(read), np.bool_)
        out, of_targets = read.copy(), _wide(target).copy()
        for flag, (places, targets) in self._flagged.items():
            bad = ~passes(quality.good, self._column(columns, flag, None))
            if bad.any():
                for values, at in ((out, places), (of_targets, targets)):
                    for j in at:
                        doubtful |= bad & ~np.isnan(values[:, j])
                        values[bad, j] = np.nan
        return out, of_targets.reshape(target.shape), doubtful

    def _column(self, columns: Columns, path: str, features: Floats | None) -> Floats:
        """Return the values (n,) of a column as they came; of a derived one, as it was computed."""
        targets = self._event.targets
        if path in self._place:
            return columns.read[:, self._place[path]]
        if path in targets:
            return _wide(columns.target)[:, targets.index(path)]
        assert features is not None, "no flag is derived"
        return features[:, self._event.columns.index(path)]


def _wide(target: Floats) -> Floats:
    """Return targets (n,) or (n, m) as (n, m)."""
    return target[:, None] if target.ndim == 1 else target
