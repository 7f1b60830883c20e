"""The engine for events that are dicts: one at a time, or a list of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import orjson

from ssm_stream.config import Config
from ssm_stream.core.loop import Predictions
from ssm_stream.engine.alerts import Alert
from ssm_stream.engine.engine import Engine
from ssm_stream.engine.single_event import PredictedValues
from ssm_stream.ingest.events import Events, RefusedDocument
from ssm_stream.ingest.faults import Fault
from ssm_stream.ingest.json_values import plain_value
from ssm_stream.ingest.labels import LabelReader
from ssm_stream.ingest.paths import path_getter
from ssm_stream.ingest.rows.reader import MessageReader, message_event
from ssm_stream.ingest.single_event import SingleEvent, SingleEventReader


class Prediction(NamedTuple):
    """A prediction; its fields are those of a prediction message (docs/messages.md).

    row: of the event among those of the call, from 0; ts, ahead_ts: ms since 1970 UTC
    y: None if the event has no target; target: None with one target
    idle: the event does not meet `event.when`, and yhat to fleet are NaN, false and 0; None without `event.when`
    ahead_ts: with a horizon in time, the time that is predicted (`for` in the message)
    maintenance: whether the event lies in a planned stop; None if the configuration has none
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
    idle: bool | None = None
    maintenance: bool | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields of the message, without its `id`."""
        fields = self._asdict()
        del fields["row"]
        target, ahead, idle = fields.pop("target"), fields.pop("ahead_ts"), fields.pop("idle")
        if self.maintenance is None:
            del fields["maintenance"]
        if idle is not None:
            fields |= (dict.fromkeys(self._fields[4:11]) if idle else {}) | {"idle": idle}
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
    alerts: messages, each with the `row` of its event, or of the label that caused it; None if that was in an earlier
        call: one that waits for others (`alerts.fleet.wait`) is sent later
    refused: documents that are no events: position, fault and reason; and labels that find no event, at the document at
        which they are given up
    """

    predictions: list[Prediction]
    alerts: list[dict[str, Any]]
    refused: list[RefusedDocument]


class CallRows:
    """The rows of the events and labels that a call has processed, and so of alerts. engine: before the call"""

    def __init__(self, engine: Engine) -> None:
        self._first, self._rows = engine.episodes.processed, list[int]()

    def add(self, rows: Sequence[int], alerts: Sequence[Alert]) -> list[int | None]:
        """Add those of a batch; return the row of each of its alerts: its own event's, even if it is sent at a later
        one (`alerts.fleet.wait`); None: that was in an earlier call."""
        begin = len(self._rows)
        self._rows += rows
        numbers = [
            begin + each.row if each.place is None else each.place.number - self._first  # one that has waited
            for each in alerts
        ]
        return [self._rows[number] if number >= 0 else None for number in numbers]


class DocumentEngine(Engine):
    """The engine for dicts. Any cuts of the same events, one at a time among them, give the same bits.

    `alerts.shadow` concerns topics: here all alerts are returned.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config.without_shadow())
        self._reader = SingleEventReader(message_event(config.event))
        self._message_reader = MessageReader(config.event)
        labels = config.labels
        self._labels = LabelReader(config, labels) if labels is not None and labels.marker is not None else None
        self._marker = path_getter(labels.marker) if labels is not None and labels.marker is not None else None
        self._names: list[str] | list[None] = config.event.targets if len(config.event.targets) > 1 else [None]

    def process_document(self, document: dict[str, Any], source: int = 0) -> Results:
        """Predict, score and learn the event of a document; as `process_documents` with one."""
        plain = type(document) is dict and self.rows is None and self._labels is None
        event, call = self._reader.read_one(document) if plain else None, CallRows(self)
        if event is None or (found := self.process_one(event, source)) is None:
            return self.process_documents([document], source)
        predicted, alerts = found
        return Results(self._records_of_one(event, predicted), _messages(alerts, call.add([0], alerts)), [])

    def process_documents(self, documents: Sequence[dict[str, Any]], source: int = 0) -> Results:
        """Predict, score and learn the events of documents, in order; or the rows that they complete, if they are
        readings. A row's position is that of the document that completed it. Documents that have `labels.marker` are
        labels, which earlier or later events learn.

        Args:
            documents: as from JSON; times may be datetimes, numbers numpy's, and NaN is an unknown value
            source: the stream that they come from: entities of one stream learn together
        """
        call = CallRows(self)
        if self._labels is None:
            return self._process_events(documents, source, call)
        out, at = Results([], [], []), 0
        for label, run in groupby(map(self._is_label, documents)):
            some = documents[at : at + len(list(run))]
            if label:
                found = self._learn_labels(self._labels, some, source, call, at)
            else:
                found = self._process_events(some, source, call, at)
            out.predictions.extend(each._replace(row=at + each.row) for each in found.predictions)
            out.alerts.extend(found.alerts)
            out.refused.extend(each._replace(position=at + each.position) for each in found.refused)
            at += len(some)
        return out

    def _is_label(self, document: Any) -> bool:
        return (
            self._marker is not None and isinstance(document, dict) and plain_value(self._marker(document)) is not None
        )

    def _learn_labels(
        self, reader: LabelReader, documents: Sequence[dict[str, Any]], source: int, call: CallRows, at: int
    ) -> Results:
        labels, refused = reader.read(documents)
        if refused:  # values that JSON does not have
            labels, refused = reader.read([_as_json(document) for document in documents])
        if not len(labels):
            return Results([], [], refused)
        rows: list[int] = labels.position.tolist()
        alerts = self.learn(labels, source).alerts
        messages = _messages(alerts, call.add([at + row for row in rows], alerts))
        return Results([], messages, sorted([*refused, *self._unmatched(rows)]))

    def _unmatched(self, rows: Sequence[int]) -> list[RefusedDocument]:
        """Return the labels that were given up in a batch. rows: position of each of its events or labels"""
        return [
            RefusedDocument(rows[each.row], Fault.UNMATCHED_LABEL, f"a label of {each.entity!r}: {each.reason}")
            for each in self.pop_unmatched_labels()
        ]

    def _read_events(self, documents: Sequence[dict[str, Any]]) -> tuple[Events, list[RefusedDocument]]:
        events, refused = self._message_reader.read(documents)
        if self._labels is None:
            return events, refused
        events, nameless = self._labels.add_ids(documents, events)
        return events, sorted([*refused, *nameless])

    def _process_events(self, documents: Sequence[dict[str, Any]], source: int, call: CallRows, at: int = 0) -> Results:
        """Process the documents of a call that are events. at: row of the first one, from which alerts have theirs"""
        events, refused = self._read_events(documents)
        if refused:  # values that JSON does not have
            events, refused = self._read_events([_as_json(document) for document in documents])
        if self.rows is not None:
            place = events.position
            made = self.rows.add(events, place.tolist(), source)
            refused += [each._replace(position=int(place[each.position])) for each in made.late]
            events = replace(made.events, position=np.array(made.offsets, np.int64))
        position = events.position
        events, more = self.admit(self.episodes.mark(events), source)
        refused = sorted([*refused, *(m._replace(position=int(position[m.position])) for m in more)])
        if not len(events):
            return Results([], [], refused)
        predictions, alerts = self.process(events, source)
        rows: list[int] = events.position.tolist()
        if self._labels is not None:
            refused = sorted([*refused, *self._unmatched(rows)])
        messages = _messages(alerts, call.add([at + row for row in rows], alerts))
        return Results(self._records(events, predictions, rows), messages, refused)

    def _ahead(self, ts: int) -> int | None:
        """Return the time that is predicted, ms; None if it is the event's own, or counted in events."""
        seconds = self.config.model.horizon.seconds
        return ts + round(seconds * 1000) if seconds else None

    def _records_of_one(self, event: SingleEvent, predicted: list[PredictedValues]) -> list[Prediction]:
        return [
            Prediction(0, event.entity, event.ts, _target_or_none(y), *values, name)
            for name, y, values in zip(self._names, event.targets, predicted, strict=True)
        ]

    def _records(self, events: Events, predictions: Predictions, rows: list[int]) -> list[Prediction]:
        p = predictions
        columns = (events.measured, p.yhat, p.lower, p.upper, p.score, p.warmup, p.n, p.fleet)
        values: Any = zip(*(column.ravel().tolist() for column in columns), strict=True)
        idle = [None] * len(events) if events.idle is None else events.idle.tolist()
        stops = [None] * len(events) if events.maintenance is None else (events.maintenance > 0).tolist()
        places = zip(rows, events.entity, events.ts.tolist(), idle, stops, strict=True)
        return [
            Prediction._make((row, entity, ts, _target_or_none(y), *made, name, self._ahead(ts), flag, stop))
            for (row, entity, ts, flag, stop, name), (y, *made) in zip(
                ((*place, name) for place in places for name in self._names), values, strict=True
            )
        ]


def _messages(alerts: list[Alert], rows: list[int | None]) -> list[dict[str, Any]]:
    return [{"row": row, **alert.message} for row, alert in zip(rows, alerts, strict=True)]


def _as_json(document: Any) -> Any:
    """Return a document with the values that JSON would have; those that it cannot have stay as they are."""
    return {key: plain_value(value) for key, value in document.items()} if isinstance(document, dict) else document


def _target_or_none(value: float) -> float | None:
    """Return a target, None for NaN."""
    return None if math.isnan(value) else value
