"""The live page's use of Kafka: it writes verdicts and planned stops to their topics, and follows topics."""

from __future__ import annotations

import threading
from typing import Any

import orjson
import structlog

from ssm_stream.config import Config, Source
from ssm_stream.flow.page_topics import follow_page_topics
from ssm_stream.kafka.client import BrokerError
from ssm_stream.kafka.control.follower import follow_control
from ssm_stream.kafka.control.topic import ControlMessages, control_topic, write_message
from ssm_stream.kafka.formats.messages import alert_reader
from ssm_stream.kafka.producer import MessageProducer
from ssm_stream.ops.metrics import Metrics
from ssm_stream.ui.live_page import LivePage
from ssm_stream.ui.planned_stops import AnnouncedStop

LOG = structlog.get_logger("ssm_stream.ui")
TIMEOUT = 10.0
"""Seconds in which the broker has to take a verdict."""
AGAIN = 10.0
"""Seconds after which the control topic is read again where it could not be read."""


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
    follow_page_topics(page)
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


def announced_stops(messages: ControlMessages) -> list[AnnouncedStop]:
    """Return the stops that a control topic holds, as the page shows them."""
    out, written = list[AnnouncedStop](), messages.written
    for name, window in messages.windows.items():
        applied = {partition: ids[name] for partition, ids in messages.applied.items() if name in ids}
        end = messages.end_of(name)
        end_acts = any(end in ids for ids in messages.applied.values())
        out.append(AnnouncedStop(window, applied, written[name], written.get(end or ""), end_acts))
    return out
