"""`ssm-stream run`: the production dataflow."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import structlog
import typer

from ssm_stream.cli.errors import reported
from ssm_stream.config import Config, ConfigError, load_config

LOG = structlog.get_logger("ssm_stream")


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
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
) -> None:
    """Consume the events topic; produce predictions, alerts and dead letters until stopped.

    SIGTERM and SIGINT (Ctrl-C) end it gracefully: state is written, nothing is repeated at the next start.

    Example: ssm-stream run monitor.yaml -w 2
    """
    from ssm_stream.ops.kernels import ABOUT, are_compiled
    from ssm_stream.ops.logging import set_up_logging
    from ssm_stream.state import StateError
    from ssm_stream.stream import start
    from ssm_stream.stream.broker import BrokerError
    from ssm_stream.stream.recovery import RecoveryError
    from ssm_stream.stream.source import STOP
    from ssm_stream.stream.transactions import MarkerError

    set_up_logging(level=log_level)
    if (process is None) != (addresses is None):
        raise typer.BadParameter("--process and --addresses go together: this one's number, and everyone's address")
    with reported(BrokerError, MarkerError, RecoveryError, StateError):
        loaded = load_config(config)
        _require_shards(loaded, workers, len(addresses.split(";")) if addresses else 1)
        prepared = start.prepare(loaded, until_eof=until_eof, lock=not process, cluster=addresses is not None)
        LOG.info("started", topic=loaded.source.topic, brokers=loaded.source.brokers, config_hash=prepared.config.hash)
        if not are_compiled():
            LOG.info("compiling_kernels", time=ABOUT, why="the first start on this machine")
        start.run(prepared, workers=workers, process=process, addresses=addresses.split(";") if addresses else None)
    LOG.info("stopped", reason="signal" if STOP.is_set() else "end of topic")


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
