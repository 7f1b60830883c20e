"""What `monitor` gives: a prediction, an alert, an event that could not be used. Typed and frozen.

`to_json` gives the bytes of the message that `ssm-stream run` produces for the same event (docs/messages.md).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from ssm_stream.config import Config
from ssm_stream.contract.headers import ERROR_HEADER, FAULT_PREFIX
from ssm_stream.contract.message_schemas import OF_PREDICTION
from ssm_stream.core.loop import Predictions
from ssm_stream.kafka.records import Headers, ProducerRecord, ShardBatch


class Prediction(NamedTuple):
    """The prediction of one event, made before its target was used. With several targets, of one of them.

    ts: ms; y: None if the event has no target; anomaly_score: above 1 is anomalous, 0 while warming up
    n: labelled events of the entity before this one; fleet: share learned from other entities
    idle: the event does not meet `event.when`, and yhat to fleet are NaN, false and 0; None without `event.when`
    target: its path, if there are several; ahead: whether `model.horizon` is set; then
    time_predicted: ms, None if the horizon counts events
    maintenance: whether the event lies in a planned stop; None if the configuration has none
    """

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
    id: str
    target: str | None = None
    ahead: bool = False
    time_predicted: int | None = None
    idle: bool | None = None
    maintenance: bool | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields of the prediction message, in its order."""
        out: dict[str, Any] = {"entity": self.entity, "ts": self.ts}
        if self.ahead:
            out["for"] = self.time_predicted
        if self.target is not None:
            out["target"] = self.target
        out |= zip(self._fields[2:10], self[2:10], strict=True)
        if self.idle:
            out |= dict.fromkeys(OF_PREDICTION)
        if self.maintenance is not None:
            out["maintenance"] = self.maintenance
        if self.idle is not None:
            out["idle"] = self.idle
        return out | {"id": self.id}

    def to_json(self) -> bytes:
        """Return the prediction message."""
        return orjson.dumps(self.to_dict())


def predictions_of(config: Config, batch: ShardBatch, predicted: Predictions) -> Iterable[Prediction]:
    """Return the predictions of a batch, in the order of its events; with several targets, each event has several."""
    events, p, paths = batch.events, predicted, config.event.targets
    stem, m = f"{batch.topic or config.source.topic}-{batch.partition}-", len(config.event.targets)
    names, ids = events.entity, [f"{stem}{offset}" for offset in batch.offsets]
    if events.number is not None:
        ids = [f"{each}-{number}" for each, number in zip(ids, events.number.tolist(), strict=True)]
    columns: list[NDArray[Any]] = [
        events.ts, events.measured, p.yhat, p.lower, p.upper, p.score, p.warmup, p.n, p.fleet,
    ]  # fmt: skip
    targets: list[str | None] = [None] * len(names)
    flags: list[bool | None] = [None] * len(names) if events.idle is None else events.idle.tolist()
    stops: list[bool | None] = [None] * len(names) if events.maintenance is None else (events.maintenance > 0).tolist()
    if m > 1:
        columns = [np.repeat(column, m) if column.ndim == 1 else column.ravel() for column in columns]
        names = [name for name in names for _ in range(m)]
        ids = [f"{each}-{path}" for each in ids for path in paths]
        targets = [*paths] * len(events)
        flags, stops = ([each for each in column for _ in range(m)] for column in (flags, stops))
    ts, y, *rest = [column.tolist() for column in columns]
    y = [None if value != value else value for value in y]  # NaN is not equal to itself
    horizon = config.model.horizon
    if not horizon.events and not horizon.seconds:
        none = [None] * len(ts)
        return map(Prediction, names, ts, y, *rest, ids, targets, [False] * len(ts), none, flags, stops)
    ms = round(horizon.seconds * 1000)
    times = [time + ms if ms else None for time in ts]
    return map(Prediction, names, ts, y, *rest, ids, targets, [True] * len(ts), times, flags, stops)


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert: an episode that starts, goes on or recovers. The fields are those of the message (docs/messages.md).

    score, y, yhat and its bounds, state_hash: None where no event of the entity ended the episode
    target, targets: with several targets; pool, count, entities: of a fleet alert
    """

    entity: str
    scope: str
    kind: str
    phase: str
    episode: str
    ended_by: str | None
    severity: str
    ts: int
    score: float | None
    y: float | None
    yhat: float | None
    yhat_lower: float | None
    yhat_upper: float | None
    since: int
    absorbed_after: int | None
    channel: str | None
    change: str | None
    learning: float
    budget: str
    config_hash: str
    state_hash: str | None
    id: str
    event_id: str
    """`id` of the prediction of the event that caused it, or at which its end was sent (with several targets, without
    the target at its end)"""
    summary: str = ""
    target: str | None = None
    pool: str | None = None
    count: int | None = None
    _message: dict[str, Any] = field(default_factory=dict, repr=False, compare=True, hash=False)

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> Alert:
        """Return the record of an alert message."""
        place = message["source"]
        event = f"{place['topic']}-{place['partition']}-{place['offset']}"
        own = {name: message[name] for name in _ALERT_FIELDS if name in message}
        return cls(**own, event_id=event, _message=message)

    @property
    def contributions(self) -> list[dict[str, Any]]:
        """The inputs that contributed most: `feature`, `share`."""
        return copy.deepcopy(self._message["contributions"])

    @property
    def weight_change(self) -> list[dict[str, Any]]:
        """For a drift, the implicit weights that changed most: `feature`, `before`, `after`."""
        return copy.deepcopy(self._message["weight_change"])

    @property
    def entities(self) -> list[dict[str, Any]]:
        """For a fleet alert, the entities with the highest scores: `entity`, `score`, `since`; else empty."""
        return copy.deepcopy(self._message.get("entities", []))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields of the alert message, in its order."""
        return copy.deepcopy(self._message)

    def to_json(self) -> bytes:
        """Return the alert message."""
        return orjson.dumps(self._message)


_ALERT_FIELDS = frozenset(each.name for each in fields(Alert)) - {"event_id", "_message"}


@dataclass(frozen=True, slots=True)
class RefusedEvent:
    """An event or a message that could not be used, and why.

    stage: `decode`, `admit` or `label`; fault: name of the cause, such as MissingField; reason: a sentence
    topic, partition, offset: where it stands; offset None: the stream does not have such places
    key, value: of the message; of an event that comes from none, or that has lost its place, its JSON
    """

    stage: str
    fault: str
    reason: str
    topic: str
    partition: int
    offset: int | None
    key: bytes | str | None = None
    value: bytes | None = None
    headers: tuple[tuple[str, str | bytes | None], ...] = ()
    """of the message, without those of a dead letter"""

    @classmethod
    def from_record(cls, record: ProducerRecord) -> RefusedEvent:
        """Return the record of a dead letter."""
        headers = record.headers or []
        found = {
            name.removeprefix(ERROR_HEADER): value.decode("utf-8", "replace")
            for name, value in headers
            if name.startswith(ERROR_HEADER) and isinstance(value, bytes)
        }
        offset = int(found["offset"])
        return cls(
            found["stage"],
            found["exception.class.name"].removeprefix(FAULT_PREFIX),
            found["exception.message"],
            found["topic"],
            int(found["partition"]),
            offset if offset >= 0 else None,
            record.key,
            record.value,
            tuple(pair for pair in headers if not pair[0].startswith(ERROR_HEADER)),
        )

    def letter_headers(self) -> Headers:
        """Return the headers of its dead letter: its own, then why and, if it has a place, where from."""
        content = {
            "stage": self.stage,
            "exception.class.name": f"{FAULT_PREFIX}{self.fault}",
            "exception.message": self.reason,
        }
        if self.offset is not None:
            content = {"topic": self.topic, "partition": str(self.partition), "offset": str(self.offset), **content}
        errors = [(ERROR_HEADER + name, text.encode("utf-8", "backslashreplace")) for name, text in content.items()]
        return [*self.headers, *errors]

    @property
    def event(self) -> Any:
        """The content of the message, or the event as it was given; the value if that is not JSON."""
        try:
            return orjson.loads(self.value or b"")
        except orjson.JSONDecodeError:
            return self.value

    def to_dict(self) -> dict[str, Any]:
        """Return what it is and why it was refused."""
        event = self.event
        return {
            "stage": self.stage,
            "fault": self.fault,
            "reason": self.reason,
            "topic": self.topic,
            "partition": self.partition,
            "offset": self.offset,
            "event": event.decode("utf-8", "backslashreplace") if isinstance(event, bytes) else event,
        }

    def to_json(self) -> bytes:
        """Return `to_dict` as JSON."""
        return orjson.dumps(self.to_dict())
