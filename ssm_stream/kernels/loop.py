"""The engine's inner loops: predict, judge and learn one event after another, fused with the learner and the detectors.

`run` is for targets that come with their events; `run_late` for those that come later, or are to be predicted ahead.
Each is compiled when it is first needed.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.kernels import detect, interval, kernel, levels, lifecycle, novelty, simd
from ssm_stream.kernels.implicit import fleet_share, implicit_weights
from ssm_stream.kernels.inputs import count, follow, learn_past, learn_target, take_target
from ssm_stream.kernels.jit import inlined, inner, jit
from ssm_stream.kernels.pending import HALF, KNEW, SHARE, YOUNG, find_key, find_time, recall, remember
from ssm_stream.kernels.shapes import BASE, LOG_BASE, MANY, RESIDUAL, EntityState, G, HeadsState, Learner, PoolState

SCORE_MOST = 1e6
DONE, REPORT, EXPIRED, MORE_SLOTS, SECOND_ENTITY, MORE_PLACES, MORE_ROWS = range(7)
# columns of Clock.number
LAST, MARK, GAP, GAPS = range(4)
MARKS_A_TTL = 100  # one event moves the watermark by at most ttl / MARKS_A_TTL: a wrong clock cannot evict the fleet
WEIGHT_EVERY = 8  # events between updates of the weights that drift alerts compare with
WEIGHT_RATE = 0.02
ADAPT, SLOW, HOLD = range(3)
SLOW_EVERY = 8  # events of an episode of which one is learned
GAP_RATE = 0.01  # of the mean gap between events, once 100 are known
NEARBY = 1000  # rows with room whose states a processor keeps close: of more, the next one is asked for ahead


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
    novelty: novelty.NoveltyState
    levels: levels.LevelsState
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
    channels: which look for anomalies: RESIDUAL_CHANNEL, NOVELTY_CHANNEL, LEVELS_CHANNEL; they share the budget
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
    channels: tuple[bool, bool, bool]
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
BEFORE, PREDICT, ITSELF = range(3)
# places of `tally`
MATCHED, DROPPED, MISSED = range(3)


LEARNS, CHANNEL = 2, 3  # places of `Reported.phase`
RESIDUAL_CHANNEL, NOVELTY_CHANNEL, LEVELS_CHANNEL = range(3)
CHANNELS = ("residual", "novelty", "levels")


class Reported(NamedTuple):
    """What the kernel tells of an event that changed an episode.

    phase (4,) int64 by kind, then whether the event is learned, and the channel of the anomaly score
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
    far = len(s.clock.number) > NEARBY
    for t in range(start, len(y)):
        k, e, time = pool_of[t], rows[t], float(ts[t])
        if far and t + 1 < len(y):
            simd.prefetch(s, rows[t + 1])
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
        _advance(clock, time, marks[source])
        out.score[t] = _judge(p, w, s, r, told, e, n, n - 1, time, y[t], answer, n > 0, u[t], steps[t])
        loud = _heed(p, learner, w, s, told, k, e, n)
        if told.phase[LEARNS]:
            kernel.learn(p, learner, w, k, e, u[t], steps[t], time, y[t])
        else:
            _widen(learner.pool, k, y[t])
            learn_past(p, learner, w, k, e, u[t], steps[t], time, y[t])
        if loud:
            return t + 1, REPORT
        if told.phase[LEARNS]:
            _keep_reference(p, s, told, e, n)
    return len(y), DONE


@inner
def _count(channels: Any) -> float:
    count = 0.0
    for on in channels:
        count += 1.0 if on else 0.0
    return max(count, 1.0)


@inner
def _learns(s: Any, r: Any, e: int, n: int) -> int:
    """1 if the event is to be learned: an open episode may hold learning, so that a fault is not taken for normal."""
    for kind in range(2):
        holds = r.learn[kind] == HOLD or (r.learn[kind] == SLOW and n % SLOW_EVERY != 0)
        if holds and s.lifecycle.number[e, kind, lifecycle.OPEN] == 1.0:
            return 0
    return 1


@inlined
def _judge(
    p: Any, w: Any, s: Any, r: Any, told: Any, e: int, n: int, judged: int, time: float, y: float, answer: float,
    known: bool, u: Any, steps: Any,
) -> float:  # fmt: skip
    """The anomaly score of a target; episodes, detector and interval go on.

    n: labelled events before; judged: errors before; known: the entity had a label when the answer was given
    """
    score, error = 0.0, y - answer
    told.phase[0] = told.phase[1] = lifecycle.SILENT
    told.phase[LEARNS] = 1
    if known:
        gap = s.clock.number[e, GAP]
        anomaly_events = _budget_events(r.anomaly_events, r.anomaly_seconds, gap) * _count(r.channels)
        size = abs(error)
        floor = 1e-9 * max(abs(y), abs(answer)) + 1e-300
        bound = max(interval.anomaly_bound(s.interval, e, 1.0 / anomaly_events), floor)
        channel = RESIDUAL_CHANNEL
        if r.channels[RESIDUAL_CHANNEL]:
            score = min(size / bound, SCORE_MOST)
        if r.channels[NOVELTY_CHANNEL]:
            week = 86_400.0 * steps[1] + 3600.0 * steps[0]
            found = novelty.observe(s.novelty, e, y, week, anomaly_events)
            if found > score:
                score, channel = found, NOVELTY_CHANNEL
        if r.channels[LEVELS_CHANNEL]:
            found = levels.observe(s.levels, e, y, u[: p.features], anomaly_events)
            if found > score:
                score, channel = found, LEVELS_CHANNEL
        sided = r.direction == 0 or error * r.direction > 0.0
        counts = sided and size >= r.deviation and size >= r.deviation_relative * abs(answer) and score > 1.0
        if n < r.warmup:
            score = 0.0
        elif r.anomaly:
            told.phase[CHANNEL] = channel
            told.phase[0] = lifecycle.step(
                s.lifecycle, e, lifecycle.ANOMALY, n, time, score, counts, not counts, r.episodes
            )
            told.number[0, 0] = score
        if r.drift:
            drift_events = _budget_events(r.drift_events, r.drift_seconds, gap)
            rounding = 1e-12 * max(abs(y), abs(answer)) + 1e-6 * w.scale[w.flag[MANY], RESIDUAL, 1]
            heard = error if abs(error) > rounding else 0.0
            evidence = min(detect.observe(s.detector, e, heard, drift_events, r.learn[1] == HOLD), SCORE_MOST)
            if n >= r.warmup:
                calm = detect.is_calm(s.detector, e)
                told.phase[1] = lifecycle.step(
                    s.lifecycle, e, lifecycle.DRIFT, n, time, evidence, evidence >= 1.0, calm, r.episodes
                )
                told.number[1, 0] = evidence
        told.phase[LEARNS] = _learns(s, r, e, n)
        if told.phase[LEARNS]:
            interval.observe(s.interval, e, judged, abs(error), r.level, 1.0 / anomaly_events)
    return score


@inlined
def _heed(p: Any, learner: Any, w: Any, s: Any, told: Any, k: int, e: int, n: int) -> bool:
    """Is there something to report? The weights before learning are told then, and every now and again."""
    loud = told.phase[0] != lifecycle.SILENT or told.phase[1] != lifecycle.SILENT
    if loud or n % WEIGHT_EVERY == 0:
        implicit_weights(p, learner, w, k, e, w.flag[MANY], told.weights)
    if loud:
        for kind in range(2):
            told.number[kind, 1] = s.lifecycle.number[e, kind, lifecycle.SINCE_TS]
            told.number[kind, 2] = lifecycle.absorbed_after(s.lifecycle, e, kind, n)
    return loud


@inlined
def _keep_reference(p: Any, s: Any, told: Any, e: int, n: int) -> None:
    if n % WEIGHT_EVERY == 0:
        reference = s.reference.weights[e]
        for i in range(p.L):
            reference[i] += np.float32(WEIGHT_RATE) * (told.weights[i] - reference[i])


@inner
def _close(q: Any, tally: Any, e: int, i: int, why: int) -> None:
    """Record i waits no more."""
    H = q.open.shape[1]
    q.open[e, i % H] = 0
    tally[why] += 1
    while q.oldest[e] < q.met[e] and (q.oldest[e] < q.met[e] - H or q.open[e, q.oldest[e] % H] == 0):
        q.oldest[e] += 1


@inner
def _drop(q: Any, late: Any, tally: Any, e: int, now: float) -> None:
    """Room for one record more: those that have waited too long, or are too many, wait no more."""
    H = q.open.shape[1]
    while q.oldest[e] < q.met[e]:
        i = q.oldest[e]
        if i > q.met[e] - late.most and not (late.labels and q.ts[e, i % H] < now - late.wait):
            return
        _close(q, tally, e, i, DROPPED)


@inner
def _due(q: Any, late: Any, tally: Any, e: int, time: float, known: bool) -> int:
    """The record that an event brings the target of, −1 where there is none; records whose target failed to come go."""
    H = q.open.shape[1]
    if late.events > 0:
        i = q.met[e] - late.events
        if i < q.oldest[e] or q.open[e, i % H] == 0:
            return -1
        if not known:
            _close(q, tally, e, i, MISSED)
            return -1
        return i
    while q.oldest[e] < q.met[e]:
        i = q.oldest[e]
        due = q.ts[e, i % H] + late.ahead
        if due > time:
            return -1
        if time <= due + late.late:
            return i if known else -1
        _close(q, tally, e, i, MISSED)
    return -1


@jit
def run_late(
    p: Any, w: Any, q: Any, room: Any, entities: Any, pools: Any, r: Any, late: Any, pool_of: Any, rows: Any, ts: Any,
    u: Any, steps: Any, own: Any, y: Any, key: Any, start: int, marks: Any, source: int, out: Any, settled: Any,
    told: Any, todo: Any, tally: Any, predicting: bool,
) -> Any:  # fmt: skip
    """Events (predicting) or labels start, start + 1, … as in `run`; one may be left and taken up again at its stage.

    own (n, 2): hour and weekday of the event itself, where `steps` are those of the time that is predicted
    """
    s, learner = entities, Learner(entities.learner, pools.pool, pools.fleet, pools.norm)
    t = start
    while t < len(y):
        k, e, time = pool_of[t], rows[t], float(ts[t])
        clock, known = s.clock.number[e], not math.isnan(y[t])
        push, ahead = True, late.events > 0 or late.ahead > 0.0
        i, todo[POOL] = -1, k
        if predicting:
            mark = time if math.isnan(marks[source]) else marks[source]
            mark += min(max(time - mark, 0.0), r.ttl / MARKS_A_TTL)
            if todo[STAGE] == BEFORE:
                if clock[GAPS] > 0.0 and mark - max(clock[MARK], clock[LAST]) > r.ttl:
                    return t, EXPIRED
                if ahead:
                    i = _due(q, late, tally, e, time, known)
                if i < 0:
                    if ahead and known and todo[TAKEN] == 0:
                        _take(p, learner, w, k, e, own[t], time, y[t])
                    todo[STAGE], todo[TAKEN] = PREDICT, 0
                    continue
                push = todo[TAKEN] == 0
                todo[TAKEN] = 1
            elif todo[STAGE] == PREDICT:
                _drop(q, late, tally, e, max(time, clock[LAST]) if clock[GAPS] > 0.0 else time)
                if q.open[e, q.met[e] % q.open.shape[1]]:
                    return t, MORE_PLACES
                n = s.learner.n[e]
                answer = kernel.predict_after(p, learner, w, k, e, u[t], steps[t], time, q.met[e] == 0)
                if kernel.wants(p, learner, w, k, e, False) == kernel.SECOND_ENTITY:
                    return t, SECOND_ENTITY
                marks[source] = mark
                half = interval.half_width(s.interval, e)
                out.yhat[t], out.lower[t], out.upper[t] = answer, answer - half, answer + half
                out.score[t], out.warmup[t], out.n[t] = 0.0, n < r.warmup, n
                out.fleet[t] = fleet_share(p, w)
                _advance(clock, time, mark)
                follow(p, learner, k, e, u[t], time, q.met[e] == 0)
                remember(p, learner, w, q, k, e, u[t], steps[t], ts[t], key[t], half, out.fleet[t])
                if late.labels and known:
                    todo[STAGE] = ITSELF
                else:
                    todo[STAGE] = BEFORE
                    t += 1
                continue
            else:
                i = q.met[e] - 1
        else:
            i = find_key(q, e, key[t]) if late.by_id else find_time(q, e, ts[t])
            if i >= 0 and q.ts[e, i % q.open.shape[1]] < clock[LAST] - late.wait:
                _close(q, tally, e, i, DROPPED)
                continue
            if i < 0:
                t += 1
                continue
        h, row = i % q.open.shape[1], todo[ROWS]
        k = todo[POOL] = q.pool[e, h] if late.fleet else e  # labels come from another source than events
        if row == len(settled.item):
            todo[TAKEN] = 0 if push else 1
            return t, MORE_ROWS
        n, young, then = s.learner.n[e], q.flag[e, h, YOUNG] == 1, float(q.ts[e, h])
        counts = p.lags == 0 or not young or n == 0
        answer, half = q.made[e, h, G], q.number[e, h, HALF]
        if counts:
            recall(p, learner, w, q, room, k, e, h)
            need = kernel.wants(p, learner, w, k, e, True)
            if need != kernel.ENOUGH:
                todo[TAKEN] = 0 if push else 1
                return t, MORE_SLOTS if need == kernel.MORE_SLOTS else SECOND_ENTITY
        settled.item[row], settled.ts[row], settled.y[row] = t, q.ts[e, h], y[t]
        settled.yhat[row], settled.lower[row], settled.upper[row] = answer, answer - half, answer + half
        settled.warmup[row], settled.n[row], settled.fleet[row] = n < r.warmup, n, q.number[e, h, SHARE]
        todo[ROWS] += 1
        _close(q, tally, e, i, MATCHED)
        score, loud = 0.0, False
        if counts:
            hour = own[t] if ahead else room.steps
            score = _judge(p, w, s, r, told, e, n, q.judged[e], then, y[t], answer, not young, room.u, hour)
            q.judged[e] += 0 if young else 1
            loud = _heed(p, learner, w, s, told, k, e, n)
            heads = learner.pool.n[k] > 0 and (p.lags == 0 or not young)
            if told.phase[LEARNS]:
                gates = heads and q.flag[e, h, KNEW] == 1
                kernel.teach(p, learner, w, k, e, room.u, room.steps, then, y[t], heads, gates)
            else:
                _widen(learner.pool, k, y[t])
            if not loud and told.phase[LEARNS]:
                _keep_reference(p, s, told, e, n)
        if push:
            if ahead:
                take_target(p, learner, e, own[t], y[t])
            else:
                take_target(p, learner, e, q.steps[e, h], y[t])
        if counts:
            count(learner, k, e, then)
        else:
            _widen(learner.pool, k, y[t])
        settled.score[row] = score
        if todo[STAGE] == ITSELF or not predicting:
            todo[STAGE] = BEFORE
            t += 1
        if loud:
            return t, REPORT
    return t, DONE


@inner
def _widen(pool: Any, k: int, y: float) -> None:
    """The bounds that answers are kept in."""
    pool.low[k], pool.high[k] = min(pool.low[k], y), max(pool.high[k], y)
    if y < 0.0:
        pool.negative[k] = 1


@inlined
def _take(p: Any, learner: Any, w: Any, k: int, e: int, steps: Any, time: float, y: float) -> None:
    """A target that nothing was predicted for: the entity's first is its beginning, others are lags only."""
    first = learner.entity.n[e] == 0
    if first:
        w.base[BASE] = w.base[LOG_BASE] = 0.0
        learn_target(p, learner, w, k, e, y)
    else:
        _widen(learner.pool, k, y)
    take_target(p, learner, e, steps, y)
    if first:
        count(learner, k, e, time)
