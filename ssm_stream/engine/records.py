"""Typed records of what the engine returns for events that are dicts."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import orjson

from ssm_stream.ingest.events import RefusedDocument


class Prediction(NamedTuple):
    """A prediction; its fields are those of a prediction message (docs/messages.md).

    row: of the event among those of the call, from 0; ts, ahead_ts: ms since 1970 UTC
    y: None if the event has no target; target: None with one target
    ahead_ts: with a horizon in time, the time that is predicted (`for` in the message)
    """

    row: int
    entity: str
    ts: int
    y: float | None
    yhat: float
    yhat_lower: float
    yhat_upper: float
    anomaly_score: float
    warmup: bool
    n: int
    fleet: float
    target: str | None = None
    ahead_ts: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields of the message, without its `id`."""
        fields = self._asdict()
        del fields["row"]
        target, ahead = fields.pop("target"), fields.pop("ahead_ts")
        if ahead is not None:
            fields["for"] = ahead
        if target is not None:
            fields["target"] = target
        return fields

    def to_json(self) -> bytes:
        """Return `to_dict` as JSON."""
        return orjson.dumps(self.to_dict())


class Results(NamedTuple):
    """What the engine returns for events that are dicts.

    predictions: one for each event, with several targets one for each target of it, in their order
    alerts: messages, each with the `row` of its event
    refused: documents that are no events: position, fault and reason
    """

    predictions: list[Prediction]
    alerts: list[dict[str, Any]]
    refused: list[RefusedDocument]


def target_or_none(value: float) -> float | None:
    """Return a target, None for NaN."""
    return None if math.isnan(value) else value
