"""The in-context gate of the streaming learner's definition; symbols in `learner.py`.

Two gates hold decayed regrets, one such regrets of each hour of the day, two the decayed losses of the entity, two
stack the expert predictions; one more combines the gates. Experts that are not active in an event have the weight 0
in it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ssm_stream.core.constants import (
    HOUR_DECAY,
    HOUR_SHARE,
    LOSS_CLIP,
    POOL_DECAY,
    PRIOR,
    ROUNDING,
    STACK_CLIP,
    TOP_PRIOR,
    UNIT_RATE,
)
from ssm_stream.core.shapes import LAST_TARGET, WINSOR, Z_CLIP, G, LearnerParams, has_dead_band
from ssm_stream.reference.attention import decline
from ssm_stream.reference.dead_band import hold, learn_band
from ssm_stream.reference.heads import Moments, sweep
from ssm_stream.reference.inputs import Inputs
from ssm_stream.reference.state import EntityState, GateState, Meta, State, choose

HOUR = 6  # place of the gate by hour


class Experts(NamedTuple):
    """Expert predictions a (B, T); active (B, T): those that count; present (B, T): those whose scope is there."""

    a: Tensor
    active: Tensor
    present: Tensor


class Mixed(NamedTuple):
    """weights (B, G, T) of the gates, made (B, G): their predictions; top (B,): of the gate over them
    yhat (B,): that, or in the dead band the last target; g (B, T): total weights; hour (B,): of the day, in which they
    were made"""

    weights: Tensor
    made: Tensor
    top: Tensor
    yhat: Tensor
    g: Tensor
    hour: Tensor


def mean_expert(a: Tensor, active: Tensor) -> Tensor:
    """Mean (B,) of the active experts."""
    return torch.where(active, a, 0.0).sum(1) / active.sum(1)


def poly_weights(regret: Tensor, regret2: Tensor, active: Tensor, least: float) -> Tensor:
    """ML-Poly: weights in proportion to r⁺ / (1 + r²) + prior, with prior = l² / (l + Σ r⁺ / (1 + r²)); (…, T).

    The prior fades as evidence comes in and keeps the weights continuous where all regrets are near zero.
    """
    raw = torch.where(active, regret.clamp_min(0.0) / (1.0 + regret2), 0.0)
    raw = torch.where(active, raw + least**2 / (least + raw.sum(-1, keepdim=True)), 0.0)
    return raw / raw.sum(-1, keepdim=True)


def loss_weights(soft: Tensor, own: Tensor, shared: Tensor, mass: Tensor, active: Tensor) -> Tensor:
    """`decline`(sharpness · loss), normalised, and a fixed share for all; (B, 2, T).

    The loss is the entity's plus `prior` times the pool's mean loss.

    soft (2, 4), own (B, 2, T), shared (B, T), mass (B,)
    """
    sharpness, prior, share = (soft[:, i, None] for i in (0, 2, 3))
    loss = own + prior * (shared / mass.clamp_min(1e-9)[:, None])[:, None]
    active = active[:, None]
    least = torch.where(active, loss, torch.inf).amin(-1, keepdim=True)
    raw = torch.where(active, decline(sharpness * (loss - least)), 0.0)
    weights = (1.0 - share) * raw / raw.sum(-1, keepdim=True) + share / active.sum(-1, keepdim=True)
    return torch.where(active, weights, 0.0)


def stack_weights(W: Tensor, active: Tensor) -> Tensor:
    """w = W + (1 − Σ W) / T, so that Σ w a = mean + Σ W (a − mean); (B, 2, T)."""
    W = torch.where(active[:, None], W, 0.0)
    share = (1.0 - W.sum(-1, keepdim=True)) / active.sum(1)[:, None, None]
    return torch.where(active[:, None], W + share, 0.0)


def hour_weights(s: GateState, hour: Tensor, active: Tensor) -> Tensor:
    """ML-Poly by the regrets of the hour (B,) and a part of the slow gate's; (B, 1, T)."""
    rows = torch.arange(len(hour))
    regret = s.hour_regret[rows, hour] + HOUR_SHARE * s.regret[:, 1]
    regret2 = s.hour_regret2[rows, hour] + HOUR_SHARE * s.regret2[:, 1]
    return poly_weights(regret, regret2, active, PRIOR)[:, None]


def mix(
    p: LearnerParams, meta: Meta, s: GateState, own: EntityState, x: Inputs, experts: Experts, hour: Tensor
) -> Mixed:
    """The gates' weights and the prediction. hour (B,): of the day"""
    a, active, _ = experts
    mean = mean_expert(a, active)
    if not p.learned_gate:
        g = active / active.sum(1, keepdim=True)
        return Mixed(g[:, None].expand(-1, G, -1), mean[:, None].expand(-1, G), mean, mean, g, hour)
    weights = torch.cat(
        [
            poly_weights(s.regret, s.regret2, active[:, None], PRIOR),
            loss_weights(meta.soft, own.loss, s.loss, s.losses, active),
            stack_weights(s.W, active),
            hour_weights(s, hour, active),
        ],
        1,
    )
    off = torch.where(active, a - mean[:, None], 0.0)
    made = mean[:, None] + torch.einsum("bgt,bt->bg", weights, off)
    made = torch.minimum(torch.maximum(made, x.low[:, None]), x.high[:, None])
    top = poly_weights(s.top, s.top2, torch.ones_like(s.top, dtype=torch.bool), TOP_PRIOR)
    predicted = (top * made).sum(1)
    yhat = predicted
    if has_dead_band(p):
        rounding = ROUNDING * torch.maximum(predicted.abs(), a[:, LAST_TARGET].abs())
        yhat = hold(s, a, predicted, usual_error(s, own, rounding, torch.zeros_like(predicted)))
    return Mixed(weights, made, predicted, yhat, torch.einsum("bg,bgt->bt", top, weights), hour)


def usual_error(s: GateState, own: EntityState, rounding: Tensor, otherwise: Tensor) -> Tensor:
    """The entity's usual absolute error (B,); the pool's for a new one, and for one that had none but rounding."""
    usual = torch.where(own.unit > rounding, own.unit, s.unit)
    return torch.where(usual > rounding, usual, otherwise)


def regrets(made: Tensor, experts: Tensor, y: Tensor, unit: Tensor) -> Tensor:
    """r = slope · (made − expert) / max(unit, |made − y| / 5), clipped to ±5; slope = clip(2 (made − y) / unit, ±1).

    A wild target's regrets are in units of its own error, so that it weighs no more than a bad one. made (B, g),
    experts (B, g, T), y and unit (B,)
    """
    error = made - y[:, None]
    slope = (error / (0.5 * unit[:, None])).clamp(-1.0, 1.0)
    slope = slope / torch.maximum(unit[:, None], error.abs() / Z_CLIP)
    return (slope[..., None] * (made[..., None] - experts)).clamp(-Z_CLIP, Z_CLIP)


def learn_unit(units: Tensor, n: Tensor, error: Tensor, rounding: Tensor, start: Tensor) -> Tensor:
    """Running mean of the absolute error, winsorised once 30 are known."""
    units = torch.where(units > rounding, units, start)
    error = torch.where(n > 30, torch.minimum(error, WINSOR * units), error)
    return units + (1.0 / (n + 2.0)).clamp_min(UNIT_RATE) * (error - units)


def learn_gates(
    p: LearnerParams, meta: Meta, state: State, own: EntityState, experts: Experts, mixed: Mixed, y: Tensor,
    max_waiting: Tensor,
) -> tuple[GateState, EntityState, Tensor, Tensor]:  # fmt: skip
    """Update the weights of experts and gates by their errors, in units of the entity's usual error.

    Returns state of the pool and of the entities, that unit (B,), and where (B,) there is one.

    max_waiting (B,): events that may wait to be swept
    """
    s, n = state.gates, state.running.n
    a, active, present = experts
    error = (mixed.top - y).abs()
    rounding = ROUNDING * torch.maximum(y.abs(), mixed.top.abs())
    error = torch.where(error > rounding, error, 0.0)
    start = usual_error(s, own, rounding, error)
    judged = start > 0
    unit = torch.where(judged, start, 1.0)
    new, loss = s, own.loss
    if p.learned_gate:
        r = torch.where(active[:, None], regrets(mixed.made[:, :2], a[:, None].expand(-1, 2, -1), y, unit), 0.0)
        decay = meta.poly_decay[:, None]
        hour, rows = mixed.hour, torch.arange(len(y))
        h = torch.where(active, regrets(mixed.made[:, HOUR, None], a[:, None], y, unit)[:, 0], 0.0)
        mean = mean_expert(a, active)
        off = torch.where(active, (a - mean[:, None]) / unit[:, None], 0.0).clamp(-STACK_CLIP, STACK_CLIP)
        off = off[:, None].expand(-1, 2, -1)
        miss = ((y - mean) / unit).clamp(-STACK_CLIP, STACK_CLIP)[:, None] - (s.W * off).sum(-1)
        now = s.waiting >= max_waiting
        S, R, W = sweep(Moments(s.S, s.R, s.W), off, meta.sweep_decay.expand_as(miss), meta.sweep_ridge.expand_as(miss),
                        meta.sweep_huber.expand_as(miss), miss, now[:, None, None].expand_as(off))  # fmt: skip
        top = regrets(mixed.top[:, None], mixed.made[:, None], y, unit)[:, 0]
        lost = torch.where(active, ((a - y[:, None]).abs() / unit[:, None]).clamp_max(LOSS_CLIP), LOSS_CLIP)
        lost = torch.where(present, lost, 0.0)
        new = s._replace(
            regret=decay * s.regret + r, regret2=decay * s.regret2 + r * r,
            hour_regret=s.hour_regret.index_put((rows, hour), HOUR_DECAY * s.hour_regret[rows, hour] + h),
            hour_regret2=s.hour_regret2.index_put((rows, hour), HOUR_DECAY * s.hour_regret2[rows, hour] + h * h),
            loss=POOL_DECAY * s.loss + lost, losses=POOL_DECAY * s.losses + 1.0,
            S=S, R=R, W=W, waiting=torch.where(now, 0.0, s.waiting + 1.0),
            top=meta.top_decay * s.top + top, top2=meta.top_decay * s.top2 + top * top,
        )  # fmt: skip
        if has_dead_band(p):
            new = learn_band(new, a, mixed.top, y, unit)
        new = choose(judged, new, s)
        loss = torch.where(judged[:, None, None], meta.soft[:, 1, None] * own.loss + lost[:, None], own.loss)
    return (
        new._replace(unit=learn_unit(s.unit, n, error, rounding, start)),
        own._replace(loss=loss, unit=learn_unit(own.unit, own.running.n, error, rounding, start)),
        unit,
        judged & bool(p.learned_gate),
    )
