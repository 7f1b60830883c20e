"""Excitation: do the inputs carry the gradient? Rank and condition of their accumulated second moments.

Gradient descent moves weights along the directions in which inputs vary. A column that is constant, or that is a sum of
others, adds no direction: its weight cannot be determined from the data, however long the stream is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

TOLERANCE = 1e-6
"""Share of a column's variance below which what the others leave of it is rounding: a thousandth of its deviation."""
NEARLY = 0.01
"""Share of a column's variance below which the others nearly hold it."""
MIN_SHARE = 0.05
"""Standardised coefficient from which on a column is named among those that hold another."""
MAX_NAMED = 4
"""Columns that are named for one that they hold."""
CHECKPOINTS = 100
"""Points of the recording at which the rank is computed."""


@dataclass(frozen=True)
class Collinear:
    """A column that others hold. left: share of its variance that they leave; with: those others, the largest first"""

    column: str
    others: tuple[str, ...]
    left: float

    @property
    def exact(self) -> bool:
        """Whether nothing but rounding is left of it, so that it adds no rank."""
        return self.left <= TOLERANCE


@dataclass(frozen=True)
class Excitation:
    """Second moments of the standardised inputs at the end of the recording, and how they came to their rank.

    inputs, rank: number of columns; of directions in which they vary
    condition: largest over smallest eigenvalue of the directions in the rank; NaN without any
    full_after: events after which all directions were there, None if they never were; highest, highest_after: largest
    rank so far, and events after which it was reached
    dead: constant columns; collinear: columns that others hold
    events, ranks, conditions: at points of the recording
    """

    inputs: int
    rank: int
    condition: float
    full_after: int | None
    highest: int
    highest_after: int
    dead: tuple[str, ...]
    collinear: tuple[Collinear, ...]
    events: tuple[int, ...]
    ranks: tuple[int, ...]
    conditions: tuple[float, ...]

    @property
    def full(self) -> bool:
        """Whether every input has a direction of its own at the end."""
        return self.rank == self.inputs

    def as_json(self) -> dict[str, Any]:
        """Return the fields; a condition that is not finite becomes None, as JSON has no such number."""
        found = asdict(self)
        found["condition"] = _finite(self.condition)
        found["conditions"] = [_finite(value) for value in self.conditions]
        found["collinear"] = [asdict(each) | {"exact": each.exact} for each in self.collinear]
        return found


def measure_excitation(columns: Array, names: Sequence[str], decay: float = 1.0) -> Excitation:
    """Return rank and condition of the columns, their dead and their collinear ones.

    Args:
        columns: (n, D) inputs in the order of events, NaN where unknown, which counts as the mean so far
        names: of the columns
        decay: of the moments an event, such as that of the learner's slowest head; 1: all events count alike
    """
    n, D = columns.shape
    ends = np.unique(np.linspace(0, n, min(CHECKPOINTS, n) + 1).astype(np.int64))[1:]
    ends = np.unique(np.concatenate([ends[ends > 0], np.arange(1, min(n, 2 * D + 20) + 1)]))
    seen = _running(columns)
    moments, start = np.zeros((D + 1, D + 1)), 0
    ranks, conditions = [], []
    correlation, alive = np.eye(0), np.zeros(D, np.bool_)
    for end in ends.tolist():
        x = np.hstack([np.ones((end - start, 1)), seen[start:end]])
        weights = decay ** np.arange(end - start - 1, -1, -1)
        moments = decay ** (end - start) * moments + (x * weights[:, None]).T @ x
        start = end
        correlation, alive = _correlation(moments)
        values = np.linalg.eigvalsh(correlation) if len(correlation) else np.zeros(0)
        held = values[values > TOLERANCE]
        ranks.append(len(held))
        conditions.append(float(held[-1] / held[0]) if len(held) else math.nan)
    full = [end for end, rank in zip(ends.tolist(), ranks, strict=True) if rank == D]
    highest = max(ranks, default=0)
    used = np.flatnonzero(alive)
    return Excitation(
        inputs=D,
        rank=ranks[-1] if ranks else 0,
        condition=conditions[-1] if conditions else math.nan,
        full_after=full[0] if full else None,
        highest=highest,
        highest_after=int(ends[ranks.index(highest)]) if ranks else 0,
        dead=tuple(names[j] for j in np.flatnonzero(~alive).tolist()),
        collinear=tuple(_collinear(correlation, [names[j] for j in used.tolist()])),
        events=tuple(ends.tolist()),
        ranks=tuple(ranks),
        conditions=tuple(conditions),
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _running(columns: Array) -> Array:
    """The columns, less their first known value and over their deviation, with the mean so far where unknown."""
    known = ~np.isnan(columns)
    first = columns[np.argmax(known, 0), np.arange(columns.shape[1])] if len(columns) else np.zeros(columns.shape[1])
    off = np.where(known, columns - np.nan_to_num(first), 0.0)
    size = np.abs(off).max(0, initial=0.0)
    off /= np.where(size > 0, size, 1.0)
    count = np.maximum(np.cumsum(known, 0), 1)
    return np.where(known, off, np.cumsum(off, 0) / count)


def _correlation(moments: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Correlation of the columns that vary, and which do, from the moments (1 + D, 1 + D) with the constant first."""
    mean = moments[0] / max(moments[0, 0], 1e-300)
    covariance = moments[1:, 1:] / max(moments[0, 0], 1e-300) - np.outer(mean[1:], mean[1:])
    variance = np.diag(covariance)
    # What rounding leaves of a constant is 1e-16 of its square.
    alive = variance > 1e-12 * np.maximum(mean[1:] ** 2, 1e-12)
    size = np.sqrt(variance[alive])
    return covariance[np.ix_(alive, alive)] / np.outer(size, size), alive


def _collinear(correlation: Array, names: Sequence[str]) -> list[Collinear]:
    """Columns, in their order, of which those before leave next to nothing."""
    found: list[Collinear] = []
    kept: list[int] = []
    for j, name in enumerate(names):
        if kept:
            among, with_j = correlation[np.ix_(kept, kept)], correlation[kept, j]
            weights = np.linalg.lstsq(among, with_j, rcond=1e-12)[0]
            left = max(float(1.0 - 2.0 * weights @ with_j + weights @ among @ weights), 0.0)
            if left <= NEARLY:
                strong = [i for i in np.argsort(-np.abs(weights)).tolist() if abs(weights[i]) >= MIN_SHARE]
                others = tuple(names[kept[i]] for i in strong[:MAX_NAMED])
                found.append(Collinear(name, others, 0.0 if left < 1e-12 else left))
            if left <= TOLERANCE:
                continue
        kept.append(j)
    return found
