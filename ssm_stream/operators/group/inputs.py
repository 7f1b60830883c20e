"""What a member reads of its partitions: of the first topic, and of those that go along with it, in turn.

Labels that come on a topic of their own are read in step with the events of the same partition.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ssm_stream.config import Config
from ssm_stream.kafka.consumer import PrefetchConsumer
from ssm_stream.kafka.membership.consumer import GroupConsumer
from ssm_stream.kafka.membership.further import FurtherTopics, undecoded
from ssm_stream.kafka.partition_queue import Decode, PartitionQueue
from ssm_stream.kafka.records import offset_of
from ssm_stream.operators.pacing import HeldMessages, Paced, Pacer
from ssm_stream.ops.observers import RunObserver


class Taken(NamedTuple):
    """Items of a partition. next: the offset after them"""

    topic: str
    partition: int
    next: int
    items: list[Any]


class Lane:
    """One partition of one topic. due: with labels on a topic of their own: what holds messages, and decodes them"""

    def __init__(
        self, reader: PrefetchConsumer, queue: PartitionQueue, due: tuple[HeldMessages, Decode] | None
    ) -> None:
        self.queue, self.topic = queue, reader.source.topic
        self._reader, self._due = reader, due

    def take(self, limit: int) -> Taken | None:
        """Return what comes next; None: nothing does at the moment.

        Raises:
            BrokerError: what ended the reading.
        """
        if self._due is None:
            taken, _ = self._reader.take(self.queue, limit)
            items = [item for chunk in taken for item in chunk.items]
            return Taken(self.topic, self.queue.partition, taken[-1].next, items) if taken else None
        (held, decode), at_end = self._due, False
        if not held:
            taken, at_end = self._reader.take(self.queue, limit)
            held.add(taken)
        chunk = held.take_due(at_end=at_end)
        if chunk is None:
            return None
        return Taken(self.topic, self.queue.partition, offset_of(chunk.messages[-1]) + 1, decode(chunk))

    @property
    def at_end(self) -> bool:
        """Whether there is nothing more at the moment."""
        return self.queue.at_end and not (self._due and self._due[0])


class MemberInputs:
    """The topics of a member. decoder: makes what decodes the chunks of a partition"""

    def __init__(self, config: Config, decoder: Callable[[], Decode], observers: RunObserver) -> None:
        self.further = FurtherTopics(config, observers)
        self._labels = None if config.labels is None else config.labels.topic
        self._decoder = decoder
        self._lanes: dict[tuple[int, str], Lane] = {}
        self._pacers: dict[int, Pacer] = {}
        self._after = (-1, "")  # the place that was taken from last

    @property
    def decoder(self) -> Callable[[], Decode]:
        """What makes the decoders of the queues."""
        return self._decoder if self._labels is None else lambda: undecoded

    def attach(self, partition: int, offsets: dict[str, int]) -> dict[str, int]:
        """Begin to read a partition of the further topics: as of `FurtherTopics`."""
        return self.further.attach(partition, offsets, {topic: self.decoder() for topic in self.further.readers})

    def detach(self, partitions: list[int]) -> None:
        """Read partitions no longer."""
        self.further.detach(partitions)
        for partition in partitions:
            self._pacers.pop(partition, None)
        self._lanes = {place: lane for place, lane in self._lanes.items() if place[0] not in partitions}

    def take_next(self, consumer: GroupConsumer, limit: int) -> Taken | None:
        """Return the next items of one of the partitions, in turn; None if there are none.

        Raises:
            BrokerError: what ended the reading, in the broker's words.
        """
        if not self.further.readers:
            found = consumer.take_next(limit)
            if found is None:
                return None
            partition, chunks = found
            items = [item for chunk in chunks for item in chunk.items]
            return Taken(consumer.source.topic, partition, chunks[-1].next, items)
        self._open_lanes(consumer)
        for place, lane in sorted(self._lanes.items(), key=lambda pair: (pair[0] <= self._after, pair[0])):
            if (taken := lane.take(limit)) is not None:
                self._after = place
                return taken
        if consumer.broken is not None:
            raise consumer.broken
        return None

    def at_end(self, consumer: GroupConsumer) -> bool:
        """Whether there is nothing more at the moment."""
        return consumer.at_end and all(lane.at_end for lane in list(self._lanes.values()))

    def _open_lanes(self, consumer: GroupConsumer) -> None:
        """Add lanes of partitions that were assigned since the last time: all of a partition at once."""
        queues: list[tuple[str, PartitionQueue, PrefetchConsumer]] = [
            (consumer.source.topic, queue, consumer) for queue in consumer.queues()
        ]
        there = {queue.partition for _, queue, _ in queues}
        queues += [(t, q, self.further.readers[t]) for t, q in self.further.queues() if q.partition in there]
        for topic, queue, reader in queues:
            place = queue.partition, topic
            if place in self._lanes and self._lanes[place].queue is queue:
                continue
            due = None
            if self._labels is not None:
                pacer = self._pacers.setdefault(queue.partition, Pacer())
                due = HeldMessages(Paced(pacer, topic == self._labels, topic, queue.partition)), self._decoder()
            self._lanes[place] = Lane(reader, queue, due)
