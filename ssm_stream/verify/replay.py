"""A recording through the production engine and through the recorded kernel, for `verify`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.config import Config, ConfigError
from ssm_stream.core.features import FeaturePlan, calendar_columns
from ssm_stream.core.shapes import LearnerParams
from ssm_stream.engine.engine import Engine, shard_of
from ssm_stream.evaluate.prequential import prequential
from ssm_stream.verify.record import Frozen, Recorder
from ssm_stream.verify.reference import Array, solve_distance
from ssm_stream.verify.trace import Production, Tape

FROZEN_SHARE = 0.2
"""Share of a pool's labelled events after which the frozen model stops learning."""
NEVER = np.iinfo(np.int64).max
SOLVES = 64
"""Moments, evenly over the recording, at which the moment heads are held to the exact solution."""


class NothingToVerifyError(ValueError):
    """The recording has no event that a head learns from."""


@dataclass(frozen=True)
class Replay:
    """A recording as the kernel takes it, n events in production order, and the engine's predictions.

    plan, params: inputs and constants of the production kernel, with the codes that the recording made
    names: of each life; an entity has a new life after it expired (`state.ttl`)
    tape: the events; pools (E,) int64: of each life; seen (n,) int64: labelled events of the life before each
    labelled (E,) int64: in all; yhat (n,): the engine's predictions; refused: rows that are no events, by fault
    """

    plan: FeaturePlan
    params: LearnerParams
    names: list[str]
    tape: Tape
    pools: NDArray[np.int64]
    seen: NDArray[np.int64]
    labelled: NDArray[np.int64]
    yhat: Array
    refused: dict[str, int]

    @property
    def lives(self) -> NDArray[np.int64]:
        """(n,) the life of each event."""
        return self.tape.lives

    @property
    def u(self) -> Array:
        """(n, C) columns of each event."""
        return self.tape.u

    @property
    def y(self) -> Array:
        """(n,) targets, NaN where an event has none."""
        return self.tape.y

    @property
    def middle(self) -> NDArray[np.int64]:
        """(E,) labelled events of each life before its middle, where changes are injected."""
        half: NDArray[np.int64] = self.labelled // 2
        return half

    def fresh(self) -> Production:
        """The production kernel before the first event."""
        return Production(self.params, int(self.pools.max()) + 1, len(self.names))

    def production(self, u: Array, y: Array) -> Array:
        """(n,) predictions of the production kernel on these columns (n, C) and targets (n,), from fresh state."""
        return self.fresh().predictions(self.tape._replace(u=np.ascontiguousarray(u), y=y))


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


def _pools(config: Config, names: list[str]) -> NDArray[np.int64]:
    """(E,) the pool of each life: entities of a shard learn together; one's own where `model.fleet` is off."""
    if not config.model.fleet:
        return np.arange(len(names))
    shards = config.state.shards
    _, pools = np.unique([shard_of(name, shards) if shards > 1 else 0 for name in names], return_inverse=True)
    return pools.astype(np.int64)


def _learning_all(config: Config) -> Config:
    """Return a configuration without alerts of the model: these hold events back, as at rest; here all are learned."""
    alerts = config.alerts
    off = {name: getattr(alerts, name).model_copy(update={"enabled": False}) for name in ("anomaly", "drift")}
    return config.replace(alerts=alerts.model_copy(update=off))


def replay(config: Config, rows: Iterable[dict[str, Any]], advance: Callable[[int], None]) -> Replay:
    """The production engine over the rows. advance: takes the number of rows done.

    Raises:
        ConfigError: there is a horizon.
        NothingToVerifyError: no entity has two labelled events.
        RecordingError: the rows come from a file that cannot be read.
    """
    if config.model.horizon.events or config.model.horizon.seconds:
        # The kernel that is compared predicts the target of the same event; a horizon changes when it learns, not what.
        raise ConfigError(
            "verify needs targets that come with their events: remove `model.horizon` from a copy of the configuration"
        )
    engine, faults = Engine(_learning_all(config)), Counter[str]()
    entity: list[str] = []
    ts, features, y, seen, yhat = [], [], [], [], []
    for chunk in prequential(config, rows, engine):
        faults.update(str(refusal.fault) for refusal in chunk.refused)
        events, active = chunk.events, chunk.events.active
        rows = np.arange(len(events)) if active is None else active  # idle events are not the model's
        entity += events.entity if active is None else [events.entity[i] for i in rows.tolist()]
        ts.append(events.ts[rows])
        features.append(events.features[rows])
        y.append(events.target[rows])
        seen.append(chunk.predictions.n[rows])
        yhat.append(chunk.predictions.yhat[rows])
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
    counts, times = np.concatenate(seen), np.concatenate(ts)
    lives = _lives(ids, counts, labelled)
    count = int(lives.max()) + 1
    owner = np.zeros(count, np.int64)
    owner[lives] = ids
    known = list(index)
    names = [known[i] for i in owner.tolist()]
    pools = _pools(config, names)
    cycles, steps = calendar_columns(engine.plan, times)
    u = np.ascontiguousarray(np.hstack([np.concatenate(features), cycles]))
    tape = Tape(pools[lives], lives, times, u, steps, target)
    return Replay(
        engine.plan, engine.params, names, tape, pools, counts, np.bincount(lives[labelled], minlength=count),
        np.concatenate(yhat), dict(faults),
    )  # fmt: skip


def _most(faults: Counter[str]) -> str:
    return f" (mostly {faults.most_common(1)[0][0]})" if faults else ""


class Comparison(NamedTuple):
    """The recorder after the last event, and distances (at most SOLVES, M + 2): of the reference's moment heads, then
    of those on products from their exact solution, at times over the recording, see `solve_distance`."""

    recorder: Recorder
    distances: Array


def compare(run: Replay, advance: Callable[[float], None]) -> Comparison:
    """The production kernel and explicit gradient descent over the whole recording, event by event.

    advance: takes the fraction done
    """
    n = len(run.y)
    recorder = Recorder(run.params, run.fresh(), run.fresh(), _new_frozen(run), run.tape)
    distances: list[list[float]] = []
    done = 0
    for stop in np.unique(np.linspace(0, n, SOLVES + 1).astype(np.int64))[1:].tolist():
        recorder.follow(done, stop)
        distances.append(_distances(recorder, int(run.tape.pools[stop - 1])))
        advance(stop / n)
        done = stop
    return Comparison(recorder, np.array(distances))


def _distances(recorder: Recorder, pool: int) -> list[float]:
    """Of each moment head of the fleet scope from its exact solution; without the inputs that have not been in use."""
    found = []
    descent = recorder.pools[pool]
    for m in range(recorder.p.M):
        S, P, W = descent.S[0, m], descent.P[0, m], descent.W[0, m]
        used = np.flatnonzero(np.diag(S) > 0)
        ridge = float(descent.heads.ridge[m])
        found.append(solve_distance(S[np.ix_(used, used)], P[used], W[used], ridge) if len(used) else math.nan)
    products = recorder.products[pool]
    for P, W in zip(products.P, products.W, strict=True):
        used = np.flatnonzero(np.diag(products.S) > 0)
        part = products.S[np.ix_(used, used)]
        found.append(solve_distance(part, P[used], W[used], float(products.ridge[0])) if len(used) else math.nan)
    return found


def _new_frozen(run: Replay) -> Frozen:
    """A pool of fewer than five labelled events is never frozen."""
    P, E, p = int(run.pools.max()) + 1, len(run.names), run.params
    after = (np.bincount(run.pools, run.labelled, P) * FROZEN_SHARE).astype(np.int64)
    after[after == 0] = NEVER
    return Frozen(
        after, np.zeros(E, np.int64), np.zeros((P, p.T)), np.zeros((P, p.T), np.int64), run.middle,
        np.zeros((E, p.features)),
    )  # fmt: skip
