"""What the live page has to do with Kafka: verdicts to the feedback topic, and the alerts of before the start."""

from __future__ import annotations

import threading
import time

import orjson
import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from ssm_stream.config import Config, Source
from ssm_stream.flow.feedback import feedback_of
from ssm_stream.ingest.verdicts import FeedbackReader, NoFeedbackError
from ssm_stream.kafka.client import (
    BrokerError,
    KafkaProducer,
    LastError,
    check_broker,
    client_properties,
    metadata_client,
    scrubbed,
)
from ssm_stream.ops.metrics import Metrics
from ssm_stream.ui.live_page import LivePage

LOG = structlog.get_logger("ssm_stream.ui")
PATIENCE = 10.0
"""Seconds in which the broker has to take a verdict."""
REMEMBERED = 200
"""Messages of each partition of the alerts and feedback topics that the page begins with."""


class FeedbackWriter:
    """Sends verdicts; makes its producer when the first one comes."""

    def __init__(self, config: Config, topic: str) -> None:
        self._config, self._topic = config, topic
        self._lock = threading.Lock()
        self._producer: KafkaProducer | None = None
        self._last_error = LastError(config.source, config.sinks.kafka)

    def __call__(self, alert: str, true: bool) -> None:
        """Send one and wait until the broker has it.

        Raises:
            BrokerError: it has not.
        """
        failed: list[str] = []

        def delivered(error: KafkaError | None, _: Message) -> None:
            if error is not None:
                failed.append(error.str())

        with self._lock:
            try:
                producer = self._open()
                value = orjson.dumps({"id": alert, "true": true})
                producer.produce(self._topic, value, alert, on_delivery=delivered)
                left = producer.flush(PATIENCE + 1)
            except (BufferError, KafkaException, ValueError) as error:
                failed.append(str(error))
                left = 0
        if left or failed:
            said = self._last_error.text or (failed[0] if failed else "no answer")
            raise BrokerError(
                f"topic {self._topic!r} did not take the verdict: "
                f"{scrubbed(said, self._config.source.kafka, self._config.sinks.kafka)}",
                "see that the topic is there and may be written to, and say it again",
            )

    def _open(self) -> KafkaProducer:
        if self._producer is None:
            ours = {"acks": "all", "message.timeout.ms": int(PATIENCE * 1000), "linger.ms": 0}
            theirs = {**client_properties(self._config.source, error_cb=self._last_error), **self._config.sinks.kafka}
            self._producer = KafkaProducer({**theirs, **ours})
        return self._producer


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
            alerts = last_messages(config.source.model_copy(update={"topic": config.sinks.alerts, "partitions": None}))
            said = feedback_of(config)
            read = FeedbackReader(config)
            for message in last_messages(said) if said is not None else ():
                try:
                    verdict = read(message.value())
                except NoFeedbackError:
                    continue
                page.judged(verdict.alert, verdict.true)
            page.alert_episodes.take(message.value() for message in alerts)
    except (BrokerError, KafkaException) as error:
        LOG.warning("alerts_not_remembered", error=scrubbed(str(error), config.source.kafka))
    finally:
        page.remembered.set()


def last_messages(source: Source) -> list[Message]:
    """The last messages of each partition of a topic, by their times.

    Raises:
        BrokerError, KafkaException: a broker that refuses or does not answer.
    """
    partitions = check_broker(source).source_partitions(source)
    found: list[Message] = []
    settings: dict[str, str | bool] = {"enable.partition.eof": True, "isolation.level": "read_committed"}
    with metadata_client(source, LastError(source), **settings) as client:
        client.list_topics(source.topic, timeout=source.wait)
        ends = _begin(client, source, partitions)
        deadline = time.monotonic() + PATIENCE
        while ends and time.monotonic() < deadline:
            for message in client.consume(1000, 0.1):
                error = message.error()
                if error is None:
                    found.append(message)
                elif error.code() == KafkaError._PARTITION_EOF:
                    ends.discard(message.partition())
    return sorted(found, key=lambda message: message.timestamp()[1])


def _begin(client: Consumer, source: Source, partitions: tuple[int, ...]) -> set[int | None]:
    """Start a few messages before the end of each; returns those that have any."""
    places = []
    for partition in partitions:
        low, high = client.get_watermark_offsets(TopicPartition(source.topic, partition), timeout=source.wait)
        if high > low:
            places.append(TopicPartition(source.topic, partition, max(low, high - REMEMBERED)))
    if places:
        client.assign(places)
    return {place.partition for place in places}
