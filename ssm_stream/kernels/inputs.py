"""From an event's columns to the inputs of the heads: numbers, codes, standardisation, running statistics.

`look` and `place` change nothing; `register`, `learn_inputs` and `learn_target` are called once the target is known,
and `learn_past` last: `take_target` and `count` for the target, `follow` for the event.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ssm_stream.kernels import simd
from ssm_stream.kernels.features import ALWAYS, NEVER
from ssm_stream.kernels.jit import inlined, inner
from ssm_stream.kernels.shapes import (
    BASE,
    CODES,
    ENTITY,
    FLEET,
    FLOOR_RATE,
    FRESH,
    GAPS,
    HIGH,
    HOURS,
    LOG_BASE,
    LOG_RESIDUAL,
    LOG_VALUE,
    LOW,
    MANY,
    MEAN,
    NORM,
    RESIDUAL,
    SEASONS,
    SLOTS,
    VALUES,
    WINSOR,
    Y_MEAN,
    Y_SPREAD,
    Z_CLIP,
)

MOST_GAP_HOUR = 4 * 3600.0  # an hour of the day is worth an input where events come at least so often, s
LEAST_GAP_WEEKDAY, MOST_GAP_WEEKDAY = 60.0, 86400.0
DAY = 86400.0
WHOLE = (DAY, 7 * DAY)  # s after which an hour, a weekday comes again, and may be an input: before, it is but a while
LEAN = 10.0  # events in which an entity's scale leans on the pool's
HOUR_RATE, WEEK_RATE = 0.15, 0.5  # of the usual targets, once 7 (2) are known


@inner
def clip(value: Any, bound: float) -> Any:
    """The value, within ±bound."""
    return min(max(value, -bound), bound)


@inner
def _gap(gaps: Any) -> float:
    """The median gap between an entity's events, s; NaN while too few are known."""
    return gaps[0] if gaps[GAPS] >= GAPS else math.nan


@inner
def _steps(mode: int, gap: float, age: float, differs: Any, features: int, which: int) -> bool:
    """Is the hour (which = 0), the weekday (1) a code, in a pool whose first event was `age` seconds ago?"""
    if mode == NEVER or age < WHOLE[which]:
        return False
    if mode == ALWAYS:
        return True
    if which == 0:
        if not (0.0 < gap <= MOST_GAP_HOUR):
            return False
    elif not (LEAST_GAP_WEEKDAY <= gap <= MOST_GAP_WEEKDAY):
        return False
    for j in range(features):  # noqa: SIM110 - numba compiles no generator
        if differs[j, which] == 0:
            return False
    return True


@inner
def _find(values: Any, seen: int, value: float) -> int:
    """Place of a value among those that column j has shown, or −1."""
    for i in range(seen):
        if values[i] == value:
            return i
    return -1


@inner
def _coded(features: int, columns: int, dead: Any, j: int, u: Any, steps: Any, on: Any) -> float:
    """The value of coded column j, NaN if unknown, infinite where it is no category. on (2,): are hour, weekday?"""
    if j < columns:
        value = u[j]
        if j < features and (dead[j] != 0 or (value != math.floor(value) and not math.isnan(value))):
            # A number that is no category may still be unknown, which is a code of its own.
            return math.nan if math.isnan(value) else math.inf
        return value
    which = j - columns
    return float(steps[which]) if on[which] else math.inf


@inlined
def look(p: Any, learner: Any, w: Any, k: int, e: int, u: Any, steps: Any, ts: float, first: bool) -> None:
    """Numeric inputs v and the slots of the codes, from what is known before the event is learned.

    first: the entity has no earlier event to differ from
    """
    s, pool = learner.entity, learner.pool
    v, new = w.v, s.n[e] == 0
    w.flag[MANY] = 1 if pool.entities[k] + (1 if new else 0) > 1 and len(learner.norm.near) > 0 else 0
    gap = _gap(pool.gaps[k])
    age = (ts - pool.begun[k]) / 1000.0 if pool.n[k] > 0 else 0.0
    w.flag[SEASONS] = 1 if p.seasons and 0.0 < gap <= MOST_GAP_HOUR and age >= DAY else 0
    mean = pool.target[k, Y_MEAN] if new else s.target[e, Y_MEAN]
    last = mean
    if p.lags > 0 and not new:
        last = s.y_last[e, 0]
    w.base[BASE] = last if p.lags > 0 else 0.0
    w.base[MEAN] = mean
    reach = 0.5 * (pool.high[k] - pool.low[k]) if pool.n[k] > 0 else math.inf
    w.base[LOW], w.base[HIGH] = pool.low[k] - reach, pool.high[k] + reach
    for j in range(p.features):
        v[j] = u[j]
    at = p.features
    for j in range(p.cycles):
        v[at + j] = u[p.features + p.categories + j]
    at += p.cycles
    if p.differences:
        for j in range(p.features):
            v[at + j] = 0.0 if first else u[j] - s.u_last[e, j]
        at += p.features
    for i in range(2, p.feature_lags + 1):
        for j in range(p.features):
            v[at + j] = math.nan if first else u[j] - s.u_last[e, i * p.features + j]
        at += p.features
    if p.lags > 0:
        v[at] = last
        for i in range(1, p.lags):
            v[at + i] = 0.0 if new else s.y_last[e, i - 1] - s.y_last[e, i]
        at += p.lags
    if p.seasons:
        hour, week = steps[0], HOURS + 24 * steps[1] + steps[0]
        # From the last target as the seasons hold it: what that rounds off is nothing to be standardised.
        held = np.float64(np.float32(last))
        v[at] = np.float64(s.season[e, hour]) - held if s.season_n[e, hour] > 0 else mean - last
        v[at + 1] = np.float64(s.season[e, week]) - held if s.season_n[e, week] > 0 else v[at]
    w.on[0] = 1 if _steps(p.step_hour, gap, age, pool.differs[k], p.features, 0) else 0
    w.on[1] = 1 if _steps(p.step_weekday, gap, age, pool.differs[k], p.features, 1) else 0
    find_codes(p, learner, w, k, u, steps)


@inlined
def find_codes(p: Any, learner: Any, w: Any, k: int, u: Any, steps: Any) -> None:
    """Slots of the codes that are 1, and how many new ones learning the event will need; w.on is known."""
    pool, columns = learner.pool, p.features + p.categories
    count = fresh = 0
    for j in range(p.Q):
        value = _coded(p.features, columns, pool.dead[k], j, u, steps, w.on)
        slot = 0
        if math.isnan(value):
            slot = pool.missing[k, j]
            if slot == 0 and pool.seen[k, j] + pool.dead[k, j] > 0:
                fresh += 1
        elif value != math.inf:
            i = _find(pool.value[k, j], pool.seen[k, j], value)
            least = 3 if j < p.features else 2
            if i >= 0:
                slot = pool.slot[k, j, i]
            elif pool.seen[k, j] < VALUES:
                fresh += 1 if pool.seen[k, j] >= least else (least if pool.seen[k, j] == least - 1 else 0)
            elif j >= p.features:
                slot = pool.other[k, j]
                fresh += 1 if slot == 0 else 0
        if slot > 0:
            w.slots[count] = slot - 1
            count += 1
    w.flag[CODES], w.flag[FRESH] = count, min(fresh, SLOTS - pool.used[k])


@inlined
def register(p: Any, learner: Any, w: Any, k: int, u: Any, steps: Any) -> None:
    """Give slots to what this event shows for the first time, and add them to its inputs."""
    pool = learner.pool
    for j in range(p.features):
        for which in range(2):
            if pool.differs[k, j, which] == 0 and abs(u[j] - steps[which]) >= 1.0:
                pool.differs[k, j, which] = 1
    for j in range(p.features):
        if pool.dead[k, j] == 0 and u[j] != math.floor(u[j]) and not math.isnan(u[j]):
            pool.dead[k, j] = 1
    columns = p.features + p.categories
    for j in range(p.Q):
        value = _coded(p.features, columns, pool.dead[k], j, u, steps, w.on)
        if math.isnan(value):
            if pool.missing[k, j] == 0 and pool.seen[k, j] + pool.dead[k, j] > 0:
                pool.missing[k, j] = _give(p.F, p.K, pool.used, w, k, True)
            continue
        if value == math.inf or _find(pool.value[k, j], pool.seen[k, j], value) >= 0:
            continue
        if pool.seen[k, j] == VALUES:
            if j < p.features:
                pool.dead[k, j] = 1
            elif pool.other[k, j] == 0:
                pool.other[k, j] = _give(p.F, p.K, pool.used, w, k, True)
            continue
        pool.value[k, j, pool.seen[k, j]] = value
        pool.seen[k, j] += 1
        if pool.seen[k, j] >= (3 if j < p.features else 2):
            for i in range(pool.seen[k, j]):
                if pool.slot[k, j, i] == 0:
                    pool.slot[k, j, i] = _give(p.F, p.K, pool.used, w, k, i == pool.seen[k, j] - 1)


@inner
def _give(F: int, K: int, used: Any, w: Any, k: int, now: bool) -> int:
    """The next free slot plus one, 0 where there is none; `now`: this event's code is 1."""
    if used[k] >= K:
        return 0
    slot = used[k]
    used[k] += 1
    # The scratch is shared by pools: what a larger one left here must not be taken for this event's code.
    w.fleet[1 + F + slot] = w.entity[1 + F + slot] = w.norm[1 + 2 * F + slot] = 0.0
    if now:
        w.slots[w.flag[CODES]] = slot
        w.flag[CODES] += 1
        w.fleet[1 + F + slot] = 1.0
        w.entity[1 + F + slot] = 1.0
        w.norm[1 + 2 * F + slot] = 1.0
        for scope in range(3):
            w.size[scope] += np.float32(1.0)
    return slot + 1


@inner
def _standardise(v: Any, mean: Any, variance: Any, counts: Any, F: int, out: Any) -> None:
    """out[1 + j] = clip((vⱼ − mean) / deviation, ±5); 0 for an unknown value and while nothing varies."""
    # Without branches, so that it goes through vector registers.
    for j in range(F):
        deviation = math.sqrt(variance[j])
        varies = (counts[j] > 1.5) & (deviation > 1e-9 * (1e-12 + abs(mean[j]))) & (v[j] == v[j])
        z = min(max((v[j] - mean[j]) / (deviation if varies else 1.0), -Z_CLIP), Z_CLIP)
        out[1 + j] = np.float32(z if varies else 0.0)


@inlined
def place(p: Any, learner: Any, w: Any, k: int, e: int) -> None:
    """The inputs of each scope from v and the slots: [1, z, codes]."""
    s, pool = learner.entity, learner.pool
    F, used, many = p.F, pool.used[k], w.flag[MANY]
    w.fleet[0] = 1.0
    _standardise(w.v, pool.v_mean[k], pool.v_var[k], pool.v_count[k], F, w.fleet)
    if p.seasons and not w.flag[SEASONS]:  # their statistics are learned from the first event on
        w.fleet[F - 1] = w.fleet[F] = 0.0
    # The scratch is shared by pools, of which another may have more codes.
    for j in range(1 + F, len(w.fleet)):
        w.fleet[j] = 0.0
    for i in range(w.flag[CODES]):
        w.fleet[1 + F + w.slots[i]] = 1.0
    w.size[FLEET] = simd.dot(w.fleet, 0, w.fleet, 0, len(w.fleet))
    if not many:
        return
    w.norm[0] = 1.0
    w.entity[0] = 1.0
    _standardise(w.v, s.v_mean[e], s.v_var[e], s.v_count[e], F, w.entity)
    if p.seasons and not w.flag[SEASONS]:
        w.entity[F - 1] = w.entity[F] = 0.0
    for j in range(F):
        w.norm[1 + j] = w.entity[1 + j]
        w.norm[1 + F + j] = w.fleet[1 + j]
    for j in range(len(w.fleet) - 1 - F):
        w.entity[1 + F + j] = w.fleet[1 + F + j]
    for j in range(1 + 2 * F, len(w.norm)):
        w.norm[j] = 0.0
    for j in range(used):
        w.norm[1 + 2 * F + j] = w.fleet[1 + F + j]
    w.size[ENTITY] = simd.dot(w.entity, 0, w.entity, 0, len(w.entity))
    w.size[NORM] = simd.dot(w.norm, 0, w.norm, 0, len(w.norm))


@inlined
def scales(p: Any, learner: Any, w: Any, k: int, e: int) -> None:
    """Mean and deviation of each scale for the pool and the entity; a young one leans on the pool."""
    s, pool = learner.entity, learner.pool
    n, n_pool = float(s.n[e]), float(pool.n[k])
    for i in range(4):
        late = 1.0 if p.lags > 0 and i in (RESIDUAL, LOG_RESIDUAL) else 0.0  # a first event has no residual
        lent = pool.spread[k, i]
        for side in range(2):
            count = max(n_pool - late * pool.entities[k] if side == 0 else n - late, 0.0)
            target = pool.target[k] if side == 0 else s.target[e]
            mean, variance = target[2 + 2 * i], target[3 + 2 * i]
            if count < LEAN:
                variance = (variance * count + 2.0 * lent) / (count + 2.0)
                if side == 1:
                    lean = 0.5 if late > 0.0 or count == 0.0 else 0.0
                    mean = (mean * count + lean * pool.target[k, 2 + 2 * i]) / (count + lean)
            w.scale[side, i, 0] = mean
            w.scale[side, i, 1] = math.sqrt(variance)


@inner
def winsorised(delta: float, deviation: float, mean: float) -> float:
    """A step within ±WINSOR usual deviations; free while nothing has varied, so that the first change is heard."""
    limit = WINSOR * deviation
    return clip(delta, limit) if limit > 1e-9 * (1e-12 + abs(mean)) else delta


@inner
def learn_inputs(p: Any, v: Any, mean: Any, variance: Any, counts: Any) -> None:
    """Running mean and variance of the numbers, winsorised: one wild value must not blind the learner for years."""
    # Without branches, so that it goes through vector registers.
    for j in range(p.F):
        count, known, away = counts[j], v[j] == v[j], v[j] - mean[j]
        rate, limit = 1.0 / (count + 1.0), WINSOR * math.sqrt(variance[j])
        bounded = (count > 30.0) & (limit > 1e-9 * (1e-12 + abs(mean[j])))
        delta = min(max(away, -limit), limit) if bounded else away
        new = (1.0 - rate) * (variance[j] + rate * delta * delta)
        mean[j] = mean[j] + rate * delta if known else mean[j]
        variance[j] = new if known else variance[j]
        counts[j] = min(count + 1.0, 1.0 / FLOOR_RATE - 1.0) if known else count


@inner
def _learn_scale(target: Any, i: int, count: float, value: float, size: float) -> float:
    """Running mean and variance of one scale; returns the winsorised step."""
    rate = max(1.0 / (count + 1.0), FLOOR_RATE)
    delta = value - target[2 + 2 * i]
    if count > 30.0:
        delta = winsorised(delta, math.sqrt(target[3 + 2 * i]), size)
    target[2 + 2 * i] += rate * delta
    target[3 + 2 * i] = (1.0 - rate) * (target[3 + 2 * i] + rate * delta * delta)
    return delta if count > 0.0 else 0.0


@inner
def log1p_of(value: float) -> float:
    """log(1 + value), of a negative value as of zero."""
    return math.log1p(max(value, 0.0))


@inlined
def learn_target(p: Any, learner: Any, w: Any, k: int, e: int, y: float) -> None:
    """Statistics of the target and of what the heads are to answer, of entity and pool."""
    s, pool = learner.entity, learner.pool
    n, n_pool = float(s.n[e]), float(pool.n[k])
    for side in range(2):
        target, count = (pool.target[k], n_pool) if side == 0 else (s.target[e], n)
        off = y - target[Y_MEAN]
        if count > 30.0:
            off = winsorised(off, target[Y_SPREAD], target[Y_MEAN])
        rate = max(1.0 / (count + 1.0), FLOOR_RATE)
        target[Y_MEAN] += rate * off
        if count > 0.0:
            target[Y_SPREAD] += rate * (abs(off) - target[Y_SPREAD])
    logs = p.log and pool.negative[k] == 0
    for i in range(4):
        residual = i in (RESIDUAL, LOG_RESIDUAL)
        if residual and p.lags > 0 and n == 0.0:
            continue
        if i >= LOG_RESIDUAL and (not logs or (i == LOG_VALUE and p.window == 0)):
            continue
        value = y - w.base[BASE] if i == RESIDUAL else y
        if i >= LOG_RESIDUAL:
            value = log1p_of(y) - (w.base[LOG_BASE] if residual else 0.0)
        late = 1.0 if p.lags > 0 and residual else 0.0
        size = pool.target[k, Y_MEAN] if i < LOG_RESIDUAL else 1.0
        _learn_scale(pool.target[k], i, max(n_pool - late * pool.entities[k], 0.0), value, size)
        step = _learn_scale(s.target[e], i, max(n - late, 0.0), value, size)
        if n - late > 0.0:
            # Of each entity the first step has no mean yet to be measured from.
            rate = max(1.0 / (max(n_pool - (1.0 + late) * pool.entities[k], 0.0) + 1.0), FLOOR_RATE)
            limit = WINSOR * WINSOR * pool.spread[k, i] if n_pool > 30.0 and pool.spread[k, i] > 0.0 else math.inf
            pool.spread[k, i] += rate * (min(step * step, limit) - pool.spread[k, i])
    if n_pool == 0.0:
        pool.low[k] = pool.high[k] = y
    pool.low[k], pool.high[k] = min(pool.low[k], y), max(pool.high[k], y)
    if y < 0.0:
        pool.negative[k] = 1


@inlined
def learn_past(p: Any, learner: Any, w: Any, k: int, e: int, u: Any, steps: Any, ts: float, y: float) -> None:
    """Lags, last features, usual targets of the hour, gaps and counts."""
    take_target(p, learner, e, steps, y)
    follow(p, learner, k, e, u, ts, learner.entity.n[e] == 0)
    count(learner, k, e, ts)


@inlined
def take_target(p: Any, learner: Any, e: int, steps: Any, y: float) -> None:
    """Lags and the usual targets of the hour; called before `count`."""
    s = learner.entity
    new = s.n[e] == 0
    if p.lags > 0:
        for i in range(p.lags - 1, 0, -1):
            s.y_last[e, i] = y if new else s.y_last[e, i - 1]
        s.y_last[e, 0] = y
    if p.seasons:
        for kind in range(2):
            at = steps[0] if kind == 0 else HOURS + 24 * steps[1] + steps[0]
            known = float(s.season_n[e, at])
            rate = max(1.0 / (known + 1.0), HOUR_RATE if kind == 0 else WEEK_RATE)
            s.season[e, at] += np.float32(rate * (y - s.season[e, at]))
            s.season_n[e, at] = min(known + 1.0, 100.0)


@inlined
def follow(p: Any, learner: Any, k: int, e: int, u: Any, ts: float, first: bool) -> None:
    """Last features, those of the events before, and the gap since the entity's event before."""
    s, gaps = learner.entity, learner.pool.gaps[k]
    for j in range(p.features):
        if not math.isnan(u[j]):
            s.u_last[e, j] = u[j]
        elif first:
            s.u_last[e, j] = math.nan
    if p.feature_lags > 1:
        for i in range(p.feature_lags, 1, -1):
            for j in range(p.features):
                s.u_last[e, i * p.features + j] = math.nan if first else s.u_last[e, (i - 1) * p.features + j]
        for j in range(p.features):
            s.u_last[e, p.features + j] = u[j]
    if not first and gaps[GAPS] < GAPS:
        _learn_gap(gaps, (ts - s.time[e]) / 1000.0)
    s.time[e] = ts


@inlined
def count(learner: Any, k: int, e: int, ts: float) -> None:
    """One labelled event more."""
    s, pool = learner.entity, learner.pool
    if s.n[e] == 0:
        pool.entities[k] += 1
    if pool.n[k] == 0:
        pool.begun[k] = ts
    pool.time[k] = ts
    s.n[e] += 1
    pool.n[k] += 1


@inner
def _learn_gap(gaps: Any, gap: float) -> None:
    """Insert a gap in order; once all are known, the median moves to the first place."""
    i = count = int(gaps[GAPS])
    while i > 0 and gaps[i - 1] > gap:
        gaps[i] = gaps[i - 1]
        i -= 1
    gaps[i] = gap
    gaps[GAPS] = count + 1.0
    if count + 1 == GAPS:
        gaps[0] = 0.5 * (gaps[GAPS // 2 - 1] + gaps[GAPS // 2])
