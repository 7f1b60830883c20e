"""`ssm-stream doctor`: can this configuration run here?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import orjson
import typer
from rich.console import Console
from rich.status import Status
from rich.table import Table
from rich.text import Text

from ssm_stream.config import Config, ConfigError, load_config

if TYPE_CHECKING:
    from ssm_stream.flow.doctor import Check


def doctor(
    config: Annotated[Path, typer.Argument(help="The YAML file.")],
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
    create_topics: Annotated[bool, typer.Option("--create-topics", help="Create the topics that are missing.")] = False,
    partitions: Annotated[int, typer.Option(min=1, help="Partitions of topics that are created.")] = 4,
) -> None:
    """Check what a run needs: brokers, topics, permissions, versions, clock, disk. Nothing is written to a topic.

    Exit code 0: all is well; 1: a check failed; 2: the configuration cannot be used.

    Example: ssm-stream doctor monitor.yaml --create-topics
    """
    from ssm_stream.flow.doctor import Check, create_missing, diagnose

    try:
        loaded = load_config(config)
    except ConfigError as error:
        if json:
            _json([Check("configuration", False, str(error), "correct the file")])
        else:
            typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    with asking(loaded):
        created = [create_missing(loaded, partitions)] if create_topics else []
        # Where topics could not be created, the same broker need not be waited for twice.
        checks = created if created and not created[0].ok else [*created, *diagnose(loaded)]
    if json:
        _json(checks)
    else:
        show(checks)
    raise typer.Exit(0 if all(check.ok for check in checks) else 1)


def asking(config: Config) -> Status:
    """Says on a terminal, meanwhile, who is asked and how long that may take."""
    return Console(stderr=True).status(f"asking {config.source.brokers}, for {config.source.wait:g} s at most")


def _json(checks: list[Check]) -> None:
    report = {"ok": all(check.ok for check in checks), "checks": [check._asdict() for check in checks]}
    typer.echo(orjson.dumps(report, option=orjson.OPT_INDENT_2).decode())


def show(checks: list[Check]) -> None:
    """A table on a terminal, else a line for each check."""
    console = Console()
    failed = sum(not check.ok for check in checks)
    summary = f"{failed} of {len(checks)} checks failed" if failed else f"all {len(checks)} checks passed"
    if not console.is_terminal:
        for check in checks:
            typer.echo(f"{'ok  ' if check.ok else 'FAIL'}  {check.name}: {check.found}")
            if check.cure:
                typer.echo(f"      → {check.cure}")
        typer.echo(summary)
        return
    table = Table("", "check", "found")
    for check in checks:
        mark = Text("ok", "green") if check.ok else Text("FAIL", "bold red")
        found = Text(check.found)
        if check.cure:
            found.append(f"\n→ {check.cure}", "yellow")
        table.add_row(mark, check.name, found)
    console.print(table)
    console.print(Text(summary, "bold red" if failed else "bold green"))
