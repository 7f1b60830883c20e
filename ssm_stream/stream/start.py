"""Everything between a configuration file and a running dataflow."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import NamedTuple

import structlog
from bytewax.dataflow import Dataflow
from bytewax.run import cli_main

from ssm_stream.config import Config, load_config
from ssm_stream.stream.broker import BrokerError, Cluster, check_broker
from ssm_stream.stream.dataflow import monitor_flow
from ssm_stream.stream.recovery import OpenRecovery, epoch_interval, open_recovery
from ssm_stream.stream.source import STOP, stop_on_signals

LOG = structlog.get_logger("ssm_stream")


class Prepared(NamedTuple):
    """A dataflow that may start: brokers answered, topics are there, the recovery directory is ours."""

    config: Config
    flow: Dataflow
    recovery: OpenRecovery | None


def prepare(config: Config | str | Path, *, until_eof: bool = False, lock: bool = True) -> Prepared:
    """Check the world and build the dataflow.

    Args:
        config: the configuration or its file
        until_eof: end at the end of the topic instead of waiting for more
        lock: lock and prune the recovery directory; in a cluster of processes only the first one does

    Raises:
        ConfigError, BrokerError, RecoveryError: the text is meant for the person at the terminal.
    """
    if not isinstance(config, Config):
        config = load_config(config)
    cluster = check_broker(config.source)
    partitions = cluster.source_partitions(config.source)
    _require_sinks(config, cluster)
    recovery = open_recovery(config) if lock else None
    STOP.clear()
    stop_on_signals()
    if recovery is not None and recovery.pruned:
        LOG.info("unfinished_epoch_dropped", snapshots=recovery.pruned, resume_epoch=recovery.resume_epoch)
    return Prepared(config, monitor_flow(config, partitions, until_eof=until_eof), recovery)


def _require_sinks(config: Config, cluster: Cluster) -> None:
    """Output topics must exist: created by the way, they would have the broker's defaults for partitions and age."""
    sinks = config.sinks
    missing = [t for t in (sinks.predictions, sinks.alerts, sinks.dead_letters) if t and t not in cluster.topics]
    if missing:
        raise BrokerError(
            f"topics {missing} do not exist on {config.source.brokers}",
            "create them: ssm-stream doctor CONFIG --create-topics",
        )


def run(
    prepared: Prepared, *, workers: int = 1, process: int | None = None, addresses: list[str] | None = None
) -> None:
    """Run until the end of the topic (`until_eof`), a signal, or an error.

    Raises:
        BrokerError, StateError, RecoveryError, …: the first cause, as it was raised in the dataflow.
    """
    recovery = prepared.recovery
    # A chunk is thousands of short-lived dicts and tuples without cycles: by default the collector would walk them,
    # and everything loaded so far, hundreds of times a second.
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)
    cli_main(
        prepared.flow,
        workers_per_process=workers,
        process_id=process,
        addresses=addresses,
        epoch_interval=epoch_interval(prepared.config),
        recovery_config=recovery.config if recovery else None,
    )
