"""Sums over predictions and their targets: the compiled part of `evaluate/prequential.py` and `ops/quality.py`."""

from __future__ import annotations

import math
from typing import Any

from ssm_stream.kernels.jit import jit, short

COLUMNS = (
    "events", "scored", "absolute", "squared", "persistence", "judged", "covered", "width", "anomaly", "drift",
)  # fmt: skip
EVENTS, SCORED, ABSOLUTE, SQUARED, PERSISTENCE, JUDGED, COVERED, WIDTH = range(8)


@short
def judge(y: Any, yhat: Any, lower: Any, upper: Any, warmup: Any) -> Any:
    """Of the targets past the warm-up: how many there are, the sum of their errors, how many in their interval."""
    n, errors, inside = 0, 0.0, 0
    for i in range(len(y)):
        if warmup[i] or math.isnan(y[i]):
            continue
        n += 1
        errors += abs(y[i] - yhat[i])
        inside += 1 if lower[i] <= y[i] <= upper[i] else 0
    return n, errors, inside


@jit
def count(
    ids: Any, y: Any, yhat: Any, lower: Any, upper: Any, warmup: Any, naive: Any, follow: bool, last: Any, sums: Any
) -> None:
    """Add n events to the sums (E, COLUMNS) of their entities, in order. follow: persistence says `last` (E,)."""
    for t in range(len(ids)):
        i = ids[t]
        s = sums[i]
        s[EVENTS] += 1.0
        if math.isnan(y[t]):
            continue
        before = last[i] if follow else naive[t]
        last[i] = y[t]
        if not math.isnan(before):
            error = y[t] - yhat[t]
            s[SCORED] += 1.0
            s[ABSOLUTE] += abs(error)
            s[SQUARED] += error * error
            s[PERSISTENCE] += abs(y[t] - before)
        if not warmup[t]:
            s[JUDGED] += 1.0
            s[COVERED] += 1.0 if lower[t] <= y[t] <= upper[t] else 0.0
            s[WIDTH] += upper[t] - lower[t]
