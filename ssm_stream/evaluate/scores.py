"""Prequential metrics: errors, coverage and alerts, summed event by event."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssm_stream.core.loop import Predictions, Settled
from ssm_stream.core.scores import COLUMNS, EVENTS, SCORED
from ssm_stream.core.scores import count as add_events
from ssm_stream.engine.alert_kinds import KINDS
from ssm_stream.engine.alerts import Alert
from ssm_stream.ingest.factorize import factorize


class Scores:
    """Sums for prequential metrics of a target, overall and by entity.

    An event is scored if its entity has an earlier target (so that persistence has a prediction), and its interval is
    judged if the entity is past its warm-up.
    """

    def __init__(self) -> None:
        self._index: dict[str, int] = {}
        self._sums = np.zeros((0, len(COLUMNS)))
        self._labelled = np.zeros(0)  # events with a target
        self._last = np.zeros(0)
        self._fleet = np.zeros(len(COLUMNS))  # of fleet alerts, which belong to no entity

    def add(
        self,
        entity: list[str],
        y: NDArray[np.float64],
        predictions: Predictions | Settled,
        alerts: Iterable[str],
        naive: NDArray[np.float64] | None = None,
    ) -> None:
        """Count n events and the alerts that started.

        Args:
            entity: names
            y: (n,) targets, NaN for none
            predictions: of these events
            alerts: `entity\\tkind` of each; without a name it is of the fleet, and counts in the metrics of all only
            naive: (n,) predictions of persistence, NaN for none; None: the entity's target before
        """
        started = [alert.rsplit("\t", 1) for alert in alerts]
        if not entity and not started:
            return
        # An alert may be read before its prediction, as they come by two topics.
        ids = self._ids([*entity, *(name for name, _ in started if name)])[: len(entity)]
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
        self._labelled += np.bincount(ids[np.isfinite(y)], minlength=len(self._labelled))
        for name, kind in started:
            (self._sums[self._index[name]] if name else self._fleet)[COLUMNS.index(kind)] += 1

    def _ids(self, entity: list[str]) -> NDArray[np.int64]:
        """Return the rows of entities; new ones get one."""
        ids = factorize(entity, self._index)
        if len(self._index) > len(self._last):
            more = 2 * len(self._index) - len(self._last)
            self._sums = np.vstack([self._sums, np.zeros((more, len(COLUMNS)))])
            self._labelled = np.concatenate([self._labelled, np.zeros(more)])
            self._last = np.concatenate([self._last, np.full(more, np.nan)])
        return ids

    def wait(self, entity: list[str], met: list[str]) -> None:
        """Count events when they are predicted. met: entities of those that `add` counts again, with their labels"""
        for names, count in ((entity, 1.0), (met, -1.0)):
            ids = self._ids(names)
            np.add.at(self._sums[:, EVENTS], ids, count)

    def total(self) -> dict[str, Any]:
        """Return the metrics of all events."""
        return {**self.metrics(), "entities": len(self._index)}

    def by_entity(self) -> dict[str, dict[str, Any]]:
        """Return the metrics of each entity, in order of appearance."""
        return {name: self.metrics(name) for name in self._index}

    def metrics(self, entity: str | None = None) -> dict[str, Any]:
        """Return the metrics of an entity, or of all (None)."""
        return _metrics(self.sums(entity), self.labelled(entity))

    def sums(self, entity: str | None = None) -> NDArray[np.float64]:
        """Return (COLUMNS,) the sums of an entity (zeros if it is unknown), or of all (None)."""
        if entity is None:
            return np.asarray(self._sums.sum(0) + self._fleet)
        at = self._index.get(entity)
        return np.zeros(len(COLUMNS)) if at is None else self._sums[at]

    def labelled(self, entity: str | None = None) -> int:
        """Return how many events of an entity (0 if it is unknown), or of all (None), had a target."""
        if entity is None:
            return int(self._labelled.sum())
        at = self._index.get(entity)
        return 0 if at is None else int(self._labelled[at])


def _metrics(sums: NDArray[np.float64], labelled: int) -> dict[str, Any]:
    s = dict(zip(COLUMNS, sums.tolist(), strict=True))
    scored, judged = s["scored"], s["judged"]
    return {
        "events": int(s["events"]),
        "labelled": labelled,
        "mae": s["absolute"] / scored if scored else None,
        "rmse": (s["squared"] / scored) ** 0.5 if scored else None,
        "mae_persistence": s["persistence"] / scored if scored else None,
        "coverage": s["covered"] / judged if judged else None,
        "interval_width": s["width"] / judged if judged else None,
        "anomalies": int(s["anomaly"]),
        "drifts": int(s["drift"]),
    }


def combine_targets(scores: dict[str, Scores]) -> dict[str, Any]:
    """Return the metrics of several targets: all, `by_target`, and `by_entity` with `by_target` of each.

    An alert counts for the target that started it. Errors and widths of targets in different units have no mean: they
    are None except for each target.
    """

    def combined(entity: str | None) -> dict[str, Any]:
        sums = {path: each.sums(entity) for path, each in scores.items()}
        total = np.sum(list(sums.values()), axis=0)
        total[EVENTS] = max(each[EVENTS] for each in sums.values())  # an event is one, whatever the number of targets
        total[SCORED] = 0
        labelled = max(each.labelled(entity) for each in scores.values())
        metrics = {**_metrics(total, labelled), "interval_width": None}
        return {**metrics, "by_target": {path: each.metrics(entity) for path, each in scores.items()}}

    names = dict.fromkeys(name for each in scores.values() for name in each.by_entity())
    return {**combined(None), "entities": len(names), "by_entity": {name: combined(name) for name in names}}


def started_alerts(alerts: Iterable[Alert], target: str | None = None) -> list[str]:
    """Return `entity\\tkind` of the alerts that start an episode, for `Scores.add`; the name of a fleet alert is empty.

    Args:
        target: with several targets, the one that starts it
    """
    return [
        f"{'' if m['scope'] == 'fleet' else m['entity']}\t{m['kind']}"
        for m in (alert.message for alert in alerts)
        if m["phase"] == "started" and m["kind"] in KINDS and (target is None or m["target"] == target)
    ]
