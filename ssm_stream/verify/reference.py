"""Explicit gradient descent in 64-bit floats: what the production kernel's heads are held to. See `docs/model.md`, 3.

It takes inputs x, standardised targets q and the constants of the heads, and nothing else: moments are plain sums,
every gradient is computed anew from them, and weights are its own from the first event to the last. No line and no
state is shared with the kernel.

Symbols as in `kernels/shapes.py`; further
    H   heads of a scope, in the order of `Heads`; M' of them learn from moments
    P   (M', D)  decayed moments of q and x, of which the kernel keeps only R = P − S W
    φ   (R,)  embedding cos 2π(Ωᵀx + phase), computed here too
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.kernels import implicit
from ssm_stream.kernels.shapes import LEAVES, LOG_RESIDUAL, RESIDUAL, VALUE, LearnerParams

Array = NDArray[np.float64]

BOUND = 3.0
"""Largest error that a proximal head steps for, in standard deviations."""
SETTLING = 4.0
"""A leaf's step is this over the events it has seen, until that falls below the constant step."""
BLOCK = 32
"""Coordinates of a sweep that are solved for at once."""


class Heads(NamedTuple):
    """The heads of a pooled scope and their constants as float64, to the last bit those that the kernel computes with.

    The order is: moments, the first one's twin in log space, proximal, slow, embedding, ferns, gd, and in log space
    proximal and embedding. H of them, of which the first M' learn from moments.

    decay, half_life, ridge, huber (M',): of the moment heads; twin: whether the last of them is in log space
    kind (H,) int64: scale of a head's target; place (H,) int64: its answer among the scope's, −1 if it gives none alone
    step (H,): of the gradient heads, 0 for others; waves (H,) bool: embeddings; ferns, gd: row of that head, −1: none
    direct: decay and half-life of the gd head; leaf, leaf_decay: step and decay of the leaves
    omega (D − 1, R), phase (R,): of the embedding; column, cut (trees, depth): of the ferns
    surprise (3,): see `forgetting_speed`
    """

    decay: Array
    half_life: Array
    ridge: Array
    huber: Array
    twin: bool
    kind: NDArray[np.int64]
    place: NDArray[np.int64]
    step: Array
    waves: NDArray[np.bool_]
    ferns: int
    gd: int
    direct: tuple[float, float]
    leaf: float
    leaf_decay: float
    omega: Array
    phase: Array
    column: NDArray[np.int64]
    cut: Array
    surprise: Array


def pooled_heads(p: LearnerParams, norm: bool) -> Heads:
    """The heads of the fleet scope, or of the norm scope."""
    f = np.float64
    twin = bool(p.window and p.log)
    first = [*range(p.M), 0] if twin else list(range(p.M))
    kinds: list[tuple[str, int, float]] = [("moments", RESIDUAL, 0.0)] * p.M
    kinds += [("moments", LOG_RESIDUAL, 0.0)] * twin
    quick = [float(step) for step in p.steps[: p.prox]]
    kinds += [("proximal", RESIDUAL, step) for step in quick]
    kinds += [("proximal", VALUE, p.slow_step)] * (p.prox > 0)
    kinds += [("waves", RESIDUAL, p.embedding_step)] * (p.R > 0)
    kinds += [("ferns", RESIDUAL, 0.0)] * (p.fern > 0)
    kinds += [("gd", RESIDUAL, 0.0)] * (p.gd > 0)
    if p.log:
        kinds += [("proximal", LOG_RESIDUAL, step) for step in quick]
        kinds += [("waves", LOG_RESIDUAL, p.embedding_step)] * (p.R > 0)
    names = [name for name, _, _ in kinds]
    answers = iter(range(len(kinds)))
    alone = [name != "moments" or bool(p.moments and kind == RESIDUAL) for name, kind, _ in kinds]
    return Heads(
        p.decay.astype(np.float32).astype(f)[first], p.half_life[first], p.ridge.astype(f)[first],
        p.huber.astype(f)[first], twin,
        np.array([kind for _, kind, _ in kinds], np.int64),
        np.array([next(answers) if given else -1 for given in alone], np.int64),
        np.array([step for _, _, step in kinds]), np.array([name == "waves" for name in names], np.bool_),
        names.index("ferns") if p.fern else -1, names.index("gd") if p.gd else -1,
        (float(p.decay[0]), float(p.half_life[0])), p.fern_step, p.fern_decay,
        (p.omega_norm if norm else p.omega_fleet).astype(f), p.phase.astype(f),
        p.fern_norm if norm else p.fern_fleet, (p.cut_norm if norm else p.cut_fleet).astype(f), p.surprise.astype(f),
    )  # fmt: skip


def head_names(p: LearnerParams) -> list[str]:
    """The heads in the order in which they are compared, such as `fleet: moments, decay 0.999`."""
    moments, quick, slow, waves = implicit.head_names(p)
    pooled = [*moments, *([f"{moments[0]}, log space"] if p.window and p.log else []), *quick, *slow, *waves]
    pooled += (["ferns"] if p.fern else []) + (["gd"] if p.gd else [])
    pooled += [f"{name}, log space" for name in quick + waves] if p.log else []
    return [f"{scope}: {name}" for scope in ("fleet", "norm") for name in pooled] + [
        f"entity: {name}" for name in quick + slow
    ]


class Descent:
    """Explicit gradient descent of the heads of one pooled scope, of one pool, with room for D inputs.

    S (M', D, D), P (M', D): decayed moments; W (H, D), V (H, R): weights on x and on φ; leaf, leaf_n (trees, LEAVES)
    waiting, touched (D,) bool: events since the last sweep, and inputs that they had
    """

    def __init__(self, heads: Heads, D: int) -> None:
        M, H = len(heads.decay), len(heads.kind)
        self.heads = heads
        self.S, self.P = np.zeros((M, D, D)), np.zeros((M, D))
        self.W, self.V = np.zeros((H, D)), np.zeros((H, len(heads.phase)))
        self.leaf, self.leaf_n = (np.zeros((len(heads.column), LEAVES)) for _ in range(2))
        self.waiting, self.touched = 0, np.zeros(D, np.bool_)
        self._trees = np.arange(len(heads.column))
        self._bit = 2 ** np.arange(heads.column.shape[1])[::-1]

    def predict(self, x: Array) -> Array:
        """(H,) standardised answers to x, which may be shorter than D; keeps φ and the leaves for `learn`."""
        c, D = self.heads, len(x)
        answers = self.W[:, :D] @ x
        if len(c.phase):
            self._phi = np.cos(2.0 * np.pi * (c.phase + x[1:] @ c.omega[: D - 1]))
            answers += self.V @ self._phi
        if c.ferns >= 0:
            self._leaves = (x[1 + c.column] > c.cut) @ self._bit
            answers[c.ferns] = self.leaf[self._trees, self._leaves].sum()
        return answers

    def learn(self, x: Array, answers: Array, q: Array, update: Update) -> None:
        """Learn from the event that `predict` answered. x: with the codes that it brought; q (4,): targets by scale."""
        c, D = self.heads, len(x)
        error = q[c.kind] - answers
        self._learn_moments(x, error, q, update)
        size = float(x @ x)
        step = c.step if update.logs else np.where(c.kind == LOG_RESIDUAL, 0.0, c.step)
        rate = step * np.clip(error, -BOUND, BOUND)
        if len(c.phase):
            rate /= np.where(c.waves, size + float(self._phi @ self._phi), size)
            self.V[c.waves] += rate[c.waves, None] * self._phi
        else:
            rate /= size
        self.W[:, :D] += rate[:, None] * x
        if c.ferns >= 0:
            at = self._trees, self._leaves
            self.leaf_n[at] = c.leaf_decay * self.leaf_n[at] + 1.0
            share = np.clip(error[c.ferns], -BOUND, BOUND) / len(self._trees)
            self.leaf[at] += share * np.maximum(c.leaf, np.minimum(1.0, SETTLING / self.leaf_n[at]))
        if c.gd >= 0:
            keep = (c.direct[0] if c.direct[1] == 0.0 else 2.0 ** (-update.gap / c.direct[1])) ** update.speed
            W = self.W[c.gd, :D]
            W += (1.0 - keep) * (q[RESIDUAL] * x - W)

    def _learn_moments(self, x: Array, error: Array, q: Array, update: Update) -> None:
        """S ← λS + ωxxᵀ, P ← λP + ωqx; after so many events a sweep over the inputs that they had."""
        c, D = self.heads, len(x)
        M = len(c.decay) if update.logs else len(c.decay) - c.twin
        self.touched[:D] |= x != 0.0
        self.touched[: update.lead] = True
        now = self.waiting >= update.max_waiting
        self.waiting = 0 if now else self.waiting + 1
        decay = c.decay[:M] ** update.speed
        for m in np.flatnonzero(c.half_life[:M]):
            decay[m] = 2.0 ** (-update.gap / c.half_life[m] * update.speed)
        weigh = c.huber[:M] / np.maximum(np.abs(error[:M]), c.huber[:M])
        S, P = self.S[:M, :D, :D], self.P[:M, :D]
        S *= decay[:, None, None]
        S += weigh[:, None, None] * (x[:, None] * x)
        P *= decay[:, None]
        P += (weigh * q[c.kind[:M]])[:, None] * x
        if now:
            if M:
                sweep(S, P, self.W[:M, :D], c.ridge[:M], np.flatnonzero(self.touched[:D]))
            self.touched[:] = False


class Update(NamedTuple):
    """How one event is learned.

    logs: whether the heads in log space learn; speed: of forgetting; gap: ms since the pool's last event, for
    half-lives; max_waiting: events that may be in the moments before a sweep; lead: inputs before the codes
    """

    logs: bool
    speed: float
    gap: float
    max_waiting: int
    lead: int


def sweep(S: Array, P: Array, W: Array, ridge: Array, touched: NDArray[np.intp]) -> None:
    """An exact step along the gradient of each touched coordinate in turn: W_i ← W_i − g_i / (S_ii + ρ).

    With L(W) = ½WᵀSW − PᵀW + ½ρ‖W‖² the gradient is g = SW + ρW − P, at the W that the steps before have left: for the
    coordinates of a block together a triangular system.

    S (M, D, D), P, W (M, D), ridge ρ (M,): of M heads
    """
    for first in range(0, len(touched), BLOCK):
        on = touched[first : first + BLOCK]
        rows = S[:, on]
        gradient = (rows @ W[:, :, None])[..., 0] + ridge[:, None] * W[:, on] - P[:, on]
        lower = np.tril(rows[:, :, on]) + ridge[:, None, None] * np.eye(len(on))
        W[:, on] -= np.linalg.solve(lower, gradient[..., None])[..., 0]


class OwnDescent:
    """Explicit gradient descent of an entity's own heads: proximal and slow. W (H, D)."""

    def __init__(self, p: LearnerParams) -> None:
        slow = p.prox > 0
        self.step = np.array([*p.steps[: p.prox].astype(np.float64), *[p.slow_step] * slow])
        self.kind = np.array([RESIDUAL] * p.prox + [VALUE] * slow, np.int64)
        self.W = np.zeros((len(self.step), p.L))

    def predict(self, x: Array) -> Array:
        """(H,) standardised answers to x."""
        answers: Array = self.W[:, : len(x)] @ x
        return answers

    def learn(self, x: Array, answers: Array, q: Array) -> None:
        """Learn from the event that `predict` answered."""
        rate = self.step * np.clip(q[self.kind] - answers, -BOUND, BOUND) / float(x @ x)
        self.W[:, : len(x)] += rate[:, None] * x


def forgetting_speed(surprise: Array, mean: Array, error: float, n: float) -> float:
    """How much faster than usual the moment heads forget: 1 + strength · max(log(fast / slow) − threshold, 0).

    surprise (3,): strength, threshold, rate; mean (2,): running means of |error|, fast and ten times slower, which are
    updated; n: events that the pool has learned
    """
    strength, threshold, rate = surprise.tolist()
    if strength <= 0.0:
        return 1.0
    mean += np.maximum([rate, 0.1 * rate], 1.0 / (n + 1.0)) * (error - mean)
    return float(1.0 + strength * max(math.log((mean[0] + 1e-9) / (mean[1] + 1e-9)) - threshold, 0.0))


def solve_distance(S: Array, P: Array, W: Array, ridge: float) -> float:
    """Distance of W (D,) from the minimum W* of ½WᵀSW − PᵀW + ½ρ‖W‖², as a part of W*: √(ΔᵀSΔ / W*ᵀSW*).

    That is in root mean square predictions over the decayed events. NaN while W* predicts nothing.
    """
    best = np.linalg.solve(S + ridge * np.eye(len(W)), P)
    size = float(best @ S @ best)
    return math.sqrt(max(float((W - best) @ S @ (W - best)), 0.0) / size) if size > 0.0 else math.nan
