"""Corrected answers in 64-bit floats: of heads' errors, what comes again.

As in `gates.py`, the errors are those of the kernel's answers.
J heads are corrected, as of `corrected_heads`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ssm_stream.core.constants import CARRY_CLIP, CARRY_DECAY, CARRY_PRIOR
from ssm_stream.core.shapes import LearnerParams, corrected_heads
from ssm_stream.verify.reference import Array


class Corrections:
    """Of a pool: products (J,): Σ e e′, and squares (J,): Σ e², decayed, of the known error e and the next one e′."""

    def __init__(self, p: LearnerParams) -> None:
        self.heads = np.array(corrected_heads(p), np.int64)
        self.places = p.bases - len(self.heads) + np.arange(len(self.heads))
        self.products, self.squares = np.zeros((2, len(self.heads)))

    def correct(self, a: Array, active: NDArray[np.bool_], missed: Array, low: float, high: float) -> None:
        """Put the corrected answers in a (t,), where these are active (t,). missed (J,): the entity's last errors"""
        on = self._on(active) & active[self.places]
        rho = np.clip(self.products / (self.squares + CARRY_PRIOR), -1.0, 1.0)
        a[self.places[on]] = np.clip(a[self.heads[on]] + (rho * missed)[on], low, high)

    def learn(self, a: Array, active: NDArray[np.bool_], missed: Array, y: float, unit: float) -> None:
        """Learn the errors of a (t,) at target y, and put them in `missed`. unit: the entity's usual error"""
        on = self._on(active)
        error = y - a[self.heads[on]]
        now, before = (np.clip(e / unit, -CARRY_CLIP, CARRY_CLIP) for e in (error, missed[on]))
        self.products[on] = CARRY_DECAY * self.products[on] + now * before
        self.squares[on] = CARRY_DECAY * self.squares[on] + before * before
        missed[on] = error

    def _on(self, active: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which heads (J,) answer."""
        found = self.heads < len(active)
        found[found] = active[self.heads[found]]
        return found
