"""Effects of changes in the streaming learner's definition: what the target does in the events from one on.

Where past targets are inputs, a change of a category, as of the product that is made, is known one event late, and so
is that a machine begins to work: a feature, its load, leaves zero, or comes to it. So a change to a value, and a change
from one, have effects on the target, in the event of the change and in the next ones, and the prediction is shifted by
their difference, times the entity's part in it. The effects of a pool follow what is missing from such predictions, as
a Kalman filter in which each effect has a variance of its own only; parts are regressions of what was missing on the
differences, shrunk by how sure the pool's is.

Symbols: J columns turn, the categories and then the features, of which a value is whether they are zero.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ssm_stream.core.constants import (
    EFFECT_FORGETS,
    EFFECT_KNOWN,
    EFFECT_NOISE,
    EFFECTS_PAUSE,
    PART_KEEP,
    PART_LEAN,
    PART_MOST,
    PART_ROUNDING,
    PART_SURE,
)
from ssm_stream.core.shapes import RESPONSE, VALUES, LearnerParams
from ssm_stream.reference.codes import PoolCodes
from ssm_stream.reference.state import EffectState, EntityState, Event

NOW, FORMER, RUN, TIMES, EXPLAINED, EXPECTED = range(6)
"""Rows of an entity's `category`: value and the one before, events since it changed, changes, sums of its part."""


class Turns(NamedTuple):
    """Of each column, (B, J): did it change less than RESPONSE events ago, between values that are known and have been
    shown; places of the effects of the change to the value now, and from the one before."""

    valid: Tensor
    come: Tensor
    gone: Tensor


class Effects(NamedTuple):
    """Of each column, (B, J): the two effects, what is known of them, and the entity's part in them."""

    come: Tensor
    gone: Tensor
    come_known: Tensor
    gone_known: Tensor
    part: Tensor

    @property
    def difference(self) -> Tensor:
        """What the two come to."""
        return self.come - self.gone

    @property
    def known(self) -> Tensor:
        """Whether there has been a change to the value now, and one from that before."""
        return (self.come_known > 0.0) & (self.gone_known > 0.0)


def _turning(p: LearnerParams, u: Tensor) -> Tensor:
    """(B, J) values of what turns; NaN where unknown."""
    features = u[:, : p.features]
    rests = torch.where(features.isnan(), math.nan, (features == 0.0).double())
    return torch.cat([u[:, p.features : p.features + p.categories], rests], 1)


def _changes(now: Tensor, last: Tensor) -> Tensor:
    return (now != last) & ~(now.isnan() & last.isnan())


def _places(p: LearnerParams, codes: tuple[PoolCodes, ...], values: Tensor) -> Tensor:
    """(B, J) places of values among those that their columns have shown; −1 where one is unknown or has not been."""
    places = torch.where(values.isnan(), -1, values.nan_to_num()).long()
    for b, of in enumerate(codes if p.categories else ()):
        for j in range(p.categories):
            shown = list(of.slots[p.features + j])
            value = float(values[b, j])
            places[b, j] = shown.index(value) if value in shown else -1
    return places


def _find_turns(p: LearnerParams, codes: tuple[PoolCodes, ...], own: EntityState, u: Tensor) -> Turns:
    last, former, run, times = own.category[:, :EXPLAINED].unbind(1)
    now, run = _turning(p, u), run + 1.0
    turns = _changes(now, last)
    lately = (own.running.n > 0)[:, None] & (turns | ((run < RESPONSE) & (times > 0.0)))
    since = torch.where(turns | ~lately, 0.0, run).long()
    before, after = _places(p, codes, torch.where(turns, last, former)), _places(p, codes, now)
    column = torch.arange(now.shape[1]) * VALUES
    row = now.shape[1] * VALUES
    return Turns(
        lately & (before >= 0) & (after >= 0) & (before != after),
        2 * since * row + column + after.clamp_min(0),
        (2 * since + 1) * row + column + before.clamp_min(0),
    )


def _part(effects: EffectState, category: Tensor) -> Tensor:
    """(B, J) the entity's part, 0 to PART_MOST: Σ change · difference / Σ difference², leaning on the pool's, and
    shrunk by Stein's rule: a part of the pool that is less than PART_SURE of its standard errors is none."""
    explained, expected, changed, events = effects.part.unbind(1)
    lean = PART_LEAN / events
    part = (category[:, EXPLAINED] + lean * explained) / (category[:, EXPECTED] + lean * expected)
    share = torch.where(explained > 0.0, explained / expected * (explained / changed), 0.0)  # of what changed
    doubt = PART_SURE**2 * (1.0 / share - 1.0).clamp_min(0.0) / events
    certainty = torch.where(share > 0.0, (1.0 - doubt).clamp_min(0.0), 0.0)
    return torch.where(expected > 0.0, certainty * part.clamp(0.0, PART_MOST), 0.0)


def _effects_of(effects: EffectState, turns: Turns, category: Tensor) -> Effects:
    by, known = effects.effect.flatten(1), effects.known.flatten(1)
    return Effects(
        by.gather(1, turns.come), by.gather(1, turns.gone), known.gather(1, turns.come), known.gather(1, turns.gone),
        _part(effects, category),
    )  # fmt: skip


@torch.no_grad()
def find_shifts(
    p: LearnerParams, effects: EffectState, codes: tuple[PoolCodes, ...], own: EntityState, event: Event
) -> Tensor:
    """(B,) what the prediction is shifted by; 0 for a new entity."""
    if not p.effects:
        return torch.zeros(len(event.e), dtype=torch.float64)
    turns = _find_turns(p, codes, own, event.u)
    of = _effects_of(effects, turns, own.category)
    return torch.where(turns.valid & of.known, of.part * of.difference, 0.0).sum(1)


@torch.no_grad()
def learn_effects(
    p: LearnerParams, effects: EffectState, codes: tuple[PoolCodes, ...], own: EntityState, u: Tensor, change: Tensor,
    reach: Tensor,
) -> tuple[EffectState, EntityState]:  # fmt: skip
    """The pool's effects and the entity's sums after an event.

    change (B,): of the target, less what is predicted of it without the shift; reach (B,): range of answers
    """
    change, reach = change.detach()[:, None], reach[:, None]
    turns, category = _find_turns(p, codes, own, u), own.category
    of = _effects_of(effects, turns, category)
    spreads = 1.0 / (1.0 + of.come_known), 1.0 / (1.0 + of.gone_known)
    parts = torch.where(of.known, of.part, 1.0) * of.difference
    shift, unknown = (
        torch.where(turns.valid & each, parts, 0.0).sum(1, keepdim=True) for each in (of.known, ~of.known)
    )
    error = change - shift - unknown
    noise = torch.where(turns.valid, spreads[0] + spreads[1], 0.0).sum(1, keepdim=True) + EFFECT_NOISE

    # What the others have not explained, by what this one was to.
    limit = PART_MOST * of.difference.abs()
    own_change = torch.minimum(torch.maximum(change - shift + of.part * of.difference, -limit), limit)
    products = own_change * of.difference, of.difference.square(), own_change.square(), torch.ones_like(limit)
    counts = (turns.valid & of.known & (of.difference.abs() > PART_ROUNDING * reach))[:, None]
    part = torch.where(counts, PART_KEEP * effects.part + torch.stack(products, 1), effects.part)
    sums = category[:, EXPLAINED:]
    sums = torch.where(counts, PART_KEEP * sums + torch.stack(products[:2], 1), sums)

    by, known = effects.effect.flatten(1), effects.known.flatten(1)
    for place, spread, sign in ((turns.come, spreads[0], 1.0), (turns.gone, spreads[1], -1.0)):
        gain, before = spread / noise, (by.gather(1, place), known.gather(1, place))
        now = (
            before[0] + sign * gain * error,
            (1.0 / (spread * (1.0 - EFFECT_FORGETS * gain)) - 1.0).clamp_max(EFFECT_KNOWN),
        )
        by, known = (
            array.scatter(1, place, torch.where(turns.valid, new, old))
            for array, new, old in zip((by, known), now, before, strict=True)
        )
    shape = effects.effect.shape
    return (
        EffectState(by.reshape(shape), known.reshape(shape), part),
        own._replace(category=torch.cat([category[:, :EXPLAINED], sums], 1)),
    )


def follow_categories(p: LearnerParams, codes: tuple[PoolCodes, ...], own: EntityState, event: Event) -> EntityState:
    """What turns, in an event, and for how long it has been what it is.

    After a pause a change may have been at any time since the event before: the next event is not the second of it.
    """
    if not p.effects:
        return own
    usual = torch.tensor([1000.0 * each.gap() for each in codes], dtype=torch.float64)
    paused = ((usual > 0.0) & (event.ts - own.time > EFFECTS_PAUSE * usual))[:, None]
    last, former, run, times = own.category[:, :EXPLAINED].unbind(1)
    now, new = _turning(p, event.u), (own.running.n == 0)[:, None]
    turns = ~new & _changes(now, last)
    run = torch.where(new | turns, torch.where(paused & ~new, float(RESPONSE), 0.0), run + 1.0)
    rows = [now, torch.where(turns, last, former), run, times + turns.double()]
    return own._replace(category=torch.cat([torch.stack(rows, 1), own.category[:, EXPLAINED:]], 1))
