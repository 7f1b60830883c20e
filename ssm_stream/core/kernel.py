"""The streaming learner alone: predict, then learn. Section 2 of `docs/model.md` explains it, `learner/` computes it.

Two calls an event, always in this order: `predict_one`, which changes nothing but the scratch, and `learn_one`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ssm_stream.core import native
from ssm_stream.core.shapes import Learner, LearnerParams, Scratch

ENOUGH, MORE_SLOTS, SECOND_ENTITY = range(3)


def run(
    p: LearnerParams, learner: Learner, w: Scratch, pools: NDArray[np.int64], rows: NDArray[np.int64],
    u: NDArray[np.float64], steps: NDArray[np.int64], ts: NDArray[np.int64] | NDArray[np.float64],
    y: NDArray[np.float64], start: int, out: NDArray[np.float64],
) -> tuple[int, int]:  # fmt: skip
    """Predict then learn, in order, from event `start` on: pools (n,) and rows (n,) of the state, u (n, C),
    steps (n, 2), ts (n,) ms, y (n,) with NaN where there is no target; out (n,). Returns (next event, its need)."""
    bound = native.Learner(p, w, learner)
    return bound.run(pools, rows, u, steps, ts.astype(np.int64, copy=False), y, start, out)


def predict_one(
    p: LearnerParams, learner: Learner, w: Scratch, k: int, e: int, u: NDArray[np.float64], steps: NDArray[np.int64],
    ts: float,
) -> float:  # fmt: skip
    """The answer of pool k and entity e for columns u (C,), hour and weekday `steps` (2,); fills the scratch only."""
    return native.Learner(p, w, learner).predict(k, e, u, steps, ts)


def learn_one(
    p: LearnerParams, learner: Learner, w: Scratch, k: int, e: int, u: NDArray[np.float64], steps: NDArray[np.int64],
    ts: float, y: float,
) -> None:  # fmt: skip
    """Learn target y of the event that `predict_one` has just answered (its scratch is used)."""
    native.Learner(p, w, learner).learn(k, e, u, steps, ts, y)


def weights_now(p: LearnerParams, learner: Learner, w: Scratch, k: int, e: int, out: NDArray[np.float32]) -> float:
    """The implicit weights (L,) of the event in the scratch, before it is learned; returns what rests on the fleet."""
    return native.Learner(p, w, learner).weights(k, e, out)
