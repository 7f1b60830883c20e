"""The partitions of a topic: of a recorded one, or as the producers choose them by the key."""

from __future__ import annotations

from collections.abc import Mapping

MAX_PARTITIONS = 100_000


class TopicPartitions(int):
    """The number of partitions of a recorded topic, with the partition that each entity's first event came by."""

    by_entity: Mapping[str, int]

    def __new__(cls, count: int, by_entity: Mapping[str, int]) -> TopicPartitions:
        self = super().__new__(cls, count)
        self.by_entity = by_entity
        return self


class Crc32Partitions(int):
    """The number of partitions of a topic whose producers choose by the CRC-32 of the key: clients on librdkafka (C,
    Python, Go, .NET, PHP) by default, where Java's, and `ssm-stream replay`, choose by murmur2."""


def parse_partitions(text: str | int) -> int:
    """Return the partitions that an option names: `6`, or `6:crc32`, or `6:murmur2`.

    Raises:
        ValueError: it names none.
    """
    number, _, partitioner = str(text).partition(":")
    if not number.isdecimal() or not 1 <= int(number) <= MAX_PARTITIONS or partitioner not in ("", "murmur2", "crc32"):
        raise ValueError(f"found {text!r}; write a number from 1 to {MAX_PARTITIONS:,}, or such as 6:crc32")
    return Crc32Partitions(number) if partitioner == "crc32" else int(number)
