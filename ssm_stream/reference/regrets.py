"""Weights by regrets, of the streaming learner's definition: ML-Poly, and by situation; symbols in `learner.py`.

A situation that is a number lies between two of LEVELS places, which share an event and are interpolated.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ssm_stream.core.constants import KNOWN_BY, PRIOR, SHARE_OF_ALL
from ssm_stream.core.shapes import LEVELS, Z_CLIP


def poly_weights(regret: Tensor, regret2: Tensor, active: Tensor) -> Tensor:
    """ML-Poly: weights in proportion to r⁺ / (1 + r²) + prior, with prior = l² / (l + Σ r⁺ / (1 + r²)); (…, T).

    The prior fades as evidence comes in and keeps the weights continuous where all regrets are near zero.
    """
    raw = torch.where(active, regret.clamp_min(0.0) / (1.0 + regret2), 0.0)
    raw = torch.where(active, raw + PRIOR**2 / (PRIOR + raw.sum(-1, keepdim=True)), 0.0)
    return raw / raw.sum(-1, keepdim=True)


def regrets(
    made: Tensor, experts: Tensor, y: Tensor, unit: Tensor, bend: float, squares: Tensor | None = None
) -> Tensor:
    """r = slope · (made − expert) / max(unit, |made − y| / 5), within ±5; slope = clip((made − y) / (bend unit), ±1).

    A wild target's regrets are in units of its own error, so that it weighs no more than a bad one. made (B, g),
    experts (B, g, T), y and unit (B,), squares (B, g, T): sums of squared regrets; as far as they are below
    KNOWN_BY, one beyond the target counts as it is alone: r = |slope| (|made − y| − |expert − y|)
    """
    error = made - y[:, None]
    slope = (error / (bend * unit[:, None])).clamp(-1.0, 1.0)
    slope = slope / torch.maximum(unit[:, None], error.abs() / Z_CLIP)
    r = slope[..., None] * (made[..., None] - experts)
    if squares is not None:
        over = experts - y[:, None, None]
        alone = slope.abs()[..., None] * (error.abs()[..., None] - over.abs())
        share = (1.0 - squares / KNOWN_BY).clamp_min(0.0)
        r = torch.where(over * error[..., None] < 0, r + share * (alone - r), r)
    return r.clamp(-Z_CLIP, Z_CLIP)


def shares_of(place: Tensor, count: int = LEVELS) -> Tensor:
    """(B, count): how much of an event belongs to each of the places, two of which lie next to `place` (B,)."""
    first = place.long().clamp(0, count - 2)[:, None]
    part, places = place[:, None] - first, torch.arange(count)
    return torch.where(places == first, 1.0 - part, torch.where(places == first + 1, part, 0.0))


def with_shared(sums: Tensor, shares: Tensor, shared: Tensor) -> Tensor:
    """Σ shares · sums, and a part of those of all events. sums (B, places, …), shares (B, places), shared (B, …)"""
    return torch.einsum("bp,bp...->b...", shares, sums) + SHARE_OF_ALL * shared


def learn_sums(sums: Tensor, shares: Tensor, decay: float, new: Tensor) -> Tensor:
    """Sums of each place with its share of an event: s ← (1 − share (1 − decay)) s + share · new."""
    share = shares.reshape(*shares.shape, *[1] * (sums.dim() - 2))
    return (1.0 - share * (1.0 - decay)) * sums + share * new[:, None]
