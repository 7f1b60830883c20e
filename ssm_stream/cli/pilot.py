"""`ssm-stream pilot`: is it worth it, and how sure is that? A report on a recording."""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import orjson
import typer

from ssm_stream.cli.errors import reported, require_one_target, say_if_kernels_are_to_be_compiled
from ssm_stream.config import load_config

if TYPE_CHECKING:
    from ssm_stream.evaluate.true_events import TrueEvent


def pilot(
    config: Annotated[Path, typer.Argument(help="YAML file.", show_default=False)],
    file: Annotated[Path, typer.Argument(help="CSV, CSV.gz, JSON lines or Parquet.", show_default=False)],
    labels: Annotated[
        Path | None,
        typer.Option(help="True events, CSV or JSON lines: entity, start, end[, kind].", show_default=False),
    ] = None,
    costs: Annotated[
        Path | None, typer.Option(help="YAML file of what things cost. Default: assumptions.", show_default=False)
    ] = None,
    out: Annotated[Path, typer.Option(help="Where to write the report; .json goes beside it.")] = Path("report.html"),
    lang: Annotated[Literal["en", "ja"], typer.Option(help="Language of the report.")] = "en",
    first: Annotated[
        float, typer.Option(min=0.05, max=0.9, help="Share of each entity's rows that only teaches.")
    ] = 0.3,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap and of random alarms.")] = 1,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first rows.", show_default=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print verdict, checks and figures as JSON.")] = False,
) -> None:
    """Judge a pilot by a recording: errors, alarms and money against simpler ways, with a verdict, as one HTML page.

    The exit code does not depend on the verdict: 0 when the report is written.

    Example: ssm-stream pilot monitor.yaml recording.csv --labels events.csv --costs costs.yaml --out report.html
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    from ssm_stream.autoconfig.feature_selection import SAMPLE, select_features
    from ssm_stream.evaluate.pilot.costs import read_costs
    from ssm_stream.evaluate.pilot.evaluation import NothingToJudgeError, run_pilot
    from ssm_stream.evaluate.pilot.format import paragraph
    from ssm_stream.evaluate.pilot.page import page
    from ssm_stream.evaluate.recordings import recording
    from ssm_stream.evaluate.true_events import read_true_events

    beside = out.with_suffix(".json")
    if out.is_dir() or not out.absolute().parent.is_dir() or beside == out:
        raise typer.BadParameter(f"cannot write {out}: name a .html file in an existing folder", param_hint="--out")
    console = Console(stderr=True)
    with reported(recording.RecordingError, NothingToJudgeError, OSError):
        loaded = load_config(config)
        require_one_target(loaded, "pilot")
        priced = read_costs(costs)
        rows = recording.Recording(file, limit)
        if loaded.event.features == "auto":
            selection = select_features(loaded, list(islice(rows, SAMPLE)))
            loaded = selection.config
            typer.echo("\n".join(selection.lines()), err=True)
        say_if_kernels_are_to_be_compiled()

        def true_events(names: list[str]) -> list[TrueEvent]:
            assert labels is not None
            return read_true_events(labels, loaded, names)

        with Progress(
            TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(),
            console=console, disable=not console.is_terminal, transient=True,
        ) as shown:  # fmt: skip
            total = recording.count_rows(file) if console.is_terminal else None
            bar = shown.add_task("engine", total=min(total, limit or total) if total else None)
            made = run_pilot(
                loaded,
                rows,
                true_events if labels is not None else None,
                priced,
                first,
                seed,
                on_rows=lambda count: shown.advance(bar, count),
                advance=lambda part, done: shown.update(bar, description=part, completed=done, total=1.0),
            )
        made.report["verdict"]["text"] = paragraph(made.report, lang)
        made.report["recording"]["file"] = file.name
        out.write_text(page(made, lang, file.name), encoding="utf-8")
        beside.write_bytes(orjson.dumps(made.report, option=orjson.OPT_INDENT_2) + b"\n")
    if as_json:
        told: dict[str, Any] = {
            "verdict": made.report["verdict"]["grade"],
            "text": made.report["verdict"]["text"],
            "checks": made.report["verdict"]["checks"],
            **{name: made.report[name] for name in ("recording", "kpis", "what_if", "config")},
            "report": str(out),
            "json": str(beside),
        }
        sys.stdout.write(orjson.dumps(told, option=orjson.OPT_INDENT_2).decode() + "\n")
    else:
        typer.echo(made.report["verdict"]["text"])
    console.print(f"report: {out}, figures: {beside}", highlight=False, markup=False)
