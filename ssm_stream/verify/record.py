"""The production kernel beside explicit gradient descent, event by event: what was seen, answered and how far apart.

`follow` runs the production kernel over a tape. Before and after each event it reads the kernel's state, lets the
reference of `verify_reference` do the same event in 64-bit floats, and keeps the differences.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.kernels import kernel
from ssm_stream.kernels.implicit import implicit_weights
from ssm_stream.kernels.jit import jit
from ssm_stream.kernels.shapes import (
    BASE,
    BATCH_FROM,
    ENTITY,
    FLEET,
    HIGH,
    LOG_BASE,
    LOG_RESIDUAL,
    LOW,
    MANY,
    MEAN,
    NORM,
    Q_CLIP,
    RESIDUAL,
    VALUE,
    LearnerParams,
)
from ssm_stream.kernels.simd import BATCH
from ssm_stream.verify import reference
from ssm_stream.verify.reference import Array, Constants, Descent, Plan

SMALLEST = 1e-6
"""Norm of weights below which a difference counts in absolute terms, as parts of this."""


class Reference(NamedTuple):
    """The explicit gradient descent of all scopes: fleet and norm by pool, own (E, prox + 1, L) by life.

    plan, c: heads and constants; answers (3, heads): of the event at hand; targets (2, 4): its q by scale of pool and
    of entity; means (P, 2): of the surprise gate
    """

    plan: Plan
    c: Constants
    fleet: Descent
    norm: Descent
    own: Array
    answers: Array
    targets: Array
    means: Array


class Frozen(NamedTuple):
    """Models that stop learning. A pool's is frozen after so many labelled events; its weights and the gate's are means
    over the second half of those (those of a single moment may suit that moment only), its attention holds the last.

    after (P,) int64; own (E,) int64: events in the mean of a life's own weights; gate, gates (P, T): sums of weights
    and how many; until (E,) int64: labelled events of a life over which `moved` is summed; moved (E, features):
    Σ |implicit weight × input|
    """

    after: NDArray[np.int64]
    own: NDArray[np.int64]
    gate: Array
    gates: NDArray[np.int64]
    until: NDArray[np.int64]
    moved: Array


class Recorded(NamedTuple):
    """What the production kernel saw and answered, a row an event.

    x (n, L) float32: inputs of the fleet scope, as learned; q (n,): standardised residual, NaN where no head learned;
    base, w0, mean, deviation (n,): base, answer before any gradient, mean and deviation of y − base of the pool;
    yhat, frozen (n,): predictions of the kernel and of the frozen model, NaN before it is frozen
    """

    x: NDArray[np.float32]
    q: Array
    base: Array
    w0: Array
    mean: Array
    deviation: Array
    yhat: Array
    frozen: Array


class Deviation(NamedTuple):
    """Kernel against reference, (n, H) each by head, where `learned` says that the head learned the event.

    answer: |q_h − q_64| / max(1, |q_64|), before the event is learned
    weights: ‖W_h − W_64‖ / max(‖W_64‖, SMALLEST), after it is learned
    shift (n,): |prediction − the same with the reference's answers|, gate weights alike, in the target's unit
    """

    answer: NDArray[np.float32]
    weights: NDArray[np.float32]
    learned: NDArray[np.bool_]
    shift: Array


def new_reference(p: LearnerParams, c: Constants, P: int, E: int, norms: int) -> Reference:
    """P pools and E lives that have seen nothing; p with all slots there will be; norms: pools of the norm scope."""
    plan = reference.scope_plan(p)
    return Reference(
        plan, c, reference.new_descent(p, P, p.L), reference.new_descent(p, norms, p.N),
        np.zeros((E, p.prox + (p.prox > 0), p.L)), np.zeros((3, max(plan.heads, p.prox + 1))), np.zeros((2, 4)),
        np.zeros((P, 2)),
    )  # fmt: skip


def new_recorded(p: LearnerParams, n: int) -> Recorded:
    """Room for n events."""
    return Recorded(np.zeros((n, p.L), np.float32), *(np.full(n, np.nan) for _ in range(7)))


def new_deviation(p: LearnerParams, n: int) -> Deviation:
    """Room for n events."""
    H = len(reference.head_names(p))
    return Deviation(
        np.zeros((n, H), np.float32), np.zeros((n, H), np.float32), np.zeros((n, H), np.bool_), np.zeros(n)
    )


@jit
def follow(
    p: Any, learner: Any, w: Any, frozen: Any, still: Any, b: Any, r: Any, tape: Any, start: int, stop: int, seen: Any,
    out: Any, implicit: Any,
) -> Any:  # fmt: skip
    """Events start … stop − 1: (next event, what it wants).

    learner, w: state and scratch of production; frozen, still: of the model that stops learning, on production's
    statistics; b: `Frozen`; r: `Reference`; seen: `Recorded`; out: `Deviation`; implicit (L,): working space
    """
    for t in range(start, stop):
        k, e, ts, y = tape.pools[t], tape.lives[t], float(tape.ts[t]), tape.y[t]
        n, n_pool = learner.entity.n[e], learner.pool.n[k]
        u, steps = tape.u[t], tape.steps[t]
        seen.yhat[t] = kernel.predict_one(p, learner, w, k, e, u, steps, ts)
        labelled = not math.isnan(y)
        need = kernel.wants(p, learner, w, k, e, labelled)
        if need != kernel.ENOUGH:
            return t, need
        many = w.flag[MANY] == 1
        scale = w.scale[0, RESIDUAL]
        seen.base[t], seen.mean[t], seen.deviation[t] = w.base[BASE], scale[0], scale[1]
        seen.w0[t] = w.base[BASE] if p.lags > 0 else w.base[MEAN]
        if n < b.until[e]:
            implicit_weights(p, learner, w, k, e, w.flag[MANY], implicit)
            x = w.entity if many else w.fleet
            for j in range(p.features):
                b.moved[e, j] += abs(implicit[1 + j] * x[1 + j])
        if n_pool >= b.after[k]:
            kernel.predict_one(p, frozen, still, k, e, u, steps, ts)
            seen.frozen[t] = _answer_frozen(still, b, k, seen.w0[t])
        elif labelled and n_pool >= b.after[k] // 2:
            _average(p, learner, frozen, w, b, k, e, n_pool + 1 == b.after[k])
        _answer(p, learner, w, r, k, e, many, out, t)
        if not labelled:
            _keep_inputs(seen.x[t], w.fleet, 1 + p.F + learner.pool.used[k])
            continue
        learns = n_pool > 0 and (p.lags == 0 or n > 0)
        logs = p.log == 1 and learner.pool.negative[k] == 0 and y >= 0.0
        gap = max(ts - learner.pool.time[k], 0.0)
        for side in range(2):
            _standardise(w, side, y, logs, r.targets[side])
        most = min(learner.pool.entities[k] - 1, BATCH) if p.window == 0 and n_pool >= BATCH_FROM else 0
        kernel.learn_one(p, learner, w, k, e, u, steps, ts, y)
        D = 1 + p.F + learner.pool.used[k]
        _keep_inputs(seen.x[t], w.fleet, D)
        if learns:
            seen.q[t] = r.targets[0, RESIDUAL]
            _learn(p, w, r, k, e, D, many, logs, gap, n_pool, most)
            _compare(p, learner, r, k, e, D, many, logs, out, t)
    return stop, kernel.ENOUGH


@jit
def _keep_inputs(out: Any, x: Any, D: int) -> None:
    for j in range(D):
        out[j] = x[j]


@jit
def _standardise(w: Any, side: int, y: float, logs: bool, q: Any) -> None:
    """q = clip((r − m)/s, ±6) with r = y − b, y, or their likes in log space; (4,) by kind."""
    for kind in range(4):
        value, base = y, w.base[BASE]
        if kind >= LOG_RESIDUAL:
            value, base = math.log1p(y) if logs else 0.0, w.base[LOG_BASE]
        off = value - (base if kind in (RESIDUAL, LOG_RESIDUAL) else 0.0) - w.scale[side, kind, 0]
        size = w.scale[side, kind, 1] if w.scale[side, kind, 1] > 0.0 else max(abs(off), 1e-300)
        q[kind] = min(max(off / size, -Q_CLIP), Q_CLIP)


@jit
def _in_unit(w: Any, side: int, kind: int, q: float) -> Any:
    """The answer in the target's unit, within its bounds, of a head that says q."""
    answer = min(max(q, -Q_CLIP), Q_CLIP) * w.scale[side, kind, 1] + w.scale[side, kind, 0]
    if kind == RESIDUAL:
        answer += w.base[BASE]
    elif kind == LOG_RESIDUAL:
        answer = math.exp(min(answer + w.base[LOG_BASE], 60.0)) - 1.0
    return min(max(answer, w.base[LOW]), w.base[HIGH])


@jit
def _answer(p: Any, learner: Any, w: Any, r: Any, k: int, e: int, many: bool, out: Any, t: int) -> None:
    """The reference's answers beside the kernel's, and what their differences come to in the prediction."""
    D, c, heads, own = 1 + p.F + learner.pool.used[k], r.c, r.plan.heads, p.prox + (1 if p.prox > 0 else 0)
    reference.answer(r.plan, c.omega[0], c.phase, c.column[0], c.cut[0], r.fleet, k, w.fleet, D, r.answers[FLEET])
    shift = _beside(r.plan, learner.fleet, k, w, w.fleet, D, r.answers, FLEET, p.bases, out.answer[t], 0)
    if many:
        reference.answer(
            r.plan, c.omega[1], c.phase, c.column[1], c.cut[1], r.norm, k, w.norm, D + p.F, r.answers[NORM]
        )
        for h in range(own):
            q = reference.read(r.own[e, h], w.entity, D)
            r.answers[ENTITY, h] = q
            out.answer[t, 2 * heads + h] = abs(w.q[ENTITY, h] - q) / max(1.0, abs(q))
            at = p.bases + p.B + h
            shift += w.g[at] * (w.a[at] - _in_unit(w, 1, RESIDUAL if h < p.prox else VALUE, q))
        at = p.bases + p.B + own
        shift += _beside(r.plan, learner.norm, k, w, w.norm, D + p.F, r.answers, NORM, at, out.answer[t], heads)
    out.shift[t] = abs(shift)


@jit
def _beside(
    plan: Any, heads: Any, k: int, w: Any, x: Any, D: int, answers: Any, scope: int, first: int, out: Any, column: int
) -> float:
    """Relative deviations of a pooled scope's answers into out from `column` on; weighted sum of the differences."""
    shift = 0.0
    for h in range(plan.heads):
        q, place = answers[scope, h], plan.place[h]
        if place < 0:
            said = reference.read(heads.W[k, h], x, D)
        else:
            said = w.q[scope, place]
            at = first + place
            if w.active[at]:
                shift += w.g[at] * (w.a[at] - _in_unit(w, 0 if scope == FLEET else 1, plan.kind[h], q))
        out[column + h] = abs(said - q) / max(1.0, abs(q))
    return shift


@jit
def _learn(
    p: Any, w: Any, r: Any, k: int, e: int, D: int, many: bool, logs: bool, gap: float, n_pool: int, most: int
) -> None:
    """The event for the reference, in every scope that learns it."""
    speed = 1.0
    if p.moments and p.M > 0:
        speed = reference.surprise(r.c, r.means[k], abs(r.targets[0, RESIDUAL] - r.answers[FLEET, 0]), float(n_pool))
    reference.learn(
        r.plan, r.c, r.fleet, k, w.fleet, D, r.answers[FLEET], r.targets[0], logs, speed, gap, most, 1 + p.F
    )
    if many:
        reference.learn(
            r.plan, r.c, r.norm, k, w.norm, D + p.F, r.answers[NORM], r.targets[1], logs, speed, gap, most, 1 + 2 * p.F
        )
        if p.prox > 0:
            size = reference.read(w.entity, w.entity, D)
            for h in range(p.prox + 1):
                step = r.c.step[h] if h < p.prox else r.c.slow
                error = reference.bounded(r.targets[1, RESIDUAL if h < p.prox else VALUE] - r.answers[ENTITY, h])
                reference.step_towards(r.own[e, h], w.entity, D, step * error / size)


@jit
def _apart(a: Any, b: Any, D: int) -> float:
    """‖a − b‖ / max(‖b‖, SMALLEST) over the first D weights."""
    apart = norm = 0.0
    for j in range(D):
        apart += (a[j] - b[j]) ** 2
        norm += b[j] ** 2
    return math.sqrt(apart) / max(math.sqrt(norm), SMALLEST)


@jit
def _apart_leaves(a: Any, b: Any) -> float:
    apart = norm = 0.0
    for tree in range(len(a)):
        for j in range(a.shape[1]):
            apart += (a[tree, j] - b[tree, j]) ** 2
            norm += b[tree, j] ** 2
    return math.sqrt(apart) / max(math.sqrt(norm), SMALLEST)


@jit
def _compare(p: Any, learner: Any, r: Any, k: int, e: int, D: int, many: bool, logs: bool, out: Any, t: int) -> None:
    """Weights of the kernel beside the reference's, after the event."""
    _compare_scope(r.plan, learner.fleet, r.fleet, k, D, logs, out, t, 0)
    if many:
        _compare_scope(r.plan, learner.norm, r.norm, k, D + p.F, logs, out, t, r.plan.heads)
        if p.prox > 0:
            for h in range(p.prox + 1):
                column = 2 * r.plan.heads + h
                out.learned[t, column] = True
                out.weights[t, column] = _apart(learner.entity.W[e, h], r.own[e, h], D)


@jit
def _compare_scope(plan: Any, a: Any, b: Any, k: int, D: int, logs: bool, out: Any, t: int, first: int) -> None:
    weights, h = out.weights[t], first
    for i in range(plan.heads):
        out.learned[t, first + i] = logs or plan.kind[i] != LOG_RESIDUAL
    for m in range(plan.M + plan.twin):
        weights[h] = _apart(a.W[k, m], b.W[k, m], D)
        h += 1
    for i in range(plan.prox + (1 if plan.prox > 0 else 0)):
        weights[h] = _apart(a.gradient[k, i], b.gradient[k, i], D)
        h += 1
    if plan.R > 0:
        weights[h] = _apart(a.embedding[k, 0], b.embedding[k, 0], plan.R + D)
        h += 1
    if plan.fern > 0:
        weights[h] = _apart_leaves(a.leaf[k], b.leaf[k])
        h += 1
    if plan.gd > 0:
        weights[h] = _apart(a.gd[k], b.gd[k], D)
        h += 1
    if plan.log > 0:
        for i in range(plan.prox):
            weights[h] = _apart(a.gradient[k, plan.prox + 1 + i], b.gradient[k, plan.prox + 1 + i], D)
            h += 1
        if plan.R > 0:
            weights[h] = _apart(a.embedding[k, 1], b.embedding[k, 1], plan.R + D)


@jit
def _towards(mean: Any, value: Any, part: Any) -> None:
    """mean ← mean + part (value − mean), of (rows, columns)."""
    for i in range(mean.shape[0]):
        for j in range(mean.shape[1]):
            mean[i, j] += part * (value[i, j] - mean[i, j])


@jit
def _average_heads(mean: Any, heads: Any, k: int, part: Any, last: bool) -> None:
    """Running mean of a pooled scope's weights; with the `last` event what attention holds is taken over."""
    _towards(mean.W[k], heads.W[k], part)
    _towards(mean.gradient[k], heads.gradient[k], part)
    _towards(mean.embedding[k], heads.embedding[k], part)
    _towards(mean.leaf[k], heads.leaf[k], part)
    for j in range(mean.gd.shape[1]):
        mean.gd[k, j] += part * (heads.gd[k, j] - mean.gd[k, j])
    if last:
        _towards(mean.keys[k], heads.keys[k], np.float32(1.0))
        _towards(mean.held[k], heads.held[k], np.float32(1.0))
        _towards(mean.past[k], heads.past[k], np.float32(1.0))
        for j in range(mean.near.shape[1]):
            mean.near[k, j] = heads.near[k, j]


@jit
def _average(p: Any, learner: Any, frozen: Any, w: Any, b: Any, k: int, e: int, last: bool) -> None:
    """The pool's weights, the entity's and the gate's of this event into the means that will be frozen."""
    part = np.float32(1.0 / (learner.pool.n[k] - b.after[k] // 2 + 1.0))
    _average_heads(frozen.fleet, learner.fleet, k, part, last)
    if len(learner.norm.near) > 0:
        _average_heads(frozen.norm, learner.norm, k, part, last)
    if w.flag[MANY] == 1:
        b.own[e] += 1
        _towards(frozen.entity.W[e], learner.entity.W[e], np.float32(1.0 / b.own[e]))
    for i in range(w.places[0]):
        b.gate[k, i] += w.g[i]
        b.gates[k, i] += 1


@jit
def _answer_frozen(still: Any, b: Any, k: int, w0: float) -> Any:
    """What the frozen weights say of the event in the scratch: W0 and, by the gate's mean weights, what differs."""
    answer = w0
    for i in range(still.places[0]):
        if still.active[i]:
            answer += b.gate[k, i] / max(b.gates[k, i], 1) * (still.a[i] - w0)
    return min(max(answer, still.base[LOW]), still.base[HIGH])
