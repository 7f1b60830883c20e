"""Reports on the state of an entity, without an event: nothing is predicted, and nothing changes."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any, NamedTuple

from ssm_stream.core import error_scale, interval
from ssm_stream.core.features import QUARTER, utc_offset
from ssm_stream.core.lifecycle import OPEN, PEAK, SINCE_N, SINCE_TS
from ssm_stream.core.loop import GAP, GAPS, LAST, MARK, WEIGHT_EVERY, WEIGHT_RATE, EntityStates
from ssm_stream.engine.alert_kinds import KINDS
from ssm_stream.engine.alerts import add_alike
from ssm_stream.engine.counts.episode_tally import EpisodeFigures
from ssm_stream.engine.engine import Engine
from ssm_stream.engine.entity_store import EntityStore
from ssm_stream.engine.target_engine import TargetEngine
from ssm_stream.engine.trials import RunningTrial, running_trial
from ssm_stream.ingest.timestamps import EPOCH


class EntityView(NamedTuple):
    """An entity's row in the states, and its shard's pools by source; with `model.fleet` off, its own pool."""

    row: int
    state: EntityStates
    pools: dict[int, int]


@dataclass(frozen=True, slots=True)
class OpenEpisode:
    """An open episode: its kind, the time of its first event (ms), labelled events since, and its highest score."""

    kind: str
    since: int
    events: int
    peak: float


@dataclass(frozen=True, slots=True)
class EntityReport:
    """The state of an entity for one target.

    n: labelled events; last: time of the last one, ms (None: none yet); watermark: of its source then, ms
    gap: mean seconds between events; error: running mean of |y − yhat|; half_width: of the last prediction interval
    weights: input → running mean of its implicit weight, in the target's unit per standard deviation of the input, the
        largest first
    trial: of changed inputs; None where none is running
    """

    target: str
    n: int
    last: int | None
    watermark: int | None
    gap: float
    error: float
    half_width: float
    episodes: list[OpenEpisode]
    weights: dict[str, float]
    trial: RunningTrial | None = None


@dataclass(frozen=True, slots=True)
class EntitySummary:
    """An entity in a list.

    last: time of its last labelled event, ms; n: labelled events, of the target with the most; open: kinds of open
    episodes; bytes: of its own state; hash: as of `entity_hash`, None if it was not computed
    """

    entity: str
    last: int | None
    n: int
    open: list[str]
    bytes: int
    hash: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return all fields as JSON has them."""
        return asdict(self)


def summarize_entities(engine: Engine) -> Iterator[EntitySummary]:
    """Yield a summary of each of the engine's entities, without its hash."""
    size = engine.bytes_per_entity
    for name in engine.names:
        views = [view for each in engine.target_engines if (view := _view(each.store, name)) is not None]
        kinds = [kind for i, kind in enumerate(KINDS) if any(_episode(view, i)[OPEN] for view in views)]
        last = max((at for view in views if (at := _time(view, LAST)) is not None), default=None)
        yield EntitySummary(name, last, max(_labelled(view) for view in views), kinds, size)


def report_entity(engine: TargetEngine, entity: str, source: int | None = None) -> EntityReport | None:
    """Return a report on an entity for one target; None if it is not in memory.

    Args:
        engine: of the target
        entity: its name
        source: the stream that it comes from, for the names of codes; None: the first of its shard's
    """
    view = _view(engine.store, entity)
    if view is None:
        return None
    number, n = view.state.clock.number[view.row], _labelled(view)
    spread = view.state.interval
    episodes = [
        OpenEpisode(kind, int(row[SINCE_TS]), n - int(row[SINCE_N]), float(row[PEAK]))
        for i, kind in enumerate(KINDS)
        if (row := _episode(view, i))[OPEN]
    ]
    pool = view.pools[source] if source in view.pools else next(iter(view.pools.values()))
    # The running mean begins at zero: divide by the weight of what it has seen.
    share = 1.0 - (1.0 - WEIGHT_RATE) ** math.ceil(n / WEIGHT_EVERY)
    means = view.state.reference.weights[view.row].astype(float) / (share or 1.0)
    names = engine.input_names(pool)
    summed = add_alike(names, means[: len(names)]).tolist()
    weights = [pair for pair in zip(names, summed, strict=True) if pair[0] and pair[1]]
    usual, last = (float(view.state.error_scale.number[view.row, at]) for at in (error_scale.PLAIN, error_scale.LAST))
    at = _time(view, LAST)
    hour = 0 if at is None else (at + utc_offset(engine.config.event.time_zone, at)) // (4 * QUARTER) % 24
    return EntityReport(
        engine.config.event.targets[0],
        n,
        at,
        _time(view, MARK),
        float(number[GAP]),
        usual,
        interval.half_width(spread, view.row, hour) * last,
        episodes,
        dict(sorted(weights, key=lambda pair: -abs(pair[1]))),
        running_trial(engine.store, pool),
    )


def hash_by_source(engine: Engine, entity: str) -> dict[int, str]:
    """Return an entity's `state_hash` by source of the entities of its shard; by 0 alone with `model.fleet` off."""
    views = [view for each in engine.target_engines if (view := _view(each.store, entity)) is not None]
    return {source: engine.state_hash(entity, source) for source in sorted({at for view in views for at in view.pools})}


def entity_hash(engine: Engine, entity: str) -> str:
    """Return 16 hex digits over an entity's own state and all pools of its shard; with one pool, its `state_hash`."""
    hashes = list(hash_by_source(engine, entity).values())
    return hashes[0] if len(hashes) == 1 else hashlib.blake2b("".join(hashes).encode(), digest_size=8).hexdigest()


def iso_seconds(ts: int | None) -> str | None:
    """Return a time (ms) in ISO 8601, to the second; None for None."""
    return None if ts is None else (EPOCH + timedelta(milliseconds=ts)).isoformat(timespec="seconds")[:19] + "Z"


def _view(store: EntityStore, entity: str) -> EntityView | None:
    """Return where an entity's state lies; None if it is not in memory."""
    row = store.row_by_name.get(entity)
    if row is None:
        return None
    if not store.config.model.fleet:
        return EntityView(row, store.state, {0: row})
    shard = int(store.shards[row])
    return EntityView(row, store.state, {source: pool for (home, source), pool in store.pools.items() if home == shard})


def _episode(view: EntityView, kind: int) -> Any:
    return view.state.lifecycle.number[view.row, kind]


def _labelled(view: EntityView) -> int:
    return int(view.state.learner.n[view.row])


def _time(view: EntityView, column: int) -> int | None:
    number = view.state.clock.number[view.row]
    return int(number[column]) if number[GAPS] > 0 and math.isfinite(number[column]) else None


def episode_figures(engine: Engine, kind: str) -> EpisodeFigures:
    """Return the figures of a kind, each the largest over the targets of an engine; thread-safe."""
    stores = [each.store for each in engine.target_engines]
    found = [store.tally.read(store.state, len(store), KINDS.index(kind)) for store in stores]
    return EpisodeFigures(*map(max, zip(*found, strict=True)))
