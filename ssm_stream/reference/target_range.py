"""The range of a pool's targets, in the definition, and how far predictions may go."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ssm_stream.core.constants import OFTEN_AT_END, POSITIVE_FROM
from ssm_stream.core.shapes import FLOOR_RATE, WINSOR
from ssm_stream.reference.state import State


def possible_targets(s: State) -> tuple[Tensor, Tensor]:
    """Least and greatest prediction (B,): ends of the range that many targets were at, and zero if none was below."""
    known = s.running.n >= POSITIVE_FROM
    at_least, at_most = (known[:, None] & (s.ends >= OFTEN_AT_END)).unbind(1)
    least = torch.where(at_least, s.low, torch.where(~s.negative & known, 0.0, -math.inf))
    return least, torch.where(at_most, s.high, math.inf)


def widened(s: State, y: Tensor, kept: Tensor) -> State:
    """The range with target y; what is not kept widens it by ten times what it was. y, kept (B,)"""
    first = s.running.n == 0
    low, high = torch.where(first, y, s.low), torch.where(first, y, s.high)
    most = torch.where(kept == y, math.inf, WINSOR * (high - low))
    rate = (1.0 / (s.running.n + 1.0)).clamp_min(FLOOR_RATE)[:, None]
    ends = s.ends + rate * ((y[:, None] == torch.stack([low, high], 1)).double() - s.ends)
    return s._replace(
        low=torch.minimum(low, torch.maximum(y, low - most)),
        high=torch.maximum(high, torch.minimum(y, high + most)),
        ends=torch.where(torch.stack([y < low, y > high], 1), 0.0, ends),
        negative=s.negative | (y < 0),
    )
