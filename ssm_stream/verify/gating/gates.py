"""The in-context gate in 64-bit floats, written out from its equations: what the production gate is held to.

It takes expert predictions, targets and the constants of the gates; weights, regrets, losses and moments are its own
from the first event to the last. It judges the kernel's experts and the kernel's gates: after a constant stretch the
usual error is hardly more than rounding, and regrets, which are in units of it, would carry rounding into the weights.

Symbols as in `core/shapes.py`; further
    t  experts in use, at most T
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.core.constants import (
    BEND,
    LOSS_CLIP,
    POOL_DECAY,
    ROUNDING,
    SEASON_NEAR,
    SITUATION_DECAY,
    STACK_CLIP,
    UNIT_RATE,
)
from ssm_stream.core.shapes import (
    ANSWER,
    AT_LEVEL,
    HOURS,
    LAST_TARGET,
    LEVELS,
    WINSOR,
    G,
    LearnerParams,
    corrected_heads,
    has_dead_band,
)
from ssm_stream.verify.gating.corrections import Corrections
from ssm_stream.verify.gating.dead_band import DeadBand, Held
from ssm_stream.verify.gating.regrets import by_regret, learn_sums, regrets, shares_of, with_shared
from ssm_stream.verify.gating.views import Situation, Views, difference_of, level_of
from ssm_stream.verify.reference import Array, sweep

HOUR, LEVEL = 6, 7
"""Places of the gates by hour and by level."""
KNOWN = 30.0
"""Events after which the usual error ignores how far out an error is."""


class Limits(NamedTuple):
    """low, high: of an answer; least, most: of a prediction; scale: mean and deviation of the pool's targets.

    shift: of a prediction, by what changes of categories do
    """

    low: float
    high: float
    least: float
    most: float
    scale: tuple[float, float]
    shift: float

    def shifted(self, predicted: float) -> float:
        """Return a prediction with the shift, within the limits."""
        predicted = min(max(predicted, self.least), self.most)
        if self.shift == 0.0:
            return predicted
        return min(max(min(max(predicted + self.shift, self.low), self.high), self.least), self.most)


class Weights(NamedTuple):
    """gates (G, t): weights of the experts in each gate; top (G,): weights of the gates; limits: of answers

    band: which part of the way back to the last target a prediction takes; units: usual errors of entity and pool
    """

    gates: Array
    top: Array
    limits: Limits
    band: Held | None = None
    units: tuple[float, float] = (0.0, 0.0)

    @property
    def total(self) -> Array:
        """(t,) weights of the experts in the prediction."""
        return np.asarray(self.top @ self.gates)

    def predict(self, a: Array, active: NDArray[np.bool_]) -> float:
        """Return the prediction from expert predictions a (t,), of which those that are active (t,) count."""
        mean = a[active].mean()
        made = np.clip(mean + self.gates @ np.where(active, a - mean, 0.0), self.limits.low, self.limits.high)
        predicted = float(self.top @ made)
        if self.band is None:
            return self.limits.shifted(predicted)
        last = float(a[LAST_TARGET])
        rounding = ROUNDING * max(abs(predicted), abs(last))
        held = self.band.predict(predicted, last, _usual_error(self.units, rounding, 0.0))
        return self.limits.shifted(held)


def _usual_error(units: tuple[float, float], rounding: float, otherwise: float) -> float:
    """Return the usual error of the entity; the pool's where it had none but rounding."""
    return next((unit for unit in units if unit > rounding), otherwise)


class Moment(NamedTuple):
    """Of an event.

    n, n_pool: labelled events of the entity and of the pool before; max_waiting: events that may wait to be swept
    hour: of the day
    """

    n: int
    n_pool: int
    max_waiting: int
    hour: int


class OwnLosses:
    """Of one entity.

    loss (2, T): decayed losses of the experts; view (2, G): regrets of the gates and their squares; unit: usual
    absolute error; missed (J,): last errors of corrected heads
    """

    def __init__(self, p: LearnerParams) -> None:
        self.loss, self.view, self.unit = np.zeros((2, p.T)), np.zeros((2, G)), 0.0
        self.missed = np.zeros(len(corrected_heads(p)))


class Gates:
    """The gates of a pool: two of regrets, two of losses, two that stack, of regrets by hour and level; and the views.

    regret, regret2 (2, T): decayed regrets and their squares; hours (24, 2, T), levels (LEVELS, 2, T): those by hour
    and level; loss (T,), losses: decayed losses and their count; S (2, T, T), P, W (2, T): decayed moments and weights
    of the stacking gates; views: of the gates; unit: usual absolute error; waiting: events since a sweep;
    corrections: of the heads whose answers are corrected; band: the dead band, None if predictions have none
    """

    def __init__(self, p: LearnerParams) -> None:
        self.p, self.soft = p, p.soft.reshape(2, 4)
        self.regret, self.regret2 = np.zeros((2, 2, p.T))
        self.hours, self.levels = np.zeros((HOURS, 2, p.T)), np.zeros((LEVELS, 2, p.T))
        self.loss, self.losses = np.zeros(p.T), 0.0
        self.S = np.zeros((2, p.T, p.T))
        self.P, self.W = np.zeros((2, 2, p.T))
        self.views = Views()
        self.unit, self.waiting = 0.0, 0
        self.corrections = Corrections(p)
        self.band = DeadBand() if has_dead_band(p) else None

    def weights(self, a: Array, active: NDArray[np.bool_], own: OwnLosses, limits: Limits, hour: int) -> Weights:
        """Return the weights. a (t,): expert predictions; active (t,): those that count; hour: of the day"""
        t = len(active)
        if not self.p.learned_gate:
            uniform = np.repeat(active[None] / active.sum(), G, 0)
            return Weights(uniform, np.full(G, 1.0 / G), limits)
        mean = float(a[active].mean())
        level = level_of(mean, limits.scale)
        gates = np.concatenate(
            [
                by_regret(self.regret[:, :t], self.regret2[:, :t], active),
                self._by_loss(own.loss[:, :t], active),
                self._stacked(active),
                self._in_situation(self.hours[hour, None], np.ones(1), active),
                self._in_situation(self.levels, shares_of(level), active),
            ]
        )
        made = np.clip(mean + gates @ np.where(active, a - mean, 0.0), limits.low, limits.high)
        usual = _usual_error((own.unit, self.unit), ROUNDING * abs(mean), 0.0)
        top = self.views.weights(own.view, Situation(hour, level, difference_of(made, usual)))
        band = None if self.band is None else self.band.held()
        return Weights(gates, top, limits, band, (own.unit, self.unit))

    def season_limits(self, t: int, own: OwnLosses, last: float, n: int) -> Array:
        """(t,): up to how far seasonal experts count from the last target, after n labelled events of the entity."""
        unit = _usual_error((own.unit, self.unit), ROUNDING * abs(last), 0.0)
        if not self.p.learned_gate or not (self.p.lags or self.p.known) or unit == 0.0 or n < 2:
            return np.full(t, np.inf)
        _, decay, _, _ = self.soft[1]
        below = 1.0 - own.loss[1, :t] * (1.0 - decay) / (LOSS_CLIP * (1.0 - decay ** (n - 1)))
        near = (below / SEASON_NEAR).clip(0.0, 1.0)
        with np.errstate(divide="ignore"):
            far: Array = STACK_CLIP * unit / (1.0 - near)
        return far

    def _by_loss(self, own: Array, active: NDArray[np.bool_]) -> Array:
        """(2, t): (1 − sharpness · (loss − least) / 256)⁺ to the 256th, and a fixed share for all.

        The loss is the entity's, and the pool's mean one as that of some events. own (2, t)
        """
        sharpness, _, prior, share = self.soft.T[:, :, None]
        loss = own + prior * (self.loss[: own.shape[1]] / max(self.losses, 1e-9))
        least = loss[:, active].min(1, keepdims=True)
        raw = np.where(active, np.maximum(1.0 - sharpness * (loss - least) / 256.0, 0.0), 0.0) ** 256
        return np.where(active, (1.0 - share) * raw / raw.sum(1, keepdims=True) + share / active.sum(), 0.0)

    def _in_situation(self, sums: Array, shares: Array, active: NDArray[np.bool_]) -> Array:
        """(1, t): as by regrets; those of the places, and a part of the slow gate's. sums (places, 2, T)"""
        t = len(active)
        of_all = np.stack([self.regret[1, :t], self.regret2[1, :t]])
        regret, regret2 = with_shared(sums[:, :, :t], shares, of_all)
        return by_regret(regret, regret2, active)[None]

    def _stacked(self, active: NDArray[np.bool_]) -> Array:
        """(2, t): W + (1 − Σ W) / experts, so that a prediction is mean + Σ W (a − mean)."""
        W = np.where(active, self.W[:, : len(active)], 0.0)
        return np.where(active, W + (1.0 - W.sum(1, keepdims=True)) / active.sum(), 0.0)

    def learn(self, a: Array, active: NDArray[np.bool_], made: Array, y: float, own: OwnLosses, at: Moment) -> None:
        """Learn target y of an event.

        a, active (t,): expert predictions; made (MADE,): predictions of the gates, of the views, of the top gate and of
            all, and the places between two levels and differences;
        """
        answer = float(made[ANSWER])
        t, error, rounding = len(a), abs(answer - y), ROUNDING * max(abs(answer), abs(y))
        error = error if error > rounding else 0.0
        unit = _usual_error((own.unit, self.unit), rounding, error)
        if self.p.learned_gate and unit > 0:
            below = min(int(made[AT_LEVEL]), LEVELS - 2)
            squares = np.stack([*self.regret2, self.hours[at.hour, 1], self.levels[below : below + 2, 1].min(0)])[:, :t]
            r = regrets(made[[0, 1, HOUR, LEVEL]], a[None], y, unit, BEND, squares) * active
            decay = self.p.poly_decay[:, None]
            self.regret[:, :t] = decay * self.regret[:, :t] + r[:2]
            self.regret2[:, :t] = decay * self.regret2[:, :t] + r[:2] * r[:2]
            _, _, of_hour, of_level = np.stack([r, r * r], 1)
            learn_sums(self.hours[at.hour, None, :, :t], np.ones(1), SITUATION_DECAY, of_hour)
            learn_sums(self.levels[:, :, :t], shares_of(float(made[AT_LEVEL])), SITUATION_DECAY, of_level)
            self._learn_stack(a, active, y, unit, at.max_waiting)
            decays = float(self.p.poly_decay[0]), float(self.p.top_decay)
            self.views.learn(made, own.view, y, unit, at.hour, decays)
            lost = np.where(active, np.minimum(np.abs(a - y) / unit, LOSS_CLIP), LOSS_CLIP)
            own.loss *= self.soft[:, 1, None]
            own.loss[:, :t] += lost
            self.loss *= POOL_DECAY
            self.loss[:t] += lost
            self.losses = POOL_DECAY * self.losses + 1.0
            self.corrections.learn(a, active, own.missed, y, unit)
            if self.band is not None:
                self.band.learn(answer, float(a[LAST_TARGET]), y, unit)
        own.unit = _usual(own.unit if own.unit > rounding else unit, at.n, error)
        self.unit = _usual(self.unit if self.unit > rounding else unit, at.n_pool, error)

    def _learn_stack(self, a: Array, active: NDArray[np.bool_], y: float, unit: float, max_waiting: int) -> None:
        """S ← λS + ωxxᵀ, P ← λP + ωqx, x the experts' distances from their mean; then a sweep, of the quick one two."""
        p, t, mean = self.p, len(a), a[active].mean()
        x = np.where(active, np.clip((a - mean) / unit, -STACK_CLIP, STACK_CLIP), 0.0)
        q = float(np.clip((y - mean) / unit, -STACK_CLIP, STACK_CLIP))
        S, P, W = self.S[:, :t, :t], self.P[:, :t], self.W[:, :t]
        weigh = np.minimum(p.sweep_huber / np.maximum(np.abs(q - W @ x), 1e-300), 1.0)
        self.S *= p.sweep_decay[:, None, None]
        S += weigh[:, None, None] * np.outer(x, x)
        self.P *= p.sweep_decay[:, None]
        P += (weigh * q)[:, None] * x
        if self.waiting < max_waiting:
            self.waiting += 1
            return
        self.waiting = 0
        every = np.ones((1, t), np.bool_)
        W[:] = sweep(S[None], P[None], W[None], p.sweep_ridge, every)[0]
        W[:1] = sweep(S[None, :1], P[None, :1], W[None, :1], p.sweep_ridge[:1], every)[0]


def _usual(unit: float, n: int, error: float) -> float:
    """Running mean of the absolute error; an error counts for at most `WINSOR` of it once `KNOWN` are learned."""
    if n > KNOWN:
        error = min(error, WINSOR * unit)
    return unit + max(UNIT_RATE, 1.0 / (n + 2.0)) * (error - unit)
