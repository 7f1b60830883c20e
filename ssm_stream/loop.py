"""The engine's inner loop: predict, judge and learn one event after another, fused with the learner and the detectors."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.model import kernel
from ssm_stream.model.implicit import fleet_share, implicit_weights
from ssm_stream.model.jit import inner, jit
from ssm_stream.model.shapes import MANY, RESIDUAL, EntityState, HeadsState, Learner, PoolState
from ssm_stream.monitor import detect, interval, lifecycle

SCORE_MOST = 1e6
DONE, REPORT, EXPIRED, MORE_SLOTS, SECOND_ENTITY = range(5)
# columns of Clock.number
LAST, MARK, GAP, GAPS = range(4)
MARKS_A_TTL = 100  # one event moves the watermark by at most ttl / MARKS_A_TTL: a wrong clock cannot evict the fleet
WEIGHT_EVERY = 8  # events between updates of the weights that drift alerts compare with
WEIGHT_RATE = 0.02
GAP_RATE = 0.01  # of the mean gap between events, once 100 are known


class Clock(NamedTuple):
    """number (E, 4) float64: time of the last event (ms), the watermark then (ms), mean gap (s) and gaps counted."""

    number: NDArray[np.float64]


class Reference(NamedTuple):
    """weights (E, L) float32: running mean of the implicit weights, in the target's unit."""

    weights: NDArray[np.float32]


class EntityStates(NamedTuple):
    """Everything that is known of E entities: groups of arrays, a row an entity. All zeros is a new entity."""

    learner: EntityState
    interval: interval.IntervalState
    detector: detect.DetectorState
    lifecycle: lifecycle.LifecycleState
    clock: Clock
    reference: Reference


class PoolStates(NamedTuple):
    """What the entities of each pool have taught together: groups of arrays, a row a pool."""

    pool: PoolState
    fleet: HeadsState
    norm: HeadsState


class Rules(NamedTuple):
    """What the configuration says, as numbers. Budgets: mean events, or mean seconds, between false alarms (0 = other).

    direction: 1 above, −1 below, 0 both; deviation: smallest |y − yhat| that counts, absolute and relative to |yhat|
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
    episodes: lifecycle.LifecycleRules


class Reported(NamedTuple):
    """What the kernel tells of an event that changed an episode.

    phase (2,) int64 by kind; number (2, 3) float64: score, since (ms), absorbed after (events)
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


@inner
def _budget_events(events: float, seconds: float, gap: float) -> float:
    """Mean events between false alarms, at the entity's own rate where the budget is in time."""
    if events > 0.0:
        return events
    return max(seconds / max(gap, 1e-3), 20.0)


@inner
def _advance(number: Any, ts: float, mark: float) -> None:
    """The entity's clock: its mean gap counts time that passes, not time that goes back."""
    if number[GAPS] > 0.0 and ts > number[LAST]:
        rate = max(1.0 / number[GAPS], GAP_RATE)
        number[GAP] += rate * ((ts - number[LAST]) / 1000.0 - number[GAP])
    number[GAPS] = min(number[GAPS] + 1.0, 1e9)
    number[LAST] = max(ts, number[LAST]) if number[GAPS] > 1.0 else ts
    number[MARK] = mark


@jit
def run(
    p: Any, w: Any, entities: Any, pools: Any, r: Any, pool_of: Any, rows: Any, ts: Any, u: Any, steps: Any, y: Any,
    start: int, marks: Any, source: int, out: Any, told: Any,
) -> Any:  # fmt: skip
    """Events start, start + 1, … until the end, a report, an expired entity or lack of room: (next event, why)."""
    s, learner = entities, Learner(entities.learner, pools.pool, pools.fleet, pools.norm)
    for t in range(start, len(y)):
        k, e, time = pool_of[t], rows[t], float(ts[t])
        mark = time if math.isnan(marks[source]) else marks[source]
        mark += min(max(time - mark, 0.0), r.ttl / MARKS_A_TTL)
        clock = s.clock.number[e]
        # Both clocks must agree: a watermark that began in the past still catches up with the entities.
        if clock[GAPS] > 0.0 and mark - max(clock[MARK], clock[LAST]) > r.ttl:
            return t, EXPIRED
        n = s.learner.n[e]
        answer = kernel.predict(p, learner, w, k, e, u[t], steps[t], time)
        need = kernel.wants(p, learner, w, k, e, not math.isnan(y[t]))
        if need != kernel.ENOUGH:
            return t, MORE_SLOTS if need == kernel.MORE_SLOTS else SECOND_ENTITY
        marks[source] = mark
        half = interval.half_width(s.interval, e)
        out.yhat[t], out.lower[t], out.upper[t] = answer, answer - half, answer + half
        out.score[t], out.warmup[t], out.n[t] = 0.0, n < r.warmup, n
        out.fleet[t] = fleet_share(p, w)
        if math.isnan(y[t]):
            continue
        error = y[t] - answer
        _advance(clock, time, marks[source])
        anomaly_events = _budget_events(r.anomaly_events, r.anomaly_seconds, clock[GAP])
        told.phase[0] = told.phase[1] = lifecycle.SILENT
        if n >= r.warmup:
            size = abs(error)
            floor = 1e-9 * max(abs(y[t]), abs(answer)) + 1e-300
            bound = max(interval.anomaly_bound(s.interval, e, 1.0 / anomaly_events), floor)
            score = min(size / bound, SCORE_MOST)
            out.score[t] = score
            if r.anomaly:
                sided = r.direction == 0 or error * r.direction > 0.0
                counts = sided and size >= r.deviation and size >= r.deviation_relative * abs(answer)
                alarm = counts and score > 1.0
                told.phase[0] = lifecycle.step(
                    s.lifecycle, e, lifecycle.ANOMALY, n, time, score, alarm, not alarm, r.episodes
                )
                told.number[0, 0] = score
        if n > 0 and r.drift:
            drift_events = _budget_events(r.drift_events, r.drift_seconds, clock[GAP])
            rounding = 1e-12 * max(abs(y[t]), abs(answer)) + 1e-6 * w.scale[w.flag[MANY], RESIDUAL, 1]
            heard = error if abs(error) > rounding else 0.0
            evidence = min(detect.observe(s.detector, e, heard, drift_events), SCORE_MOST)
            if n >= r.warmup:
                calm = detect.is_calm(s.detector, e)
                told.phase[1] = lifecycle.step(
                    s.lifecycle, e, lifecycle.DRIFT, n, time, evidence, evidence >= 1.0, calm, r.episodes
                )
                told.number[1, 0] = evidence
        if n > 0:
            interval.observe(s.interval, e, n - 1, abs(error), r.level, 1.0 / anomaly_events)
        loud = told.phase[0] != lifecycle.SILENT or told.phase[1] != lifecycle.SILENT
        if loud or n % WEIGHT_EVERY == 0:
            implicit_weights(p, learner, w, k, e, w.flag[MANY], told.weights)
        if loud:
            for kind in range(2):
                told.number[kind, 1] = s.lifecycle.number[e, kind, lifecycle.SINCE_TS]
                told.number[kind, 2] = lifecycle.absorbed_after(s.lifecycle, e, kind, n)
        kernel.learn(p, learner, w, k, e, u[t], steps[t], time, y[t])
        if loud:
            return t + 1, REPORT
        if n % WEIGHT_EVERY == 0:
            reference = s.reference.weights[e]
            for i in range(p.L):
                reference[i] += np.float32(WEIGHT_RATE) * (told.weights[i] - reference[i])
    return len(y), DONE
