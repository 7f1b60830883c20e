"""State and meta-parameters of the streaming learner's definition; glossary and symbols in `learner.py`.

Every tensor is 64-bit and has a leading batch of B pools, each with E entities, unless noted otherwise. What counts
or flags is a float or a bool and carries no gradient.
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from ssm_stream.core.frozen_weights import Weights
from ssm_stream.core.shapes import (
    BANDS,
    DAY_BINS,
    HOLDINGS,
    HOURS,
    LEVELS,
    PART_SUMS,
    RESPONSE,
    VALUES,
    VIEWS,
    WEEK_BINS,
    G,
    LearnerParams,
    corrected_heads,
    embedding_features,
    factors,
    has_dead_band,
    norm_params,
    past_features,
    product_heads,
    turning,
)
from ssm_stream.reference.codes import PoolCodes

T = TypeVar("T")


class Meta(NamedTuple):
    """`Weights` as tensors: same names, same shapes.

    direction (F + SLOTS, R): what `frequency` multiplies in the embedding; fixed
    """

    moment_decay: Tensor
    moment_ridge: Tensor
    moment_huber: Tensor
    proximal_step: Tensor
    slow_step: Tensor
    embedding_step: Tensor
    surprise: Tensor
    frequency: Tensor
    phase: Tensor
    poly_decay: Tensor
    soft: Tensor
    sweep_decay: Tensor
    sweep_ridge: Tensor
    sweep_huber: Tensor
    top_decay: Tensor
    product_decay: Tensor
    product_ridge: Tensor
    product_huber: Tensor
    direction: Tensor


class Running(NamedTuple):
    """Running statistics; leading shape (B,) of a pool, (B, E) of its entities.

    n (): labelled events; v_mean, v_var, v_count (F,): of the numeric inputs; y_mean, y_spread (): mean of the target,
    mean of |y − mean|; q_mean, q_var (4,): of each scale
    """

    n: Tensor
    v_mean: Tensor
    v_var: Tensor
    v_count: Tensor
    y_mean: Tensor
    y_spread: Tensor
    q_mean: Tensor
    q_var: Tensor


class EntityState(NamedTuple):
    """Of the entities, leading shape (B, E); of one event's entities, (B,).

    time (): of the last labelled event, ms; u_last (U,): past features, and holding (4, features): how alike values
        are over time, as in `shapes.EntityState`
    y_last (max(lags, 1),): targets before, newest first; missed (corrected,): last errors of corrected heads
    bin (4,), day (96,), season (672,): quarter of an hour that is not over, the last day's, the week's usual targets,
        as in `shapes.EntityState`
    category (6, J): of what turns, see `effects`; empty where predictions are not shifted so
    W (H + 1, L): the entity's own proximal heads, the slow one last; lately (F,): running means of the standardised
        numbers, about which they step where an input stands off its mean; loss (2, T), view (2, G), unit (): of the
        gates
    """

    running: Running
    time: Tensor
    u_last: Tensor
    holding: Tensor
    y_last: Tensor
    missed: Tensor
    bin: Tensor
    day: Tensor
    season: Tensor
    category: Tensor
    W: Tensor
    lately: Tensor
    loss: Tensor
    view: Tensor
    unit: Tensor


class GateState(NamedTuple):
    """regret, regret2 (B, 2, T); hour_regret, hour_regret2 (B, HOURS, T): those of each hour; level_regret,
    level_regret2 (B, LEVELS, T): at each level; loss (B, T), losses (B,); S (B, 2, T, T), R, W (B, 2, T): stacking;
    waiting (B,) as of the heads; view (B, 2, G), hour_view (B, HOURS, 2, G), difference_view, level_view
    (B, LEVELS, 2, G): regrets of the gates and their squares, by situation; top, top2 (B, VIEWS): of the views; carry
    (B, 2, corrected): Σ e e′ and Σ e² of corrected heads; band (B, 2, BANDS): Σ gain and Σ gain² of the dead band
    unit (B,): usual absolute error."""

    regret: Tensor
    regret2: Tensor
    hour_regret: Tensor
    hour_regret2: Tensor
    level_regret: Tensor
    level_regret2: Tensor
    loss: Tensor
    losses: Tensor
    S: Tensor
    R: Tensor
    W: Tensor
    waiting: Tensor
    view: Tensor
    hour_view: Tensor
    difference_view: Tensor
    level_view: Tensor
    top: Tensor
    top2: Tensor
    carry: Tensor
    band: Tensor
    unit: Tensor


class HeadsState(NamedTuple):
    """Heads of a pooled scope with D inputs. M' = M, one more with attention in log space.

    S (B, M', D, D), R, W (B, M', D): decayed second moments, P − S W, weights
    waiting (B,), touched (B, D) bool: events since a sweep, and inputs that they had
    gradient (B, 2H + 1, D): proximal, slow, proximal in log space; embedding (B, 2, R + D): linear, log
    gd (B, D)
    keys (B, window, D), held (B, window, 4): attention's inputs; its targets on each scale; past (B, window, lags)
    near (B, 4): usual distance of the nearest key, by metric; inserted (B,): keys so far
    """

    S: Tensor
    R: Tensor
    W: Tensor
    waiting: Tensor
    touched: Tensor
    gradient: Tensor
    embedding: Tensor
    gd: Tensor
    keys: Tensor
    held: Tensor
    past: Tensor
    near: Tensor
    inserted: Tensor


class ProductState(NamedTuple):
    """The moment heads on products, with X inputs; they share S.

    n (B,): events learned; of (B, k) int64: numbers that are multiplied, plus one, 0 while they are not chosen
    v_mean, v_var, v_count (B, J): running statistics of the products
    S (B, X, X), R, W (B, 1 or 2, X), waiting, touched: as of the moment heads, for the residual and in log space
    """

    n: Tensor
    of: Tensor
    v_mean: Tensor
    v_var: Tensor
    v_count: Tensor
    S: Tensor
    R: Tensor
    W: Tensor
    waiting: Tensor
    touched: Tensor


class EffectState(NamedTuple):
    """What changes of J columns do to the target; see `effects`.

    effect, known (B, 2 · RESPONSE, J, VALUES): effects of a change to, and from, each value, in the events from it on;
        1/variance of each, less 1
    part (B, 4, J): Σ change · difference, Σ difference², Σ change², events; decayed
    """

    effect: Tensor
    known: Tensor
    part: Tensor


class State(NamedTuple):
    """Everything.

    entities (B,): met so far; time (B,): of the last event; low, high (B,): of the targets; ends (B, 2): shares of
        those that were just these; spread (B, 4): mean square deviation of each scale within the entities
    negative (B,): has a target been below zero?
    surprise (B, 3): fast and slow mean of |error| of the first moment head; events that the slow one holds
    believed (B, features): what it has gained to believe a wild reading of each feature
    products: None where those heads are off; norm: None where a pool has one entity only
    codes: of each pool; empty where there are neither codes, effects nor seasons
    """

    running: Running
    entity: EntityState
    entities: Tensor
    time: Tensor
    spread: Tensor
    low: Tensor
    high: Tensor
    ends: Tensor
    negative: Tensor
    surprise: Tensor
    believed: Tensor
    gates: GateState
    fleet: HeadsState
    products: ProductState | None
    norm: HeadsState | None
    effects: EffectState
    codes: tuple[PoolCodes, ...]


class Event(NamedTuple):
    """One event a pool: e (B,) int64, u (B, C) NaN where unknown, steps (B, 2) int64 hour and weekday, ts (B,) ms."""

    e: Tensor
    u: Tensor
    steps: Tensor
    ts: Tensor


def new_meta(p: LearnerParams, weights: Weights) -> Meta:
    """Tensors of the meta-parameters; configured half-lives (see `learner_params`) take the moment heads' place."""

    def tensor(array: object) -> Tensor:
        return torch.as_tensor(np.asarray(array, np.float64))

    used = embedding_features(len(weights.frequency), p.R)
    frequency = np.asarray(weights.frequency[used], np.float64)
    return Meta(
        moment_decay=tensor(p.decay), moment_ridge=tensor(p.ridge), moment_huber=tensor(p.huber),
        proximal_step=tensor(weights.proximal_step[: p.prox]), slow_step=tensor(weights.slow_step),
        embedding_step=tensor(weights.embedding_step), surprise=tensor(weights.surprise), frequency=tensor(frequency),
        phase=tensor(weights.phase[used]), poly_decay=tensor(weights.poly_decay), soft=tensor(weights.soft),
        sweep_decay=tensor(weights.sweep_decay), sweep_ridge=tensor(weights.sweep_ridge),
        sweep_huber=tensor(weights.sweep_huber), top_decay=tensor(weights.top_decay),
        product_decay=tensor(weights.product_decay), product_ridge=tensor(weights.product_ridge),
        product_huber=tensor(weights.product_huber),
        direction=tensor(p.omega / frequency),
    )  # fmt: skip


def expert_count(p: LearnerParams, E: int) -> int:
    """Experts T: a pool of one entity has those of the bases, of the fleet and of the products only."""
    return p.T if E > 1 else p.bases + p.B + product_heads(p)


def new_state(p: LearnerParams, B: int, E: int = 1) -> State:
    """B new pools of E entities; slots for p.K codes."""
    experts, turns = expert_count(p, E), p.effects * turning(p)

    def zeros(*shape: int) -> Tensor:
        return torch.zeros(B, *shape, dtype=torch.float64)

    def running(*lead: int) -> Running:
        return Running(
            n=zeros(*lead), v_mean=zeros(*lead, p.F), v_var=zeros(*lead, p.F), v_count=zeros(*lead, p.F),
            y_mean=zeros(*lead), y_spread=zeros(*lead), q_mean=zeros(*lead, 4), q_var=zeros(*lead, 4),
        )  # fmt: skip

    def heads(p: LearnerParams, D: int) -> HeadsState:
        rows = p.M + (1 if p.window and p.log else 0)
        return HeadsState(
            S=zeros(rows, D, D), R=zeros(rows, D), W=zeros(rows, D), waiting=zeros(),
            touched=zeros(D).bool(), gradient=zeros(2 * p.prox + (p.prox > 0), D),
            embedding=zeros(2, (p.R + D) if p.R else 0),
            gd=zeros(D * p.gd), keys=zeros(p.window, D), held=zeros(p.window, 4), past=zeros(p.window, p.lags),
            near=zeros(4), inserted=zeros(),
        )  # fmt: skip

    def products() -> ProductState:
        k, heads = factors(p), product_heads(p)
        J = k * (k + 1) // 2
        return ProductState(
            n=zeros(), of=zeros(k).long(), v_mean=zeros(J), v_var=zeros(J), v_count=zeros(J), S=zeros(p.X, p.X),
            R=zeros(heads, p.X), W=zeros(heads, p.X), waiting=zeros(), touched=zeros(p.X).bool(),
        )  # fmt: skip

    return State(
        running=running(),
        entity=EntityState(
            running=running(E), time=zeros(E), u_last=zeros(E, past_features(p)),
            holding=zeros(E, HOLDINGS, p.features), y_last=zeros(E, max(p.lags, 1)),
            missed=zeros(E, len(corrected_heads(p))), bin=zeros(E, 4 * p.seasons), day=zeros(E, DAY_BINS * p.seasons),
            season=zeros(E, WEEK_BINS * p.seasons), category=zeros(E, 6, turns),
            W=zeros(E, p.prox + (p.prox > 0), p.L), lately=zeros(E, p.F), loss=zeros(E, 2, experts),
            view=zeros(E, 2, G), unit=zeros(E),
        ),
        entities=zeros(), time=zeros(), spread=zeros(4), low=zeros(), high=zeros(), ends=zeros(2),
        negative=zeros().bool(), surprise=zeros(3), believed=zeros(p.features),
        gates=GateState(
            regret=zeros(2, experts), regret2=zeros(2, experts), hour_regret=zeros(HOURS, experts),
            hour_regret2=zeros(HOURS, experts), level_regret=zeros(LEVELS, experts),
            level_regret2=zeros(LEVELS, experts), loss=zeros(experts), losses=zeros(),
            S=zeros(2, experts, experts), R=zeros(2, experts), W=zeros(2, experts), waiting=zeros(),
            view=zeros(2, G), hour_view=zeros(HOURS, 2, G), difference_view=zeros(LEVELS, 2, G),
            level_view=zeros(LEVELS, 2, G), top=zeros(VIEWS), top2=zeros(VIEWS),
            carry=zeros(2, len(corrected_heads(p))), band=zeros(2, BANDS * has_dead_band(p)), unit=zeros(),
        ),
        fleet=heads(p, p.L),
        products=products() if p.products else None,
        norm=heads(norm_params(p), p.N) if E > 1 else None,
        effects=EffectState(
            zeros(2 * RESPONSE, turns, VALUES), zeros(2 * RESPONSE, turns, VALUES), zeros(PART_SUMS, turns)
        ),
        codes=tuple(PoolCodes(p.Q) for _ in range(B)) if p.K or p.seasons or p.effects else (),
    )  # fmt: skip


def choose(mask: Tensor, new: T, old: T) -> T:
    """The new state where `mask` (B,), else the old one, of any part of a state; codes are taken as they come."""
    if new is old or mask.all():  # most often all
        return new
    if isinstance(new, Tensor) and isinstance(old, Tensor):
        return cast(T, torch.where(mask.reshape(-1, *[1] * (old.dim() - 1)), new, old))
    if isinstance(new, tuple) and isinstance(old, tuple) and hasattr(new, "_fields"):
        return cast(T, type(new)(*(choose(mask, a, b) for a, b in zip(new, old, strict=True))))
    return new


def entity_of(state: EntityState, e: Tensor) -> EntityState:
    """The rows of the event's entities e (B,)."""
    rows = torch.arange(len(e))

    def take(part: Tensor) -> Tensor:
        return part[:, 0] if part.shape[1] == 1 else part[rows, e]

    return EntityState(Running(*map(take, state.running)), *map(take, state[1:]))


def put_entity(state: EntityState, e: Tensor, own: EntityState) -> EntityState:
    """The state with the rows of entities e (B,) replaced."""
    rows = torch.arange(len(e))

    def put(part: Tensor, new: Tensor) -> Tensor:
        return new[:, None] if part.shape[1] == 1 else part.index_put((rows, e), new)

    running = Running(*map(put, state.running, own.running))
    return EntityState(running, *map(put, state[1:], own[1:]))
