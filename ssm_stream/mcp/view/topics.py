"""Follows the topics of a flow into its view, in threads, from their last messages on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import orjson

from ssm_stream.config import Config
from ssm_stream.ingest.verdicts import FeedbackError, FeedbackReader, Verdict
from ssm_stream.kafka.client import BrokerError, with_topic
from ssm_stream.kafka.cluster import check_broker
from ssm_stream.kafka.control.topic import ControlMessages, control_topic, message_id
from ssm_stream.kafka.formats.messages import output_format
from ssm_stream.kafka.formats.schema_readers import SchemaError
from ssm_stream.kafka.records import Message, offset_of
from ssm_stream.kafka.topic_reader import TopicReader, open_topic
from ssm_stream.mcp.view.episodes import Episodes
from ssm_stream.mcp.view.predictions import Predictions

HISTORY = 400_000
"""Messages of a topic, over its partitions, that are read at the start."""
WAIT = 0.25
"""Seconds that one poll waits for messages."""
CHECK_EVERY = 10.0
"""Seconds between two checks of how far the reading is behind."""
AGAIN = 5.0
"""Seconds after which a topic is read again that could not be read."""
OTHER_TIME = 3_600_000
"""Milliseconds between the events' time and the wall clock from which on the events' time is another one."""
MAX_WAIT = 10.0
"""Seconds that the broker has to answer."""


class FollowedTopic:
    """A topic and how far it is read.

    topic: its name; loaded: set once what it held at the start is read; error: why it cannot be read, empty if it can
    skipped: messages that were left out as more came than could be read; received: when the last one came, ms
    """

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.loaded = threading.Event()
        self.error = ""
        self.skipped = self.read = self.received = 0


class FlowView:
    """What the topics of a flow hold: the last predictions, the episodes of alerts, and planned stops.

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
                self.topics[what] = followed = FollowedTopic(topic)
                threading.Thread(target=self._follow, args=(followed, add), name=f"mcp-{what}", daemon=True).start()

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

    def _follow(self, followed: FollowedTopic, add: Callable[[list[Message]], None]) -> None:
        source = with_topic(self.config.source, followed.topic)
        source = source.model_copy(update={"wait": min(source.wait, MAX_WAIT)})
        positions = dict[int, int]()
        while not self._ended.is_set():
            try:
                partitions = check_broker(source).partitions_of(followed.topic)
                with open_topic(source) as reader:
                    self._read(reader, partitions, positions, followed, add)
            except BrokerError as error:
                followed.error = str(error)
            self._ended.wait(AGAIN)

    def _read(
        self,
        reader: TopicReader,
        partitions: tuple[int, ...],
        positions: dict[int, int],
        followed: FollowedTopic,
        add: Callable[[list[Message]], None],
    ) -> None:
        """Read from the positions on; of more than `HISTORY` messages only the last."""
        each, left = max(HISTORY // len(partitions), 1), set(partitions)
        while True:
            spans = reader.spans(partitions, last=each)
            for partition, span in spans.items():
                begin = max(span.begin, min(positions.get(partition, span.begin), span.end))
                followed.skipped += begin - positions.get(partition, begin)
                positions[partition] = begin
                if begin == span.end:
                    left.discard(partition)
            checked, followed.error = time.monotonic(), ""
            for messages, ended in reader.poll(dict(positions), 2000, WAIT):
                if self._ended.is_set():
                    return
                add(messages)
                for message in messages:
                    positions[message.partition() or 0] = offset_of(message) + 1
                if messages:
                    followed.read += len(messages)
                    followed.received = messages[-1].timestamp()[1]
                left -= ended
                if not left:
                    followed.loaded.set()
                if time.monotonic() - checked > CHECK_EVERY:
                    checked = time.monotonic()
                    late = reader.spans(partitions, last=each)
                    if any(span.begin > positions[partition] for partition, span in late.items()):
                        break

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
        self.predictions.add(self._documents(messages))

    def _add_alerts(self, messages: list[Message]) -> None:
        self.episodes.add(self._documents(messages))

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
