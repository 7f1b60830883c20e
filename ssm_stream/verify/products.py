"""Explicit gradient descent of the moment heads on products, in 64-bit floats; see `reference.py`.

It takes from the kernel the inputs x, with the products among them, and when it chose which numbers to multiply.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ssm_stream.core.shapes import LOG_RESIDUAL, RESIDUAL, LearnerParams, product_heads
from ssm_stream.verify.reference import Array, Update, sweep


class ProductDescent:
    """One S (X, X), and for each target, the residual and the one in log space, P and W (heads, X).

    touched (X,) bool: inputs that events had since the last sweep
    """

    def __init__(self, p: LearnerParams) -> None:
        self.decay, self.huber = float(np.float32(p.product_decay)), float(p.product_huber)
        self.ridge = np.array([p.product_ridge], np.float32).astype(np.float64)
        self.kind = np.array([RESIDUAL, LOG_RESIDUAL][: product_heads(p)], np.int64)
        self.lead = p.X - p.K
        self.W, self.P = np.zeros((2, len(self.kind), p.X))
        self.S, self.touched, self.waiting = np.zeros((p.X, p.X)), np.zeros(p.X, np.bool_), 0
        self._chosen = False

    def predict(self, x: Array) -> Array:
        """(heads,) standardised answers to x (n,)."""
        answers: Array = self.W[:, : len(x)] @ x
        return answers

    def choose(self, of: NDArray[np.int64]) -> None:
        """With the choice of what to multiply moments begin at 0 again, weights stay. of: as the kernel has them"""
        if not self._chosen and of.any():
            self._chosen = True
            self.S[:], self.P[:], self.touched[:], self.waiting = 0.0, 0.0, False, 0

    def learn(self, x: Array, answers: Array, q: Array, update: Update) -> None:
        """S ← λS + ωxxᵀ, P ← λP + ωqx; after so many events a sweep over the inputs that they had.

        x (n,): with the codes that the event brought; answers: of `predict`; q (4,): targets by scale
        """
        n, heads = len(x), len(self.kind) if update.logs else 1
        target = q[self.kind]
        wx = self.huber / max(abs(float(target[0] - answers[0])), self.huber) * x
        self.touched[:n] |= (x != 0.0) | (np.arange(n) < self.lead)
        S, P, W = self.S[:n, :n], self.P[:heads, :n], self.W[:heads, :n]
        S *= self.decay
        S += wx[:, None] * x
        P *= self.decay
        P += target[:heads, None] * wx
        if self.waiting < update.max_waiting:
            self.waiting += 1
            return
        W[:] = sweep(S[None, None], P[None], W[None], self.ridge, self.touched[None, :n])[0]
        self.touched[:], self.waiting = False, 0
