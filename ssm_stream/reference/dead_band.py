"""The dead band of the last known target: where the gates predict hardly anything else, it is the prediction.

Symbols in `learner.py`; further
    d  distance of the gates' prediction from the last target, in usual errors
"""

from __future__ import annotations

import torch
from torch import Tensor

from ssm_stream.core.constants import BAND_CLIP, BAND_DECAY, BAND_HALF, BAND_PRIOR
from ssm_stream.core.shapes import BANDS, LAST_TARGET
from ssm_stream.reference.regrets import shares_of
from ssm_stream.reference.state import GateState


def _shares(distance: Tensor, unit: Tensor) -> Tensor:
    """(B, BANDS + 1): how much of the place BANDS · d / (d + ¼) belongs to each of the places 0 … BANDS next to it."""
    return shares_of(BANDS * (distance / (distance + BAND_HALF * unit)), BANDS + 1)


def hold(s: GateState, a: Tensor, predicted: Tensor, unit: Tensor) -> Tensor:
    """(B,) (1 − h) · predicted + h · last; h = clip(1 − Σ gain / √(Σ gain² + prior), 0, 1) at d, 0 at infinity.

    a (B, T): of the experts; predicted (B,): by the gates; unit (B,): usual error, 0 while there is none
    """
    last, known = a[:, LAST_TARGET], unit > 0
    shares = _shares((predicted - last).abs(), torch.where(known, unit, 1.0))
    held = (1.0 - s.band[:, 0] / (s.band[:, 1] + BAND_PRIOR).sqrt()).clamp(0.0, 1.0)
    part = torch.where(known, (shares[:, :BANDS] * held).sum(1), 0.0)
    return (1.0 - part) * predicted + part * last


def learn_band(s: GateState, a: Tensor, predicted: Tensor, y: Tensor, unit: Tensor) -> GateState:
    """Σ gain ← λ Σ gain + gain and Σ gain² likewise, at d; gain = clip((|y − last| − |y − predicted|) / unit, ±4)."""
    last = a[:, LAST_TARGET]
    gain = (((y - last).abs() - (y - predicted).abs()) / unit).clamp(-BAND_CLIP, BAND_CLIP)[:, None]
    shares = _shares((predicted - last).abs(), unit)[:, :BANDS]
    return s._replace(band=BAND_DECAY * s.band + torch.stack([shares * gain, shares * gain * gain], 1))
