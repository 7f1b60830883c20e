"""The production engine over a recording, kept as columns."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssm_stream.config import Config
from ssm_stream.core.loop import Predictions, Settled
from ssm_stream.engine.alert_kinds import KINDS
from ssm_stream.evaluate.alarm_matching import Alarm, signals_of
from ssm_stream.evaluate.episode_shares import EpisodeShares
from ssm_stream.evaluate.partitioned_engine import PartitionedEngine
from ssm_stream.evaluate.prequential import prequential
from ssm_stream.ingest.events import Events
from ssm_stream.ingest.factorize import factorize

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
MAX_EXAMPLES = 5
"""Refused rows that are kept with their reasons."""


@dataclass
class EngineRun:
    """n events of a recording in its order, and what the engine predicted for one target of each."""

    names: list[str]
    """Entities in order of appearance."""
    entity: Ints
    """(n,) place in `names`."""
    ts: Ints
    """(n,) ms."""
    y: Floats
    """(n,) NaN without a target."""
    position: Ints
    """(n,) row in the file, from 0."""
    yhat: Floats
    """(n,) with a horizon predicted at an earlier row; NaN if nothing was predicted."""
    lower: Floats
    upper: Floats
    warmup: Flags
    """(n,) in warm-up, or not predicted."""
    origin: Ints
    """(n,) row that the prediction was made at: itself without a horizon, −1 if none was."""
    features: Floats
    """(n, d) features, then categories as codes; only with `keep_events`, else (n, 0). With `target: all` those are the
    categories; `with_inputs` adds the targets that are inputs."""
    messages: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    """All alerts, each with its row here."""
    refused: dict[str, int] = field(default_factory=dict)
    """Rows that are no events, by fault."""
    passed_by: int = 0
    """Rows of entities that `event.only` leaves out."""
    examples: list[tuple[int, str]] = field(default_factory=list)
    """Some of them: row in the file, and reason."""
    batches: list[Events] = field(default_factory=list)
    """The events that the engine processed; only with `keep_events`."""
    ahead: bool = False
    """Whether there is a horizon."""
    partitions: int = 1
    """Partitions of the source, by which the entities are pooled."""
    shares: dict[str, Any] = field(default_factory=dict)
    """Of the events inside episodes; see `EpisodeShares.figures`."""
    cpu_seconds: float = 0.0
    """Of the thread that ran the engine, all of it without `side_by_side`; the file is read in another one."""
    bytes_per_entity: float = 0.0
    """Memory of what was learned, of entities and pools together, per entity."""
    target: str = ""
    """With several targets, the path of this one. All that is not of a target is the same for each: alerts, too."""

    def __len__(self) -> int:
        return len(self.ts)

    def alarms(
        self, messages: Iterable[tuple[int, dict[str, Any]]] | None = None, *, rules: bool = False
    ) -> list[Alarm]:
        """Return the episodes that started, in their order: those of the model.

        Args:
            messages: of another engine over the same events
            rules: those of limits, silence and stuck signals as well
        """
        return alarms_of(self.names, self.ts, self.messages if messages is None else list(messages), rules=rules)


def alarms_of(
    names: list[str], ts: Ints, messages: list[tuple[int, dict[str, Any]]], *, rules: bool = False
) -> list[Alarm]:
    """Return the episodes that started, in their order; see `EngineRun.alarms`.

    Args:
        names: entities in order of appearance
        ts: (n,) times of the events, ms
        messages: all alerts, each with its row among the events
        rules: those of limits, silence and stuck signals as well
    """
    number, out = {name: i for i, name in enumerate(names)}, []
    ends = {m["episode"]: int(ts[row]) for row, m in messages if m["phase"] == "recovered" and m["episode"]}
    joined: dict[str, list[tuple[int, str]]] = {}
    for row, message in messages:
        if message["phase"] == "ongoing" and message.get("targets"):
            joined.setdefault(message["episode"], []).extend(
                (int(ts[row]), name) for name in sorted(signals_of(message))
            )
    for row, message in messages:
        if message["phase"] != "started" or not (rules or message["kind"] in KINDS):
            continue
        fleet = message["scope"] == "fleet"
        own = [each["entity"] for each in message["entities"]] if fleet else [message["entity"]]
        entities = tuple(number[name] for name in own if name in number)
        later = tuple(joined.get(message["episode"], ()))
        out.append(Alarm(int(ts[row]), entities, message["kind"], row, message, ends.get(message["episode"]), later))
    return out


def run_engine(config: Config, rows: Iterable[dict[str, Any]], **options: Any) -> EngineRun:
    """Run the production engine over the rows of a recording. config: with one target; options: of `run_targets`"""
    (run,) = run_targets(config, rows, **options)
    return run


def run_targets(
    config: Config,
    rows: Iterable[dict[str, Any]],
    *,
    until: int | None = None,
    keep_events: bool = False,
    partitions: int = 1,
    on_rows: Callable[[int], None] = lambda _: None,
    side_by_side: bool = True,
) -> list[EngineRun]:
    """Run the production engine once over the rows of a recording, and return what it predicted of each target.

    Args:
        config: of the run
        rows: dicts, one an event, or a `Recording`
        until: the engine sees no event from this time on, ms
        keep_events: keep the events themselves for further runs
        partitions: of the source; see `PartitionedEngine`
        on_rows: takes the number of rows of each batch that is done
        side_by_side: see `PartitionedEngine`
    """
    began, paths = time.thread_time(), config.event.targets
    known: dict[str, int] = {}
    columns: list[tuple[NDArray[Any], ...]] = []
    of_targets = [_OfTarget() for _ in paths]
    batches: list[Events] = []
    messages: list[tuple[int, dict[str, Any]]] = []
    faults, examples = Counter[str](), list[tuple[int, str]]()
    first, passed, ahead = 0, 0, False
    engine = PartitionedEngine(config, partitions, side_by_side=side_by_side)
    shares = EpisodeShares(engine, len(paths))
    for chunk in prequential(config, rows, engine, until):
        events, n = chunk.learned, len(chunk.events)
        ids = factorize(events.entity, known)
        targets = events.target.reshape(n, len(paths))
        columns.append((ids, events.ts, chunk.first + events.position))
        ahead = ahead or chunk.resolved is not None
        columns_of = [each.reshape(n, len(paths)) for each in predicted(chunk.predictions)]
        for j, each in enumerate(of_targets):
            shares.add(events.entity, targets[:, j], j)
            if chunk.resolved is None:
                each.add(first, targets[:, j], [c[:, j] for c in columns_of])
            else:
                each.add_resolved(first, targets[:, j], ids, events.ts, chunk.resolved[j])
        messages += [(first + alert.row, alert.message) for alert in chunk.alerts]
        faults.update(str(refusal.fault) for refusal in chunk.refused)
        examples += [(chunk.first + r.position, f"{r.fault}: {r.reason}") for r in chunk.refused[:MAX_EXAMPLES]]
        if keep_events:
            # With their targets in planned stops, which the engine withholds: others may have them as inputs.
            batches.append(chunk.events)
        first += n
        passed += chunk.passed_by
        on_rows(chunk.height)
    ints = np.empty(0, np.int64)
    entity, ts, position = map(np.concatenate, zip((ints, ints, ints), *columns, strict=True))
    shares.finish()
    longest = {f"{kind}_longest_entity": shares.longest_entity(kind) for kind in KINDS}
    width = len(config.event.columns) if keep_events else 0
    features = np.concatenate([events.features for events in batches]) if batches else np.empty((len(ts), width))
    memory = engine.bytes_per_entity * len(engine) + engine.bytes_per_pool * engine.pool_count
    seconds = time.thread_time() - began
    return [
        EngineRun(
            list(known), entity, ts, y, position, yhat, lower, upper, ~(warmup == 0.0), origin, features, messages,
            dict(faults), passed, examples[:MAX_EXAMPLES], batches, ahead, partitions, shares.figures() | longest,
            seconds, memory / max(len(engine), 1), path if len(paths) > 1 else "",
        )
        for path, (y, yhat, lower, upper, warmup, origin) in zip(paths, (e.whole() for e in of_targets), strict=True)
    ]  # fmt: skip


def predicted(of: Predictions | Settled) -> list[Floats]:
    """Return yhat, lower, upper and warm-up of predictions."""
    return [of.yhat, of.lower, of.upper, of.warmup.astype(np.float64)]


class _OfTarget:
    """The columns of one target, batch by batch."""

    def __init__(self) -> None:
        self._parts: list[list[NDArray[Any]]] = []
        self._predicted_at: dict[tuple[int, int], int] = {}

    def add(self, first: int, y: Floats, predictions: list[Floats]) -> None:
        """Add a batch. first: its first row; predictions: of its events"""
        self._parts.append([y, *predictions, np.arange(first, first + len(y))])

    def add_resolved(self, first: int, y: Floats, ids: Ints, ts: Ints, resolved: Settled) -> None:
        """Add a batch where there is a horizon: a row's target was predicted at an earlier row."""
        n = len(y)
        here = zip(zip(ids.tolist(), ts.tolist(), strict=True), range(first, first + n), strict=True)
        self._predicted_at.update(here)
        at, origin = resolved.item, np.full(n, -1)
        columns = [np.full(n, np.nan) for _ in range(4)]
        for column, each in zip(columns, predicted(resolved), strict=True):
            column[at] = each
        keys = zip(ids[at].tolist(), resolved.ts.tolist(), strict=True)
        origin[at] = [self._predicted_at.pop(key, -1) for key in keys]
        self._parts.append([y, *columns, origin])

    def whole(self) -> list[NDArray[Any]]:
        """Return y, yhat, lower, upper, warm-up and origin of all rows."""
        empty = [*(np.empty(0) for _ in range(5)), np.empty(0, np.int64)]
        return [np.concatenate(parts) for parts in zip(empty, *self._parts, strict=True)]


def with_inputs(config: Config, run: EngineRun) -> EngineRun:
    """Return a run with the features as its target's engine has them: those that are targets, too, come first.

    Args:
        config: of the run
        run: of one of its targets, with its events
    """
    if not config.event.watches_all or not run.batches:
        return run
    place = {path: i for i, path in enumerate(config.event.targets)}
    others = [place[path] for path in config.event.watched_inputs if path != run.target]
    inputs = np.concatenate([events.target[:, others] for events in run.batches])
    return replace(run, features=np.concatenate([inputs, run.features], axis=1))
