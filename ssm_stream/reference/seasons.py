"""What a target was at this time, in the definition: a day ago, and usually at this time of the week and of the day.

Kept by quarters of an hour of local time, and learned when one is over: before, it would give away the target that has
just come. Symbols in `learner.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ssm_stream.core.constants import HALF_SECOND, QUARTER, SEASON_REACH, USUAL_RATE
from ssm_stream.core.shapes import DAY_BINS, HOURS, SEASONAL, WEEK_BINS, LearnerParams
from ssm_stream.reference.state import EntityState, Event, State


class Quarter(NamedTuple):
    """A quarter of an hour: number since 1970, and place in the week, (B,) int64 each."""

    number: Tensor
    place: Tensor


def quarter_of(p: LearnerParams, event: Event, ahead: float = 0.0) -> Quarter:
    """The quarter of the hour, in the hour of the week, of local time."""
    number = torch.floor((event.ts + ahead + HALF_SECOND) / QUARTER).long()
    return Quarter(number, 4 * (HOURS * event.steps[:, 1] + event.steps[:, 0]) + (number + p.quarters) % 4)


def nearest(of: Tensor, places: Tensor, reach: Tensor, there: Callable[[int], Tensor] | None = None) -> Tensor:
    """The known values of (B, n) nearest to places (B, k), at most `reach` (B,) off; the earlier one of two."""
    found = torch.full_like(places, math.nan, dtype=of.dtype)
    for off in range(int(reach.max()) + 1):
        for at in {-off: None, off: None}:
            value = of.gather(1, (places + at) % of.shape[1])
            take = (off <= reach) & there(at) if there else off <= reach
            found = torch.where(found.isnan() & take[:, None], value, found)
    return found


def recalled(own: EntityState, at: Quarter, reach: Tensor) -> Tensor:
    """The target (B, 3) a day ago, usually at this time of the week, usually at this time of the day."""
    back = at.number - DAY_BINS - own.bin[:, 0].long()  # those of the last day are −96 to −1
    of_day = (at.place % DAY_BINS)[:, None]
    ago = nearest(own.day, of_day, reach, lambda off: (back + off < 0) & (back + off >= -DAY_BINS))
    days = nearest(own.season, of_day + DAY_BINS * torch.arange(7), reach)
    return torch.cat([ago, days.gather(1, at.place[:, None] // DAY_BINS), days.nanmean(1, keepdim=True)], 1)


def answer_seasons(p: LearnerParams, s: State, own: EntityState, event: Event, on: Tensor) -> Tensor:
    """Those three, then, where a last target is known, it and what each has changed since; (B, seasonal), NaN unknown.

    Within the quarter of the last target nothing has changed: such answers would be believed for that target.

    on (B,): has the pool's first event been a day ago, and do its events come often enough?
    """
    if not p.seasons:
        return own.bin[:, :0]
    if not on.any():
        return torch.full((len(on), SEASONAL * (1 + (p.lags > 0 or p.known))), math.nan, dtype=torch.float64)
    gaps = torch.tensor([codes.gap() for codes in s.codes], dtype=torch.float64)
    reach = torch.where(on, SEASON_REACH * 1000.0 * gaps / QUARTER, 0.0).long()
    at = quarter_of(p, event, p.ahead)
    out = recalled(own, at, reach)
    if p.lags or p.known:
        last = Quarter(own.bin[:, 0].long(), own.bin[:, 1].long())
        changed = own.y_last[:, :1] + (out - recalled(own, last, reach))
        out = torch.cat([out, torch.where((at.number == last.number)[:, None], math.nan, changed)], 1)
    return torch.where((on & (own.bin[:, 3] > 0))[:, None], out, math.nan)


def usual_hours(p: LearnerParams, own: EntityState, event: Event) -> Tensor:
    """Usual target (B, 2) of the hour that has now in its middle, and of that hour of the week; NaN unknown.

    Means of quarters, of which the first and the last count by the part that is within half an hour.
    """
    at = quarter_of(p, event, p.ahead)
    over = ((event.ts + p.ahead) / QUARTER - at.number).clamp_min(0.0)  # part of this quarter
    places = at.place[:, None, None] % DAY_BINS + DAY_BINS * torch.arange(7)[:, None] + torch.arange(-2, 3)
    values = own.season.gather(1, (places % WEEK_BINS).flatten(1)).reshape(places.shape)
    one = torch.ones_like(over)
    weights = torch.where(values.isnan(), 0.0, torch.stack([1.0 - over, one, one, one, over], 1)[:, None])
    sums = torch.stack([(values.nan_to_num() * weights).sum(2), weights.sum(2)])  # (2, B, 7)
    today = sums[:, torch.arange(len(over)), at.place // DAY_BINS]
    total, known = torch.stack([sums.sum(2), today], 2)
    return torch.where((known > 0) & (own.bin[:, 3:] > 0), total / known, math.nan)


def learn_seasons(p: LearnerParams, own: EntityState, event: Event, y: Tensor) -> EntityState:
    """A target: the quarter before it is over, unless it is of the same one, or of one that is over already."""
    if not p.seasons:
        return own
    at = quarter_of(p, event)
    number, place, total, count = own.bin.unbind(1)
    new = count == 0
    day, season = (torch.where(new[:, None], math.nan, part) for part in (own.day, own.season))
    older, newer = ~new & (at.number < number), ~new & (at.number > number)
    closed = Quarter(torch.where(older, at.number, number.long()), torch.where(older, at.place, place.long()))
    mean, over = torch.where(older, y, total / count), (older | newer)[:, None]
    usual = season.gather(1, closed.place[:, None])[:, 0]
    usual = torch.where(usual.isnan(), mean, usual + USUAL_RATE * (mean - usual))
    season = torch.where(over, season.scatter(1, closed.place[:, None], usual[:, None]), season)
    recent = over & (closed.number >= number - DAY_BINS)[:, None]
    day = torch.where(recent, day.scatter(1, (closed.place % DAY_BINS)[:, None], mean[:, None]), day)
    # Of the quarters in between nothing is known: (place − i) mod 96 for i = 1 … skipped.
    skipped = torch.where(newer, at.number - number - 1, 0.0).clamp_max(DAY_BINS)
    back = (at.place[:, None] - 1 - torch.arange(DAY_BINS)) % DAY_BINS + 1
    day = torch.where(back <= skipped[:, None], math.nan, day)
    fresh = torch.stack([at.number.double(), at.place.double(), y, torch.ones_like(y)], 1)
    more = torch.stack([number, place, total + y, count + 1.0], 1)
    opened = torch.where((new | newer)[:, None], fresh, torch.where(older[:, None], own.bin, more))
    return own._replace(bin=opened, day=day, season=season)
