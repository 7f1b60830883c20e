"""Requests of an administrator: topics are created, and their limits read."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable, Mapping
from typing import Any, cast

import structlog
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource  # type: ignore[attr-defined]
from confluent_kafka.cimpl import NewTopic

from ssm_stream.config import Source
from ssm_stream.kafka.client import (
    PROPERTY_ERRORS,
    BrokerError,
    LastError,
    MissingRightError,
    client_properties,
    kafka_error,
    property_error,
    redact_text,
)
from ssm_stream.kafka.outages.patience import patiently

LOG = structlog.get_logger("ssm_stream.sink")
DEFAULT_MAX_MESSAGE_BYTES = 1_048_588
"""A broker's `max.message.bytes`, unless it is set."""
COORDINATOR_TIMEOUT = 3600.0
"""Seconds that a request to a group's coordinator may take. Its caller waits less long, and lets the client go then.

When librdkafka 2.16's own timeout ends such a request while the coordinator is away, the coordinator's return ends the
process: `rd_kafka_enq_once_del_source_return: Assertion `eonce->refcnt > 0' failed`.
"""
GRACE = 5.0
"""Seconds that an answer may take beyond the timeout of its request."""


def create_topics(
    source: Source,
    topics: Mapping[str, int],
    *,
    replication: int = -1,
    config: Mapping[str, str] | None = None,
    timeout: float = 30.0,
) -> list[str]:
    """Create the topics (name → partitions) that do not exist, and wait until the cluster shows them.

    Args:
        replication: copies of each partition; -1 is the broker's default (Kafka 2.4 and later).
        config: topic settings, such as `{"retention.ms": "-1"}`.
        timeout: seconds, for each of creating and showing.

    Returns:
        The names that were created, in order; existing topics are left as they are.

    Raises:
        BrokerError: the broker refuses, or does not answer in time. librdkafka's mock cluster never answers: give its
            topics to `EmbeddedBroker(topics=...)`.
    """
    last_error = LastError(source)
    try:
        # Kept in a variable until all futures are done: the answers are lost when an AdminClient is collected.
        admin = AdminClient(client_properties(source, error_cb=last_error))
    except PROPERTY_ERRORS as error:
        raise property_error(error, source) from None
    settings = dict(config or {})
    created, refused, denied = [], [], []
    for name, n in topics.items():
        request = NewTopic(name, n, replication_factor=replication, config=settings)
        try:
            patiently(f"creating {name}", functools.partial(_create, admin, request), timeout)
            created.append(name)
        except KafkaException as error:
            reason = kafka_error(error)
            if reason.code() == KafkaError._TIMED_OUT:
                admin.poll(0)  # serves error_cb
                found = f"topic {name!r} on {source.brokers}: {last_error.text or reason.str()} (waited {timeout:g} s)"
                mock = "an embedded (mock) broker creates topics only when it starts; else try again later"
                raise BrokerError(found, last_error.cure if last_error.text else mock) from None
            if reason.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                denied.append(name)
            elif reason.code() != KafkaError.TOPIC_ALREADY_EXISTS:
                refused.append(f"topic {name!r} on {source.brokers}: {reason.name()}: {reason.str()}")
    if refused:
        raise BrokerError("\n".join(refused), "create it with the cluster's own tools, or as a user who may")
    if denied:
        found = f"topics {denied} cannot be created on {source.brokers}: this user may not"
        raise MissingRightError(found, "Create", "topic", *denied)
    deadline = time.monotonic() + timeout
    while created and not _have_leaders(admin, created):
        if time.monotonic() > deadline:
            raise BrokerError(f"topics {created} are created, but {source.brokers} does not show them", "try again")
        time.sleep(0.05)
    return created


def _create(admin: AdminClient, request: NewTopic, seconds: float) -> None:
    """Create a topic, and wait for the answer."""
    for answer in admin.create_topics([request], request_timeout=seconds).values():
        answer.result(seconds + 1)


def describe_group(admin: AdminClient, group: str, seconds: float) -> Any:
    """Return what the coordinator of a consumer group reports of it, waiting at most so long.

    Raises:
        KafkaException: it refuses.
        TimeoutError: it does not answer in time.
    """
    return admin.describe_consumer_groups([group], request_timeout=COORDINATOR_TIMEOUT)[group].result(seconds)


def group_denied(source: Source, group: str) -> bool:
    """Return True if this user may not use the consumer group.

    A consumer that requests the group's offsets gets no such answer: it repeats the request until the time is over.
    """
    admin = AdminClient(client_properties(source, error_cb=LastError(source)))
    try:
        describe_group(admin, group, source.wait)
    except KafkaException as error:
        return kafka_error(error).code() == KafkaError.GROUP_AUTHORIZATION_FAILED
    except TimeoutError:
        pass
    return False


def _have_leaders(admin: AdminClient, names: Iterable[str]) -> bool:
    """Return True if the cluster's metadata has the topics with leaders: it lags behind their creation."""
    try:
        # One by one: a list of all is large where many use the cluster.
        topics = [admin.list_topics(name, timeout=5).topics[name] for name in names]
    except KafkaException:
        return False
    return all(
        topic.partitions and all(partition.leader >= 0 for partition in topic.partitions.values()) for topic in topics
    )


def _describe(admin: AdminClient, requests: list[ConfigResource], seconds: float) -> list[dict[str, Any]]:
    """Return the settings of topics."""
    answers = admin.describe_configs(requests, request_timeout=seconds).values()
    return [cast("dict[str, Any]", answer.result(seconds + GRACE)) for answer in answers]


def max_message_bytes(source: Source, topics: Iterable[str]) -> int:
    """Return the size in bytes of the largest message that all these topics accept.

    A client that refuses a larger message by itself leaves the transaction whole; the broker's refusal would end it,
    and the next one, at every start.
    """
    admin = AdminClient(client_properties(source, error_cb=LastError(source)))
    requests = [ConfigResource(ConfigResource.Type.TOPIC, topic) for topic in topics]
    limits, unknown = [DEFAULT_MAX_MESSAGE_BYTES], dict[str, str]()
    for request in requests:
        try:
            (found,) = patiently("limits of topics", functools.partial(_describe, admin, [request]), source.wait)
        except KafkaException as error:
            # A user without the right to read a topic's settings: the broker's default applies.
            unknown[request.name] = redact_text(kafka_error(error).str(), source.kafka)
            continue
        if "max.message.bytes" in found:
            limits.append(int(found["max.message.bytes"].value))
    if unknown:
        cure = "grant the operation DescribeConfigs on these topics, where they take larger or smaller messages"
        LOG.warning("limits_unknown", topics=sorted(unknown), error=next(iter(unknown.values())), cure=cure)
    return max(min(limits), 1000)
