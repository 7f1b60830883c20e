"""What a Kafka cluster reports about itself: its brokers, topics and partitions."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException

from ssm_stream.config import Source
from ssm_stream.config.suggestions import nearest
from ssm_stream.kafka.client import (
    BrokerError,
    LastError,
    MissingRightError,
    kafka_error,
    open_consumer,
    redact_text,
)
from ssm_stream.kafka.outages.classify import is_retriable
from ssm_stream.kafka.outages.patience import MAX_PAUSE
from ssm_stream.kafka.tls_handshake import certificate_fault

if TYPE_CHECKING:
    from confluent_kafka.admin._metadata import ClusterMetadata


LOG = structlog.get_logger("ssm_stream.kafka")


class Cluster(NamedTuple):
    """The metadata of a cluster.

    Attributes:
        addresses: broker id → `host:port`, as the cluster advertises them (clients go there, not to the bootstrap).
        topics: topic → its partitions, ascending, without topics that the user may not see.
        topic_errors: topic → the broker's message, for topics that it could not describe.
        bootstrap_servers: the servers that the request went to.
        seconds: time until the answer.
        embedded: it is librdkafka's mock cluster.
        denied: topics that this user may not see, whether they exist or not.
    """

    addresses: dict[int, str]
    topics: dict[str, tuple[int, ...]]
    topic_errors: dict[str, str]
    bootstrap_servers: str
    seconds: float
    embedded: bool = False
    denied: frozenset[str] = frozenset()

    def partitions_of(self, topic: str, operation: str = "Read") -> tuple[int, ...]:
        """Return all partitions of a topic, ascending.

        operation: what the topic is for, `Read` or `Write`

        Raises:
            BrokerError: the topic does not exist (or is hidden from this user), or the broker cannot describe it.
        """
        if topic in self.denied:
            found = f"topic {topic!r} on {self.bootstrap_servers}: this user may not see it"
            raise MissingRightError(found, operation, "topic", topic)
        if topic in self.topic_errors:
            cure = "repair the cluster; `ssm-stream doctor CONFIG` shows the topics"
            raise BrokerError(f"topic {topic!r} on {self.bootstrap_servers}: {self.topic_errors[topic]}", cure)
        if topic not in self.topics:
            found = f"topic {topic!r} does not exist on {self.bootstrap_servers}, or this user may not see it"
            cure = "create it: ssm-stream doctor CONFIG --create-topics"
            # A topic that is made for a misspelt name stays empty, and a run waits for events for good.
            if operation == "Read" and (near := nearest(topic, self.topics)) is not None:
                cure = f"did you mean {near!r}? Else {cure}"
            raise BrokerError(found, cure)
        return self.topics[topic]

    def source_partitions(self, source: Source) -> tuple[int, ...]:
        """Return the partitions to read: `source.partitions`, or all.

        Raises:
            BrokerError: the topic does not exist, or lacks one of `source.partitions`.
        """
        existing = self.partitions_of(source.topic)
        if source.partitions is None:
            return existing
        if missing := sorted(set(source.partitions) - set(existing)):
            where = f"topic {source.topic!r} on {self.bootstrap_servers}"
            found = f"{where} has partitions {_format_ranges(existing)}, not {missing}"
            raise BrokerError(found, "correct source.partitions, or add partitions to the topic")
        return tuple(sorted(set(source.partitions)))


def _format_ranges(numbers: Iterable[int]) -> str:
    ordered = sorted(numbers)
    whole = ordered == list(range(len(ordered)))
    return f"0 to {len(ordered) - 1}" if whole and len(ordered) > 1 else ", ".join(map(str, ordered)) or "none"


def check_broker(source: Source, topics: Iterable[str] = (), *, log_wait: bool = False) -> Cluster:
    """Wait until a broker answers, `source.wait` seconds at most, and return the metadata of its cluster.

    Args:
        topics: that are used in addition to those of the source. A list of all topics lacks those that the user may
            not see: each of these that is not on it is requested by name. One that the cluster cannot describe yet, as
            during the election of a leader, is waited for.
        log_wait: log once if no broker answers at first

    Raises:
        BrokerError: librdkafka refuses a property (at once), or no broker answered in time. The text has the brokers,
            the wait, librdkafka's last own message and the cure.
    """
    began, needed = time.monotonic(), {*source.names, *topics}
    last_error = LastError(source)
    with open_consumer(source, last_error) as client:
        while True:
            left = began + source.wait - time.monotonic()
            try:
                # A second at a time: a signal is handled between calls, not within.
                metadata = client.list_topics(timeout=max(0.05, min(left, 1.0)))
            except KafkaException as error:
                client.poll(0.05)  # serves error_cb
                if time.monotonic() - began < source.wait:
                    if log_wait:
                        why = last_error.text or redact_text(kafka_error(error).str(), source.kafka)
                        LOG.warning("waiting_for_brokers", brokers=source.brokers, wait_s=source.wait, why=why)
                        log_wait = False
                    continue
                reason = last_error.text or redact_text(kafka_error(error).str(), source.kafka)
                if "certificate verify failed" in reason:
                    reason = certificate_fault(source) or reason
                found = f"no broker at {source.brokers} answered within {source.wait:g} s (source.wait): {reason}"
                raise BrokerError(found, last_error.cure) from None
            waiting = [t for name, t in metadata.topics.items() if name in needed and t.error is not None]
            if any(is_retriable(topic.error) and topic.partitions for topic in waiting) and left > 0:
                time.sleep(min(left, MAX_PAUSE))
                continue
            absent = needed - metadata.topics.keys()
            return _cluster(metadata, source, time.monotonic() - began, _denied(client, absent, source.wait))


def _denied(client: Consumer, topics: Iterable[str], wait: float) -> frozenset[str]:
    """Return those of the topics that the broker refuses to describe to this user."""
    found = set[str]()
    for topic in topics:
        try:
            answer = client.list_topics(topic, timeout=wait).topics[topic].error
        except KafkaException:
            continue
        if answer is not None and answer.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            found.add(topic)
    return frozenset(found)


def _cluster(metadata: ClusterMetadata, source: Source, seconds: float, denied: frozenset[str]) -> Cluster:
    return Cluster(
        addresses={b.id: f"{b.host}:{b.port}" for b in metadata.brokers.values()},
        topics={name: tuple(sorted(t.partitions)) for name, t in metadata.topics.items() if t.error is None},
        topic_errors={name: t.error.str() for name, t in metadata.topics.items() if t.error is not None},
        bootstrap_servers=source.brokers,
        seconds=seconds,
        embedded=str(metadata.cluster_id).startswith("mockCluster"),
        denied=denied,
    )
