"""A change of inputs on trial: a challenger, which begins anew, predicts together with the learner that goes on.

What goes on is better at first, and may stay behind later: its statistics are as old as the state, and the weights that
it has stood for other inputs. So the prediction is a mean of both, weighted by their errors, until each pool has seen
enough events to choose the better one. `core/learner/challenger.hpp` predicts, compares and chooses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ssm_stream.core import loop, native
from ssm_stream.engine.entity_store import EntityStore

EVENTS, EVENTS_PER_ENTITY = 4_000, 500
"""Labelled events of a pool's trial, and how many more for each of its entities: the running statistics of inputs are
as quick as they will stay after 2,000, and an entity has weights of its own."""


@dataclass(frozen=True, slots=True)
class RunningTrial:
    """Of a pool: the part of the challenger in predictions, 0 to 1; labelled events until the better learner stays."""

    share: float
    events_left: int


def running_trial(store: EntityStore, pool: int) -> RunningTrial | None:
    """Return what is known of a pool's trial; None where none is running."""
    if store.challenger is None:
        return None
    number = store.shared.trial.number[pool]
    if number[loop.STAGE_OF_TRIAL] != loop.TRIAL_ON:
        return None
    return RunningTrial(native.challenger_share(number), int(number[loop.EVENTS_LEFT]))


def begin(store: EntityStore) -> None:
    """Put each pool that has learned on trial."""
    pools = len(store.pools) if store.config.model.fleet else len(store.names)
    pool = store.shared.pool
    if not pool.n[:pools].any():
        return
    store.set_challenger(there=True)
    number, pool = store.shared.trial.number, store.shared.pool
    events = EVENTS + EVENTS_PER_ENTITY * pool.entities[:pools]
    number[:pools, loop.STAGE_OF_TRIAL] = np.where(pool.n[:pools] > 0, loop.TRIAL_ON, loop.TRIAL_OVER)
    number[:pools, loop.EVENTS_LEFT] = number[:pools, loop.EVENTS_OF_TRIAL] = events


def end(store: EntityStore) -> None:
    """Remove the challenger if no pool is on trial any more, and no prediction of both waits for its target."""
    if store.challenger is None or store.shared.trial.number[:, loop.STAGE_OF_TRIAL].any():
        return
    if store.delayed is None or not (store.pending.predicted[..., 0] * store.pending.open).any():
        store.set_challenger(there=False)
