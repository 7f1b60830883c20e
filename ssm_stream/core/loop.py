"""The engine's inner loops: predict, judge and learn one event after another. `process.cpp`

`native.Engine.run` is for targets that come with their events; `run_late` for those that come later, or are to be
predicted ahead.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.core import cycle_shape, days, detect, error_scale, hours, interval, levels, lifecycle, novelty
from ssm_stream.core.pending import Pending, Room
from ssm_stream.core.shapes import EntityState, HeadsState, PoolState

DONE, REPORT, EXPIRED, MORE_SLOTS, SECOND_ENTITY, MORE_PLACES, MORE_ROWS, STOPPED = range(8)
# columns of Trial.number, and its stages
STAGE_OF_TRIAL, EVENTS_LEFT, EVENTS_OF_TRIAL, GAIN, GAIN_SQUARES = range(5)
TRIAL_OVER, TRIAL_ON, TRIAL_WON = range(3)
# columns of Clock.number
LAST, MARK, GAP, GAPS = range(4)
WEIGHT_EVERY = 8  # events between updates of the weights that drift alerts compare with
WEIGHT_RATE = 0.02
ADAPT, SLOW, HOLD = range(3)
SLOW_EVERY = 8  # events of an episode of which one is learned


class Clock(NamedTuple):
    """number (E, 4) float64: time of the last event (ms), the watermark then (ms), mean gap (s) and gaps counted."""

    number: NDArray[np.float64]


class Reference(NamedTuple):
    """weights (E, L) float32: running mean of the implicit weights, in the target's unit."""

    weights: NDArray[np.float32]


class EntityStates(NamedTuple):
    """Everything that is known of E entities: groups of arrays, a row an entity. All zeros is a new entity.

    challenger: as `learner`, of the challenger; no rows while there is none
    """

    learner: EntityState
    interval: interval.IntervalState
    error_scale: error_scale.ErrorScaleState
    detector: detect.DetectorState
    days: days.DaysState
    hours: hours.HoursState
    novelty: novelty.NoveltyState
    shape: cycle_shape.ShapeState
    levels: levels.LevelsState
    lifecycle: lifecycle.LifecycleState
    clock: Clock
    reference: Reference
    challenger: EntityState


class Trial(NamedTuple):
    """number (P, 5) float64: stage (OVER, ON, WON), labelled events left and in all, losses of the learner and of the
    challenger.

    After a change of inputs a challenger, which begins anew, predicts together with the learner that goes on; at the
    end of the trial the better one stays. `challenger.hpp`
    """

    number: NDArray[np.float64]


class PoolStates(NamedTuple):
    """What the entities of each pool have taught together: groups of arrays, a row a pool.

    trial, challenger_…: no rows while there is no challenger
    """

    pool: PoolState
    fleet: HeadsState
    norm: HeadsState
    error_scale: error_scale.ErrorScalePoolState
    days: days.DaysPoolState
    hours: hours.HoursPoolState
    trial: Trial
    challenger_pool: PoolState
    challenger_fleet: HeadsState
    challenger_norm: HeadsState


class Rules(NamedTuple):
    """The configuration as numbers. Budgets: mean events, or mean seconds, between false alarms (0 = other).

    direction: 1 above, −1 below, 0 both; deviation: smallest |y − yhat| that counts, absolute and relative to |yhat|
    channels: which of CHANNELS detect anomalies; they share the budget, the last only where the target has a period
    learn: what an open episode of each kind does to learning: ADAPT, SLOW or HOLD
    """

    warmup: int
    level: float
    ttl: float
    anomaly: bool
    anomaly_events: float
    anomaly_seconds: float
    direction: int
    deviation: float
    deviation_relative: float
    drift: bool
    drift_events: float
    drift_seconds: float
    channels: tuple[bool, bool, bool, bool]
    learn: tuple[int, int]
    episodes: lifecycle.LifecycleRules


class Late(NamedTuple):
    """Targets that come after their predictions. All times in ms.

    labels: they come by themselves, found by the event's id where by_id, else by its time; wait: how much newer an
    event of the entity may be; most: records an entity; fleet: entities share pools
    events, ahead: or they come with a later event, so many on or so much later, by at most `late` more
    """

    labels: bool
    by_id: bool
    wait: float
    most: int
    fleet: bool
    events: int
    ahead: float
    late: float


class Settled(NamedTuple):
    """A row a prediction that has met its target, m rows.

    item (m,) int64: the event or label that brought the target; ts (m,) int64: of the event that was predicted from, ms
    y (m,) and what was predicted then; score (m,): of the anomaly; warmup, n as in `Predictions`, of now; fleet of then
    """

    item: NDArray[np.int64]
    ts: NDArray[np.int64]
    y: NDArray[np.float64]
    yhat: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    score: NDArray[np.float64]
    warmup: NDArray[np.bool_]
    n: NDArray[np.int64]
    fleet: NDArray[np.float64]


# places of `todo`: how far an item is, whether its target is among the lags already, rows of `Settled` in use, its pool
STAGE, TAKEN, ROWS, POOL = range(4)
# places of `tally`
MATCHED, DROPPED, MISSED = range(3)


LEARNS, CHANNEL, ENDED = 2, 3, 4  # places of `Reported.phase`; the last is the first of two
RESIDUAL_CHANNEL, NOVELTY_CHANNEL, LEVELS_CHANNEL, SHAPE_CHANNEL = range(4)
CHANNELS = ("residual", "novelty", "levels", "shape")


class Reported(NamedTuple):
    """What the core reports of an event that changed an episode.

    phase (6,) int64 by kind, then whether the event is learned, and the channel of the anomaly score; then by kind how
        an episode ended (index of `lifecycle.ENDED`)
    number (2, 3) float64: score, since (ms), absorbed after (events)
    weights (L,) float32: implicit weights before learning
    """

    phase: NDArray[np.int64]
    number: NDArray[np.float64]
    weights: NDArray[np.float32]


class Predictions(NamedTuple):
    """A row an event: yhat, lower, upper, score (n,) float64; warmup (n,) bool; n (n,) int64 labelled events before;
    fleet (n,) float64: share of the prediction that stands on what other entities taught."""

    yhat: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    score: NDArray[np.float64]
    warmup: NDArray[np.bool_]
    n: NDArray[np.int64]
    fleet: NDArray[np.float64]


def empty_predictions(n: int) -> Predictions:
    """Return room for n predictions."""
    yhat, lower, upper, score, fleet = (np.empty(n) for _ in range(5))
    return Predictions(yhat, lower, upper, score, np.empty(n, np.bool_), np.empty(n, np.int64), fleet)


def spread(predictions: Predictions, rows: NDArray[np.intp], n: int) -> Predictions:
    """Return predictions of n events of which only these rows have one; the others have NaN, false and 0."""
    out: list[Any] = []
    for column in predictions:
        full = np.full(n, np.nan) if column.dtype == np.float64 else np.zeros(n, column.dtype)
        full[rows] = column
        out.append(full)
    return Predictions(*out)


class Waiting(NamedTuple):
    """What `run_late` needs in addition: the records that wait, room for one, the rules, and their outcomes."""

    pending: Pending
    room: Room
    late: Late
    settled: Settled
    todo: NDArray[np.int64]
    tally: NDArray[np.int64]
