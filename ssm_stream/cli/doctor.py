"""`ssm-stream doctor`: checks whether a configuration can run here."""

from __future__ import annotations

import re
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer
from rich.status import Status
from rich.text import Text

from ssm_stream.cli.errors import BAD_USAGE, FAILED
from ssm_stream.cli.inputs import AsJson, ConfigFile
from ssm_stream.cli.terminal.console import new_table, output, print_json, print_table
from ssm_stream.cli.terminal.printable import echo
from ssm_stream.config import Config, ConfigError, load_config

if TYPE_CHECKING:
    from ssm_stream.flow.doctor import Check

COMMAND = re.compile(r"\b(ssm-stream [a-z -]+) CONFIG\b")
"""A command in a cure, of any configuration."""


def doctor(
    config: ConfigFile,
    json: AsJson = False,
    create_topics: Annotated[bool, typer.Option("--create-topics", help="Create the topics that are missing.")] = False,
    partitions: Annotated[int, typer.Option(min=1, help="Partitions of topics that are created.")] = 4,
) -> None:
    """Check what a run needs: brokers, topics, permissions, versions, clock, disk. Nothing is written to a topic.

    Exit code 0: all checks passed; 1: a check failed; 2: the configuration is invalid.

    Example: ssm-stream doctor examples/soft-sensor.yaml --create-topics
    """
    from ssm_stream.flow.doctor import Check, create_missing, diagnose

    try:
        loaded = load_config(config)
    except ConfigError as error:
        if json:
            _print_json([Check("configuration", False, str(error), "correct the file")])
        else:
            echo(str(error), err=True)
        raise typer.Exit(BAD_USAGE) from None
    with diagnosing(loaded):
        created = [create_missing(loaded, partitions)] if create_topics else []
        # If topics cannot be created, do not wait for the same broker twice.
        checks = created if created and not created[0].ok else [*created, *diagnose(loaded)]
    checks = named_file(checks, config)
    if json:
        _print_json(checks)
    else:
        print_checks(checks)
    raise typer.Exit(0 if all(check.ok for check in checks) else FAILED)


def named_file(checks: list[Check], config: Path) -> list[Check]:
    """Return checks whose cures name the configuration file, as they can be copied then, and not `CONFIG`."""
    file = quote(str(config))
    return [each._replace(cure=COMMAND.sub(lambda found: f"{found[1]} {file}", each.cure)) for each in checks]


def diagnosing(config: Config) -> Status:
    """A status on a terminal with the brokers and the longest wait, for the time of the checks."""
    return output(error=True).status(f"checking {config.source.brokers}, for {config.source.wait:g} s at most")


def _print_json(checks: list[Check]) -> None:
    print_json({"ok": all(check.ok for check in checks), "checks": [check._asdict() for check in checks]})


def print_checks(checks: list[Check]) -> None:
    """Print checks as a table on a terminal, else as a line each."""
    console = output()
    failed, warned = sum(not check.ok for check in checks), sum(check.ok and bool(check.cure) for check in checks)
    summary = f"{failed} of {len(checks)} checks failed" if failed else f"all {len(checks)} checks passed"
    summary += f", {warned} with a warning" if warned else ""
    if not console.is_terminal:
        for check in checks:
            sign = "FAIL" if not check.ok else "warn" if check.cure else "ok  "
            echo(f"{sign}  {check.name}: {check.found}")
            if check.cure:
                echo(f"      → {check.cure}")
        echo(summary)
        return
    table = new_table(("", "check", "found"), fold=("found",), text=("", "check"))
    for check in checks:
        found = Text(check.found)
        if check.cure:
            found.append(f"\n→ {check.cure}", "yellow")
        passed = Text("warn", "yellow") if check.cure else Text("ok", "green")
        table.add_row(passed if check.ok else Text("FAIL", "bold red"), check.name, found)
    print_table(table, console)
    console.print(Text(summary, "bold red" if failed else "bold green"))
