"""The partitions of a recorded topic."""

from __future__ import annotations

from collections.abc import Mapping


class TopicPartitions(int):
    """The number of partitions of a recorded topic, with the partition that each entity's first event came by."""

    by_entity: Mapping[str, int]

    def __new__(cls, count: int, by_entity: Mapping[str, int]) -> TopicPartitions:
        self = super().__new__(cls, count)
        self.by_entity = by_entity
        return self
