"""Checks a loaded state before the core computes with it: every number that the core uses as an index or a count.

The checksums of a snapshot find damage. These bounds hold for a file that was made to mislead, too: no content of a
state may lead the core outside its arrays, or into a loop without an end.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssm_stream.config import MAX_PENDING
from ssm_stream.core import detect, pending
from ssm_stream.core.constants import HELD
from ssm_stream.core.shapes import BATCH, GAPS, VALUES, LearnerParams
from ssm_stream.engine.entity_store import EntityStore
from ssm_stream.engine.snapshot_format import StateError

MAX_COUNT = 1e15
"""Events that an entity or a pool may have seen: beyond, counts would be no whole numbers any more."""
DRIFT_COUNTS = (
    (detect.SEEN, "seen", MAX_COUNT),
    (detect.WAITING, "waiting", 256),
    (detect.BLOCK_SEEN, "blocks seen", MAX_COUNT),
    (detect.BLOCK_WAITING, "blocks waiting", 16),
)
"""Columns of `detector.number` that are counts, and their bounds."""
Bound = tuple[str, NDArray[Any], float, float]


def check_state(store: EntityStore) -> None:
    """Check the rows in use.

    Raises:
        StateError: a number is out of its bounds; the text names the array.
    """
    entities = len(store.names)
    pools = len(store.pools) if store.config.model.fleet else entities
    for name, values, low, high in _bounds(store, entities, pools):
        if values.size and not bool(((values >= low) & (values <= high)).all()):
            raise StateError(f"the snapshot is damaged: {name} has a number that is not between {low:g} and {high:g}")


def _bounds(store: EntityStore, entities: int, pools: int) -> Iterator[Bound]:
    p, shared = store.params, store.shared
    pool = shared.pool
    yield "pool.n", pool.n[:pools], 0, MAX_COUNT
    yield "pool.entities", pool.entities[:pools], 0, MAX_COUNT
    yield "pool.used", pool.used[:pools], 0, p.K
    yield "pool.seen", pool.seen[:pools], 0, VALUES
    for name in ("slot", "missing", "other"):
        yield f"pool.{name}", getattr(pool, name)[:pools], 0, p.K
    yield "pool.gaps", pool.gaps[:pools, GAPS], 0, GAPS
    yield "pool.stack_waiting", pool.stack_waiting[:pools], 0, BATCH
    for scope in ("fleet", "norm"):
        heads = getattr(shared, scope)
        yield f"{scope}.waiting", heads.waiting[:pools], 0, BATCH
        yield f"{scope}.near", heads.near[:pools, HELD], 0, MAX_COUNT
    yield from _entity_bounds(store, entities)
    if store.delayed is not None:
        yield from _pending_bounds(store.pending, p, entities)
        # Where each entity is its own pool, the core takes the entity's row: rows move, and `pool` does not follow.
        if store.config.model.fleet:
            yield "pool", store.pending.pool[:entities], 0, max(pools - 1, 0)


def _entity_bounds(store: EntityStore, entities: int) -> Iterator[Bound]:
    state = store.state
    yield "learner.n", state.learner.n[:entities], 0, MAX_COUNT
    yield "learner.season_n", state.learner.season_n[:entities], 0, 100
    drift = state.detector.number[:entities]
    for at, name, most in DRIFT_COUNTS:
        yield f"detector.number ({name})", drift[:, at], 0, most
    novelty = state.novelty
    for at, name in ((0, "seen"), (3, "events of the generation")):
        yield f"novelty.number ({name})", novelty.number[:entities, at], 0, MAX_COUNT
    yield "novelty.grid", novelty.grid[:entities, :, 0], -np.finfo(np.float64).max, np.finfo(np.float64).max
    yield "novelty.grid (widths)", novelty.grid[:entities, :, 1], 0, np.finfo(np.float64).max


def _pending_bounds(q: pending.Pending, p: LearnerParams, entities: int) -> Iterator[Bound]:
    yield "met", q.met[:entities], 0, MAX_COUNT
    yield "oldest", q.oldest[:entities], 0, MAX_COUNT
    yield "met after oldest", q.met[:entities] - q.oldest[:entities], 0, MAX_PENDING
    yield "judged", q.judged[:entities], 0, MAX_COUNT
    yield "open", q.open[:entities], 0, 1
    yield "flag", q.flag[:entities], 0, 1
    yield "steps (hour)", q.steps[:entities, :, 0], 0, 23
    yield "steps (weekday)", q.steps[:entities, :, 1], 0, 6
    yield "places", q.places[:entities], 0, p.T
    yield "active", q.active[:entities], 0, 1
