"""The streaming learner, fused for one CPU core: events one after another, float32 heads, float64 statistics.

`learner.py` is the definition of the same recurrence in torch; tests hold the two together. Section 2 of
`docs/model.md` explains it, `shapes.py` has the glossary. Two calls an event, always in this order: `predict`, which
changes nothing but the scratch, and `learn`. In between, `wants` says whether the arrays must grow first.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ssm_stream.kernels import simd
from ssm_stream.kernels.attention import (
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
from ssm_stream.kernels.gates import learn_gates, mix
from ssm_stream.kernels.heads import (
    dot,
    embed,
    find_leaves,
    learn_direct,
    learn_gradient,
    learn_leaves,
    learn_moments,
    may_wait,
    moment_rate,
    sum_leaves,
    whole,
)
from ssm_stream.kernels.implicit import fleet_share, implicit_weights
from ssm_stream.kernels.inputs import (
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
from ssm_stream.kernels.jit import inlined, inner, jit
from ssm_stream.kernels.shapes import (
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
    """The answer, in the target's unit and within its bounds, of a head that says q on a scale of scale (4, 2)."""
    active[at] = 1.0 if on else 0.0
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


@inlined
def _scope(
    moments: int, prox: int, log: int, W: Any, gradient: Any, embedding: Any, leaves: Any, gd: Any, x: Any, D: int,
    lead: int, logs: bool, slots: Any, codes: int, phi: Any, phase: Any, leaf: Any, omega: Any, column: Any, cut: Any,
    scale: Any, base: Any, q: Any, a: Any, active: Any, at: int,
) -> int:  # fmt: skip
    """Answers of a pooled scope's heads on inputs x[:D], from place `at` on; returns how many. Arrays of one pool.

    Many arguments, as a struct of all arrays takes longer to hand over than these heads to answer.
    """
    i, R, trees, n = 0, len(phi), len(leaves), whole(D)
    for m in range(moments):
        q[i] = simd.dot(W, m * W.shape[1], x, 0, n)
        _put(a, active, at + i, scale, base, RESIDUAL, q[i], True)
        i += 1
    if prox:
        for r in range(prox + 1):
            q[i] = simd.dot(gradient, r * gradient.shape[1], x, 0, n)
            _put(
                a,
                active,
                at + i,
                scale,
                base,
                RESIDUAL if r < prox else VALUE,
                q[i],
                True,
            )
            i += 1
    if R:
        embed(phi, x, slots, codes, lead, omega, phase)
        q[i] = simd.dot(embedding, 0, phi, 0, R) + simd.dot(embedding, R, x, 0, n)
        _put(a, active, at + i, scale, base, RESIDUAL, q[i], True)
        i += 1
    if trees:
        find_leaves(leaf, x, column, cut, trees)
        q[i] = sum_leaves(leaves, leaf, trees)
        _put(a, active, at + i, scale, base, RESIDUAL, q[i], True)
        i += 1
    if len(gd):
        q[i] = simd.dot(gd, 0, x, 0, n)
        _put(a, active, at + i, scale, base, RESIDUAL, q[i], True)
        i += 1
    if log:
        for r in range(prox):
            q[i] = simd.dot(gradient, (prox + 1 + r) * gradient.shape[1], x, 0, n)
            _put(a, active, at + i, scale, base, LOG_RESIDUAL, q[i], logs)
            i += 1
        if R:
            at_log = embedding.shape[1]
            q[i] = simd.dot(embedding, at_log, phi, 0, R) + simd.dot(embedding, at_log + R, x, 0, n)
            _put(a, active, at + i, scale, base, LOG_RESIDUAL, q[i], logs)
            i += 1
    return i


@inner
def _attend(
    window: int, lags: int, log: int, M: int, W: Any, keys: Any, held: Any, pasts: Any, near: Any, x: Any, D: int,
    lead: int, logs: bool, scale: Any, base: Any, q: Any, i: int, a: Any, active: Any, at: int, room: Any, least: Any,
    past: Any,
) -> int:  # fmt: skip
    """Answers of the attention: what the moment head says plus what it missed in the like situations of late."""
    inserted = int(near[HELD])
    count, newest = min(inserted, window), (inserted - 1) % window
    for r in range(HELD):
        least[r] = near[r]  # what is not measured now teaches nothing
    on = count > 0
    fit, third, small = room[FIT], np.float32(0.3), np.float32(1e-3)
    local, aged, raw, plain, alike = 0.0, 0.0, 0.0, 0.0, 0.0
    if on:
        weights, target = W[0], held[HELD_RESIDUAL]
        value = dot(weights, x, D)
        least[NEAR] = measure(keys, x, weights, D, lead, count, room)
        width = third * (np.float32(near[NEAR]) + small)
        total = attend_to(room, count, least[NEAR], width, 0.0, newest)
        raw = dot(room[WEIGHT], target, count) / total
        local = value + raw - dot(room[WEIGHT], fit, count) / total
        total = attend_to(room, count, least[NEAR], width, AGED, newest)
        aged = value + (dot(room[WEIGHT], target, count) - dot(room[WEIGHT], fit, count)) / total
        least[NEAR_PLAIN] = measure_plain(keys, x, 1, D, lead, PLAIN, count, newest, room)
        total = attend_to(
            room,
            count,
            least[NEAR_PLAIN],
            third * (np.float32(near[NEAR_PLAIN]) + small),
            0.0,
            newest,
        )
        plain = dot(room[WEIGHT], target, count) / total
        if lags > 0:
            least[NEAR_PAST] = measure_plain(pasts, past, 0, lags, lags, window, count, newest, room)
            total = attend_to(
                room,
                count,
                least[NEAR_PAST],
                np.float32(near[NEAR_PAST]) + small,
                0.0,
                newest,
            )
            alike = dot(room[WEIGHT], target, count) / total
    q[i], q[i + 1], q[i + 2], q[i + 3], q[i + 4] = local, aged, raw, plain, alike
    for _ in range(4 + (lags > 0)):
        _put(a, active, at + i, scale, base, RESIDUAL, q[i], on)
        i += 1
    if not log:
        return i
    on = on and logs
    local, aged, raw = 0.0, 0.0, 0.0
    if on:
        weights, target = W[M], held[HELD_LOG]
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
        _put(
            a,
            active,
            at + i,
            scale,
            base,
            LOG_RESIDUAL if r < 2 else LOG_VALUE,
            q[i],
            on,
        )
        i += 1
    return i


@inlined
def answers(p: Any, learner: Any, w: Any, k: int, e: int) -> int:
    """All answers, the bases first; returns how many places are in use."""
    s, pool = learner.entity, learner.pool
    logs, used = pool.negative[k] == 0, pool.used[k]
    w.a[0] = w.base[MEAN]
    w.active[0] = 1.0
    at = 1
    if p.lags > 0:
        w.a[at] = w.base[BASE]
        w.active[at] = 1.0
        at += 1
    if p.seasons:
        for i in range(2):
            w.a[at] = w.v[p.F - 2 + i] + w.base[BASE]
            w.active[at] = w.flag[SEASONS]
            at += 1
    fleet, norm = learner.fleet, learner.norm
    count = _scope(
        p.M * p.moments, p.prox, p.log, fleet.W[k], fleet.gradient[k], fleet.embedding[k], fleet.leaf[k],
        fleet.gd[k], w.fleet, 1 + p.F + used,
        p.F, logs, w.slots, w.flag[CODES], w.phi_fleet, p.phase, w.leaf_fleet, p.omega_fleet, p.fern_fleet,
        p.cut_fleet,
        w.scale[0], w.base, w.q[FLEET], w.a, w.active, at,
    )  # fmt: skip
    if p.window:
        count = _attend(
            p.window, p.lags, p.log, p.M, fleet.W[k], fleet.keys[k], fleet.held[k], fleet.past[k], fleet.near[k],
            w.fleet, 1 + p.F + used, p.F,
            logs, w.scale[0], w.base, w.q[FLEET], count, w.a, w.active, at, w.attend, w.least[0], w.past[0],
        )  # fmt: skip
    at += count
    if w.flag[MANY]:
        if p.prox:
            for r in range(p.prox + 1):
                w.q[ENTITY, r] = simd.dot(s.W[e], r * s.W.shape[2], w.entity, 0, whole(1 + p.F + used))
                kind = RESIDUAL if r < p.prox else VALUE
                _put(w.a, w.active, at, w.scale[1], w.base, kind, w.q[ENTITY, r], True)
                at += 1
        count = _scope(
            p.M * p.moments, p.prox, p.log, norm.W[k], norm.gradient[k], norm.embedding[k], norm.leaf[k],
            norm.gd[k], w.norm, 1 + 2 * p.F + used,
            2 * p.F, logs, w.slots, w.flag[CODES], w.phi_norm, p.phase, w.leaf_norm, p.omega_norm, p.fern_norm,
            p.cut_norm,
            w.scale[1], w.base, w.q[NORM], w.a, w.active, at,
        )  # fmt: skip
        if p.window:
            count = _attend(
                p.window, p.lags, p.log, p.M, norm.W[k], norm.keys[k], norm.held[k], norm.past[k], norm.near[k],
                w.norm, 1 + 2 * p.F + used, 2 * p.F,
                logs, w.scale[1], w.base, w.q[NORM], count, w.a, w.active, at, w.attend, w.least[1], w.past[1],
            )  # fmt: skip
        at += count
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
    return predict_after(p, learner, w, k, e, u, steps, ts, learner.entity.n[e] == 0)


@inlined
def predict_after(p: Any, learner: Any, w: Any, k: int, e: int, u: Any, steps: Any, ts: float, first: bool) -> float:
    """`predict`, where the entity may have had events that are not labelled yet: `first` says that there was none."""
    look(p, learner, w, k, e, u, steps, ts, first)
    w.base[LOG_BASE] = log1p_of(w.base[BASE]) if p.log and p.lags > 0 else 0.0
    place(p, learner, w, k, e)
    scales(p, learner, w, k, e)
    if p.window:
        _past(p, learner, w, k, e)
    w.places[0] = answers(p, learner, w, k, e)
    return mix(p, learner, w, k, e, w.places[0])


@inlined
def wants(p: Any, learner: Any, w: Any, k: int, e: int, labelled: bool) -> int:
    """What the arrays need before the event that was predicted can be told, and learned where it is labelled."""
    pool = learner.pool
    if len(learner.norm.near) == 0 and pool.entities[k] + (1 if learner.entity.n[e] == 0 else 0) > 1:
        return SECOND_ENTITY
    if labelled and pool.used[k] + w.flag[FRESH] > p.K and p.K < SLOTS:
        return MORE_SLOTS
    return ENOUGH


@inlined
def _learn_scope(
    p: Any, S: Any, P: Any, W: Any, gradient: Any, embedding: Any, leaves: Any, leaf_n: Any, gd: Any, x: Any, D: int,
    size: Any, logs: bool, phi: Any, leaf: Any, scale: Any, base: Any, q: Any, decay: Any, rate: Any, y: float,
    lead: int, level: Any, batch: Any, kept: Any, waiting: Any, k: int, most: int, others: Any,
) -> None:  # fmt: skip
    """One event for the heads of a pooled scope. decay (M,): of this event; arrays of one pool, P the residuals."""
    i, R, trees, n = 0, len(phi), len(leaves), whole(D)
    target = _standard_target(scale, RESIDUAL, y - base[BASE])
    value = _standard_target(scale, VALUE, y)
    log_target = _standard_target(scale, LOG_RESIDUAL, log1p_of(y) - base[LOG_BASE]) if logs else 0.0
    for m in range(p.M):
        said = q[i] if p.moments else float(simd.dot(W, m * W.shape[1], x, 0, n))
        i += p.moments
        moment_rate(rate, m, decay[m], p.ridge[m], p.huber[m], target - said)
    heads = p.M
    if logs and len(W) > p.M:
        said = float(simd.dot(W, p.M * W.shape[1], x, 0, n))
        moment_rate(rate, p.M, decay[0], p.ridge[0], p.huber[0], log_target - said)
        heads += 1
    learn_moments(S, P, W, level, x, D, lead, heads, rate, batch, kept, waiting, k, most, others)
    if p.prox:
        for r in range(p.prox):
            learn_gradient(gradient, r * gradient.shape[1], x, n, p.steps[r], target - q[i], size)
            i += 1
        learn_gradient(gradient, p.prox * gradient.shape[1], x, n, p.slow_step, value - q[i], size)
        i += 1
    wide = size
    if R:
        wide = size + simd.dot(phi, 0, phi, 0, R)
        _learn_embedding(embedding, 0, phi, x, R, n, p.embedding_step, target - q[i], wide)
        i += 1
    if trees:
        learn_leaves(leaves, leaf_n, leaf, trees, p.fern_step, p.fern_decay, target - q[i])
        i += 1
    if len(gd):
        learn_direct(gd, x, n, decay[0], target)
        i += 1
    if p.log and logs:
        for r in range(p.prox):
            at = (p.prox + 1 + r) * gradient.shape[1]
            learn_gradient(gradient, at, x, n, p.steps[r], log_target - q[i], size)
            i += 1
        if R:
            _learn_embedding(embedding, embedding.shape[1], phi, x, R, n, p.embedding_step, log_target - q[i], wide)


@inner
def _hold(
    window: int, lags: int, keys: Any, held: Any, pasts: Any, near: Any, x: Any, D: int, logs: bool, scale: Any,
    base: Any, least: Any, past: Any, y: float,
) -> None:  # fmt: skip
    """Keep the event among the keys of the attention."""
    at = int(near[HELD]) % window
    for j in range(D):
        keys[j, at] = x[j]
    for j in range(lags):
        pasts[j, at] = past[j]
    held[HELD_RESIDUAL, at] = _standard_target(scale, RESIDUAL, y - base[BASE])
    held[HELD_VALUE, at] = _standard_target(scale, VALUE, y)
    if logs:
        held[HELD_LOG, at] = _standard_target(scale, LOG_RESIDUAL, log1p_of(y) - base[LOG_BASE])
        held[HELD_LOG_VALUE, at] = _standard_target(scale, LOG_VALUE, log1p_of(y))
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
def _learn_embedding(W: Any, at: int, phi: Any, x: Any, R: int, n: int, step: float, error: float, size: Any) -> None:
    learn_gradient(W, at, phi, R, step, error, size)
    learn_gradient(W, at + R, x, n, step, error, size)


@inlined
def learn(
    p: Any,
    learner: Any,
    w: Any,
    k: int,
    e: int,
    u: Any,
    steps: Any,
    ts: float,
    y: float,
) -> None:
    """Learn target y of the event that `predict` has just answered (its scratch is used)."""
    # An entity's first event has no past: as its own base it teaches no residual.
    taught = learner.pool.n[k] > 0 and (p.lags == 0 or learner.entity.n[e] > 0)
    teach(p, learner, w, k, e, u, steps, ts, y, taught, taught)
    learn_past(p, learner, w, k, e, u, steps, ts, y)


@inlined
def teach(
    p: Any, learner: Any, w: Any, k: int, e: int, u: Any, steps: Any, ts: float, y: float, heads: bool, gates: bool
) -> None:
    """Codes, heads, gates and running statistics learn target y of the event in the scratch; `learn_past` is to follow.

    heads, gates: whether these learn
    """
    s, pool = learner.entity, learner.pool
    register(p, learner, w, k, u, steps)
    if heads:
        gap = max(ts - pool.time[k], 0.0)
        speed = _speed(p, learner, w, k, y)
        for m in range(len(p.decay)):
            decay = p.decay[m] if p.half_life[m] == 0.0 else 2.0 ** (-gap / p.half_life[m])
            w.decay[m] = decay if speed == 1.0 else decay**speed
        D = 1 + p.F + pool.used[k]
        logs = p.log == 1 and pool.negative[k] == 0 and y >= 0.0
        most = may_wait(p.window, pool.entities[k], pool.n[k])
        fleet, norm = learner.fleet, learner.norm
        _learn_scope(
            p, fleet.S[k], fleet.R[k], fleet.W[k], fleet.gradient[k], fleet.embedding[k], fleet.leaf[k],
            fleet.leaf_n[k], fleet.gd[k], w.fleet, D, w.size[FLEET], logs, w.phi_fleet, w.leaf_fleet, w.scale[0],
            w.base, w.q[FLEET], w.decay, w.rate, y, 1 + p.F, fleet.level[k], fleet.batch[k], fleet.kept[k],
            fleet.waiting, k, most, w.others,
        )  # fmt: skip
        if p.window:
            _hold(
                p.window, p.lags, fleet.keys[k], fleet.held[k], fleet.past[k], fleet.near[k], w.fleet, D, logs,
                w.scale[0], w.base,
                w.least[0], w.past[0], y,
            )  # fmt: skip
        if w.flag[MANY]:
            if p.prox:
                target = _standard_target(w.scale[1], RESIDUAL, y - w.base[BASE])
                value = _standard_target(w.scale[1], VALUE, y)
                size = w.size[ENTITY]
                n = whole(D)
                for r in range(p.prox):
                    at = r * s.W.shape[2]
                    learn_gradient(s.W[e], at, w.entity, n, p.steps[r], target - w.q[ENTITY, r], size)
                at = p.prox * s.W.shape[2]
                learn_gradient(s.W[e], at, w.entity, n, p.slow_step, value - w.q[ENTITY, p.prox], size)
            _learn_scope(
                p, norm.S[k], norm.R[k], norm.W[k], norm.gradient[k], norm.embedding[k], norm.leaf[k],
                norm.leaf_n[k], norm.gd[k], w.norm, D + p.F, w.size[NORM], logs, w.phi_norm, w.leaf_norm, w.scale[1],
                w.base, w.q[NORM], w.decay, w.rate, y, 1 + 2 * p.F, norm.level[k], norm.batch[k], norm.kept[k],
                norm.waiting, k, most, w.others,
            )  # fmt: skip
            if p.window:
                _hold(
                    p.window, p.lags, norm.keys[k], norm.held[k], norm.past[k], norm.near[k], w.norm, D + p.F, logs,
                    w.scale[1], w.base,
                    w.least[1], w.past[1], y,
                )  # fmt: skip
        if gates:
            learn_gates(p, learner, w, k, e, w.places[0], y, most)
    learn_inputs(p, w.v, pool.v_mean[k], pool.v_var[k], pool.v_count[k])
    learn_inputs(p, w.v, s.v_mean[e], s.v_var[e], s.v_count[e])
    learn_target(p, learner, w, k, e, y)


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
    p: Any,
    learner: Any,
    w: Any,
    pools: Any,
    rows: Any,
    u: Any,
    steps: Any,
    ts: Any,
    y: Any,
    start: int,
    out: Any,
) -> Any:
    """Predict then learn, in order, from event `start` on: pools (n,) and rows (n,) of the state, u (n, C),
    steps (n, 2), ts (n,) ms, y (n,) with NaN where there is no target; out (n,). Returns (next event, its want)."""
    for t in range(start, len(y)):
        k, e, time = pools[t], rows[t], float(ts[t])
        out[t] = predict(p, learner, w, k, e, u[t], steps[t], time)
        labelled = not math.isnan(y[t])
        need = wants(p, learner, w, k, e, labelled)
        if need != ENOUGH:
            return t, need
        if labelled:
            learn(p, learner, w, k, e, u[t], steps[t], time, y[t])
    return len(y), ENOUGH


@jit
def predict_one(p: Any, learner: Any, w: Any, k: int, e: int, u: Any, steps: Any, ts: float) -> float:
    """`predict`, for callers in Python: tests, explanations."""
    return predict(p, learner, w, k, e, u, steps, ts)


@jit
def learn_one(
    p: Any,
    learner: Any,
    w: Any,
    k: int,
    e: int,
    u: Any,
    steps: Any,
    ts: float,
    y: float,
) -> None:
    """`learn`, for callers in Python."""
    learn(p, learner, w, k, e, u, steps, ts, y)


@jit
def weights_now(p: Any, learner: Any, w: Any, k: int, e: int, out: Any) -> float:
    """The implicit weights (L,) of the event in the scratch, before it is learned; returns what rests on the fleet."""
    implicit_weights(p, learner, w, k, e, w.flag[MANY], out)
    return fleet_share(p, w)
