"""`ssm-stream verify`: the certificate that the production kernel is gradient descent on a recording."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from ssm_stream.cli.errors import JOB_FAILED, reported, require_one_target, with_picked
from ssm_stream.config import load_config


def verify(
    config: Annotated[Path, typer.Argument(help="YAML file.", show_default=False)],
    file: Annotated[Path, typer.Argument(help="CSV, CSV.gz, JSON lines or Parquet.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Where to write the certificate (HTML).")] = Path("verify.html"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the checks and figures as one JSON object.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first rows.")] = None,
    tolerance: Annotated[
        float, typer.Option(min=0.0, help="Largest relative deviation of the kernel that is accepted.")
    ] = 1e-3,
) -> None:
    """Prove on a recording that the model is gradient descent, that it learns, and how soon it recovers.

    Exit code 0 when the production kernel agrees with explicit gradient descent, 1 when it does not, 2 for a wrong
    call. The other checks are reported and do not change the exit code.

    Example: ssm-stream verify configs/soft-sensor.yaml gas_turbine.csv.gz --out certificate.html
    """
    # Loading torch takes seconds, which `ssm-stream --help` should not.
    from itertools import islice

    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    from ssm_stream.cli.paper import checks_table
    from ssm_stream.evaluate.recordings import recording
    from ssm_stream.verify.certificate import file_facts
    from ssm_stream.verify.certificate import verify as run_verify
    from ssm_stream.verify.replay import NothingToVerifyError

    if out.is_dir() or not out.absolute().parent.is_dir():
        raise typer.BadParameter(f"cannot write {out}: not a file in an existing folder", param_hint="--out")
    console = Console(stderr=True)
    with reported(recording.RecordingError, NothingToVerifyError, OSError):
        loaded = load_config(config)
        require_one_target(loaded, "verify")
        rows: Iterator[dict[str, Any]] = islice(recording.rows(file), limit)
        loaded, rows = with_picked(loaded, rows)
        with Progress(
            TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(),
            console=console, disable=not console.is_terminal, transient=True,
        ) as shown:  # fmt: skip
            total = recording.count_rows(file) if console.is_terminal else None
            bar = shown.add_task("engine", total=min(total, limit or total) if total else None)
            result = run_verify(
                loaded,
                rows,
                tolerance,
                on_rows=lambda count: shown.advance(bar, count),
                advance=lambda part, done: shown.update(bar, description=part, completed=done, total=1.0),
            )
        out.write_text(result.html(file_facts(config, file)), encoding="utf-8")
    if as_json:
        content = {**result.as_json(), "report": str(out)}
        sys.stdout.write(json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n")
    else:
        Console().print(checks_table(result.checks))
    console.print(result.verdict, style=None if result.ok else "bold red", highlight=False, markup=False)
    console.print(f"report: {out}", highlight=False, markup=False)
    if not result.ok:
        raise typer.Exit(JOB_FAILED)
