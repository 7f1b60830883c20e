"""Merges partitions by the timestamps of their messages, each partition in its own order.

So a backlog is copied in about the order in which it was produced, whichever partition the broker serves first. A
partition at its end is not waited for.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")


class PartitionMerge(Generic[Item]):
    """Messages of several partitions that wait for those of the others. partitions: all that are read"""

    def __init__(self, partitions: Iterable[int]) -> None:
        self._waiting: dict[int, deque[tuple[int, Item]]] = {partition: deque() for partition in partitions}
        self._at_end = set[int]()

    def add(self, partition: int, timestamp: int, item: Item) -> None:
        """Append a message of a partition. timestamp: ms"""
        self._waiting[partition].append((timestamp, item))
        self._at_end.discard(partition)

    def set_at_end(self, partition: int) -> None:
        """Note that a partition has no further messages for now."""
        self._at_end.add(partition)

    def waiting(self, partition: int) -> int:
        """Return the number of messages of a partition that wait."""
        return len(self._waiting[partition])

    def ready(self) -> Iterator[Item]:
        """Remove and yield the messages that no other partition can precede any more, in order."""
        heads = [(queue[0][0], partition) for partition, queue in self._waiting.items() if queue]
        heapq.heapify(heads)
        missing = sum(not queue and partition not in self._at_end for partition, queue in self._waiting.items())
        while heads and not missing:
            _, partition = heads[0]
            queue = self._waiting[partition]
            yield queue.popleft()[1]
            if queue:
                heapq.heapreplace(heads, (queue[0][0], partition))
            else:
                heapq.heappop(heads)
                missing += partition not in self._at_end
