"""Is a cycle of another shape than those before? Distance from the windows of earlier cycles: `monitor/shape.hpp`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.core import blocks, native

SAMPLES = 288  # that are remembered
YOUNG = 150  # distances before the first alarm
# columns of ShapeState.number that others read
EVERY, PERIOD = 5, 8


class ShapeState(NamedTuple):
    """E entities, a row each; zeros are a fresh entity. 2.2 KB an entity.

    number (E, 15) float64: values seen; the first one; the largest sample of the first ones, from the first value on:
        the unit; sum and count of the values of the present sample; values of a sample; samples that are remembered;
        place of the latest; samples of a cycle, 0 while no period is known; samples since the period was last checked;
        checks in a row that found none; distances so far and their running mean; the score;
        what a squared step keeps of its weight a sample later
    tail (E, 8) float64: of the distances, scale, width and tail as in `interval.IntervalState`
    past (E, SAMPLES) int16: samples in that unit, a ring, from the latest on to older ones
    distance (E, SAMPLES) float32: decayed squared distance of the latest window from that so many samples ago
    usual (E, SAMPLES) int8: log of the distance that was found at a sample, in eighths
    """

    number: NDArray[np.float64]
    tail: NDArray[np.float64]
    past: NDArray[np.float32]
    distance: NDArray[np.float32]
    usual: NDArray[np.int16]


def new_shape_state(E: int) -> ShapeState:
    """E fresh entities."""
    return blocks.zeros(ShapeState, "shape", E)


def observe(s: ShapeState, e: int, values: NDArray[np.float64], events: float) -> NDArray[np.float64]:
    """Learn values one after another; returns how unlike earlier cycles each latest one is, (n,): over 1 is an alarm.

    Args:
        values: (n,); what is not finite is skipped
        events: mean number of events between false alarms
    """
    out = np.empty(len(values))
    native.shape_observe(s, e, np.ascontiguousarray(values), events, out)
    return out
