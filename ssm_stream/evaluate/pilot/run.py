"""A recording through the production engine, kept as columns: once as it is configured, then as comparisons need it."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.config import Budget, Config
from ssm_stream.engine.engine import Alert, Engine
from ssm_stream.evaluate.prequential import prequential
from ssm_stream.ingest.events import Events, places

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
FACTORS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""Times the configured budget: the positions of the slider."""
LEAST_GAP = 20.0
"""Events between false alarms below which an alarm cannot be told from noise (`config.Budget`)."""


class Alarm(NamedTuple):
    """An episode that started. row: of the tape; entities: one, or those that a fleet alert stands for, as numbers."""

    row: int
    ts: int
    entities: tuple[int, ...]
    kind: str
    message: dict[str, Any]


@dataclass
class Tape:
    """n events of a recording in its order, and what the engine said of each.

    names: entities in order of appearance; entity (n,): which; ts (n,) ms; y (n,), NaN where there is no target;
    features (n, d): features, then categories as codes; position (n,): row in the file, from 0
    yhat, lower, upper, score (n,): of the row's target, NaN where none was predicted; warmup (n,)
    origin (n,): the row that it was predicted from, itself without a horizon, −1 where none was
    messages: all alerts with the tape's row of each; refused: rows that are no events, by fault
    """

    names: list[str]
    entity: Ints
    ts: Ints
    y: Floats
    features: Floats
    position: Ints
    yhat: Floats
    lower: Floats
    upper: Floats
    score: Floats
    warmup: Flags
    origin: Ints
    messages: list[tuple[int, dict[str, Any]]]
    refused: dict[str, int]
    examples: list[tuple[int, str]]
    batches: list[Events]
    ahead: bool

    def __len__(self) -> int:
        return len(self.ts)


def record(config: Config, rows: Iterable[dict[str, Any]], on_rows: Callable[[int], None]) -> Tape:
    """The production engine over the rows. config: with one target"""
    known: dict[str, int] = {}
    parts: list[tuple[Any, ...]] = []
    batches: list[Events] = []
    messages: list[tuple[int, dict[str, Any]]] = []
    faults, examples = Counter[str](), list[tuple[int, str]]()
    made: dict[tuple[int, int], int] = {}
    first, ahead = 0, False
    for chunk in prequential(config, rows):
        events, said = chunk.events, chunk.predictions
        ids, n = places(events.entity, known), len(events)
        here = np.arange(first, first + n)
        answers = [said.yhat, said.lower, said.upper, said.score, said.warmup.astype(np.float64)]
        origin = here
        if chunk.settled is not None:
            # With a horizon a row's target was predicted from an earlier one.
            ahead, settled = True, chunk.settled[0]
            made.update(zip(zip(ids.tolist(), events.ts.tolist(), strict=True), here.tolist(), strict=True))
            at, origin = settled.item, np.full(n, -1)
            told = (settled.yhat, settled.lower, settled.upper, settled.score, settled.warmup)
            answers = [np.full(n, np.nan) for _ in told]
            for column, values in zip(answers, told, strict=True):
                column[at] = values
            origin[at] = [made.pop(key, -1) for key in zip(ids[at].tolist(), settled.ts.tolist(), strict=True)]
        parts.append((ids, events.ts, events.target, events.features, chunk.first + events.position, *answers, origin))
        messages += [(first + alert.row, alert.message) for alert in chunk.alerts]
        faults.update(refusal.fault for refusal in chunk.refused)
        examples += [(chunk.first + r.position, f"{r.fault}: {r.reason}") for r in chunk.refused[:5]]
        batches.append(events)
        first += n
        on_rows(n + len(chunk.refused))
    width = len(config.event.columns)
    if not parts:
        empty = np.empty(0)
        parts = [(empty.astype(int), empty.astype(int), empty, np.empty((0, width)), empty.astype(int), *[empty] * 5,
                  empty.astype(int))]  # fmt: skip
    ids, ts, y, features, position, yhat, lower, upper, score, warmup, origin = map(
        np.concatenate, zip(*parts, strict=True)
    )
    return Tape(
        list(known), ids, ts, y, features, position, yhat, lower, upper, score, ~(warmup == 0.0), origin, messages,
        dict(faults), examples[:5], batches, ahead,
    )  # fmt: skip


def alarms_of(tape: Tape, messages: Iterable[tuple[int, dict[str, Any]]]) -> list[Alarm]:
    """The episodes that started, in the order in which a person was called."""
    number = {name: i for i, name in enumerate(tape.names)}
    out = []
    for row, message in messages:
        if message["phase"] != "started":
            continue
        fleet = message["scope"] == "fleet"
        inside = [each["entity"] for each in message["entities"]] if fleet else [message["entity"]]
        entities = tuple(number[name] for name in inside if name in number)
        out.append(Alarm(row, int(tape.ts[row]), entities, message["kind"], message))
    return out


def with_budget(config: Config, factor: float) -> Config:
    """The configuration with so many times the false alarms allowed."""

    def scaled(budget: Budget) -> Budget:
        events = max(budget.events / factor, LEAST_GAP) if budget.events else 0.0
        seconds = budget.seconds / factor
        text = f"1 per {events:.0f} events" if events else f"1 per {_time(seconds)}"
        return Budget(text=text, events=events, seconds=seconds)

    alerts = config.alerts
    anomaly = alerts.anomaly.model_copy(update={"budget": scaled(alerts.anomaly.budget)})
    drift = alerts.drift.model_copy(update={"budget": scaled(alerts.drift.budget)})
    return _changed(config, alerts=alerts.model_copy(update={"anomaly": anomaly, "drift": drift}))


def _time(seconds: float) -> str:
    unit, size = next((u, s) for u, s in (("d", 86_400.0), ("h", 3600.0), ("m", 60.0), ("s", 0.0)) if seconds >= s)
    return f"{seconds / (size or 1.0):.3g}{unit}"


def _changed(config: Config, **sections: Any) -> Config:
    """Made anew, not copied: a copy would keep the hash."""
    kept = {name: getattr(config, name) for name in type(config).model_fields if name not in sections}
    return Config(**kept, **sections)


def run_again(config: Config, tape: Tape) -> list[tuple[int, dict[str, Any]]]:
    """The alerts of another engine over the same events."""
    engine, out, first = Engine(config), list[tuple[int, dict[str, Any]]](), 0
    for events in tape.batches:
        admitted, _ = engine.admit(events)
        alerts: list[Alert] = engine.process(admitted)[1]
        # Rows count admitted events, and the same were admitted before.
        out += [(first + alert.row, alert.message) for alert in alerts]
        first += len(events)
    return out


def frozen_config(config: Config) -> Config:
    """The engine that `frozen` holds: no alerts, and an entity's state lasts."""
    alerts = config.alerts
    anomaly = alerts.anomaly.model_copy(update={"enabled": False, "learn": "hold"})
    drift = alerts.drift.model_copy(update={"enabled": False, "learn": "hold"})
    return _changed(
        config,
        alerts=alerts.model_copy(update={"anomaly": anomaly, "drift": drift}),
        state=config.state.model_copy(update={"ttl": None, "max_entities": None}),
    )


def frozen(config: Config, tape: Tape, first: Ints) -> Floats:
    """Predictions (n,) of the engine that learns of each entity only up to its row `first` (E,) of the tape.

    Lags and watermark go on, as an entity's past is an input and no parameter.
    """
    engine = Engine(frozen_config(config))
    cuts = sorted({0, *(int(row) for row in first.tolist() if row < len(tape))})
    held = {cut: [tape.names[e] for e in np.flatnonzero(first == cut)] for cut in cuts}
    yhat = np.full(len(tape), np.nan)
    start = 0
    for events in tape.batches:
        stop = start + len(events)
        edges = [start, *(cut for cut in cuts if start < cut < stop), stop]
        for left, right in itertools.pairwise(edges):
            engine.freeze_learning(held.get(left, []))
            part = events if right - left == len(events) else events.take(np.arange(left - start, right - start))
            said = engine.process(part)[0].yhat
            if tape.ahead:
                settled = engine.resolved_predictions[0]
                yhat[left + settled.item] = settled.yhat
            else:
                yhat[left:right] = said
        start = stop
    return yhat
