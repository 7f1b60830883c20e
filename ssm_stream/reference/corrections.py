"""Corrected answers, of soft sensors whose labels come by themselves.

A head predicts once more, and adds of its last known error what usually comes again.

Symbols in `learner.py`; J heads are corrected (`corrected_heads`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ssm_stream.core.constants import CARRY_CLIP, CARRY_DECAY, CARRY_PRIOR
from ssm_stream.core.shapes import LearnerParams, corrected_heads
from ssm_stream.reference.gates import Experts
from ssm_stream.reference.inputs import Inputs
from ssm_stream.reference.state import EntityState, GateState


def _heads(p: LearnerParams, experts: Experts) -> tuple[Tensor, Tensor]:
    """Predictions (B, J) of the heads that are corrected, and which are active; a scope that is not there is not."""
    places = corrected_heads(p)
    there = torch.tensor([at < experts.a.shape[1] for at in places], dtype=torch.bool)
    at = torch.tensor([at if at < experts.a.shape[1] else 0 for at in places], dtype=torch.long)
    return experts.a[:, at], experts.active[:, at] & there


def correct(p: LearnerParams, s: GateState, own: EntityState, x: Inputs, experts: Experts) -> Experts:
    """Put a + ρ e in the places of the corrected answers: ρ = Σ e e′ / (Σ e² + prior), within ±1."""
    J = len(corrected_heads(p))
    if not J or p.heads_only or not p.learned_gate:
        return experts
    heads, active = _heads(p, experts)
    rho = (s.carry[:, 0] / (s.carry[:, 1] + CARRY_PRIOR)).clamp(-1.0, 1.0)
    made = torch.minimum(torch.maximum(heads + rho * own.missed, x.low[:, None]), x.high[:, None])
    first = p.bases - J

    def put(part: Tensor, new: Tensor) -> Tensor:
        return torch.cat([part[:, :first], new, part[:, p.bases :]], 1)

    return experts._replace(a=put(experts.a, torch.where(active, made, 0.0)), active=put(experts.active, active))


def learn_corrections(
    p: LearnerParams, s: GateState, own: EntityState, experts: Experts, y: Tensor, unit: Tensor
) -> tuple[GateState, EntityState]:
    """Σ e e′ ← λ Σ e e′ + e e′ and Σ e² ← λ Σ e² + e², in usual errors, e′ = y − a; then e ← e′."""
    if not corrected_heads(p):
        return s, own
    heads, active = _heads(p, experts)
    missed = y[:, None] - heads
    now, before = ((e / unit[:, None]).clamp(-CARRY_CLIP, CARRY_CLIP) for e in (missed, own.missed))
    carry = CARRY_DECAY * s.carry + torch.stack([now * before, before * before], 1)
    s = s._replace(carry=torch.where(active[:, None], carry, s.carry))
    return s, own._replace(missed=torch.where(active, missed, own.missed))
