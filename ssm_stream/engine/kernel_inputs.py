"""The arrays that a batch of events gives to the kernel, and those that the kernel fills."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ssm_stream.core.features import FeaturePlan, calendar_columns
from ssm_stream.core.loop import Predictions
from ssm_stream.ingest.events import Events


def kernel_columns(
    plan: FeaturePlan, events: Events, ts: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return columns (n, C) and steps (n, 2) of n events, with the calendar of the times `ts` (n,) ms."""
    cycles, steps = calendar_columns(plan, ts)
    return np.ascontiguousarray(np.hstack([events.features, cycles]) if cycles.shape[1] else events.features), steps


def empty_predictions(n: int) -> Predictions:
    """Return room for n predictions."""
    yhat, lower, upper, score, fleet = (np.empty(n) for _ in range(5))
    return Predictions(yhat, lower, upper, score, np.empty(n, np.bool_), np.empty(n, np.int64), fleet)
