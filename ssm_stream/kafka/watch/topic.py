"""What becomes of a topic while it is read: partitions that are added, and a topic that is deleted."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException

from ssm_stream.config import Source
from ssm_stream.kafka.client import STOP, BrokerError

LOG = structlog.get_logger("ssm_stream.source")
INTERVAL = 5.0
"""Seconds between two requests: well below the minutes after which producers use partitions that were added."""
ANSWER = 1.0
"""Seconds in which a broker answers, or is as good as away."""
CURE = (
    "create the topic again: ssm-stream doctor CONFIG --create-topics; the start after that names how the state goes on"
)


class Additions:
    """Whether partitions were added to a topic of this process.

    followed: whether the run is then ended, and begun again with them, by who runs the dataflow
    """

    def __init__(self) -> None:
        self.followed = False
        self.found = threading.Event()


ADDITIONS = Additions()


class TopicWatch:
    """Requests what a cluster has of a topic, every `INTERVAL`.

    The client itself reports neither: it waits for a topic that is gone to come again, and reads no new partitions.

    expected: the topic's partitions at the start; 0: those that are added are no matter
    """

    def __init__(self, source: Source, expected: int) -> None:
        self._source, self.expected = source, expected
        self._next = time.monotonic() + INTERVAL
        self._gone_since: float | None = None

    def is_due(self) -> bool:
        """Return whether it is time for a request."""
        return time.monotonic() >= self._next

    def check(self, consumer: Consumer, held: Iterable[int], *, until_eof: bool = False) -> None:
        """Request the topic's partitions; where some were added, end the dataflow, to be built again with them.

        held: partitions that are read

        Raises:
            BrokerError: for `source.wait`, brokers have answered that there is no such topic or partition. One that
                starts may answer so for a moment.
        """
        self._next = time.monotonic() + INTERVAL
        topic = self._source.topic
        try:
            found = consumer.list_topics(topic, timeout=ANSWER).topics[topic]
        except (KafkaException, KeyError):  # an absent broker is noticed elsewhere
            self._gone_since = None
            return
        missing, unknown = sorted(set(held) - found.partitions.keys()), False
        if found.error is not None:  # any other passes, or ends the reading by itself
            unknown = found.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART
            missing = missing if unknown else []
        if unknown or missing:
            self._note_gone("" if unknown else f" partition {missing[0]}")
        else:
            self._gone_since = None
        if self.expected and len(found.partitions) > self.expected:
            self._follow(len(found.partitions), until_eof=until_eof)

    def _note_gone(self, partition: str) -> None:
        source, now = self._source, time.monotonic()
        found = f"topic {source.topic!r}{partition} on {source.brokers} does not exist any more"
        if self._gone_since is None:
            self._gone_since = now
            LOG.warning("topic_gone", topic=source.topic, error=found, ends_in_s=source.wait, cure=CURE)
        if now - self._gone_since >= source.wait:
            raise BrokerError(f"{found}, for {now - self._gone_since:.0f} s (source.wait)", CURE)

    def _follow(self, there: int, *, until_eof: bool) -> None:
        found = {"topic": self._source.topic, "read": self.expected, "there": there}
        self.expected = there
        if until_eof or not ADDITIONS.followed:
            LOG.warning("new_partitions", **found, cure="restart")
            return
        LOG.info("new_partitions", **found)
        ADDITIONS.found.set()
        STOP.set()
