"""Reads and sets what a group has committed, for commands that need its members to have stopped.

The broker refuses to set an offset while the group has members: a member that starts meanwhile is not overtaken.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from ssm_stream.config import Config
from ssm_stream.kafka.admin import COORDINATOR_TIMEOUT, describe_group
from ssm_stream.kafka.client import BrokerError, LastError, client_properties, kafka_error, open_consumer
from ssm_stream.kafka.membership.commit import Commit, parse_commit, places_of

STOP_THEM = "stop them first (SIGTERM; kubectl scale --replicas=0), and start them again afterwards"
HELD_BACK = "a transaction of a member that was killed is open, and holds back what the group has committed"
END_IT = "start a member, which ends it; or wait until the broker does, a minute or a few"


class RunningMember(NamedTuple):
    """A member of a group that runs. client: its client id; partitions: that it holds"""

    client: str
    host: str
    partitions: list[int]

    @property
    def text(self) -> str:
        """Return it in a few words."""
        held = ", ".join(map(str, self.partitions)) or "none"
        return f"{self.client} on {self.host.lstrip('/')} (partitions {held})"


def running_members(config: Config) -> list[RunningMember]:
    """Return the members of the flow's group.

    Raises:
        BrokerError: the broker does not answer, or refuses.
    """
    source = config.source
    admin = AdminClient(client_properties(source, error_cb=LastError(source)))
    try:
        found = describe_group(admin, source.group_id, source.wait).members
    except Exception as error:  # of many types
        if isinstance(error, KafkaException) and kafka_error(error).name() == "GROUP_ID_NOT_FOUND":
            return []
        raise _explain(config, error) from error
    held = [sorted(at.partition for at in each.assignment.topic_partitions if each.assignment) for each in found]
    return [RunningMember(m.client_id, m.host, partitions) for m, partitions in zip(found, held, strict=True)]


def require_stopped(config: Config) -> None:
    """Check that no member of the group runs.

    Raises:
        BrokerError: some do; the text names them. Or the broker does not answer.
    """
    if found := running_members(config):
        listed = "; ".join(each.text for each in found)
        raise BrokerError(f"the group {config.source.group_id!r} has {len(found)} members: {listed}", STOP_THEM)


def read_commits(config: Config, partitions: Iterable[int]) -> dict[int, Commit]:
    """Return what the group has committed.

    Raises:
        BrokerError: the broker does not answer, or refuses, or a transaction that no member ends holds them back.
        CommitError: another program commits to the group.
    """
    places = [TopicPartition(config.source.topic, p) for p in partitions]
    with _consumer(config) as consumer:
        try:
            places = consumer.committed(places, config.source.wait)
        except KafkaException as error:
            if kafka_error(error).code() == KafkaError._TIMED_OUT and _are_held_back(config, places):
                raise BrokerError(f"group {config.source.group_id!r}: {HELD_BACK}", END_IT) from error
            raise
        for place in places:
            if place.error is not None:
                raise KafkaException(place.error)
        return {place.partition: parse_commit(place.offset, place.metadata) for place in places}


def write_commits(config: Config, commits: Mapping[int, Commit]) -> None:
    """Set what the group has committed, for all these partitions at once.

    Raises:
        BrokerError: the group has members, or the broker does not answer.
    """
    places = places_of(config.source.topic, commits)
    with _consumer(config) as consumer:
        for place in consumer.commit(offsets=places, asynchronous=False):
            if place.error is not None:
                raise KafkaException(place.error)


def delete_commits(config: Config) -> None:
    """Delete the group with all that it has committed: the next start begins at `source.start`.

    Raises:
        BrokerError: the group has members, or the broker does not answer.
    """
    source = config.source
    admin = AdminClient(client_properties(source, error_cb=LastError(source)))
    try:
        answers = admin.delete_consumer_groups([source.group_id], request_timeout=COORDINATOR_TIMEOUT)
        answers[source.group_id].result(source.wait)
    except Exception as error:  # of many types
        if not isinstance(error, KafkaException) or kafka_error(error).name() != "GROUP_ID_NOT_FOUND":
            raise _explain(config, error) from error


def _are_held_back(config: Config, places: list[TopicPartition]) -> bool:
    """Check whether the broker reports offsets that it did not report as committed: those of an open transaction."""
    try:
        with _consumer(config, isolation="read_uncommitted") as consumer:
            consumer.committed(places, config.source.wait)
    except BrokerError:
        return False
    return True


@contextmanager
def _consumer(config: Config, isolation: str = "read_committed") -> Iterator[Consumer]:
    """Yield a consumer that joins no group."""
    properties: dict[str, Any] = {
        "group.id": config.source.group_id,
        "enable.auto.commit": False,
        "isolation.level": isolation,
    }
    try:
        with open_consumer(config.source, LastError(config.source), **properties) as consumer:
            yield consumer
    except KafkaException as error:
        raise _explain(config, error) from error


def _explain(config: Config, error: Exception) -> BrokerError:
    if isinstance(error, TimeoutError):
        error = TimeoutError(f"no answer within {config.source.wait:g} s")
    if not isinstance(error, KafkaException):
        return BrokerError(f"group {config.source.group_id!r}: {error}", "is the broker up?")
    found = kafka_error(error)
    cure = STOP_THEM if found.name() in ("UNKNOWN_MEMBER_ID", "NON_EMPTY_GROUP", "ILLEGAL_GENERATION") else "try again"
    return BrokerError(f"group {config.source.group_id!r} on {config.source.brokers}: {found.str()}", cure)
