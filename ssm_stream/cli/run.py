"""`ssm-stream run`: runs the production dataflow."""

from __future__ import annotations

import contextlib
from enum import Enum
from importlib.metadata import version
from typing import Annotated, NamedTuple

import structlog
import typer

from ssm_stream.cli.errors import report_errors
from ssm_stream.cli.inputs import ConfigFile, with_option_groups
from ssm_stream.config import Config, ConfigError, load_config

LOG = structlog.get_logger("ssm_stream")
SAVE_AGAIN = "put this right, then save the file again: it is read again"


class LogLevel(Enum):
    """Severities of log lines, ascending."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(Enum):
    """Formats of log lines."""

    AUTO = "auto"
    CONSOLE = "console"
    JSON = "json"


class ClusterOptions(NamedTuple):
    """Workers and processes."""

    workers: Annotated[int, typer.Option("-w", "--workers", min=1, help="Worker threads of this process.")] = 1
    process: Annotated[
        int | None, typer.Option("-i", "--process", min=0, help="Number of this process in a cluster, from 0.")
    ] = None
    addresses: Annotated[
        str | None, typer.Option("-a", "--addresses", help="host:port of all processes, separated by semicolons.")
    ] = None


class LogOptions(NamedTuple):
    """Lines of the log."""

    log_level: Annotated[LogLevel, typer.Option(help="Lowest severity that is logged.")] = LogLevel.INFO
    log_format: Annotated[
        LogFormat, typer.Option(help="Format of the log; auto: console if standard error is a terminal, else JSON.")
    ] = LogFormat.AUTO


@with_option_groups
def run(
    config: ConfigFile,
    cluster: ClusterOptions,
    log: LogOptions,
    until_eof: Annotated[bool, typer.Option("--until-eof", help="Stop at the end of the topic.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Apply changes of the file that the state allows; refuse others.")
    ] = False,
    ui: Annotated[
        bool, typer.Option("--ui", help="Serve the live page at ops.address, as `ops.ui: true` does (docs/ui.md).")
    ] = False,
) -> None:
    """Consume the events topic; produce predictions, alerts and dead letters until stopped.

    SIGTERM and SIGINT (Ctrl-C) stop without losing or repeating events: the state is written.

    With --watch, a change of the file is noticed within a second. Changes that the state allows (alert rules and
    budgets, output topics, client properties, limits) are applied by a stop and a start in the same process; others are
    refused in the log, with the reason, and the flow continues as before.

    Exit code 0: stopped, or at the end of the topic; 1: the flow failed; 2: the configuration is invalid.

    Examples: ssm-stream run examples/soft-sensor.yaml

    ssm-stream run examples/soft-sensor.yaml --watch

    ssm-stream run examples/soft-sensor.yaml --ui
    """
    from ssm_stream.engine.snapshot_format import StateError
    from ssm_stream.flow import runtime
    from ssm_stream.flow.group.run import run_group
    from ssm_stream.flow.reload import Reload
    from ssm_stream.flow.restarts import Restarts
    from ssm_stream.kafka.client import BrokerError
    from ssm_stream.kafka.transactional_producer import MarkerError
    from ssm_stream.operators.source import SIGNALLED, interrupt_on_signals
    from ssm_stream.ops.audit import AuditError
    from ssm_stream.ops.logging import always, set_up_logging
    from ssm_stream.ops.server import probes_of_a_start
    from ssm_stream.recovery.bytewax_db import RecoveryError

    workers, process, addresses = cluster
    json = None if log.log_format is LogFormat.AUTO else log.log_format is LogFormat.JSON
    set_up_logging(level=log.log_level.value, json=json)
    if (process is None) != (addresses is None):
        raise typer.BadParameter("--process and --addresses go together: this process's number, the addresses of all")
    if watch and addresses is not None:
        raise typer.BadParameter("--watch is for a single process: those of a cluster must change settings together")
    SIGNALLED.clear()
    interrupt_on_signals()
    processes = len(addresses.split(";")) if addresses else 1
    restarts = Restarts(alone=addresses is None)
    expected = AuditError, BrokerError, MarkerError, RecoveryError, StateError
    with report_errors(*expected, as_json=log.log_format is LogFormat.JSON):
        loaded, before = load_config(config), None
        while True:
            try:
                _require_alone(loaded, workers, until_eof=until_eof, watch=watch, cluster=addresses is not None)
                _require_shards(loaded, workers, processes)
                with probes_of_a_start(loaded, process or 0):
                    prepared = runtime.prepare(
                        loaded, until_eof=until_eof, lock=not process, cluster=addresses is not None, ui=ui
                    )
            except KeyboardInterrupt:  # while it waited for a broker, before anything began
                LOG.info("stopped", reason="signal")
                return
            except (BrokerError, ConfigError, MarkerError, RecoveryError, StateError) as error:
                if before is None:
                    raise
                LOG.error("config_refused", error=str(error), running=before.hash, cure=SAVE_AGAIN)
                loaded, before = before, None
                continue
            always(config_hash=prepared.config.hash)
            LOG.info(
                "started",
                topic=", ".join(loaded.source.names),
                brokers=loaded.source.brokers,
                release=version("ssm-stream"),
                state=runtime.describe_state(prepared),
            )
            if loaded.alerts.shadow:
                LOG.warning("alerts_in_shadow", suppressed=loaded.sinks.suppressed)
            if loaded.source.assignment == "group":
                run_group(prepared)
                break
            everyone = addresses.split(";") if addresses else None
            with Reload(config, loaded) if watch else contextlib.nullcontext() as reload:
                try:
                    runtime.run(prepared, workers=workers, process=process, addresses=everyone)
                except BaseException as error:  # Bytewax raises a panic, too
                    if not restarts.after(error, prepared):
                        raise
                    before = None
                    continue
            changed = reload is not None and reload.new_config is not None
            if not changed and restarts.added(prepared):
                before = None
                continue
            if reload is None or reload.new_config is None or SIGNALLED.is_set():
                break
            runtime.release(prepared)
            loaded, before = reload.new_config, loaded
    LOG.info("stopped", reason="signal" if SIGNALLED.is_set() else "end of topic")


def _require_alone(config: Config, workers: int, *, until_eof: bool, watch: bool, cluster: bool) -> None:
    """Refuse options that a member of a group does not have."""
    if config.source.assignment == "manual":
        return
    cures = {
        "-w": (workers > 1, "start more processes: each has one worker"),
        "-a": (cluster, "start the processes without addresses: the group is their cluster"),
        "--until-eof": (until_eof, "stop the processes by a signal: a member does not know the ends of the others"),
        "--watch": (watch, "start the processes again one by one: the others take their partitions over meanwhile"),
    }
    for option, (given, cure) in cures.items():
        if given:
            raise ConfigError(f"{option}: found with source.assignment: group; leave it out, and {cure}")


def _require_shards(config: Config, workers: int, processes: int) -> None:
    """Refuse more workers than shards: a shard belongs to one worker."""
    total, shards = workers * processes, config.state.shards
    if total > shards:
        given = f"-w {workers}" if processes == 1 else f"{processes} processes with -w {workers}"
        can = "only one worker" if shards == 1 else f"only {shards} workers"
        raise ConfigError(
            f"{given}: {can} can share the work, as state.shards is {shards}. Start fewer workers, or set state.shards "
            f"to {total} or more; that makes another state, so give it a new recovery.directory"
        )
