"""`ssm-stream paper`: trains the paper's layer, compares it and writes the report."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from ssm_stream.cli.errors import FAILED, report_errors
from ssm_stream.cli.inputs import AsJson, require_writable
from ssm_stream.cli.terminal.console import checks_table, output, print_table, share_bar
from ssm_stream.reference import require_torch


def paper(
    quick: Annotated[
        bool, typer.Option("--quick", help="Run for less than two minutes: equalities, the scalar case, one ablation.")
    ] = False,
    as_json: AsJson = False,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Write the HTML report to this file.")] = Path(
        "paper.html"
    ),
    resume: Annotated[
        bool, typer.Option("--resume/--fresh", help="Reuse finished experiments of the cache, or repeat all.")
    ] = True,
    cache: Annotated[
        Path, typer.Option("--cache", metavar="FOLDER", help="Folder of the finished experiments.")
    ] = Path(".ssm-stream/paper"),
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Train the paper's layer, compare it with gradient descent and other layers, and write an HTML report.

    Exit code 0: every check passed; 1: a check failed; 2: a wrong call.

    Example: ssm-stream paper --quick --out paper.html
    """
    with report_errors():
        require_torch("paper")
    # Importing torch takes seconds, which `ssm-stream --help` must not.
    from ssm_stream.paper.page import report_html
    from ssm_stream.paper.report import describe_device, full_plan, pick_device, quick_plan, run_plan

    try:
        chosen = pick_device(device)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--device") from error
    require_writable(out, "--out")
    console, bar = output(error=True), share_bar()
    try:
        with bar:
            task = bar.add_task("paper", total=1.0)
            sections = run_plan(
                quick_plan() if quick else full_plan(),
                chosen,
                cache,
                resume,
                notify=bar.console.print,
                advance=lambda fraction: bar.update(task, completed=fraction),
            )
        run = f"{'Quick run' if quick else 'Full run'} on {describe_device(chosen)}."
        out.write_text(report_html(sections, run), encoding="utf-8")
    except (OSError, FloatingPointError) as error:
        console.print(f"paper: {error}", style="bold red", markup=False)
        raise typer.Exit(FAILED) from error
    checks = [check for section in sections for check in section.checks]
    if as_json:
        sys.stdout.write(json.dumps({"checks": [check.row() for check in checks]}, ensure_ascii=False) + "\n")
    print_table(checks_table(checks), output(error=as_json))
    console.print(f"report: {out}")
    if not all(check.ok for check in checks):
        raise typer.Exit(FAILED)
