"""Explicit gradient descent in 64-bit floats: what the production kernel's heads are held to. See `docs/model.md`, 3.

It takes inputs x, standardised targets q and the constants of the heads, and nothing else: moments are plain sums,
every gradient of every coordinate is computed anew, and weights are its own from the first event to the last. No line
and no state is shared with the kernel.

Symbols as in `kernels/shapes.py`; further
    H   heads compared: those of the fleet scope, the same of the norm scope, the entity's own
    P   (P, M', D)  decayed moments of q and x, of which the kernel keeps only R = P − S W
    φ   (R,)  embedding cos 2π(Ωᵀx + phase), computed here too
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.kernels import implicit
from ssm_stream.kernels.jit import jit
from ssm_stream.kernels.shapes import LEAVES, LOG_RESIDUAL, RESIDUAL, VALUE, LearnerParams

Array = NDArray[np.float64]

BOUND = 3.0
"""Largest error that a proximal head steps for, in standard deviations."""
SETTLING = 4.0
"""A leaf's step is this over the events it has seen, until that falls below the constant step."""


class Constants(NamedTuple):
    """The kernel's constants as float64, (M',) of the moment heads (in log space: the first one's), the rest by head.

    decay, half_life, ridge, huber (M',); step (prox,); slow, embedding, leaf, leaf_decay: steps and decay of the other
    gradient heads; direct: decay and half-life of the gd head; surprise (3,); phase (R,); omega, column, cut:
    directions and ferns of the fleet and norm scopes
    """

    decay: Array
    half_life: Array
    ridge: Array
    huber: Array
    step: Array
    slow: float
    embedding: float
    leaf: float
    leaf_decay: float
    direct: tuple[float, float]
    surprise: Array
    phase: Array
    omega: tuple[Array, Array]
    column: tuple[NDArray[np.int64], NDArray[np.int64]]
    cut: tuple[Array, Array]


class Plan(NamedTuple):
    """Which heads a pooled scope has, in the order in which they are compared.

    M, twin: moment heads, and whether the first has one in log space; prox; R, fern, gd, log: as in `LearnerParams`
    heads: how many; place (heads,) int64: the head's answer among the scope's, −1 if it gives none by itself;
    kind (heads,) int64: the scale of its target
    """

    M: int
    twin: int
    prox: int
    R: int
    fern: int
    gd: int
    log: int
    heads: int
    place: NDArray[np.int64]
    kind: NDArray[np.int64]


class Descent(NamedTuple):
    """State of the explicit gradient descent of one pooled scope, float64, a row a pool.

    S (P, M', D, D), P, W (P, M', D); gradient (P, 2 prox + 1, D); embedding (P, 2, R + D), φ first;
    leaf, leaf_n (P, fern, LEAVES); gd (P, D); phi (R,) and place (fern,) of the event at hand
    waiting (P,) int64, touched (P, D) bool: events since the last sweep, and inputs that they had
    """

    S: Array
    P: Array
    W: Array
    waiting: NDArray[np.int64]
    touched: NDArray[np.bool_]
    gradient: Array
    embedding: Array
    leaf: Array
    leaf_n: Array
    gd: Array
    phi: Array
    place: NDArray[np.int64]


def constants(p: LearnerParams) -> Constants:
    """The same constants that the kernel computes with; those it keeps as 32-bit floats are theirs to the last bit."""
    f = np.float64
    first = [*range(p.M), 0] if p.window and p.log else list(range(p.M))
    return Constants(
        p.decay.astype(np.float32).astype(f)[first], p.half_life[first], p.ridge.astype(f)[first],
        p.huber.astype(f)[first], p.steps.astype(f), p.slow_step, p.embedding_step, p.fern_step, p.fern_decay,
        (float(p.decay[0]), float(p.half_life[0])), p.surprise.astype(f), p.phase.astype(f),
        (p.omega_fleet.astype(f), p.omega_norm.astype(f)),
        (p.fern_fleet, p.fern_norm), (p.cut_fleet.astype(f), p.cut_norm.astype(f)),
    )  # fmt: skip


def scope_plan(p: LearnerParams) -> Plan:
    """The heads of a pooled scope: moments (with the twin in log space), proximal, slow, embedding, ferns, gd, logs."""
    twin = int(p.window > 0 and p.log > 0)
    slow = int(p.prox > 0)
    linear = p.prox + slow + (p.R > 0) + (p.fern > 0) + p.gd
    rest = linear + p.log * (p.prox + (p.R > 0))
    first = p.M if p.moments else 0
    place = [*(range(p.M) if p.moments else [-1] * p.M), *[-1] * twin, *range(first, first + rest)]
    kind = [RESIDUAL] * p.M + [LOG_RESIDUAL] * twin + [RESIDUAL] * p.prox + [VALUE] * slow
    kind += [RESIDUAL] * (linear - p.prox - slow) + [LOG_RESIDUAL] * (rest - linear)
    return Plan(
        p.M, twin, p.prox, p.R, p.fern, p.gd, p.log, len(place), np.array(place, np.int64), np.array(kind, np.int64)
    )


def head_names(p: LearnerParams) -> list[str]:
    """(H,) the heads in the order in which they are compared, such as `fleet: moments, decay 0.999`."""
    (moments, quick, slow, waves), logs = implicit.head_names(p), scope_plan(p)
    pooled = [*moments, *([f"{moments[0]}, log space"] if logs.twin else []), *quick, *slow, *waves]
    pooled += (["ferns"] if p.fern else []) + (["gd"] if p.gd else [])
    pooled += [f"{name}, log space" for name in quick + waves] if p.log else []
    return [f"{scope}: {name}" for scope in ("fleet", "norm") for name in pooled] + [
        f"entity: {name}" for name in quick + slow
    ]


def new_descent(p: LearnerParams, pools: int, D: int) -> Descent:
    """Pools that have seen nothing, with D inputs."""
    plan = scope_plan(p)
    rows = plan.M + plan.twin
    return Descent(
        np.zeros((pools, rows, D, D)), np.zeros((pools, rows, D)), np.zeros((pools, rows, D)),
        np.zeros(pools, np.int64), np.zeros((pools, D), np.bool_), np.zeros((pools, 2 * p.prox + (p.prox > 0), D)),
        np.zeros((pools, 2, (p.R + D) if p.R else 0)),
        np.zeros((pools, p.fern, LEAVES)), np.zeros((pools, p.fern, LEAVES)), np.zeros((pools, D * p.gd)),
        np.zeros(p.R), np.zeros(p.fern, np.int64),
    )  # fmt: skip


@jit
def read(W: Any, x: Any, D: int) -> float:
    """W · x over the first D inputs, in 64-bit floats whatever is given."""
    total = 0.0
    for j in range(D):
        total += np.float64(W[j]) * x[j]
    return total


@jit
def answer(plan: Any, omega: Any, phase: Any, column: Any, cut: Any, d: Any, k: int, x: Any, D: int, out: Any) -> None:
    """Standardised answers of a pooled scope into out (≥ heads,); keeps φ and the leaves for `learn`."""
    h = 0
    for m in range(plan.M + plan.twin):
        out[h] = read(d.W[k, m], x, D)
        h += 1
    for r in range(plan.prox + (1 if plan.prox > 0 else 0)):
        out[h] = read(d.gradient[k, r], x, D)
        h += 1
    if plan.R > 0:
        for r in range(plan.R):
            turns = phase[r]
            for j in range(1, D):
                turns += omega[j - 1, r] * x[j]
            d.phi[r] = math.cos(2.0 * math.pi * turns)
        out[h] = read(d.embedding[k, 0], d.phi, plan.R) + read(d.embedding[k, 0, plan.R :], x, D)
        h += 1
    if plan.fern > 0:
        out[h] = 0.0
        for tree in range(plan.fern):
            leaf = 0
            for i in range(column.shape[1]):
                leaf = 2 * leaf + (1 if x[1 + column[tree, i]] > cut[tree, i] else 0)
            d.place[tree] = leaf
            out[h] += d.leaf[k, tree, leaf]
        h += 1
    if plan.gd > 0:
        out[h] = read(d.gd[k], x, D)
        h += 1
    if plan.log > 0:
        for r in range(plan.prox):
            out[h] = read(d.gradient[k, plan.prox + 1 + r], x, D)
            h += 1
        if plan.R > 0:
            out[h] = read(d.embedding[k, 1], d.phi, plan.R) + read(d.embedding[k, 1, plan.R :], x, D)


@jit
def learn(
    plan: Any, c: Any, d: Any, k: int, x: Any, D: int, said: Any, q: Any, logs: bool, speed: float, gap: float,
    most: int, lead: int,
) -> None:  # fmt: skip
    """One event for a pooled scope. said (≥ heads,): what `answer` gave; q (4,): standardised targets by kind; logs:
    whether the heads in log space learn; speed: of forgetting; gap: ms since the pool's last event, for half-lives;
    most: events that may be in the moments before a sweep; lead: inputs before the codes."""
    h = 0
    for j in range(D):
        d.touched[k, j] |= j < lead or x[j] != 0.0
    now = d.waiting[k] >= most
    d.waiting[k] = 0 if now else d.waiting[k] + 1
    for m in range(plan.M + plan.twin):
        decay = c.decay[m] if c.half_life[m] == 0.0 else 2.0 ** (-gap / c.half_life[m])
        if m < plan.M or logs:
            target = q[plan.kind[h]]
            _learn_moments(
                d.S[k, m],
                d.P[k, m],
                d.W[k, m],
                x,
                D,
                target,
                said[h],
                c.huber[m],
                decay**speed,
                c.ridge[m],
                now,
                d.touched[k],
            )
        h += 1
    if now:
        d.touched[k] = False
    size = read(x, x, D)
    for r in range(plan.prox + (1 if plan.prox > 0 else 0)):
        step = c.step[r] if r < plan.prox else c.slow
        step_towards(d.gradient[k, r], x, D, step * bounded(q[plan.kind[h]] - said[h]) / size)
        h += 1
    wide = size + read(d.phi, d.phi, plan.R)
    if plan.R > 0:
        rate = c.embedding * bounded(q[RESIDUAL] - said[h]) / wide
        step_towards(d.embedding[k, 0], d.phi, plan.R, rate)
        step_towards(d.embedding[k, 0, plan.R :], x, D, rate)
        h += 1
    if plan.fern > 0:
        share = bounded(q[RESIDUAL] - said[h]) / plan.fern
        for tree in range(plan.fern):
            leaf = d.place[tree]
            d.leaf_n[k, tree, leaf] = c.leaf_decay * d.leaf_n[k, tree, leaf] + 1.0
            d.leaf[k, tree, leaf] += share * max(c.leaf, min(1.0, SETTLING / d.leaf_n[k, tree, leaf]))
        h += 1
    if plan.gd > 0:
        keep = (c.direct[0] if c.direct[1] == 0.0 else 2.0 ** (-gap / c.direct[1])) ** speed
        for j in range(D):
            d.gd[k, j] = keep * d.gd[k, j] + (1.0 - keep) * q[RESIDUAL] * x[j]
        h += 1
    if plan.log > 0 and logs:
        for r in range(plan.prox):
            step = c.step[r] * bounded(q[LOG_RESIDUAL] - said[h]) / size
            step_towards(d.gradient[k, plan.prox + 1 + r], x, D, step)
            h += 1
        if plan.R > 0:
            rate = c.embedding * bounded(q[LOG_RESIDUAL] - said[h]) / wide
            step_towards(d.embedding[k, 1], d.phi, plan.R, rate)
            step_towards(d.embedding[k, 1, plan.R :], x, D, rate)


@jit
def _learn_moments(
    S: Any, P: Any, W: Any, x: Any, D: int, q: float, said: float, huber: float, decay: float, ridge: float, now: bool,
    touched: Any,
) -> None:  # fmt: skip
    """S ← λS + ωxxᵀ, P ← λP + ωqx, then, if `now`, for each that is touched an exact step along the ridge gradient.

    With L(W) = ½WᵀSW − PᵀW + ½ρ‖W‖² the gradient is g_i = Σ_j S_ij W_j + ρW_i − P_i, computed anew at every coordinate,
    and its step W_i ← W_i − g_i/(S_ii + ρ).
    """
    error = abs(q - said)
    weigh = 1.0 if error <= huber else huber / error
    for i in range(D):
        P[i] = decay * P[i] + weigh * q * x[i]
        for j in range(D):
            S[i, j] = decay * S[i, j] + weigh * x[i] * x[j]
    if not now:
        return
    for i in range(D):
        if not touched[i]:
            continue
        gradient = ridge * W[i] - P[i]
        for j in range(D):
            gradient += S[i, j] * W[j]
        W[i] -= gradient / (S[i, i] + ridge)


@jit
def bounded(error: float) -> float:
    """clip(e, ±3)."""
    return min(max(error, -BOUND), BOUND)


@jit
def step_towards(W: Any, x: Any, D: int, rate: float) -> None:
    """W ← W + rate x; with rate = β clip(e, ±3) / ‖x‖² the implicit step on the squared error of one event."""
    for j in range(D):
        W[j] += rate * x[j]


@jit
def surprise(c: Any, mean: Any, error: float, n: float) -> Any:
    """How much faster than usual the moment heads forget: 1 + strength · max(log(fast / slow) − threshold, 0), from
    running means (2,) of |error|, quick and ten times slower, of a pool that has learned n events."""
    if c.surprise[0] <= 0.0:
        return 1.0
    mean[0] += max(c.surprise[2], 1.0 / (n + 1.0)) * (error - mean[0])
    mean[1] += max(0.1 * c.surprise[2], 1.0 / (n + 1.0)) * (error - mean[1])
    return 1.0 + c.surprise[0] * max(math.log((mean[0] + 1e-9) / (mean[1] + 1e-9)) - c.surprise[1], 0.0)


def solve_distance(S: Array, P: Array, W: Array, ridge: float) -> float:
    """How far W (D,) is from the minimum W* of ½WᵀSW − PᵀW + ½ρ‖W‖², in root mean square predictions over the decayed
    events, as a part of those of W*: √(ΔᵀSΔ / W*ᵀSW*). NaN while W* predicts nothing."""
    best = np.linalg.solve(S + ridge * np.eye(len(W)), P)
    size = float(best @ S @ best)
    return math.sqrt(max(float((W - best) @ S @ (W - best)), 0.0) / size) if size > 0.0 else math.nan
