"""What the live page has to do with Kafka: verdicts to the feedback topic, and the alerts of before the start."""

from __future__ import annotations

import threading

import orjson
import structlog

from ssm_stream.config import Config
from ssm_stream.flow.feedback import feedback_of
from ssm_stream.ingest.verdicts import FeedbackReader, NoFeedbackError
from ssm_stream.kafka.client import BrokerError, with_topic
from ssm_stream.kafka.producer import MessageProducer
from ssm_stream.kafka.topic_reader import read_topic
from ssm_stream.ops.metrics import Metrics
from ssm_stream.ui.live_page import LivePage

LOG = structlog.get_logger("ssm_stream.ui")
TIMEOUT = 10.0
"""Seconds in which the broker has to take a verdict."""
REMEMBERED = 200
"""Messages of each partition of the alerts and feedback topics that the page begins with."""


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
    """The page of a process. config: with its features"""
    feedback = config.alerts.feedback
    page = LivePage(config, metrics, FeedbackWriter(config, feedback.topic) if feedback is not None else None)
    threading.Thread(target=_remember, args=(page,), name="ui-remember", daemon=True).start()
    return page


def _remember(page: LivePage) -> None:
    """The last alerts and verdicts on their topics; without them the page begins empty."""
    config = page.config
    try:
        if config.sinks.alerts is not None:
            alerts = read_topic(with_topic(config.source, config.sinks.alerts), last=REMEMBERED)
            said = feedback_of(config)
            read = FeedbackReader(config)
            for message in read_topic(said, last=REMEMBERED) if said is not None else ():
                try:
                    verdict = read(message.value())
                except NoFeedbackError:
                    continue
                page.on_verdict(verdict)
            page.alert_episodes.take(message.value() for message in alerts)
    except BrokerError as error:
        LOG.warning("alerts_not_remembered", error=str(error))
    finally:
        page.remembered.set()
