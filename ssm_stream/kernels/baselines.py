"""Alarms that need no model, over one entity's values: the compiled part of `evaluate/pilot/detectors.py`."""

from __future__ import annotations

import math
from typing import Any

from ssm_stream.kernels.jit import jit

ROWS, BUCKETS = 32, 6
"""Of an ADWIN window: exponents of bucket sizes, and buckets of a size (5, and the one that makes it too many)."""
EVERY, LEAST, SHORTEST = 32, 10, 5
"""Events between looks for a cut, of a window that is looked at, and of a part of it; as in River, where a window
begins anew after a cut."""


@jit
def run_ewma(z: Any, start: int, rate: float, out: Any) -> None:
    """|Moving mean| over its standard deviation; z: of an entity; the mean is 0 at `start`."""
    mean, keep = 0.0, 1.0
    for t in range(start, len(z)):
        mean += rate * (z[t] - mean)
        keep *= (1.0 - rate) * (1.0 - rate)
        out[t] = abs(mean) / math.sqrt(rate / (2.0 - rate) * (1.0 - keep))


@jit
def run_episodes(flag: Any, begin: Any, recover: int, rest: int, out: Any) -> int:
    """out: the places at which an episode starts; returns how many. begin: 1 where an entity begins"""
    open_, calm, quiet, found = 0, 0, 0, 0
    for t in range(len(flag)):
        if begin[t]:
            open_, calm, quiet = 0, 0, 0
        if open_:
            calm = 0 if flag[t] else calm + 1
            if calm >= recover:
                open_, quiet = 0, max(rest - 1, 0)  # as `lifecycle.step` counts
        elif quiet > 0:
            quiet -= 1
        elif flag[t]:
            out[found] = t
            found += 1
            open_, calm = 1, 0
    return found


@jit
def run_adwin(x: Any, delta: float, total: Any, spread: Any, count: Any, out: Any) -> None:
    """out (m,): 1 where a cut was found. total, spread (ROWS, BUCKETS), count (ROWS,): scratch, all zeros.

    A bucket of row r holds 2^r values: their sum, and their squared distance from their mean. Newest first in a row.
    """
    width, mass, variance, ticks = 0.0, 0.0, 0.0, 0
    for t in range(len(x)):
        ticks += 1
        for j in range(count[0], 0, -1):
            total[0, j], spread[0, j] = total[0, j - 1], spread[0, j - 1]
        total[0, 0], spread[0, 0] = x[t], 0.0
        count[0] += 1
        if width > 0.0:
            variance += width * (x[t] - mass / width) * (x[t] - mass / width) / (width + 1.0)
        width += 1.0
        mass += x[t]
        for r in range(ROWS - 1):
            if count[r] < BUCKETS:
                break
            size = float(2**r)
            a, b = count[r] - 1, count[r] - 2
            gap = total[r, a] / size - total[r, b] / size
            for j in range(count[r + 1], 0, -1):
                total[r + 1, j], spread[r + 1, j] = total[r + 1, j - 1], spread[r + 1, j - 1]
            total[r + 1, 0] = total[r, a] + total[r, b]
            spread[r + 1, 0] = spread[r, a] + spread[r, b] + size / 2.0 * gap * gap
            count[r + 1] += 1
            count[r] -= 2
        if ticks % EVERY or width <= LEAST:
            continue
        n0, m0, cut = 0.0, 0.0, False
        lean = math.log(2.0 * math.log(width) / delta)
        for r in range(ROWS - 1, -1, -1):
            for j in range(count[r] - 1, -1, -1):
                n0 += float(2**r)
                m0 += total[r, j]
                n1 = width - n0
                if n0 < SHORTEST or n1 < SHORTEST:
                    continue
                harmonic = 1.0 / (n0 - SHORTEST + 1.0) + 1.0 / (n1 - SHORTEST + 1.0)
                bound = math.sqrt(2.0 * harmonic * (variance / width) * lean) + 2.0 / 3.0 * harmonic * lean
                if abs(m0 / n0 - (mass - m0) / n1) > bound:
                    cut = True
        if cut:
            out[t] = 1
            width, mass, variance, ticks = 0.0, 0.0, 0.0, 0
            for r in range(ROWS):
                count[r] = 0
