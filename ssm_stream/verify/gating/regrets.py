"""Weights by regrets in 64-bit floats, written out from their equations; symbols in `gates.py`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ssm_stream.core.constants import KNOWN_BY, PRIOR, SHARE_OF_ALL
from ssm_stream.core.shapes import LEVELS, Z_CLIP
from ssm_stream.verify.reference import Array


def by_regret(regret: Array, regret2: Array, active: NDArray[np.bool_]) -> Array:
    """(…, t): weights in proportion to r⁺ / (1 + r²) + prior, with prior = l² / (l + Σ r⁺ / (1 + r²))."""
    raw = np.where(active, np.maximum(regret, 0.0) / (1.0 + regret2), 0.0)
    raw = np.where(active, raw + PRIOR**2 / (PRIOR + raw.sum(-1, keepdims=True)), 0.0)
    weights: Array = raw / raw.sum(-1, keepdims=True)
    return weights


def regrets(made: Array, experts: Array, y: float, unit: float, bend: float, squares: Array | None = None) -> Array:
    """(g, t): slope · (made − expert) within ±5; slope = clip((made − y)/(bend unit), ±1)/max(unit, |made − y|/5).

    made (g,), experts (g or 1, t), squares (g, t): sums of squared regrets. As far as they are below KNOWN_BY, one
    beyond the target counts as it is alone: |slope| · (|made − y| − |expert − y|)
    """
    error = made - y
    slope = np.clip(error / (bend * unit), -1.0, 1.0) / np.maximum(unit, np.abs(error) / Z_CLIP)
    r = slope[:, None] * (made[:, None] - experts)
    if squares is not None:
        alone = np.abs(slope)[:, None] * (np.abs(error)[:, None] - np.abs(experts - y))
        share = np.maximum(1.0 - squares / KNOWN_BY, 0.0)
        r = np.where((experts - y) * error[:, None] < 0, r + share * (alone - r), r)
    clipped: Array = np.clip(r, -Z_CLIP, Z_CLIP)
    return clipped


def shares_of(place: float) -> Array:
    """(LEVELS,): how much of an event belongs to each of the places, two of which lie next to `place`."""
    shares: Array = np.maximum(1.0 - np.abs(np.arange(LEVELS) - place), 0.0)
    return shares


def with_shared(sums: Array, shares: Array, of_all: Array) -> Array:
    """Σ shares · sums, and a part of those of all events. sums (places, …), shares (places,), of_all (…)"""
    total: Array = np.tensordot(shares, sums, 1) + SHARE_OF_ALL * of_all
    return total


def learn_sums(sums: Array, shares: Array, decay: float, new: Array) -> None:
    """Add its share of an event to the sums of each place: s ← (1 − share (1 − decay)) s + share · new."""
    share = shares.reshape(-1, *[1] * (sums.ndim - 1))
    sums *= 1.0 - share * (1.0 - decay)
    sums += share * new
