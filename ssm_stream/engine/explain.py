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
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ssm_stream.config import Config
from ssm_stream.core import kernel
from ssm_stream.core.implicit import answer_names, product_parts
from ssm_stream.core.shapes import BASE, MANY, MEAN, SHIFT
from ssm_stream.engine.alerts import add_alike
from ssm_stream.engine.engine import Engine
from ssm_stream.engine.target_engine import TargetEngine
from ssm_stream.ingest.context.facts import JoinFacts
from ssm_stream.ingest.events import Events
from ssm_stream.ingest.labels import LabelReader, Labels, label_test
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
    y: the target, which may have come later as a label; None if the event has none; the residual is y − yhat
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


class RecordedStream:
    """Reads a recording as a flow does: an event is predicted without the labels below it.

    engine: as it is before the next event; events: all n of them, whose `position` is the row in the file, from 0

    >>> from ssm_stream.config import parse_config
    >>> config = parse_config('''
    ... source: {brokers: "localhost:9092", topic: events}
    ... event: {entity: e, timestamp: t, features: [load], target: lab, lags: 0}
    ... labels: {marker: lab}
    ... ''')
    >>> rows = [{"e": "m", "t": 0, "load": 1}, {"e": "m", "t": 60, "load": 2}, {"e": "m", "t": 0, "lab": 7.5}]
    >>> stream = RecordedStream(config, rows)
    >>> stream.events.position.tolist(), stream.target_of(0), stream.target_of(1)
    ([0, 1], 7.5, nan)
    >>> stream.learn_before(1)
    >>> stream.engine.label_counts["matched"]
    0
    """

    def __init__(self, config: Config, rows: Sequence[Any], join: JoinFacts | None = None) -> None:
        """Read the rows.

        Args:
            config: without a horizon
            rows: dicts, one an event or a label
            join: joins facts of context topics to the rows of readings and windows
        """
        self.engine, self._done, self._learned = Engine(config), 0, 0
        self._labels: Labels | None = None
        section, is_label = config.labels, label_test(config.labels)
        at = [] if is_label is None else [i for i, row in enumerate(rows) if is_label(row)]
        if section is None or is_label is None or not at:
            self.events, _ = read_rows(config.event, rows, join)
            return
        reader, of_labels = LabelReader(config, section), set(at)
        of_events = np.array([i for i in range(len(rows)) if i not in of_labels], np.int64)
        some = [rows[i] for i in of_events.tolist()]
        events, _ = reader.add_ids(some, read_rows(config.event, some)[0])
        self.events = replace(events, position=of_events[events.position])
        labels, _ = reader.read([rows[i] for i in at])
        self._labels = replace(labels, position=np.array(at, np.int64)[labels.position])

    def learn_before(self, index: int) -> None:
        """Learn the events before this one, and the labels above it."""
        above = int(self.events.position[index])
        while self._done < index or self._labels_until(above) > self._learned:
            stop = index
            if self._labels is not None and self._learned < len(self._labels):
                stop = min(stop, int(np.searchsorted(self.events.position, self._labels.position[self._learned])))
            if stop > self._done:
                part = self.engine.episodes.mark(self.events.take(np.arange(self._done, stop)))
                self.engine.process(self.engine.admit(part)[0])
                self._done = stop
            self._learn_labels(int(self.events.position[self._done]))

    def _labels_until(self, row: int) -> int:
        """Return the number of labels above a row."""
        return 0 if self._labels is None else int(np.searchsorted(self._labels.position, row))

    def _learn_labels(self, row: int) -> None:
        """Learn the labels above a row that have not been learned yet."""
        until = self._labels_until(row)
        if self._labels is not None and until > self._learned:
            self.engine.learn(self._labels.take(np.arange(self._learned, until)))
            self._learned = until

    def target_of(self, index: int) -> float:
        """Return the target of an event, its own or that of its label, be it learned yet or not; NaN for none."""
        events, labels = self.events, self._labels
        if events.target.ndim > 1:
            return math.nan
        if labels is None or not math.isnan(events.target[index]):
            return float(events.target[index])
        found = np.flatnonzero(_joined_by(labels, events) == _joined_by(events, events)[index]).tolist()
        return next((float(labels.target[i]) for i in found if labels.entity[i] == events.entity[index]), math.nan)

    def event_of_label(self, row: int) -> int | None:
        """Return the row of the event that the label in a row is of; None: that is no label, or it has no event."""
        events, labels = self.events, self._labels
        at = np.empty(0, np.intp) if labels is None else np.flatnonzero(labels.position == row)
        if labels is None or not len(at):
            return None
        found = np.flatnonzero(_joined_by(events, events) == _joined_by(labels, events)[at[0]]).tolist()
        own = (int(events.position[i]) for i in found if events.entity[i] == labels.entity[at[0]])
        return next(own, None)


def _joined_by(of: Events | Labels, events: Events) -> NDArray[np.int64]:
    """Return what events and labels have in common: hashes of ids where the events have them, else times."""
    return of.ts if events.key is None or of.key is None else of.key


def _find_event(events: Events, entity: str | None, row: int | None) -> tuple[list[int], int]:
    """Return the indexes of an entity's earlier events, and that of its event at a row (None: its last). entity: None:
    that of the row"""
    if entity is None:
        there = [] if row is None else np.flatnonzero(events.position == row - 1).tolist()
        if not there:
            raise UnknownEntityError(f"row {row} is no event")
        entity = events.entity[there[0]]
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
    entity: str | None,
    row: int | None = None,
    target: str | None = None,
    history: int = 0,
    join: JoinFacts | None = None,
) -> tuple[Explanation, list[Explanation]]:
    """Run the engine over rows up to an event of the entity, and explain that event's prediction.

    Args:
        config: whose targets are those of their own events
        rows: dicts, one an event, or a label by `labels.marker`: each is learned at its place
        entity: its name; None: that of the row
        row: of the event or its label, from 1; None: the entity's last event
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
    if config.model.horizon.events or config.model.horizon.seconds:
        raise UnknownEntityError(
            "explain splits the prediction of an event's own target, and model.horizon predicts a later one: remove "
            "`model.horizon` from a copy of the configuration"
        )
    stream = RecordedStream(config, list(rows), join)
    events = stream.events
    if row is not None and (its := stream.event_of_label(row - 1)) is not None:
        row = its + 1
    before, at = _find_event(events, entity, row)
    if events.idle is not None:
        if events.idle[at]:
            raise UnknownEntityError(
                f"row {events.position[at] + 1} does not meet event.when: an idle event is not predicted"
            )
        before = [i for i in before if not events.idle[i]]
    explanations = list[Explanation]()
    for stop in [*spread_evenly(before, history), at]:
        stream.learn_before(stop)
        one = stream.engine.windows.filled(events.take(np.array([stop])))
        try:
            found = explain_target(stream.engine, one, target or targets[0])
        except KeyError:
            if stop == at:
                raise UnknownEntityError(
                    f"row {events.position[at] + 1} is the first event of {entity!r}, of which nothing has been "
                    "learned yet"
                ) from None
            continue
        if found.y is None and not math.isnan(y := stream.target_of(stop)):
            found = replace(found, y=y)
        explanations.append(found)
    return explanations[-1], explanations[:-1]


def set_language(engine: Engine, language: Literal["en", "ja"]) -> None:
    """Let an engine write the sentences of alerts in a language, whatever its configuration has."""
    for each in (engine.episodes.summarizer, *(target.summarizer for target in engine.target_engines)):
        each.language = language
