"""The streaming learner alone: predict, then learn. `learner/` computes it, section 2 of `docs/model.md` explains."""

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


def weights_now(p: LearnerParams, learner: Learner, w: Scratch, k: int, e: int, out: NDArray[np.float32]) -> float:
    """The implicit weights (L,) of the event in the scratch, before it is learned; returns what rests on the fleet."""
    return native.Learner(p, w, learner).weights(k, e, out)
