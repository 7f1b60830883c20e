"""What a broker reports of topics before anything is read or written: this user's rights, and the settings that matter.

Nothing is written. What a broker does not report (an embedded one, one without authorized operations, a user who may
not describe settings) is not known, and is no fault.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, cast

import structlog
from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AclOperation, AdminClient, ConfigResource  # type: ignore[attr-defined]

from ssm_stream.config import Config, Source
from ssm_stream.kafka.admin import COORDINATOR_TIMEOUT
from ssm_stream.kafka.client import PROPERTY_ERRORS, BrokerError, LastError, client_properties, kafka_error
from ssm_stream.kafka.cluster import Cluster
from ssm_stream.kafka.membership.further import further_sources
from ssm_stream.kafka.outages.classify import is_retriable
from ssm_stream.kafka.outages.patience import patiently
from ssm_stream.kafka.transactional_producer import transactional_id

LOG = structlog.get_logger("ssm_stream.kafka")
SHORT_MS = 86_400_000
"""Retention in ms below which a stop of the process soon loses events: a day."""
PATIENCE = 5.0
"""Seconds for an answer; some brokers have none."""
PREDICTION_BYTES, ALERT_BYTES = 4096, 65_536
"""Sizes that predictions and summaries, and alerts, stay below."""
BATCH_BYTES = 1_000_000
"""Bytes that a producer sends as one batch, which is what `max.message.bytes` bounds, unless it is configured."""
RIGHTS, SETTINGS = "rights", "topic settings"
"""Names of checks."""
READ, WRITE = "Read", "Write"
NAMES = {AclOperation.READ: READ, AclOperation.WRITE: WRITE}


class TopicFacts(NamedTuple):
    """What is known of a topic. rights: of `READ` and `WRITE`; None: not known; settings: as text; empty: not known"""

    rights: frozenset[str] | None
    settings: Mapping[str, str]

    def number(self, name: str) -> int | None:
        """Return a setting that is a number; None: not known."""
        with contextlib.suppress(KeyError, ValueError):
            return int(self.settings[name])
        return None


class Finding(NamedTuple):
    """Something that will go wrong. check: its name; stops: at once, or only sometimes or later"""

    check: str
    topic: str
    found: str
    cure: str
    stops: bool


def describe(source: Source, names: Iterable[str], more: Mapping[str, Any] | None = None) -> dict[str, TopicFacts]:
    """Return what the brokers report of topics that exist. more: properties on top of `source.kafka`"""
    topics = list(dict.fromkeys(names))
    try:
        # Kept until all answers are there.
        admin = AdminClient({**client_properties(source, error_cb=LastError(source)), **(more or {})})
    except PROPERTY_ERRORS:
        return {}
    if not topics:
        return {}
    rights, settings = _rights(admin, source, topics), _settings(admin, source, topics)
    return {name: TopicFacts(rights.get(name), settings.get(name, {})) for name in topics}


def _rights(admin: AdminClient, source: Source, topics: list[str]) -> dict[str, frozenset[str] | None]:
    def request(left: float) -> dict[str, frozenset[str] | None]:
        answers = admin.describe_topics(
            TopicCollection(topics), include_authorized_operations=True, request_timeout=left
        )
        return {topic: _allowed(answer, left) for topic, answer in answers.items()}

    try:
        return patiently("rights on topics", request, min(source.wait, PATIENCE))
    except (KafkaException, TimeoutError):
        return {}


def _allowed(answer: Any, seconds: float) -> frozenset[str] | None:
    """Return the rights in an answer; None: not known.

    Raises:
        KafkaException: it may be known later.
    """
    try:
        allowed = answer.result(seconds + 1).authorized_operations
    except KafkaException as error:
        if is_retriable(kafka_error(error)):
            raise
        return frozenset() if kafka_error(error).code() == KafkaError.TOPIC_AUTHORIZATION_FAILED else None
    if allowed is None:
        return None
    every = AclOperation.ALL in allowed
    return frozenset(name for operation, name in NAMES.items() if every or operation in allowed)


def _settings(admin: AdminClient, source: Source, topics: list[str]) -> dict[str, dict[str, str]]:
    resources = [ConfigResource(ConfigResource.Type.TOPIC, topic) for topic in topics]

    def request(left: float) -> dict[str, dict[str, str]]:
        out = dict[str, dict[str, str]]()
        for resource, answer in admin.describe_configs(resources, request_timeout=left).items():
            try:
                found = cast("dict[str, Any]", answer.result(left + 1))
            except KafkaException as error:
                if is_retriable(kafka_error(error)):
                    raise
                continue  # this user may not describe them
            out[resource.name] = {name: str(each.value) for name, each in found.items()}
        return out

    try:
        return patiently("settings of topics", request, min(source.wait, PATIENCE))
    except (KafkaException, TimeoutError):
        return {}


def foresee(config: Config, cluster: Cluster) -> list[Finding]:
    """Return what will go wrong with the topics of a configuration that exist, by what their broker reports."""
    together = list(_of_partitions(config, cluster))
    if cluster.embedded:
        return together
    read, written = _read(config), dict(_written(config))
    inputs, outputs = ([topic for topic in topics if topic in cluster.topics] for topics in (read, written))
    if config.sinks.kafka:  # perhaps another user
        here, there = describe(config.source, inputs), describe(config.source, outputs, config.sinks.kafka)
    else:
        here = there = describe(config.source, [*inputs, *outputs])
    found = [each for topic in inputs if topic in here for each in _of_input(config, topic, here[topic])]
    found += [*_of_groups(config), *together]
    return found + [
        each for topic in outputs if topic in there for each in _of_output(config, topic, there[topic], written[topic])
    ]


def report(config: Config, cluster: Cluster) -> list[tuple[str, bool, str, str]]:
    """Return checks of this user's rights and of the topics' settings: name, whether it passes, finding and cure."""
    both = f"{RIGHTS} and {SETTINGS}"
    if cluster.embedded:
        return [(both, True, "not known: an embedded broker does not report them", "")]
    fine = "this user may read and write where it has to, and the topics' settings fit, as far as the broker reports"
    return [(each.check, False, each.found, each.cure) for each in foresee(config, cluster)] or [(both, True, fine, "")]


def require_foreseen(config: Config, cluster: Cluster) -> None:
    """Log what will go wrong later, and refuse to start where it will at once.

    Raises:
        BrokerError: a right is missing.
    """
    for each in foresee(config, cluster):
        if each.stops:
            raise BrokerError(each.found, each.cure)
        LOG.warning(each.check.replace(" ", "_"), of=each.topic, what=each.found, cure=each.cure)


def _of_partitions(config: Config, cluster: Cluster) -> Iterable[Finding]:
    """Yield the topics whose partitions do not go along with those of the first one, as a group needs them."""
    first = config.source.topic
    further = [each.topic for each in further_sources(config)] if config.source.assignment == "group" else []
    for topic in further if first in cluster.topics else ():
        counts = {name: len(cluster.topics.get(name, ())) for name in (first, topic)}
        if len(set(counts.values())) > 1 and counts[topic]:
            few, many = min(counts, key=lambda name: counts[name]), max(counts.values())
            found = (
                f"source.assignment: group: topic {first!r} has {counts[first]} partitions, {topic!r} has "
                f"{counts[topic]}; a member reads the same partition of both, so that what belongs to an entity meets"
            )
            cure = (
                f"kafka-topics --alter --topic {few} --partitions {many}, and produce to both with the same key and "
                "partitioner; entities whose partition changes begin a new state"
            )
            yield Finding("partitions", topic, found, cure, stops=True)


def _of_groups(config: Config) -> Iterable[Finding]:
    """Yield the consumer groups that this user may not use. A member's positions are those of its own group alone."""
    member = config.source.assignment == "group"
    groups = {config.source.group_id: member}
    if config.delivery == "exactly_once" and not member:
        groups |= {transactional_id(config, f"{writer:04d}"): True for writer in range(config.writers)}
    with contextlib.suppress(*PROPERTY_ERRORS, TimeoutError):
        admin = AdminClient({**client_properties(config.source, error_cb=LastError(config.source))})
        answers = admin.describe_consumer_groups(list(groups), request_timeout=COORDINATOR_TIMEOUT)
        deadline = time.monotonic() + PATIENCE
        for name, answer in answers.items():
            try:
                answer.result(max(0.0, deadline - time.monotonic()))
            except KafkaException as error:
                if kafka_error(error).code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
                    found = f"this user lacks the right Read on group {name!r} of {config.source.brokers}"
                    cure = f"grant it (kafka-acls --add --operation Read --group {name} …)"
                    yield Finding(RIGHTS, name, found, cure, stops=groups[name])


def _read(config: Config) -> list[str]:
    labels, feedback = config.labels, config.alerts.feedback
    named = [labels and labels.topic, feedback and feedback.topic, config.control_topic]
    return [*config.source.names, *(each for each in named if each), *(each.topic for each in config.source.context)]


def _written(config: Config) -> Iterable[tuple[str, int]]:
    """Yield the topics that are written to, and the bytes that their messages may have."""
    sinks = config.sinks
    for topic in (sinks.predictions, sinks.summaries, config.control_topic):
        if topic:
            yield topic, PREDICTION_BYTES
    for topic in (sinks.alerts, sinks.suppressed):
        if topic:
            yield topic, ALERT_BYTES
    yield sinks.dead_letters, PREDICTION_BYTES


def _missing_right(config: Config, topic: str, facts: TopicFacts, right: str) -> Iterable[Finding]:
    if facts.rights is not None and right not in facts.rights:
        user = f"this user lacks the right {right} on topic {topic!r} of {config.source.brokers}"
        yield Finding(
            RIGHTS, topic, user, f"grant it (kafka-acls --add --operation {right} --topic {topic} …)", stops=True
        )


def _of_input(config: Config, topic: str, facts: TopicFacts) -> Iterable[Finding]:
    yield from _missing_right(config, topic, facts, READ)
    if topic not in config.source.names:
        return
    if "compact" in facts.settings.get("cleanup.policy", ""):
        yield Finding(
            SETTINGS,
            topic,
            f"events topic {topic!r} is compacted (cleanup.policy={facts.settings['cleanup.policy']}): of events with "
            "the same key all but the last go, before or after they are read",
            f"set cleanup.policy=delete on {topic!r}",
            stops=False,
        )
    kept = facts.number("retention.ms")
    if kept is not None and 0 <= kept < SHORT_MS:
        yield Finding(
            SETTINGS,
            topic,
            f"events topic {topic!r} keeps its events for {kept / 3_600_000:.3g} h only (retention.ms={kept}): a stop "
            "for longer loses some",
            "set retention.ms to several days; after a loss: ssm-stream state resume, or source.on_gap: resume",
            stops=False,
        )


def _of_output(config: Config, topic: str, facts: TopicFacts, largest: int) -> Iterable[Finding]:
    yield from _missing_right(config, topic, facts, WRITE)
    limit = facts.number("max.message.bytes")
    if limit is None:
        return
    if limit < largest:
        yield Finding(
            SETTINGS,
            topic,
            f"topic {topic!r} takes messages of {limit:,} bytes at most (max.message.bytes), and some that are written "
            f"have up to {largest:,}",
            f"set max.message.bytes of {topic!r} to {largest} at least",
            stops=False,
        )
    elif limit < BATCH_BYTES and config.delivery == "at_least_once":
        chosen = {**config.source.kafka, **config.sinks.kafka}
        batch = min(int(chosen.get(name, BATCH_BYTES)) for name in ("batch.size", "message.max.bytes"))
        if batch > limit:
            yield Finding(
                SETTINGS,
                topic,
                f"topic {topic!r} takes batches of {limit:,} bytes at most (max.message.bytes), and producers send up "
                f"to {batch:,} together",
                f"set sinks.kafka: {{batch.size: {limit * 9 // 10}}}, or raise max.message.bytes of {topic!r}",
                stops=False,
            )
    if topic == config.sinks.dead_letters and largest <= limit < config.source.max_message_bytes:
        LOG.info("dead_letters_cut", topic=topic, beyond=limit)
