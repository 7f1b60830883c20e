"""The live page's use of Kafka: it sends verdicts to the feedback topic, and reads the alerts from before the start."""

from __future__ import annotations

import threading

import orjson
import structlog

from ssm_stream.config import Config, Source
from ssm_stream.flow.feedback import feedback_topic
from ssm_stream.ingest.verdicts import FeedbackError, FeedbackReader
from ssm_stream.kafka.client import BrokerError, with_topic
from ssm_stream.kafka.formats.messages import alert_reader
from ssm_stream.kafka.producer import MessageProducer
from ssm_stream.kafka.records import Message
from ssm_stream.kafka.topic_reader import read_topic
from ssm_stream.ops.metrics import Metrics
from ssm_stream.ui.live_page import LivePage

LOG = structlog.get_logger("ssm_stream.ui")
TIMEOUT = 10.0
"""Seconds in which the broker has to take a verdict, or to answer a request for the history."""
HISTORY = 200
"""Messages of each partition of the alerts and feedback topics that are read at the start."""


class FeedbackWriter:
    """Sends verdicts to the feedback topic. Opens its producer for the first one."""

    def __init__(self, config: Config, topic: str) -> None:
        self._config, self._topic = config, topic
        self._lock = threading.Lock()
        self._producer: MessageProducer | None = None

    def __call__(self, alert: str, true: bool) -> None:
        """Send a verdict and wait until the broker has it.

        Raises:
            BrokerError: the broker does not have it.
        """
        with self._lock:
            self._producer = self._producer or MessageProducer(self._config, self._topic, TIMEOUT)
            self._producer.send(alert, orjson.dumps({"id": alert, "true": true}))


def open_page(config: Config, metrics: Metrics) -> LivePage:
    """Return the live page of a process, and read its history in a thread. config: with its features"""
    feedback = config.alerts.feedback
    page = LivePage(config, metrics, FeedbackWriter(config, feedback.topic) if feedback is not None else None)
    page.alert_episodes.as_json = alert_reader(config)
    threading.Thread(target=_read_history, args=(page,), name="ui-history", daemon=True).start()
    return page


def _read_history(page: LivePage) -> None:
    """Show the last alerts and verdicts of their topics; if they cannot be read, the page starts empty."""
    config = page.config
    try:
        topic = config.sinks.suppressed if config.alerts.shadow else config.sinks.alerts
        if topic is not None:
            alerts = _last_messages(with_topic(config.source, topic))
            feedback = feedback_topic(config)
            reader = FeedbackReader(config)
            for message in _last_messages(feedback) if feedback is not None else ():
                try:
                    verdict = reader(message.value())
                except FeedbackError:
                    continue
                page.on_verdict(verdict)
            read = map(page.alert_episodes.as_json, (message.value() for message in alerts))
            page.alert_episodes.add(filter(_is_shown, read))
    except BrokerError as error:
        LOG.warning("alerts_not_remembered", error=str(error))
    finally:
        page.history_read.set()


def _is_shown(value: bytes | None) -> bool:
    """Return whether the page shows a message: not one that a fleet alert replaces."""
    return value is None or b'"suppressed_by":' not in value or b'"suppressed_by":"shadow"' in value


def _last_messages(source: Source) -> list[Message]:
    """Return the last messages of a topic; live alerts do not wait for them for long.

    Raises:
        BrokerError: the broker refuses, or does not answer within `TIMEOUT`.
    """
    return read_topic(source.model_copy(update={"wait": min(source.wait, TIMEOUT)}), last=HISTORY)
