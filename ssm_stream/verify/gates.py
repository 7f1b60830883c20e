"""The in-context gate in 64-bit floats, written out from its equations: what the production gate is held to.

It takes expert predictions and targets, and the constants of the gates, and nothing else; weights, regrets, losses and
moments are its own from the first event to the last. Two sets of predictions run side by side: those of the kernel's
heads, which hold the gate alone to its equations, and those of the reference's heads, which hold the whole prediction.

Symbols as in `core/shapes.py`; further
    s  sets of expert predictions        t  experts in use, at most T
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.core.constants import LOSS_CLIP, POOL_DECAY, PRIOR, STACK_CLIP, TOP_PRIOR, UNIT_RATE
from ssm_stream.core.shapes import WINSOR, Z_CLIP, G, LearnerParams
from ssm_stream.verify.reference import Array, sweep

SETS = 2
"""Sets of expert predictions: of the kernel's heads, and of the reference's."""
KNOWN = 30.0
"""Events after which the usual error ignores how far out an error is."""


class Mixed(NamedTuple):
    """made (s, G): predictions of the gates; g (s, t): total weights of the experts; yhat (s,)."""

    made: Array
    g: Array
    yhat: Array


class OwnLosses(NamedTuple):
    """Of one entity: loss (s, 2, T): decayed losses of the experts; unit (s,): usual absolute error."""

    loss: Array
    unit: Array


def new_losses(p: LearnerParams) -> OwnLosses:
    """The losses of a new entity."""
    return OwnLosses(np.zeros((SETS, 2, p.T)), np.zeros(SETS))


class Gates:
    """The gates of a pool: two of regrets, two of losses, two that stack, and one over those.

    regret, regret2 (s, 2, T): decayed regrets and their squares; loss (s, T), losses: decayed losses and their count;
    S (s, 2, T, T), P, W (s, 2, T): decayed moments and weights of the stacking gates; top, top2 (s, G): regrets of the
    gates; unit (s,): usual absolute error; waiting: events since a sweep
    """

    def __init__(self, p: LearnerParams) -> None:
        self.p = p
        self.regret, self.regret2 = np.zeros((2, SETS, 2, p.T))
        self.loss, self.losses = np.zeros((SETS, p.T)), 0.0
        self.S = np.zeros((SETS, 2, p.T, p.T))
        self.P, self.W = np.zeros((2, SETS, 2, p.T))
        self.top, self.top2 = np.zeros((2, SETS, G))
        self.unit, self.waiting = np.zeros(SETS), 0

    def mix(self, a: Array, active: NDArray[np.bool_], own: OwnLosses, low: float, high: float) -> Mixed:
        """Return predictions and weights; keeps what `learn` needs.

        a (s, t): expert predictions; active (t,): those that count; low, high: bounds of a prediction
        """
        t = a.shape[1]
        self._a, self._active, self._own = a, active, own
        mean = self._mean = a[:, active].mean(1)
        if not self.p.learned_gate:
            g = np.broadcast_to(active / active.sum(), a.shape)
            self._mixed = Mixed(np.repeat(mean[:, None], G, 1), g, mean)
            return self._mixed
        weights = np.concatenate(
            [
                _by_regret(self.regret[..., :t], self.regret2[..., :t], active, PRIOR),
                self._by_loss(own.loss[..., :t], active),
                self._stacked(active),
            ],
            1,
        )
        off = np.where(active, a - mean[:, None], 0.0)
        made = np.clip(mean[:, None] + (weights @ off[:, :, None])[..., 0], low, high)
        top = _by_regret(self.top, self.top2, np.ones(G, np.bool_), TOP_PRIOR)
        self._mixed = Mixed(made, (top[:, None] @ weights)[:, 0], (top * made).sum(1))
        return self._mixed

    def _by_loss(self, own: Array, active: NDArray[np.bool_]) -> Array:
        """(s, 2, t): (1 − sharpness · (loss − least) / 256)⁺ to the 256th, and a fixed share for all.

        The loss is the entity's, and the pool's mean one as that of some events. own (s, 2, t)
        """
        sharpness, _, prior, share = self.p.soft.reshape(2, 4).T[:, :, None]
        loss = own + prior * (self.loss[:, None, : own.shape[2]] / max(self.losses, 1e-9))
        least = loss[..., active].min(2, keepdims=True)
        raw = np.where(active, np.maximum(1.0 - sharpness * (loss - least) / 256.0, 0.0), 0.0) ** 256
        return np.where(active, (1.0 - share) * raw / raw.sum(2, keepdims=True) + share / active.sum(), 0.0)

    def _stacked(self, active: NDArray[np.bool_]) -> Array:
        """(s, 2, t): W + (1 − Σ W) / experts, so that a prediction is mean + Σ W (a − mean)."""
        W = np.where(active, self.W[..., : len(active)], 0.0)
        return np.where(active, W + (1.0 - W.sum(2, keepdims=True)) / active.sum(), 0.0)

    def learn(self, y: float, n: tuple[int, int], max_waiting: int) -> None:
        """Learn target y of the event that `mix` predicted.

        n: labelled events of the entity and of the pool before; max_waiting: events that may wait to be swept
        """
        a, active, own, mixed, t = self._a, self._active, self._own, self._mixed, len(self._active)
        error = np.abs(mixed.yhat - y)
        start = np.where(own.unit > 0, own.unit, self.unit)
        start = np.where(start > 0, start, error)
        if self.p.learned_gate and (start > 0).all():
            unit = start[:, None]
            r = _regrets(mixed.made[:, :2], np.repeat(a[:, None], 2, 1), y, start) * active
            decay = self.p.poly_decay[:, None]
            for sums, new in ((self.regret, r), (self.regret2, r * r)):
                sums[..., :t] = decay * sums[..., :t] + new
            self._learn_stack(y, start, max_waiting)
            r = _regrets(mixed.yhat[:, None], mixed.made[:, None], y, start)[:, 0]
            self.top = self.p.top_decay * self.top + r
            self.top2 = self.p.top_decay * self.top2 + r * r
            lost = np.where(active, np.minimum(np.abs(a - y) / unit, LOSS_CLIP), LOSS_CLIP)
            own.loss[..., :t] = self.p.soft.reshape(2, 4)[:, 1, None] * own.loss[..., :t] + lost[:, None]
            own.loss[..., t:] *= self.p.soft.reshape(2, 4)[:, 1, None]
            self.loss *= POOL_DECAY
            self.loss[:, :t] += lost
            self.losses = POOL_DECAY * self.losses + 1.0
        for units, count in zip((own.unit, self.unit), n, strict=True):
            _learn_unit(units, count, error, start)

    def _learn_stack(self, y: float, unit: Array, max_waiting: int) -> None:
        """S ← λS + ωxxᵀ and P ← λP + ωqx with x the experts' distances from their mean, then a sweep of all weights."""
        p, t, active = self.p, len(self._active), self._active
        x = np.where(active, (self._a - self._mean[:, None]) / unit[:, None], 0.0)
        x = np.clip(x, -STACK_CLIP, STACK_CLIP)
        q = np.clip((y - self._mean) / unit, -STACK_CLIP, STACK_CLIP)
        S, P, W = self.S[..., :t, :t], self.P[..., :t], self.W[..., :t]
        error = q[:, None] - (W @ x[:, :, None])[..., 0]
        weigh = np.minimum(p.sweep_huber / np.maximum(np.abs(error), 1e-300), 1.0)[..., None]
        self.S *= p.sweep_decay[:, None, None]
        S += (weigh * x[:, None])[..., None] * x[:, None, None]
        self.P *= p.sweep_decay[:, None]
        P += weigh * q[:, None, None] * x[:, None]
        if self.waiting < max_waiting:
            self.waiting += 1
            return
        self.waiting = 0
        W[:] = sweep(S, P, W, p.sweep_ridge, np.ones((SETS, t), np.bool_))


def _by_regret(regret: Array, regret2: Array, active: NDArray[np.bool_], least: float) -> Array:
    """(…, t): weights in proportion to r⁺ / (1 + r²) + prior, with prior = l² / (l + Σ r⁺ / (1 + r²))."""
    raw = np.where(active, np.maximum(regret, 0.0) / (1.0 + regret2), 0.0)
    raw = np.where(active, raw + least**2 / (least + raw.sum(-1, keepdims=True)), 0.0)
    weights: Array = raw / raw.sum(-1, keepdims=True)
    return weights


def _regrets(made: Array, experts: Array, y: float, unit: Array) -> Array:
    """(s, g, t): slope · (made − expert), within ±5; slope = clip(2 (made − y) / unit, ±1) / max(unit, |made − y| / 5).

    made (s, g), experts (s, g, t), unit (s,)
    """
    error, unit = made - y, unit[:, None]
    slope = np.clip(error / (0.5 * unit), -1.0, 1.0) / np.maximum(unit, np.abs(error) / Z_CLIP)
    return np.clip(slope[..., None] * (made[..., None] - experts), -Z_CLIP, Z_CLIP)


def _learn_unit(units: Array, n: int, error: Array, start: Array) -> None:
    """Running mean of the absolute error (s,); an error counts for at most `WINSOR` of it once `KNOWN` are learned."""
    units[:] = np.where(units == 0.0, start, units)
    if n > KNOWN:
        error = np.minimum(error, WINSOR * units)
    units += max(UNIT_RATE, 1.0 / (n + 2.0)) * (error - units)
