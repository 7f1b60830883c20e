"""The figures of the demonstration, summed from the messages on the topics."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import orjson

from ssm_stream.core.loop import Predictions
from ssm_stream.evaluate.alarm_marks import AlarmMarker, Mark
from ssm_stream.evaluate.error_comparison import ErrorComparison
from ssm_stream.evaluate.frozen_model import FrozenPredictions
from ssm_stream.evaluate.scores import Scores
from ssm_stream.evaluate.true_events import TrueEvent
from ssm_stream.flow.demonstration.streams import DemoStream
from ssm_stream.kafka.records import Message

DAY = 86_400_000
NEW = "new machine"
"""Kind of the change that an entity is which comes after the frozen model's last lesson."""
BINS = 48
"""Points of the picture."""
AllMessages = list[dict[str, Any]]


class Change(NamedTuple):
    """Something that happens on stage: a true event, or a new machine."""

    stream: str
    event: TrueEvent


class Progress(NamedTuple):
    """The messages since the last call; of dead letters their number."""

    predictions: AllMessages
    alerts: AllMessages
    marks: dict[str, Mark]
    """By the id of the alert that starts an episode."""
    began: list[Change]
    dead_letters: int


class DemoFigures:
    """Sums errors, alarms and their marks, and compares the plant's errors with those of the frozen model.

    Args:
        streams: the plant's first
        frozen: predictions for the plant's events
    """

    def __init__(self, streams: list[DemoStream], frozen: FrozenPredictions) -> None:
        self.streams, self.frozen = streams, frozen
        self.total = sum(stream.rows for stream in streams)
        self.errors = ErrorComparison()
        self.first_prediction: float | None = None
        self._dead_letters = 0
        self._predicted = 0
        self._scores = {stream.name: Scores() for stream in streams}
        self._markers = {stream.name: AlarmMarker(stream.events) for stream in streams}
        self._began = dict[Change, None]()
        self._kinds = dict[str, tuple[DemoStream, str]]()
        for stream in streams:
            sinks = stream.config.sinks
            for topic, kind in ((sinks.predictions, "predictions"), (sinks.alerts, "alerts"), (sinks.dead_letters, "")):
                self._kinds[topic or ""] = stream, kind

    @property
    def topics(self) -> list[str]:
        """The topics to read."""
        return list(self._kinds)

    @property
    def done(self) -> int:
        """Number of events with a prediction or a dead letter."""
        return self._predicted + self._dead_letters

    def add(self, messages: Iterable[Message]) -> Progress:
        """Count the messages of any of the topics."""
        read: dict[str, tuple[AllMessages, AllMessages]] = {stream.name: ([], []) for stream in self.streams}
        letters = 0
        for message in messages:
            stream, kind = self._kinds[message.topic() or ""]
            if not kind:
                letters += 1
                continue
            predictions, alerts = read[stream.name]
            (predictions if kind == "predictions" else alerts).append(orjson.loads(message.value() or b""))
        self._dead_letters += letters
        progress = Progress([], [], {}, [], letters)
        for stream in self.streams:
            predictions, alerts = read[stream.name]
            self._predicted += len(predictions)
            _score(self._scores[stream.name], predictions, alerts)
            if stream is self.streams[0]:
                self._compare(predictions)
            progress.began.extend(self._new_changes(stream, [*predictions, *alerts]))
            for alert in alerts:
                if alert["phase"] == "started":
                    progress.marks[alert["id"]] = self._markers[stream.name].mark(alert)
            progress.predictions.extend(predictions)
            progress.alerts.extend(alerts)
        return progress

    def _compare(self, predictions: AllMessages) -> None:
        """Add the plant's errors, each with the frozen model's at the same event."""
        for p in predictions:
            if p["y"] is not None:
                other = self.frozen.yhat.get((p["entity"], p["ts"]), np.nan)
                self.errors.add(p["entity"], p["ts"], p["y"] - p["yhat"], p["y"] - other)

    def _new_changes(self, stream: DemoStream, messages: AllMessages) -> list[Change]:
        """Return what has begun with these messages."""
        now = max((message["ts"] for message in messages), default=0)
        found = [Change(stream.name, event) for event in stream.events if event.start <= now]
        if stream is self.streams[0]:
            first = {name: ts for name, ts in self.errors.first.items() if ts >= self.frozen.until}
            found += [Change(stream.name, TrueEvent(name, ts, ts + DAY, NEW)) for name, ts in first.items()]
        new = [change for change in found if change not in self._began]
        self._began.update(dict.fromkeys(new))
        return new

    @property
    def changes(self) -> list[Change]:
        """What has begun so far, in its order."""
        return sorted(self._began, key=lambda change: change.event.start)

    @property
    def marks(self) -> list[tuple[str, Mark]]:
        """The alarms so far, each with its stream, by time."""
        found = [(name, mark) for name, marker in self._markers.items() for mark in marker.marks]
        return sorted(found, key=lambda each: each[1].alarm["ts"])

    def series(self, entity: str | None) -> tuple[list[float], list[float]]:
        """Return the errors over time, ours and the frozen model's, of a pump or of all, in `BINS` spans."""
        edges = np.linspace(self.frozen.begin, self.frozen.end + 1, BINS + 1)
        return self.errors.series(None if entity is None else {entity}, edges)

    def result(self, seconds: float) -> dict[str, Any]:
        """Return the figures. seconds: since the start"""
        streams = {
            stream.name: {**self._scores[stream.name].total(), "level": stream.config.model.interval}
            for stream in self.streams
        }
        events = sum(each["events"] for each in streams.values())
        replayed = seconds - (self.first_prediction or 0.0)
        return {
            "seconds": seconds,
            "first_prediction_s": self.first_prediction,
            "events": events,
            "entities": sum(each["entities"] for each in streams.values()),
            "events_per_s": events / replayed if replayed > 0 else None,
            "dead_letters": self._dead_letters,
            "streams": streams,
            "alarms": [_alarm(stream, mark) for stream, mark in self.marks],
            "missed": [
                {"stream": name, **event._asdict()} for name, each in self._markers.items() for event in each.missed
            ],
            "frozen": self._comparison(),
        }

    def _comparison(self) -> dict[str, Any]:
        """Return the errors of both models: in all, before and after each change, and over time."""
        until, errors = self.frozen.until, self.errors
        on_stage = [change.event for change in self.changes if change.stream == self.streams[0].name]
        rows = []
        for event in on_stage:
            one = {event.entity}
            ours, frozen = self.series(event.entity)
            rows.append(
                {
                    **event._asdict(),
                    "before": errors.mean(one, until, event.start)._asdict(),
                    "during": errors.mean(one, event.start, event.end)._asdict(),
                    "after": errors.mean(one, event.end)._asdict(),
                    "series": ours,
                    "series_frozen": frozen,
                }
            )
        ours, frozen = self.series(None)
        return {
            "begin": self.frozen.begin,
            "learns_until": until,
            "end": self.frozen.end,
            "all": errors.mean(None, until)._asdict(),
            "changes": rows,
            "series": ours,
            "series_frozen": frozen,
        }


def _alarm(stream: str, mark: Mark) -> dict[str, Any]:
    alarm, event = mark.alarm, mark.event
    fleet = alarm["scope"] == "fleet"
    return {
        "stream": stream,
        "id": alarm["id"],
        "ts": alarm["ts"],
        "entities": [each["entity"] for each in alarm["entities"]] if fleet else [alarm["entity"]],
        "kind": alarm["kind"],
        "summary": alarm["summary"],
        "right": mark.right,
        "event": None if event is None else event.kind,
        "after_s": None if event is None else (alarm["ts"] - event.start) / 1000,
        "first": mark.first,
    }


def _score(scores: Scores, predictions: AllMessages, alerts: AllMessages) -> None:
    """Add messages to the scores."""

    # An entity's messages come in order, as its partition has them; alerts may come before their prediction is read.
    def column(name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
        return np.array([p[name] for p in predictions], np.float64)  # null becomes NaN

    predicted = Predictions(
        column("yhat"),
        column("yhat_lower"),
        column("yhat_upper"),
        column("anomaly_score"),
        column("warmup").astype(np.bool_),
        column("n").astype(np.int64),
        column("fleet"),
    )
    # A fleet alert belongs to no entity.
    names = ["" if a["scope"] == "fleet" else a["entity"] for a in alerts]
    started = [f"{name}\t{a['kind']}" for name, a in zip(names, alerts, strict=True) if a["phase"] == "started"]
    scores.add([p["entity"] for p in predictions], column("y"), predicted, started)
