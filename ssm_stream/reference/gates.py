"""The in-context gate of the streaming learner's definition; symbols in `learner.py`.

Two gates hold decayed regrets, two the decayed losses of the entity, two stack the expert predictions, two hold regrets
of each hour of the day and at each level; `views.py` combines the gates. Experts that are not active in an event have
the weight 0 in it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ssm_stream.core.constants import BEND, LOSS_CLIP, POOL_DECAY, ROUNDING, SITUATION_DECAY, STACK_CLIP, UNIT_RATE
from ssm_stream.core.shapes import LAST_TARGET, LEVELS, VIEWS, WINSOR, G, LearnerParams, has_dead_band
from ssm_stream.reference.attention import decline
from ssm_stream.reference.dead_band import hold, learn_band
from ssm_stream.reference.heads import Moments, sweep, sweep_again
from ssm_stream.reference.inputs import Inputs
from ssm_stream.reference.regrets import learn_sums, poly_weights, regrets, shares_of, with_shared
from ssm_stream.reference.state import EntityState, GateState, Meta, State, choose
from ssm_stream.reference.views import Seen, Situation, difference_of, learn_views, level_of, see

HOUR, LEVEL = 6, 7  # places of the gates by hour and by level


class Experts(NamedTuple):
    """Expert predictions a (B, T); active (B, T): those that count; present (B, T): those whose scope is there."""

    a: Tensor
    active: Tensor
    present: Tensor


class Mixed(NamedTuple):
    """weights (B, G, T) of the gates, made (B, G): their predictions; seen: by the views and the top gate
    yhat (B,): that, or in the dead band the last target; g (B, T): total weights; at: in which situation"""

    weights: Tensor
    made: Tensor
    seen: Seen
    yhat: Tensor
    g: Tensor
    at: Situation

    @property
    def top(self) -> Tensor:
        """(B,) the gates' prediction, before the dead band."""
        return self.seen.top


def possible(x: Inputs, yhat: Tensor) -> Tensor:
    """A prediction as far as the target can be so."""
    return torch.minimum(torch.maximum(yhat, x.least), x.most)


def mean_expert(a: Tensor, active: Tensor) -> Tensor:
    """Mean (B,) of the active experts."""
    return torch.where(active, a, 0.0).sum(1) / active.sum(1)


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


def situation_weights(s: GateState, hour: Tensor, level: Tensor, active: Tensor) -> Tensor:
    """ML-Poly by the regrets of the hour (B,), and at the level (B,), with a part of the slow gate's; (B, 2, T)."""
    rows, slow = torch.arange(len(hour)), (s.regret[:, 1], s.regret2[:, 1])
    one, shares = torch.ones(len(hour), 1, dtype=torch.float64), shares_of(level)
    hours, levels = (s.hour_regret, s.hour_regret2), (s.level_regret, s.level_regret2)
    by_hour = [with_shared(sums[rows, hour][:, None], one, of_all) for sums, of_all in zip(hours, slow, strict=True)]
    by_level = [with_shared(sums, shares, of_all) for sums, of_all in zip(levels, slow, strict=True)]
    return torch.stack(
        [poly_weights(by_hour[0], by_hour[1], active), poly_weights(by_level[0], by_level[1], active)], 1
    )


def mix(
    p: LearnerParams, meta: Meta, s: GateState, own: EntityState, x: Inputs, experts: Experts, hour: Tensor
) -> Mixed:
    """The gates' weights and the prediction. hour (B,): of the day"""
    a, active, _ = experts
    mean = mean_expert(a, active)
    if not p.learned_gate:
        g = active / active.sum(1, keepdim=True)
        made, even = mean[:, None].expand(-1, G), torch.full((len(mean), G), 1.0 / G, dtype=torch.float64)
        seen = Seen(even, mean[:, None].expand(-1, VIEWS), mean)
        return Mixed(g[:, None].expand(-1, G, -1), made, seen, possible(x, mean), g, Situation(hour, mean, mean))
    level = level_of(x, mean)
    weights = torch.cat(
        [
            poly_weights(s.regret, s.regret2, active[:, None]),
            loss_weights(meta.soft, own.loss, s.loss, s.losses, active),
            stack_weights(s.W, active),
            situation_weights(s, hour, level, active),
        ],
        1,
    )
    off = torch.where(active, a - mean[:, None], 0.0)
    made = mean[:, None] + torch.einsum("bgt,bt->bg", weights, off)
    made = torch.minimum(torch.maximum(made, x.low[:, None]), x.high[:, None])
    usual = usual_error(s, own, ROUNDING * mean.abs(), torch.zeros_like(mean))
    at = Situation(hour, level, difference_of(made, usual))
    seen = see(s, own, made, at)
    predicted = seen.top
    yhat = predicted
    if has_dead_band(p):
        rounding = ROUNDING * torch.maximum(predicted.abs(), a[:, LAST_TARGET].abs())
        yhat = hold(s, a, predicted, usual_error(s, own, rounding, torch.zeros_like(predicted)))
    return Mixed(weights, made, seen, possible(x, yhat), torch.einsum("bg,bgt->bt", seen.weights, weights), at)


def usual_error(s: GateState, own: EntityState, rounding: Tensor, otherwise: Tensor) -> Tensor:
    """The entity's usual absolute error (B,); the pool's for a new one, and for one that had none but rounding."""
    usual = torch.where(own.unit > rounding, own.unit, s.unit)
    return torch.where(usual > rounding, usual, otherwise)


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
    new, loss, view = s, own.loss, own.view
    if p.learned_gate:
        judge = [0, 1, HOUR, LEVEL]
        every = a[:, None].expand(-1, len(judge), -1)
        hour, rows, shares = mixed.at.hour, torch.arange(len(y)), shares_of(mixed.at.level)
        below = mixed.at.level.long().clamp(0, LEVELS - 2)
        least = torch.minimum(s.level_regret2[rows, below], s.level_regret2[rows, below + 1])
        squares = torch.cat([s.regret2, s.hour_regret2[rows, hour][:, None], least[:, None]], 1)
        r = torch.where(active[:, None], regrets(mixed.made[:, judge], every, y, unit, BEND, squares), 0.0)
        r, h, v = r[:, :2], r[:, 2], r[:, 3]
        decay = meta.poly_decay[:, None]
        mean = mean_expert(a, active)
        off = torch.where(active, (a - mean[:, None]) / unit[:, None], 0.0).clamp(-STACK_CLIP, STACK_CLIP)
        off = off[:, None].expand(-1, 2, -1)
        miss = ((y - mean) / unit).clamp(-STACK_CLIP, STACK_CLIP)[:, None] - (s.W * off).sum(-1)
        now = s.waiting >= max_waiting
        decays, ridge, huber = (part.expand_as(miss) for part in (meta.sweep_decay, meta.sweep_ridge, meta.sweep_huber))
        swept = now[:, None, None].expand_as(off)
        S, R, W = moments = sweep(Moments(s.S, s.R, s.W), off, decays, ridge, huber, miss, swept)
        quick = Moments(*(part[:, :1] for part in moments))
        quick = sweep_again(quick, ridge[:, :1], swept[:, :1])
        R, W = torch.cat([quick.R, R[:, 1:]], 1), torch.cat([quick.W, W[:, 1:]], 1)
        lost = torch.where(active, ((a - y[:, None]).abs() / unit[:, None]).clamp_max(LOSS_CLIP), LOSS_CLIP)
        lost = torch.where(present, lost, 0.0)
        new = s._replace(
            regret=decay * s.regret + r, regret2=decay * s.regret2 + r * r,
            hour_regret=s.hour_regret.index_put((rows, hour), SITUATION_DECAY * s.hour_regret[rows, hour] + h),
            hour_regret2=s.hour_regret2.index_put((rows, hour), SITUATION_DECAY * s.hour_regret2[rows, hour] + h * h),
            level_regret=learn_sums(s.level_regret, shares, SITUATION_DECAY, v),
            level_regret2=learn_sums(s.level_regret2, shares, SITUATION_DECAY, v * v),
            loss=POOL_DECAY * s.loss + lost, losses=POOL_DECAY * s.losses + 1.0,
            S=S, R=R, W=W, waiting=torch.where(now, 0.0, s.waiting + 1.0),
        )  # fmt: skip
        new, viewed = learn_views(meta, new, own, mixed.made, mixed.seen, mixed.at, y, unit)
        view = torch.where(judged[:, None, None], viewed.view, own.view)
        if has_dead_band(p):
            new = learn_band(new, a, mixed.top, y, unit)
        new = choose(judged, new, s)
        loss = torch.where(judged[:, None, None], meta.soft[:, 1, None] * own.loss + lost[:, None], own.loss)
    return (
        new._replace(unit=learn_unit(s.unit, n, error, rounding, start)),
        own._replace(loss=loss, view=view, unit=learn_unit(own.unit, own.running.n, error, rounding, start)),
        unit,
        judged & bool(p.learned_gate),
    )
