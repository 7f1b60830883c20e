"""Runs a member of a group: a dataflow for as long as its partitions stay, then another one."""

from __future__ import annotations

import contextlib
import gc
import math
import sys
import time
from datetime import timedelta

import structlog
from bytewax.run import cli_main

from ssm_stream.config import ConfigError
from ssm_stream.engine.snapshot_format import StateError
from ssm_stream.flow.group.dataflow import build_member_flow, decoders
from ssm_stream.flow.group.health import GroupHealth
from ssm_stream.flow.group.keyed import require_keyed
from ssm_stream.flow.group.metrics import GroupMetrics
from ssm_stream.flow.group.whole_topics import WholeTopics, group_feedback
from ssm_stream.flow.runtime import Prepared
from ssm_stream.kafka.client import STOP, BrokerError, MissingRightError
from ssm_stream.kafka.membership.commit import CommitError
from ssm_stream.kafka.membership.topic import topic_id
from ssm_stream.operators.failures import restore_stderr
from ssm_stream.operators.group.member import Member
from ssm_stream.ops.observers import Observers
from ssm_stream.ops.server import probes_of_a_start
from ssm_stream.ops.supervisor import Supervisor
from ssm_stream.recovery.catch_up import read_catch_up
from ssm_stream.recovery.exclusions import read_rewinds, with_windows
from ssm_stream.recovery.store.audit import GroupAudit
from ssm_stream.recovery.store.blobs import StoreAwayError
from ssm_stream.recovery.store.flow_store import FlowStore
from ssm_stream.recovery.store.notes import local_notes

LOG = structlog.get_logger("ssm_stream")
MAX_PARTITION = 9999
"""The names of stored files have four digits for it."""
GIVEN_BACK = (10.0, 60.0)
"""Seconds for which a member that cannot read a state stays away: at first, and at most."""


def run_group(prepared: Prepared) -> None:
    """Run until a signal, or an error that joining again does not cure within `source.wait`; a missing right at once.

    Raises:
        ConfigError: the server cannot listen on `ops.address`.
        BrokerError, RecoveryError, …: as raised in the dataflow.
    """
    config, health = prepared.config, GroupHealth(prepared.metrics)
    if (last := max(prepared.partitions[config.source.topic])) > MAX_PARTITION:
        raise ConfigError(f"source.assignment: group: partition {last} of {config.source.topic!r}; a store has 10,000")
    require_keyed(config, len(prepared.partitions[config.source.topic]))
    metrics, observers, audit = GroupMetrics(prepared.metrics), prepared.observers, None
    with probes_of_a_start(config):  # the store may be away for as long as it is waited for
        store = FlowStore(config, topic_id(config.source))
        with local_notes(store.blobs) as notes:  # of a rewind: all members have stopped for it
            catch_up = read_catch_up(notes)
            config = with_windows(config, [each for made in read_rewinds(notes) for each in made.excluded])
        if config.audit.directory is not None:
            audit = GroupAudit(store.blobs, str(config.audit.directory), config.hash)
            observers = Observers(observers, audit)
    # As in `runtime`: the collector would walk what has no cycles, and workers would wait for each other.
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)
    sys.setswitchinterval(0.0005)
    supervisor = Supervisor(config, prepared.metrics, health, prepared.site, 0)

    def holds(partition: int) -> bool:
        return health.member is not None and partition in health.member.held

    feedback, partitions = group_feedback(config, observers, holds), len(prepared.partitions[config.source.topic])
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.closing(prepared.observers))
        stack.enter_context(supervisor)
        if feedback is not None:
            stack.enter_context(contextlib.closing(feedback))
            feedback.start()
        failing_since, away = math.inf, GIVEN_BACK[0]
        while not STOP.is_set():
            topics = WholeTopics(config, store.blobs, holds, partitions)
            decoder = decoders(config, observers, topics)
            member = Member(config, store, decoder, observers, catch_up, audit, topics.facts)
            health.member = metrics.member = member
            member.consumer.join()
            try:
                _run_member(member)
            except (StateError, CommitError) as error:
                LOG.error("partitions_given_back", error=str(error), again_in_s=away)
                member.consumer.leave()
                member.inputs.further.close()
                STOP.wait(away)
                away = min(2 * away, GIVEN_BACK[1])
                continue
            except (BrokerError, StoreAwayError) as error:
                failing_since = min(math.inf if member.commit_count else failing_since, time.monotonic())
                if isinstance(error, MissingRightError) or time.monotonic() - failing_since > config.source.wait:
                    raise
                LOG.warning("joining_again", error=str(error))
                STOP.wait(1.0)
            finally:
                restore_stderr()
                health.member = metrics.member = None
                member.consumer.leave(graceful=STOP.is_set())
                member.inputs.further.close()
                topics.close()
            away = GIVEN_BACK[0]


def _run_member(member: Member) -> None:
    """Run the dataflows of a member until the process ends.

    Raises:
        BrokerError, StateError, …: the member cannot go on; another one may.
    """
    failures = commits = 0
    failing_since = math.inf
    while member.begin():
        try:
            member.producer()  # what the broker refuses here ends this attempt, and no dataflow with its process
            cli_main(
                build_member_flow(member),
                workers_per_process=1,
                epoch_interval=timedelta(seconds=member.config.epoch_interval),
            )
        finally:
            member.end()
        if not member.aborted:
            continue
        if member.consumer.broken is not None:
            raise member.consumer.broken
        if member.failure is None:  # the group has given the partitions to others
            member.discard_producer()
            continue
        failures = 1 if member.commit_count > commits else failures + 1
        failing_since = min(math.inf if failures == 1 else failing_since, time.monotonic())
        commits = member.commit_count
        # By time, not by number: a rebalance may wait for the sessions of several members that are down.
        late = time.monotonic() - failing_since > member.config.source.wait
        if late or isinstance(member.failure, MissingRightError):
            raise member.failure
        LOG.warning("epoch_repeated", error=str(member.failure))
        time.sleep(min(0.05 * 2**failures, 1.0))
        member.restart()
