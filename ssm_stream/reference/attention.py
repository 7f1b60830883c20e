"""Attention of the streaming learner's definition: corrections of the moment heads from past situations like this one.

The keys are the inputs of the last `window` events; symbols in `learner.py`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ssm_stream.core.constants import AGED, FLOOR, NEAR, NEAR_LOG, NEAR_PAST, NEAR_PLAIN, NEAR_RATE
from ssm_stream.core.shapes import LOG_RESIDUAL, LOG_VALUE, PLAIN, RESIDUAL, LearnerParams
from ssm_stream.reference.state import HeadsState

SMALL = 1e-3  # of a width: keys that all stand on one point are alike
NARROW = 0.3  # of the usual distance of the nearest key


class Attended(NamedTuple):
    """What attention makes of an event.

    experts (B, 4 or 5), log_experts (B, 3 or 0): its predictions; nearest (B, 4): distance of the nearest key, by
    metric; past (B, lags): the targets before
    """

    experts: Tensor
    log_experts: Tensor
    nearest: Tensor
    past: Tensor


def decline(d: Tensor) -> Tensor:
    """(1 − d/256)²⁵⁶ where d < 256, else 0: about exp(−d)."""
    return (1.0 - d / 256.0).clamp_min(0.0) ** 256


def metric(W: Tensor, lead: int) -> Tensor:
    """aᵢ² / Σ a² with aᵢ = 0.05 + |Wᵢ| / max |W|, (B, D − 1); the sum over the `lead` numbers only, not the codes."""
    size = W[:, 1:].abs()
    most = size.amax(1, keepdim=True).clamp_min(1e-9) if size.shape[1] else 1.0
    squares = (FLOOR + size / most).square()
    return squares / squares[:, :lead].sum(1, keepdim=True).clamp_min(1e-9)


def distances(keys: Tensor, x: Tensor, weights: Tensor | float) -> Tensor:
    """Σᵢ wᵢ (xᵢ − keyᵢ)², (B, window); keys (B, window, d), x (B, d), weights (B, d)."""
    off = (x[:, None] - keys).square()
    return off.sum(2) * weights if isinstance(weights, float) else torch.einsum("bwd,bd->bw", off, weights)


def attend_to(distance: Tensor, nearest: Tensor, width: Tensor, held: Tensor) -> Tensor:
    """Weights of the keys, (B, window), with sum 1; those not held yet have none."""
    raw = torch.where(held, decline((distance - nearest[:, None]) / width[:, None]), 0.0)
    return raw / (raw.sum(1, keepdim=True) + 1e-12)


def attend(p: LearnerParams, h: HeadsState, x: Tensor, past: Tensor, norm: bool) -> Attended:
    """Answers of the attention.

    In the metric of the first moment head's |W|: its prediction corrected by the mean residual of the like situations
    (`local`), again with distances growing by age (`aged`), and their targets (`raw`); by distance without a
    metric among the last PLAIN events (`plain`), and by distance of the targets before (`alike`). In log space, by the
    twin head: local, aged and the value itself.
    """
    lead = 2 * p.F if norm else p.F
    place = torch.arange(p.window)
    held = place < h.inserted[:, None]
    age = (h.inserted[:, None] - 1 - place) % p.window

    def shortest(distance: Tensor) -> Tensor:
        return torch.where(h.inserted > 0, torch.where(held, distance, math.inf).amin(1), 0.0)

    def mean(weights: Tensor, values: Tensor) -> Tensor:
        return (weights * values).sum(1)

    def measure(m: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """distances, the nearest, the head's prediction here and at the keys."""
        W = h.W[:, m]
        distance = distances(h.keys[..., 1:], x[:, 1:], metric(W, lead))
        return distance, shortest(distance), (W * x).sum(1), torch.einsum("bwd,bd->bw", h.keys, W)

    closest = [torch.zeros_like(h.inserted)] * 4
    distance, closest[NEAR], value, fit = measure(0)
    width = NARROW * (h.near[:, NEAR] + SMALL)
    target = h.held[..., RESIDUAL]
    alike = attend_to(distance, closest[NEAR], width, held)
    recent = attend_to(distance + width[:, None] * AGED * age, closest[NEAR], width, held)
    experts = [value + mean(alike, target - fit), value + mean(recent, target - fit), mean(alike, target)]
    distance = torch.where(age < PLAIN, distances(h.keys[..., 1:], x[:, 1:], 1.0 / max(lead, 1)), 1e9)
    closest[NEAR_PLAIN] = shortest(distance)
    experts.append(
        mean(attend_to(distance, closest[NEAR_PLAIN], NARROW * (h.near[:, NEAR_PLAIN] + SMALL), held), target)
    )
    if p.lags:
        distance = distances(h.past, past, 1.0 / p.lags)
        closest[NEAR_PAST] = shortest(distance)
        experts.append(mean(attend_to(distance, closest[NEAR_PAST], h.near[:, NEAR_PAST] + SMALL, held), target))
    log_experts = []
    if p.log:
        distance, closest[NEAR_LOG], value, fit = measure(p.M)
        wide = h.near[:, NEAR_LOG] + SMALL
        width, target = NARROW * wide, h.held[..., LOG_RESIDUAL]
        alike = attend_to(distance, closest[NEAR_LOG], wide, held)
        recent = attend_to(distance + width[:, None] * AGED * age, closest[NEAR_LOG], width, held)
        narrow = attend_to(distance, closest[NEAR_LOG], width, held)
        log_experts = [value + mean(alike, target - fit), value + mean(recent, target - fit)]
        log_experts.append(mean(narrow, h.held[..., LOG_VALUE]))
    return Attended(
        torch.stack(experts, 1),
        torch.stack(log_experts, 1) if log_experts else x.new_zeros(len(x), 0),
        torch.stack(closest, 1),
        past,
    )


def hold(p: LearnerParams, h: HeadsState, seen: Attended, x: Tensor, targets: Tensor, logs: Tensor) -> HeadsState:
    """The event takes the oldest key's place; the usual nearest distances move towards this event's.

    targets (B, 4) on each scale, the last two of them held where `logs` (B,).
    """
    here = torch.arange(p.window) == (h.inserted % p.window)[:, None]
    on = torch.stack([torch.ones_like(logs), torch.ones_like(logs), logs, logs], 1)
    rate = (1.0 / (h.inserted + 1.0)).clamp_min(NEAR_RATE)[:, None]
    near = torch.where(h.inserted[:, None] == 1, seen.nearest + SMALL, h.near)
    near = near + rate * (seen.nearest - near)
    return h._replace(
        keys=torch.where(here[..., None], x[:, None], h.keys),
        held=torch.where(here[..., None] & on[:, None], targets[:, None], h.held),
        past=torch.where(here[..., None], seen.past[:, None], h.past),
        near=torch.where(h.inserted[:, None] > 0, near, h.near),
        inserted=h.inserted + 1.0,
    )
