"""Lets a state go on where its position is gone: all that was learned stays. A kill leaves the old state or the new."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime
from typing import Any

import structlog

from ssm_stream.config import Config
from ssm_stream.engine.snapshot_format import StateError
from ssm_stream.kafka.client import BrokerError
from ssm_stream.kafka.cluster import Cluster, check_broker
from ssm_stream.kafka.producer import Marker
from ssm_stream.kafka.transactional_producer import write_markers
from ssm_stream.ops.audit import user_and_machine
from ssm_stream.recovery.bytewax_db import LABELS_PREFIX, RecoveryError, SnapshotRow, source_part
from ssm_stream.recovery.catch_up import CATCH_UP, read_catch_up
from ssm_stream.recovery.directory import fill_databases
from ssm_stream.recovery.generations.store import FolderStore
from ssm_stream.recovery.reader import StoredState, read_sound_state, require_directory, with_state
from ssm_stream.recovery.replacement import replacement
from ssm_stream.recovery.reset import locked_state
from ssm_stream.recovery.resume.gaps import GAPS, UNKNOWN, Gap, gaps_to_json, read_gaps, remove_notes
from ssm_stream.recovery.resume.plan import EARLIEST, Place, Plan, Request, make_plan
from ssm_stream.recovery.settings_files import write_json

LOG = structlog.get_logger("ssm_stream")
NAME = "state"
"""Of the check."""
ABSENT = "there is nothing to resume"
CURE = (
    "to go on with all that was learned: ssm-stream state resume CONFIG --from earliest (or latest, or a time); or set "
    "source.on_gap: resume"
)

OF_GROUP = (
    "state.store: the state is in the store of a group, which this command does not change: where retention passed the "
    "position, set source.on_gap: resume, and members go on with all that was learned; for a topic that was made anew, "
    "write a source.group of its own, which learns anew"
)


def plan_resume(config: Config, request: Request) -> tuple[Plan, str | None]:
    """Return what a resume would do, and the id of the process that runs on the state, if one does.

    Raises:
        RecoveryError, StateError: the directory is absent or damaged.
        BrokerError: the broker refuses, or does not answer.
    """
    _refuse_group(config)
    directory = require_directory(config)
    if not directory.exists():
        raise RecoveryError(f"recovery.directory: {directory} does not exist: {ABSENT}")
    cluster = check_broker(config.source)
    return with_state(directory, lambda stored: (make_plan(config, stored, request, cluster), stored.owner))


def resume(config: Config, request: Request) -> Plan:
    """Set the positions to where the next run goes on; returns what was done.

    Raises:
        RecoveryError: the directory is in use, absent or damaged.
        BrokerError: the broker refuses, or does not answer.
    """
    _refuse_group(config)
    with locked_state(config, ABSENT, dry=False) as stored:
        plan = make_plan(config, stored, request, check_broker(config.source))
        if not plan.empty:
            _apply(config, stored, plan, user_and_machine())
    return plan


def _refuse_group(config: Config) -> None:
    if config.state.store is not None:
        raise RecoveryError(OF_GROUP)


def check_positions(config: Config, cluster: Cluster) -> None:
    """Resume a state whose positions are gone, with `source.on_gap: resume`; refuse it otherwise. The directory is open
    (`open_recovery`), and the databases are closed.

    Raises:
        BrokerError: a position is gone; the text has the number of missing offsets and the cure.
    """
    directory, unattended = config.recovery.directory, config.source.on_gap == "resume"
    if directory is None or (stored := read_sound_state(directory)).empty:
        return
    plan = make_plan(config, stored, Request(EARLIEST, EARLIEST), cluster, markers=unattended)
    if plan.empty:
        return
    if not unattended:
        raise BrokerError(_found(config, plan), CURE)
    for each in plan.moved:
        if each.gone:
            LOG.warning("partition_gone", topic=each.topic, partition=each.partition, position=each.position)
            continue
        LOG.warning(
            "gap", topic=each.topic, partition=each.partition, missing=each.missing, position=each.position, to=each.to
        )
    for marker in plan.markers:
        LOG.warning("marker_set", **marker._asdict())
    _apply(config, stored, plan, "source.on_gap")


def report_positions(config: Config, cluster: Cluster) -> list[tuple[str, bool, str, str]]:
    """Return as a check what `check_positions` would refuse or resume: name, whether a run starts, finding and cure;
    nothing where the state goes on where it was, or a topic cannot be read, which other checks show."""
    directory = config.recovery.directory
    if directory is None or not directory.is_dir():
        return []
    request = Request(EARLIEST, EARLIEST)
    try:
        plan = with_state(directory, lambda stored: make_plan(config, stored, request, cluster, markers=False))
    except (RecoveryError, StateError) as error:
        return [(NAME, False, str(error), "")]
    except BrokerError:
        return []
    if not plan.moved:
        return []
    if config.source.on_gap == "resume":
        return [(NAME, True, f"{_found(config, plan)}; the next run goes on without them (source.on_gap: resume)", "")]
    return [(NAME, False, _found(config, plan), CURE)]


def _found(config: Config, plan: Plan) -> str:
    lines = [each.text.rpartition(";")[0] for each in plan.moved]
    more = f" (and {len(lines) - 1} more partitions)" if len(lines) > 1 else ""
    return f"the recovery state continues where {config.source.brokers} has no more: {lines[0]}{more}"


def _apply(config: Config, stored: StoredState, plan: Plan, by: str) -> None:
    # The broker's markers first: a state that is ahead of them is refused, and then resumed again.
    markers: dict[str, Marker] = {}
    for move in plan.markers:
        markers.setdefault(move.writer, {})[move.topic, move.partition] = move.to
    write_markers(config, markers)
    before = read_gaps(stored.directory)
    number, at = (before[-1].number if before else 0) + 1, datetime.now(UTC).isoformat(timespec="seconds")
    gaps = [
        Gap(number, each.topic, each.partition, each.position, each.to,
            UNKNOWN if each.missing is None else each.missing, at.replace("+00:00", "Z"), by)
        for each in plan.moved if not each.gone
    ]  # fmt: skip
    anew = {each.topic for each in plan.moved if each.anew}
    with replacement(stored.directory) as folder:
        rows = [
            (row.part, row.step, row.key, row.epoch, pickle.dumps(_value(row, config, plan)))
            for row in stored.rows
            if (place := _place(row, config, plan)) is None or not place.gone
        ]
        fill_databases(folder, stored.parts, stored.epoch, rows)
        if gaps:
            write_json(folder / GAPS, gaps_to_json([*before, *gaps]))
        if (catch_up := read_catch_up(stored.directory)) is not None and gaps:
            moved = {(each.topic, each.partition): each.to for each in plan.moved}
            new = {at: to for at, to in moved.items() if at[0] in anew}
            read = {
                shard: {at: offset for at, offset in own.items() if at not in new}
                for shard, own in catch_up.read.items()
            }
            caught_up = {at: max(moved.get(at, 0), new.get(at, offset)) for at, offset in catch_up.caught_up.items()}
            delivered, caught_up = {**catch_up.delivered, **new}, caught_up | new
            for gone in ((each.topic, each.partition) for each in plan.places if each.gone):
                delivered.pop(gone, None)
                caught_up.pop(gone, None)
            found = catch_up._replace(delivered=delivered, caught_up=caught_up, read=read)
            write_json(folder / CATCH_UP, found.to_json())
        if anew:  # their positions are those of a topic that is no more
            store = FolderStore(stored.directory)
            store.remove(store.all())
    if gaps:
        remove_notes(stored.directory)


def _value(row: SnapshotRow, config: Config, plan: Plan) -> Any:
    """Return the new value of a row: a position, or the marker of a writer; others stay."""
    if isinstance(row.value, dict) and row.step.endswith("sink"):
        return plan.rows.get(row.key, row.value)
    place = _place(row, config, plan)
    return row.value if place is None else place.to


def _place(row: SnapshotRow, config: Config, plan: Plan) -> Place | None:
    """Return the place in the plan of a row that is a position; None: it is none, or the plan has none."""
    if type(row.value) is not int:
        return None
    return next((each for each in plan.places if _names(row, config, each.topic, each.partition)), None)


def _names(row: SnapshotRow, config: Config, topic: str, partition: int) -> bool:
    """Return whether a row is the position of a topic's partition."""
    names, labels, feedback = config.source.names, config.labels, config.alerts.feedback
    if row.step.endswith("feedback"):
        return feedback is not None and topic == feedback.topic and row.key == source_part(0, partition)
    if row.key.startswith(LABELS_PREFIX):
        part = row.key.removeprefix(LABELS_PREFIX)
        return labels is not None and topic == labels.topic and part == source_part(0, partition)
    return topic in names and row.key == source_part(names.index(topic), partition)
