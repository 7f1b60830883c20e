"""What entities have learned goes along when partitions are added to a topic.

Producers that hash keys then send most entities elsewhere. An entity's own state is kept by its name, so that it goes
on in any partition. Two things are kept by partition: the pool, what the entities of a shard and a partition have
learned together, and the clock by which an entity is overdue. So a new partition p begins with a copy of the pool of p
modulo the former number of partitions, from which its entities come where the number is multiplied; and an entity that
a hash of its name sends to a new partition is judged by the clock there, so that its former place does not miss it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

import structlog

from ssm_stream.config import Config
from ssm_stream.engine.engine import Engine
from ssm_stream.evaluate.pools import murmur2
from ssm_stream.recovery.bytewax_db import LABELS_PREFIX, SOURCE_STEP, source_part
from ssm_stream.recovery.checkpoint_files import FOLDER, ShardCheckpoints
from ssm_stream.recovery.reader import StoredState, read_sound_state, rebuild_config
from ssm_stream.recovery.reset import name_file

LOG = structlog.get_logger("ssm_stream")
HASHES: tuple[Callable[[bytes], int], ...] = (lambda key: murmur2(key) & 0x7FFFFFFF, zlib.crc32)
"""Of the Java clients, and of librdkafka."""


class Added(NamedTuple):
    """A topic with more partitions than its state has read."""

    topic: str
    before: int
    now: int


def begun_topics(config: Config) -> frozenset[str]:
    """Return the topics that the state has read some of: what is added to them is read from its beginning. The
    directory is open (`open_recovery`), and the databases are closed."""
    directory = config.recovery.directory
    if directory is None:
        return frozenset()
    return frozenset(topic for topic, _, _ in read_sound_state(directory).positions(config))


def resting_parts(config: Config, partitions: Mapping[str, tuple[int, ...]]) -> frozenset[str]:
    """Return the source partitions that the state has read and this run does not: their positions stay. The directory
    is as for `begun_topics`. partitions: that are read, by topic"""
    directory = config.recovery.directory
    if directory is None:
        return frozenset()
    read = {source_part(i, each) for i, topic in enumerate(config.source.names) for each in partitions[topic]}
    if config.labels is not None and config.labels.topic is not None:
        read |= {LABELS_PREFIX + source_part(0, each) for each in partitions[config.labels.topic]}
    rows = read_sound_state(directory).rows
    return frozenset(row.key for row in rows if row.step.endswith(SOURCE_STEP) and row.key not in read)


def follow_added(config: Config, partitions: Mapping[str, tuple[int, ...]]) -> list[Added]:
    """Let what was learned go along to the partitions that were added since; the directory is as for `begun_topics`.

    A kill leaves some shards as they were, and the next start goes on with them.

    Args:
        config: as the state goes on
        partitions: that are there now, by topic
    """
    directory = config.recovery.directory
    if directory is None or config.source.partitions is not None:
        return []
    stored = read_sound_state(directory)
    known = dict[str, set[int]]()
    for topic, partition, _ in stored.positions(config):
        known.setdefault(topic, set()).add(partition)
    found = []
    for topic in config.source.names:
        before, now = known.get(topic, set()), partitions.get(topic, ())
        if before and before == set(range(len(before))) and len(now) > len(before):
            found.append(Added(topic, len(before), len(now)))
    moved = sum(_follow(config, stored, shard, found) for shard in stored.chains) if found else 0
    # In which partition an entity was is known of its clock alone: without one, 0 would be no count.
    count = {} if config.alerts.silence is None else {"entities_moved": moved}
    for each in found:
        LOG.info("partitions_added", topic=each.topic, before=each.before, now=each.now, **count)
    return found


def _follow(config: Config, stored: StoredState, shard: str, added: list[Added]) -> int:
    """Change one shard; returns the number of entities that are judged by another clock."""
    files = ShardCheckpoints(stored.directory / FOLDER)
    made = rebuild_config(stored.metadata(shard), config)
    engine = files.restore(made, stored.chains[shard][-1].name)
    copied, moved = 0, 0
    for each in added:
        places = {
            config.source.number(each.topic, new): config.source.number(each.topic, new % each.before)
            for new in range(each.before, each.now)
        }
        copied += copy_pools(engine, places)
        if engine.episodes.rules is not None:
            moved += engine.episodes.rules.move(_movers(config, each))
    if copied or moved:
        token = files.write(engine)
        files.finish()
        name_file(stored, shard, token)
    return moved


def copy_pools(engine: Engine, places: Mapping[int, int]) -> int:
    """Give sources that have no pool yet a copy of another's; returns how many. places: new source → the one copied"""
    copied = 0
    for each in engine.target_engines:
        store = each.store
        if not store.config.model.fleet:
            continue
        for shard, source in list(store.pools):
            for new in (new for new, old in places.items() if old == source and (shard, new) not in store.pools):
                row = store.create_pool(shard, new)
                store.pool_block[row] = store.pool_block[store.pools[shard, source]]
                store.needs_full_snapshot = True
                copied += 1
    return copied


def _movers(config: Config, added: Added) -> Callable[[str, int], int]:
    """Return a function of an entity and its source, which returns the source where it comes from now on."""
    old = {config.source.number(added.topic, partition): partition for partition in range(added.before)}

    def move(entity: str, source: int) -> int:
        key, partition = entity.encode(), old.get(source)
        for hashed in [call(key) for call in HASHES]:
            if partition is not None and hashed % added.before == partition:
                return config.source.number(added.topic, hashed % added.now)
        return source

    return move
