"""The streaming learner, fused for one CPU core: events one after another, float32 heads, float64 statistics.

`learner.py` is the definition of the same recurrence in torch; tests hold the two together. Section 2 of `docs/model.md`
explains it, `shapes.py` has the glossary. Two calls an event, always in this order: `predict`, which changes nothing but
the scratch, and `learn`. In between, `wants` says whether the arrays must grow first.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ssm_stream.model.attention import (
    AGED,
    HELD,
    HELD_LOG,
    HELD_LOG_VALUE,
    HELD_RESIDUAL,
    HELD_VALUE,
    NEAR,
    NEAR_LOG,
    NEAR_PAST,
    NEAR_PLAIN,
    attend_to,
    measure,
    measure_plain,
)
from ssm_stream.model.gates import learn_gates, mix
from ssm_stream.model.heads import (
    dot,
    embed,
    find_leaves,
    learn_direct,
    learn_gradient,
    learn_leaves,
    learn_moments,
    sum_leaves,
)
from ssm_stream.model.inputs import (
    clip,
    learn_inputs,
    learn_past,
    learn_target,
    log1p_of,
    look,
    place,
    register,
    scales,
)
from ssm_stream.model.jit import inlined, inner, jit
from ssm_stream.model.shapes import (
    BASE,
    CODES,
    ENTITY,
    FIT,
    FLEET,
    FRESH,
    HIGH,
    LOG_BASE,
    LOG_RESIDUAL,
    LOG_VALUE,
    LOW,
    MANY,
    MEAN,
    NORM,
    PLAIN,
    Q_CLIP,
    RESIDUAL,
    SEASONS,
    SLOTS,
    VALUE,
    WEIGHT,
    Z_CLIP,
)

ENOUGH, MORE_SLOTS, SECOND_ENTITY = range(3)
NEAR_RATE = 0.02


@inner
def _put(a: Any, active: Any, at: int, scale: Any, base: Any, kind: int, q: float, on: bool) -> None:
    """The answer, in the target's unit and within its bounds, of a head that says q on a scale (4, 2) of pool or entity."""
    active[at] = 1 if on else 0
    if not on:
        a[at] = 0.0
        return
    answer = clip(q, Q_CLIP) * scale[kind, 1] + scale[kind, 0]
    if kind == RESIDUAL:
        answer += base[BASE]
    elif kind == LOG_RESIDUAL:
        answer += base[LOG_BASE]
    if kind >= LOG_RESIDUAL:
        answer = math.expm1(min(answer, 60.0))
    a[at] = min(max(answer, base[LOW]), base[HIGH])


@inner
def _scope(
    p: Any, h: Any, k: int, x: Any, D: int, lead: int, logs: bool, slots: Any, codes: int, phi: Any, leaf: Any,
    omega: Any, column: Any, cut: Any, scale: Any, base: Any, q: Any, a: Any, active: Any, at: int, room: Any,
    least: Any, past: Any,
) -> int:  # fmt: skip
    """Answers of a pooled scope on inputs x[:D] from place `at` on; returns the next place."""
    i = 0
    if p.M and p.moments:
        for m in range(p.M):
            q[i] = dot(h.W[k, m], x, D)
            _put(a, active, at + i, scale, base, RESIDUAL, q[i], True)
            i += 1
    if p.prox:
        for r in range(p.prox + 1):
            q[i] = dot(h.gradient[k, r], x, D)
            _put(a, active, at + i, scale, base, RESIDUAL if r < p.prox else VALUE, q[i], True)
            i += 1
    if p.R:
        embed(phi, x, slots, codes, lead, omega, p.phase)
        W = h.embedding[k, 0]
        q[i] = dot(W, phi, p.R) + dot(W[p.R :], x, D)
        _put(a, active, at + i, scale, base, RESIDUAL, q[i], True)
        i += 1
    if p.fern:
        find_leaves(leaf, x, column, cut, p.fern)
        q[i] = sum_leaves(h.leaf[k], leaf, p.fern)
        _put(a, active, at + i, scale, base, RESIDUAL, q[i], True)
        i += 1
    if p.gd:
        q[i] = dot(h.gd[k], x, D)
        _put(a, active, at + i, scale, base, RESIDUAL, q[i], True)
        i += 1
    if p.log:
        for r in range(p.prox):
            q[i] = dot(h.gradient[k, p.prox + 1 + r], x, D)
            _put(a, active, at + i, scale, base, LOG_RESIDUAL, q[i], logs)
            i += 1
        if p.R:
            W = h.embedding[k, 1]
            q[i] = dot(W, phi, p.R) + dot(W[p.R :], x, D)
            _put(a, active, at + i, scale, base, LOG_RESIDUAL, q[i], logs)
            i += 1
    if p.window:
        i = _attend(p, h, k, x, D, lead, logs, scale, base, q, i, a, active, at, room, least, past)
    return at + i


@inner
def _attend(
    p: Any, h: Any, k: int, x: Any, D: int, lead: int, logs: bool, scale: Any, base: Any, q: Any, i: int, a: Any,
    active: Any, at: int, room: Any, least: Any, past: Any,
) -> int:  # fmt: skip
    """Answers of the attention: what the moment head says plus what it missed in the like situations of late."""
    keys, held, near = h.keys[k], h.held[k], h.near[k]
    inserted = int(near[HELD])
    count, newest = min(inserted, p.window), (inserted - 1) % p.window
    on = count > 0
    fit, third, small = room[FIT], np.float32(0.3), np.float32(1e-3)
    local, aged, raw, plain, alike = 0.0, 0.0, 0.0, 0.0, 0.0
    if on:
        weights, target = h.W[k, 0], held[HELD_RESIDUAL]
        value = dot(weights, x, D)
        least[NEAR] = measure(keys, x, weights, D, lead, count, room)
        width = third * (np.float32(near[NEAR]) + small)
        total = attend_to(room, count, least[NEAR], width, 0.0, newest)
        raw = dot(room[WEIGHT], target, count) / total
        local = value + raw - dot(room[WEIGHT], fit, count) / total
        total = attend_to(room, count, least[NEAR], width, AGED, newest)
        aged = value + (dot(room[WEIGHT], target, count) - dot(room[WEIGHT], fit, count)) / total
        least[NEAR_PLAIN] = measure_plain(keys, x, 1, D, lead, PLAIN, count, newest, room)
        total = attend_to(room, count, least[NEAR_PLAIN], third * (np.float32(near[NEAR_PLAIN]) + small), 0.0, newest)
        plain = dot(room[WEIGHT], target, count) / total
        if p.lags > 0:
            least[NEAR_PAST] = measure_plain(h.past[k], past, 0, p.lags, p.lags, p.window, count, newest, room)
            total = attend_to(room, count, least[NEAR_PAST], np.float32(near[NEAR_PAST]) + small, 0.0, newest)
            alike = dot(room[WEIGHT], target, count) / total
    q[i], q[i + 1], q[i + 2], q[i + 3], q[i + 4] = local, aged, raw, plain, alike
    for _ in range(4 + (p.lags > 0)):
        _put(a, active, at + i, scale, base, RESIDUAL, q[i], on)
        i += 1
    if not p.log:
        return i
    on = on and logs
    local, aged, raw = 0.0, 0.0, 0.0
    if on:
        weights, target = h.W[k, p.M], held[HELD_LOG]
        value = dot(weights, x, D)
        least[NEAR_LOG] = measure(keys, x, weights, D, lead, count, room)
        width = np.float32(near[NEAR_LOG]) + small
        total = attend_to(room, count, least[NEAR_LOG], width, 0.0, newest)
        local = value + (dot(room[WEIGHT], target, count) - dot(room[WEIGHT], fit, count)) / total
        total = attend_to(room, count, least[NEAR_LOG], third * width, AGED, newest)
        aged = value + (dot(room[WEIGHT], target, count) - dot(room[WEIGHT], fit, count)) / total
        total = attend_to(room, count, least[NEAR_LOG], third * width, 0.0, newest)
        raw = dot(room[WEIGHT], held[HELD_LOG_VALUE], count) / total
    q[i], q[i + 1], q[i + 2] = local, aged, raw
    for r in range(3):
        _put(a, active, at + i, scale, base, LOG_RESIDUAL if r < 2 else LOG_VALUE, q[i], on)
        i += 1
    return i


@inlined
def _answers(p: Any, learner: Any, w: Any, k: int, e: int) -> int:
    """All answers, the bases first; returns how many places are in use."""
    s, pool = learner.entity, learner.pool
    logs, used = pool.negative[k] == 0, pool.used[k]
    w.a[0] = w.base[MEAN]
    w.active[0] = 1
    at = 1
    if p.lags > 0:
        w.a[at] = w.base[BASE]
        w.active[at] = 1
        at += 1
    if p.seasons:
        for i in range(2):
            w.a[at] = w.v[p.F - 2 + i] + w.base[BASE]
            w.active[at] = w.flag[SEASONS]
            at += 1
    at = _scope(
        p, learner.fleet, k, w.fleet, 1 + p.F + used, p.F, logs, w.slots, w.flag[CODES], w.phi_fleet, w.leaf_fleet,
        p.omega_fleet, p.fern_fleet, p.cut_fleet, w.scale[0], w.base, w.q[FLEET], w.a, w.active, at, w.attend,
        w.least[0], w.past[0],
    )  # fmt: skip
    if w.flag[MANY]:
        if p.prox:
            for r in range(p.prox + 1):
                w.q[ENTITY, r] = dot(s.W[e, r], w.entity, 1 + p.F + used)
                kind = RESIDUAL if r < p.prox else VALUE
                _put(w.a, w.active, at, w.scale[1], w.base, kind, w.q[ENTITY, r], True)
                at += 1
        at = _scope(
            p, learner.norm, k, w.norm, 1 + 2 * p.F + used, 2 * p.F, logs, w.slots, w.flag[CODES], w.phi_norm,
            w.leaf_norm, p.omega_norm, p.fern_norm, p.cut_norm, w.scale[1], w.base, w.q[NORM], w.a, w.active, at,
            w.attend, w.least[1], w.past[1],
        )  # fmt: skip
    return at


@inlined
def _past(p: Any, learner: Any, w: Any, k: int, e: int) -> None:
    """The targets before, standardised: keys of the attention to like pasts."""
    s = learner.entity
    for side in range(2):
        mean, deviation = w.scale[side, VALUE, 0], w.scale[side, VALUE, 1]
        for i in range(p.lags):
            value = s.y_last[e, i] if s.n[e] > 0 else w.base[MEAN]
            w.past[side, i] = clip((value - mean) / deviation, Z_CLIP) if deviation > 0.0 else 0.0


@inlined
def predict(p: Any, learner: Any, w: Any, k: int, e: int, u: Any, steps: Any, ts: float) -> float:
    """The answer of pool k and entity e for columns u (C,), hour and weekday `steps` (2,); fills the scratch only."""
    look(p, learner, w, k, e, u, steps, ts)
    w.base[LOG_BASE] = log1p_of(w.base[BASE]) if p.log and p.lags > 0 else 0.0
    place(p, learner, w, k, e)
    scales(p, learner, w, k, e)
    if p.window:
        _past(p, learner, w, k, e)
    w.places[0] = _answers(p, learner, w, k, e)
    return mix(p, learner, w, k, e, w.places[0])


@inlined
def wants(p: Any, learner: Any, w: Any, k: int, e: int) -> int:
    """What the arrays need before the event that was predicted can be learned."""
    pool = learner.pool
    if len(learner.norm.near) == 0 and pool.entities[k] + (1 if learner.entity.n[e] == 0 else 0) > 1:
        return SECOND_ENTITY
    if pool.used[k] + w.flag[FRESH] > p.K and p.K < SLOTS:
        return MORE_SLOTS
    return ENOUGH


@inner
def _faster(decay: float, speed: float) -> float:
    return decay if speed == 1.0 else decay**speed


@inner
def _learn_scope(
    p: Any, h: Any, k: int, x: Any, D: int, size: Any, logs: bool, phi: Any, leaf: Any, scale: Any, base: Any, q: Any,
    least: Any, past: Any, speed: float, gap: float, y: float,
) -> None:  # fmt: skip
    """One event for the heads of a pooled scope; `speed` multiplies how much the moment heads forget."""
    i = 0
    target = _standard_target(scale, RESIDUAL, y - base[BASE])
    value = _standard_target(scale, VALUE, y)
    logged = log1p_of(y)
    log_target = _standard_target(scale, LOG_RESIDUAL, logged - base[LOG_BASE]) if logs else 0.0
    if p.M:
        for m in range(p.M):
            decay = p.decay[m] if p.half_life[m] == 0.0 else 2.0 ** (-gap / p.half_life[m])
            said = q[i] if p.moments else float(dot(h.W[k, m], x, D))
            i += p.moments
            learn_moments(
                h.S[k, m], h.R[k, m], h.W[k, m], x, D, _faster(decay, speed), p.ridge[m], p.huber[m], target - said
            )
        if p.window and logs:
            said = dot(h.W[k, p.M], x, D)
            decay = p.decay[0] if p.half_life[0] == 0.0 else 2.0 ** (-gap / p.half_life[0])
            learn_moments(
                h.S[k, p.M],
                h.R[k, p.M],
                h.W[k, p.M],
                x,
                D,
                _faster(decay, speed),
                p.ridge[0],
                p.huber[0],
                log_target - said,
            )
    if p.prox:
        for r in range(p.prox):
            learn_gradient(h.gradient[k, r], x, D, p.steps[r], target - q[i], size)
            i += 1
        learn_gradient(h.gradient[k, p.prox], x, D, p.slow_step, value - q[i], size)
        i += 1
    if p.R:
        wide = size + dot(phi, phi, p.R)
        _learn_embedding(p, h.embedding[k, 0], phi, x, D, target - q[i], wide)
        i += 1
    if p.fern:
        learn_leaves(h.leaf[k], h.leaf_n[k], leaf, p.fern, p.fern_step, p.fern_decay, target - q[i])
        i += 1
    if p.gd:
        learn_direct(h.gd[k], x, D, p.decay[0], target)
        i += 1
    if p.log:
        for r in range(p.prox):
            if logs:
                learn_gradient(h.gradient[k, p.prox + 1 + r], x, D, p.steps[r], log_target - q[i], size)
            i += 1
    if p.log and p.R:
        if logs:
            _learn_embedding(p, h.embedding[k, 1], phi, x, D, log_target - q[i], size + dot(phi, phi, p.R))
        i += 1
    if p.window:
        near = h.near[k]
        at = int(near[HELD]) % p.window
        for j in range(D):
            h.keys[k, j, at] = x[j]
        for j in range(p.lags):
            h.past[k, j, at] = past[j]
        h.held[k, HELD_RESIDUAL, at], h.held[k, HELD_VALUE, at] = target, value
        if logs:
            h.held[k, HELD_LOG, at] = log_target
            h.held[k, HELD_LOG_VALUE, at] = _standard_target(scale, LOG_VALUE, logged)
        if near[HELD] > 0.0:
            for r in range(HELD):
                if near[HELD] == 1.0:
                    near[r] = least[r] + 1e-3
                near[r] += max(NEAR_RATE, 1.0 / (near[HELD] + 1.0)) * (least[r] - near[r])
        near[HELD] += 1.0


@inner
def _standard_target(scale: Any, i: int, value: float) -> float:
    deviation = scale[i, 1]
    off = value - scale[i, 0]
    return clip(off / (deviation if deviation > 0.0 else max(abs(off), 1e-300)), Q_CLIP)


@inner
def _learn_embedding(p: Any, W: Any, phi: Any, x: Any, D: int, error: float, size: Any) -> None:
    learn_gradient(W, phi, p.R, p.embedding_step, error, size)
    learn_gradient(W[p.R :], x, D, p.embedding_step, error, size)


@inlined
def learn(p: Any, learner: Any, w: Any, k: int, e: int, u: Any, steps: Any, ts: float, y: float) -> None:
    """Learn target y of the event that `predict` has just answered (its scratch is used)."""
    s, pool = learner.entity, learner.pool
    register(p, learner, w, k, u, steps)
    # An entity's first event has no past: as its own base it teaches no residual.
    if pool.n[k] > 0 and (p.lags == 0 or s.n[e] > 0):
        gap = max(ts - pool.time[k], 0.0)
        speed = _speed(p, learner, w, k, y)
        D = 1 + p.F + pool.used[k]
        logs = p.log == 1 and pool.negative[k] == 0 and y >= 0.0
        _learn_scope(
            p, learner.fleet, k, w.fleet, D, w.size[FLEET], logs, w.phi_fleet, w.leaf_fleet, w.scale[0], w.base,
            w.q[FLEET], w.least[0], w.past[0], speed, gap, y,
        )  # fmt: skip
        if w.flag[MANY]:
            if p.prox:
                target = _standard_target(w.scale[1], RESIDUAL, y - w.base[BASE])
                value = _standard_target(w.scale[1], VALUE, y)
                size = w.size[ENTITY]
                for r in range(p.prox):
                    learn_gradient(s.W[e, r], w.entity, D, p.steps[r], target - w.q[ENTITY, r], size)
                learn_gradient(s.W[e, p.prox], w.entity, D, p.slow_step, value - w.q[ENTITY, p.prox], size)
            _learn_scope(
                p, learner.norm, k, w.norm, D + p.F, w.size[NORM], logs, w.phi_norm, w.leaf_norm, w.scale[1], w.base,
                w.q[NORM], w.least[1], w.past[1], speed, gap, y,
            )  # fmt: skip
        learn_gates(p, learner, w, k, e, w.places[0], y)
    learn_inputs(p, w.v, pool.v_mean[k], pool.v_var[k], pool.v_count[k])
    learn_inputs(p, w.v, s.v_mean[e], s.v_var[e], s.v_count[e])
    learn_target(p, learner, w, k, e, y)
    learn_past(p, learner, w, k, e, u, steps, ts, y)


@inlined
def _speed(p: Any, learner: Any, w: Any, k: int, y: float) -> float:
    """How much faster than usual to forget: the surprise gate, from fast and slow means of the first head's error."""
    strength, threshold, rate = p.surprise[0], p.surprise[1], p.surprise[2]
    if strength <= 0.0 or not p.moments or p.M == 0:
        return 1.0
    mean = learner.pool.surprise[k]
    error = abs(_standard_target(w.scale[0], RESIDUAL, y - w.base[BASE]) - w.q[FLEET, 0])
    mean[0] += max(rate, 1.0 / (learner.pool.n[k] + 1.0)) * (error - mean[0])
    mean[1] += max(0.1 * rate, 1.0 / (learner.pool.n[k] + 1.0)) * (error - mean[1])
    return 1.0 + strength * max(math.log((mean[0] + 1e-9) / (mean[1] + 1e-9)) - threshold, 0.0)


@jit
def run(
    p: Any, learner: Any, w: Any, pools: Any, rows: Any, u: Any, steps: Any, ts: Any, y: Any, start: int, out: Any
) -> Any:
    """Predict then learn, in order, from event `start` on: pools (n,) and rows (n,) of the state, u (n, C),
    steps (n, 2), ts (n,) ms, y (n,) with NaN where there is no target; out (n,). Returns (next event, what it wants)."""
    for t in range(start, len(y)):
        k, e, time = pools[t], rows[t], float(ts[t])
        out[t] = predict(p, learner, w, k, e, u[t], steps[t], time)
        if not math.isnan(y[t]):
            need = wants(p, learner, w, k, e)
            if need != ENOUGH:
                return t, need
            learn(p, learner, w, k, e, u[t], steps[t], time, y[t])
    return len(y), ENOUGH


@jit
def predict_one(p: Any, learner: Any, w: Any, k: int, e: int, u: Any, steps: Any, ts: float) -> float:
    """`predict`, for callers in Python: tests, explanations."""
    return predict(p, learner, w, k, e, u, steps, ts)


@jit
def learn_one(p: Any, learner: Any, w: Any, k: int, e: int, u: Any, steps: Any, ts: float, y: float) -> None:
    """`learn`, for callers in Python."""
    learn(p, learner, w, k, e, u, steps, ts, y)
