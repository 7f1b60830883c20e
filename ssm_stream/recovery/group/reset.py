"""Resets the state of a group, whose members have stopped: all of it, or one entity."""

from __future__ import annotations

import time

from ssm_stream.config import Config
from ssm_stream.engine.engine import Engine
from ssm_stream.kafka.membership.commit import Commit
from ssm_stream.kafka.membership.stopped import delete_commits, read_commits, require_stopped, write_commits
from ssm_stream.recovery import reset
from ssm_stream.recovery.bytewax_db import RecoveryError
from ssm_stream.recovery.ended_episodes import FILE, open_episodes
from ssm_stream.recovery.reader import StoredState, rebuild_config, unknown_entity
from ssm_stream.recovery.store.audit import StoredChain
from ssm_stream.recovery.store.flow_store import FlowStore, open_blobs
from ssm_stream.recovery.store.head import read_head, read_heads, replace_head
from ssm_stream.recovery.store.notes import write_note
from ssm_stream.recovery.store.reading import open_store


def reset_state(config: Config, *, dry: bool = False) -> str | None:
    """Move the whole state aside, wherever it is; returns the new place, or None with `dry`.

    Raises:
        RecoveryError: there is none, or it is in use.
        BrokerError: members of the group run: the text names them; or the broker does not answer.
    """
    if config.state.store is None:
        aside = reset.reset_state(config, dry=dry)
        return None if aside is None else str(aside)
    blobs = open_blobs(config)
    if not read_heads(blobs):
        raise RecoveryError(f"state.store: {blobs.place} holds no state: there is nothing to reset")
    require_stopped(config)
    if dry:
        return None
    with open_store(config) as stored:
        ended = open_episodes(stored, config)
    # Without its offsets the group goes on from the heads: a kill in between changes nothing.
    delete_commits(config)
    aside_ = blobs.move_aside(time.strftime("%Y%m%d-%H%M%S"))
    if ended:
        write_note(blobs, FILE, {"episodes": ended})
    return aside_


def reset_entity(config: Config, entity: str, *, dry: bool = False) -> str:
    """Delete one entity from the state, wherever it is; returns its shard, in a group its partition.

    Raises:
        RecoveryError: the state is in use or damaged, or has no such entity.
        StateError: the state of its shard is damaged.
        BrokerError: members of the group run: the text names them; or the broker does not answer.
    """
    if config.state.store is None:
        return reset.reset_entity(config, entity, dry=dry)
    require_stopped(config)
    with open_store(config) as stored:
        shard, made = _find(stored, config, entity)
    if not dry:
        store, partition = FlowStore(config), int(shard)
        head = read_head(store.blobs, partition)
        commit = read_commits(config, [partition])[partition]
        if head is not None and commit.offset not in (None, head.offset):
            raise RecoveryError(
                f"partition {partition}: the group has committed offset {commit.offset}, and the store has a state at "
                f"{head.offset}: start a member and stop it, and try again"
            )
        assert head is not None
        snapshots = store.partition(partition)
        engine = snapshots.restore(made, head.name)
        engine.remove(entity)
        name = snapshots.write(engine, head.number)
        snapshots.wait()
        if config.audit.directory is not None:
            chain = StoredChain(store.blobs, str(config.audit.directory), made.hash, shard, head.name)
            chain.write_reset(name, entity)
            chain.wait()
        write_commits(config, {partition: Commit(head.offset, name, further=head.further)})
        now = time.time_ns() // 1_000_000
        replace_head(store.blobs, partition, head._replace(name=name, at=now, files=snapshots.files))
    return shard


def _find(stored: StoredState, config: Config, entity: str) -> tuple[str, Config]:
    for shard in stored.chains:
        engine: Engine = stored.engine(shard, config)
        if entity in engine:
            return shard, rebuild_config(stored.metadata(shard), config)
    raise unknown_entity(entity, stored.place)
