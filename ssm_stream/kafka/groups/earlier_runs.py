"""Whether a flow has run before with another folder of its state: by what its consumer group has committed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from confluent_kafka import KafkaException, TopicPartition

from ssm_stream.config import Config
from ssm_stream.kafka.client import BrokerError, LastError, open_consumer
from ssm_stream.kafka.outages.patience import committed

MAX_NOTE = 1_000
"""Characters of the metadata of a commit; a broker takes 4,096 bytes by default."""
TIMEOUT = 10.0
"""Seconds for the request: a start does not depend on it."""


class EarlierRun(NamedTuple):
    """What a group has committed.

    messages: up to which it has read, of all partitions; folder: absolute path of its state; empty: not known
    """

    messages: int
    folder: str


def state_note(config: Config) -> str:
    """Return what commits of positions carry: the absolute path of the folder of the state; empty without one."""
    directory = config.recovery.directory
    return "" if directory is None else str(directory.resolve())[:MAX_NOTE]


def earlier_run(config: Config, partitions: Mapping[str, Sequence[int]]) -> EarlierRun | None:
    """Return what the group of a configuration has committed of its events topics; None if that is nothing, or cannot
    be read.

    Args:
        partitions: of each topic
    """
    places = [TopicPartition(topic, each) for topic in config.source.names for each in partitions.get(topic, ())]
    try:
        with open_consumer(config.source, LastError(config.source)) as consumer:
            found = committed(consumer, places, min(config.source.wait, TIMEOUT))
    except (BrokerError, KafkaException):
        return None
    known = [place for place in found if place.offset > 0]
    notes = sorted(place.metadata for place in known if place.metadata)
    return EarlierRun(sum(place.offset for place in known), notes[0] if notes else "") if known else None
