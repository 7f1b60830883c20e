"""The production kernel and explicit gradient descent over the same events: inputs, answers and their differences.

`Recorder.follow` runs the production kernel over a tape. Before and after each event it reads the kernel's state, lets
the reference do the same event in 64-bit floats, and keeps the differences.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.kernels import kernel
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
    HeadsState,
    Learner,
    LearnerParams,
    Scratch,
)
from ssm_stream.kernels.simd import BATCH
from ssm_stream.verify.reference import (
    Array,
    Descent,
    OwnDescent,
    Update,
    forgetting_speed,
    head_names,
    pooled_heads,
)
from ssm_stream.verify.trace import Production, Tape

MIN_NORM = 1e-6
"""Norm of weights below which a difference counts in absolute terms, as parts of this."""


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
    """Inputs and answers of the production kernel, a row an event.

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
    """Kernel against reference, (n, H) each by head, where `learned` is true: the head learned the event.

    answer: |q_h − q_64| / max(1, |q_64|), before the event is learned
    weights: ‖W_h − W_64‖ / max(‖W_64‖, MIN_NORM), after it is learned
    shift (n,): |prediction − the same with the reference's answers|, gate weights alike, in the target's unit
    """

    answer: NDArray[np.float32]
    weights: NDArray[np.float32]
    learned: NDArray[np.bool_]
    shift: Array


class _Event(NamedTuple):
    """The event at hand: number, pool, life, time in ms and target; inputs in use, and whether the pool has others."""

    t: int
    k: int
    e: int
    ts: float
    y: float
    D: int
    many: bool


class _Scope:
    """A pooled scope: the reference of each pool, and where its answers stand among the kernel's.

    index: FLEET or NORM; lead: inputs before the codes; first: place of its first answer; column: of its first head
    """

    def __init__(self, p: LearnerParams, index: int, pools: int) -> None:
        norm = index == NORM
        self.index, self.side = index, int(norm)
        self.heads = pooled_heads(p, norm)
        self.lead = 1 + (2 if norm else 1) * p.F
        self.extra = p.F if norm else 0
        self.first = p.bases + (p.B + p.prox + (p.prox > 0) if norm else 0)
        self.column = len(self.heads.kind) if norm else 0
        self.pools = [Descent(self.heads, p.N if norm else p.L) for _ in range(pools)]
        self.answers = np.zeros(len(self.heads.kind))

    def inputs(self, w: Scratch, D: int) -> Array:
        """The inputs that the kernel's scratch holds, as float64."""
        x: Array = (w.norm if self.index == NORM else w.fleet)[: D + self.extra].astype(np.float64)
        return x


class Recorder:
    """The production kernel, its frozen copy and the reference, event by event.

    fleet: reference by pool; norm: the same, without pools where no pool has a second entity; own: by life
    """

    def __init__(self, p: LearnerParams, production: Production, calm: Production, frozen: Frozen, tape: Tape) -> None:
        """p: with all slots that there will be; calm: the production kernel that becomes the frozen model."""
        P, E, n = len(production.learner.pool.n), len(production.learner.entity.n), len(tape.y)
        self.p, self.production, self.calm, self.frozen, self.tape = p, production, calm, frozen, tape
        self.fleet, self.norm = _Scope(p, FLEET, P), _Scope(p, NORM, P if P < E else 0)
        self.own = [OwnDescent(p) for _ in range(E if P < E else 0)]
        self._means, self._kernel = np.zeros((P, 2)), np.zeros((len(self.fleet.heads.kind), p.N))
        self.seen = Recorded(np.zeros((n, p.L), np.float32), *(np.full(n, np.nan) for _ in range(7)))
        H = len(head_names(p))
        self.deviation = Deviation(
            np.zeros((n, H), np.float32), np.zeros((n, H), np.float32), np.zeros((n, H), np.bool_), np.zeros(n)
        )
        self._fit()

    def _fit(self) -> None:
        """Give the frozen copy room for as much as production has; it shares production's statistics."""
        self.calm.fit(self.production)
        self._current = learner = self.production.learner
        entity = learner.entity._replace(W=self.calm.learner.entity.W)
        self._still = Learner(entity, learner.pool, self.calm.learner.fleet, self.calm.learner.norm)
        self._implicit = np.zeros(self.production.params.L)

    def follow(self, start: int, stop: int) -> None:
        """Events start … stop − 1."""
        for t in range(start, stop):
            self._follow_one(t)

    def _follow_one(self, t: int) -> None:
        p, production, tape, seen = self.p, self.production, self.tape, self.seen
        k, e, ts, y = int(tape.pools[t]), int(tape.lives[t]), float(tape.ts[t]), float(tape.y[t])
        seen.yhat[t] = production.predict(tape, t)
        if production.learner is not self._current:
            self._fit()
        learner, w = production.learner, production.scratch
        n, n_pool = int(learner.entity.n[e]), int(learner.pool.n[k])
        many, labelled = bool(w.flag[MANY]), not math.isnan(y)
        scale = w.scale[0, RESIDUAL]
        seen.base[t], seen.mean[t], seen.deviation[t] = w.base[BASE], scale[0], scale[1]
        seen.w0[t] = w.base[BASE] if p.lags > 0 else w.base[MEAN]
        if n < self.frozen.until[e]:
            kernel.weights_now(production.params, learner, w, k, e, self._implicit)
            at = slice(1, 1 + p.features)
            self.frozen.moved[e] += np.abs(self._implicit[at] * (w.entity if many else w.fleet)[at])
        after = int(self.frozen.after[k])
        if n_pool >= after:
            seen.frozen[t] = self._predict_frozen(t)
        elif labelled and n_pool >= after // 2:
            self._average(k, e, n_pool, many)
        event = _Event(t, k, e, ts, y, 1 + p.F + int(learner.pool.used[k]), many)
        self._predict(event)
        if not labelled:
            seen.x[t, : event.D] = w.fleet[: event.D]
            return
        learns = n_pool > 0 and (p.lags == 0 or n > 0)
        logs = bool(p.log == 1 and learner.pool.negative[k] == 0 and y >= 0.0)
        gap = max(ts - float(learner.pool.time[k]), 0.0)
        targets = [standardize(w, side, y, logs) for side in range(2)]
        waiting = p.window == 0 and n_pool >= BATCH_FROM
        update = Update(logs, 1.0, gap, min(int(learner.pool.entities[k]) - 1, BATCH) if waiting else 0, 0)
        production.learn(tape, t)
        event = event._replace(D=1 + p.F + int(learner.pool.used[k]))
        seen.x[t, : event.D] = w.fleet[: event.D]
        if learns:
            seen.q[t] = targets[0][RESIDUAL]
            self._learn(event, targets, update, n_pool)
            self._compare(event, logs)

    def _predict(self, event: _Event) -> None:
        """Compare the reference's answers with the kernel's; what their differences come to in the prediction."""
        p, w, out = self.p, self.production.scratch, self.deviation.answer[event.t]
        shift = self._predict_scope(event, self.fleet)
        if event.many:
            if p.prox:
                own, first = self.own[event.e], p.bases + p.B
                self._own_answers = own.predict(w.entity[: event.D].astype(np.float64))
                H = len(self._own_answers)
                out[-H:] = _relative(w.q[ENTITY, :H], self._own_answers)
                unit = in_unit(w, 1, own.kind, self._own_answers)
                shift += float(w.g[first : first + H] @ (w.a[first : first + H] - unit))
            shift += self._predict_scope(event, self.norm)
        self.deviation.shift[event.t] = abs(shift)

    def _predict_scope(self, event: _Event, scope: _Scope) -> float:
        """Keep the answers and their deviations; returns the sum of the differences, weighted by the gate."""
        w, heads = self.production.scratch, scope.heads
        learner = self.production.learner
        x = scope.inputs(w, event.D)
        scope.answers = answers = scope.pools[event.k].predict(x)
        given = heads.place >= 0
        found = w.q[scope.index, heads.place]
        alone = np.flatnonzero(~given)
        if len(alone):  # moment heads that answer through attention only
            found[alone] = (learner.norm if scope.side else learner.fleet).W[event.k, alone, : len(x)] @ x
        H = len(answers)
        self.deviation.answer[event.t, scope.column : scope.column + H] = _relative(found, answers)
        at = scope.first + heads.place
        use = given & (w.active[at] != 0)
        off = w.a[at] - in_unit(w, scope.side, heads.kind, answers)
        return float(w.g[at][use] @ off[use])

    def _learn(self, event: _Event, targets: list[Array], update: Update, n_pool: int) -> None:
        """Let the reference learn the event, in every scope that learns it."""
        p, w = self.p, self.production.scratch
        if p.moments and p.M > 0:
            error = abs(float(targets[0][RESIDUAL] - self.fleet.answers[0]))
            speed = forgetting_speed(self.fleet.heads.surprise, self._means[event.k], error, n_pool)
            update = update._replace(speed=speed)
        for scope in (self.fleet, self.norm) if event.many else (self.fleet,):
            q, x = targets[scope.side], scope.inputs(w, event.D)
            scope.pools[event.k].learn(x, scope.answers, q, update._replace(lead=scope.lead))
        if event.many and p.prox > 0:
            self.own[event.e].learn(w.entity[: event.D].astype(np.float64), self._own_answers, targets[1])

    def _compare(self, event: _Event, logs: bool) -> None:
        """Compare the weights of the kernel with the reference's, after the event."""
        learned, weights = self.deviation.learned[event.t], self.deviation.weights[event.t]
        learner = self.production.learner
        for scope in (self.fleet, self.norm) if event.many else (self.fleet,):
            heads, reference = scope.heads, scope.pools[event.k]
            at = slice(scope.column, scope.column + len(heads.kind))
            learned[at] = logs | (heads.kind != LOG_RESIDUAL)
            kernel_heads = learner.norm if scope.side else learner.fleet
            weights[at] = self._distances(kernel_heads, reference, event.k, event.D + scope.extra)
        if event.many and self.p.prox > 0:
            own = self.own[event.e].W[:, : event.D]
            learned[-len(own) :] = True
            weights[-len(own) :] = _apart(learner.entity.W[event.e, :, : event.D] - own, own)

    def _distances(self, h: HeadsState, reference: Descent, k: int, D: int) -> Array:
        """(H,) deviations of the kernel's weights, by head."""
        p, heads = self.p, reference.heads
        M, slow = len(heads.decay), p.prox + (p.prox > 0)
        W, V = self._kernel[:, :D], reference.V
        W[:M] = h.W[k, :, :D]
        W[M : M + slow] = h.gradient[k, :slow, :D]
        waves = np.flatnonzero(heads.waves)
        W[waves] = h.embedding[k, : len(waves), p.R : p.R + D]
        if heads.gd >= 0:
            W[heads.gd] = h.gd[k, :D]
        if p.log:
            last = len(heads.kind) - p.prox - (p.R > 0)
            W[last : last + p.prox] = h.gradient[k, slow:, :D]
        a = ((W - reference.W[:, :D]) ** 2).sum(1)
        b = (reference.W[:, :D] ** 2).sum(1)
        if len(waves):
            V = reference.V[waves]
            a[waves] += ((h.embedding[k, : len(waves), : p.R] - V) ** 2).sum(1)
            b[waves] += (V**2).sum(1)
        if heads.ferns >= 0:
            a[heads.ferns] = ((h.leaf[k] - reference.leaf) ** 2).sum()
            b[heads.ferns] = (reference.leaf**2).sum()
        distances: Array = np.sqrt(a) / np.maximum(np.sqrt(b), MIN_NORM)
        return distances

    def _average(self, k: int, e: int, n_pool: int, many: bool) -> None:
        """Move the means that will be frozen towards the pool's weights, the entity's and the gate's of this event."""
        learner, w, b, calm = self.production.learner, self.production.scratch, self.frozen, self.calm.learner
        part = np.float32(1.0 / (n_pool - b.after[k] // 2 + 1.0))
        last = n_pool + 1 == b.after[k]
        _average_heads(calm.fleet, learner.fleet, k, part, last)
        if len(learner.norm.near) > 0:
            _average_heads(calm.norm, learner.norm, k, part, last)
        if many:
            b.own[e] += 1
            _move(calm.entity.W[e], learner.entity.W[e], np.float32(1.0 / b.own[e]))
        places = w.places[0]
        b.gate[k, :places] += w.g[:places]
        b.gates[k, :places] += 1

    def _predict_frozen(self, t: int) -> float:
        """W0 and, by the gate's mean weights, how the frozen heads' answers differ from it."""
        tape, w, b = self.tape, self.calm.scratch, self.frozen
        k = int(tape.pools[t])
        event = (k, int(tape.lives[t]), tape.u[t], tape.steps[t], float(tape.ts[t]))
        kernel.predict_one(self.production.params, self._still, w, *event)
        w0, places = self.seen.w0[t], w.places[0]
        on = w.active[:places] != 0
        share = b.gate[k, :places] / np.maximum(b.gates[k, :places], 1)
        answer = float(w0 + share[on] @ (w.a[:places] - w0)[on])
        return min(max(answer, float(w.base[LOW])), float(w.base[HIGH]))


def standardize(w: Scratch, side: int, y: float, logs: bool) -> Array:
    """(4,) by scale: clip((r − m) / s, ±6) with r = y − base, y, or their likes in log space."""
    logged = math.log1p(y) if logs else 0.0
    base, log_base = float(w.base[BASE]), float(w.base[LOG_BASE])
    off = np.array([y - base, y, logged - log_base, logged]) - w.scale[side, :, 0]
    size = w.scale[side, :, 1]
    q: Array = np.clip(off / np.where(size > 0.0, size, np.maximum(np.abs(off), 1e-300)), -Q_CLIP, Q_CLIP)
    return q


def in_unit(w: Scratch, side: int, kind: NDArray[np.int64], q: Array) -> Array:
    """(H,) answers in the target's unit, within its bounds, of heads on the scales `kind` that answer q."""
    base = np.array([w.base[BASE], 0.0, w.base[LOG_BASE], 0.0])
    scale = w.scale[side]
    answer = np.clip(q, -Q_CLIP, Q_CLIP) * scale[kind, 1] + scale[kind, 0] + base[kind]
    logs = kind == LOG_RESIDUAL
    answer[logs] = np.exp(np.minimum(answer[logs], 60.0)) - 1.0
    bounded: Array = np.clip(answer, w.base[LOW], w.base[HIGH])
    return bounded


def _relative(found: Array, expected: Array) -> Array:
    """|a − b| / max(1, |b|)."""
    return np.abs(found - expected) / np.maximum(1.0, np.abs(expected))


def _apart(difference: Array, expected: Array) -> Array:
    """(H,) ‖difference‖ / max(‖expected‖, MIN_NORM), by row."""
    distances: Array = np.linalg.norm(difference, axis=1) / np.maximum(np.linalg.norm(expected, axis=1), MIN_NORM)
    return distances


def _move(mean: NDArray[np.float32], value: NDArray[np.float32], part: np.float32) -> None:
    """mean ← mean + part (value − mean)."""
    mean += part * (value - mean)


def _average_heads(mean: HeadsState, heads: HeadsState, k: int, part: np.float32, last: bool) -> None:
    """Move the mean of a pooled scope's weights; with the `last` event take over what attention holds."""
    for name in ("W", "gradient", "embedding", "leaf", "gd"):
        _move(getattr(mean, name)[k], getattr(heads, name)[k], part)
    if last:
        for name in ("keys", "held", "past", "near"):
            getattr(mean, name)[k] = getattr(heads, name)[k]
