"""`ssm-stream feedback`: what operators said of the alerts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.table import Table

from ssm_stream.cli.errors import reported
from ssm_stream.config import ConfigError, load_config


def feedback(
    config: Annotated[Path, typer.Argument(help="YAML file.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Read the feedback topic from its beginning and print how many alerts of each rule were true.

    Example: ssm-stream feedback monitor.yaml
    """
    from ssm_stream.flow.feedback import count_feedback, feedback_topic
    from ssm_stream.kafka.client import BrokerError

    with reported(BrokerError):
        loaded = load_config(config)
        source = feedback_topic(loaded)
        if source is None:
            raise ConfigError(
                f"{config}: alerts.feedback: not set; name the topic: alerts: {{feedback: {{topic: NAME}}}}"
            )
        counted, refused = count_feedback(loaded, source)
    if as_json:
        report = {"rules": counted.rows(), "refused": refused}
        sys.stdout.write(orjson.dumps(report, option=orjson.OPT_INDENT_2).decode() + "\n")
        return
    table = Table(show_edge=False)
    for name in ("rule", "true", "false", "precision"):
        table.add_column(name, justify="left" if name == "rule" else "right")
    for row in counted.rows():
        share = "–" if row["precision"] is None else f"{row['precision']:.1%}"
        table.add_row(row["rule"], f"{row['true']:,}", f"{row['false']:,}", share)
    console = Console()
    console.print(table)
    if refused:
        console.print(f"[dim]messages that are no feedback (the dead letters say why): {refused:,}[/dim]")
