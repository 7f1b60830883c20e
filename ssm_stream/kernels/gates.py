"""The in-context gate: weights over the answers from what they were worth so far, and a gate over such gates.

Two gates hold decayed regrets (ML-Poly; Gaillard, Stoltz & van Erven 2014), quick and slow; two are a softmax of
decayed losses of the entity, which begin at the pool's; two stack the answers, that is, are moment heads themselves
with the answers' deviations from their mean as inputs, and so may answer beyond them. All errors count in units of the
entity's usual one, so that entities of any size may share a gate; all weights are continuous in what has been seen.
"""

from __future__ import annotations

import math
from typing import Any

from ssm_stream.kernels import simd
from ssm_stream.kernels.heads import decay, decline, swept, wait
from ssm_stream.kernels.inputs import clip
from ssm_stream.kernels.jit import inlined, inner
from ssm_stream.kernels.shapes import HIGH, KEEP, LOW, PULL, PUSH, RIDGE, STACK_LANES, WINSOR, Z_CLIP, G

PRIOR = 1e-2  # of the regret gates: keeps the weights from being decided by rounding while all regrets are small
TOP_PRIOR = 0.1  # gates of nearly equal worth share until one is clearly better
LOSS_CLIP = 4.0
POOL_DECAY = 0.999  # of the pool's losses
UNIT_RATE = 0.02
LEAST_UNIT = 1e-300  # below it one over the unit is no number
STACK_CLIP = 20.0  # usual errors that the stacking gates hear
POLY, SOFT, STACK = 0, 2, 4  # places of the two gates of each kind


@inner
def whole(count: int) -> int:
    """Answers rounded up to whole vector steps: beyond `count`, what is known of answers is zero."""
    return (count + STACK_LANES - 1) // STACK_LANES * STACK_LANES


@inlined
def _poly(
    regret: Any, regret2: Any, gate: Any, r: int, active: Any, alive: float, count: int, n: int, least: float
) -> None:
    """Weights in proportion to the positive regrets over 1 + their second moments; uniform at first."""
    weights = gate[r]
    for i in range(count, n):  # the scratch is shared by pools, of which another may have more answers
        weights[i] = 0.0
    for i in range(count):
        weights[i] = max(regret[i], 0.0) / (1.0 + regret2[i]) * active[i]
    total = simd.total(gate, r * gate.shape[1], n)
    prior = least * least / (least + total)
    part = 1.0 / (total + alive * prior)
    for i in range(count):
        weights[i] = (weights[i] + prior) * part * active[i]


@inlined
def _softmax(
    soft: Any, own: Any, shared: Any, mass: float, gate: Any, r: int, active: Any, alive: float, count: int, n: int
) -> None:
    """Falling with sharpness · loss, the pool's mean loss counted as some events of the entity's; a share for all."""
    sharpness, prior, share, weights = soft[0], soft[2] / max(mass, 1e-9), soft[3], gate[r]
    for i in range(count):
        weights[i] = own[i] + prior * shared[i] if active[i] > 0.0 else math.inf
    for i in range(count, n):
        weights[i] = math.inf
    least = simd.least(gate, r * gate.shape[1], n)
    for i in range(n):
        weights[i] = sharpness * (weights[i] - least)
    decline(weights, n)
    total = simd.total(gate, r * gate.shape[1], n)
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
    pool, a, active, n = learner.pool, w.a, w.active, whole(count)
    for i in range(count, n):
        a[i] = active[i] = 0.0
    alive = simd.total(active, 0, n)
    mean = simd.dot(a, 0, active, 0, n) / alive
    if not p.learned_gate:
        for i in range(count):
            w.g[i] = active[i] / alive
        for i in range(G + 1):
            w.made[i] = mean
        return mean
    width = w.gate.shape[1]
    for r in range(2):
        _poly(pool.regret[k, r], pool.regret2[k, r], w.gate, POLY + r, active, alive, count, n, PRIOR)
        W, weights = pool.stack_W[k, r], w.gate[STACK + r]
        rest = (1.0 - simd.dot(pool.stack_W[k], r * pool.stack_W.shape[2], active, 0, n)) / alive
        for i in range(n):
            weights[i] = (rest + W[i]) * active[i]
        _softmax(
            p.soft[r], learner.entity.loss[e, r], pool.loss[k], pool.losses[k], w.gate, SOFT + r, active, alive, count,
            n,
        )  # fmt: skip
    for i in range(n):
        w.off[i] = a[i] - mean
    for r in range(G):
        made = mean + simd.dot(w.gate, r * width, w.off, 0, n)
        w.made[r] = min(max(made, w.base[LOW]), w.base[HIGH])
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
    for i in range(n):
        w.g[i] = 0.0
    simd.weigh(w.g, 0, w.gate, G * width, w.gate, 0, G, width, n)
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
    keep: Any, ridge: Any, huber: Any, level: Any, batch: Any, kept: Any, waiting: Any, k: int, most: int, others: Any,
) -> None:  # fmt: skip
    """One sweep of the moments of the answers' deviations, as in the moment heads; in 64 bits, as they nearly agree.

    S (2, T, n), R, W (2, n): of both stacking gates
    """
    part, rows, width, n = 1.0 / unit, S.shape[1], R.shape[1], whole(count)
    for i in range(count):
        x[i] = clip((a[i] - mean) * part, STACK_CLIP) * active[i]
    for i in range(count, n):
        x[i] = 0.0
    off = clip((y - mean) * part, STACK_CLIP)
    for r in range(2):
        error = off - simd.dot(W, r * width, x, 0, n)
        weight = min(1.0, huber[r] / (abs(error) + 1e-12))
        rate[r, KEEP], rate[r, PUSH], rate[r, PULL], rate[r, RIDGE] = keep[r], weight, weight * error, ridge[r]
        decay(S, R, level, kept, r, count, n, rate)
        simd.add(R, r * width, x, 0, rate[r, PULL], n)
    if wait(batch, kept, waiting, k, most, x, n, 2, rate):
        return
    if waiting[k] == 0:
        simd.sweep_two(S, 0, R, 0, W, 0, x, rate, 0, width, rows, count, others, 0, n)
        return
    simd.sweep_two_batch(S, 0, R, 0, W, 0, x, rate, 0, width, rows, count, others, 0, n, batch, kept, 0, width)
    swept(kept, waiting, k, 2)


@inlined
def learn_gates(p: Any, learner: Any, w: Any, k: int, e: int, count: int, y: float, most: int) -> None:
    """Judge the answers and the gates by the target. most: events that may wait to be swept"""
    s, pool = learner.entity, learner.pool
    error = abs(w.made[G] - y)
    unit = usual_error(s.unit[e], pool.unit[k])
    if unit == 0.0:
        unit = error
    if unit > 0.0 and p.learned_gate:
        unit = max(unit, LEAST_UNIT)
        n = whole(count)
        mean = simd.dot(w.a, 0, w.active, 0, n) / simd.total(w.active, 0, n)
        for r in range(2):
            _regrets(pool.regret[k, r], pool.regret2[k, r], w.a, w.active, count, w.made[r], y, unit, p.poly_decay[r])
        _stack(
            pool.stack_S[k], pool.stack_R[k], pool.stack_W[k], w.stack, w.stack_rate, w.a, w.active, count, mean, y,
            unit, p.sweep_decay, p.sweep_ridge, p.sweep_huber, pool.stack_level[k], pool.stack_batch[k],
            pool.stack_kept[k], pool.stack_waiting, k, most, w.others,
        )  # fmt: skip
        slope = clip((w.made[G] - y) / (0.5 * unit), 1.0) / max(unit, error / Z_CLIP)
        for r in range(G):
            regret = clip(slope * (w.made[G] - w.made[r]), Z_CLIP)
            pool.top[k, r] = p.top_decay * pool.top[k, r] + regret
            pool.top2[k, r] = p.top_decay * pool.top2[k, r] + regret * regret
        part, losses, shared = 1.0 / unit, w.off, pool.loss[k]
        for i in range(count):
            losses[i] = min(abs(w.a[i] - y) * part, LOSS_CLIP) if w.active[i] > 0.0 else LOSS_CLIP
        for r in range(2):
            own, keep = s.loss[e, r], p.soft[r, 1]
            for i in range(count):
                own[i] = keep * own[i] + losses[i]
        for i in range(count):
            shared[i] = POOL_DECAY * shared[i] + losses[i]
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
