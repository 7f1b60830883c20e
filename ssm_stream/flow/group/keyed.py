"""Checks by the latest messages that a topic is keyed by entity: an entity's state is in one partition of a group."""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from ssm_stream.config import Config, ConfigError
from ssm_stream.kafka.decoder import Decoder
from ssm_stream.kafka.records import Chunk, Message, ShardBatch, offset_of
from ssm_stream.kafka.topic_reader import read_topic

LOG = structlog.get_logger("ssm_stream")
SAMPLE, TOTAL = 300, 20_000
"""Messages of each partition that are read, and of all together, at most."""


def require_keyed(config: Config, partitions: int) -> None:
    """Check that no entity comes by several partitions in turn. Events are reported, what rows are made of is refused.

    Raises:
        ConfigError: the rows of an entity would be made of a part of its messages.
        BrokerError: the broker does not answer.
    """
    source = config.source
    found = spread_entity(config, read_topic(source, last=max(min(SAMPLE, TOTAL // max(partitions, 1)), 1)))
    if found is None:
        return
    entity, first, second = found
    text = f"{entity!r} comes by partitions {first} and {second} of {source.topic!r}"
    if config.event.makes_rows:
        raise ConfigError(
            f"source.assignment: group: {text}, and each member would make rows of a part of its messages: key the "
            "topic by the entity; or leave assignment out, name this topic in source.repartition, and in "
            "source.topic a new one for copies by entity"
        )
    LOG.warning("entity_in_several_partitions", what=text, why="it has a state in each: key the topic by the entity")


def spread_entity(config: Config, messages: Iterable[Message]) -> tuple[str, int, int] | None:
    """Return an entity that comes by two partitions in turn, and these; None if there is none.

    An entity that has moved once is none: partitions were added. messages: in the order of their timestamps
    """
    decoder, times, by_partition = Decoder(config), dict[tuple[int, int], int](), dict[int, list[Message]]()
    for at, message in enumerate(messages):
        partition = message.partition() or 0
        by_partition.setdefault(partition, []).append(message)
        times[partition, offset_of(message)] = at
    places: dict[str, list[tuple[int, int]]] = {}
    for partition, some in by_partition.items():
        some.sort(key=offset_of)
        for _, item in decoder.decode(Chunk(config.source.topic, partition, some)):
            if isinstance(item, ShardBatch):
                for entity, offset in zip(item.events.entity, item.offsets, strict=True):
                    places.setdefault(entity, []).append((times[partition, offset], partition))
    for entity, own in places.items():
        left, last = set[int](), -1
        for _, partition in sorted(own):
            if partition in left:
                return entity, min(partition, last), max(partition, last)
            if partition != last and last >= 0:
                left.add(last)
            last = partition
    return None
