"""The live page's use of Kafka: it writes verdicts and planned stops to their topics, follows the control topic, and
reads the alerts from before the start."""

from __future__ import annotations

import itertools
import threading
from typing import Any

import orjson
import structlog

from ssm_stream.config import Config, Source
from ssm_stream.engine.alert_kinds import MAINTENANCE, SHADOW
from ssm_stream.flow.feedback import feedback_topic
from ssm_stream.ingest.verdicts import FeedbackError, FeedbackReader, Verdict
from ssm_stream.kafka.client import BrokerError, with_topic
from ssm_stream.kafka.control.follower import FollowedControl, follow_control
from ssm_stream.kafka.control.topic import control_topic, write_message
from ssm_stream.kafka.formats.messages import alert_reader
from ssm_stream.kafka.producer import MessageProducer
from ssm_stream.kafka.records import Message
from ssm_stream.kafka.topic_reader import read_topic
from ssm_stream.ops.metrics import Metrics
from ssm_stream.ui.live_page import LivePage
from ssm_stream.ui.planned_stops import AnnouncedStop

LOG = structlog.get_logger("ssm_stream.ui")
TIMEOUT = 10.0
"""Seconds in which the broker has to take a verdict, or to answer a request for the history."""
HISTORY = 200
"""Messages of each partition of the alerts and feedback topics that are read at the start."""
AGAIN = 10.0
"""Seconds after which the control topic is read again where it could not be read."""
SHOWN = tuple(f'"suppressed_by":"{by}"'.encode() for by in (SHADOW, MAINTENANCE))


class FeedbackWriter:
    """Writes to the feedback topic. Opens its producer for the first message."""

    def __init__(self, config: Config, topic: str) -> None:
        self._config, self._topic = config, topic
        self._lock = threading.Lock()
        self._producer: MessageProducer | None = None

    def __call__(self, key: str, document: dict[str, Any]) -> str:
        """Write a message and wait until the broker has it; its key is its id.

        Raises:
            BrokerError: the broker does not have it.
        """
        with self._lock:
            self._producer = self._producer or MessageProducer(self._config, self._topic, TIMEOUT)
            self._producer.send(key, orjson.dumps(document))
        return key


class StopWriter:
    """Writes planned stops and their ends to the control topic."""

    def __init__(self, config: Config, source: Source) -> None:
        self._config, self._source = config, source.model_copy(update={"wait": min(source.wait, TIMEOUT)})

    def __call__(self, key: str, document: dict[str, Any]) -> str:
        """Write a message, and return its id.

        Raises:
            ControlError: the message could not be used.
            BrokerError: the broker does not have it.
        """
        return write_message(self._config, self._source, orjson.dumps(document), key)


def open_page(config: Config, metrics: Metrics) -> LivePage:
    """Return the live page of a process, and read what it shows of topics in threads. config: with its features"""
    feedback, control = config.alerts.feedback, control_topic(config)
    page = LivePage(
        config,
        metrics,
        None if feedback is None else FeedbackWriter(config, feedback.topic),
        None if control is None else StopWriter(config, control),
    )
    page.alert_episodes.as_json = alert_reader(config)
    threading.Thread(target=_read_history, args=(page,), name="ui-history", daemon=True).start()
    if control is not None:
        threading.Thread(target=_follow_stops, args=(page, control), name="ui-stops", daemon=True).start()
    return page


def _follow_stops(page: LivePage, control: Source) -> None:
    """Show the stops of the control topic until the page is closed."""
    while not page.closed.is_set():
        try:
            for found in follow_control(page.config, control, page.closed):
                page.stops.announce(announced_stops(found))
        except BrokerError as error:
            LOG.warning("planned_stops_not_read", error=str(error))
        page.closed.wait(AGAIN)


def announced_stops(found: FollowedControl) -> list[AnnouncedStop]:
    """Return the stops that a control topic holds, as the page shows them."""
    messages, out = found.messages, list[AnnouncedStop]()
    ends = {stop: name for name, stop in reversed(messages.ends.items())}  # the first one of a stop counts
    for name, window in messages.windows.items():
        applied = {partition: ids[name] for partition, ids in messages.applied.items() if name in ids}
        end = ends.get(name)
        end_acts = any(end in ids for ids in messages.applied.values())
        out.append(AnnouncedStop(window, applied, found.written[name], found.written.get(end or ""), end_acts))
    return out


def _read_history(page: LivePage) -> None:
    """Show the last alerts and verdicts of their topics; if they cannot be read, the page starts empty."""
    config = page.config
    try:
        alerts = [_last_messages(with_topic(config.source, topic)) for topic in _alert_topics(config)]
        feedback = feedback_topic(config)
        read = FeedbackReader(config)
        for message in _last_messages(feedback) if alerts and feedback is not None else ():
            try:
                found = read(message.value())
            except FeedbackError:
                continue
            if isinstance(found, Verdict):
                page.on_verdict(found)
            else:
                page.on_acknowledged(found)
        messages = sorted(itertools.chain.from_iterable(alerts), key=lambda message: message.timestamp()[1])
        contents = map(page.alert_episodes.as_json, (message.value() for message in messages))
        page.alert_episodes.add(filter(_is_shown, contents))
    except BrokerError as error:
        LOG.warning("alerts_not_remembered", error=str(error))
    finally:
        page.history_read.set()


def _alert_topics(config: Config) -> list[str]:
    """Return the topics of the alerts that the page shows, the suppressed ones of planned stops among them."""
    sinks, alerts = config.sinks, config.alerts
    topics = [sinks.suppressed] if alerts.shadow else [sinks.alerts, sinks.suppressed if alerts.has_stops else None]
    return [topic for topic in topics if topic is not None]


def _is_shown(value: bytes | None) -> bool:
    """Return whether the page shows a message: not one that a fleet alert replaces."""
    return value is None or b'"suppressed_by":' not in value or any(by in value for by in SHOWN)


def _last_messages(source: Source) -> list[Message]:
    """Return the last messages of a topic; live alerts do not wait for them for long.

    Raises:
        BrokerError: the broker refuses, or does not answer within `TIMEOUT`.
    """
    return read_topic(source.model_copy(update={"wait": min(source.wait, TIMEOUT)}), last=HISTORY)
