"""`ssm-stream mcp`: serves AI assistants by the Model Context Protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ssm_stream.cli.errors import report_errors
from ssm_stream.cli.inputs import ConfigFile, load_with_stored_features
from ssm_stream.config import ConfigError

EXTRA = "pip install 'ssm-stream[mcp]'"


def mcp(
    config: ConfigFile,
    files: Annotated[
        list[Path] | None,
        typer.Option(
            "--files",
            help="File or folder that validate, init, backtest and tune may read. Repeatable; without it these tools "
            "are off.",
            show_default=False,
        ),
    ] = None,
    http: Annotated[
        str | None,
        typer.Option(
            metavar="[HOST:]PORT",
            help="Serve HTTP at /mcp of this loopback address, with a token: ops.token, or one that is printed. "
            "Default: standard input and output.",
            show_default=False,
        ),
    ] = None,
    process: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL",
            help="A running process, http://host:9464, for health and metrics. Repeatable. Default: ops.address.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Serve AI assistants by the Model Context Protocol: entities, predictions, alerts, reasons, metrics, docs.

    It reads the topics of predictions and alerts, in no consumer group, and changes nothing. No answer holds a secret.
    An assistant starts it by itself: the command of the server is `ssm-stream mcp CONFIG` (docs/assistants.md).

    Exit code 0: the client has left; 1: the port is taken or the broker refuses; 2: the call is wrong.

    Examples: ssm-stream mcp examples/soft-sensor.yaml

    ssm-stream mcp examples/soft-sensor.yaml --files examples --http 9480
    """
    with report_errors(OSError):
        try:
            from ssm_stream.mcp.server import (
                Access,
                host_in_url,
                http_token,
                listen,
                make_server,
                parse_address,
                run_http,
                run_stdio,
            )
        except ImportError:
            raise ConfigError(f"ssm-stream mcp: its SDK is not installed: {EXTRA}") from None
        from ssm_stream.mcp.view.topics import FlowView

        for url in process or ():
            if not url.startswith(("http://", "https://")):
                raise ConfigError(f"--process: found {url!r}; write its URL, such as http://127.0.0.1:9464")
        for path in files or ():
            if not path.exists():
                raise ConfigError(f"--files: {path} does not exist")
        address = None if http is None else parse_address(http)
        loaded = load_with_stored_features(config)
        listening = None if address is None else listen(*address)
        view = FlowView(loaded)
        server = make_server(loaded, config, view, Access(files or (), process or ()))
        view.start()
        try:
            if address is None or listening is None:
                run_stdio(server)
                return
            token, made = http_token(loaded)
            typer.echo(
                f"serving http://{host_in_url(address[0])}:{address[1]}/mcp; clients send Authorization: Bearer TOKEN",
                err=True,
            )
            typer.echo(f"TOKEN: {token if made else 'that of ops.token'}", err=True)
            run_http(server, listening, address[0], token)
        finally:
            view.close()
