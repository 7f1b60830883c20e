"""How large a prediction's errors are in their context: `monitor/error_scale.hpp`."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.core import blocks, native

# row of Scratch.error_scale at which the numbers of a prediction begin, and places of them: the scale of positive and
# of negative errors, and what both are multiplied by
ROOM, UPPER, LOWER, WIDER = 3, 2, 3, 11
# columns of ErrorScaleState.number
SEEN, SIZE, PLAIN, MEAN, SPREAD, LEVEL, LAST, TARGET = range(8)
# columns of ErrorScaleState.rest
STANDING, USUAL_REST, RISES = range(3)
# STANDING where the target differs from the one before
MOVED = 1.0
# events of `USUAL_REST`'s memory (`monitor/rest.hpp`)
REST_MEMORY = 500.0
# column of ErrorScalePoolState.number
STEP = 3


class ErrorScaleState(NamedTuple):
    """E entities, a row each, with D = 9 + features inputs; zeros are a fresh entity.

    number (E, 8) float64: errors learned; their running mean size, slow and quick; mean and mean absolute deviation of
        the prediction; log of the scale without context; the last scale, in the target's unit; the target before
    rest (E, 3) float32: 0 without a target, else 1 and the events in a row at which it has stood still, negative where
        it was not as predicted at the latest; how many they usually are; of its latest moves, the share that ended a
        rest, less a half
    value (E, 12) float32: how large whitened errors over their scale have been recently, and the mean of its log;
        decayed losses of the plain and of the contextual scale; half the log ratio of the scales of positive and of
        negative errors; weight of the recent past, and decayed sum of its squares; the last error over its scale;
        products of neighbouring ones, and squares; usual size of whitened ones; mean number of events between those
        with a target that have values of other targets only
    mean (E, 9) float32: running means of the context's inputs
    w, v (E, D) float32: differences from the pool's weights, of the scale and of that ratio
    cell (E, 192) int16, visits (E, 192) uint8: usual |error| of the hour, then of the hour of the week: its log over
        the usual |error|, in 1/4096; errors seen there, at most 200
    """

    number: NDArray[np.float64]
    rest: NDArray[np.float32]
    value: NDArray[np.float32]
    mean: NDArray[np.float32]
    w: NDArray[np.float32]
    v: NDArray[np.float32]
    cell: NDArray[np.int16]
    visits: NDArray[np.uint8]


class ErrorScalePoolState(NamedTuple):
    """P pools, a row each; zeros are a fresh pool.

    number (P, 40): events, decayed; weight of the recent past, and the decayed sum of its squares; the smallest step of
        a target, 0: none yet; usual errors over their scale, less 1; of unknown features, of leaps with the clock, of
        those as usual, of four lengths of gaps, of a change of a category in its event and the 2, 4, 8 after it, and of
        a jump of a feature likewise, the log of what they do to squared errors by what they would in theory (of leaps
        as usual how much of them does not come), and the events that these were learned from; of jumps up and down in
        pauses, how many lately and their size; drifts of errors that had become smaller, how many lately
    tail (P, 3): mean and mean square of the excess of large errors, exceedances (`interval.hpp`)
    w, v (P, D): weights; P (P, D, D): inverse of the inputs' decayed second moments
    """

    number: NDArray[np.float64]
    tail: NDArray[np.float64]
    w: NDArray[np.float64]
    v: NDArray[np.float64]
    P: NDArray[np.float64]


def first_rest(usual: float) -> float:
    """Return how long the first rest of an entity was, in events, where there has been no other, by `USUAL_REST`.

    Of several it is less than their sum: what is usual is u = L²/(L + memory) after a first rest of length L, and each
    later one adds less than its own to that.
    """
    return (usual + math.sqrt(usual * (usual + 4.0 * REST_MEMORY))) / 2.0


def observe_all(
    errors: NDArray[np.float64], steps: NDArray[np.int64], features: NDArray[np.float32] | None = None
) -> NDArray[np.float64]:
    """Return the errors of one new entity, whose predictions are 0, each over its scale, (n,).

    steps (n, 2): hour and weekday of each error; features (n, F): standardised; None: none
    """
    n = len(errors)
    inputs = np.ones((n, 1), np.float32) if features is None else np.insert(features, 0, 1.0, axis=1)
    count = inputs.shape[1] - 1
    entity = blocks.zeros(ErrorScaleState, "error_scale", 1, size=count)
    pool = blocks.zeros(ErrorScalePoolState, "error_scale_pool", 1, size=count)
    out = np.empty(n)
    native.error_scale_observe_all(
        entity, pool, np.ascontiguousarray(errors), np.ascontiguousarray(steps), inputs, count, out
    )
    return out
