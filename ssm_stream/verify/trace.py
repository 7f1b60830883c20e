"""The production kernel, event by event, outside the engine: the same functions on the same growing arrays.

It gives access to the state between two events, and runs the kernel over changed copies of a recording. An event
belongs to a pool and to a life: a life is an entity between two expiries, and a row of the entities' state.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.core import blocks, kernel, native, shapes
from ssm_stream.core.shapes import Learner, LearnerParams, Scratch
from ssm_stream.engine.kernel_params import code_slots

Event = tuple[int, int, NDArray[np.float64], NDArray[np.int64], float]
"""Pool, life, columns (C,), steps (2,) and time in ms."""


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
    return p._replace(K=K, L=1 + p.F + K, N=1 + 2 * p.F + K, X=p.X + p.products * (K - p.K))


class State(NamedTuple):
    """The learner's arrays, and the memory (rows, bytes) that those of entities and pools are views on."""

    learner: Learner
    entities: blocks.Block
    pools: blocks.Block


class Production:
    """The production kernel on fresh state of P pools and E lives; the arrays grow when the kernel needs it."""

    params: LearnerParams
    learner: Learner
    scratch: Scratch

    def __init__(self, params: LearnerParams, P: int, E: int) -> None:
        p = with_slots(params, 0)
        self._bind(p, new_state(p, P, E, 0))

    def _bind(self, params: LearnerParams, state: State) -> None:
        self.params, self.state, self.scratch = params, state, shapes.new_scratch(params)
        self.learner = state.learner
        self.core = native.Learner(params, self.scratch, self.learner)

    def predict(self, event: Event, labelled: bool) -> float:
        """Predict an event, with room for what learning it will need; the scratch then holds its inputs and answers."""
        k, e = event[:2]
        while True:
            yhat = self.core.predict(*event)
            need = self.core.wants(k, e, labelled)
            if need == kernel.ENOUGH:
                return yhat
            self.make_room(need, k)

    def learn(self, event: Event, y: float) -> None:
        """Learn the event that `predict` answered."""
        self.core.learn(*event, y)

    def make_room(self, need: int, pool: int) -> None:
        """Grow the arrays as `wants` returned for an event of this pool, which must then be predicted anew."""
        old = self.learner
        norms = len(old.norm.near)
        params = self.params
        if need == kernel.MORE_SLOTS:
            params = with_slots(params, code_slots(int(old.pool.used[pool] + self.scratch.flag[shapes.FRESH])))
        elif need == kernel.SECOND_ENTITY:
            norms = len(old.pool.n)
        self._resize(params, norms)

    def fit(self, other: Production) -> None:
        """Room for as much as another one has."""
        self._resize(other.params, len(other.learner.norm.near))

    def _resize(self, params: LearnerParams, norms: int) -> None:
        self._bind(params, grown(self.learner, params, norms))

    def predictions(self, tape: Tape) -> NDArray[np.float64]:
        """(n,) answers, each given before the event is learned."""
        out = np.empty(len(tape.y))
        at = 0
        while at < len(out):
            at, need = self.core.run(tape.pools, tape.lives, tape.u, tape.steps, tape.ts, tape.y, at, out)
            if need != kernel.ENOUGH:
                self.make_room(need, int(tape.pools[at]))
        return out


def new_state(p: LearnerParams, P: int, E: int, norms: int) -> State:
    """Fresh state of P pools and E lives. norms: pools of the norm scope, 0 while no pool has a second entity"""
    entity, pool = blocks.schema("entity", p), blocks.schema("pool", p)
    entities, pools = blocks.empty_block(E, entity.size), blocks.empty_block(P, pool.size)
    learner = Learner(
        blocks.views(shapes.EntityState, entity, entities), blocks.views(shapes.PoolState, pool, pools),
        shapes.new_heads(p, P, "fleet"), shapes.new_heads(p, norms, "norm"),
    )  # fmt: skip
    return State(learner, entities, pools)


def grown(old: Learner, p: LearnerParams, norms: int) -> State:
    """The same state in arrays of these sizes. norms: as of `new_state`"""
    new = new_state(p, len(old.pool.n), len(old.entity.n), norms)
    for before, after in zip(old, new.learner, strict=True):
        for source, target in zip(before, after, strict=True):
            target[tuple(slice(size) for size in source.shape)] = source
    return new
