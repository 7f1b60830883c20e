"""Explains a prediction: the contributions of its inputs, the heads' predictions, and the share learned from others.

A prediction is a weighted mean of the heads' predictions; the gate sets the weights. Its linear part is the implicit
model: the weights of all heads, averaged by the gate (`core/implicit.py`). So

    yhat = base + Σ weight_j · x_j + rest

where the base is what the model predicts before any gradient (the last target, shifted by what a change of a category
does, or the mean if lags are off), x_j the
standardised inputs and products of inputs, and `rest` all else that is not linear: embedding, log space,
attention, heads that predict from another base, and clipping.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from typing import Any, Literal

import numpy as np

from ssm_stream.config import Config
from ssm_stream.core import kernel
from ssm_stream.core.implicit import answer_names, product_parts
from ssm_stream.core.shapes import BASE, MANY, MEAN, SHIFT
from ssm_stream.engine.alerts import add_alike
from ssm_stream.engine.engine import Engine
from ssm_stream.engine.target_engine import TargetEngine
from ssm_stream.ingest.context.facts import JoinFacts
from ssm_stream.ingest.events import Events
from ssm_stream.ingest.rows.stage import read_rows
from ssm_stream.ingest.timestamps import EPOCH


@dataclass(frozen=True, slots=True)
class Contribution:
    """An input's contribution to a prediction.

    feature: its name; `temp × load` is the product of two inputs
    value: of the input, in its own unit (None: unknown; codes: 1 or 0; a product: of its inputs in standard deviations)
    weight: target's unit per standard deviation of the input
    contribution: what it adds to the base, in the target's unit
    reading: what the event has for it, where that is so far off that it was taken for unknown; None otherwise
    """

    feature: str
    value: float | None
    weight: float
    contribution: float
    reading: float | None = None


@dataclass(frozen=True, slots=True)
class HeadPrediction:
    """A head's own prediction (`answer`), in the target's unit, and its weight in the gate."""

    head: str
    answer: float
    weight: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """A prediction as a sum: yhat = base + constant + Σ contributions + rest.

    n: labelled events of the entity before; fleet: share learned from other entities
    y: the target, None if the event has none; the residual is y − yhat
    derived: name of each derived input → what it is computed from, such as `power / flow`
    target: with several, the path of this one
    """

    entity: str
    ts: int
    n: int
    yhat: float
    base: float
    constant: float
    rest: float
    fleet: float
    parts: list[Contribution]
    answers: list[HeadPrediction]
    y: float | None = None
    derived: dict[str, str] = field(default_factory=dict)
    target: str | None = None

    @property
    def name(self) -> str:
        """The entity; of several targets, the target, too."""
        return self.entity if self.target is None else f"{self.entity}, {self.target}"

    @property
    def when(self) -> str:
        """The event's time in ISO 8601."""
        return (EPOCH + timedelta(milliseconds=self.ts)).isoformat(timespec="seconds").replace("+00:00", "Z")

    def as_json(self) -> dict[str, Any]:
        """Return all fields as JSON has them."""
        return asdict(self)


def product_name(first: str, second: str) -> str:
    """Such as `temp × load`, or `temp²`."""
    return f"{first}²" if first == second else f"{first} × {second}"


def explain(engine: TargetEngine, events: Events, source: int = 0) -> Explanation:
    """Explain the prediction that the engine would make for an event now; nothing is learned, no state changes.

    Args:
        engine: of the target
        events: one event of an entity in memory
        source: the stream that it comes from

    Raises:
        KeyError: the entity is not in memory.
    """
    entity = events.entity[0]
    trace = engine.trace_prediction(events, source)
    w, p, pool = trace.scratch, trace.params, trace.pool
    many = bool(w.flag[MANY])
    weights = np.zeros(p.L, np.float32)
    fleet = kernel.weights_now(p, trace.learner, w, pool, trace.row, weights)
    x = (w.entity if many else w.fleet)[: p.L].astype(np.float64)
    moved = weights.astype(np.float64) * x
    names, parts = engine.input_names(pool), []
    summed, added = add_alike(names, weights.astype(np.float64)), add_alike(names, moved)
    for j, name in enumerate(names):
        if j and name and names.index(name) == j:
            value = float(w.v[j - 1]) if j <= p.F else float(x[j])
            known = None if value != value else value
            reading = float(trace.columns[j - 1]) if w.wild[0] == -j else None
            parts.append(Contribution(name, known, float(summed[j]), float(added[j]), reading))
    for product in product_parts(p, w, trace.learner.pool, pool):
        both = product_name(names[1 + product.i], names[1 + product.j])
        known = None if product.value != product.value else product.value
        parts.append(Contribution(both, known, product.weight, product.weight * product.x))
    parts.sort(key=lambda part: -abs(part.contribution))
    before = w.base[BASE] if p.lags else w.base[MEAN]  # without lags heads learn the target itself, about its mean
    yhat, base, constant = trace.yhat, float(before + w.base[SHIFT]), float(moved[0])
    rest = yhat - base - constant - sum(part.contribution for part in parts)
    count = int(w.places[0])
    answers = [
        HeadPrediction(head, float(w.a[i]), float(w.g[i]))
        for i, head in enumerate(answer_names(p, many)[:count])
        if w.active[i]
    ]
    answers.sort(key=lambda answer: -abs(answer.weight))
    n, ts = int(trace.learner.entity.n[trace.row]), int(events.ts[0])
    y = float(events.target[0]) if events.target.ndim == 1 else math.nan
    derived = {name: each.text for name, each in engine.config.event.derive.items()}
    return Explanation(
        entity, ts, n, yhat, base, constant, rest, float(fleet), parts, answers, None if math.isnan(y) else y, derived
    )


def explain_target(engine: Engine, events: Events, target: str, source: int = 0) -> Explanation:
    """Explain the prediction of one of the engine's targets; see `explain`. events: one, with its derived columns"""
    targets = engine.config.event.targets
    number = targets.index(target)
    found = explain(engine.target_engines[number], engine.inputs.select(number, events), source)
    return replace(found, target=target if len(targets) > 1 else None)


class UnknownEntityError(LookupError):
    """There is no such entity, row or target; the message lists what there is."""


def spread_evenly(places: list[int], most: int) -> list[int]:
    """Return at most so many of the places, evenly spaced, the first and the last among them."""
    if not most or not places:
        return []
    return [places[i] for i in np.unique(np.linspace(0, len(places) - 1, min(most, len(places))).astype(int))]


def _find_event(events: Events, entity: str, row: int | None) -> tuple[list[int], int]:
    """Return the indexes of an entity's earlier events, and that of its event at a row (None: its last)."""
    own = [i for i, name in enumerate(events.entity) if name == entity]
    if not own:
        names = sorted(set(events.entity))
        shown = ", ".join(names[:10]) + (f" and {len(names) - 10} others" if len(names) > 10 else "")
        raise UnknownEntityError(f"no event of {entity!r} in the recording; its entities are {shown or 'none'}")
    at = own[-1]
    if row is not None:
        found = np.flatnonzero(events.position == row - 1)
        if not len(found) or events.entity[found[0]] != entity:
            whose = f"an event of {events.entity[found[0]]!r}" if len(found) else "no event"
            raise UnknownEntityError(f"row {row} is {whose}; the rows of {entity!r} end with {events.position[at] + 1}")
        at = int(found[0])
    return [i for i in own if i < at], at


def explain_recorded(
    config: Config,
    rows: Iterable[dict[str, Any]],
    entity: str,
    row: int | None = None,
    target: str | None = None,
    history: int = 0,
    join: JoinFacts | None = None,
) -> tuple[Explanation, list[Explanation]]:
    """Run the engine over rows up to an event of the entity, and explain that event's prediction.

    Args:
        config: whose targets come with their events
        rows: dicts, one an event
        entity: its name
        row: of the event, from 1; None: the entity's last
        target: which one; None: the first
        history: so many of the entity's earlier events are explained too, evenly spaced
        join: joins facts of context topics to the rows of readings and windows

    Returns:
        the explanation, and those of earlier events in their order

    Raises:
        UnknownEntityError: no such entity, the row is not one of its events, or no such target.
    """
    targets = config.event.targets
    if target is not None and target not in targets:
        raise UnknownEntityError(f"target: found {target!r}; the configuration has {', '.join(targets)}")
    if config.labels is not None or config.model.horizon.events or config.model.horizon.seconds:
        raise UnknownEntityError(
            "explain needs targets that come with their events: remove `labels` and `model.horizon` from the "
            "configuration"
        )
    events, _ = read_rows(config.event, list(rows), join)
    before, at = _find_event(events, entity, row)
    if events.idle is not None:
        if events.idle[at]:
            raise UnknownEntityError(
                f"row {events.position[at] + 1} does not meet event.when: an idle event is not predicted"
            )
        before = [i for i in before if not events.idle[i]]
    engine, done, explanations = Engine(config), 0, list[Explanation]()
    for stop in [*spread_evenly(before, history), at]:
        if stop > done:
            engine.process(engine.admit(events.take(np.arange(done, stop)))[0])
            done = stop
        one = engine.windows.filled(events.take(np.array([stop])))
        try:
            explanations.append(explain_target(engine, one, target or targets[0]))
        except KeyError:
            if stop == at:
                raise UnknownEntityError(
                    f"row {events.position[at] + 1} is the first event of {entity!r}, of which nothing has been "
                    "learned yet"
                ) from None
    return explanations[-1], explanations[:-1]


def set_language(engine: Engine, language: Literal["en", "ja"]) -> None:
    """Let an engine write the sentences of alerts in a language, whatever its configuration has."""
    for each in (engine.episodes.summarizer, *(target.summarizer for target in engine.target_engines)):
        each.language = language
