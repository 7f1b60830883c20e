"""Test, then learn: the production engine over a recording, in order, with its errors beside persistence."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from ssm_stream.config import MAX_PENDING, Config, ConfigError, Labels
from ssm_stream.core.loop import Predictions, Settled
from ssm_stream.core.scores import COLUMNS, EVENTS, SCORED
from ssm_stream.core.scores import count as add_events
from ssm_stream.engine.engine import Alert, Engine
from ssm_stream.evaluate.recordings import Recording
from ssm_stream.evaluate.recordings.column_reader import ColumnReader
from ssm_stream.ingest.events import EventReader, Events, RefusedDocument, factorize
from ssm_stream.ingest.labels import Labels as LabelColumns
from ssm_stream.reference import require_torch

if TYPE_CHECKING:
    from ssm_stream.evaluate.device_backtest import SideBySide

T = TypeVar("T")
BATCH = 10_000


class Chunk(NamedTuple):
    """One batch of a recording: its events, what the engine said, and the rows that are no events."""

    events: Events
    predictions: Predictions
    alerts: list[Alert]
    refused: list[RefusedDocument]
    first: int
    """Row number (from 0) of the batch's first row."""
    ahead: float | None = None
    """With a horizon: how far it reaches, s; 0 where it counts events."""
    resolved: list[Settled] | None = None
    """With a horizon, by target: the predictions that met it in this batch; `item` is the row of the target."""
    targets: tuple[str, ...] = ()
    """With several targets: their paths."""


class Scores:
    """Sums for prequential metrics of a target, overall and by entity.

    An event is scored when its entity has an earlier target (so that persistence has an answer), and its interval is
    judged when the entity is past its warm-up.
    """

    def __init__(self) -> None:
        self._index: dict[str, int] = {}
        self._sums = np.zeros((0, len(COLUMNS)))
        self._last = np.zeros(0)
        self._fleet = np.zeros(len(COLUMNS))  # what is no entity's own

    def add(
        self,
        entity: list[str],
        y: NDArray[np.float64],
        predictions: Predictions | Settled,
        alerts: Iterable[str],
        naive: NDArray[np.float64] | None = None,
    ) -> None:
        """Count n events: names, targets (NaN = none), predictions; and `entity\\tkind` of each alert that started.

        An alert without a name is of the fleet: it counts once, in the metrics of all.
        naive: what persistence says (NaN = nothing), where that is not the entity's target before
        """
        started = [alert.rsplit("\t", 1) for alert in alerts]
        if not entity and not started:
            return
        ids = factorize(entity, self._index)
        # An alert may be read before its prediction, as they come by two topics.
        factorize([name for name, _ in started if name], self._index)
        if len(self._index) > len(self._last):
            more = 2 * len(self._index) - len(self._last)
            self._sums = np.vstack([self._sums, np.zeros((more, len(COLUMNS)))])
            self._last = np.concatenate([self._last, np.full(more, np.nan)])
        p = predictions
        add_events(
            ids,
            y,
            p.yhat,
            p.lower,
            p.upper,
            p.warmup,
            y if naive is None else naive,
            naive is None,
            self._last,
            self._sums,
        )
        for name, kind in started:
            (self._sums[self._index[name]] if name else self._fleet)[COLUMNS.index(kind)] += 1

    def total(self) -> dict[str, Any]:
        """Metrics of all events."""
        return {**_metrics(self.sums()), "entities": len(self._index)}

    def by_entity(self) -> dict[str, dict[str, Any]]:
        """Metrics of each entity, in order of appearance."""
        return {name: _metrics(self._sums[i]) for name, i in self._index.items()}

    def sums(self, entity: str | None = None) -> NDArray[np.float64]:
        """(COLUMNS,) what the metrics are made of, of an entity (zeros where it is not known), or of all (None)."""
        if entity is None:
            return np.asarray(self._sums.sum(0) + self._fleet)
        at = self._index.get(entity)
        return np.zeros(len(COLUMNS)) if at is None else self._sums[at]


def _metrics(sums: NDArray[np.float64]) -> dict[str, Any]:
    s = dict(zip(COLUMNS, sums.tolist(), strict=True))
    scored, judged = s["scored"], s["judged"]
    return {
        "events": int(s["events"]),
        "mae": s["absolute"] / scored if scored else None,
        "rmse": (s["squared"] / scored) ** 0.5 if scored else None,
        "mae_persistence": s["persistence"] / scored if scored else None,
        "coverage": s["covered"] / judged if judged else None,
        "interval_width": s["width"] / judged if judged else None,
        "anomalies": int(s["anomaly"]),
        "drifts": int(s["drift"]),
    }


def over_targets(scores: dict[str, Scores]) -> dict[str, Any]:
    """Metrics of several targets: all, `by_target`, and `by_entity` with `by_target` of each.

    An alert is of the target that started it. Errors and widths of targets in different units have no mean: they are
    None but for each target.
    """

    def combined(entity: str | None) -> dict[str, Any]:
        sums = {path: each.sums(entity) for path, each in scores.items()}
        total = np.sum(list(sums.values()), axis=0)
        total[EVENTS] = max(each[EVENTS] for each in sums.values())  # an event is one, whatever the number of targets
        total[SCORED] = 0
        metrics = {**_metrics(total), "interval_width": None}
        return {**metrics, "by_target": {path: _metrics(each) for path, each in sums.items()}}

    names = dict.fromkeys(name for each in scores.values() for name in each.by_entity())
    return {**combined(None), "entities": len(names), "by_entity": {name: combined(name) for name in names}}


def prequential(
    config: Config,
    rows: Iterable[dict[str, Any]],
    engine: Engine | SideBySide | None = None,
    until: int | None = None,
) -> Iterator[Chunk]:
    """The production engine over rows (dicts, one an event; a `Recording` is read by column), batch by batch.

    until: the engine sees no event from this time on, ms, wherever it stands
    """
    engine = Engine(config) if engine is None else engine  # a new engine has length 0 and is false
    first = 0
    for events, refused, count in batches(config, rows):
        if until is not None:
            events = events.take(np.flatnonzero(events.ts < until))
        if isinstance(engine, Engine):
            place = events.position
            events, more = engine.admit(events)
            refused = sorted([*refused, *(m._replace(position=int(place[m.position])) for m in more)])
        predictions, alerts = engine.process(events)
        horizon = config.model.horizon
        ahead = horizon.seconds if horizon.events or horizon.seconds else None
        resolved = engine.resolved_predictions if ahead is not None and isinstance(engine, Engine) else None
        yield Chunk(events, predictions, alerts, refused, first, ahead, resolved, _several(config))
        first += count


def batches(config: Config, rows: Iterable[dict[str, Any]]) -> Iterator[tuple[Events, list[RefusedDocument], int]]:
    """Yield events and refusals of the rows, some at a time, and the number of these rows."""
    if isinstance(rows, Recording):
        columns = ColumnReader(config.event)
        yield from ahead((*columns.read(part), part.height) for part in rows.slices(columns.names))
        return
    reader, iterator = EventReader(config.event), iter(rows)
    while batch := list(islice(iterator, BATCH)):
        yield *reader.read(batch), len(batch)


def ahead(items: Iterator[T]) -> Iterator[T]:
    """The items, each made by another thread while the one before it is used."""
    with ThreadPoolExecutor(1, "read-ahead") as thread:
        coming = thread.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = thread.submit(next, items, None)
            yield item


def _several(config: Config) -> tuple[str, ...]:
    """The targets, where there are several."""
    return tuple(config.event.targets) if len(config.event.targets) > 1 else ()


def delayed(config: Config, rows: Iterable[dict[str, Any]], delay: int) -> Iterator[Chunk]:
    """As `prequential`, but the label of an event comes `delay` events later: row t is predicted before it.

    An alert's row is that of the event after which its label came.

    Raises:
        ConfigError: the configuration has labels or a horizon of its own, or several targets.
    """
    if _several(config):
        raise ConfigError(
            f"--label-delay: found {len(config.event.targets)} targets; labels bring one: name one in event.target"
        )
    if config.labels is not None or config.model.horizon.events or config.model.horizon.seconds:
        raise ConfigError("--label-delay: labels and model.horizon say already when the targets come: leave them out")
    late = Labels(topic=f"{config.source.topic}.labels", id="row", wait=1e12, pending=MAX_PENDING)
    engine = Engine(config.model_copy(update={"labels": late}))
    waiting: deque[tuple[str, int, float]] = deque()
    first, count = 0, 0
    for events, refused, height in batches(config, rows):
        key = np.arange(count, count + len(events))
        count += len(events)
        bare = replace(events, target=np.full(len(events), np.nan), key=key)
        parts: list[Predictions] = []
        alerts: list[Alert] = []
        for t in range(len(events)):
            one = np.array([t])
            parts.append(engine.process(bare.take(one))[0])
            waiting.append((events.entity[t], int(key[t]), float(events.target[t])))
            if len(waiting) > delay:
                name, row, y = waiting.popleft()
                if y == y:
                    zero = np.zeros(1, np.int64)
                    label = LabelColumns([name], zero, np.array([row]), np.array([y]), zero)
                    alerts += [alert._replace(row=t) for alert in engine.learn(label).alerts]
        together = [np.concatenate(columns) for columns in zip(*parts, strict=True)]
        predictions = Predictions(*together) if parts else engine.process(events)[0]
        yield Chunk(events, predictions, alerts, refused, first)
        first += height


def alert_rows(chunk: Chunk, source: str) -> Iterator[dict[str, Any]]:
    """The chunk's alert messages; their source is the file and the row."""
    for alert in chunk.alerts:
        offset = chunk.first + int(chunk.events.position[alert.row])
        place = {"topic": source, "partition": 0, "offset": offset}
        yield {
            **alert.message,
            "source": place,
            "id": f"{source}-0-{offset}-{alert.message['kind']}{alert.suffix}",
        }


def started(alerts: Iterable[Alert], target: str | None = None) -> list[str]:
    """`entity\\tkind` of the alerts that start an episode (of several targets: by this one), for `Scores.add`.

    A fleet alert is no entity's: its name is empty.
    """
    return [
        f"{'' if m['scope'] == 'fleet' else m['entity']}\t{m['kind']}"
        for m in (alert.message for alert in alerts)
        if m["phase"] == "started" and (target is None or m["target"] == target)
    ]


def backtest(
    config: Config,
    rows: Iterable[dict[str, Any]],
    on_chunk: Callable[[Chunk], None] = lambda _: None,
    label_delay: int = 0,
    device: str = "",
) -> dict[str, Any]:
    """Metrics of the production engine over a recording.

    With a horizon, persistence says what the target was when the prediction was made, and events count when the target
    is there. With `label_delay`, labels come so many rows late; persistence still says the target of the row before.
    With a `device`, the torch definition predicts there, without intervals and alerts (`evaluate/device_backtest.py`).

    Returns:
        events, entities, mae, rmse, mae_persistence, coverage, interval_width, anomalies, drifts, seconds, refused
        (count by fault) and by_entity (the same metrics of each); with several targets as `over_targets` has them
    """
    faults, start = Counter[str](), time.perf_counter()
    scores = {path: Scores() for path in config.event.targets}
    known: dict[str, dict[tuple[str, int], float]] = {path: {} for path in scores}
    engine = _side_by_side(config, device) if device else Engine(config)
    for chunk in delayed(config, rows, label_delay) if label_delay else prequential(config, rows, engine):
        for j, path in enumerate(scores):
            _score(chunk, j, scores[path], known[path])
        faults.update(str(refusal.fault) for refusal in chunk.refused)
        on_chunk(chunk)
    seconds = time.perf_counter() - start
    one = next(iter(scores.values()))
    metrics = over_targets(scores) if len(scores) > 1 else {**one.total(), "by_entity": one.by_entity()}
    by_entity = metrics.pop("by_entity")
    return {
        **metrics,
        "level": config.model.interval,
        "seconds": seconds,
        "refused": dict(faults),
        "bytes_per_entity": engine.bytes_per_entity,
        "bytes_per_pool": engine.bytes_per_pool,
        "config_hash": config.hash,
        "by_entity": by_entity,
    }


def _side_by_side(config: Config, device: str) -> SideBySide:
    """The torch definition on a device.

    Raises:
        ConfigError: this configuration cannot be computed there.
        TorchMissingError: torch is not installed.
    """
    require_torch("backtest --device")
    from ssm_stream.evaluate.device_backtest import SideBySide

    return SideBySide(config, device)


def _score(chunk: Chunk, j: int, scores: Scores, known: dict[tuple[str, int], float]) -> None:
    """Count a chunk for target j. known: with a horizon, the targets at the times of predictions yet to be met"""
    names, target, predictions = chunk.events.entity, chunk.events.target, chunk.predictions
    starts = started(chunk.alerts, chunk.targets[j] if chunk.targets else None)
    if chunk.targets:
        of_all: Any = predictions
        target, predictions = target[:, j], Predictions(*(column[:, j] for column in of_all))
    if chunk.resolved is None:
        scores.add(names, target, predictions, starts)
        return
    resolved = chunk.resolved[j]
    known.update(zip(zip(names, chunk.events.ts.tolist(), strict=True), target.tolist(), strict=True))
    met = [names[i] for i in resolved.item.tolist()]
    naive = [known.pop(made, np.nan) for made in zip(met, resolved.ts.tolist(), strict=True)]
    scores.add(met, resolved.y, resolved, starts, np.array(naive, np.float64))
