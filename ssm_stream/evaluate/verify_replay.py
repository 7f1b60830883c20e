"""A recording through the production engine and through the recorded kernel, for `verify`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssm_stream.config import Config
from ssm_stream.engine import Engine
from ssm_stream.evaluate.prequential import prequential
from ssm_stream.evaluate.verify_reference import (
    Array,
    Constants,
    Descent,
    Deviation,
    Frozen,
    Recorded,
    chunk_length,
    constants,
    descend,
    new_descent,
    new_deviation,
    new_recorded,
    record,
)
from ssm_stream.model import kernel
from ssm_stream.model.features import FeaturePlan, calendar_columns

FROZEN_SHARE = 0.2
"""Share of a life's labelled events after which the frozen model stops learning."""
NEVER = np.iinfo(np.int64).max


class NothingToVerifyError(ValueError):
    """The recording has no event that a head learns from."""


@dataclass(frozen=True)
class Replay:
    """A recording as the kernel takes it, n events in production order, and what the engine said.

    plan, params: inputs and constants of the production kernel
    names: of each life; an entity has a new life after it expired (`state.ttl`)
    lives (n,) int64: the life of each event; u (n, C) float64; y (n,) float64, NaN where unlabelled
    seen (n,) int64: labelled events of the life before each; labelled (E,) int64: in all
    yhat (n,): the engine's predictions
    refused: rows that are no events, by fault
    """

    plan: FeaturePlan
    params: kernel.LearnerParams
    names: list[str]
    lives: NDArray[np.int64]
    u: Array
    y: Array
    seen: NDArray[np.int64]
    labelled: NDArray[np.int64]
    yhat: Array
    refused: dict[str, int]

    @property
    def middle(self) -> NDArray[np.int64]:
        """(E,) labelled events of each life before its middle, where changes are injected."""
        half: NDArray[np.int64] = self.labelled // 2
        return half

    def production(self, u: Array, y: Array) -> Array:
        """(n,) predictions of the production kernel on these columns (n, C) and targets (n,), from fresh state."""
        out = np.empty(len(y))
        state, scratch = kernel.new_state(self.params, len(self.names)), kernel.new_scratch(self.params)
        kernel.run(self.params, state, scratch, self.lives, u, y, out)
        return out


def _lives(entity: NDArray[np.int64], seen: NDArray[np.int64], labelled: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(n,) numbers of lives: one starts with an entity, and where its count of labelled events falls back to 0."""
    order = np.argsort(entity, kind="stable")
    sorted_entity, sorted_seen = entity[order], seen[order]
    after = sorted_seen + labelled[order]
    starts = np.ones(len(entity), np.bool_)
    starts[1:] = (sorted_entity[1:] != sorted_entity[:-1]) | (sorted_seen[1:] < after[:-1])
    lives = np.empty(len(entity), np.int64)
    lives[order] = np.cumsum(starts) - 1
    return lives


def replay(config: Config, rows: Iterable[dict[str, Any]], advance: Callable[[int], None]) -> Replay:
    """The production engine over the rows. advance: takes the number of rows done.

    Raises:
        NothingToVerifyError: no entity has two labelled events.
        RecordingError: the rows come from a file that cannot be read.
    """
    engine, faults = Engine(config), Counter[str]()
    entity: list[str] = []
    ts, features, y, seen, yhat = [], [], [], [], []
    for chunk in prequential(config, rows, engine):
        faults.update(refusal.fault for refusal in chunk.refused)
        entity += chunk.events.entity
        ts.append(chunk.events.ts)
        features.append(chunk.events.features)
        y.append(chunk.events.target)
        seen.append(chunk.predictions.n)
        yhat.append(chunk.predictions.yhat)
        advance(len(chunk.events) + len(chunk.refused))
    target = np.concatenate(y) if y else np.zeros(0)
    labelled = ~np.isnan(target)
    if not labelled.any() or not (np.concatenate(seen)[labelled] > 0).any():
        raise NothingToVerifyError(
            f"no entity has two events with a target (`{config.event.target}`), so there is nothing to verify; "
            f"{sum(faults.values()):,} rows were refused{_most(faults)}"
        )
    index: dict[str, int] = {}
    ids = np.fromiter((index.setdefault(name, len(index)) for name in entity), np.int64, len(entity))
    counts = np.concatenate(seen)
    lives = _lives(ids, counts, labelled)
    count = int(lives.max()) + 1
    owner = np.zeros(count, np.int64)
    owner[lives] = ids
    known = list(index)
    columns = np.hstack([np.concatenate(features), calendar_columns(engine.plan, np.concatenate(ts))])
    return Replay(
        engine.plan, engine.params, [known[i] for i in owner.tolist()], lives, np.ascontiguousarray(columns), target,
        counts, np.bincount(lives[labelled], minlength=count), np.concatenate(yhat), dict(faults),
    )  # fmt: skip


def _most(faults: Counter[str]) -> str:
    return f" (mostly {faults.most_common(1)[0][0]})" if faults else ""


def compare(run: Replay, advance: Callable[[float], None]) -> tuple[Recorded, Deviation, Frozen]:
    """The production kernel and explicit gradient descent side by side over the whole recording.

    advance: takes the fraction done
    """
    p, n, E = run.params, len(run.y), len(run.names)
    seen, deviation = new_recorded(p, n), new_deviation(p, n)
    frozen = _new_frozen(run)
    state, scratch, descent = kernel.new_state(p, E), kernel.new_scratch(p), new_descent(p, E)
    length = min(chunk_length(p), n)
    W = np.empty((length, p.H, p.D), np.float32)
    c = constants(p)
    for first in range(0, n, length):
        count = min(length, n - first)
        record(p, state, scratch, run.lives, run.u, run.y, first, count, W, frozen, seen)
        _follow(c, run, first, count, seen, W, descent, deviation)
        advance((first + count) / n)
    return seen, deviation, frozen


def _follow(
    c: Constants,
    run: Replay,
    first: int,
    count: int,
    seen: Recorded,
    W: NDArray[np.float32],
    descent: Descent,
    deviation: Deviation,
) -> None:
    x = seen.x[first : first + count].astype(np.float64)
    descend(c, run.lives, first, count, x, seen, W, descent, deviation)


def _new_frozen(run: Replay) -> Frozen:
    """A life of fewer than five labelled events is never frozen."""
    E, p = len(run.names), run.params
    after = (run.labelled * FROZEN_SHARE).astype(np.int64)
    after[after == 0] = NEVER
    return Frozen(after, np.zeros((E, p.D)), np.zeros((E, p.A)), run.middle, np.zeros((E, p.D)))
