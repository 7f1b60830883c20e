"""Rewinds the state of a group, whose members have stopped: each partition to a kept state of its own."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ssm_stream.config import Config
from ssm_stream.engine.snapshot_format import StateError
from ssm_stream.kafka.membership.commit import Commit
from ssm_stream.kafka.membership.stopped import require_stopped, running_members, write_commits
from ssm_stream.recovery.bytewax_db import RecoveryError
from ssm_stream.recovery.catch_up import CATCH_UP, UNDELIVERED
from ssm_stream.recovery.checkpoint_files import FOLDER, Checkpoint
from ssm_stream.recovery.exclusions import EXCLUSIONS, read_rewinds, with_windows
from ssm_stream.recovery.generations.store import GENERATIONS, Generation, ShardGeneration
from ssm_stream.recovery.reader import StoredState
from ssm_stream.recovery.rewind import rewind as directory
from ssm_stream.recovery.rewind.plan import Plan, Request, choose, plan_for
from ssm_stream.recovery.rewind.rewind import plan_catch_up, require_messages, rewind_record
from ssm_stream.recovery.store.blobs import Blobs
from ssm_stream.recovery.store.chain import read_checkpoints
from ssm_stream.recovery.store.flow_store import open_blobs
from ssm_stream.recovery.store.head import Head, read_heads, replace_head
from ssm_stream.recovery.store.kept import read_kept
from ssm_stream.recovery.store.notes import write_note
from ssm_stream.recovery.store.reading import open_store


class _Kept(NamedTuple):
    """The files of the chosen states, in a folder of this machine."""

    files: Path

    def chain(self, shard: ShardGeneration) -> list[Checkpoint]:
        """Return the files of a partition's state."""
        return read_checkpoints(self.files, shard.files[-1])


def plan_rewind(config: Config, request: Request) -> tuple[Plan, str | None]:
    """Return what a rewind would do, and what runs on the state, if something does.

    Raises:
        RecoveryError, StateError, BrokerError: as of `make_plan`; or the state is damaged.
    """
    if config.state.store is None:
        return directory.plan_rewind(config, request)
    with _planned(config, request) as (plan, _):
        members = running_members(config)
        return plan, "; ".join(each.text for each in members) or None


def rewind(config: Config, request: Request) -> Plan:
    """Set the state back to kept states; the next start reads again what came after them.

    Raises:
        RecoveryError: the state is in use or damaged, or none is kept, or the broker no longer has all of the events.
        StateError: the configuration cannot continue with it.
        BrokerError: members of the group run: the text names them; or the broker does not answer.
    """
    if config.state.store is None:
        return directory.rewind(config, request)
    require_stopped(config)
    with _planned(config, request) as (plan, stored):
        require_messages(plan)
        catch_up = plan_catch_up(config, stored, plan)
        blobs = open_blobs(config)
        made = [*read_rewinds(stored.directory), rewind_record(request)]
        write_note(blobs, CATCH_UP, catch_up.to_json())
        write_note(blobs, EXCLUSIONS, {"rewinds": [each.to_json() for each in made]})
        heads = _heads(config, plan.generation)
        # From here on the new state counts.
        write_commits(config, {p: Commit(head.offset, head.name, further=head.further) for p, head in heads.items()})
        for partition, head in heads.items():
            replace_head(blobs, partition, head)
        _forget(blobs, heads, catch_up.number)
    return plan


@contextlib.contextmanager
def _planned(config: Config, request: Request) -> Iterator[tuple[Plan, StoredState]]:
    """Yield what a rewind would do, and the present state; files are in folders of this machine for as long."""
    blobs = open_blobs(config)
    if not read_heads(blobs):
        raise RecoveryError(f"state.store: {blobs.place} holds no state: there is nothing to rewind")
    with open_store(config) as stored:
        windows = [each for made in read_rewinds(stored.directory) for each in made.excluded]
        generation = _choose(config, blobs, request)
        with blobs.fetch(FOLDER, generation.files) as files:
            try:
                plan = plan_for(with_windows(config, windows), stored, request, generation, _Kept(files))
            except StateError as error:
                raise StateError(f"{error}: choose an earlier state (--to)") from error
            yield plan, stored


def _choose(config: Config, blobs: Blobs, request: Request) -> Generation:
    """Return the kept states of all partitions that have learned nothing from the time on, as one.

    Raises:
        RecoveryError: a partition has none.
    """
    found = []
    for partition in read_heads(blobs):
        try:
            found.append(choose(read_kept(blobs, partition), request))
        except RecoveryError as error:
            raise RecoveryError(f"partition {partition}: {error}") from error
    times = [each.time for each in found if each.time is not None]
    return Generation(
        max(each.taken for each in found),
        max(times) if times else None,
        {at: offset for each in found for at, offset in each.positions.items()},
        {key: shard for each in found for key, shard in each.shards.items()},
    )


def _heads(config: Config, generation: Generation) -> dict[int, Head]:
    now, first, found = time.time_ns() // 1_000_000, config.source.topic, dict[int, Head]()
    for key, shard in generation.shards.items():
        own = {topic: offset for (topic, partition), offset in generation.positions.items() if partition == int(key)}
        offset = own.pop(first)
        found[int(key)] = Head(shard.files[-1], offset, now, shard.files, tuple(sorted(own.items())))
    return found


def _forget(blobs: Blobs, heads: dict[int, Head], number: int) -> None:
    """Delete kept states that have learned what is to be forgotten, and what earlier rewinds have left."""
    for partition, head in heads.items():
        later = [each for each in read_kept(blobs, partition) if sum(each.positions.values()) > head.number]
        blobs.delete(f"{GENERATIONS}/{partition:04d}/{each.taken:013d}.json" for each in later)
    keys = [each.key for each in blobs.find("") if each.key.startswith(UNDELIVERED)]
    blobs.delete(key for key in keys if not key.startswith(f"{UNDELIVERED}{number}-"))
