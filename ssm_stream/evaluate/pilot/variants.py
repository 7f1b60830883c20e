"""Further runs of the engine over the same events: with other budgets of false alarms, and frozen."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from ssm_stream.config import Config
from ssm_stream.evaluate.budgets import scale_budget
from ssm_stream.evaluate.engine_run import EngineRun, Floats, Ints
from ssm_stream.evaluate.partitioned_engine import PartitionedEngine

FACTORS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""Times the configured budget: the positions of the slider."""


def with_budget(config: Config, factor: float) -> Config:
    """Return the configuration with `factor` times the false alarms allowed."""
    alerts = config.alerts
    if alerts.budget is not None:
        return config.replace(alerts=alerts.with_team_budget(alerts.budget.scaled(factor)))
    anomaly = alerts.anomaly.model_copy(update={"budget": scale_budget(alerts.anomaly.budget, factor)})
    drift = alerts.drift.model_copy(update={"budget": scale_budget(alerts.drift.budget, factor)})
    return config.replace(alerts=alerts.model_copy(update={"anomaly": anomaly, "drift": drift}))


def rerun_alerts(
    config: Config, run: EngineRun, advance: Callable[[float], None] = lambda _: None
) -> list[tuple[int, dict[str, Any]]]:
    """Return the alerts of another engine over the events of a run, each with its row.

    advance: takes the share of the events that is done
    """
    engine, out, first = PartitionedEngine(config, run.partitions), list[tuple[int, dict[str, Any]]](), 0
    for events in run.batches:
        admitted, _ = engine.admit(events)
        # Rows count admitted events, and the same were admitted before.
        out += [(first + alert.row, alert.message) for alert in engine.process(admitted)[1]]
        first += len(events)
        advance(first / max(len(run), 1))
    return out


def frozen_config(config: Config) -> Config:
    """Return the configuration of the frozen engine: no alerts, and no entity is evicted."""
    alerts = config.alerts
    anomaly = alerts.anomaly.model_copy(update={"enabled": False, "learn": "hold"})
    drift = alerts.drift.model_copy(update={"enabled": False, "learn": "hold"})
    return config.replace(
        alerts=alerts.model_copy(update={"anomaly": anomaly, "drift": drift}),
        state=config.state.model_copy(update={"ttl": None, "max_entities": None}),
    )


def predict_frozen(
    config: Config, run: EngineRun, first: Ints, advance: Callable[[float], None] = lambda _: None
) -> list[Floats]:
    """Return of each target the predictions (n,) of an engine that learns of each entity only up to its row `first`
    (E,).

    Lags and watermark go on, as an entity's past is an input and no parameter.

    advance: takes the share of the events that is done
    """
    engine = PartitionedEngine(frozen_config(config), run.partitions)
    cuts = sorted({0, *(int(row) for row in first.tolist() if row < len(run))})
    frozen_from = {cut: [run.names[e] for e in np.flatnonzero(first == cut)] for cut in cuts}
    yhat = [np.full(len(run), np.nan) for _ in config.event.targets]
    start = 0
    for events in run.batches:
        stop = start + len(events)
        edges = [start, *(cut for cut in cuts if start < cut < stop), stop]
        for left, right in itertools.pairwise(edges):
            engine.freeze_learning(frozen_from.get(left, []))
            part = events if right - left == len(events) else events.take(np.arange(left - start, right - start))
            predictions = engine.process(part)[0]
            for j, column in enumerate(yhat):
                if run.ahead:
                    resolved = engine.resolved_predictions[j]
                    column[left + resolved.item] = resolved.yhat
                else:
                    column[left:right] = predictions.yhat.reshape(right - left, len(yhat))[:, j]
        start = stop
        advance(stop / max(len(run), 1))
    return yhat
