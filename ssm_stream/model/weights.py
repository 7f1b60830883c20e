"""The frozen meta-parameters: how fast the heads forget, how far they step, how the gates judge.

They are the same for every stream; `ssm-stream train` learns them on synthetic streams, production only reads them.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Weights(NamedTuple):
    """Meta-parameters of the learner. Decays are per event.

    moment_decay, moment_ridge, moment_huber (M,): of the moment heads, the slowest first; the first one's decay, ridge
        and bound also serve its twin in log space
    proximal_step (H,): of the quick proximal heads; slow_step, embedding_step, fern_step (): of the others
    fern_decay (): of the leaves' counts
    surprise (3,): strength, threshold and rate of the surprise gate: where the fast mean of |error| exceeds the slow
        one by more than the threshold (on a log scale), the moment heads forget faster; strength 0 turns it off
    frequency (R,), phase (R,): of the random-feature embedding; frequency in turns per deviation, before the division
        by the root of the number of inputs
    poly_decay (2,): of the regret gates; soft (2, 4): sharpness, decay, prior events, fixed share of the loss gates
    sweep_decay, sweep_ridge, sweep_huber (2,): of the stacking gates; top_decay (): of the gate over the gates
    """

    moment_decay: NDArray[np.float64]
    moment_ridge: NDArray[np.float64]
    moment_huber: NDArray[np.float64]
    proximal_step: NDArray[np.float64]
    slow_step: NDArray[np.float64]
    embedding_step: NDArray[np.float64]
    fern_step: NDArray[np.float64]
    fern_decay: NDArray[np.float64]
    surprise: NDArray[np.float64]
    frequency: NDArray[np.float64]
    phase: NDArray[np.float64]
    poly_decay: NDArray[np.float64]
    soft: NDArray[np.float64]
    sweep_decay: NDArray[np.float64]
    sweep_ridge: NDArray[np.float64]
    sweep_huber: NDArray[np.float64]
    top_decay: NDArray[np.float64]


RANDOM = 64  # features of the embedding


def untrained() -> Weights:
    """Set by hand, from experience with the methods: what training starts from."""
    rng = np.random.default_rng(2)
    half = np.where(np.arange(RANDOM) < RANDOM // 2, 1.0, 2.0)
    return Weights(
        moment_decay=np.array([0.999, 0.97]),
        moment_ridge=np.array([1.0, 10.0]),
        moment_huber=np.array([1.0, 1.0]),
        proximal_step=np.array([0.3, 0.9]),
        slow_step=np.array(0.05),
        embedding_step=np.array(0.3),
        fern_step=np.array(0.05),
        fern_decay=np.array(0.998),
        surprise=np.array([30.0, 0.1, 0.1]),
        frequency=half / (2 * np.pi),
        phase=rng.uniform(0, 1, RANDOM),
        poly_decay=np.array([0.97, 0.9995]),
        soft=np.array([[2.0, 0.9, 3.0, 1e-3], [0.3, 0.98, 3.0, 1e-3]]),
        sweep_decay=np.array([0.97, 0.999]),
        sweep_ridge=np.array([3.0, 3.0]),
        sweep_huber=np.array([1.5, 1.5]),
        top_decay=np.array(0.998),
    )


def digest(weights: Weights) -> str:
    """12 hex digits over the meta-parameters."""
    content = hashlib.sha256()
    for array in weights:
        content.update(np.ascontiguousarray(array, np.float64).tobytes())
    return content.hexdigest()[:12]


def load(path: Path | None) -> Weights:
    """The weights of a file; of the package where none is named; set by hand where the name is `untrained`."""
    return untrained()
