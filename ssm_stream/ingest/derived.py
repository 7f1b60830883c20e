"""Derived inputs (`event.derive`) from the numbers that were read: a column of each, whole columns or one event.

What depends on earlier events, as it is averaged or lagged, is completed by the engine (`ingest/windows.py`), which has
the state of each entity. Here it gets a column of NaN, and the value of this event goes into `Events.windows`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.config import Derived, Event
from ssm_stream.core import native

Floats = NDArray[np.float64]
TINY = float(np.finfo(np.float64).tiny)
"""Smallest number that has a logarithm here."""


class _Column(NamedTuple):
    """A numeric input. places: of its sources among the numbers read and the targets; derived: None if it is read"""

    places: list[int]
    derived: Derived | None


class DerivedInputs:
    """Computes the derived inputs of the `event` section.

    paths: of the numbers to read, in place of `event.numbers`
    """

    def __init__(self, event: Event) -> None:
        self.paths = event.read_numbers
        place = {path: i for i, path in enumerate([*self.paths, *event.targets])}
        self._columns: list[_Column] = []
        for name in event.numbers:
            derived = event.derive.get(name)
            sources = [name] if derived is None else derived.sources
            self._columns.append(_Column([place[path] for path in sources], derived))
        self._used = any(column.derived is not None for column in self._columns)
        self._windowed = any(column.derived is not None and column.derived.past for column in self._columns)

    def add(self, features: Floats, target: Floats) -> tuple[Floats, Floats | None]:
        """Return the features with the derived inputs, and `Events.windows`.

        Args:
            features: (n, r + q) the numbers read, then the categories
            target: (n,) or (n, m)
        """
        if not self._used:
            return features, None
        read = len(self.paths)
        given = [*features[:, :read].T, *(target[:, None] if target.ndim == 1 else target).T]
        out = np.empty((len(features), len(self._columns) + features.shape[1] - read))
        windows: list[Floats] = []
        for j, (places, derived) in enumerate(self._columns):
            values = [given[i] for i in places]
            if derived is None:
                out[:, j] = values[0]
            elif derived.past:
                windows.append(_compute(derived.operation, values))
                out[:, j] = math.nan
            else:
                out[:, j] = _compute(derived.operation, values)
        out[:, len(self._columns) :] = features[:, read:]
        return out, np.stack(windows, axis=1) if windows else None

    def add_one(self, numbers: list[float], targets: Sequence[float]) -> tuple[list[float], list[float] | None]:
        """Return the numeric inputs of one event, and its row of `Events.windows`: the same bits as `add`.

        Args:
            numbers: (r,) as read; targets: (m,)
        """
        if not self._used:
            return numbers, None
        given = [*numbers, *targets]
        out, windows = list[float](), list[float]()
        for places, derived in self._columns:
            if derived is None:
                out.append(given[places[0]])
                continue
            value = _compute_one(derived.operation, [given[i] for i in places])
            if derived.past:
                windows.append(value)
                value = math.nan
            out.append(value)
        return out, windows if self._windowed else None


def _compute(operation: str, values: list[Floats]) -> Floats:
    """Return a derived column (n,), NaN where a source is unknown or the operation has no finite 32-bit result."""
    first, *others = values
    with np.errstate(all="ignore"):
        if operation == "ratio":
            found = first / np.where(others[0] == 0.0, math.nan, others[0])
        elif operation == "product":
            found = first
            for other in others:
                found = found * other
        elif operation == "difference":
            found = first - others[0]
        elif operation == "log":
            found = np.full(len(first), math.nan)
            known = np.flatnonzero(first >= TINY)
            logs = np.empty(len(known))
            native.elementary("log", first[known], logs)
            found[known] = logs
        else:
            found = first
        out: Floats = np.where(np.abs(found) <= native.MAX_NUMBER, found, math.nan)
    return out


def _compute_one(operation: str, values: list[float]) -> float:
    """Return what `_compute` returns for one event."""
    found, *others = values
    if operation == "ratio":
        found = found / others[0] if others[0] else math.nan
    elif operation == "product":
        for other in others:
            found *= other
    elif operation == "difference":
        found -= others[0]
    elif operation == "log":
        return float(_compute(operation, [np.array([found])])[0])
    return found if abs(found) <= native.MAX_NUMBER else math.nan
