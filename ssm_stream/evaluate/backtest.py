"""`backtest`: metrics of the production engine over a recording."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from ssm_stream.config import Config
from ssm_stream.core.loop import Predictions
from ssm_stream.engine.alert_kinds import KINDS
from ssm_stream.engine.engine import Engine
from ssm_stream.evaluate.episode_shares import EpisodeShares
from ssm_stream.evaluate.partitioned_engine import PartitionedEngine
from ssm_stream.evaluate.pools import partition_of, pools_of
from ssm_stream.evaluate.prequential import (
    Chunk,
    prequential,
    prequential_delayed,
    prequential_labelled,
    read_ahead,
    with_row_labels,
)
from ssm_stream.evaluate.recordings.backward_steps import BackwardSteps
from ssm_stream.evaluate.recordings.repeated_events import RepeatedEvents
from ssm_stream.evaluate.scores import Scores, combine_targets, started_alerts
from ssm_stream.reference import require_torch

if TYPE_CHECKING:
    from ssm_stream.evaluate.device_backtest import DeviceEngine


def backtest(
    config: Config,
    rows: Iterable[dict[str, Any]],
    on_chunk: Callable[[Chunk], None] = lambda _: None,
    label_delay: int = 0,
    device: str = "",
    source: str | None = None,
    partitions: int = 1,
) -> dict[str, Any]:
    """Return metrics of the production engine over a recording.

    With a horizon, persistence predicts the target at the time of the prediction, and events count when their target is
    there. With `label_delay`, labels come that many rows late. With `labels.marker`, labels are rows, too, and each is
    learned at its place. In both, persistence predicts the last label that is there when the event is predicted.
    With a `device`, the torch definition predicts there, without intervals and alerts (`evaluate/device_backtest.py`).
    With `partitions`, entities learn together, and are watched together, as with so many partitions of the source.
    `source` is the name of the recording in the ids of alerts; None: the events topic.

    Returns:
        events, labelled (events with a target; of several targets, with the one that most events have), entities, mae,
        rmse, mae_persistence, coverage, interval_width, anomalies, drifts, step (usual time between two events of an
        entity, s), seconds, refused (count by fault), passed_by
        (rows of entities that `event.only` leaves out), by_rules (alerts of limits, silence and stuck signals: count by
        kind), idle (rows that do not meet `event.when`), doubtful (with a value that `event.quality` makes unknown),
        pools, by_entity (the same metrics of each), and of each kind of alert
        KIND_share, KIND_longest (`EpisodeShares`) and KIND_longest_entity; of readings `sorted`, if the file was not in
        the order of their times, and `overtaken` and `rowless` (`Batch`), if any; `backward`, events earlier than their
        before, if they are more than a sorted file has; `repeated`, events with the time and the values of the one
        before of their entity, if not 0; `late`, events that came after a later one of their entity, and
        `late_by`, by how much at most, s, if there are any; `clocks_back`, a zone whose clocks went back where some
        of these came, and `clocks_back_late`, how many, if times without an offset are read as UTC; with several
        targets as of `combine_targets`
    """
    faults, by_rules, passed, idle, doubtful = Counter[str](), Counter[str](), 0, 0, 0
    is_sorted, overtaken, backward, repeated = False, 0, BackwardSteps(), RepeatedEvents()
    rowless: tuple[str, ...] = ()
    start = time.perf_counter()
    scores = {path: Scores() for path in config.event.targets}
    known: dict[str, dict[tuple[str, int], float]] = {path: {} for path in scores}
    engine: DeviceEngine | PartitionedEngine
    if label_delay:
        engine = PartitionedEngine(with_row_labels(config), partitions)
        chunks = prequential_delayed(rows, label_delay, engine, source)
    elif config.labels is not None and config.labels.marker is not None and not (device or config.event.makes_rows):
        engine = PartitionedEngine(config, partitions)
        chunks = prequential_labelled(rows, engine, source)
    else:
        engine = _device_engine(config, device) if device else PartitionedEngine(config, partitions)
        chunks = prequential(config, rows, engine, source=source)
    shares = EpisodeShares(engine if isinstance(engine, Engine) else None, len(scores))
    # The core leaves the interpreter free while it learns the next ones.
    for chunk in read_ahead(chunks):
        for j, path in enumerate(scores):
            names, targets = chunk.events.entity, chunk.learned.target
            if chunk.met is not None:
                names, targets = chunk.met[0], chunk.met[1].y
            shares.add(names, targets if targets.ndim == 1 else targets[:, j], j)
            _score(chunk, j, scores[path], known[path])
        faults.update(str(refusal.fault) for refusal in chunk.refused)
        messages = [alert.message for alert in chunk.alerts]
        by_rules.update(m["kind"] for m in messages if m["phase"] == "started" and m["kind"] not in KINDS)
        passed += chunk.passed_by
        backward.add(chunk.events.entity, chunk.events.ts)
        repeated.add(chunk.events)
        is_sorted, overtaken, rowless = chunk.sorted, chunk.overtaken, chunk.rowless
        idle += 0 if chunk.events.idle is None else int(np.count_nonzero(chunk.events.idle))
        doubtful += 0 if chunk.events.doubtful is None else int(np.count_nonzero(chunk.events.doubtful))
        on_chunk(chunk)
    seconds = time.perf_counter() - start
    one = next(iter(scores.values()))
    metrics = combine_targets(scores) if len(scores) > 1 else {**one.total(), "by_entity": one.by_entity()}
    shares.finish()
    by_entity = _with_shares(metrics, shares)
    pools = pools_of({name: partition_of(name, partitions) for name in by_entity}, config.state.shards)
    return {
        **metrics,
        "level": config.model.interval,
        "step": backward.usual_step,
        "seconds": seconds,
        "refused": dict(faults),
        "passed_by": passed,
        "by_rules": dict(by_rules),
        "idle": idle,
        "doubtful": doubtful,
        "bytes_per_entity": engine.bytes_per_entity,
        "bytes_per_pool": engine.bytes_per_pool,
        "config_hash": config.hash,
        "partitions": partitions,
        "pools": [pool.as_json() for pool in pools],
        "by_entity": by_entity,
        **({"sorted": True} if is_sorted else {}),
        **({"overtaken": overtaken} if overtaken else {}),
        **({"rowless": [*rowless]} if rowless else {}),
        **({"repeated": repeated.count} if repeated.count else {}),
        **({"backward": backward.found} if backward.found else {}),
        **({"late": backward.late, "late_by": backward.late_by / 1000} if backward.late else {}),
        **_clocks_back(config, backward),
    }


def _clocks_back(config: Config, backward: BackwardSteps) -> dict[str, Any]:
    """Return a zone whose clocks explain late events, where another zone than UTC may be set, and how many."""
    event = config.event
    if event.time_zone != "UTC" or event.timestamp_format not in ("iso", "auto") or not backward.late:
        return {}
    zone, count = backward.clocks_back
    return {} if zone is None else {"clocks_back": zone, "clocks_back_late": count}


def _with_shares(metrics: dict[str, Any], shares: EpisodeShares) -> dict[str, dict[str, Any]]:
    """Add the shares of events inside episodes to the metrics, take `by_entity` out of them, and return it."""
    by_entity: dict[str, dict[str, Any]] = metrics.pop("by_entity")
    for name, each in [(None, metrics), *by_entity.items()]:
        each.update(shares.figures(name))
        for j, of_target in enumerate(each.get("by_target", {}).values()):
            of_target.update(shares.figures(name, [j]))
    metrics |= {f"{kind}_longest_entity": shares.longest_entity(kind) for kind in KINDS}
    return by_entity


def _device_engine(config: Config, device: str) -> DeviceEngine:
    """Return the torch definition on a device.

    Raises:
        ConfigError: this configuration cannot be computed there.
        TorchMissingError: torch is not installed.
    """
    require_torch("backtest --device")
    from ssm_stream.evaluate.device_backtest import DeviceEngine

    return DeviceEngine(config, device)


def _score(chunk: Chunk, j: int, scores: Scores, known: dict[tuple[str, int], float]) -> None:
    """Count a chunk for target j. known: with a horizon, the targets at the times of unresolved predictions"""
    names, target, predictions = chunk.events.entity, chunk.learned.target, chunk.predictions
    starts = started_alerts(chunk.alerts, chunk.targets[j] if chunk.targets else None)
    if chunk.targets:
        of_all: Any = predictions
        target = np.ascontiguousarray(target[:, j])
        predictions = Predictions(*(np.ascontiguousarray(column[:, j]) for column in of_all))
    if chunk.met is not None:
        met, settled = chunk.met
        scores.wait(names, met)
        scores.add(met, settled.y, settled, starts, chunk.naive)
        return
    if chunk.resolved is None:
        scores.add(names, target, predictions, starts, chunk.naive)
        return
    resolved = chunk.resolved[j]
    known.update(zip(zip(names, chunk.events.ts.tolist(), strict=True), target.tolist(), strict=True))
    met = [names[i] for i in resolved.item.tolist()]
    naive = [known.pop(made, np.nan) for made in zip(met, resolved.ts.tolist(), strict=True)]
    scores.add(met, resolved.y, resolved, starts, np.array(naive, np.float64))
