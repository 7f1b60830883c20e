"""Attention over the last events, in one pass over the keys: the local correction of the moment heads.

The keys are the inputs of the last events, stored input by input, so that the distances to all of them grow together in
vector registers. The weights fall with the distance beyond the nearest by `decline`, a softmax that needs no
exponential.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ssm_stream.kernels.heads import decline, dot
from ssm_stream.kernels.jit import inner
from ssm_stream.kernels.shapes import DISTANCE, FIT, ONES, WEIGHT

FLOOR = 0.05  # of an input's part in the metric: an input without weight still tells situations apart a little
AGED = 0.02  # per event
# rows of HeadsState.held
HELD_RESIDUAL, HELD_VALUE, HELD_LOG, HELD_LOG_VALUE = range(4)
# columns of HeadsState.near
NEAR, NEAR_LOG, NEAR_PLAIN, NEAR_PAST, HELD = range(5)


@inner
def measure(keys: Any, x: Any, W: Any, D: int, lead: int, count: int, attend: Any) -> Any:
    """Distances to the keys in the metric of |W|, and W · key; returns the least distance.

    keys (D, window); the first input is the constant; `lead` numbers follow it, whose metric is normalised.
    """
    distance, fit = attend[DISTANCE], attend[FIT]
    most = np.float32(1e-9)
    for j in range(1, D):
        most = max(most, abs(W[j]))
    total = np.float32(0.0)
    for j in range(1, lead + 1):
        a = np.float32(FLOOR) + abs(W[j]) / most
        total += a * a
    total = max(total, np.float32(1e-9))
    for b in range(count):
        distance[b], fit[b] = np.float32(0.0), W[0]
    for j in range(1, D):
        a = np.float32(FLOOR) + abs(W[j]) / most
        metric, key, weight, here = a * a / total, keys[j], W[j], x[j]
        for b in range(count):
            z = here - key[b]
            distance[b] += metric * z * z
            fit[b] += weight * key[b]
    return _least(distance, count)


@inner
def measure_plain(
    keys: Any, x: Any, first: int, D: int, lead: int, most: int, used: int, newest: int, attend: Any
) -> Any:
    """Unweighted distances, over inputs first to D, to the keys younger than `most`; the others are far away."""
    distance = attend[DISTANCE]
    window = len(distance)
    for b in range(used):
        distance[b] = np.float32(0.0)
    part = np.float32(1.0 / max(lead, 1))
    for j in range(first, D):
        key, here = keys[j], x[j]
        for b in range(used):
            z = here - key[b]
            distance[b] += part * z * z
    for b in range(used):
        if (newest - b) % window >= most:
            distance[b] = np.float32(1e9)
    return _least(distance, used)


@inner
def _least(distance: Any, count: int) -> Any:
    least = np.float32(1e30)
    for b in range(count):
        least = min(least, distance[b])
    return least


@inner
def attend_to(attend: Any, count: int, least: float, width: Any, age: float, newest: int) -> Any:
    """Weights of the keys, not normalised; returns their sum. `age` a step back in time counts as so much distance."""
    distance, weight = attend[DISTANCE], attend[WEIGHT]
    window = len(distance)
    scale, here = np.float32(1.0) / width, np.float32(least)
    for b in range(count):
        weight[b] = (distance[b] - here) * scale
    if age > 0.0:
        for b in range(count):
            weight[b] += np.float32(age) * np.float32((newest - b) % window)
    decline(weight, count)
    return dot(weight, attend[ONES], count) + np.float32(1e-12)
