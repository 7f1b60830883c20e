"""Follows the topics of a flow into its view, in threads, from their last messages on."""

from __future__ import annotations

import threading
import time
from typing import Any

import orjson

from ssm_stream.config import Config
from ssm_stream.config.own_messages import OwnMessages
from ssm_stream.ingest.timestamps import OTHER_TIME
from ssm_stream.ingest.verdicts import FeedbackError, FeedbackReader, Verdict
from ssm_stream.kafka.client import with_topic
from ssm_stream.kafka.control.topic import ControlMessages, control_topic, message_id
from ssm_stream.kafka.dead_letters import is_redriven
from ssm_stream.kafka.formats.messages import output_format
from ssm_stream.kafka.formats.schema_readers import SchemaError
from ssm_stream.kafka.groups.followed_topic import FollowedTopic
from ssm_stream.kafka.records import Message
from ssm_stream.mcp.view.episodes import Episodes
from ssm_stream.mcp.view.predictions import Predictions

HISTORY = 400_000
"""Messages of a topic, over its partitions, that are read at the start."""


class FlowView:
    """What the topics of a flow hold: the last predictions, the episodes of alerts, and planned stops. Left out is what
    other flows write to the same topics.

    config: with its features
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.predictions, self.episodes = Predictions(), Episodes()
        self.stops = ControlMessages(config)
        self.stops_written: dict[str, int] = {}
        """Id of a message of the control topic → when it was written, ms."""
        self.topics: dict[str, FollowedTopic] = {}
        """By what they hold: predictions, alerts, suppressed, feedback, control."""
        self._ended = threading.Event()
        self._format = output_format(config)
        self._feedback = FeedbackReader(config)
        self._own = OwnMessages(config)

    def start(self) -> None:
        """Follow the topics until `close`."""
        sinks, feedback, control = self.config.sinks, self.config.alerts.feedback, control_topic(self.config)
        for what, topic, add in (
            ("alerts", sinks.alerts, self._add_alerts),
            ("suppressed", sinks.suppressed, self._add_alerts),
            ("feedback", feedback.topic if feedback else None, self._add_feedback),
            ("control", control.topic if control else None, self._add_control),
            ("predictions", sinks.predictions, self._add_predictions),
        ):
            if topic is not None:
                self.topics[what] = FollowedTopic(with_topic(self.config.source, topic), last=HISTORY)
                self.topics[what].start(add, self._ended, f"mcp-{what}")

    def close(self) -> None:
        """End the threads."""
        self._ended.set()

    def wait(self, seconds: float) -> bool:
        """Wait until all topics have been read to their end as of the start, or cannot be read; return whether."""
        deadline = time.monotonic() + seconds
        for followed in self.topics.values():
            while not followed.loaded.is_set() and not followed.error:
                if time.monotonic() >= deadline:
                    return False
                followed.loaded.wait(0.05)
        return True

    def clock(self) -> int:
        """Return the time of the flow, ms: the wall clock, or the time of the last event where that is more than an
        hour away from it, as of a recording."""
        now, latest = int(time.time() * 1000), self.predictions.latest
        return latest if latest and abs(now - latest) > OTHER_TIME else now

    def _documents(self, messages: list[Message]) -> list[Any]:
        """Return the contents of messages; those that cannot be read are left out."""
        found = []
        for message in messages:
            value = message.value()
            try:
                found.append(self._format.read(value) if value else None)
            except (SchemaError, orjson.JSONDecodeError):
                continue
        return found

    def _add_predictions(self, messages: list[Message]) -> None:
        self.predictions.add(filter(self._own.has_prediction, self._documents(messages)))

    def _add_alerts(self, messages: list[Message]) -> None:
        found = self._documents([each for each in messages if not is_redriven(each)])
        self.episodes.add(filter(self._own.has_alert, found))

    def _add_feedback(self, messages: list[Message]) -> None:
        for message in messages:
            try:
                found = self._feedback(message.value())
            except FeedbackError:
                continue
            if isinstance(found, Verdict):
                self.episodes.add_verdict(found.alert, found.true)
            else:
                self.episodes.add_acknowledgement(found.alert, found.to_json())

    def _add_control(self, messages: list[Message]) -> None:
        self.stops.add(messages)
        self.stops_written |= {message_id(each): each.timestamp()[1] for each in messages}
