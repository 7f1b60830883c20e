"""The production kernel and its 64-bit reference over the same events: inputs, answers and their differences.

`Recorder.follow` runs the production kernel over a tape. Before and after each event it reads the kernel's state, lets
the reference do the same event in 64-bit floats, and keeps the differences.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.core.shapes import (
    BASE,
    BATCH,
    BATCH_FROM,
    HIGH,
    LATELY_FROM,
    LEAST,
    LOG_RESIDUAL,
    LOW,
    MANY,
    MEAN,
    MOST,
    RESIDUAL,
    SHIFT,
    VALUE,
    WAIT_SHARE,
    HeadsState,
    LearnerParams,
    product_heads,
)
from ssm_stream.verify.answer_layout import answer_layouts
from ssm_stream.verify.gating.gates import Gates, Limits, Moment, OwnLosses
from ssm_stream.verify.products import ProductDescent
from ssm_stream.verify.reference import (
    Array,
    Descent,
    OwnDescent,
    Update,
    head_names,
    kept_share,
    pooled_heads,
    split,
)
from ssm_stream.verify.scales import MIN_NORM, in_unit, prediction_unit, standardize
from ssm_stream.verify.seasons import Seasons
from ssm_stream.verify.trace import Event, Production, Tape


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
    gate (n,): largest |weight of an expert − that of the reference's gates|
    gated, whole (n,): |ŷ − ŷ_64| in units of `prediction_unit`, before the event is learned: of the reference's gates
        on the kernel's expert predictions; on those of the reference's heads
    reference (n,): the latter's predictions, in the target's unit
    """

    answer: NDArray[np.float32]
    weights: NDArray[np.float32]
    learned: NDArray[np.bool_]
    gate: Array
    gated: Array
    whole: Array
    reference: Array


class _Event(NamedTuple):
    """The event at hand: number; as the kernel takes it; inputs in use; scopes that answer: 1, the fleet's, else 2."""

    t: int
    given: Event
    D: int
    scopes: int


class Recorder:
    """The production kernel, its frozen copy and the reference, event by event.

    pools: reference of the fleet and norm scope by pool; products: of the heads on products; own: of the entities' own
        heads by life
    """

    def __init__(self, p: LearnerParams, production: Production, calm: Production, frozen: Frozen, tape: Tape) -> None:
        """p: with all slots that there will be; calm: the production kernel that becomes the frozen model."""
        P, E, n = len(production.learner.pool.n), len(production.learner.entity.n), len(tape.y)
        self.p, self.production, self.calm, self.frozen, self.tape = p, production, calm, frozen, tape
        self.heads = heads = pooled_heads(p)
        self.pools = [Descent(heads, p.N) for _ in range(P)]
        self.products = [ProductDescent(p) for _ in range(P)]
        self.own = [OwnDescent(p) for _ in range(E if P < E else 0)]
        self.gates, self._losses = [Gates(p) for _ in range(P)], [OwnLosses(p) for _ in range(E)]
        self._seasons = [Seasons(p) for _ in range(E)]
        self._layouts = answer_layouts(p, heads, OwnDescent(p).kind)
        self._alone = np.flatnonzero(heads.place[0] < 0)
        self._means: list[list[float]] = [[0.0, 0.0, 0.0] for _ in range(P)]
        sizes = heads.shapes(p.N)
        self._kernel = np.zeros((2, self.pools[0].weights.shape[1]))
        self._W, self._V = split(self._kernel, sizes)
        lengths = np.concatenate([np.full(rows, columns) for rows, columns in sizes])
        self._starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)
        self.seen = Recorded(np.zeros((n, p.L), np.float32), *(np.full(n, np.nan) for _ in range(7)))
        H = len(head_names(p))
        self.deviation = Deviation(
            np.zeros((n, H), np.float32), np.zeros((n, H), np.float32), np.zeros((n, H), np.bool_),
            np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n),
        )  # fmt: skip
        self._fit()

    def _fit(self) -> None:
        """Give the frozen copy room for as much as production has."""
        self.calm.fit(self.production)
        self._current = self.production.learner
        self._implicit = np.zeros(self.production.params.L, np.float32)

    def follow(self, start: int, stop: int) -> None:
        """Events start … stop − 1."""
        for t in range(start, stop):
            self._follow_one(t)

    def _follow_one(self, t: int) -> None:
        p, production, tape, seen = self.p, self.production, self.tape, self.seen
        k, e, y = int(tape.pools[t]), int(tape.lives[t]), float(tape.y[t])
        given, labelled = (k, e, tape.u[t], tape.steps[t], float(tape.ts[t])), not math.isnan(y)
        seen.yhat[t] = production.predict(given, labelled)
        if production.learner is not self._current:
            self._fit()
        learner, w, pool = production.learner, production.scratch, production.learner.pool
        n, n_pool, many = int(learner.entity.n[e]), int(pool.n[k]), bool(w.flag[MANY])
        seen.mean[t], seen.deviation[t] = w.scale[0, RESIDUAL]
        seen.base[t] = w.base[BASE]
        seen.w0[t] = w.base[BASE] if p.lags > 0 else w.base[MEAN]
        if p.features and n < self.frozen.until[e]:
            production.core.weights(k, e, self._implicit)
            at = slice(1, 1 + p.features)
            self.frozen.moved[e] += np.abs(self._implicit[at] * (w.entity if many else w.fleet)[at])
        event = _Event(t, given, 1 + p.F + int(pool.used[k]), 1 + many)
        after = int(self.frozen.after[k])
        if n_pool >= after:
            seen.frozen[t] = self._predict_frozen(event)
        elif labelled and n_pool >= after // 2:
            self._average(k, e, n_pool, many)
        self._predict(event)
        if not labelled:
            seen.x[t, : event.D] = w.fleet[: event.D]
            return
        learns = n_pool > 0 and (p.lags == 0 or n > 0)
        logs = bool(p.log == 1 and not pool.negative[k] and y >= 0.0)
        waiting = min(int(pool.entities[k]) // WAIT_SHARE, BATCH) if p.window == 0 and n_pool >= BATCH_FROM else 0
        update = Update(logs, 1.0, max(given[4] - float(pool.time[k]), 0.0), waiting)
        targets = standardize(w, y, logs)
        production.learn(given, y)
        self._seasons[e].learn(given[3], given[4], y)
        event = event._replace(D=1 + p.F + int(pool.used[k]))
        seen.x[t, : event.D] = w.fleet[: event.D]
        if learns:
            seen.q[t] = targets[0, RESIDUAL]
            self._learn(event, targets, update, (n, n_pool))
            self.gates[k].learn(
                self._a, self._active, self._made, y, self._losses[e], Moment(n, n_pool, waiting, int(given[3][0]))
            )
            self._compare(event, logs)

    def _inputs(self, event: _Event) -> Array:
        """(scopes, n) inputs of the pooled scopes, as the kernel's scratch holds them."""
        w, D, n = self.production.scratch, event.D, event.D + self.p.F
        if event.scopes == 1:
            x: Array = w.fleet[None, :D].astype(np.float64)
            return x
        x = np.zeros((2, n))
        x[0, :D], x[1] = w.fleet[:D], w.norm[:n]
        return x

    def _product_inputs(self, event: _Event) -> Array:
        """(n,) inputs of the heads on products."""
        x: Array = self.production.scratch.product[: self._product_width(event)].astype(np.float64)
        return x

    def _product_width(self, event: _Event) -> int:
        return self.p.products * (event.D + self.p.X - self.p.L)

    def _predict(self, event: _Event) -> None:
        """Compare the reference's answers with the kernel's; what their differences come to in the prediction."""
        learner, w, (k, e, *_) = self.production.learner, self.production.scratch, event.given
        layout, x = self._layouts[event.scopes - 1], self._inputs(event)
        self._answers = self.pools[k].predict(x)
        self._product_answers = self.products[k].predict(self._product_inputs(event))
        expected = np.concatenate([self._answers[0], self._product_answers])
        if event.scopes > 1:
            self._own_answers = self.own[e].predict(w.entity[: event.D].astype(np.float64))
            expected = np.concatenate([expected, self._answers[1, self.heads.there[1]], self._own_answers])
        found = w.q[layout.row, layout.place]
        for scope in range(event.scopes) if len(self._alone) else ():  # they answer through attention only
            W, n = (learner.norm if scope else learner.fleet).W, event.D + scope * self.p.F
            found[scope * (len(self.heads.kind) + product_heads(self.p)) + self._alone] = (
                W[k, self._alone, :n] @ x[scope, :n]
            )
        relative = np.abs(found - expected) / np.maximum(1.0, np.abs(expected))
        self.deviation.answer[event.t, : len(relative)] = relative
        self._mix(event, in_unit(w, layout.side, layout.kind, expected))

    def _mix(self, event: _Event, answers: Array) -> None:
        """Compare the reference's gates with the kernel's, and the whole prediction. answers: the reference's"""
        learner, w, (k, e, *_) = self.production.learner, self.production.scratch, event.given
        layout, places = self._layouts[event.scopes - 1], int(w.places[0])
        self._a, self._active = w.a[:places].copy(), w.active[:places] > 0
        self._made = w.made.copy()
        a = self._a.copy()
        a[layout.at[layout.alone]] = answers[layout.alone]
        low, high, least, most, shift = w.base[[LOW, HIGH, LEAST, MOST, SHIFT]].tolist()
        last, gap = float(learner.entity.y_last[e, 0]), float(learner.pool.gaps[k, 0])
        far = self.gates[k].season_limits(places, self._losses[e], last, int(learner.entity.n[e]))
        self._seasons[e].put(a, self._active, event.given[3:], (gap, last), (low, high), far)
        self.gates[k].corrections.correct(a, self._active, self._losses[e].missed, low, high)
        limits = Limits(low, high, least, most, (float(w.scale[0, VALUE, 0]), float(w.scale[0, VALUE, 1])), shift)
        weights = self.gates[k].weights(self._a, self._active, self._losses[e], limits, int(event.given[3][0]))
        found, t, d = float(self.seen.yhat[event.t]), event.t, self.deviation
        unit = prediction_unit(w, event.scopes - 1, found)
        d.reference[t] = weights.predict(a, self._active)
        d.gated[t] = abs(weights.predict(self._a, self._active) - found) / unit
        d.whole[t] = abs(d.reference[t] - found) / unit
        d.gate[t] = np.abs(weights.total - w.g[:places]).max()

    def _learn(self, event: _Event, targets: Array, update: Update, seen: tuple[int, int]) -> None:
        """Let the reference learn the event, in every scope that learns it. seen: events of the entity, of the pool"""
        p, s, (k, e, *_) = self.p, event.scopes, event.given
        if p.moments and p.M > 0:
            error = abs(float(targets[0, RESIDUAL] - self._answers[0, 0]))
            update = update._replace(kept=kept_share(self.heads.surprise, self._means[k], error, seen[1]))
        self.pools[k].learn(self._inputs(event), self._answers, targets[:s], update)
        if p.products:
            self.products[k].choose(self.production.learner.pool.product_of[k])
            self.products[k].learn(self._product_inputs(event), self._product_answers, targets[0], update)
        if s > 1 and p.prox > 0:
            x = self.production.scratch.entity[: event.D].astype(np.float64)
            self.own[e].learn(x, self._own_answers, targets[1], settled=seen[0] >= LATELY_FROM)

    def _compare(self, event: _Event, logs: bool) -> None:
        """Compare the weights of the kernel with the reference's, after the event."""
        layout, (k, e, *_) = self._layouts[event.scopes - 1], event.given
        off, size = self._squares(event, k)
        here = slice(self._product_width(event))
        ours, H = self.products[k].W[:, here], len(self.heads.kind)
        difference = self.production.learner.pool.product_W[k, :, here] - ours
        off = np.insert(off, [H] * len(ours), np.einsum("ij,ij->i", difference, difference))
        size = np.insert(size, [H] * len(ours), np.einsum("ij,ij->i", ours, ours))
        if event.scopes > 1:
            own = self.own[e].W[:, : event.D]
            difference = self.production.learner.entity.W[e, :, : event.D] - own
            off = np.concatenate([off, np.einsum("ij,ij->i", difference, difference)])
            size = np.concatenate([size, np.einsum("ij,ij->i", own, own)])
        H = len(off)
        self.deviation.weights[event.t, :H] = np.sqrt(off) / np.maximum(np.sqrt(size), MIN_NORM)
        self.deviation.learned[event.t, :H] = True if logs else layout.kind != LOG_RESIDUAL

    def _squares(self, event: _Event, k: int) -> tuple[Array, Array]:
        """Squared norms of the difference of the weights and of the reference's, by scope and head."""
        p, heads, s, learner = self.p, self.heads, event.scopes, self.production.learner
        M, slow = len(heads.decay), p.prox + (p.prox > 0)
        last = len(heads.kind) - p.prox - (p.R > 0)
        for scope, h in enumerate((learner.fleet, learner.norm)[:s]):
            D, W = event.D + scope * p.F, self._W[scope]
            W[:, D:] = 0.0
            W[:M, :D] = h.W[k, :, :D]
            if heads.gd >= 0:
                W[heads.gd, :D] = h.gd[k, :D]
            if h is learner.norm:
                continue
            W[M : M + slow, :D] = h.gradient[k, :slow, :D]
            for i, row in enumerate(heads.waves):
                W[row, :D] = h.embedding[k, i, p.R : p.R + D]
                self._V[scope, i] = h.embedding[k, i, : p.R]
            if p.log:
                W[last : last + p.prox, :D] = h.gradient[k, slow:, :D]
        weights = self.pools[k].weights[:s]
        difference = self._kernel[:s] - weights
        found = []
        for squares in (difference * difference, weights * weights):
            sums = np.add.reduceat(squares, self._starts, axis=1)
            H, waves = len(heads.kind), len(heads.waves)
            of_heads = sums[:, :H]
            of_heads[:, heads.waves] += sums[:, H : H + waves]
            found.append(of_heads[heads.there[:s]])
        return found[0], found[1]

    def _average(self, k: int, e: int, n_pool: int, many: bool) -> None:
        """Move the means that will be frozen towards the pool's weights, the entity's and the gate's of this event."""
        learner, w, b, calm = self.production.learner, self.production.scratch, self.frozen, self.calm.learner
        part = np.float32(1.0 / (n_pool - b.after[k] // 2 + 1.0))
        last = n_pool + 1 == b.after[k]
        _average_heads(calm.fleet, learner.fleet, k, part, last)
        _move(calm.pool.product_W[k], learner.pool.product_W[k], part)
        if len(learner.norm.near) > 0:
            _average_heads(calm.norm, learner.norm, k, part, last)
        if many:
            b.own[e] += 1
            _move(calm.entity.W[e], learner.entity.W[e], np.float32(1.0 / b.own[e]))
        places = w.places[0]
        b.gate[k, :places] += w.g[:places]
        b.gates[k, :places] += 1

    def _predict_frozen(self, event: _Event) -> float:
        """W0 and, by the gate's mean weights, how the frozen heads' answers differ from it."""
        calm, live, b, (k, e, *_) = self.calm.state, self.production.state, self.frozen, event.given
        own, products = calm.learner.entity.W[e].copy(), calm.learner.pool.product_W[k].copy()
        calm.entities[e], calm.pools[k] = live.entities[e], live.pools[k]  # all statistics
        calm.learner.entity.W[e], calm.learner.pool.product_W[k] = own, products
        self.calm.core.predict(*event.given)
        w = self.calm.scratch
        w0, places = float(self.seen.w0[event.t]), int(w.places[0])
        share = b.gate[k, :places] / np.maximum(b.gates[k, :places], 1)
        answer = w0 + float((share * w.active[:places]) @ (w.a[:places] - w0))
        return min(max(answer + float(w.base[SHIFT]), float(w.base[LOW])), float(w.base[HIGH]))


def _move(mean: NDArray[np.float32], value: NDArray[np.float32], part: np.float32) -> None:
    """mean ← mean + part (value − mean)."""
    mean += part * (value - mean)


def _average_heads(mean: HeadsState, heads: HeadsState, k: int, part: np.float32, last: bool) -> None:
    """Move the mean of a pooled scope's weights; with the `last` event take over what attention holds."""
    for name in ("W", "gradient", "embedding", "gd"):
        _move(getattr(mean, name)[k], getattr(heads, name)[k], part)
    if last:
        for name in ("keys", "held", "past", "near"):
            getattr(mean, name)[k] = getattr(heads, name)[k]
