"""Wild readings of the streaming learner's definition: is one believed? Symbols in `learner.py`.

A reading u is wild where it is off its feature's mean m, and off the last value, by more than ten deviations:
(u − m)² > 100 variance, and (u − last)² > 100 times the mean squared change. It is taken for unknown, or as it is,
whichever has predicted such events of the pool better. A bad reading is rarely in company: where several are wild the
plant has changed, and all are taken as they are. So is what has been wild for ten events, and what may be a category.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ssm_stream.core.constants import BELIEF_CLIP, BELIEF_KEEP, ROUNDING, WILD_FROM, WILD_MOST
from ssm_stream.core.shapes import WINSOR, LearnerParams
from ssm_stream.reference.gates import usual_error
from ssm_stream.reference.state import EntityState, Event, State


class Doubt(NamedTuple):
    """wild (B, features) bool: the wild reading, at most one a row; believes (B,) bool: is it taken as it is?
    otherwise (B,): what would be predicted if that were the other way round"""

    wild: Tensor
    believes: Tensor
    otherwise: Tensor


def find_wild(p: LearnerParams, s: State, own: EntityState, event: Event) -> Tensor:
    """(B, features) bool."""
    age, known, _, moved = own.holding.unbind(1)
    u, f = event.u[:, : p.features], p.features
    off, change = (u - own.running.v_mean[:, :f]) ** 2, (u - own.u_last[:, :f]) ** 2
    most = WINSOR * WINSOR
    far = (off > most * own.running.v_var[:, :f]) & (change * known > most * moved)
    wild = far & (moved > 0) & (known > WILD_FROM) & (age < WILD_MOST)
    wild = wild & (wild.sum(1) == 1)[:, None]
    if wild.any():
        none = torch.tensor([[bool(s.codes) and s.codes[b].dead[j] for j in range(f)] for b in range(len(u))])
        wild = wild & none
    return wild


def with_unknown(event: Event, where: Tensor) -> Event:
    """The event with some features (B, features) unknown."""
    f = where.shape[1]
    u = event.u[:, :f]
    return event._replace(u=torch.cat([torch.where(where, math.nan, u), event.u[:, f:]], 1))


def learn_belief(s: State, own: EntityState, doubt: Doubt, yhat: Tensor, y: Tensor) -> State:
    """believed ← 0.9 believed + clip((|y − ŷ unknown| − |y − ŷ as it is|) / unit, ±3), of the wild feature."""
    error, other = (y - yhat).abs(), (y - doubt.otherwise).abs()
    unit = usual_error(s.gates, own, ROUNDING * y.abs(), torch.maximum(error, other))
    gain = ((other - error) / torch.where(unit > 0, unit, 1.0)).clamp(-BELIEF_CLIP, BELIEF_CLIP)
    gain = torch.where(doubt.believes, gain, -gain)[:, None]
    here = doubt.wild & (unit > 0)[:, None]
    return s._replace(believed=torch.where(here, BELIEF_KEEP * s.believed + gain, s.believed))
