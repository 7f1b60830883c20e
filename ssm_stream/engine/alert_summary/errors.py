"""What the state shows of the errors of a target: by how much they changed, and which way (`monitor/drift.hpp`)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.core import detect, error_scale

Rows = Callable[[str], NDArray[Any] | None]
"""Name of an array → the captured row; None if the detector has no state."""
LAG, FIRST = 240, 300.0
"""Of the drift detector: errors that it keeps, events before the first that it keeps."""
MIN_ERRORS, MAX_ERRORS = 8, 128
"""Latest errors that the size of a change is measured over."""
RESTARTED = 50
"""Errors that a reference of the drift detector begins with."""
MAX_STANDING, MAX_MIXED = 0.05, 0.4
"""Share of the events at which the target stood still, as predicted, up to which errors are those of the events; and up
to which those of the others have the sign of all."""
REST_STEP, REST_ERROR = 0.25, 0.1
"""Of the smallest step, and of a usual error: what the error at rest may be (`core/monitor/rest.hpp`)."""
MAX_LAST, PLAIN_RATE = 4.0, 0.01
"""Bound of the error that the next one is whitened by; rate of the running mean of the errors' sizes."""
MAX_SCALES, MAX_SCALES_MIXED = 1.6, 1.4
"""Ratio of two estimates of the errors' scale up to which a mean is given in the target's unit; of a target that rests
for so large a share of its events, whose errors differ more from each other in their size."""
MAX_CLIPPED = 8.0
"""Errors beyond, in the detector's unit, count as this."""
ONE_SIDED = 0.75
"""Mean of the latest errors over their mean size, from which they are mostly of one sign."""


class ErrorChange(NamedTuple):
    """How errors (target − prediction) changed.

    shift: mean of the latest, in the target's unit; NaN: not known well enough; events: how many these are
    ratio: by which their size changed; NaN: not known
    side: 1 or −1, by whether their mean is above or below the usual; 0: not known
    rests: the target stands still, as predicted, for a part of its events; these are not among the errors
    here: errors have another size here than usual, and are compared with that
    sign: that most of the latest have, by their size; 0: both
    """

    shift: float
    events: int
    ratio: float
    side: int
    rests: bool = False
    here: bool = False
    sign: int = 0


def error_change(rows: Rows) -> ErrorChange | None:
    """Return how the latest errors differ from those before; None: there are too few.

    The detector has those of the events that had one: a target at rest has none.
    """
    names = ("detector.number", "detector.waiting", "error_scale.number", "learner.n")
    number, ring, context, events = (rows(name) for name in names)
    if number is None or ring is None or context is None or events is None:
        return None
    seen, scale = int(number[detect.SEEN]), float(number[detect.SCALE])
    # Of those since the reference was made: what the ring holds of before is in another unit.
    count = min(int(seen - FIRST), LAG, int(number[detect.TOTAL] / max(number[detect.MASS], 1.0) - RESTARTED))
    stood = int(events) - float(context[error_scale.SEEN])
    if count < 2 * MIN_ERRORS or not scale > 0.0:
        return None
    # Whitened, the latest first.
    whitened = np.nan_to_num(np.asarray(ring, np.float64)[(seen - 1 - np.arange(count)) % LAG])
    errors = np.clip(whitened, -MAX_CLIPPED, MAX_CLIPPED)
    n = np.arange(1, count + 1)
    at = slice(MIN_ERRORS - 1, min(MAX_ERRORS, count - MIN_ERRORS))
    means, sizes = np.cumsum(errors) / n, np.cumsum(np.abs(errors)) / n
    # Over the number of latest errors that is most unlike no change: of normal errors, and of exponential sizes.
    latest = int(n[at][np.argmax(np.abs(means[at]) * np.sqrt(n[at]))])
    before = (sizes[-1] * count - sizes[at] * n[at]) / (count - n[at])
    ratios = np.maximum(sizes[at], 1e-9) / np.maximum(before, 1e-9)
    widest = int(n[at][np.argmax(n[at] * (ratios - 1.0 - np.log(ratios)))])
    ratio = float(np.abs(whitened[:widest]).mean() / max(np.abs(errors[widest:]).mean(), 1e-9))
    mixed, side = stood > MAX_MIXED * int(events), int(np.sign(means[latest - 1]))
    own = _errors(number, whitened)
    shift = _shift(own, latest, context, MAX_SCALES_MIXED if mixed else MAX_SCALES)
    here = math.isnan(shift)
    # A count that is mostly zero is above its prediction wherever it is not at rest.
    if mixed and not abs(shift) > _at_rest(rows, context) * stood / (int(events) - stood):
        shift, side = math.nan, 0
    total = own[:widest].sum()
    sign = int(np.sign(total)) if abs(total) >= ONE_SIDED * np.abs(own[:widest]).sum() else 0
    return ErrorChange(shift, latest, ratio, side, stood > MAX_STANDING * int(events), here, sign)


def _at_rest(rows: Rows, context: NDArray[np.float64]) -> float:
    """Return what the error of a target at rest may be, in its unit. context: of the scale of errors"""
    pool = rows("pool_error_scale.number")
    step = 0.0 if pool is None else float(pool[error_scale.STEP])
    return max(REST_STEP * step, REST_ERROR * float(context[error_scale.SIZE]))


def _shift(errors: NDArray[np.float64], latest: int, context: NDArray[np.float64], most: float) -> float:
    """Return the mean of so many latest errors, in the target's unit; NaN where that is not known within a factor.

    errors: as of `_errors`; context: of the scale of errors; most: ratio of the estimates of their scale up to which it
    is known
    """
    # Each is over the scale of its context, which is not kept: between the last one and what fits their mean size.
    weights = (1.0 - PLAIN_RATE) ** np.arange(len(errors))
    size = float(np.abs(np.clip(errors, -MAX_CLIPPED, MAX_CLIPPED)) @ weights / weights.sum())
    scales = float(context[error_scale.LAST]), float(context[error_scale.PLAIN]) / max(size, 1e-9)
    if not 0.0 < max(scales) <= most * min(scales):
        return math.nan
    return float(errors[:latest].mean()) * math.sqrt(scales[0]) * math.sqrt(scales[1])


def _errors(number: NDArray[np.float64], whitened: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return errors, each over the scale of its context, of whitened ones, the latest first; number: of the detector"""
    by_last, errors, before = detect.follows_last(number), np.empty(len(whitened)), 0.0
    for i in range(len(whitened) - 1, -1, -1):
        errors[i] = whitened[i] + by_last * before
        before = min(max(errors[i], -MAX_LAST), MAX_LAST)
    return errors * float(number[detect.SCALE]) + float(number[detect.CENTRE])
