"""Effects of categories in the streaming learner's definition: what the target does in the events from a change on.

Where past targets are inputs, a change of a category, as of the product that is made, is known one event late. So a
change to a value, and a change from one, have effects on the target, in the event of the change and in the next ones,
and the prediction is shifted by their difference, times the entity's part in it. The effects of a pool follow what is
missing from such predictions, as a Kalman filter in which each effect has a variance of its own only; parts are
regressions of what was missing on the differences. Bookkeeping in plain numbers, as of codes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ssm_stream.core.constants import EFFECT_KNOWN, EFFECT_NOISE, PART_KEEP, PART_LEAN, PART_MOST, PART_ROUNDING
from ssm_stream.core.shapes import RESPONSE, LearnerParams
from ssm_stream.reference.codes import Array, PoolCodes
from ssm_stream.reference.state import EntityState, Event

NOW, FORMER, RUN, TIMES, EXPLAINED, EXPECTED = range(6)
"""Rows of an entity's `category`: value and the one before, events since it changed, changes, sums of its part."""
POOL_EXPLAINED, POOL_EXPECTED, POOL_EVENTS = range(3)
"""Rows of a pool's `part`."""


class Turn(NamedTuple):
    """A change of category j `since` events ago, from one value to another: their places among those shown."""

    j: int
    since: int
    before: int
    now: int


def _turns(p: LearnerParams, codes: PoolCodes, category: Array, u: Array) -> Iterator[Turn]:
    """Of each category that changed less than RESPONSE events ago, where both values are known and have been shown."""
    for j in range(p.categories):
        last, now, run = category[NOW, j], u[p.features + j], int(category[RUN, j]) + 1
        turns = bool(now != last and not (math.isnan(now) and math.isnan(last)))
        if not turns and (run >= RESPONSE or category[TIMES, j] == 0):
            continue
        shown, before = list(codes.slots[p.features + j]), last if turns else category[FORMER, j]
        if before in shown and now in shown and before != now:
            yield Turn(j, 0 if turns else run, shown.index(before), shown.index(now))


def _effects(turn: Turn) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Places of the effects of the change to the value now, and from the one before."""
    return (2 * turn.since, turn.j, turn.now), (2 * turn.since + 1, turn.j, turn.before)


def _difference(codes: PoolCodes, turn: Turn) -> float:
    """What the two effects come to."""
    come, gone = _effects(turn)
    return float(codes.effect[come] - codes.effect[gone])


def _known(codes: PoolCodes, turn: Turn) -> bool:
    """Whether there has been a change to the value now, and one from that before."""
    return all(codes.effect_known[each] > 0.0 for each in _effects(turn))


def _part(codes: PoolCodes, category: Array, j: int) -> float:
    """The entity's part, 0 to PART_MOST: Σ change · difference / Σ difference², leaning on the pool's."""
    explained, expected, events = codes.part[:, j]
    if expected <= 0:
        return 0.0
    lean = PART_LEAN / events
    part = (category[EXPLAINED, j] + lean * explained) / (category[EXPECTED, j] + lean * expected)
    return float(min(max(part, 0.0), PART_MOST))


def find_shifts(p: LearnerParams, codes: tuple[PoolCodes, ...], own: EntityState, event: Event) -> Tensor:
    """(B,) what the prediction is shifted by; 0 for a new entity."""
    shifts = torch.zeros(len(event.e), dtype=torch.float64)
    for b in range(len(shifts) if p.effects else 0):
        category, u = own.category[b].cpu().numpy(), event.u[b].cpu().numpy()
        if own.running.n[b] > 0:
            shifts[b] = sum(
                _part(codes[b], category, turn.j) * _difference(codes[b], turn)
                for turn in _turns(p, codes[b], category, u)
                if _known(codes[b], turn)
            )
    return shifts


def learn_effects(
    p: LearnerParams, before: PoolCodes, category: Array, u: Array, change: float, shift: float, reach: float
) -> tuple[PoolCodes, Array]:
    """The pool's effects and the entity's sums after an event.

    change: of the target, less what is predicted of it without the shift; shift: as it was predicted; reach: range of
        answers
    """
    codes, category = before.copied(), category.copy()
    turns = list(_turns(p, codes, category, u))
    expected, variance = 0.0, 0.0
    known = [_known(codes, turn) for turn in turns]
    differences = [_difference(codes, turn) for turn in turns]
    parts = [_part(codes, category, turn.j) for turn in turns]
    for turn, usual, difference, part in zip(turns, known, differences, parts, strict=True):
        variance += sum(1.0 / (1.0 + codes.effect_known[each]) for each in _effects(turn))
        expected += part * difference if usual else difference
    error, noise = change - expected, variance + EFFECT_NOISE
    for turn, usual, difference, part in zip(turns, known, differences, parts, strict=True):
        # What the others have not explained, by what this one was to.
        if usual and abs(difference) > PART_ROUNDING * reach:
            limit = PART_MOST * abs(difference)
            own = min(max(change - shift + part * difference, -limit), limit)
            for sums in (category[EXPLAINED:], codes.part):
                sums[0, turn.j] = PART_KEEP * sums[0, turn.j] + own * difference
                sums[1, turn.j] = PART_KEEP * sums[1, turn.j] + difference * difference
            codes.part[POOL_EVENTS, turn.j] = PART_KEEP * codes.part[POOL_EVENTS, turn.j] + 1.0
        for each, sign in zip(_effects(turn), (1.0, -1.0), strict=True):
            spread = 1.0 / (1.0 + codes.effect_known[each])
            gain = spread / noise
            codes.effect[each] += sign * gain * error
            codes.effect_known[each] = min(1.0 / (spread * (1.0 - gain)) - 1.0, EFFECT_KNOWN)
    return codes, category


def follow_categories(p: LearnerParams, own: EntityState, event: Event) -> EntityState:
    """The categories of an event, and how long they have been what they are."""
    if not p.effects:
        return own
    last, former, run, times = own.category[:, :EXPLAINED].unbind(1)
    now, new = event.u[:, p.features : p.features + p.categories], (own.running.n == 0)[:, None]
    turns = ~new & (now != last) & ~(now.isnan() & last.isnan())
    run = torch.where(new | turns, 0.0, run + 1.0)
    rows = [now, torch.where(turns, last, former), run, times + turns.double()]
    return own._replace(category=torch.cat([torch.stack(rows, 1), own.category[:, EXPLAINED:]], 1))
