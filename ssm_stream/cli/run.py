"""`ssm-stream run`: the production dataflow."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import structlog
import typer

from ssm_stream.cli.errors import reported
from ssm_stream.config import load_config

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
    from ssm_stream.ops.logging import set_up_logging
    from ssm_stream.state import StateError
    from ssm_stream.stream import start
    from ssm_stream.stream.broker import BrokerError
    from ssm_stream.stream.recovery import RecoveryError
    from ssm_stream.stream.source import STOP

    set_up_logging(level=log_level)
    if (process is None) != (addresses is None):
        raise typer.BadParameter("--process and --addresses go together: this one's number, and everyone's address")
    with reported(BrokerError, RecoveryError, StateError):
        loaded = load_config(config)
        prepared = start.prepare(loaded, until_eof=until_eof, lock=not process, cluster=addresses is not None)
        LOG.info("started", topic=loaded.source.topic, brokers=loaded.source.brokers, config_hash=prepared.config.hash)
        start.run(prepared, workers=workers, process=process, addresses=addresses.split(";") if addresses else None)
    LOG.info("stopped", reason="signal" if STOP.is_set() else "end of topic")
