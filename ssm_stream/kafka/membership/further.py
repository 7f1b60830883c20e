"""The topics whose partitions go along with those of the first one: further events topics, and that of labels.

Kafka assigns the partitions of the first topic. Whoever has partition p of it reads partition p of the others, too,
from the offsets that the commit of the first one names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import structlog
from confluent_kafka import KafkaError

from ssm_stream.config import Config, Source
from ssm_stream.kafka.client import BrokerError, with_topic
from ssm_stream.kafka.consumer import PrefetchConsumer
from ssm_stream.kafka.partition_queue import Decode, PartitionQueue
from ssm_stream.kafka.records import Chunk
from ssm_stream.kafka.topic_reader import open_topic
from ssm_stream.ops.observers import RunObserver

LOG = structlog.get_logger("ssm_stream.source")
RESUME = "to go on at the earliest that is left, with all that was learned, set source.on_gap: resume"
DELETED = f"the messages were deleted before they were read: {RESUME}"
"""The cure where a topic no longer has the offset that a group goes on at."""


def further_sources(config: Config) -> list[Source]:
    """Return the settings that read each of the topics that go along with the first one."""
    sources = config.source.each[1:]
    if config.labels is not None and config.labels.topic is not None:
        sources.append(with_topic(config.source, config.labels.topic))
    return sources


def first_left(source: Source, offsets: Mapping[int, int]) -> dict[int, int]:
    """Return the offsets by partition, or with `source.on_gap: resume` the earliest ones that the topic still has.

    Raises:
        BrokerError: the broker does not answer.
    """
    if source.on_gap != "resume" or not offsets:
        return dict(offsets)
    with open_topic(source) as reader:
        begins = {partition: span.begin for partition, span in reader.spans(offsets).items()}
    for partition, offset in offsets.items():
        if (missing := begins[partition] - offset) > 0:
            at, topic = begins[partition], source.topic
            LOG.warning("messages_missing", topic=topic, partition=partition, messages=missing, goes_on_at=at)
    return {partition: max(offset, begins[partition]) for partition, offset in offsets.items()}


class FurtherReader(PrefetchConsumer):
    """Reads the partitions of one of them."""

    def _error(self, error: KafkaError, partition: int) -> BrokerError:
        if error.code() not in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            return super()._error(error, partition)
        where = f"topic {self.source.topic!r} partition {partition} on {self.source.brokers}"
        return BrokerError(
            f"{where}: offset {self._queues[partition].next}, where the group goes on, no longer exists",
            DELETED,
        )


class FurtherTopics:
    """Reads them. The reader of the first topic attaches and detaches partitions while no dataflow uses them."""

    def __init__(self, config: Config, observers: RunObserver) -> None:
        self.readers = {each.topic: FurtherReader(each, (), observers=observers) for each in further_sources(config)}
        self._queues: dict[tuple[str, int], PartitionQueue] = {}

    def attach(self, partition: int, offsets: Mapping[str, int], decode: Mapping[str, Decode]) -> dict[str, int]:
        """Begin to read a partition of each topic; return the first offset of each.

        Args:
            offsets: to go on from; a topic without: from `source.start` on
            decode: what decodes the chunks of each topic

        Raises:
            BrokerError: a topic has no such partition, or the broker does not answer.
        """
        firsts = {}
        for topic, reader in self.readers.items():
            at = offsets.get(topic)
            first = None if at is None else first_left(reader.source, {partition: at})[partition]
            queue = reader.attach(partition, first, decode[topic])
            self._queues[topic, partition] = queue
            firsts[topic] = queue.first
        return firsts

    def detach(self, partitions: Sequence[int]) -> None:
        """Read partitions no longer."""
        for topic, reader in self.readers.items():
            for partition in partitions:
                if (queue := self._queues.pop((topic, partition), None)) is not None:
                    reader.detach(queue, graceful=False)

    def close(self) -> None:
        """Read nothing any more."""
        self.detach(sorted({partition for _, partition in self._queues}))

    def queues(self) -> list[tuple[str, PartitionQueue]]:
        """Return topic and queue of what is read."""
        return [(topic, queue) for (topic, _), queue in list(self._queues.items())]


def undecoded(chunk: Chunk) -> list[object]:
    """Return the messages of a chunk as they are."""
    return list(chunk.messages)
