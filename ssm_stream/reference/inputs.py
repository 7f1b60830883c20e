"""Inputs and running statistics of the streaming learner's definition; symbols in `learner.py`.

Nothing here depends on a meta-parameter, so no gradient flows through it.
"""

from __future__ import annotations

import math
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from ssm_stream.core.constants import GROSS_FROM, LEAN, REACH, WINSOR_FROM
from ssm_stream.core.features import INDICATED
from ssm_stream.core.shapes import (
    AGE_MOST,
    ALIKE_MOST,
    FLOOR_RATE,
    LOG_RESIDUAL,
    RESIDUAL,
    SQUARE_MOST,
    VALUE,
    WINSOR,
    Z_CLIP,
    LearnerParams,
)
from ssm_stream.reference import codes as learner_codes
from ssm_stream.reference.effects import find_shifts, follow_categories
from ssm_stream.reference.seasons import answer_seasons, learn_seasons, usual_hours
from ssm_stream.reference.state import EntityState, Event, ProductState, Running, State
from ssm_stream.reference.target_range import possible_targets, widened

Numbers = TypeVar("Numbers", Running, ProductState)
"""Running statistics of numbers: v_mean, v_var, v_count."""


class Inputs(NamedTuple):
    """What is known before the target, of the event's entities.

    v (B, F): numeric inputs; values (B, F): v with NaN where a feature is unknown and held; seasons (B, seasonal):
        seasonal answers, NaN where there are none; many (B,): has the pool a second entity? base, log_base, mean,
        last (B,): what residuals count from, its logarithm, the entity's mean target, and its last one
    fleet, entity (B, L), norm (B, N): inputs of each scope, [1, z, codes]; past (B, 2, lags): targets before,
        standardised by pool and by entity; shift (B,): of the prediction, by the effects of changes
    q_mean, q_deviation (B, 2, 4): of each scale, of the pool and of the entity
    low, high (B,): bounds of all answers; least, most (B,): of predictions
    """

    v: Tensor
    values: Tensor
    seasons: Tensor
    many: Tensor
    base: Tensor
    log_base: Tensor
    mean: Tensor
    last: Tensor
    fleet: Tensor
    entity: Tensor
    norm: Tensor
    past: Tensor
    shift: Tensor
    q_mean: Tensor
    q_deviation: Tensor
    low: Tensor
    least: Tensor
    most: Tensor
    high: Tensor


def log1p_of(value: Tensor) -> Tensor:
    """log(1 + value), of a negative value as of zero."""
    return torch.log1p(value.clamp_min(0.0))


def standardise(running: Numbers, v: Tensor) -> Tensor:
    """z = clip((v − mean) / deviation, ±5), (B, F); 0 for an unknown value and while nothing varies.

    Rounded to 32 bits, as the kernel's are.
    """
    deviation = running.v_var.sqrt()
    usable = (running.v_count > 1.5) & ~v.isnan() & (deviation > 1e-9 * (1e-12 + running.v_mean.abs()))
    z = ((v - running.v_mean) / torch.where(usable, deviation, 1.0)).clamp(-Z_CLIP, Z_CLIP)
    return torch.where(usable, z, 0.0).float().double()


def alike(p: LearnerParams, own: EntityState) -> Tensor:
    """(B, features) correlation a of each feature's values in neighbouring events; NaN where nothing is known of it.

    Values that are a usual gap of g events apart correlate by 1 − mean squared change / (2 variance), and as in an
    autoregression of the first order a is the g-th root of that; 0 where it is not positive.
    """
    _, known, passed, moved = own.holding.unbind(1)
    variance = own.running.v_var[:, : p.features]
    there = (known > 0) & (variance > 0) & ~own.u_last[:, : p.features].isnan()
    one = 1.0 - moved / torch.where(there, 2.0 * known * variance, 1.0)
    near = (one.clamp(1e-300, ALIKE_MOST).log() * known / torch.where(there, passed, 1.0)).exp()
    return torch.where(there, torch.where(one > 0, near, 0.0), math.nan)


def held(p: LearnerParams, own: EntityState) -> Tensor:
    """(B, features) what a feature is taken for where it is unknown: m + r (u − m), NaN where nothing is known of r.

    u is the last known value, of so many events before, m the mean, and r = n/(n + 10) a^events where n changes are
    known.
    """
    age, known, *_ = own.holding.unbind(1)
    mean, near = own.running.v_mean[:, : p.features], alike(p, own) ** (age + 1.0) * known / (known + LEAN)
    return torch.where(near > 0, mean + near * (own.u_last[:, : p.features] - mean), math.nan)


def before(p: LearnerParams, own: EntityState, u: Tensor) -> Tensor:
    """(B, features) each feature's value in the event before, by u in this one where it was unknown in that."""
    age, mean, last = own.holding[:, 0], own.running.v_mean[:, : p.features], own.u_last[:, : p.features]
    a = alike(p, own)
    b = a**age
    now, then = a * (1.0 - b * b) * (u - mean), b * (1.0 - a * a) * (last - mean)
    return torch.where((age > 0) & ~a.isnan(), mean + (now + then) / (1.0 - a * a * b * b), last)


def learn_holding(p: LearnerParams, own: EntityState, u: Tensor) -> Tensor:
    """Events since each feature's last known value; decayed sums over values: n, events before them, (u − last)²."""
    age, known, passed, moved = own.holding.unbind(1)
    here, last = ~u.isnan(), own.u_last[:, : p.features]
    age = (age + 1.0).clamp_max(AGE_MOST)
    there = here & ~last.isnan() & (own.running.n > 0)[:, None]
    square = ((u - last) ** 2).clamp_max(SQUARE_MOST)
    limit = WINSOR * WINSOR * moved / known.clamp_min(1.0)
    change = torch.where((known > WINSOR_FROM) & (limit > 0), torch.minimum(square, limit), square)
    keep = 1.0 - FLOOR_RATE
    return torch.stack(
        [
            torch.where(here, 0.0, age),
            torch.where(there, keep * known + 1.0, known),
            torch.where(there, keep * passed + age, passed),
            torch.where(there, keep * moved + change, moved),
        ],
        1,
    )


def shown_values(p: LearnerParams, s: State, event: Event) -> Tensor:
    """(B, categories · INDICATED) 1 where a category is the value that it showed first, second, …; NaN if unknown."""
    out = torch.zeros(len(event.e), p.categories, INDICATED, dtype=torch.float64)
    for b, codes in enumerate(s.codes if p.categories else ()):
        for j, column in enumerate(codes.slots[p.features : p.features + p.categories]):
            value = float(event.u[b, p.features + j])
            shown = [float(value == each) for each in list(column)[:INDICATED]]
            out[b, j, : len(shown)] = torch.tensor(shown, dtype=torch.float64)
            if math.isnan(value):
                out[b, j] = math.nan
    return out.flatten(1)


def numbers(
    p: LearnerParams, own: EntityState, event: Event, shown: Tensor, last: Tensor, mean: Tensor
) -> tuple[Tensor, Tensor]:
    """v, and with NaN where a feature is unknown and held. shown: the values of categories

    v = [features, cycles, changes, shown, last, y_{t−1} − y_{t−2}, …, usual − last, usual of the week − last]. The
    changes are u_t − the last known value (`differences`), then u_t − u_{t−2}, …, u_t − u_{t−k} (`feature_lags` k),
    unknown where either is, and before the entity has had so many events.
    """
    new = (own.running.n == 0)[:, None]
    parts = [event.u[:, : p.features], event.u[:, p.features + p.categories :]]
    if p.differences:
        parts.append(torch.where(new, 0.0, parts[0] - before(p, own, parts[0])))
    if p.feature_lags > 1:
        back = own.u_last[:, 2 * p.features :]
        parts.append(torch.where(new, math.nan, parts[0].repeat(1, p.feature_lags - 1) - back))
    parts.append(shown)
    if p.lags:
        parts += [last[:, None], torch.where(new, 0.0, own.y_last[:, :-1] - own.y_last[:, 1:])]
    if p.seasons and p.lags:
        hour, week = usual_hours(p, own, event).unbind(1)
        usual = torch.where(hour.isnan(), mean, hour)
        parts.append(torch.stack([usual, torch.where(week.isnan(), usual, week)], 1) - last[:, None])
    taken = torch.where(parts[0].isnan() & ~new, held(p, own), parts[0])
    return torch.cat([taken, *parts[1:]], 1), torch.cat(parts, 1)


def scales(p: LearnerParams, s: State, own: EntityState) -> tuple[Tensor, Tensor]:
    """Mean and deviation (B, 2, 4) of each scale for pool and entity; a young one leans on the pool's.

    With n < 10 values: variance ← (n · variance + 2 · spread) / (n + 2), mean ← (n · mean + ½ · pool's) / (n + ½).
    """
    late = _late(p)
    means, deviations = [], []
    for side, running in enumerate((s.running, own.running)):
        # A pool lacks a residual for each of its entities.
        missing = late * s.entities[:, None] if side == 0 else late
        count = (running.n[:, None] - missing).clamp_min(0.0)
        young = count < LEAN
        variance = torch.where(young, (running.q_var * count + 2.0 * s.spread) / (count + 2.0), running.q_var)
        mean = running.q_mean
        if side == 1:
            # Of the targets themselves the entity's first is known where residuals still are not: no need to lean.
            lean = torch.where((late > 0) | (count == 0.0), 0.5, 0.0)
            leant = (mean * count + lean * s.running.q_mean) / torch.where(young, count + lean, 1.0)
            mean = torch.where(young, leant, mean)
        means.append(mean)
        deviations.append(variance.sqrt())
    return torch.stack(means, 1), torch.stack(deviations, 1)


def _late(p: LearnerParams) -> Tensor:
    """(4,) 1 for the scales of residuals, which an entity's first event lacks where there are lags."""
    late = torch.zeros(4, dtype=torch.float64)
    late[[RESIDUAL, LOG_RESIDUAL]] = float(p.lags > 0)
    return late


def find_codes(p: LearnerParams, s: State, event: Event) -> Tensor:
    """(B, K) 1 where a code is."""
    codes = torch.zeros(len(event.e), p.K, dtype=torch.float64)
    if p.K:
        each = zip(event.u.cpu().numpy(), event.steps.cpu().numpy(), event.ts.tolist(), strict=True)
        for b, (u, steps, ts) in enumerate(each):
            codes[b, learner_codes.active_slots(p, s.codes[b], u, steps, ts)] = 1.0
    return codes


def compute_inputs(p: LearnerParams, s: State, own: EntityState, event: Event) -> Inputs:
    """All inputs of one event a pool."""
    new = own.running.n == 0
    B = len(event.e)
    seasons = torch.zeros(B, dtype=torch.bool)
    if p.seasons:
        seasons = torch.tensor(
            [learner_codes.hourly(codes, ts) for codes, ts in zip(s.codes, event.ts.tolist(), strict=True)]
        )
    mean = torch.where(new, s.running.y_mean, own.running.y_mean)
    last = torch.where(new, mean, own.y_last[:, 0]) if p.lags or p.known else mean
    base = last if p.lags else torch.zeros_like(mean)
    shift = find_shifts(p, s.effects, s.codes, own, event)
    v, values = numbers(p, own, event, shown_values(p, s, event), last, mean)
    codes = find_codes(p, s, event)
    z, z_own, one = standardise(s.running, v), standardise(own.running, v), torch.ones(B, 1, dtype=torch.float64)
    if p.seasons and p.lags:  # their statistics are learned from the first event on
        there = torch.cat([torch.ones(B, p.F - 2, dtype=torch.bool), seasons[:, None].expand(-1, 2)], 1)
        z, z_own = torch.where(there, z, 0.0), torch.where(there, z_own, 0.0)
    q_mean, q_deviation = scales(p, s, own)
    past = torch.where(new[:, None], mean[:, None], own.y_last)[:, None, : p.lags] - q_mean[:, :, VALUE, None]
    deviation = q_deviation[:, :, VALUE, None]
    past = torch.where(deviation > 0, past / torch.where(deviation > 0, deviation, 1.0), 0.0).clamp(-Z_CLIP, Z_CLIP)
    reach = torch.where(s.running.n > 0, REACH * (s.high - s.low), math.inf)
    least, most = possible_targets(s)
    return Inputs(
        v=v, values=values, seasons=answer_seasons(p, s, own, event, seasons), many=s.entities + new > 1,
        base=base, log_base=log1p_of(base) if p.log and p.lags else torch.zeros_like(base), mean=mean, last=last,
        fleet=torch.cat([one, z, codes], 1), entity=torch.cat([one, z_own, codes], 1),
        norm=torch.cat([one, z_own, z, codes], 1), past=past, shift=shift, q_mean=q_mean, q_deviation=q_deviation,
        low=s.low - reach, high=s.high + reach, least=least, most=most,
    )  # fmt: skip


def register(p: LearnerParams, s: State, x: Inputs, event: Event, known: Tensor) -> tuple[State, Inputs]:
    """Slots for what this event shows for the first time, which its inputs already hold while it is learned.

    known (B,): has the event a target? Without one nothing is learned.
    """
    if not p.K and not (p.effects and p.categories):
        return s, x
    codes, fresh = list(s.codes), torch.zeros(len(event.e), p.K, dtype=torch.float64)
    each = zip(event.u.cpu().numpy(), event.steps.cpu().numpy(), event.ts.tolist(), strict=True)
    for b, (u, steps, ts) in enumerate(each):
        if known[b]:
            codes[b], now = learner_codes.register(p, s.codes[b], u, steps, ts)
            fresh[b, now] = 1.0

    def add(inputs: Tensor) -> Tensor:
        return inputs + torch.nn.functional.pad(fresh, (inputs.shape[1] - p.K, 0))

    x = x._replace(fleet=add(x.fleet), entity=add(x.entity), norm=add(x.norm))
    return s._replace(codes=tuple(codes)), x


def winsorised(delta: Tensor, deviation: Tensor, mean: Tensor, settled: Tensor) -> Tensor:
    """A step within ±10 usual deviations; free where little is known or nothing has varied so far."""
    limit = WINSOR * deviation
    bounded = torch.minimum(torch.maximum(delta, -limit), limit)
    return torch.where(settled & (limit > 1e-9 * (1e-12 + mean.abs())), bounded, delta)


def learn_inputs(running: Numbers, v: Tensor) -> Numbers:
    """mean ← mean + δ/n, variance ← (1 − 1/n)(variance + δ²/n), of the numbers that are known; n at most 2,000."""
    rate = 1.0 / (running.v_count + 1.0)
    delta = winsorised(v - running.v_mean, running.v_var.sqrt(), running.v_mean, running.v_count > WINSOR_FROM)
    known = ~v.isnan()
    return running._replace(
        v_mean=torch.where(known, running.v_mean + rate * delta, running.v_mean),
        v_var=torch.where(known, (1.0 - rate) * (running.v_var + rate * delta * delta), running.v_var),
        v_count=torch.where(known, (running.v_count + 1.0).clamp_max(1.0 / FLOOR_RATE - 1.0), running.v_count),
    )


def learn_mean(running: Running, y: Tensor) -> Running:
    """Running mean of the target and of |y − mean|, at rate max(1/n, floor)."""
    off = winsorised(y - running.y_mean, running.y_spread, running.y_mean, running.n > WINSOR_FROM)
    rate = (1.0 / (running.n + 1.0)).clamp_min(FLOOR_RATE)
    spread = torch.where(running.n > 0, running.y_spread + rate * (off.abs() - running.y_spread), running.y_spread)
    return running._replace(y_mean=running.y_mean + rate * off, y_spread=spread)


def learn_scales(
    running: Running, count: Tensor, values: Tensor, size: Tensor, learned: Tensor
) -> tuple[Running, Tensor]:
    """Running mean and variance (B, 4) of each scale after values (B, 4), where `learned`; the winsorised steps."""
    rate = (1.0 / (count + 1.0)).clamp_min(FLOOR_RATE)
    delta = winsorised(values - running.q_mean, running.q_var.sqrt(), size, count > WINSOR_FROM)
    mean = running.q_mean + rate * delta
    variance = (1.0 - rate) * (running.q_var + rate * delta * delta)
    running = running._replace(
        q_mean=torch.where(learned, mean, running.q_mean), q_var=torch.where(learned, variance, running.q_var)
    )
    return running, torch.where(count > 0, delta, 0.0)


def kept_target(p: LearnerParams, s: State, own: EntityState, y: Tensor) -> Tensor:
    """What targets (B,) leave behind, as lags, in seasons and as last errors: themselves, or the ones before.

    A target may be misread that lies outside of all that is answered, and is off the one before by more than ten
    deviations of such changes.
    """
    reach, change = REACH * (s.high - s.low), own.running.q_var[:, RESIDUAL]
    last = own.y_last[:, 0] if p.lags or p.known else own.running.y_mean
    off = y - (last if p.lags else 0.0) - own.running.q_mean[:, RESIDUAL]
    outside = (y < s.low - reach) | (y > s.high + reach)
    far = (change > 0) & (off * off > WINSOR * WINSOR * change)
    return torch.where((own.running.n >= GROSS_FROM) & outside & far, last, y)


def learn_target(
    p: LearnerParams, s: State, own: EntityState, x: Inputs, y: Tensor, kept: Tensor
) -> tuple[State, EntityState]:
    """Statistics of the target and of the heads' targets, of pool and entity. kept: of `kept_target`."""
    late, n, n_pool = _late(p), own.running.n[:, None], s.running.n[:, None]
    logs = ~s.negative if p.log else torch.zeros_like(s.negative)
    pooled, single = learn_mean(s.running, y), learn_mean(own.running, y)
    values = torch.stack([y - x.base, y, log1p_of(y) - x.log_base, log1p_of(y)], 1)
    learned = (n > 0) | (late == 0)
    on_scale = [torch.ones_like(logs), torch.ones_like(logs), logs, logs & bool(p.window)]
    learned = learned & torch.stack(on_scale, 1)
    size = torch.ones_like(values)
    size[:, [RESIDUAL, VALUE]] = pooled.y_mean[:, None]
    entities = s.entities[:, None]
    pooled, _ = learn_scales(pooled, (n_pool - late * entities).clamp_min(0.0), values, size, learned)
    single, step = learn_scales(single, (n - late).clamp_min(0.0), values, size, learned)
    rate = (1.0 / ((n_pool - (1.0 + late) * entities).clamp_min(0.0) + 1.0)).clamp_min(FLOOR_RATE)
    limit = torch.where((n_pool > WINSOR_FROM) & (s.spread > 0), WINSOR * WINSOR * s.spread, math.inf)
    spread = s.spread + rate * (torch.minimum(step * step, limit) - s.spread)
    return widened(s, y, kept)._replace(
        running=pooled,
        spread=torch.where(learned & (n - late > 0), spread, s.spread),
    ), own._replace(running=single)


def learn_past(
    p: LearnerParams, s: State, own: EntityState, event: Event, y: Tensor, known: Tensor
) -> tuple[State, EntityState]:
    """Lags, last features, seasons, gaps and counts. y: as it is kept."""
    new = own.running.n == 0
    if p.lags or p.known:
        shifted = torch.cat([y[:, None], own.y_last[:, :-1]], 1)
        own = own._replace(y_last=torch.where(new[:, None], y[:, None], shifted))
    u = event.u[:, : p.features]
    known_last = torch.where(u.isnan() & ~new[:, None], own.u_last[:, : p.features], u)
    back = torch.where(new[:, None], math.nan, own.u_last[:, p.features : -p.features]) if p.feature_lags > 1 else None
    own = own._replace(holding=learn_holding(p, own, u))
    own = own._replace(u_last=known_last if back is None else torch.cat([known_last, u, back], 1))
    own = follow_categories(p, s.codes, learn_seasons(p, own, event, y), event)
    if s.codes:
        gaps = torch.where(new, math.nan, (event.ts - own.time) / 1000.0).tolist()
        each = zip(s.codes, event.ts.tolist(), gaps, known.tolist(), strict=True)
        s = s._replace(
            codes=tuple(
                learner_codes.learn_time(c, ts, None if math.isnan(gap) else gap) if learned else c
                for c, ts, gap, learned in each
            )
        )
    running, single = s.running, own.running
    s = s._replace(entities=s.entities + new, time=event.ts, running=running._replace(n=running.n + 1))
    return s, own._replace(time=event.ts, running=single._replace(n=single.n + 1))
