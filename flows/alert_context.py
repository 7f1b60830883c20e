"""Each alert joined with the predictions that led to it, as JSON lines on standard output.

python -m bytewax.run "flows.alert_context:build('monitor.yaml')" -r state -s 10 -b 10
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import bytewax.operators as op
import orjson
from bytewax.connectors.stdio import StdOutSink
from bytewax.dataflow import Dataflow, Stream
from bytewax.operators import StatefulBatchLogic

import ssm_stream.operators as sop

BEFORE = 20
"""Predictions of the alert's entity, its own event's the last."""
LATER = 30
"""Events of its entity by which an alert may come after its own: it may wait for others (`alerts.fleet.wait`)."""
Item = sop.Prediction | sop.Alert
Joined = tuple[sop.Alert, list[sop.Prediction]]


def build(config: str = "monitor.yaml") -> Dataflow:
    """Return the dataflow. config: path of the configuration"""
    flow = Dataflow("alert_context")
    decoded = sop.decode("decode", sop.kafka_input("source", flow, config), config)
    joined = join(sop.monitor("watch", decoded.events, config))
    op.output("print", op.map("json", joined, _line), StdOutSink())
    return flow


def join(watched: sop.MonitorOut) -> Stream[Joined]:
    """Return the alerts of single entities, each with the last predictions up to its event."""
    alerts = op.filter("of_one", watched.alerts, lambda each: each.scope == "entity")
    both: Stream[Item] = op.merge("both", watched.predictions, alerts)
    keyed = op.key_on("by_entity", both, lambda each: each.entity)
    return op.key_rm("unkeyed", op.stateful_batch("join", keyed, Recent))


class Recent(StatefulBatchLogic[Item, Joined, list[sop.Prediction]]):
    """Keeps the last predictions of an entity. An alert comes in the same batch as its prediction, or after it.

    One that no event of its entity caused (`ended_by: ttl`, or a `started` after a fleet alert) has none.
    """

    def __init__(self, resume_state: list[sop.Prediction] | None) -> None:
        self._last = resume_state or []

    def on_batch(self, values: list[Item]) -> tuple[Iterable[Joined], bool]:
        """Return the alerts with their predictions."""
        self._last = [*self._last, *(each for each in values if isinstance(each, sop.Prediction))]
        out = [(each, self._until(each)) for each in values if isinstance(each, sop.Alert)]
        self._last = self._last[-BEFORE - LATER :]
        return out, StatefulBatchLogic.RETAIN

    def _until(self, alert: sop.Alert) -> list[sop.Prediction]:
        ids = [each.id for each in self._last]
        return self._last[: ids.index(alert.event_id) + 1][-BEFORE:] if alert.event_id in ids else []

    def snapshot(self) -> list[sop.Prediction]:
        """Return the predictions."""
        return list(self._last)


def _line(joined: Joined) -> str:
    alert, predictions = joined
    content: dict[str, Any] = {"alert": alert.to_dict(), "predictions": [each.to_dict() for each in predictions]}
    return orjson.dumps(content).decode()
