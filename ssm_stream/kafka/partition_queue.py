"""The decoded chunks of one partition, between the consumer's thread and the dataflow."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from confluent_kafka import Consumer, TopicPartition

from ssm_stream.kafka.records import Chunk

AHEAD = 4  # chunks that are decoded ahead of the dataflow, over all partitions
FAR_AHEAD = 16  # chunks of one partition at which it is paused, while others have none

Decode = Callable[[Chunk], list[Any]]
"""Decodes the chunks of one partition into items of the dataflow."""


class DecodedChunk(NamedTuple):
    """The items of one chunk. next: the offset after it; messages: their number"""

    items: list[Any]
    next: int
    messages: int


class PartitionQueue:
    """What was read of one partition and not yet taken. The consumer's lock guards it.

    Attributes:
        first: offset of the first read
        next: offset that is read next
        taken: offset that is taken next
        high: end of the partition when it was last measured; None: unknown
        at_end: the partition had no more messages at the last fetch
        end: where that was, behind markers of transactions
        caught_up: what the partition held was taken, but for less than a batch, at some time since the start
        error: ends the reading, once all that was read before is taken
        read_at: when a message was last read, until then when the reading began, s since 1970
        failing_since, failed: times of the first and the last of several fetches that failed, s
    """

    def __init__(self, partition: int, first: int, decode: Decode) -> None:
        self.partition, self.first, self.next, self.decode = partition, first, first, decode
        self.taken, self.caught_up = first, False
        self.high: int | None = None
        self.end = first
        self.ready: deque[DecodedChunk] = deque()
        self.waiting = 0  # messages in `ready`
        self.at_end = self.paused = False
        self.error: Exception | None = None
        self.failing_since: float | None = None
        self.failed = 0.0
        self.read_at = time.time()

    @property
    def lag(self) -> int | None:
        """Messages between the dataflow and the end of the partition; None: unknown."""
        if self.at_end and not self.ready:
            return self.held_back
        return None if self.high is None else max(self.high - self.taken, 0)

    @property
    def held_back(self) -> int:
        """Messages behind the end of what is committed, which wait for a transaction that is open."""
        return max((self.high or 0) - self.end, 0) if self.at_end else 0

    def put(self, items: list[Any], last: int, messages: int) -> None:
        """Append a decoded chunk. last: its last offset"""
        self.at_end, self.next, self.failing_since, self.read_at = False, last + 1, None, time.time()
        self.waiting += messages
        self.ready.append(DecodedChunk(items, last + 1, messages))

    def take(self, limit: int) -> list[DecodedChunk]:
        """Remove and return the next chunks: together `limit` messages or fewer, but at least one chunk if there is
        one."""
        taken: list[DecodedChunk] = []
        count = 0
        while self.ready and (not taken or count + self.ready[0].messages <= limit):
            taken.append(self.ready.popleft())
            count += taken[-1].messages
        self.waiting -= count
        if taken:
            self.taken = taken[-1].next
        return taken


def has_room(queues: Sequence[PartitionQueue], batch: int) -> bool:
    """Return whether another chunk of `batch` messages may be read: a partition has none, or they have few together."""
    starving = any(not (queue.waiting or queue.at_end or queue.error) for queue in queues)
    return starving or sum(queue.waiting for queue in queues) < AHEAD * batch


def adjust_pauses(consumer: Consumer, topic: str, queues: Iterable[PartitionQueue], batch: int, *, room: bool) -> None:
    """Pause the partitions that are far ahead of the others, and resume those that are no longer; without room, pause
    all."""
    for queue in queues:
        if not queue.paused and (not room or queue.waiting >= FAR_AHEAD * batch):
            consumer.pause([TopicPartition(topic, queue.partition)])
            queue.paused = True
        elif queue.paused and room and queue.waiting < batch:
            consumer.resume([TopicPartition(topic, queue.partition)])
            queue.paused = False
