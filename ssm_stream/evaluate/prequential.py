"""Test, then learn: the production engine over a recording, in order, with its errors beside persistence."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.config import MOST_PENDING, Config, ConfigError, Labels
from ssm_stream.engine import Alert, Engine
from ssm_stream.events import EventReader, Events, Refused
from ssm_stream.labels import Labels as LabelColumns
from ssm_stream.loop import Predictions, Settled

BATCH = 10_000
COLUMNS = (
    "events", "scored", "absolute", "squared", "persistence", "judged", "covered", "width", "anomaly", "drift",
)  # fmt: skip


class Chunk(NamedTuple):
    """One batch of a recording: its events, what the engine said, and the rows that are no events."""

    events: Events
    predictions: Predictions
    alerts: list[Alert]
    refused: list[Refused]
    first: int
    """Row number (from 0) of the batch's first row."""
    ahead: float | None = None
    """With a horizon: how far it reaches, s; 0 where it counts events."""
    settled: Settled | None = None
    """With a horizon: the predictions that met their targets in this batch; `item` is the row of the target."""


class Scores:
    """Sums for prequential metrics, overall and by entity.

    An event is scored when its entity has an earlier target (so that persistence has an answer), and its interval is
    judged when the entity is past its warm-up.
    """

    def __init__(self) -> None:
        self._index: dict[str, int] = {}
        self._sums = np.zeros((0, len(COLUMNS)))
        self._last = np.zeros(0)

    def add(
        self,
        entity: list[str],
        y: NDArray[np.float64],
        predictions: Predictions | Settled,
        alerts: Iterable[str],
        naive: NDArray[np.float64] | None = None,
    ) -> None:
        """Count n events: names, targets (NaN = none), predictions; and `entity\\tkind` of each alert that started.

        naive: what persistence says (NaN = nothing), where that is not the entity's target before
        """
        started = [alert.rsplit("\t", 1) for alert in alerts]
        if not entity and not started:
            return
        index = self._index
        # An alert may be read before its prediction, as they come by two topics.
        for name in dict.fromkeys([*entity, *(name for name, _ in started)]):
            index.setdefault(name, len(index))
        if len(index) > len(self._last):
            more = 2 * len(index) - len(self._last)
            self._sums = np.vstack([self._sums, np.zeros((more, len(COLUMNS)))])
            self._last = np.concatenate([self._last, np.full(more, np.nan)])
        ids = np.fromiter(map(index.__getitem__, entity), np.int64, len(entity))
        rows = np.flatnonzero(~np.isnan(y))
        last = np.full(len(y), np.nan)
        last[rows] = self._persistence(ids[rows], y[rows]) if naive is None else naive[rows]
        error = y - predictions.yhat
        scored = ~np.isnan(last)
        judged = ~np.isnan(y) & ~predictions.warmup
        covered = judged & (predictions.lower <= y) & (y <= predictions.upper)
        columns = [
            np.ones(len(y)),
            scored,
            np.where(scored, np.abs(error), 0.0),
            np.where(scored, error * error, 0.0),
            np.where(scored, np.abs(y - last), 0.0),
            judged,
            covered,
            np.where(judged, predictions.upper - predictions.lower, 0.0),
        ]
        for i, column in enumerate(columns):
            counts = np.bincount(ids, weights=column, minlength=len(self._sums))
            self._sums[:, i] += counts
        for name, kind in started:
            self._sums[index[name], COLUMNS.index(kind)] += 1

    def _persistence(self, ids: NDArray[np.int64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        """Each entity's target before this one; NaN at its first."""
        order = np.argsort(ids, kind="stable")
        sorted_ids, sorted_y = ids[order], y[order]
        first = np.r_[True, sorted_ids[1:] != sorted_ids[:-1]] if len(ids) else np.zeros(0, bool)
        before = np.r_[np.nan, sorted_y[:-1]] if len(ids) else np.zeros(0)
        before = np.where(first, self._last[sorted_ids], before)
        out = np.empty(len(ids))
        out[order] = before
        self._last[sorted_ids] = sorted_y  # of repeated indices the last assignment stands
        return out

    def total(self) -> dict[str, Any]:
        """Metrics of all events."""
        return {**self._metrics(self._sums.sum(0)), "entities": len(self._index)}

    def by_entity(self) -> dict[str, dict[str, Any]]:
        """Metrics of each entity, in order of appearance."""
        return {name: self._metrics(self._sums[i]) for name, i in self._index.items()}

    @staticmethod
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


def prequential(config: Config, rows: Iterable[dict[str, Any]], engine: Engine | None = None) -> Iterator[Chunk]:
    """The production engine over rows (dicts, one an event), batch by batch."""
    reader = EventReader(config.event)
    engine = Engine(config) if engine is None else engine  # a new engine has length 0 and is false
    iterator, first = iter(rows), 0
    while batch := list(islice(iterator, BATCH)):
        events, refused = reader.read(batch)
        predictions, alerts = engine.process(events)
        horizon = config.model.horizon
        ahead = horizon.seconds if horizon.events or horizon.seconds else None
        yield Chunk(events, predictions, alerts, refused, first, ahead, engine.settled if ahead is not None else None)
        first += len(batch)


def delayed(config: Config, rows: Iterable[dict[str, Any]], delay: int) -> Iterator[Chunk]:
    """As `prequential`, but the label of an event comes `delay` events later: row t is predicted before it.

    An alert's row is that of the event after which its label came.

    Raises:
        ConfigError: the configuration has labels or a horizon of its own.
    """
    if config.labels is not None or config.model.horizon.events or config.model.horizon.seconds:
        raise ConfigError("--label-delay: labels and model.horizon say already when the targets come: leave them out")
    late = Labels(topic=f"{config.source.topic}.labels", id="row", wait=1e12, pending=MOST_PENDING)
    engine = Engine(config.model_copy(update={"labels": late}))
    reader = EventReader(config.event)
    waiting: deque[tuple[str, int, float]] = deque()
    iterator, first, count = iter(rows), 0, 0
    while batch := list(islice(iterator, BATCH)):
        events, refused = reader.read(batch)
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
        first += len(batch)


def prediction_rows(chunk: Chunk, source: str) -> Iterator[dict[str, Any]]:
    """The chunk's prediction messages, as they stand on the topic; the id is `SOURCE-0-ROW`."""
    p = chunk.predictions
    columns = zip(
        chunk.events.entity, chunk.events.ts.tolist(), chunk.events.target.tolist(), p.yhat.tolist(), p.lower.tolist(),
        p.upper.tolist(), p.score.tolist(), p.warmup.tolist(), p.n.tolist(), p.fleet.tolist(),
        chunk.events.position.tolist(), strict=True,
    )  # fmt: skip
    for entity, ts, y, yhat, lower, upper, score, warmup, n, fleet, position in columns:
        until = {} if chunk.ahead is None else {"for": ts + round(chunk.ahead * 1000) if chunk.ahead else None}
        yield {
            "entity": entity,
            "ts": ts,
            **until,
            "y": None if y != y else y,
            "yhat": yhat,
            "yhat_lower": lower,
            "yhat_upper": upper,
            "anomaly_score": score,
            "warmup": warmup,
            "n": n,
            "fleet": fleet,
            "id": f"{source}-0-{chunk.first + position}",
        }


def alert_rows(chunk: Chunk, source: str) -> Iterator[dict[str, Any]]:
    """The chunk's alert messages; their source is the file and the row."""
    for alert in chunk.alerts:
        offset = chunk.first + int(chunk.events.position[alert.row])
        place = {"topic": source, "partition": 0, "offset": offset}
        yield {**alert.message, "source": place, "id": f"{source}-0-{offset}-{alert.message['kind']}"}


def started(alerts: Iterable[Alert]) -> list[str]:
    """`entity\\tkind` of the alerts that start an episode, as `Scores.add` counts them."""
    return [f"{a.message['entity']}\t{a.message['kind']}" for a in alerts if a.message["phase"] == "started"]


def backtest(
    config: Config,
    rows: Iterable[dict[str, Any]],
    on_chunk: Callable[[Chunk], None] = lambda _: None,
    label_delay: int = 0,
) -> dict[str, Any]:
    """Metrics of the production engine over a recording.

    With a horizon, persistence says what the target was when the prediction was made, and events count when the target
    is there. With `label_delay`, labels come so many rows late; persistence still says the target of the row before.

    Returns:
        events, entities, mae, rmse, mae_persistence, coverage, interval_width, anomalies, drifts, seconds, refused
        (count by fault) and by_entity (the same metrics of each)
    """
    scores, faults, start = Scores(), Counter[str](), time.perf_counter()
    engine = Engine(config)
    known: dict[tuple[str, int], float] = {}
    for chunk in delayed(config, rows, label_delay) if label_delay else prequential(config, rows, engine):
        names, target = chunk.events.entity, chunk.events.target
        if chunk.settled is None:
            scores.add(names, target, chunk.predictions, started(chunk.alerts))
        else:
            known.update(zip(zip(names, chunk.events.ts.tolist(), strict=True), target.tolist(), strict=True))
            met = [names[i] for i in chunk.settled.item.tolist()]
            naive = [known.pop(made, np.nan) for made in zip(met, chunk.settled.ts.tolist(), strict=True)]
            scores.add(met, chunk.settled.y, chunk.settled, started(chunk.alerts), np.array(naive, np.float64))
        faults.update(refusal.fault for refusal in chunk.refused)
        on_chunk(chunk)
    seconds = time.perf_counter() - start
    return {
        **scores.total(),
        "level": config.model.interval,
        "seconds": seconds,
        "refused": dict(faults),
        "bytes_per_entity": engine.bytes_per_entity,
        "bytes_per_pool": engine.bytes_per_pool,
        "config_hash": config.hash,
        "by_entity": scores.by_entity(),
    }
