"""A prediction interval that keeps its coverage, and the bound of the anomaly level: `monitor/interval.hpp`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.core import blocks, native


class IntervalState(NamedTuple):
    """E entities, a row each; zeros are a fresh entity.

    scale (E,): running mean of |error|; the engine's errors are over their scale (`error_scale`)
    width (E,): log of the interval's half-width over scale
    tail (E, 8): log of the tail's threshold over scale; mean and mean square of the excess; exceedances, at most
        2 / TAIL_RATE; correction of the anomaly bound (log); events of rest left after an alarm; how often a target
        left what seemed its rest, and 1 more where that is too often for rest; and so of pauses
    largest (E, 2): the largest error lately, and in the target's unit
    hours (E, 24) int16: what each hour of the day adds to `width`, in 1/4096
    """

    scale: NDArray[np.float64]
    width: NDArray[np.float64]
    tail: NDArray[np.float64]
    largest: NDArray[np.float64]
    hours: NDArray[np.int16]


def new_interval_state(E: int) -> IntervalState:
    """E fresh entities."""
    return blocks.zeros(IntervalState, "interval", E)


def half_width(s: IntervalState, e: int, hour: int = 0) -> float:
    """Distance from the prediction to the interval's bounds, in the unit of the errors that were observed."""
    return native.half_width(s, e, hour)


def anomaly_bound(
    s: IntervalState, e: int, rate: float, tail: NDArray[np.float64] | None = None, by: tuple[float, float] = (0.0, 0.0)
) -> float:
    """|error| that one event in 1/rate exceeds while nothing changes, in the unit of the errors that were observed.

    tail: (3,) of the entity's pool (`ErrorScalePoolState`); by: errors of the entity, and what they are over, in the
        target's unit: known, so that the largest error lately bounds it
    """
    return native.anomaly_bound(s, e, rate, tail, *by)


def observe(s: IntervalState, e: int, n: int, error: float, level: float, rate: float, hour: int = 0) -> None:
    """Learn one error (absolute, in the target's unit) of that hour of the day; n errors of the entity came before."""
    native.interval_observe(s, e, n, error, level, rate, hour)
