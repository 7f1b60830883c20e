"""Explicit gradient descent in 64-bit floats: what the production kernel's heads are held to. See `docs/model.md`, 3.

It takes inputs x, standardised targets q and the constants of the heads, and nothing else: moments are plain sums,
every gradient is computed anew from them, and weights are its own from the first event to the last. No line and no
state is shared with the kernel.

Symbols as in `core/shapes.py`; further
    H   heads of a scope, in the order of `Heads`; M' of them learn from moments
    P   (M', D)  decayed moments of q and x, of which the kernel keeps only R = P − S W
    φ   (R,)  embedding cos 2π(Ωᵀx + phase), computed here too
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.core import implicit
from ssm_stream.core.shapes import LATELY_RATE, LOG_RESIDUAL, OFF_CENTRE, RESIDUAL, VALUE, LearnerParams

Array = NDArray[np.float64]

BOUND = 3.0
"""Largest error that a proximal head steps for, in standard deviations."""
BLOCK = 64
"""Coordinates of a sweep that are solved for at once."""
LOWER, EYE = np.tril(np.ones((BLOCK, BLOCK))), np.eye(BLOCK)


class Heads(NamedTuple):
    """The pooled heads and their constants as float64, to the last bit those that the kernel computes with.

    Of H heads the norm scope has the moments, the twin and gd. The order is: moments, the first one's twin in log
    space, proximal, slow, embedding, gd, and in log space proximal and embedding. The first M' learn from moments.

    decay, half_life, ridge, huber (M',): of the moment heads; twin: whether the last of them is in log space
    kind (H,) int64: scale of a head's target; place (2, H) int64: its answer among the scope's, −1 if it gives none
        alone; there (2, H) bool: whether the scope has it
    timed: moment heads with a half-life in time; forgets (M',) bool: those that forget by surprise, all but the first
    step (2, H): of the gradient heads, 0 for others; waves: rows of the embeddings; gd: row of that head, −1: none;
        direct: its decay and half-life
    omega (N − 1, R), phase (R,): of the embedding; 0 beyond the fleet scope's inputs
    surprise (3,): see `kept_share`; lead (2, N) bool: inputs before the codes
    """

    decay: Array
    half_life: Array
    ridge: Array
    huber: Array
    timed: list[int]
    forgets: NDArray[np.bool_]
    twin: bool
    kind: NDArray[np.int64]
    place: NDArray[np.int64]
    there: NDArray[np.bool_]
    step: Array
    waves: list[int]
    gd: int
    direct: tuple[float, float]
    omega: Array
    phase: Array
    surprise: Array
    lead: NDArray[np.bool_]

    def shapes(self, N: int) -> list[tuple[int, int]]:
        """Rows and columns of a scope's weights: on x, and on φ."""
        return [(len(self.kind), N), (len(self.waves), len(self.phase))]


def split(weights: Array, shapes: list[tuple[int, int]]) -> list[Array]:
    """Views (s, rows, columns) of weights (s, …) that stand one after another."""
    ends = np.cumsum([rows * columns for rows, columns in shapes])[:-1]
    parts = np.split(weights, ends, 1)
    return [part.reshape(len(part), *shape) for part, shape in zip(parts, shapes, strict=True)]


def pooled_heads(p: LearnerParams) -> Heads:
    """The heads of the fleet and the norm scope."""
    f = np.float64
    twin = bool(p.window and p.log)
    first = [*range(p.M), 0] if twin else list(range(p.M))
    quick = [float(step) for step in p.steps[: p.prox]]
    kinds: list[tuple[str, int, float]] = [("moments", RESIDUAL, 0.0)] * p.M
    kinds += [("moments", LOG_RESIDUAL, 0.0)] * twin
    kinds += [("proximal", RESIDUAL, step) for step in quick] + [("proximal", VALUE, p.slow_step)] * (p.prox > 0)
    kinds += [("waves", RESIDUAL, p.embedding_step)] * (p.R > 0)
    kinds += [("gd", RESIDUAL, 0.0)] * (p.gd > 0)
    if p.log:
        kinds += [("proximal", LOG_RESIDUAL, step) for step in quick]
        kinds += [("waves", LOG_RESIDUAL, p.embedding_step)] * (p.R > 0)
    names = [name for name, _, _ in kinds]
    alone = np.array([name != "moments" or bool(p.moments and kind == RESIDUAL) for name, kind, _ in kinds], np.bool_)
    there = np.array([[True] * len(names), [name in ("moments", "gd") for name in names]], np.bool_)
    answers = there & alone
    omega = np.zeros((p.N - 1, p.R))
    omega[: p.L - 1] = p.omega[: p.L - 1]
    return Heads(
        p.decay.astype(np.float32).astype(f)[first], p.half_life[first], p.ridge.astype(f)[first],
        p.huber.astype(f)[first], [m for m, life in enumerate(p.half_life[first]) if life],
        np.array([m > 0 or len(p.decay) == 1 for m in first], np.bool_), twin,
        np.array([kind for _, kind, _ in kinds], np.int64),
        np.where(answers, np.cumsum(answers, 1) - 1, -1), there,
        there * np.array([step for _, _, step in kinds]), [h for h, name in enumerate(names) if name == "waves"],
        names.index("gd") if p.gd else -1, (float(p.decay[0]), float(p.half_life[0])), omega, p.phase.astype(f),
        p.surprise.astype(f),
        np.arange(p.N) < np.array([[1 + p.F], [1 + 2 * p.F]]),
    )  # fmt: skip


def head_names(p: LearnerParams) -> list[str]:
    """The heads in the order in which they are compared, such as `fleet: moments, decay 0.999`."""
    moments, quick, slow, waves = implicit.head_names(p)
    pooled = [*moments, *([f"{moments[0]}, log space"] if p.window and p.log else []), *quick, *slow, *waves]
    pooled += ["gd"] if p.gd else []
    pooled += [f"{name}, log space" for name in quick + waves] if p.log else []
    fleet = [f"fleet: {name}" for name in pooled + implicit.product_names(p)]
    there = pooled_heads(p).there[1]
    norm = [f"norm: {name}" for name, has in zip(pooled, there, strict=True) if has]
    return fleet + norm + [f"entity: {name}" for name in quick + slow]


class Update(NamedTuple):
    """How one event is learned.

    logs: whether the heads in log space learn; kept: what the heads that forget by surprise keep; gap: ms since the
    pool's last event, for half-lives; max_waiting: events that may be in the moments before a sweep
    """

    logs: bool
    kept: float
    gap: float
    max_waiting: int


class Descent:
    """Explicit gradient descent of a pool's heads in both scopes, each with room for N inputs.

    S (2, M', N, N), P (2, M', N): decayed moments; weights (2, …): views of it are W (2, H, N) on x and
        V (2, waves, R) on φ
    waiting, touched (2, N) bool: events since a sweep, and inputs that they had
    """

    def __init__(self, heads: Heads, N: int) -> None:
        M, sizes = len(heads.decay), heads.shapes(N)
        self.heads = heads
        self.S, self.P = np.zeros((2, M, N, N)), np.zeros((2, M, N))
        self.weights = np.zeros((2, sum(rows * columns for rows, columns in sizes)))
        self.W, self.V = split(self.weights, sizes)
        self.waiting, self.touched = [0, 0], np.zeros((2, N), np.bool_)

    def predict(self, x: Array) -> Array:
        """(s, H) standardised answers to x (s, n), of the fleet scope or of both; keeps φ for `learn`."""
        c, (s, n) = self.heads, x.shape
        answers: Array = (self.W[:s, :, :n] @ x[:, :, None])[..., 0]
        if len(c.waves):
            self._phi = np.cos(2.0 * np.pi * (x[0, 1:] @ c.omega[: n - 1] + c.phase))
            answers[0, c.waves] += self.V[0] @ self._phi
        return answers

    def learn(self, x: Array, answers: Array, q: Array, update: Update) -> None:
        """Learn from the event that `predict` answered. x (s, n): with the codes that it brought; q (s, 4): targets by
        scale."""
        c, (s, n) = self.heads, x.shape
        target = q[:, c.kind]
        error = target - answers
        if len(c.decay):
            self._learn_moments(x, error, target, update)
        rate = c.step[:s] * np.minimum(np.maximum(error, -BOUND), BOUND)
        if not update.logs:
            rate[:, c.kind == LOG_RESIDUAL] = 0.0
        size = np.einsum("ij,ij->i", x, x)[:, None]
        if len(c.waves):
            waves = rate[:, c.waves] / (size + float(self._phi @ self._phi))
            self.V[0] += waves[0, :, None] * self._phi
            rate /= size
            rate[:, c.waves] = waves
        else:
            rate /= size
        self.W[:s, :, :n] += rate[..., None] * x[:, None]
        if c.gd >= 0:
            keep = c.direct[0] if c.direct[1] == 0.0 else 2.0 ** (-update.gap / c.direct[1])
            keep *= update.kept if c.forgets[:1].any() else 1.0
            W = self.W[:s, c.gd, :n]
            W += (1.0 - keep) * (q[:, RESIDUAL, None] * x - W)

    def _learn_moments(self, x: Array, error: Array, target: Array, update: Update) -> None:
        """S ← λS + ωxxᵀ, P ← λP + ωqx; after so many events a sweep over the inputs that they had."""
        c, (s, n) = self.heads, x.shape
        M = len(c.decay) if update.logs else len(c.decay) - c.twin
        touched = self.touched[:s, :n]
        touched |= (x != 0.0) | c.lead[:s, :n]
        decay = c.decay[:M].copy()
        for m in [m for m in c.timed if m < M]:
            decay[m] = 2.0 ** (-update.gap / c.half_life[m])
        decay[c.forgets[:M]] *= update.kept
        weigh = c.huber[:M] / np.maximum(np.abs(error[:, :M]), c.huber[:M])
        wx = weigh[..., None] * x[:, None]
        S, P = self.S[:s, :M, :n, :n], self.P[:s, :M, :n]
        S *= decay[:, None, None]
        S += wx[..., None] * x[:, None, None]
        P *= decay[:, None]
        P += target[:, :M, None] * wx
        due = [scope for scope in range(s) if self.waiting[scope] >= update.max_waiting]
        for scope in range(s):
            self.waiting[scope] = 0 if scope in due else self.waiting[scope] + 1
        if due:
            at = slice(0, s) if len(due) == s else due
            self.W[at, :M, :n] = sweep(S[at], P[at], self.W[at, :M, :n], c.ridge[:M], touched[at])
            touched[at] = False


def sweep(S: Array, P: Array, W: Array, ridge: Array, touched: NDArray[np.bool_]) -> Array:
    """W after an exact step along the gradient of each touched coordinate in turn: W_i ← W_i − g_i / (S_ii + ρ).

    With L(W) = ½WᵀSW − PᵀW + ½ρ‖W‖² the gradient is g = SW + ρW − P, at the W that the steps before have left: for the
    coordinates of a block together a triangular system.

    S (s, M, n, n), P, W (s, M, n), ridge ρ (M,), touched (s, n): of M heads in s scopes
    """
    W = W.copy()
    for first in range(0, W.shape[2], BLOCK):
        at = slice(first, first + BLOCK)
        on = touched[:, None, at]
        gradient = (S[:, :, at] @ W[..., None])[..., 0] + ridge[:, None] * W[:, :, at] - P[:, :, at]
        b = on.shape[2]
        lower = S[:, :, at, at] * LOWER[:b, :b] + ridge[:, None, None] * EYE[:b, :b]
        lower = np.where(on[..., None], lower, EYE[:b, :b])
        W[:, :, at] -= np.linalg.solve(lower, np.where(on, gradient, 0.0)[..., None])[..., 0]
    return W


class OwnDescent:
    """Explicit gradient descent of an entity's own heads: proximal and slow, about a centre of the inputs.

    W (H, D); lately (1 + F,): [0, running means of the standardised numbers], the centre where they are off their means
    """

    def __init__(self, p: LearnerParams) -> None:
        slow = p.prox > 0
        self.step = np.array([*p.steps[: p.prox].astype(np.float64), *[p.slow_step] * slow])
        self.kind = np.array([RESIDUAL] * p.prox + [VALUE] * slow, np.int64)
        self.W, self.lately = np.zeros((len(self.step), p.L)), np.zeros(1 + p.F)

    def predict(self, x: Array) -> Array:
        """(H,) standardised answers to x."""
        answers: Array = self.W[:, : len(x)] @ x
        return answers

    def learn(self, x: Array, answers: Array, q: Array, *, settled: bool) -> None:
        """Learn from the event that `predict` answered: a step of each head's answer at the centre, and of its slopes.

        settled: the entity has learned so many events that the means lately are learned, too
        """
        off, lead = x.copy(), len(self.lately)
        centre = np.where(np.abs(self.lately) > OFF_CENTRE, self.lately, 0.0)
        off[:lead] -= centre
        rate = self.step * np.clip(q[self.kind] - answers, -BOUND, BOUND) / float(off @ off)
        self.W[:, : len(x)] += rate[:, None] * off
        self.W[:, 0] -= rate * float(centre @ off[:lead])
        if settled:
            self.lately[1:] += LATELY_RATE * (x[:lead] - self.lately)[1:]


def kept_share(surprise: Array, mean: list[float], error: float, n: float) -> float:
    """What the heads that forget by surprise keep: exp(−strength · excess), excess = (log(fast / slow) − threshold)⁺.

    surprise (3,): strength, threshold, rate; mean: running means of |error|, fast and ten times slower, and how many
    events the slow one holds, which are updated: it forgets what lies before a surprise; n: events that the pool has
    learned
    """
    strength, threshold, rate = surprise.tolist()
    if strength <= 0.0:
        return 1.0
    mean[0] += max(rate, 1.0 / (n + 1.0)) * (error - mean[0])
    mean[2] = (1.0 - 0.1 * rate) * mean[2] + 1.0
    mean[1] += (error - mean[1]) / mean[2]
    excess = max(math.log((mean[0] + 1e-9) / (mean[1] + 1e-9)) - threshold, 0.0)
    keep = math.exp(-excess)
    mean[1] += (1.0 - keep) * (mean[0] - mean[1])
    mean[2] = max(keep * mean[2], 1.0)
    return math.exp(-strength * excess)


def solve_distance(S: Array, P: Array, W: Array, ridge: float) -> float:
    """Distance of W (D,) from the minimum W* of ½WᵀSW − PᵀW + ½ρ‖W‖², as a part of W*: √(ΔᵀSΔ / W*ᵀSW*).

    That is in root mean square predictions over the decayed events. NaN while W* predicts nothing.
    """
    best = np.linalg.solve(S + ridge * np.eye(len(W)), P)
    size = float(best @ S @ best)
    return math.sqrt(max(float((W - best) @ S @ (W - best)), 0.0) / size) if size > 0.0 else math.nan
