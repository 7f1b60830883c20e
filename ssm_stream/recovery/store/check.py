"""Checks that a store can be used, by a file that is written and deleted, and that the members can go on from it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

from ssm_stream.config import Config, ConfigError
from ssm_stream.kafka.client import BrokerError
from ssm_stream.kafka.cluster import Cluster
from ssm_stream.kafka.membership.commit import CommitError
from ssm_stream.kafka.membership.further import RESUME, further_sources
from ssm_stream.kafka.membership.stopped import read_commits
from ssm_stream.kafka.membership.topic import topic_id
from ssm_stream.kafka.topic_reader import open_topic
from ssm_stream.recovery.bytewax_db import RecoveryError
from ssm_stream.recovery.positions import Positions
from ssm_stream.recovery.store.blobs import Blobs
from ssm_stream.recovery.store.flow_store import open_blobs, require_same_flow
from ssm_stream.recovery.store.head import read_heads

FOLDER = "check"
NAME = "state"
"""Of the check whether members can go on."""


def check_store(config: Config) -> None:
    """Use the store as a member does.

    Raises:
        RecoveryError: it refuses, or does not have what was written.
        ConfigError: the extra for object stores is missing.
    """
    blobs, key, content = open_blobs(config), f"{FOLDER}/{uuid.uuid4().hex}", b"ssm-stream doctor"
    first = blobs.create(key, content)
    again = blobs.create(key, content)
    found, listed = blobs.read(key), [each.key for each in blobs.find(FOLDER)]
    blobs.delete([key])
    if found != content or key not in listed:
        raise RecoveryError(f"state.store: {blobs.place}: what was written is not there, or is not listed")
    if not first or again:
        raise RecoveryError(
            f"state.store: {blobs.place}: it writes over a file that was to be written only if absent: members need "
            "a store with conditional puts (If-None-Match)"
        )


def probe(config: Config) -> tuple[bool, str, str]:
    """Return whether the store can be used, what was found, and the cure, for `doctor`."""
    try:
        check_store(config)
    except (ConfigError, RecoveryError) as error:
        return False, str(error), "see docs/scaling.md, the store"
    return True, f"{config.state.store}: files can be written, read, listed and deleted", ""


def report_group(config: Config, cluster: Cluster) -> list[tuple[str, bool, str, str]]:
    """Return as a check what a member would refuse or go on without: name, whether a run starts, finding and cure;
    nothing where all partitions go on where they were, or the broker does not answer, which other checks show."""
    if config.state.store is None or config.source.topic not in cluster.topics:
        return []
    try:
        blobs = open_blobs(config)
        require_same_flow(blobs, config, topic_id(config.source))
        missing = list(_missing(config, _positions(config, blobs, cluster)))
    except (ConfigError, RecoveryError) as error:
        return [(NAME, False, str(error), "")]
    except (BrokerError, CommitError):
        return []
    if not missing:
        return []
    more = f" (and {len(missing) - 1} more partitions)" if len(missing) > 1 else ""
    found = f"the group goes on where {config.source.brokers} has no more: {missing[0]}{more}"
    if config.source.on_gap == "resume":
        return [(NAME, True, f"{found}; its members go on without them (source.on_gap: resume)", "")]
    return [(NAME, False, found, RESUME)]


def _positions(config: Config, blobs: Blobs, cluster: Cluster) -> Positions:
    """Return the next offsets that the group has committed; of partitions without, those in the store."""
    topic, found, heads = config.source.topic, Positions(), read_heads(blobs)
    for partition, commit in read_commits(config, cluster.partitions_of(topic)).items():
        if commit.offset is not None:
            found[topic, partition] = commit.offset
            found |= {(name, partition): offset for name, offset in commit.further}
        elif partition in heads:
            found |= heads[partition].positions(topic, partition)
    return found


def _missing(config: Config, positions: Positions) -> Iterator[str]:
    """Yield a line for each partition that no longer has the next offset."""
    for source in (config.source.each[0], *further_sources(config)):
        mine = {partition: offset for (topic, partition), offset in positions.items() if topic == source.topic}
        with open_topic(source) as reader:
            spans = reader.spans(sorted(mine))
        for partition, offset in sorted(mine.items()):
            if (begin := spans[partition].begin) > offset:
                where = f"{source.topic} partition {partition}"
                yield f"{where}: {begin - offset:,} offsets are missing ({offset:,} to {begin:,})"
