"""`ssm-stream examples`: writes the example configurations and recordings into a folder."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from ssm_stream.cli.errors import report_errors
from ssm_stream.config import ConfigError

USES = {
    "soft-sensor.yaml": "a value from others: the power of pumps",
    "service-metrics.yaml": "numbers without inputs: requests, latency, errors",
    "forecast-fleet.yaml": "the next value of many alike: cars in 16 car parks",
}


def examples(
    folder: Annotated[Path, typer.Argument(help="Folder for the files; it is created.")] = Path("examples"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that differ.")] = False,
) -> None:
    """Write three configurations into a folder, each with a recording: the files that the examples of each help use.

    Example: ssm-stream examples

    Then, for instance: ssm-stream backtest examples/soft-sensor.yaml examples/plant.csv.gz
    """
    from ssm_stream.evaluate.examples import EXAMPLES, changed_examples, write_examples

    with report_errors(OSError):
        if not force and (changed := changed_examples(folder)):
            names = ", ".join(path.name for path in changed)
            raise ConfigError(
                f"{folder}: {names} would be overwritten: name another folder, or overwrite what is there by --force"
            )
        write_examples(folder)
    typer.echo(f"written to {folder}{'' if folder.is_absolute() else '/'}:")
    for example in EXAMPLES:
        typer.echo(f"  {example.config:<21} {USES[example.config]}")
        labels = f", with labels in {example.labels}" if example.labels else ""
        typer.echo(f"  {'':<21} {example.recording}{labels}")
    first = EXAMPLES[0]
    typer.echo("next:")
    config, recording = (shlex.quote(str(folder / name)) for name in (first.config, first.recording))
    typer.echo(f"  ssm-stream backtest {config} {recording}")
    typer.echo(f"  ssm-stream init {recording} --out monitor.yaml")
