"""The in-context gate: weights over the answers from what they were worth so far, and a gate over such gates.

Two gates hold decayed regrets (ML-Poly; Gaillard, Stoltz & van Erven 2014), quick and slow; two are a softmax of
decayed losses of the entity, which begin at the pool's; two stack the answers, that is, are moment heads themselves
with the answers' deviations from their mean as inputs, and so may answer beyond them. All errors count in units of the
entity's usual one, so that entities of any size may share a gate; all weights are continuous in what has been seen.
"""

from __future__ import annotations

import math
from typing import Any

from ssm_stream.model import simd
from ssm_stream.model.heads import decline
from ssm_stream.model.inputs import clip
from ssm_stream.model.jit import inlined, inner
from ssm_stream.model.shapes import HIGH, KEEP, LOW, PUSH, RIDGE, STACK_LANES, WINSOR, Z_CLIP, G

PRIOR = 1e-2  # of the regret gates: keeps the weights from being decided by rounding while all regrets are small
TOP_PRIOR = 0.1  # gates of nearly equal worth share until one is clearly better
LOSS_CLIP = 4.0
POOL_DECAY = 0.999  # of the pool's losses
UNIT_RATE = 0.02
LEAST_UNIT = 1e-300  # below it one over the unit is no number
STACK_CLIP = 20.0  # usual errors that the stacking gates hear
POLY, SOFT, STACK = 0, 2, 4  # places of the two gates of each kind


@inlined
def _poly(regret: Any, regret2: Any, weights: Any, active: Any, count: int, least: float) -> None:
    """Weights in proportion to the positive regrets over 1 + their second moments; uniform at first."""
    total, alive = 0.0, 0
    # Loops that sum are kept apart from those that do not, which then fit vector registers.
    for i in range(count):
        weights[i] = max(regret[i], 0.0) / (1.0 + regret2[i]) * active[i]
    for i in range(count):
        total += weights[i]
        alive += active[i]
    prior = least * least / (least + total)
    part = 1.0 / (total + alive * prior)
    for i in range(count):
        weights[i] = (weights[i] + prior) * part * active[i]


@inlined
def _softmax(soft: Any, own: Any, shared: Any, mass: float, weights: Any, active: Any, count: int) -> None:
    """Falling with sharpness · loss, the pool's mean loss counted as some events of the entity's; a share for all."""
    sharpness, prior, share = soft[0], soft[2] / max(mass, 1e-9), soft[3]
    least, alive = math.inf, 0
    for i in range(count):
        weights[i] = own[i] + prior * shared[i]
        if active[i]:
            least = min(least, weights[i])
            alive += 1
    for i in range(count):
        weights[i] = sharpness * (weights[i] - least) if active[i] else math.inf
    decline(weights, count)
    total = 0.0
    for i in range(count):
        total += weights[i]
    part, floor = (1.0 - share) / total, share / alive
    for i in range(count):
        weights[i] = (weights[i] * part + floor) * active[i]


@inner
def usual_error(own: float, pooled: float) -> float:
    """The entity's usual absolute error; the pool's for a new one; 0 before any."""
    return own if own > 0.0 else pooled


@inlined
def mix(p: Any, learner: Any, w: Any, k: int, e: int, count: int) -> float:
    """The prediction from the first `count` answers; fills `gate`, `made` and the total weights `g`."""
    pool, a, active = learner.pool, w.a, w.active
    mean, alive = 0.0, 0
    for i in range(count):
        if active[i]:
            mean += a[i]
            alive += 1
    mean /= alive
    if not p.learned_gate:
        for i in range(count):
            w.g[i] = 1.0 / alive if active[i] else 0.0
        for i in range(G + 1):
            w.made[i] = mean
        return mean
    for r in range(2):
        _poly(pool.regret[k, r], pool.regret2[k, r], w.gate[POLY + r], active, count, PRIOR)
        W, total = pool.stack_W[k, r], 0.0
        for i in range(count):
            total += W[i] if active[i] else 0.0
        for i in range(count):
            w.gate[STACK + r, i] = (1.0 - total) / alive + W[i] if active[i] else 0.0
        _softmax(p.soft[r], learner.entity.loss[e, r], pool.loss[k], pool.losses[k], w.gate[SOFT + r], active, count)
    for r in range(G):
        w.made[r] = mean
    for i in range(count):
        off = a[i] - mean
        for r in range(G):  # six sums side by side
            w.made[r] += w.gate[r, i] * off
    for r in range(G):
        w.made[r] = min(max(w.made[r], w.base[LOW]), w.base[HIGH])
    top = w.gate[G]
    total = 0.0
    for r in range(G):
        top[r] = max(pool.top[k, r], 0.0) / (1.0 + pool.top2[k, r])
        total += top[r]
    prior = TOP_PRIOR * TOP_PRIOR / (TOP_PRIOR + total)
    total += G * prior
    answer = 0.0
    part = 1.0 / total
    for r in range(G):
        top[r] = (top[r] + prior) * part
        answer += top[r] * w.made[r]
    for i in range(count):
        w.g[i] = 0.0
    for r in range(G):
        for i in range(count):
            w.g[i] += top[r] * w.gate[r, i]
    w.made[G] = answer
    return answer


@inlined
def _regrets(
    regret: Any, regret2: Any, answers: Any, active: Any, count: int, made: float, y: float, unit: float, decay: float
) -> None:
    """Decayed linearised regrets of the answers against the gate's own.

    A wild target's regrets are in units of its own error, so that it weighs no more than a bad one.
    """
    slope = clip((made - y) / (0.5 * unit), 1.0) / max(unit, abs(made - y) / Z_CLIP)
    for i in range(count):
        r = clip(slope * (made - answers[i]), Z_CLIP) * active[i]
        regret[i] = decay * regret[i] + r
        regret2[i] = decay * regret2[i] + r * r


@inlined
def _stack(
    S: Any, R: Any, W: Any, x: Any, rate: Any, a: Any, active: Any, count: int, mean: float, y: float, unit: float,
    decay: Any, ridge: Any, huber: Any,
) -> None:  # fmt: skip
    """One sweep of the moments of the answers' deviations, as in the moment heads; in 64 bits, as they nearly agree.

    S (2, T, n), R, W (2, n): of both stacking gates
    """
    part, rows, width = 1.0 / unit, S.shape[1], R.shape[1]
    n = (count + STACK_LANES - 1) // STACK_LANES * STACK_LANES
    for i in range(count):
        x[i] = clip((a[i] - mean) * part, STACK_CLIP) * active[i]
    for i in range(count, len(x)):
        x[i] = 0.0
    off = clip((y - mean) * part, STACK_CLIP)
    for r in range(2):
        error = off - simd.dot(W, r * width, x, 0, n)
        weight = min(1.0, huber[r] / (abs(error) + 1e-12))
        rate[r, KEEP], rate[r, PUSH], rate[r, RIDGE] = decay[r], weight, ridge[r]
        simd.decay_add(R, r * width, decay[r], x, 0, weight * error, n)
    simd.sweep_two(S, 0, R, 0, W, 0, x, rate, 0, width, rows, count, n)


@inlined
def learn_gates(p: Any, learner: Any, w: Any, k: int, e: int, count: int, y: float) -> None:
    """Judge the answers and the gates by the target."""
    s, pool = learner.entity, learner.pool
    error = abs(w.made[G] - y)
    unit = usual_error(s.unit[e], pool.unit[k])
    if unit == 0.0:
        unit = error
    if unit > 0.0 and p.learned_gate:
        unit = max(unit, LEAST_UNIT)
        mean, alive = 0.0, 0
        for i in range(count):
            if w.active[i]:
                mean += w.a[i]
                alive += 1
        mean /= alive
        for r in range(2):
            _regrets(pool.regret[k, r], pool.regret2[k, r], w.a, w.active, count, w.made[r], y, unit, p.poly_decay[r])
        _stack(
            pool.stack_S[k], pool.stack_R[k], pool.stack_W[k], w.stack, w.stack_rate, w.a, w.active, count, mean, y, unit,
            p.sweep_decay, p.sweep_ridge, p.sweep_huber,
        )  # fmt: skip
        slope = clip((w.made[G] - y) / (0.5 * unit), 1.0) / max(unit, error / Z_CLIP)
        for r in range(G):
            regret = clip(slope * (w.made[G] - w.made[r]), Z_CLIP)
            pool.top[k, r] = p.top_decay * pool.top[k, r] + regret
            pool.top2[k, r] = p.top_decay * pool.top2[k, r] + regret * regret
        part = 1.0 / unit
        for i in range(count):
            loss = min(abs(w.a[i] - y) * part, LOSS_CLIP) if w.active[i] else LOSS_CLIP
            for r in range(2):
                s.loss[e, r, i] = p.soft[r, 1] * s.loss[e, r, i] + loss
            pool.loss[k, i] = POOL_DECAY * pool.loss[k, i] + loss
        pool.losses[k] = POOL_DECAY * pool.losses[k] + 1.0
    _learn_unit(s.unit, e, float(s.n[e]), error, unit)
    _learn_unit(pool.unit, k, float(pool.n[k]), error, unit)


@inner
def _learn_unit(units: Any, i: int, n: float, error: float, start: float) -> None:
    if units[i] == 0.0:
        units[i] = start
    if n > 30.0:
        error = min(error, WINSOR * units[i])
    units[i] += max(UNIT_RATE, 1.0 / (n + 2.0)) * (error - units[i])
