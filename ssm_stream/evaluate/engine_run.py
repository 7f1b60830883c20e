"""The production engine over a recording, kept as columns."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssm_stream.config import Config
from ssm_stream.engine.alert_kinds import KINDS
from ssm_stream.evaluate.alarm_matching import Alarm
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
    """n events of a recording in its order, and what the engine predicted for the target of each."""

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
    """(n, d) features, then categories as codes; only with `keep_events`, else (n, 0)."""
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
    """Of the thread that ran the engine; the file is read in another one."""
    bytes_per_entity: float = 0.0
    """Memory of what was learned, of entities and pools together, per entity."""

    def __len__(self) -> int:
        return len(self.ts)

    def alarms(self, messages: Iterable[tuple[int, dict[str, Any]]] | None = None) -> list[Alarm]:
        """Return the model's episodes that started, in their order. messages: of another engine over the same events"""
        number = {name: i for i, name in enumerate(self.names)}
        out, messages = [], self.messages if messages is None else list(messages)
        ends = {m["episode"]: int(self.ts[row]) for row, m in messages if m["phase"] == "recovered" and m["episode"]}
        for row, message in messages:
            if message["phase"] != "started" or message["kind"] not in KINDS:
                continue
            fleet = message["scope"] == "fleet"
            names = [each["entity"] for each in message["entities"]] if fleet else [message["entity"]]
            entities = tuple(number[name] for name in names if name in number)
            end = ends.get(message["episode"])
            out.append(Alarm(int(self.ts[row]), entities, message["kind"], row, message, end))
        return out


def run_engine(
    config: Config,
    rows: Iterable[dict[str, Any]],
    *,
    until: int | None = None,
    keep_events: bool = False,
    partitions: int = 1,
    on_rows: Callable[[int], None] = lambda _: None,
) -> EngineRun:
    """Run the production engine over the rows of a recording.

    Args:
        config: with one target
        rows: dicts, one an event, or a `Recording`
        until: the engine sees no event from this time on, ms
        keep_events: keep the events themselves for further runs
        partitions: of the source; see `PartitionedEngine`
        on_rows: takes the number of rows of each batch that is done
    """
    began = time.thread_time()
    known: dict[str, int] = {}
    columns: list[tuple[NDArray[Any], ...]] = []
    batches: list[Events] = []
    messages: list[tuple[int, dict[str, Any]]] = []
    faults, examples = Counter[str](), list[tuple[int, str]]()
    predicted_at: dict[tuple[int, int], int] = {}
    first, passed, ahead = 0, 0, False
    engine = PartitionedEngine(config, partitions)
    shares = EpisodeShares(engine)
    for chunk in prequential(config, rows, engine, until):
        events, predictions = chunk.learned, chunk.predictions
        shares.add(events.entity, events.target)
        ids, n = factorize(events.entity, known), len(events)
        here = np.arange(first, first + n)
        predicted = [predictions.yhat, predictions.lower, predictions.upper, predictions.warmup.astype(np.float64)]
        origin = here
        if chunk.resolved is not None:
            # With a horizon a row's target was predicted at an earlier row.
            ahead, resolved = True, chunk.resolved[0]
            predicted_at.update(zip(zip(ids.tolist(), events.ts.tolist(), strict=True), here.tolist(), strict=True))
            at, origin = resolved.item, np.full(n, -1)
            values = (resolved.yhat, resolved.lower, resolved.upper, resolved.warmup)
            predicted = [np.full(n, np.nan) for _ in values]
            for column, each in zip(predicted, values, strict=True):
                column[at] = each
            keys = zip(ids[at].tolist(), resolved.ts.tolist(), strict=True)
            origin[at] = [predicted_at.pop(key, -1) for key in keys]
        columns.append((ids, events.ts, events.target, chunk.first + events.position, *predicted, origin))
        messages += [(first + alert.row, alert.message) for alert in chunk.alerts]
        faults.update(str(refusal.fault) for refusal in chunk.refused)
        examples += [(chunk.first + r.position, f"{r.fault}: {r.reason}") for r in chunk.refused[:MAX_EXAMPLES]]
        if keep_events:
            batches.append(events)
        first += n
        passed += chunk.passed_by
        on_rows(chunk.height)
    if not columns:
        ints, floats = np.empty(0, np.int64), np.empty(0)
        columns = [(ints, ints, floats, ints, floats, floats, floats, floats, ints)]
    entity, ts, y, position, yhat, lower, upper, warmup, origin = (
        np.concatenate(parts) for parts in zip(*columns, strict=True)
    )
    shares.finish()
    longest = {f"{kind}_longest_entity": shares.longest_entity(kind) for kind in KINDS}
    width = len(config.event.columns) if keep_events else 0
    features = np.concatenate([events.features for events in batches]) if batches else np.empty((len(ts), width))
    memory = engine.bytes_per_entity * len(engine) + engine.bytes_per_pool * engine.pool_count
    return EngineRun(
        list(known), entity, ts, y, position, yhat, lower, upper, ~(warmup == 0.0), origin, features, messages,
        dict(faults), passed, examples[:MAX_EXAMPLES], batches, ahead, partitions, shares.figures() | longest,
        time.thread_time() - began, memory / max(len(engine), 1),
    )  # fmt: skip
