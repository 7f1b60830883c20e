"""`ssm-stream paper`: trains the paper's layer, compares it and writes the report."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from ssm_stream.cli.errors import FAILED, report_errors
from ssm_stream.cli.inputs import AsJson, require_writable
from ssm_stream.cli.language import Lang, language
from ssm_stream.cli.terminal.console import checks_table, new_table, output, print_table, share_bar
from ssm_stream.cli.terminal.output_file import write_output
from ssm_stream.reference import require_torch

if TYPE_CHECKING:
    from ssm_stream.evaluate.report.section import Check
    from ssm_stream.paper.words import Words


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
    lang: Lang = None,
) -> None:
    """Train the paper's layer, compare it with gradient descent and other layers, and write an HTML report.

    The full run takes ten minutes or more of one core; stopped, it goes on where it was. `--json` has the checks in
    English in every language.

    Exit code 0: every check passed; 1: a check failed; 2: a wrong call.

    Example: ssm-stream paper --quick --out paper.html
    """
    with report_errors():
        require_torch("paper")
    # Importing torch takes seconds, which `ssm-stream --help` must not.
    from ssm_stream.paper.page import report_html
    from ssm_stream.paper.report import describe_device, full_plan, pick_device, quick_plan, run_plan
    from ssm_stream.paper.words import words

    try:
        chosen = pick_device(device)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--device") from error
    require_writable({"--out": out})
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
        text = words(language(lang))
        run = text("quick" if quick else "full", device=describe_device(chosen, text("cpu")))
        write_output("--out", out, report_html(sections, run, text.language))
    except (OSError, FloatingPointError) as error:
        console.print(f"paper: {error}", style="bold red", markup=False)
        raise typer.Exit(FAILED) from error
    checks = [check for section in sections for check in section.checks]
    if as_json:
        sys.stdout.write(json.dumps({"checks": [check.row() for check in checks]}, ensure_ascii=False) + "\n")
    print_table(checks_table(checks) if text.language == "en" else _checks(checks, text), output(error=as_json))
    console.print(text("report", file=out))
    if not all(check.ok for check in checks):
        raise typer.Exit(FAILED)


def _checks(checks: Sequence[Check], text: Words) -> Table:
    """`checks_table` in another language."""
    columns = name, _, _, result = [text(f"check.{key}") for key in ("name", "value", "bar", "result")]
    table = new_table(columns, fold=(name,), text=(result,), title=text("section.checks"))
    for check in checks:
        shown = Text(text("check.met"), "green") if check.ok else Text(text("check.missed"), "bold red")
        table.add_row(text.check(check), f"{check.value:.4g}", check.bar_text, shown)
    return table
