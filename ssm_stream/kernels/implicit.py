"""The implicit linear model behind a prediction: the gate's mean of the weights that the heads have learned.

A prediction's slope by each input, in the target's unit per standard deviation of the entity's input; per presence for
the constant and the codes. Heads in log space count with their slope at their answer, attention with the moment head
that it corrects; what the embedding's waves, the ferns and the corrections add bends locally and is left out.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from ssm_stream.kernels.inputs import clip
from ssm_stream.kernels.jit import inlined, inner
from ssm_stream.kernels.shapes import LOG_RESIDUAL, MANY, RESIDUAL, VALUE, LearnerParams

LARGEST = 1e37  # keeps weights of targets near ±3e38, and their differences, within 32-bit floats
MOST_RATIO = 1e3  # of an entity's to the pool's deviation of an input


@inner
def _add(out: Any, W: Any, share: float, F: int, K: int, ratio: Any, own: int) -> None:
    """Weights of one head, times the answer's weight in the gate and the scale's deviation.

    own: 0 all inputs are the pool's, 1 all are the entity's, 2 first the entity's, then the pool's
    """
    share = clip(share, LARGEST)
    out[0] = clip(out[0] + share * W[0], LARGEST)
    at = 1 + F if own == 2 else 1
    for j in range(F):
        part = W[1 + j] if own >= 1 else 0.0
        if own != 1:
            part += W[at + j] * ratio[j]
        out[1 + j] = clip(out[1 + j] + share * part, LARGEST)
    for j in range(K):
        out[1 + F + j] = clip(out[1 + F + j] + share * W[at + F + j], LARGEST)


@inner
def _add_scope(
    p: Any, h: Any, k: int, used: int, g: Any, a: Any, scale: Any, ratio: Any, own: int, at: int, out: Any
) -> int:
    if p.moments:
        for m in range(p.M):
            _add(out, h.W[k, m], g[at] * scale[RESIDUAL, 1], p.F, used, ratio, own)
            at += 1
    if p.prox:
        for r in range(p.prox + 1):
            kind = RESIDUAL if r < p.prox else VALUE
            _add(out, h.gradient[k, r], g[at] * scale[kind, 1], p.F, used, ratio, own)
            at += 1
    if p.R:
        _add(out, h.embedding[k, 0, p.R :], g[at] * scale[RESIDUAL, 1], p.F, used, ratio, own)
        at += 1
    if p.fern:
        at += 1
    if p.gd:
        _add(out, h.gd[k], g[at] * scale[RESIDUAL, 1], p.F, used, ratio, own)
        at += 1
    if p.log:
        for r in range(p.prox):
            slope = g[at] * scale[LOG_RESIDUAL, 1] * (1.0 + a[at])
            _add(out, h.gradient[k, p.prox + 1 + r], slope, p.F, used, ratio, own)
            at += 1
        if p.R:
            slope = g[at] * scale[LOG_RESIDUAL, 1] * (1.0 + a[at])
            _add(out, h.embedding[k, 1, p.R :], slope, p.F, used, ratio, own)
            at += 1
    if p.window:
        for i in range(2):
            _add(out, h.W[k, 0], g[at + i] * scale[RESIDUAL, 1], p.F, used, ratio, own)
        at += 4 + (p.lags > 0)
        if p.log:
            for i in range(2):
                slope = g[at + i] * scale[LOG_RESIDUAL, 1] * (1.0 + a[at + i])
                _add(out, h.W[k, p.M], slope, p.F, used, ratio, own)
            at += 3
    return at


@inlined
def implicit_weights(p: Any, learner: Any, w: Any, k: int, e: int, many: int, out: Any) -> None:
    """Fill `out` (L,) for the event in the scratch, before it is learned. many: do entity and norm scope answer?"""
    s, pool = learner.entity, learner.pool
    used = pool.used[k]
    for i in range(p.L):
        out[i] = 0.0
    for j in range(p.F):
        w.ratio[j] = 1.0
        if many:
            ratio = math.sqrt(s.v_var[e, j] / pool.v_var[k, j]) if pool.v_var[k, j] > 0.0 else 0.0
            w.ratio[j] = min(ratio, MOST_RATIO)
    at = _add_scope(p, learner.fleet, k, used, w.g, w.a, w.scale[0], w.ratio, 0, p.bases, out)
    if many:
        if p.prox:
            for r in range(p.prox + 1):
                kind = RESIDUAL if r < p.prox else VALUE
                _add(out, s.W[e, r], w.g[at] * w.scale[1, kind, 1], p.F, used, w.ratio, 1)
                at += 1
        _add_scope(p, learner.norm, k, used, w.g, w.a, w.scale[1], w.ratio, 2, at, out)


@inlined
def fleet_share(p: Any, w: Any) -> float:
    """Share of the prediction that stands on what other entities taught: the weights of the pooled heads, of all."""
    if not w.flag[MANY]:
        return 0.0
    total, shared = 0.0, 0.0
    own = p.bases + p.B
    for i in range(w.places[0]):
        total += abs(w.g[i])
        if i >= p.bases and not own <= i < own + p.prox + (p.prox > 0):
            shared += abs(w.g[i])
    return shared / total if total > 0.0 else 0.0


class HeadNames(NamedTuple):
    """Names of a pooled scope's heads by kind; quick and slow are the proximal ones."""

    moments: list[str]
    quick: list[str]
    slow: list[str]
    waves: list[str]


def head_names(p: LearnerParams) -> HeadNames:
    """Such as `moments, decay 0.999`."""
    moments = [
        f"moments, half-life {life / 1000:g} s" if life else f"moments, decay {decay:g}"
        for decay, life in zip(p.decay.tolist(), p.half_life.tolist(), strict=True)
    ]
    return HeadNames(
        moments[: p.M],
        [f"proximal, step {step:.3g}" for step in p.steps.tolist()[: p.prox]],
        [f"proximal, step {p.slow_step:.3g}"] if p.prox else [],
        ["embedding"] if p.R else [],
    )


def answer_names(p: LearnerParams, many: bool) -> list[str]:
    """Names of the answers, (T,), in the kernel's order. many: whether the entity has others beside it"""
    bases = ["running mean"] + (["last target"] if p.lags else [])
    bases += ["usual at this hour", "usual at this hour of the week"] if p.seasons else []
    moments, quick, slow, waves = head_names(p)
    pooled = (moments if p.moments else []) + quick + slow + waves
    pooled += (["ferns"] if p.fern else []) + (["gd"] if p.gd else [])
    pooled += [f"{name}, log space" for name in quick + waves] if p.log else []
    if p.window:
        count = 4 + (p.lags > 0) + (3 if p.log else 0)
        pooled += [f"attention {i + 1}" for i in range(count)]
    names = bases + [f"fleet: {name}" for name in pooled]
    if many:
        names += [f"entity: {name}" for name in quick + slow] + [f"norm: {name}" for name in pooled]
    return names
