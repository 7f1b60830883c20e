"""`ssm-stream run`: the production dataflow."""

from __future__ import annotations

from enum import Enum
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import structlog
import typer

from ssm_stream.cli.errors import reported
from ssm_stream.config import Config, ConfigError, load_config

LOG = structlog.get_logger("ssm_stream")


class LogLevel(Enum):
    """Severities, from the least."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(Enum):
    """How a line of the log is written."""

    AUTO = "auto"
    CONSOLE = "console"
    JSON = "json"


def run(
    config: Annotated[Path, typer.Argument(help="YAML file.", show_default=False)],
    workers: Annotated[int, typer.Option("-w", "--workers", min=1, help="Worker threads of this process.")] = 1,
    until_eof: Annotated[bool, typer.Option("--until-eof", help="End at the end of the topic.")] = False,
    process: Annotated[
        int | None, typer.Option("-i", "--process", min=0, help="This process's number in a cluster, from 0.")
    ] = None,
    addresses: Annotated[
        str | None, typer.Option("-a", "--addresses", help="host:port of all processes, separated by semicolons.")
    ] = None,
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Take over changes of the file that the state can go on with; refuse others."),
    ] = False,
    ui: Annotated[
        bool, typer.Option("--ui", help="Serve a live page at ops.address, as `ops.ui: true` does: docs/ui.md.")
    ] = False,
    log_level: Annotated[LogLevel, typer.Option(help="The least severe that is logged.")] = LogLevel.INFO,
    log_format: Annotated[
        LogFormat, typer.Option(help="For people or for programs; auto: by whether standard error is a terminal.")
    ] = LogFormat.AUTO,
) -> None:
    """Consume the events topic; produce predictions, alerts and dead letters until stopped.

    SIGTERM and SIGINT (Ctrl-C) end it gracefully: state is written, nothing is repeated at the next start.

    With --watch a change of the file is looked at within a second. What the state can go on with (alert rules and
    budgets, output topics, properties of the clients, limits) is taken over by a graceful end and start in the same
    process; the rest is refused in the log, with the reason, and the flow goes on as it was.

    Examples: ssm-stream run monitor.yaml -w 2

    ssm-stream run monitor.yaml --watch

    ssm-stream run monitor.yaml --ui
    """
    from ssm_stream.engine.snapshot_format import StateError
    from ssm_stream.flow import runtime
    from ssm_stream.flow.reload import Reload
    from ssm_stream.flow.source import SIGNALLED
    from ssm_stream.kafka.client import BrokerError
    from ssm_stream.kafka.transactional_producer import MarkerError
    from ssm_stream.kernels.cache import ABOUT, are_compiled
    from ssm_stream.ops.logging import always, set_up_logging
    from ssm_stream.recovery.bytewax_db import RecoveryError

    set_up_logging(level=log_level.value, json=None if log_format is LogFormat.AUTO else log_format is LogFormat.JSON)
    if (process is None) != (addresses is None):
        raise typer.BadParameter("--process and --addresses go together: this one's number, and everyone's address")
    if watch and addresses is not None:
        raise typer.BadParameter("--watch is for a process alone: those of a cluster change their settings together")
    SIGNALLED.clear()
    processes = len(addresses.split(";")) if addresses else 1
    with reported(BrokerError, MarkerError, RecoveryError, StateError):
        loaded, before = load_config(config), None
        while True:
            try:
                _require_shards(loaded, workers, processes)
                prepared = runtime.prepare(
                    loaded, until_eof=until_eof, lock=not process, cluster=addresses is not None, ui=ui
                )
            except (BrokerError, ConfigError, MarkerError, RecoveryError, StateError) as error:
                if before is None:
                    raise
                LOG.error("config_refused", error=str(error), running=before.hash)
                loaded, before = before, None
                continue
            always(config_hash=prepared.config.hash)
            LOG.info("started", topic=loaded.source.topic, brokers=loaded.source.brokers, release=version("ssm-stream"))
            if not are_compiled():
                LOG.info("compiling_kernels", time=ABOUT, why="the first start on this machine")
            everyone = addresses.split(";") if addresses else None
            if not watch:
                runtime.run(prepared, workers=workers, process=process, addresses=everyone)
                break
            with Reload(config, loaded) as reload:
                runtime.run(prepared, workers=workers, process=process, addresses=everyone)
            if reload.new_config is None or SIGNALLED.is_set():
                break
            runtime.release(prepared)
            loaded, before = reload.new_config, loaded
    LOG.info("stopped", reason="signal" if SIGNALLED.is_set() else "end of topic")


def _require_shards(config: Config, workers: int, processes: int) -> None:
    """A shard is one worker's: more workers than shards would stand idle."""
    total, shards = workers * processes, config.state.shards
    if total > shards:
        given = f"-w {workers}" if processes == 1 else f"{processes} processes with -w {workers}"
        can = "only one worker" if shards == 1 else f"only {shards} workers"
        raise ConfigError(
            f"{given}: {can} can share the work, as state.shards is {shards}. Start fewer workers, or set state.shards "
            f"to {total} or more; that makes another state, so give it a new recovery.directory"
        )
