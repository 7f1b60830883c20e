"""The streaming learner in torch: the definition that the fused kernel is held to. Section 2 of `docs/model.md`.

Batched over pools, 64-bit, and differentiable with respect to the meta-parameters `Meta`, through time; used to check
the kernel, never per event in production. Written for reading: every step is the equation in its
docstring. Nothing is changed in place; what differs between pools is chosen with `torch.where`.

    s = new_state(p, B)
    prediction = predict(p, meta, s, event)
    s = learn(p, meta, s, prediction, y)

Glossary: pool, scope, head, prediction, gate and code as in `shapes.py`.
    scale    what a head predicts, standardised: the residual y − base, the value y, or, in log space,
             log(1 + y) − log(1 + base) and log(1 + y); the base is the last target where there are lags, else 0
    meta     the meta-parameters: the same for every stream, fixed in production

Symbols, with a leading batch of B pools of E entities each
    C  columns of an event        F  numeric inputs         K  slots for codes          Q  columns that may be coded
    L = 1 + F + K                 inputs of the fleet and entity scope: the constant, the numbers, the codes
    N = 1 + 2F + K                inputs of the norm scope  D  either
    M  moment heads               H  quick proximal heads   T  experts                  R  embedding's features

`state.py` has the state, `inputs.py` the inputs and running statistics, `codes.py` the codes, `heads.py` and
`attention.py` and `products.py` the heads, `gates.py` the gates, `corrections.py` what corrects answers, `effects.py`
what changes of categories do, `seasons.py` what the target was at this time, `wild_readings.py` what is done with
readings that are hardly true.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ssm_stream.core.constants import LOSS_CLIP, REACH, ROUNDING, SEASON_NEAR, STACK_CLIP
from ssm_stream.core.shapes import (
    LATELY_FROM,
    LOG_RESIDUAL,
    Q_CLIP,
    RESIDUAL,
    VALUE,
    LearnerParams,
    corrected_heads,
    norm_params,
    product_heads,
)
from ssm_stream.reference.corrections import correct, learn_corrections
from ssm_stream.reference.effects import learn_effects
from ssm_stream.reference.gates import Experts, Mixed, learn_gates, mix, possible, usual_error
from ssm_stream.reference.heads import SCALES, Read, Targets, decays, learn_centred, learn_scope, may_wait, read
from ssm_stream.reference.inputs import (
    Inputs,
    compute_inputs,
    kept_target,
    learn_inputs,
    learn_past,
    learn_target,
    log1p_of,
    register,
)
from ssm_stream.reference.products import ProductRead, learn_products, read_products
from ssm_stream.reference.state import (
    EntityState,
    Event,
    Meta,
    State,
    choose,
    entity_of,
    new_meta,
    new_state,
    put_entity,
)
from ssm_stream.reference.wild_readings import Doubt, find_wild, learn_belief, with_unknown

__all__ = ["Event", "Meta", "Prediction", "State", "learn", "new_meta", "new_state", "predict"]


class Prediction(NamedTuple):
    """Inputs and predictions of an event before its target.

    event: as it is taken; doubt: None where no reading is wild
    own: state of the event's entities; fleet, norm: of these scopes; products: of the heads on products
    own_heads (B, H + 1): predictions of the entity's
        own heads; experts: of all, in the target's unit; mixed: of the gates
    """

    event: Event
    doubt: Doubt | None
    own: EntityState
    inputs: Inputs
    fleet: Read
    products: ProductRead | None
    norm: Read | None
    own_heads: Tensor
    experts: Experts
    mixed: Mixed

    @property
    def yhat(self) -> Tensor:
        """(B,) predictions."""
        return self.mixed.yhat


def in_unit(x: Inputs, side: int, scale: int, q: Tensor) -> Tensor:
    """clip(q, ±6) · deviation + mean (+ base), back from the logarithm, within the bounds of all experts; (B, h).

    side: 0 on the pool's scale, 1 on the entity's
    """
    found = q.clamp(-Q_CLIP, Q_CLIP) * x.q_deviation[:, side, scale, None] + x.q_mean[:, side, scale, None]
    if scale == RESIDUAL:
        found = found + x.base[:, None]
    elif scale == LOG_RESIDUAL:
        found = found + x.log_base[:, None]
    if scale >= LOG_RESIDUAL:
        found = torch.expm1(found.clamp_max(60.0))
    return torch.minimum(torch.maximum(found, x.low[:, None]), x.high[:, None])


def _season_limits(p: LearnerParams, meta: Meta, s: State, own: EntityState, start: Tensor) -> Tensor:
    """Up to how far (B, T) seasonal experts count from the last target, `start` (B,).

    They come for all entities at once, and are weighed by the first of them. Where all losses of the entity, decayed
    slowly, are clipped, as are those of an expert that was never there, STACK_CLIP usual errors; without limit where
    they are less by SEASON_NEAR.
    """
    decay, loss = meta.soft[1, 1], own.loss[:, 1]
    unit = usual_error(s.gates, own, ROUNDING * start.abs(), torch.zeros_like(start))
    clipped = LOSS_CLIP * (1.0 - decay ** (own.running.n - 1.0).clamp_min(0.0)) / (1.0 - decay)
    below = 1.0 - loss / clipped.clamp_min(LOSS_CLIP)[:, None]
    limited = (1.0 - below / SEASON_NEAR).clamp_max(1.0)
    known = (unit > 0.0) & (clipped > 0.0) & bool(p.learned_gate) & bool(p.lags or p.known)
    near = ~known[:, None] | (limited <= 0.0)
    return torch.where(near, math.inf, STACK_CLIP * unit[:, None] / torch.where(near, 1.0, limited))


def _bases(p: LearnerParams, meta: Meta, s: State, own: EntityState, x: Inputs) -> tuple[Tensor, Tensor]:
    """Experts that need no head, and which are active: the mean, the last target, the seasonal ones.

    Behind them is room for the corrected answers.
    """
    on = torch.full_like(x.many, not p.heads_only)
    experts, active = [x.mean], [on]
    if p.lags or p.known:
        experts.append(x.last)
        active.append(on)
    start, far = experts[-1], _season_limits(p, meta, s, own, experts[-1])
    for seasonal in x.seasons.unbind(1):
        reach = far[:, len(experts)]
        near = torch.minimum(torch.maximum(seasonal, start - reach), start + reach)
        experts.append(torch.minimum(torch.maximum(near, x.low), x.high))
        active.append(~seasonal.isnan() & on)
    for _ in corrected_heads(p):
        experts.append(torch.zeros_like(x.mean))
        active.append(torch.zeros_like(on))
    return torch.stack(experts, 1), torch.stack(active, 1)


def predict(p: LearnerParams, meta: Meta, s: State, event: Event) -> Prediction:
    """Predict one event a pool; changes no state."""
    own = entity_of(s.entity, event.e)
    wild = find_wild(p, s, own, event)
    if not wild.any():
        return _answer(p, meta, s, own, event)
    believes = (torch.where(wild, s.believed, 0.0) > 0).any(1)
    held = wild & ~believes[:, None]
    otherwise = _answer(p, meta, s, own, with_unknown(event, wild & ~held)).yhat
    prediction = _answer(p, meta, s, own, with_unknown(event, held))
    return prediction._replace(doubt=Doubt(wild, believes, otherwise))


def _answer(p: LearnerParams, meta: Meta, s: State, own: EntityState, event: Event) -> Prediction:
    """Predict one event a pool as it is."""
    x = compute_inputs(p, s, own, event)
    always, logs = torch.ones_like(s.negative), ~s.negative
    bases, bases_on = _bases(p, meta, s, own, x)
    experts, active = [bases], [bases_on]
    present = [torch.ones_like(bases_on)]

    def add(scope: Read, side: int, there: Tensor) -> None:
        """A head in log space is active while no target has been negative, attention once it holds a key."""
        held = h.inserted > 0 if p.window else always
        for name, q in scope.predictions._asdict().items():
            scale = SCALES[name]
            experts.append(in_unit(x, side, scale, q))
            on = there & (logs if scale >= LOG_RESIDUAL else always)
            on = on & held if "attended" in name else on
            active.append(on[:, None].expand_as(q))
            present.append(there[:, None].expand_as(q))

    h = s.fleet
    fleet = read(p, meta, h, False, x.fleet, x.past[:, 0])
    add(fleet, 0, always)
    products = None
    if s.products is not None:
        products = read_products(p, s.products, x)
        for i, (scale, on) in enumerate(((RESIDUAL, always), (LOG_RESIDUAL, logs))[: products.answers.shape[1]]):
            experts.append(in_unit(x, 0, scale, products.answers[:, i : i + 1]))
            active.append(on[:, None])
            present.append(always[:, None])
    own_heads, norm = torch.einsum("bhd,bd->bh", own.W, x.entity), None
    if s.norm is not None:
        experts.append(in_unit(x, 1, RESIDUAL, own_heads[:, : p.prox]))
        experts.append(in_unit(x, 1, VALUE, own_heads[:, p.prox :]))
        active.append(x.many[:, None].expand_as(own_heads))
        present.append(active[-1])
        h = s.norm
        norm = read(norm_params(p), meta, h, True, x.norm, x.past[:, 1])
        add(norm, 1, x.many)
    on = torch.cat(active, 1)
    given = Experts(torch.where(on, torch.cat(experts, 1), 0.0), on, torch.cat(present, 1))
    given = correct(p, s.gates, own, x, given)
    mixed = mix(p, meta, s.gates, own, x, given, event.steps[:, 0])
    shifted = _shifted(x, mixed.yhat)
    x, mixed = x._replace(shift=shifted - mixed.yhat), mixed._replace(yhat=shifted)  # as far as it went
    return Prediction(event, None, own, x, fleet, products, norm, own_heads, given, mixed)


def _shifted(x: Inputs, yhat: Tensor) -> Tensor:
    """A prediction with the effects of changes, which take it no further than targets have been."""
    reach = REACH / (1.0 + 2.0 * REACH) * (x.high - x.low)
    least, most = torch.minimum(yhat, x.low + reach), torch.maximum(yhat, x.high - reach)
    shifted = torch.minimum(torch.maximum(yhat + x.shift, least), most)
    return torch.where(x.shift == 0.0, yhat, possible(x, shifted))


def targets_of(x: Inputs, side: int, y: Tensor) -> Targets:
    """Targets of the heads: clip((value − mean) / deviation, ±6) on each scale; ±1 while the deviation is 0."""
    logged = log1p_of(y)
    off = torch.stack([y - x.base, y, logged - x.log_base, logged], 1) - x.q_mean[:, side]
    deviation = x.q_deviation[:, side]
    size = torch.where(deviation > 0, deviation, off.abs().clamp_min(1e-300))
    return Targets(*(off / size).clamp(-Q_CLIP, Q_CLIP).unbind(1))


def surprise(meta: Meta, s: State, error: Tensor) -> tuple[Tensor, Tensor]:
    """Which part of what they hold the quick moment heads keep, exp(−strength · excess), and the new means (B, 3).

    excess = (log(fast / slow) − threshold)⁺, of running means of the first head's |error| (B,). The slow mean forgets
    what lies before a surprise, too, and takes the fast one for it: one change is one surprise.
    """
    strength, threshold, rate = meta.surprise
    fast, slow, held = s.surprise.unbind(1)
    fast = fast + torch.maximum(rate, 1.0 / (s.running.n + 1.0)) * (error - fast)
    held = (1.0 - 0.1 * rate) * held + 1.0
    slow = slow + (error - slow) / held
    excess = (torch.log((fast + 1e-9) / (slow + 1e-9)) - threshold).clamp_min(0.0)
    keep = torch.exp(-excess)
    means = torch.stack([fast, slow + (1.0 - keep) * (fast - slow), (keep * held).clamp_min(1.0)], 1)
    return torch.exp(-strength.clamp_min(0.0) * excess), means


def _learn_heads(
    p: LearnerParams, meta: Meta, s: State, own: EntityState, event: Event, prediction: Prediction, x: Inputs, y: Tensor
) -> tuple[State, EntityState]:
    """All heads and gates after one event."""
    gap = (event.ts - s.time).clamp_min(0.0)
    logs = ~s.negative & (y >= 0.0) & bool(p.log)
    targets, own_targets = targets_of(x, 0, y), targets_of(x, 1, y)
    kept, means = torch.ones_like(y), s.surprise
    if p.moments:
        kept, means = surprise(meta, s, (targets.residual - prediction.fleet.predictions.moments[:, 0]).abs())
    decay, max_waiting = decays(p, meta, gap, kept), may_wait(p, s.entities, s.running.n)
    # New codes are 1 already, in the inputs though not in the embedding of the prediction.
    fleet = learn_scope(p, meta, s.fleet, prediction.fleet._replace(x=x.fleet), targets, decay, logs, max_waiting)
    products = s.products
    if s.products is not None and prediction.products is not None:
        both = torch.stack([targets.residual, targets.log_residual], 1)[:, : product_heads(p)]
        answers = prediction.products.answers
        products = learn_products(p, meta, s.products, x, answers, both, max_waiting)
    norm = s.norm
    if s.norm is not None and prediction.norm is not None:
        if p.prox:
            target = torch.stack([own_targets.residual] * p.prox + [own_targets.value], 1)
            steps = torch.cat([meta.proximal_step, meta.slow_step[None]])
            error, settled = target - prediction.own_heads, own.running.n >= LATELY_FROM
            W, lately = learn_centred(own.W, own.lately, x.entity, steps, error, settled)
            many = x.many[:, None]
            W, lately = torch.where(many[..., None], W, own.W), torch.where(many, lately, own.lately)
            own = own._replace(W=W, lately=lately)
        answered = prediction.norm._replace(x=x.norm)
        learned = learn_scope(norm_params(p), meta, s.norm, answered, own_targets, decay, logs, max_waiting)
        norm = choose(x.many, learned, s.norm)
    gates, own, unit, judged = learn_gates(p, meta, s, own, prediction.experts, prediction.mixed, y, max_waiting)
    corrected, after = learn_corrections(p, gates, own, prediction.experts, y, unit)
    gates, own = choose(judged, corrected, gates), choose(judged, after, own)
    return s._replace(fleet=fleet, products=products, norm=norm, gates=gates, surprise=means), own


def _learn_effects(
    p: LearnerParams, s: State, own: EntityState, prediction: Prediction, y: Tensor, known: Tensor
) -> tuple[State, EntityState]:
    """What changes do to the target, by what is missing from the prediction."""
    if not p.effects:
        return s, own
    x = prediction.inputs
    change = torch.minimum(torch.maximum(y, x.low), x.high) - prediction.yhat + x.shift
    effects, taught = learn_effects(p, s.effects, s.codes, own, prediction.event.u, change, x.high - x.low)
    return s._replace(effects=choose(known, effects, s.effects)), choose(known, taught, own)


def learn(p: LearnerParams, meta: Meta, s: State, prediction: Prediction, y: Tensor) -> State:
    """The state after targets y (B,) of the event that was predicted; pools whose y is NaN learn nothing."""
    known, event = ~y.isnan(), prediction.event
    before, y = s, torch.where(known, y, 0.0)
    if prediction.doubt is not None:
        s = learn_belief(s, prediction.own, prediction.doubt, prediction.yhat, y)
    s, x = register(p, s, prediction.inputs, event, known)
    own = prediction.own
    # An entity's first event has no past: as its own base it teaches no residual.
    taught = (s.running.n > 0) & ((own.running.n > 0) | (p.lags == 0))
    kept = kept_target(p, s, own, y)
    learned, taught_own = _learn_heads(p, meta, s, own, event, prediction, x, y)
    taught_own = taught_own._replace(missed=torch.where((kept == y)[:, None], taught_own.missed, own.missed))
    s = choose(taught, learned, s)
    own = choose(taught, taught_own, own)
    s = s._replace(running=learn_inputs(s.running, x.values))
    own = own._replace(running=learn_inputs(own.running, x.values))
    s, own = learn_target(p, s, own, x, y, kept)
    s, own = _learn_effects(p, s, own, prediction, y, known)
    s, own = learn_past(p, s, own, event, kept, known)
    s = choose(known, s, before)
    own = choose(known, own, prediction.own)
    return s._replace(entity=put_entity(before.entity, event.e, own))
