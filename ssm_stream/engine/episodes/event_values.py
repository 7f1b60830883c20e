"""The values of all targets at the events of a batch, for alerts on a target that another one's detector has raised."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ssm_stream.core.loop import Predictions, Settled
from ssm_stream.engine.single_event import PredictedValues

Values = dict[str, float]
"""`y`, `yhat` and its bounds, as a message has them."""
ValuesAt = Callable[[int, int], Values | None]
"""Number of a target and row of the batch → its values there; None if it has none."""


def values_of_batch(targets: NDArray[np.float64], results: Sequence[Predictions] | Sequence[Settled]) -> ValuesAt:
    """Return the values at the events of a batch.

    Args:
        targets: (n, m) of the events
        results: of each target: its predictions, or those that met their targets at these events
    """

    def find(number: int, row: int) -> Values | None:
        found = results[number]
        if isinstance(found, Settled):
            rows = np.flatnonzero(found.item == row)
            if not len(rows):
                return None
            row = int(rows[-1])
            y = found.y[row]
        else:
            y = targets[row, number]
        return _finite(y, found.yhat[row], found.lower[row], found.upper[row])

    return find


def values_of_one(targets: Sequence[float], predicted: Sequence[PredictedValues]) -> ValuesAt:
    """Return the values at one event. targets, predicted: of each target"""
    return lambda number, _: _finite(targets[number], *predicted[number][:3])


def _finite(*values: float) -> Values | None:
    """Return values as a message has them; None if one is missing."""
    if not all(map(math.isfinite, values)):
        return None
    return dict(zip(("y", "yhat", "yhat_lower", "yhat_upper"), map(float, values), strict=True))
