"""Rewinds the state of a recovery directory. A kill leaves either the old state or the new one."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime
from typing import Any

from ssm_stream.config import Config
from ssm_stream.engine.episodes.ids import Ended
from ssm_stream.ingest.timestamps import ms_to_iso
from ssm_stream.kafka.transactional_producer import read_markers
from ssm_stream.ops.audit import user_and_machine
from ssm_stream.recovery.bytewax_db import LABELS_PREFIX, RecoveryError, SnapshotRow, parse_source_part
from ssm_stream.recovery.catch_up import CATCH_UP, CatchUp, read_catch_up, remove_undelivered
from ssm_stream.recovery.checkpoint_files import FOLDER, TOKEN, referenced_file
from ssm_stream.recovery.directory import fill_databases
from ssm_stream.recovery.exclusions import EXCLUSIONS, Rewind, read_rewinds
from ssm_stream.recovery.generations.store import FolderStore
from ssm_stream.recovery.positions import Positions
from ssm_stream.recovery.reader import StoredState, require_directory, with_state
from ssm_stream.recovery.replacement import replacement
from ssm_stream.recovery.reset import locked_state
from ssm_stream.recovery.rewind.plan import Plan, Request, make_plan
from ssm_stream.recovery.settings_files import write_json

ABSENT = "there is nothing to rewind"


def plan_rewind(config: Config, request: Request) -> tuple[Plan, str | None]:
    """Return what a rewind would do, and the id of the process that runs on the state, if one does.

    Args:
        config: as its state was learned

    Raises:
        RecoveryError, StateError, BrokerError: as of `make_plan`; or the directory is damaged.
    """
    directory = require_directory(config)
    if not directory.exists():
        raise RecoveryError(f"recovery.directory: {directory} does not exist: {ABSENT}")
    return with_state(directory, lambda stored: (make_plan(config, stored, request), stored.owner))


def rewind(config: Config, request: Request) -> Plan:
    """Set the state back to a kept generation; the next start reads again what came after it.

    Args:
        config: as its state was learned

    Raises:
        RecoveryError: the directory is in use or damaged, or there is no generation, or the broker no longer has all
            of the events.
        StateError: the configuration cannot continue with it.
        BrokerError: the broker does not answer.
    """
    with locked_state(config, ABSENT, dry=False) as stored:
        plan = make_plan(config, stored, request)
        require_messages(plan)
        catch_up = plan_catch_up(config, stored, plan)
        generation, store = plan.generation, FolderStore(stored.directory)
        store.fetch(generation, stored.directory / FOLDER)
        rewinds = [*read_rewinds(stored.directory), rewind_record(request)]
        with replacement(stored.directory) as folder:
            rows = [
                (row.part, row.step, row.key, row.epoch, pickle.dumps(value))
                for row in stored.rows
                if (value := _value(row, stored, plan)) is not None or row.value is None
            ]
            fill_databases(folder, stored.parts, stored.epoch, rows)
            write_json(folder / CATCH_UP, catch_up.to_json())
            write_json(folder / EXCLUSIONS, {"rewinds": [each.to_json() for each in rewinds]})
            # They have learned what is to be forgotten. Before the new state counts: no later rewind may choose them.
            store.remove(each for each in store.all() if each.taken > generation.taken)
        remove_undelivered(stored.directory)
    return plan


def require_messages(plan: Plan) -> None:
    """Check that the broker still has what is to be read again.

    Raises:
        RecoveryError: it has not.
    """
    if plan.lost:
        raise RecoveryError(
            f"{plan.lost:,} of the {plan.events:,} messages to be read again are no longer on the broker: what "
            "they would teach would be missing. Nothing was changed"
        )


def rewind_record(request: Request) -> Rewind:
    """Return the record of a rewind that is made now."""
    at = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return Rewind(at, user_and_machine(), ms_to_iso(request.to), request.excluded)


def _value(row: SnapshotRow, stored: StoredState, plan: Plan) -> Any:
    """Return the new value of a row: a position, or the name of a shard's file; None: it has none any more.

    Verdicts of operators and markers of what was delivered stay.
    """
    if isinstance(row.value, bytes) and referenced_file(row.value):
        shard = plan.generation.shards.get(row.key)
        return None if shard is None else TOKEN + shard.files[-1].encode()
    if type(row.value) is not int or row.step.endswith("feedback"):
        return row.value
    labels, names = plan.config.labels, plan.config.source.names
    index, partition = parse_source_part(row.key.removeprefix(LABELS_PREFIX))
    if index >= len(names):
        return row.value  # of a topic that was taken out
    topic = names[index]
    if row.key.startswith(LABELS_PREFIX) and labels is not None and labels.topic is not None:
        topic = labels.topic
    place = topic, partition
    return next((each.begin for each in plan.partitions if (each.topic, each.partition) == place), row.value)


def plan_catch_up(config: Config, stored: StoredState, plan: Plan) -> CatchUp:
    """Return what the next runs have to bear in mind: what was delivered, and which episodes consumers see as open."""
    before = read_catch_up(stored.directory)
    now: Positions = {(each.topic, each.partition): each.end for each in plan.partitions}
    delivered, caught_up, open_ = dict(now), dict(now), list[Ended]()
    if config.delivery == "exactly_once" and not stored.by_partition:  # a group commits with its results
        for at, offset in read_markers(config, now).items():
            caught_up[at] = max(offset, now[at])
    waiting = set[int]()
    if before is not None:  # the last rewind may not have caught up yet
        for at, position in now.items():
            delivered[at] = max(position, before.delivered.get(at, 0))
            caught_up[at] = max(caught_up[at], delivered[at], before.caught_up.get(at, 0))
            if at[0] in config.source.names and position <= before.caught_up.get(at, -1):
                waiting.add(config.source.number(*at))
        open_ = [each for each in before.open if each.started.pool[1] in waiting]
    for shard in stored.chains:
        found = stored.engine(shard, config).episodes.open("rewind")
        open_ += [each for each in found if each.started.pool[1] not in waiting]
    shards = {*stored.chains, *plan.generation.shards, *(before.shards if before is not None else [])}
    read = {key: shard.read for key, shard in plan.generation.shards.items() if shard.read}
    return CatchUp(delivered, caught_up, read, open_, sorted(shards), len(read_rewinds(stored.directory)) + 1)
