"""Pools: which entities learn together, and are watched together by the fleet alerts, in production.

A pool has the entities of one partition of the source and one shard. Kafka's own clients choose the partition by the
murmur2 hash of the message's key, which is the entity's name, those on librdkafka by its CRC-32; the shard follows from
a CRC-32, too.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from ssm_stream.config import Config
from ssm_stream.engine.entity_store import shard_of
from ssm_stream.evaluate.topic_partitions import Crc32Partitions, TopicPartitions

SEED, FACTOR, MASK = 0x9747B28C, 0x5BD1E995, 0xFFFFFFFF


def murmur2(data: bytes) -> int:
    """Return the hash of a key as Kafka's Java client computes it (`org.apache.kafka.common.utils.Utils.murmur2`)."""
    h = SEED ^ len(data)
    whole = len(data) & ~3
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i : i + 4], "little") * FACTOR & MASK
        k = (k ^ k >> 24) * FACTOR & MASK
        h = (h * FACTOR & MASK) ^ k
    if rest := data[whole:]:
        h = (h ^ int.from_bytes(rest, "little")) * FACTOR & MASK
    h = (h ^ h >> 13) * FACTOR & MASK
    return h ^ h >> 15


def partition_of(entity: str, partitions: int) -> int:
    """Return the partition of a message with this key: the choice of Java's clients and of `ssm-stream replay`.

    partitions: their number; as `Crc32Partitions`, the choice of librdkafka's clients; of a recorded topic, the
        partition is the one that the entity had there
    """
    if isinstance(partitions, TopicPartitions) and (found := partitions.by_entity.get(entity)) is not None:
        return found
    if isinstance(partitions, Crc32Partitions):
        return zlib.crc32(entity.encode()) % partitions
    return (murmur2(entity.encode()) & 0x7FFFFFFF) % partitions


class Pool(NamedTuple):
    """A pool, and the number of its entities."""

    partition: int
    shard: int
    entities: int

    def as_json(self) -> dict[str, int | str]:
        """Return it with the name that fleet alerts have for it."""
        return {"pool": f"{self.partition}-{self.shard}", **self._asdict()}


def pools_of(partition_by_entity: Mapping[str, int], shards: int) -> list[Pool]:
    """Return the pools that these entities form, by partition and shard."""
    count = Counter((partition, shard_of(name, shards)) for name, partition in partition_by_entity.items())
    return [Pool(*key, count[key]) for key in sorted(count)]


def other_partitioner(partition_by_entity: Mapping[str, int], partitions: int) -> str | None:
    """Return in a sentence that the topic's partitions are those that librdkafka's clients choose; None if not.

    partition_by_entity: of entities whose names are the keys of their messages
    """
    crc32 = Crc32Partitions(partitions)
    if partitions == 1 or any(partition_of(name, crc32) != at for name, at in partition_by_entity.items()):
        return None
    if all(partition_of(name, partitions) == at for name, at in partition_by_entity.items()):
        return None
    return (
        f"producers choose partitions by the CRC-32 of the key: the pools of production are those of `--partitions "
        f"{partitions}:crc32`"
    )


def small_pools(config: Config, pools: list[Pool]) -> int:
    """Return how many pools are too small for fleet alerts, although all entities together would not be."""
    rules = config.alerts.fleet
    if not (config.model.fleet and rules.enabled) or sum(pool.entities for pool in pools) < rules.min_entities:
        return 0
    return sum(pool.entities < rules.min_entities for pool in pools)


def describe_pools(config: Config, pools: list[Pool], partitions: int) -> str:
    """Return in a sentence how the entities are split, and what follows for fleet alerts.

    partitions: of the source, those without entities too
    """
    entities, shards = sum(pool.entities for pool in pools), config.state.shards
    split = f"{_many(entities, 'entity')} in {_many(partitions, 'partition')} × {_many(shards, 'shard')}"
    if not config.model.fleet:
        return f"{split}; each learns by itself (model.fleet: false)"
    text = f"{split} form {_many(len(pools), 'pool')}"
    small = small_pools(config, pools)
    if not small:
        return text
    which = "each with" if small == len(pools) else f"{small} of them with"
    return (
        f"{text}, {which} fewer than alerts.fleet.min_entities ({config.alerts.fleet.min_entities}): there a common "
        "cause is an alert for each entity. Fewer partitions, or fewer state.shards, keep a small fleet together"
    )


def expect_small_pools(config: Config) -> str | None:
    """Return in a sentence that the file by itself makes pools too small for fleet alerts; None if it does not.

    The file has the number of entities only with a team's budget, and partitions only if it lists them.
    """
    budget, rules = config.alerts.budget, config.alerts.fleet
    if budget is None or not (config.model.fleet and rules.enabled):
        return None
    partitions = len(config.source.partitions or [0])
    pools = partitions * config.state.shards
    if pools == 1 or budget.entities < rules.min_entities or budget.entities >= pools * rules.min_entities:
        return None
    return (
        f"{_many(budget.entities, 'entity')} (alerts.budget) in {_many(partitions, 'partition')} × "
        f"{_many(config.state.shards, 'shard')} are fewer a pool than alerts.fleet.min_entities "
        f"({rules.min_entities}): "
        "a common cause is an alert for each entity; lower state.shards keeps a small fleet together"
    )


def describe_budget(config: Config, entities: int, *, all_seen: bool = True) -> str | None:
    """Return in a sentence that the team's budget is for a far smaller or larger number of entities; None if it fits.

    Args:
        entities: that were seen
        all_seen: there are hardly others
    """
    budget = config.alerts.budget
    if budget is None or not (entities > 2 * budget.entities or (all_seen and 2 * entities < budget.entities)):
        return None
    more = "more than twice" if entities > budget.entities else "less than half"
    return (
        f"alerts.budget.entities is {budget.entities:,}, and there are {entities:,} entities, {more} as many: the team "
        f"gets {entities / budget.entities:.2g} times the false alarms that it accepts; correct the number"
    )


def _many(count: int, what: str) -> str:
    return f"{count:,} {what if count == 1 else what.replace('entity', 'entitie') + 's'}"
