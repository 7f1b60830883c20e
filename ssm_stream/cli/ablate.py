"""`ssm-stream ablate`: what each part of the model and each input is worth on a recording."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from ssm_stream.cli.tune import Cache, Jobs, Limit, Seed, alarms, day, interval, number, percent, prepared, table_of

if TYPE_CHECKING:
    from ssm_stream.evaluate.tuning.ablation import Ablation


def ablate(
    config: Annotated[Path, typer.Argument(help="YAML file.", show_default=False)],
    file: Annotated[Path, typer.Argument(help="CSV, CSV.gz, JSON lines or Parquet.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print the table as JSON.")] = False,
    limit: Limit = None,
    jobs: Jobs = None,
    cache: Cache = None,
    seed: Seed = 0,
) -> None:
    """Leave out each part of the model and each input in turn, and print what the error rises without it.

    Errors are those of the last 30 % of the recording. Ctrl-C stops, and the same command goes on where it was.

    Example: ssm-stream ablate monitor.yaml recording.csv --jobs 4
    """
    from ssm_stream.evaluate.tuning.ablation import ablate as leave_out
    from ssm_stream.evaluate.tuning.ablation import parts
    from ssm_stream.evaluate.tuning.search import find_cut

    with prepared(config, file, limit, jobs, cache, "ablate") as (loaded, runner, targets, progress):
        begin = progress(1 + len(parts(loaded, targets)), "ablate")
        found = leave_out(loaded, runner, find_cut(targets.ts, str(file)), targets, begin, seed)
    if as_json:
        sys.stdout.write(orjson.dumps(found.as_json(), option=orjson.OPT_INDENT_2).decode() + "\n")
    else:
        _print(found)


def _print(found: Ablation) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console()
    console.print(f"the later part, from {day(found.cut)}: {found.everything['rows']:,} rows", highlight=False)
    table = table_of("without|worth|interval||MAE|cover|alerts", ("without", ""))

    def add(name: str, worth: str, range_: str, verdict: str, m: dict[str, Any]) -> None:
        table.add_row(escape(name), worth, range_, verdict, number(m["mae"]), percent(m["coverage"], ".1%"), alarms(m))

    add("(nothing)", "", "", "", found.everything)
    for each in found.parts:
        c = each.change
        add(each.part.name, percent(c.value if c else None), interval(c), each.verdict, each.figures)
    console.print(table)
    console.print(
        "[dim]worth: what the error rises without it, each entity in its own unit; the intervals hold at 95 % for all "
        "rows together; alerts: anomaly + drift[/dim]",
        soft_wrap=True,
    )
