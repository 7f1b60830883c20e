"""Is a value new for the entity? Distance from everything that it did before: `monitor/novelty.hpp`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.core import blocks, native

WARMUP = 100  # events before the first score
CELLS, CHANNELS, SIGNALS, SPANS = 168, 13, 4, 3


class NoveltyState(NamedTuple):
    """E entities, a row each; zeros are a fresh entity. 2.3 KB an entity.

    number (E, 12) float64: events seen; centre (the value's unit) and mean absolute deviation of the first events;
        events of the current generation; the last asinh; mean absolute step of it; highest raw score of the current
        peak and events until it ends; peaks and the sum of 1/k, decayed; mean and mean square of the peaks' excess,
        minus the prior's
    smooth (E, SIGNALS, SPANS) float64: running means, in spreads
    slow (E, 2) float64: slow means of the value and of its asinh, in spreads
    cell (E, CELLS, 2) float32: running means by hour of the week, in spreads
    range (E, 3, 2) float32: least and largest value, in spreads, of the last generation, of this one, and of what still
        waits; none: the first is above the second
    week (E, 2) float32: by how much the means by hour have been nearer than the slow one, in spreads; this hour, from 1
    cell_events (E, CELLS) uint8: events of each, at most 255
    grid (E, CHANNELS, 2) float64: lowest edge and width of the bins
    visited (E, CHANNELS, 3) uint64: bitmaps of this generation, of the last, and of what still waits
    """

    number: NDArray[np.float64]
    smooth: NDArray[np.float64]
    slow: NDArray[np.float64]
    cell: NDArray[np.float32]
    range: NDArray[np.float32]
    week: NDArray[np.float32]
    cell_events: NDArray[np.uint8]
    grid: NDArray[np.float64]
    visited: NDArray[np.uint64]


def new_novelty_state(E: int) -> NoveltyState:
    """E fresh entities."""
    return blocks.zeros(NoveltyState, "novelty", E)


def observe(
    s: NoveltyState, e: int, values: NDArray[np.float64], week_seconds: NDArray[np.float64], events: float
) -> NDArray[np.float64]:
    """Learn values one after another; returns the novelty over the bound of each, (n,): more than 1 is an alarm.

    Args:
        values: (n,); what is not finite is skipped
        week_seconds: (n,) since Monday 00:00, NaN without a calendar
        events: mean number of events between false alarms, an alarm being followed by a pause of 60 events
    """
    out = np.empty(len(values))
    native.novelty_observe(s, e, np.ascontiguousarray(values), np.ascontiguousarray(week_seconds), events, out)
    return out
