"""Scales of the kernel in 64-bit floats: targets as heads learn them, answers in the target's unit, the unit in which
predictions are compared."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ssm_stream.core import native
from ssm_stream.core.constants import ROUNDING
from ssm_stream.core.shapes import BASE, HIGH, LOG_BASE, LOG_RESIDUAL, LOW, Q_CLIP, RESIDUAL, VALUE, Scratch
from ssm_stream.verify.reference import Array

MIN_NORM = 1e-6
"""Norm of weights below which a difference counts in absolute terms, as parts of this."""
UNIT_SHARE = 1e-3
"""Of the largest deviation that heads answer on: less is no unit. 32-bit answers are off by some 1e-6 of it."""


def standardize(w: Scratch, y: float, logs: bool) -> Array:
    """(2, 4) for pool and entity by scale: clip((r − m) / s, ±6) with r = y − base, y, or their likes in log space."""
    logged = np.zeros(1)
    if logs:  # the core's own: where a target is constant, the last bit decides what its deviation is
        native.elementary("log1p", np.array([y]), logged)
    base, log_base = float(w.base[BASE]), float(w.base[LOG_BASE])
    off = np.array([y - base, y, logged[0] - log_base, logged[0]]) - w.scale[:, :, 0]
    size = w.scale[:, :, 1]
    q: Array = off / np.where(size > 0.0, size, np.maximum(np.abs(off), 1e-300))
    return np.minimum(np.maximum(q, -Q_CLIP), Q_CLIP)


def in_unit(w: Scratch, side: NDArray[np.int64], kind: NDArray[np.int64], q: Array) -> Array:
    """(H,) answers in the target's unit, within its bounds, of heads that answer q.

    side: 0 on the pool's scales, 1 on the entity's; kind: which of them
    """
    base, log_base, low, high = w.base[[BASE, LOG_BASE, LOW, HIGH]].tolist()
    scale = w.scale[side, kind]
    answer = np.minimum(np.maximum(q, -Q_CLIP), Q_CLIP) * scale[:, 1] + scale[:, 0]
    answer += np.array([base, 0.0, log_base, 0.0])[kind]
    logs = kind == LOG_RESIDUAL
    answer[logs] = np.exp(np.minimum(answer[logs], 60.0)) - 1.0
    bounded: Array = np.minimum(np.maximum(answer, low), high)
    return bounded


def prediction_unit(w: Scratch, side: int, predicted: float) -> float:
    """Unit of the deviation of a prediction: the standard deviation of the target's residual.

    At least `UNIT_SHARE` of the largest deviation of residual and target, of pool and entity: heads in 32-bit floats
    answer on each, and what they round off may be more than a residual that hardly varies. Where all that varied is
    rounding, as of 0.3 − 0.2 and 0.2 − 0.1, the prediction itself.

    side: 0 if only the pool's scales answer, else 1
    """
    deviation = w.scale[:, [RESIDUAL, VALUE], 1]
    unit = max(float(deviation[side, 0]), UNIT_SHARE * float(deviation.max()))
    return unit if unit > ROUNDING * abs(predicted) else max(abs(predicted), MIN_NORM)
