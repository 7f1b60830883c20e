"""Is a cycle of another shape than those before? Distance from the windows of earlier cycles: `monitor/shape.hpp`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.core import blocks, native

SAMPLES = 288  # that are remembered
YOUNG = 150  # distances before the first alarm
# columns of ShapeState.number that others read
EVERY, PERIOD, STEADY, STEP = 5, 8, 10, 14


class ShapeState(NamedTuple):
    """E entities, a row each; zeros are a fresh entity. 2.2 KB an entity.

    number (E, 15) float64: time of the latest value, ms; the first one; the largest sample of the first ones, from the
        first value on: the unit; sum of the values of the present sample and its places so far, with 1/1024 for each
        that lacks a value; places of a sample; samples that are remembered; place of the latest; samples of a cycle,
        0 while no period is known; samples since the period was last found; share of the latest steps that have a
        value; distances so far and their running mean; the score; usual step between values, ms
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


def observe(
    s: ShapeState, e: int, values: NDArray[np.float64], events: float, times: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Learn values one after another; returns how unlike earlier cycles each latest one is, (n,): over 1 is an alarm.

    Args:
        values: (n,); what is not finite is skipped
        events: mean number of events between false alarms
        times: (n,) ms since 1970: where they go in even steps, values that are lacking keep their places in the cycle;
            None: each value is one step
    """
    out = np.empty(len(values))
    known = np.full(len(values), np.nan) if times is None else np.ascontiguousarray(times, np.float64)
    native.shape_observe(s, e, np.ascontiguousarray(values), known, events, out)
    return out
