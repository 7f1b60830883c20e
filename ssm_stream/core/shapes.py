"""Sizes, constants and arrays of the streaming learner: what the core computes with. Section 2 of `docs/model.md`.

Glossary
    pool     the entities that learn together: one learner in full, on which each entity leans
    scope    on what a set of heads stands: `fleet`, the pool's weights on inputs standardised by the pool; `norm`, the
             pool's weights on inputs standardised by entity and by pool; `entity`, the entity's own weights
    head     one in-context learner: a linear state, updated by a gradient step an event, read by the inputs
    answer   what a head, or a base such as the last target, predicts in the target's unit
    gate     weights over the answers, from what they were worth so far; one more gate stands over the gates
    code     an input that is 1 while a category has one certain value; a slot each, in order of appearance

Symbols
    C  columns of an event        F  numeric inputs         K  slots for codes (grows)      Q  columns that may be coded
    L = 1 + F + K                 inputs of the fleet and entity scope: the constant, the numbers, the codes
    N = 1 + 2F + K                inputs of the norm scope
    X = 1 + F + J + K             inputs of the heads on products, of which there are J
    M  moment heads               B  heads of the fleet scope         A  of the norm scope   T  answers
    R  embedding's features
    E  entities                   P  pools
"""

from __future__ import annotations

import functools
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.core import blocks
from ssm_stream.core.features import FeaturePlan, quarters_ahead
from ssm_stream.core.frozen_weights import Weights

Z_CLIP = 5.0  # standardised inputs
Q_CLIP = 6.0  # standardised targets and answers
ERROR_CLIP = 3.0  # errors of the gradient heads
WINSOR = 10.0  # deviations a value may count for in the running statistics
FLOOR_RATE = 5e-4  # rate of the running statistics once 2,000 events have been seen
HOLDINGS = 4  # rows of what is known of how alike a feature's values are over time
ALIKE_MOST = 1.0 - 1e-9  # correlation of neighbouring values
AGE_MOST = 1e9  # events since its last known value
SQUARE_MOST = 1e300  # squares of changes of a feature, and of what unknown ones do to the target
LATELY_RATE = 0.04  # of the inputs' means lately: some 25 events of the entity
LATELY_FROM = 100  # events of an entity from which on they are learned: before, its statistics follow as fast
OFF_CENTRE = 1.0  # deviations from which on an input stands off its mean
VALUES = 32  # values of a column that get a slot
RESPONSE = 4  # events from a change on in which it has an effect on the target
RESTING = 2  # values of a feature that turns: is it zero?
PART_SUMS = 4  # rows of a pool's `part`
SLOTS = 256  # slots of a pool
GAPS = 20  # gaps between events that decide whether there is an hour and a weekday to speak of
FACTORS = 8  # numbers that are multiplied with each other
CORRECTED = 3  # heads, at most, whose answers are corrected by what they missed last
CHOOSE_AT = 200  # events that the heads on products learn before they choose these
G = 8  # gates: two of regrets, two of losses, two that stack, of regrets by hour of the day, and by level
VIEWS = 5  # of the gates: lately, by hour, by entity, by how far the gates differ, by level
LEVELS = 8  # places at which regrets by level and by difference are kept
HOURS, WEEK = 24, 168
DAY_BINS, WEEK_BINS = 96, 672  # quarters of an hour
BANDS = 5  # distances from the last target at which the dead band is learned
LAST_TARGET = 1  # its place among the answers
VIEWED, ANSWER = G, G + VIEWS  # of `made`, after the gates' answers: those of the views, of the top gate,
PREDICTION, AT_LEVEL, AT_DIFFERENCE, MADE = range(ANSWER + 1, ANSWER + 5)  # the prediction; places of the situation
SEASONAL = 3  # what a target was at this time: a day ago, usually in the week, usually in the day
BATCH = 7  # events that may wait to be swept with a later one
WAIT_SHARE = 10  # entities for each event that may wait
RATES = 5  # numbers of `Scratch.rate` a head
BATCH_FROM = 1000  # events from which on a pool's sweeps may wait for each other: a young one learns from each at once
PLAIN = 128  # events of the attention with the plain metric

# columns of `target`: mean of y, mean |y − mean|, then mean and variance of each scale
Y_MEAN, Y_SPREAD = 0, 1
RESIDUAL, VALUE, LOG_RESIDUAL, LOG_VALUE = range(4)


class LearnerParams(NamedTuple):
    """Sizes and constants; the same for every pool and entity. Symbols as above.

    features, categories, cycles: columns of an event by kind, in that order
    products, log, gd: 1 where those heads are there; prox: quick proximal heads, or 0; window: events attended to, or 0
    effects: 1 where predictions are shifted by what changes of categories do, and of features from and to zero
    known: 1 where the last known target answers, and corrects heads, though none is an input
    bases: answers that need no head; heads_only: 1 where they do not answer
    differences: 1 where each feature's change is an input; feature_lags: events that changes reach back
    quarters: of an hour by which local time is ahead of UTC beyond whole hours, 0 to 3
    ahead: ms by which a target is predicted ahead of its time
    half_life (M,): of the moment heads, ms, 0 where the decay counts events
    decay, ridge, huber (M,) float32; omega (F + SLOTS, R), phase (R,) float32
    steps (prox,); the rest as in `Weights`
    """

    features: int
    categories: int
    cycles: int
    C: int
    F: int
    Q: int
    K: int
    L: int
    N: int
    M: int
    X: int
    moments: int
    products: int
    R: int
    B: int
    A: int
    T: int
    prox: int
    log: int
    gd: int
    window: int
    bases: int
    lags: int
    effects: int
    known: int
    differences: int
    feature_lags: int
    seasons: int
    quarters: int
    ahead: float
    step_hour: int
    step_weekday: int
    learned_gate: int
    heads_only: int
    slow_step: float
    embedding_step: float
    top_decay: float
    product_decay: float
    product_ridge: float
    product_huber: float
    half_life: NDArray[np.float64]
    decay: NDArray[np.float64]
    ridge: NDArray[np.float32]
    huber: NDArray[np.float32]
    steps: NDArray[np.float64]
    surprise: NDArray[np.float64]
    omega: NDArray[np.float32]
    phase: NDArray[np.float32]
    poly_decay: NDArray[np.float64]
    soft: NDArray[np.float64]
    sweep_decay: NDArray[np.float64]
    sweep_ridge: NDArray[np.float64]
    sweep_huber: NDArray[np.float64]


class EntityState(NamedTuple):
    """One row an entity; zeros are a new entity.

    n (E,) int64: labelled events learned; time (E,): of the last one, ms
    v_mean, v_var, v_count (E, F): running mean and variance of the numeric inputs; values seen of each, at most 2,000
    u_last (E, U): last known features; with U = features · (1 + k) and feature_lags k > 1 also those of the last k
        events, newest first, NaN where unknown. y_last (E, max(lags, 1)): past targets, newest first
    holding (E, 4, features): how alike values are over time, by which an unknown feature is held near its last known
        value: events since that, and decayed sums over values: how many, events that each came after, squared change
    category (E, 7, turning): of the categories, and with effects of whether each feature is zero, the last ones, those
        before; events since they changed, usual ones between changes; changes; Σ change of the target · effect and
        Σ effect², decayed: the entity's part in the effects
    missed (E, corrected): last known errors of the heads that are corrected, as of `corrected_heads`
    target (E, 10): statistics of the target, see the columns above
    bin (E, 4): the quarter of an hour that is not over: number since 1970, place in the week, sum and count of targets
    jumped (E,): events since the latest jump of a feature, from 1, leap with the clock, from 1.25, or pause, from 1.5;
        0 where that is long ago
    day (E, 96), season (E, 672) float32: target in each quarter of an hour of the last day, usual one in each of the
        week; NaN where unknown
    W (E, prox + 1, L) float32: weights of the entity's own proximal heads, the slow one last
    lately (E, 1 + F) float32: [0, running means of the standardised numbers], about which these heads step where an
        input stands off its mean
    loss (E, 2, T), view (E, 2, G) float32: decayed losses of the answers; regrets of the gates and their squares
    unit (E,): usual absolute error
    """

    n: NDArray[np.int64]
    time: NDArray[np.float64]
    v_mean: NDArray[np.float64]
    v_var: NDArray[np.float64]
    v_count: NDArray[np.float64]
    category: NDArray[np.float64]
    holding: NDArray[np.float64]
    u_last: NDArray[np.float64]
    y_last: NDArray[np.float64]
    missed: NDArray[np.float64]
    target: NDArray[np.float64]
    bin: NDArray[np.float64]
    jumped: NDArray[np.float64]
    day: NDArray[np.float32]
    season: NDArray[np.float32]
    W: NDArray[np.float32]
    lately: NDArray[np.float32]
    loss: NDArray[np.float32]
    view: NDArray[np.float32]
    unit: NDArray[np.float64]


class PoolState(NamedTuple):
    """One row a pool; zeros are a new pool.

    n, entities (P,) int64: labelled events; entities met. time, begun (P,): of the last event and of the
        first, ms
    v_mean, v_var, v_count, target: as for an entity, over all of them; y_mean is in target
    spread (P, 4): running mean square deviation of each scale, whose entities lend from it at first
    low, high (P,): least and greatest target; ends (P, 2): shares of the targets that were just these; negative (P,)
        int64: has one been below zero?
    value (P, Q, VALUES), seen (P, Q) int64, dead (P, Q) int64: values of each coded column; how many; no category
        after all
    slot (P, Q, VALUES), missing (P, Q), other (P, Q) int64: slots (plus one; 0 = none yet) of each value, of a missing
        one, of any further one. used (P,) int64: slots given out
    effect, effect_known (P, 2 · RESPONSE, categories · VALUES + features · RESTING): what a change to, and from, each
        value does to the target in the events from it on, where past targets are inputs; 1/variance of that, less 1 (0:
        not known). part (P, 4, turning): sums as in the entity's `category`, Σ change², and events, decayed
    believed (P, features): what it has gained to believe a wild reading of each feature, in usual errors, decayed
    gaps (P, GAPS + 1): gaps between an entity's events, s, and how many are known
    differs (P, Q, 2) int64: has the column differed from the hour, from the weekday?
    regret, regret2 (P, 2, T), hour_regret, hour_regret2 (P, 24, T), level_regret, level_regret2 (P, LEVELS, T) float32,
        of an hour, of a level each; loss (P, T), losses (P,);
    stack_S (P, 2, T, T), stack_R, stack_W (P, 2, T);
    stack_level (P, 2), stack_batch (P, BATCH, T), stack_kept (P, 2, BATCH), stack_waiting (P,): as of the heads;
    view (P, 2, G): regrets of the gates, and their squares; hour_view (P, 24, 2, G), difference_view, level_view
        (P, LEVELS, 2, G) float32: by situation; top, top2 (P, VIEWS): of the views; unit (P,): usual absolute error
    carry (P, 2, CORRECTED): decayed sums of e e′ and of e², e′ an error of a head that is corrected and e the one that
        was known before it
    band (P, 2, BANDS): what leaving the last target has gained, by distance, and the squares
    surprise (P, 3): fast and slow mean of the first moment head's |error|; events that the slow one holds, decayed
    product_n (P,) int64: events that the heads on products have learned; product_of (P, k) int64: numbers that are
        multiplied, plus one (0 = not chosen yet); product_mean, product_var, product_count (P, J): of the products, as
        v_mean; product_S (P, X, X), product_R, product_W (P, 1 or 2, X), product_level (P, 1), product_batch
        (P, BATCH, X), product_kept (P, BATCH), product_waiting (P,): of these heads, as in `HeadsState`, with one S for
        both, of which the second is in log space
    """

    n: NDArray[np.int64]
    entities: NDArray[np.int64]
    time: NDArray[np.float64]
    begun: NDArray[np.float64]
    v_mean: NDArray[np.float64]
    v_var: NDArray[np.float64]
    v_count: NDArray[np.float64]
    believed: NDArray[np.float64]
    target: NDArray[np.float64]
    spread: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    ends: NDArray[np.float64]
    negative: NDArray[np.int64]
    value: NDArray[np.float64]
    seen: NDArray[np.int64]
    dead: NDArray[np.int64]
    slot: NDArray[np.int64]
    missing: NDArray[np.int64]
    other: NDArray[np.int64]
    used: NDArray[np.int64]
    effect: NDArray[np.float64]
    effect_known: NDArray[np.float64]
    part: NDArray[np.float64]
    gaps: NDArray[np.float64]
    differs: NDArray[np.int64]
    regret: NDArray[np.float64]
    regret2: NDArray[np.float64]
    hour_regret: NDArray[np.float32]
    hour_regret2: NDArray[np.float32]
    level_regret: NDArray[np.float32]
    level_regret2: NDArray[np.float32]
    loss: NDArray[np.float64]
    losses: NDArray[np.float64]
    stack_S: NDArray[np.float64]
    stack_R: NDArray[np.float64]
    stack_W: NDArray[np.float64]
    stack_level: NDArray[np.float64]
    stack_batch: NDArray[np.float64]
    stack_kept: NDArray[np.float64]
    stack_waiting: NDArray[np.int64]
    view: NDArray[np.float64]
    hour_view: NDArray[np.float32]
    difference_view: NDArray[np.float32]
    level_view: NDArray[np.float32]
    top: NDArray[np.float64]
    top2: NDArray[np.float64]
    carry: NDArray[np.float64]
    band: NDArray[np.float64]
    unit: NDArray[np.float64]
    surprise: NDArray[np.float64]
    product_n: NDArray[np.int64]
    product_of: NDArray[np.int64]
    product_waiting: NDArray[np.int64]
    product_level: NDArray[np.float32]
    product_kept: NDArray[np.float32]
    product_mean: NDArray[np.float64]
    product_var: NDArray[np.float64]
    product_count: NDArray[np.float64]
    product_R: NDArray[np.float32]
    product_W: NDArray[np.float32]
    product_batch: NDArray[np.float32]
    product_S: NDArray[np.float32]


class HeadsState(NamedTuple):
    """Weights of a pooled scope with D inputs, one row a pool (no row while no pool has a second entity: `norm`).

    S (P, M', D, D), R, W (P, M', D) float32: decayed second moments, P − S W, weights; M' = M, one more with attention
    level (P, M'): S and R stand for so many times what is stored (0: once)
    batch (P, BATCH, D), kept (P, M', BATCH), waiting (P,) int64: inputs and ω of the events that are not in S yet;
        how many
    gradient (P, 2 prox + 1, D): proximal, slow, proximal in log space; of the fleet
    embedding (P, 2, R + D): linear, log; of the fleet; gd (P, D)
    keys (P, D, window), held (P, 4, window): attention's inputs; its residuals, values, and both in log space
    past (P, lags, window): attention's other keys, the targets before
    near (P, 5): usual distance of the nearest key, by metric; last, keys held so far
    """

    S: NDArray[np.float32]
    R: NDArray[np.float32]
    W: NDArray[np.float32]
    level: NDArray[np.float32]
    batch: NDArray[np.float32]
    kept: NDArray[np.float32]
    waiting: NDArray[np.int64]
    gradient: NDArray[np.float32]
    embedding: NDArray[np.float32]
    gd: NDArray[np.float32]
    keys: NDArray[np.float32]
    held: NDArray[np.float32]
    past: NDArray[np.float32]
    near: NDArray[np.float64]


class Learner(NamedTuple):
    """All state of E entities in P pools."""

    entity: EntityState
    pool: PoolState
    fleet: HeadsState
    norm: HeadsState


class Scratch(NamedTuple):
    """What is known of one event before its target.

    v (F,) numeric inputs; season: seasonal answers, NaN where there are none
    slots (Q + 2,) int64: codes that are 1; flag (5,) int64: how many; new slots that learning
        will need; whether the entity and norm scopes answer; whether the calendar's seasons do; how many of the codes
        are of columns, which come before those of the hour and the weekday; on (2,) int64: whether
        hour and weekday are codes; wild (1,) int64: the feature with a wild reading, plus one, 0 if no reading is wild,
        negative if it is unknown in taken (C,), the event as it is learned; otherwise (1,): what would be predicted if
        that were the other way round
    fleet, norm, entity (D,) float32: inputs of each scope, [1, z, codes]; centred (L,) float32: the direction of a step
        of the entity's own heads, about their centre; size (1,): squared norm of fleet
    phi (R,) float32: embedding
    q (4, B + prox + 2): standardised answers of the heads: fleet, entity, norm, on products
    scale (2, 4, 2): mean and deviation of each scale, of the pool and of the entity
    base (10,): base, its logarithm, the entity's mean, least and greatest answer, least prediction allowed, what
        the prediction is shifted by, as categories changed, last errors of corrected heads
    a (T,) answers; active (T,): 1 or 0; gate (G, T): in proportion to weights; made (MADE,): answers of the gates, of
        the views, of the top gate, the prediction, and where between two places level and difference of the gates lie;
        judged (1,): the answer that is judged, of the gates and the challenger; unsure (18,): mean square of what it
        is wrong by for features that are unknown; square of its leap with the clock, and of one as usual, negative
        where it is down; squared error more after a gap, over the usual one; in which span after a change of a
        category it is, and after a jump of a feature; how long a category usually stays that changes with it; events
        since the jump, from 1; usual gaps since the event before;
        turn (2, categories): events since each changed, −1 where that is long ago, and its value before;
        g (T,) total weights; off (T,): room.
        Places beyond the answers in use are zero, to whole vector steps
    attend (4, window) float32: distances of the keys, W · key, weights, ones; least (2, 4): least
        distance by pool or entity and metric; past (2, lags): targets before, standardised by pool and by entity;
        places (1,) int64: answers in use;
        ratio (F,): of the entity's to the pool's deviation of each input; decay (M,): of this event
    rate (M', 5) float32, stack_rate (2, 5): ω, ρ, level, ωe and λ of this event for each moment head and stacking
        gate; others (SLOTS,) int64: codes to sweep;
        stack (T,): inputs of the stacking gates; levels (10, ·), error_scale (4, ·): room of the
        mean-shift detector and of the scale of errors; deviation (2, ·): of each input, of the pool and of the entity
    product (X,) float32: inputs of the heads on products; product_raw, product_deviation (J,): the products, NaN where
        unknown, and their deviations; product_rate (5,): as a row of `rate`
    """

    v: NDArray[np.float64]
    season: NDArray[np.float64]
    slots: NDArray[np.int64]
    flag: NDArray[np.int64]
    on: NDArray[np.int64]
    wild: NDArray[np.int64]
    fleet: NDArray[np.float32]
    norm: NDArray[np.float32]
    entity: NDArray[np.float32]
    centred: NDArray[np.float32]
    size: NDArray[np.float32]
    phi: NDArray[np.float32]
    q: NDArray[np.float64]
    scale: NDArray[np.float64]
    base: NDArray[np.float64]
    a: NDArray[np.float64]
    active: NDArray[np.float64]
    gate: NDArray[np.float64]
    made: NDArray[np.float64]
    judged: NDArray[np.float64]
    unsure: NDArray[np.float64]
    turn: NDArray[np.float64]
    taken: NDArray[np.float64]
    otherwise: NDArray[np.float64]
    g: NDArray[np.float64]
    off: NDArray[np.float64]
    attend: NDArray[np.float32]
    least: NDArray[np.float64]
    past: NDArray[np.float32]
    places: NDArray[np.int64]
    ratio: NDArray[np.float64]
    decay: NDArray[np.float64]
    rate: NDArray[np.float32]
    stack_rate: NDArray[np.float64]
    stack: NDArray[np.float64]
    others: NDArray[np.int64]
    levels: NDArray[np.float64]
    error_scale: NDArray[np.float64]
    deviation: NDArray[np.float64]
    product: NDArray[np.float32]
    product_rate: NDArray[np.float32]
    product_raw: NDArray[np.float64]
    product_deviation: NDArray[np.float64]


ONES = 3  # row of Scratch.attend
# flags of Scratch.flag
CODES, FRESH, MANY, SEASONS, NAMED = range(5)
# columns of Scratch.base
BASE, LOG_BASE, MEAN, LOW, HIGH, LEAST, MOST, SHIFT, MISSED = range(9)
BASES = MISSED + CORRECTED
# rows of Scratch.q; the first two also of Scratch.size
FLEET, ENTITY, NORM, PRODUCTS = range(4)


class Heads(NamedTuple):
    """Which heads answer; see `config.Model`. size, scale: of the embedding; None: all features of the weights
    known: labels come by themselves: without past targets the last one answers, and what heads missed corrects them"""

    moments: bool = True
    products: bool = True
    proximal: bool = True
    embedding: bool = True
    attention: int = 0
    gd: bool = False
    log_space: bool = True
    learned_gate: bool = True
    heads_only: bool = False
    known: bool = False
    size: int | None = None
    scale: float = 1.0


def learner_params(
    plan: FeaturePlan,
    weights: Weights,
    heads: Heads,
    half_lives: tuple[tuple[float, float], ...] | None = None,
    K: int = 0,
    ahead: float = 0.0,
) -> LearnerParams:
    """Sizes and constants.

    Args:
        plan: inputs
        weights: meta-parameters
        heads: which heads answer
        half_lives: (events, seconds), one of them 0, of the moment heads; None: the weights' own
        K: slots for codes
        ahead: ms by which a target is predicted ahead of its time
    """
    F, Q = len(plan.numbers), len(plan.coded)
    decay, half_life = weights.moment_decay.astype(np.float64), np.zeros(len(weights.moment_decay))
    ridge, huber = weights.moment_ridge, weights.moment_huber
    if half_lives is not None:
        decay = np.array([0.5 ** (1 / events) if events else 0.0 for events, _ in half_lives])
        half_life = np.array([1000.0 * seconds for _, seconds in half_lives])
        quick = (decay > 0) & (decay < 0.99)
        ridge, huber = np.where(quick, 10.0, 1.0), np.full(len(decay), 1.0)
    M = len(decay) if heads.moments or heads.attention else 0
    R = (heads.size or len(weights.frequency)) if heads.embedding else 0
    used = embedding_features(len(weights.frequency), R)
    log = int(heads.log_space)
    prox = len(weights.proximal_step) if heads.proximal else 0
    attended = 0
    if heads.attention:
        attended = 4 + (plan.lags > 0) + 3 * log
    A = int((M if heads.moments else 0) + heads.gd + attended)
    B = int(A + prox + (prox > 0) + (R > 0) + log * (prox + (R > 0)))
    known = heads.known and not plan.lags
    corrected = known * (2 * (heads.moments and M > 0) + heads.products)
    past = plan.lags > 0 or known
    bases = int(1 + past + SEASONAL * (1 + past) * plan.seasons + corrected)
    frequency = (heads.scale * weights.frequency[used]).tobytes()
    return LearnerParams(
        features=len(plan.features),
        categories=len(plan.categories),
        cycles=len(plan.cycles),
        C=len(plan.columns),
        F=F,
        Q=Q,
        K=K,
        L=1 + F + K,
        N=1 + 2 * F + K,
        M=M,
        X=heads.products * (1 + F + _pairs(F) + K),
        moments=int(heads.moments),
        products=int(heads.products),
        R=R,
        B=B,
        A=A,
        T=bases + B + A + heads.products * (1 + log) + prox + (prox > 0),
        prox=prox,
        log=log,
        gd=int(heads.gd),
        window=heads.attention,
        bases=bases,
        lags=plan.lags,
        effects=int(plan.lags > 0 and len(plan.categories) + len(plan.features) > 0),
        known=int(known),
        differences=int(plan.changes),
        feature_lags=plan.feature_lags,
        seasons=int(plan.seasons),
        quarters=quarters_ahead(plan.time_zone),
        ahead=ahead,
        step_hour=plan.steps[0],
        step_weekday=plan.steps[1],
        learned_gate=int(heads.learned_gate),
        heads_only=int(heads.heads_only),
        slow_step=float(weights.slow_step),
        embedding_step=float(weights.embedding_step),
        top_decay=float(weights.top_decay),
        product_decay=float(weights.product_decay),
        product_ridge=float(weights.product_ridge),
        product_huber=float(weights.product_huber),
        half_life=half_life,
        decay=decay,
        ridge=ridge.astype(np.float32),
        huber=huber.astype(np.float32),
        steps=weights.proximal_step,
        surprise=weights.surprise,
        omega=_directions(frequency, F).copy(),
        phase=weights.phase[used].astype(np.float32),
        poly_decay=weights.poly_decay,
        soft=weights.soft,
        sweep_decay=weights.sweep_decay,
        sweep_ridge=weights.sweep_ridge,
        sweep_huber=weights.sweep_huber,
    )


def _pairs(F: int) -> int:
    """Products of the numbers that are multiplied."""
    k = min(F, FACTORS)
    return k * (k + 1) // 2


def factors(p: LearnerParams) -> int:
    """Numbers k that are multiplied with each other, by the heads on products."""
    return p.products * min(p.F, FACTORS)


def norm_params(p: LearnerParams) -> LearnerParams:
    """Which heads the norm scope has: no gradient heads and no embedding, those of fleet and entity do for them."""
    return p._replace(prox=0, R=0)


def turning(p: LearnerParams) -> int:
    """Columns whose changes are followed: categories, and where changes have effects, whether each feature is zero."""
    return p.categories + p.effects * p.features


def product_heads(p: LearnerParams) -> int:
    """Heads on products: of the residual, and in log space."""
    return p.products * (1 + p.log)


def corrected_heads(p: LearnerParams) -> list[int]:
    """Places of the heads that are corrected, among the answers; none where the last known target does not answer.

    They are the first moment head of the fleet scope, the one on products, and the first moment head of the norm scope.
    """
    if not p.known:
        return []
    moments = [p.bases] * (p.moments and p.M > 0)
    norm = p.bases + p.B + product_heads(p) + p.prox + (p.prox > 0)
    return [*moments, *([p.bases + p.B] * p.products), *([norm] * len(moments))]


def has_dead_band(p: LearnerParams) -> bool:
    """Whether predictions may stay at the last known target: it is among the answers, and gates learn."""
    return bool((p.lags or p.known) and p.learned_gate and not p.heads_only)


def embedding_features(trained: int, R: int) -> NDArray[np.int64]:
    """Places (R,) of the embedding's features among those trained: evenly among them, or all, again and again.

    A feature that comes again has the frequency and phase of the first, and a direction of its own.
    """
    count = np.arange(R)
    return count * trained // R if trained > R else count % max(trained, 1)


@functools.lru_cache(maxsize=64)
def _directions(frequencies: bytes, F: int) -> NDArray[np.float32]:
    """Random directions of the embedding, (F + SLOTS, R): a row an input, whatever else there is."""
    frequency = np.frombuffer(frequencies)
    rows = [*range(F), *range(1_000_000, 1_000_000 + SLOTS)]
    normal = np.array([np.random.default_rng((1, row)).normal(size=len(frequency)) for row in rows])
    directions: NDArray[np.float32] = (normal * frequency / np.sqrt(F + 2)).astype(np.float32)
    return directions


def past_features(p: LearnerParams) -> int:
    """Width U of `u_last`. One event back the last known values do, and they are kept in any case."""
    return p.features * (1 + p.feature_lags) if p.feature_lags > 1 else p.features


def new_entities(p: LearnerParams, E: int) -> EntityState:
    """E new entities."""
    return blocks.zeros(EntityState, "entity", E, p)


def new_pools(p: LearnerParams, P: int) -> PoolState:
    """P new pools."""
    return blocks.zeros(PoolState, "pool", P, p)


def new_heads(p: LearnerParams, P: int, scope: Literal["fleet", "norm"]) -> HeadsState:
    """Weights of P pools in that scope."""
    return blocks.zeros(HeadsState, scope, P, p)


def new_scratch(p: LearnerParams) -> Scratch:
    """Working space of one event."""
    scratch = Scratch(*(array[0] for array in blocks.zeros(Scratch, "scratch", 1, p)))
    scratch.attend[ONES] = 1.0
    return scratch
