"""From a configuration to a running dataflow: checks, start, and stop."""

from __future__ import annotations

import contextlib
import gc
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import structlog
from bytewax.dataflow import Dataflow
from bytewax.run import cli_main

from ssm_stream.autoconfig.feature_selection import SAMPLE, select_features
from ssm_stream.config import Config, ConfigError, load_config
from ssm_stream.config.client_properties import security_warnings
from ssm_stream.flow.dataflow import build
from ssm_stream.flow.feedback import feedback_topic
from ssm_stream.kafka.client import STOP, BrokerError
from ssm_stream.kafka.cluster import Cluster, check_broker
from ssm_stream.kafka.context.rows import RowFacts, row_facts
from ssm_stream.kafka.foresight.topics import require_foreseen
from ssm_stream.kafka.formats.messages import message_format
from ssm_stream.kafka.formats.outputs import open_outputs
from ssm_stream.kafka.formats.registry import open_registry
from ssm_stream.kafka.groups.earlier_runs import earlier_run
from ssm_stream.kafka.repartition.thread import repartitioning
from ssm_stream.kafka.topic_head import first_documents
from ssm_stream.kafka.transactional_producer import require_transactions
from ssm_stream.operators.failures import restore_stderr
from ssm_stream.operators.source import SIGNALLED, labels_topic, stop_on_signals
from ssm_stream.ops.audit import Audit
from ssm_stream.ops.health import Health
from ssm_stream.ops.metrics import Metrics
from ssm_stream.ops.observers import MountedSite, Observers, RunObserver
from ssm_stream.ops.supervisor import Supervisor
from ssm_stream.ops.traces import Traces
from ssm_stream.recovery.added_partitions import begun_topics, follow_added, resting_parts
from ssm_stream.recovery.bytewax_db import FIRST_EPOCH, RecoveryError, on_disk_of_bytewax
from ssm_stream.recovery.catch_up import PendingCatchUp, pending_catch_up
from ssm_stream.recovery.checkpoint_files import flush
from ssm_stream.recovery.compatibility import require_compatible
from ssm_stream.recovery.directory import (
    OpenRecovery,
    epoch_interval,
    join_recovery,
    make_directory,
    note_clean_end,
    open_recovery,
    writable_by_others,
)
from ssm_stream.recovery.generations.keeper import Keeper
from ssm_stream.recovery.resume.gaps import missing_offsets
from ssm_stream.recovery.resume.resume import check_positions
from ssm_stream.recovery.settings_files import (
    as_learned,
    read_feature_selection,
    write_feature_selection,
    write_holidays,
    write_runtime_settings,
)

LOG = structlog.get_logger("ssm_stream")


class Prepared(NamedTuple):
    """A run that may start: brokers have answered, topics exist, the recovery directory is locked. It is the `Service`
    of its dataflow."""

    settings: Config
    config: Config  # with its features, also for `event.features: auto`
    files: bool
    until_eof: bool
    partitions: dict[str, tuple[int, ...]]
    recovery: OpenRecovery | None
    catch_up: PendingCatchUp | None
    observers: Observers
    metrics: Metrics
    health: Health
    site: MountedSite | None
    begun: frozenset[str] = frozenset()
    facts: RowFacts | None = None
    resting: frozenset[str] = frozenset()

    @property
    def interrupted(self) -> bool:
        """Whether a run before may have put out results past the positions that this one begins at."""
        # What a dead writer has put out past them is aborted.
        return self.config.delivery == "at_least_once" and (self.recovery is None or self.recovery.interrupted)

    @property
    def flow(self) -> Dataflow:
        """Its dataflow."""
        return build(self)


def prepare(
    config: Config | str | Path,
    *,
    until_eof: bool = False,
    lock: bool = True,
    cluster: bool = False,
    ui: bool = False,
    embedded: bool = False,
) -> Prepared:
    """Check brokers, topics and the recovery directory.

    Args:
        config: the configuration or its file
        until_eof: end at the end of the topic instead of waiting for more
        lock: lock and prune the recovery directory; in a cluster of processes only the first one does
        cluster: this is one of several processes that share the topic
        ui: serve the live page even if `ops.ui` is false
        embedded: Bytewax runs already, with a recovery of its own that the state is in

    Raises:
        ConfigError, BrokerError, RecoveryError, StateError: a check failed; the text names the cure.
    """
    settings = config = config if isinstance(config, Config) else load_config(config)
    for weakness in security_warnings({**config.source.kafka, **config.sinks.kafka}):
        LOG.warning("weak_protection", what=weakness)
    if (directory := config.recovery.directory) is not None and writable_by_others(directory):
        LOG.warning("recovery_directory_open_to_others", directory=str(directory), cure=f"chmod 700 {directory}")
    sources = [*config.source.each, labels_topic(config), feedback_topic(config)]
    further = [config.control_topic, config.source.repartition, *(each.topic for each in config.source.context)]
    named = [*config.sinks.topics, *(each.topic for each in sources if each is not None), *further]
    brokers = check_broker(config.source, [topic for topic in named if topic is not None], log_wait=True)
    partitions = {source.topic: brokers.source_partitions(source) for source in sources if source is not None}
    for topic in further:
        if topic is not None:
            brokers.partitions_of(topic)
    _require_sinks(config, brokers)
    require_foreseen(config, brokers)
    if not SIGNALLED.is_set():
        STOP.clear()  # of the run before, in this process
    _require_registry(config)
    if config.delivery == "exactly_once":
        require_transactions(brokers)
    recovery = None
    if embedded:
        _prepare_embedded(config)
    else:
        recovery = open_recovery(config) if lock else join_recovery(config)
    if config.event.features == "auto":
        if cluster and config.recovery.directory is None:
            raise ConfigError(
                "event.features: auto: the processes of a cluster must agree on the features: set recovery.directory "
                "to a folder that all can read, or list the features"
            )
        config = _with_features(config, partitions, until_eof=until_eof, first=lock)
    if not embedded:
        config = as_learned(config)
    if lock and not embedded:
        if changes := require_compatible(config):
            LOG.info("state_migrates", changes=[change.text for change in changes])
        check_positions(config, brokers)
        follow_added(config, partitions)
        write_runtime_settings(config)
        write_holidays(config)
    if threading.current_thread() is threading.main_thread():  # a signal handler cannot be set elsewhere
        stop_on_signals()
    STOP.clear()
    if SIGNALLED.is_set():  # while the flow was between two configurations
        STOP.set()
    if recovery is not None and recovery.pruned:
        LOG.info("unfinished_epoch_dropped", snapshots=recovery.pruned, resume_epoch=recovery.resume_epoch)
    if recovery is not None and recovery.torn:
        LOG.warning("went_back", epochs=recovery.torn, why=recovery.why_torn)
    if lock and not embedded:
        _warn_of_a_new_state(config, recovery, partitions)
    metrics = Metrics(config)
    metrics.missing_offsets = missing_offsets(config)
    catch_up = None if embedded else pending_catch_up(config)
    if catch_up is not None and (left := catch_up.left()):
        LOG.info("reading_again", messages=left)
    keeper = None if embedded or cluster or config.recovery.keep is None or recovery is None else Keeper(config)
    observers, site = _observers(config, metrics, keeper, ui=ui)
    copied = () if until_eof or not lock else brokers.topics.get(config.source.repartition or "", ())
    health = Health(metrics, sum(map(len, partitions.values())) + len(copied), cluster=cluster)
    files = not embedded
    begun = begun_topics(config) if files else frozenset[str]()
    resting = resting_parts(config, partitions) if files else frozenset[str]()
    if resting:
        LOG.info("partitions_resting", partitions=sorted(resting), why="this run does not read them; positions stay")
    return Prepared(
        settings, config, files, until_eof, partitions, recovery, catch_up, observers, metrics, health, site, begun,
        row_facts(config, flow=True), resting,
    )  # fmt: skip


def describe_state(prepared: Prepared) -> str | None:
    """Return where the state of a run is, and in a directory of its own the epoch that it goes on from; None where
    none is kept.

    A relative `recovery.directory` is another folder in another working directory: a start there begins anew.
    """
    if (store := prepared.config.state.store) is not None:
        return str(store)
    directory, recovery = prepared.config.recovery.directory, prepared.recovery
    if directory is None or recovery is None:
        return None
    begun = recovery.resume_epoch > FIRST_EPOCH
    return f"{directory.resolve()}: {f'epoch {recovery.resume_epoch}' if begun else 'new'}"


def _warn_of_a_new_state(
    config: Config, recovery: OpenRecovery | None, partitions: Mapping[str, tuple[int, ...]]
) -> None:
    """Log that a start learns and sends all again, where the flow has run before with another folder of its state."""
    directory = config.recovery.directory
    if directory is None or recovery is None or recovery.resume_epoch > FIRST_EPOCH:
        return
    before = earlier_run(config, partitions)
    if before is None:
        return
    LOG.warning(
        "state_is_new",
        directory=str(directory.resolve()),
        before=before.folder or "not known",
        group=config.source.group_id,
        read_before=before.messages,
        why="this flow has run before, and this folder has no state: it learns anew, and sends again what was sent",
        cure="if that is not meant, stop it, and name the folder before in recovery.directory, by its absolute path",
    )


def _prepare_embedded(config: Config) -> None:
    """Make room for the selected features; the rest of the recovery is Bytewax's.

    Raises:
        ConfigError: transactions need more than that.
    """
    if config.delivery == "exactly_once":
        raise ConfigError(
            "delivery: exactly_once: the recovery directory must be cleaned before Bytewax opens it: start the flow by "
            "`ssm-stream run` or `python -m bytewax.run`"
        )
    if config.event.features == "auto" and config.recovery.directory is not None:
        make_directory(config.recovery.directory)


def _observers(
    config: Config, metrics: Metrics, keeper: Keeper | None, *, ui: bool
) -> tuple[Observers, MountedSite | None]:
    """Return all that observes a run, and the site of the live page if there is one.

    Raises:
        ConfigError: packages for traces are missing, or the live page has no address.
    """
    observers: list[RunObserver] = [metrics, metrics.last_seen]
    if keeper is not None:
        observers.append(keeper)
    if config.ops.traces is not None:
        observers.append(Traces(config))
    if config.audit.directory is not None and config.state.store is None:  # else `run_group` has it
        observers.append(Audit(config.audit.directory, config.hash))
    if not ui and not config.ops.ui:
        return Observers(*observers), None
    if config.ops.address is None:
        raise ConfigError("ops.address: null: the live page (--ui) is served there; give it a host:port")
    from ssm_stream.flow.live_page import open_page
    from ssm_stream.ui.site import Site

    page = open_page(config, metrics)
    return Observers(*observers, page), Site(page)


def _with_features(
    config: Config, partitions: Mapping[str, tuple[int, ...]], *, until_eof: bool, first: bool
) -> Config:
    """Return the configuration with selected features: those of the recovery directory, else selected now and kept.

    Args:
        partitions: by topic
        first: this process selects; the others of its cluster wait for its selection

    Raises:
        ConfigError, BrokerError, RecoveryError: no events to select from, or a stored selection that does not fit.
    """
    directory = config.recovery.directory
    if directory is not None:
        # The first process may wait for as long for the first events.
        deadline = time.monotonic() + (0 if first else 2 * config.source.wait)
        while (kept := read_feature_selection(directory, config)) is None and time.monotonic() < deadline:
            time.sleep(0.1)
        if kept is not None:
            LOG.info("features_kept", features=kept.event.numbers, categories=kept.event.categories)
            return kept
        if not first:
            raise RecoveryError(
                f"recovery.directory: the first process has stored no selection of features in {directory}: start it, "
                "or read its log"
            )
    LOG.info("picking_features", topic=", ".join(config.source.names), events=SAMPLE, wait_s=config.source.wait)
    documents, n = list[Any](), -(-SAMPLE // len(config.source.names))
    for each in config.source.each:
        documents += first_documents(config.replace(source=each), partitions[each.topic], n, until_eof=until_eof)
    selection = select_features(config, documents)
    if directory is not None:
        write_feature_selection(directory, config, selection.config)
    LOG.info(
        "features_picked",
        features=selection.config.event.numbers,
        categories=selection.config.event.categories,
        events=selection.events,
        why=selection.lines()[3:],
    )
    return selection.config


def _require_sinks(config: Config, cluster: Cluster) -> None:
    """Require the output topics: created on the fly, they would have the broker's default partitions and retention.

    Raises:
        BrokerError: some do not exist, or this user may not see them.
    """
    missing = [topic for topic in config.sinks.topics if topic not in cluster.topics]
    for topic in missing:
        if topic in cluster.denied:
            cluster.partitions_of(topic, "Write")
    if missing:
        raise BrokerError(
            f"topics {missing} do not exist on {config.source.brokers}",
            "create them: ssm-stream doctor CONFIG --create-topics",
        )


def _require_registry(config: Config) -> None:
    """Require that the schema registry answers, if there is one, and that it has the schemas of the output.

    Raises:
        RegistryError: it does not, or refuses, or packages for it are missing.
    """
    if config.schema_registry is not None:
        open_registry(config).check()
        message_format(config)
        open_outputs(config)


def run(
    prepared: Prepared, *, workers: int = 1, process: int | None = None, addresses: list[str] | None = None
) -> None:
    """Run until the end of the topic (`until_eof`), a signal, or an error.

    Raises:
        ConfigError: the server cannot listen on `ops.address`.
        BrokerError, StateError, RecoveryError, …: as raised in the dataflow.
    """
    supervisor = Supervisor(prepared.config, prepared.metrics, prepared.health, prepared.site, process or 0)
    copied = repartitioning(
        prepared.config, prepared.observers, until_eof=prepared.until_eof, stop=STOP, first=not process
    )
    with contextlib.closing(prepared.observers), supervisor, copied:
        try:
            _run(prepared, workers, process, addresses)
        finally:
            restore_stderr()
    recovery = prepared.recovery
    if recovery is not None and recovery.lock is not None and (directory := prepared.config.recovery.directory):
        note_clean_end(directory)


def release(prepared: Prepared) -> None:
    """Unlock the recovery directory after the run, for the next one."""
    flush()
    if prepared.recovery is not None and prepared.recovery.lock is not None:
        prepared.recovery.lock.close()


def _run(prepared: Prepared, workers: int, process: int | None, addresses: list[str] | None) -> None:
    recovery = prepared.recovery
    # A chunk is thousands of short-lived dicts and tuples without cycles: by default the collector would walk them,
    # and everything loaded so far, hundreds of times a second.
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)
    # The kernels run without the interpreter; after each the worker would wait up to 5 ms for reader and writer to let
    # it in again.
    sys.setswitchinterval(0.0005)
    directory = prepared.config.recovery.directory
    with contextlib.nullcontext() if directory is None else on_disk_of_bytewax(directory):
        cli_main(
            prepared.flow,
            workers_per_process=workers,
            process_id=process,
            addresses=addresses,
            epoch_interval=epoch_interval(prepared.config),
            recovery_config=recovery.config if recovery else None,
        )
