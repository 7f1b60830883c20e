"""The production kernel, event by event, outside the engine: the same functions on the same growing arrays.

It gives access to the state between two events, and runs the kernel over changed copies of a recording. An event
belongs to a pool and to a life: a life is an entity between two expiries, and a row of the entities' state.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.engine.engine import SLOT_STEP
from ssm_stream.kernels import kernel, shapes
from ssm_stream.kernels.shapes import Learner, LearnerParams, Scratch

Event = tuple[int, int, NDArray[np.float64], NDArray[np.int64], float]
"""Pool, life, columns (C,), steps (2,) and time in ms."""
REQUIRED_CAPACITY: Any = kernel.wants.py_func  # type: ignore[attr-defined]  # compiled, it has no way in from Python


class Tape(NamedTuple):
    """n events as the kernel takes them, in the order of production.

    pools, lives (n,) int64; ts (n,) int64 ms; u (n, C) columns; steps (n, 2) hour and weekday; y (n,), NaN = unlabelled
    """

    pools: NDArray[np.int64]
    lives: NDArray[np.int64]
    ts: NDArray[np.int64]
    u: NDArray[np.float64]
    steps: NDArray[np.int64]
    y: NDArray[np.float64]


def with_slots(p: LearnerParams, K: int) -> LearnerParams:
    """The same learner with room for K codes."""
    return p._replace(K=K, L=1 + p.F + K, N=1 + 2 * p.F + K)


class Production:
    """The production kernel on fresh state of P pools and E lives; the arrays grow when the kernel needs it."""

    params: LearnerParams
    learner: Learner
    scratch: Scratch

    def __init__(self, params: LearnerParams, P: int, E: int) -> None:
        self.params = with_slots(params, 0)
        p = self.params
        self.learner = Learner(
            shapes.new_entities(p, E), shapes.new_pools(p, P), shapes.new_heads(p, P, p.L), shapes.new_heads(p, 0, p.N)
        )
        self.scratch = shapes.new_scratch(p)

    def predict(self, event: Event, labelled: bool) -> float:
        """Predict an event, with room for what learning it will need; the scratch then holds its inputs and answers."""
        k, e = event[:2]
        while True:
            yhat = kernel.predict_one(self.params, self.learner, self.scratch, *event)
            need = REQUIRED_CAPACITY(self.params, self.learner, self.scratch, k, e, labelled)
            if need == kernel.ENOUGH:
                return yhat
            self.make_room(need, k)

    def learn(self, event: Event, y: float) -> None:
        """Learn the event that `predict` answered."""
        kernel.learn_one(self.params, self.learner, self.scratch, *event, y)

    def make_room(self, need: int, pool: int) -> None:
        """Grow the arrays as `kernel.wants` returned for an event of this pool, which must then be predicted anew."""
        old = self.learner
        norms = len(old.norm.near)
        params = self.params
        if need == kernel.MORE_SLOTS:
            slots = int(old.pool.used[pool] + self.scratch.flag[shapes.FRESH])
            params = with_slots(params, min(-(-slots // SLOT_STEP) * SLOT_STEP, shapes.SLOTS))
        elif need == kernel.SECOND_ENTITY:
            norms = len(old.pool.n)
        self._resize(params, norms)

    def fit(self, other: Production) -> None:
        """Room for as much as another one has."""
        self._resize(other.params, len(other.learner.norm.near))

    def _resize(self, params: LearnerParams, norms: int) -> None:
        self.learner = grown(self.learner, params, norms)
        self.params, self.scratch = params, shapes.new_scratch(params)

    def predictions(self, tape: Tape) -> NDArray[np.float64]:
        """(n,) answers, each given before the event is learned."""
        out = np.empty(len(tape.y))
        ts = tape.ts.astype(np.float64)  # as other callers have it: the kernel is not compiled once more
        at = 0
        while at < len(out):
            at, need = kernel.run(
                self.params, self.learner, self.scratch, tape.pools, tape.lives, tape.u, tape.steps, ts, tape.y, at,
                out,
            )  # fmt: skip
            if need != kernel.ENOUGH:
                self.make_room(need, int(tape.pools[at]))
        return out


def grown(old: Learner, p: LearnerParams, norms: int) -> Learner:
    """The same state in arrays of these sizes. norms: pools of the norm scope, 0 while no pool has a second entity."""
    E, P = len(old.entity.n), len(old.pool.n)
    new = Learner(
        shapes.new_entities(p, E), shapes.new_pools(p, P), shapes.new_heads(p, P, p.L), shapes.new_heads(p, norms, p.N)
    )
    for before, after in zip(old, new, strict=True):
        for source, target in zip(before, after, strict=True):
            target[tuple(slice(size) for size in source.shape)] = source
    return new
