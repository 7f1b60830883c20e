"""`ssm-stream paper`: train, compare, and write the report on the paper's layer."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from ssm_stream.cli.errors import reported
from ssm_stream.reference import require_torch

if TYPE_CHECKING:
    from ssm_stream.evaluate.report.section import Check


def checks_table(checks: list[Check]) -> Table:
    """The rows of `--json` for people."""
    table = Table(title="Checks", title_justify="left")
    table.add_column("check")
    for name in ("value", "bar"):
        table.add_column(name, justify="right")
    table.add_column("ok")
    for check in checks:
        verdict = "[green]yes[/green]" if check.ok else "[bold red]no[/bold red]"
        table.add_row(check.name, f"{check.value:.4g}", f"{check.relation} {check.bar:g}", verdict)
    return table


def paper(
    quick: Annotated[
        bool, typer.Option("--quick", help="Under two minutes: equalities, the scalar case, one ablation.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the checks as one JSON object.")] = False,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where to write the HTML report.")] = Path(
        "paper.html"
    ),
    resume: Annotated[
        bool, typer.Option("--resume/--fresh", help="Take finished experiments from the cache, or redo all.")
    ] = True,
    cache: Annotated[Path, typer.Option("--cache", metavar="FOLDER", help="Finished experiments.")] = Path(
        ".ssm-stream/paper"
    ),
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Train the paper's layer, compare it with gradient descent and other layers, and write an HTML report.

    Exit code 0 when every check is met, 1 when one is missed, 2 for a wrong call.

    Example: ssm-stream paper --quick --out paper.html
    """
    with reported():
        require_torch("paper")
    # Loading torch takes seconds, which `ssm-stream --help` should not.

    from ssm_stream.paper.page import report_html
    from ssm_stream.paper.report import describe_device, full_plan, pick_device, quick_plan, run_plan

    try:
        chosen = pick_device(device)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--device") from error
    if out.is_dir() or not out.absolute().parent.is_dir():
        raise typer.BadParameter(f"cannot write {out}: not a file in an existing folder", param_hint="--out")
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(),
        console=console, disable=not sys.stderr.isatty(), transient=True,
    )  # fmt: skip
    try:
        with bar:
            task = bar.add_task("paper", total=1.0)
            sections = run_plan(
                quick_plan() if quick else full_plan(),
                chosen,
                cache,
                resume,
                notify=lambda line: console.print(line, highlight=False),
                advance=lambda fraction: bar.update(task, completed=fraction),
            )
        run = f"{'Quick run' if quick else 'Full run'} on {describe_device(chosen)}."
        out.write_text(report_html(sections, run), encoding="utf-8")
    except (OSError, FloatingPointError) as error:
        console.print(f"paper: {error}", style="bold red", highlight=False)
        raise typer.Exit(1) from error
    checks = [check for section in sections for check in section.checks]
    if as_json:
        sys.stdout.write(json.dumps({"checks": [check.row() for check in checks]}, ensure_ascii=False) + "\n")
    (console if as_json else Console()).print(checks_table(checks))
    console.print(f"report: {out}", highlight=False)
    if not all(check.ok for check in checks):
        raise typer.Exit(1)
