"""Checks by the latest messages that a topic is keyed by entity: an entity's state is in one partition of a group."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import structlog

from ssm_stream.config import Config, ConfigError
from ssm_stream.kafka.client import with_topic
from ssm_stream.kafka.decoder import Decoder
from ssm_stream.kafka.records import Chunk, LabelBatch, Message, ShardBatch, offset_of
from ssm_stream.kafka.topic_reader import read_topic

LOG = structlog.get_logger("ssm_stream")
SAMPLE, TOTAL = 300, 20_000
"""Messages of each partition that are read, and of all together, at most."""


def require_keyed(config: Config, partitions: int) -> None:
    """Check that no entity comes by several partitions in turn. Events are reported, what rows are made of is refused,
    and labels that come by another partition than the events.

    Raises:
        ConfigError: the rows of an entity would be made of a part of its messages, or its labels would find no event.
        BrokerError: the broker does not answer.
    """
    last = max(min(SAMPLE, TOTAL // max(partitions, 1)), 1)
    places = dict[str, set[int]]()
    for source in config.source.each:
        found = partitions_by_entity(config, read_topic(source, last=last), source.topic)
        for entity, own in found.items():
            places.setdefault(entity, set()).update(own)
        if (spread := spread_of(found)) is not None:
            _report_spread(config, source.topic, *spread)
    if config.labels is None or config.labels.topic is None:
        return
    topic = config.labels.topic
    labels = partitions_by_entity(config, read_topic(with_topic(config.source, topic), last=last), topic)
    for entity, own in labels.items():
        there = places.get(entity)
        if there and there.isdisjoint(own):
            raise ConfigError(
                f"source.assignment: group: {entity!r} comes by partition {min(there)} of the events, its labels by "
                f"partition {min(own)} of {topic!r}; a member reads the same partition of both: produce to both with "
                "the same key (the entity) and the same partitioner; librdkafka's default differs from Java's (set "
                "partitioner: murmur2_random)"
            )


def _report_spread(config: Config, topic: str, entity: str, first: int, second: int) -> None:
    text = f"{entity!r} comes by partitions {first} and {second} of {topic!r}"
    if config.event.makes_rows:
        raise ConfigError(
            f"source.assignment: group: {text}, and each member would make rows of a part of its messages: key the "
            "topic by the entity; or leave assignment out, name this topic in source.repartition, and in "
            "source.topic a new one for copies by entity"
        )
    LOG.warning("entity_in_several_partitions", what=text, why="it has a state in each: key the topic by the entity")


def spread_entity(config: Config, messages: Iterable[Message]) -> tuple[str, int, int] | None:
    """Return an entity of the events topic that comes by two partitions in turn, and these; None if there is none."""
    return spread_of(partitions_by_entity(config, messages, config.source.topic))


def partitions_by_entity(config: Config, messages: Iterable[Message], topic: str) -> dict[str, list[int]]:
    """Return the partitions by which each entity comes. messages: of a topic, in the order of their timestamps"""
    decoder, times, by_partition = Decoder(config), dict[tuple[int, int], int](), dict[int, list[Message]]()
    for at, message in enumerate(messages):
        partition = message.partition() or 0
        by_partition.setdefault(partition, []).append(message)
        times[partition, offset_of(message)] = at
    places: dict[str, list[tuple[int, int]]] = {}
    for partition, some in by_partition.items():
        some.sort(key=offset_of)
        for _, item in decoder.decode(Chunk(topic, partition, some)):
            if isinstance(item, ShardBatch):
                named = zip(item.events.entity, item.offsets, strict=True)
            elif isinstance(item, LabelBatch) and topic not in config.source.names:
                named = zip(item.labels.entity, item.labels.position.tolist(), strict=True)
            else:
                continue
            for entity, offset in named:
                places.setdefault(entity, []).append((times[partition, offset], partition))
    return {entity: [partition for _, partition in sorted(own)] for entity, own in places.items()}


def spread_of(places: Mapping[str, Sequence[int]]) -> tuple[str, int, int] | None:
    """Return an entity that comes by two partitions in turn, and these; None if there is none.

    An entity that has moved once is none: partitions were added.
    """
    for entity, own in places.items():
        left, last = set[int](), -1
        for partition in own:
            if partition in left:
                return entity, min(partition, last), max(partition, last)
            if partition != last and last >= 0:
                left.add(last)
            last = partition
    return None
