"""Events and labels that come on topics of their own are read in step: by the timestamps of their messages."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from ssm_stream.kafka.partition_queue import DecodedChunk
from ssm_stream.kafka.records import Chunk, Message


class Pacer:
    """Keeps events and labels in step while there is a backlog of both: by the timestamps of their messages."""

    def __init__(self) -> None:
        self._next: dict[tuple[bool, str, int], float] = {}

    def set_next(self, labels: bool, topic: str, partition: int, ts: float) -> None:
        """Set the timestamp of a partition's next message, ms: −∞ while it is unknown, ∞ at the partition's end.

        labels: whether the topic has labels, or events
        """
        self._next[labels, topic, partition] = ts

    def limit(self, labels: bool) -> float:
        """Return up to which timestamp one kind may be read: that of the earliest next message of the other."""
        # The values are copied at once: partitions of other workers come and go meanwhile.
        return min((ts for (kind, _, _), ts in list(self._next.items()) if kind != labels), default=math.inf)


class Paced(NamedTuple):
    """A partition that a pacer keeps in step. labels: whether its topic has labels, or events"""

    pacer: Pacer
    labels: bool
    topic: str
    partition: int

    def set_next(self, ts: float) -> None:
        """Set the timestamp of the next message: see `Pacer`."""
        self.pacer.set_next(self.labels, self.topic, self.partition, ts)


class HeldMessages:
    """Messages of a partition of events or labels that were read, until they are due."""

    def __init__(self, place: Paced) -> None:
        self._place, self._held = place, deque[Message]()
        place.set_next(-math.inf)

    def __len__(self) -> int:
        """Number of messages."""
        return len(self._held)

    def add(self, taken: Iterable[DecodedChunk]) -> None:
        """Add what was read, undecoded."""
        self._held.extend(message for chunk in taken for message in chunk.items)

    def take_due(self, *, at_end: bool) -> Chunk | None:
        """Remove and return the messages that are not later than the other kind's next message; None: there are none.

        at_end: the partition has no more than those that are held
        """
        limit, out = self._place.pacer.limit(self._place.labels), list[Message]()
        while self._held and self._held[0].timestamp()[1] <= limit:
            out.append(self._held.popleft())
        ahead = self._held[0].timestamp()[1] if self._held else math.inf if at_end else -math.inf
        self._place.set_next(ahead)
        return Chunk(self._place.topic, self._place.partition, out) if out else None
