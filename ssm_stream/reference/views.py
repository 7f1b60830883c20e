"""The views of the gates, of the streaming learner's definition; symbols in `learner.py`.

A view weighs the gates by their regrets: one by those of all events, soon forgotten, the others by those of a
situation: of the hour, of the entity, where the gates differ so much, at this level. The top gate weighs the views.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ssm_stream.core.constants import DIFFERENCE_HALF, LEVEL_CLIP, VIEW_BEND, VIEW_DECAY
from ssm_stream.core.shapes import HOURS, LEVELS, VALUE
from ssm_stream.reference.inputs import Inputs
from ssm_stream.reference.regrets import learn_sums, poly_weights, regrets, shares_of, with_shared
from ssm_stream.reference.state import EntityState, GateState, Meta


class Situation(NamedTuple):
    """What a view's regrets belong to: hour (B,) of the day; level, difference (B,): places from 0 to LEVELS − 1."""

    hour: Tensor
    level: Tensor
    difference: Tensor


class Seen(NamedTuple):
    """weights (B, G): of the gates, over all views; views (B, VIEWS): their predictions; top (B,): of the top gate"""

    weights: Tensor
    views: Tensor
    top: Tensor


def level_of(x: Inputs, mean: Tensor) -> Tensor:
    """Place (B,) of an answer by the pool's mean and deviation of targets: half of all lie within one deviation."""
    off, deviation = mean - x.q_mean[:, 0, VALUE], x.q_deviation[:, 0, VALUE]
    z = torch.where(deviation > 0, off / torch.where(deviation > 0, deviation, 1.0), 0.0).clamp(-LEVEL_CLIP, LEVEL_CLIP)
    return 0.5 * (LEVELS - 1) * (1.0 + z / (1.0 + z.abs()))


def difference_of(made: Tensor, unit: Tensor) -> Tensor:
    """Place (B,) by how far the gates differ: their mean distance from their mean, in usual errors. made (B, G)"""
    off = (made - made.mean(1, keepdim=True)).abs().mean(1)
    known = unit > 0  # without a usual error they are as far apart as can be
    return (LEVELS - 1) * torch.where(known, off / (off + DIFFERENCE_HALF * torch.where(known, unit, 1.0)), 1.0)


def _in_hour(hour: Tensor) -> Tensor:
    return (torch.arange(HOURS) == hour[:, None]).double()


def see(s: GateState, own: EntityState, made: Tensor, at: Situation) -> Seen:
    """The top gate's prediction, from those of the gates, made (B, G)."""
    one = torch.ones(len(made), 1, dtype=torch.float64)
    sums = torch.stack(
        [
            s.view,
            with_shared(s.hour_view, _in_hour(at.hour), s.view),
            with_shared(own.view[:, None], one, s.view),
            with_shared(s.difference_view, shares_of(at.difference), s.view),
            with_shared(s.level_view, shares_of(at.level), s.view),
        ],
        1,
    )
    every = torch.ones(1, dtype=torch.bool)
    weights = poly_weights(sums[:, :, 0], sums[:, :, 1], every)
    views = torch.einsum("bvg,bg->bv", weights, made)
    top = poly_weights(s.top, s.top2, every)
    return Seen(torch.einsum("bv,bvg->bg", top, weights), views, (top * views).sum(1))


def learn_views(
    meta: Meta, s: GateState, own: EntityState, made: Tensor, seen: Seen, at: Situation, y: Tensor, unit: Tensor
) -> tuple[GateState, EntityState]:
    """Judge gates and views by targets y (B,)."""
    r = regrets(seen.views, made[:, None].expand(-1, seen.views.shape[1], -1), y, unit, VIEW_BEND)
    lately, hour, entity, difference, level = torch.stack([r, r * r], 2).unbind(1)  # (B, 2, G) each
    top = regrets(seen.top[:, None], seen.views[:, None], y, unit, VIEW_BEND)[:, 0]
    new = s._replace(
        view=meta.poly_decay[0] * s.view + lately,
        hour_view=learn_sums(s.hour_view, _in_hour(at.hour), VIEW_DECAY, hour),
        difference_view=learn_sums(s.difference_view, shares_of(at.difference), VIEW_DECAY, difference),
        level_view=learn_sums(s.level_view, shares_of(at.level), VIEW_DECAY, level),
        top=meta.top_decay * s.top + top,
        top2=meta.top_decay * s.top2 + top * top,
    )
    return new, own._replace(view=VIEW_DECAY * own.view + entity)
