"""`ssm-stream train`: meta-trains the frozen weights."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import orjson
import typer
from rich.table import Table

from ssm_stream.cli.errors import FAILED, report_errors
from ssm_stream.cli.inputs import AsJson, load_for, open_recording, require_writable, with_option_groups
from ssm_stream.cli.terminal.console import new_table, output, print_table, share_bar
from ssm_stream.cli.terminal.printable import echo
from ssm_stream.core import frozen_weights

if TYPE_CHECKING:
    from ssm_stream.training.history import History
    from ssm_stream.training.training import Result
    from ssm_stream.training.validation import Row

MAX_RATIO = 1.05
"""Largest ratio of the trained error to the start's, for each kind of stream."""


class RecipeOptions(NamedTuple):
    """How long to train, and on which streams."""

    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Maximum number of rounds. Default: 120, with --quick 4.", show_default=False),
    ] = None
    minutes: Annotated[
        float | None, typer.Option(min=0.01, help="Maximum duration; the best weights so far are written.")
    ] = None
    seed: Annotated[int, typer.Option(min=0, help="Seed of the training streams.")] = 0
    quick: Annotated[bool, typer.Option("--quick", help="Run for a minute or two, as a trial.")] = False


@with_option_groups
def train(
    recipe_options: RecipeOptions,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Write the weights to this file.")] = Path(
        "weights.safetensors"
    ),
    start: Annotated[
        Path | None,
        typer.Option(
            "--start",
            metavar="FILE",
            help="Start from these weights; `untrained`: those set by hand.",
            show_default="those of the package",
        ),
    ] = None,
    history: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            "--history",
            metavar="FILE CONFIG",
            show_default=False,
            help="Also train on the first 70 % of your recording, on all of its targets, and validate on the rest.",
        ),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH", help="Of several targets of --history only this one. Repeatable.", show_default=False
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from FILE.checkpoint if it exists.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train the frozen weights on synthetic streams, and on your own recording if you name one.

    Writes FILE (for `model.weights`) and, after every round, FILE.checkpoint. The weights with the smallest error on
    held-out streams are written, or the start if none are better.

    Exit code 0: no kind of stream got worse by more than 5 %; 1: one did, or training failed; 2: a wrong call.

    Example: ssm-stream train --minutes 30 --out weights.safetensors

    Example: ssm-stream train --history examples/plant.csv.gz examples/soft-sensor.yaml --out plant.safetensors
    """
    from ssm_stream.evaluate.recordings import RecordingError
    from ssm_stream.training import training
    from ssm_stream.training.recipe import QUICK, Recipe, TrainingError

    require_writable({"--out": out}, start, *(history or ()))
    steps, minutes, seed, quick = recipe_options
    recipe = QUICK if quick else Recipe()
    recipe = recipe._replace(minutes=minutes, seed=seed, rounds=steps or recipe.rounds)
    console, bar = output(error=True), share_bar()
    with report_errors(RecordingError, TrainingError, OSError):
        begin = frozen_weights.load(start)
        own = _histories(*history, target or []) if history else []
        with bar:
            task = bar.add_task("train", total=1.0)
            result = training.train(
                recipe,
                begin,
                own,
                out.with_name(out.name + ".checkpoint"),
                resume,
                notify=bar.console.print,
                advance=lambda fraction: bar.update(task, completed=fraction),
            )
        card = training.make_card(result, recipe, begin, history[0].name if history else None)
        frozen_weights.save(result.weights, out, card)
    checks = _checks(result)
    if as_json:
        sys.stdout.write(orjson.dumps({"checks": checks, "card": frozen_weights.card(out)}).decode() + "\n")
    print_table(_table(result.rows), output(error=as_json))
    if result.better:
        console.print(f"score {result.score:.4f} (1 is the start); {result.reason}")
    else:
        console.print(f"no weights were better than the start, which is written; {result.reason}")
    console.print(f"weights: {out}")
    if not all(check["ok"] for check in checks):
        raise typer.Exit(FAILED)


def _histories(file: Path, config: Path, targets: list[str]) -> list[History]:
    from ssm_stream.evaluate.chosen_targets import choose_targets
    from ssm_stream.evaluate.recordings.context_files import recorded_facts
    from ssm_stream.ingest.rows.stage import read_rows
    from ssm_stream.training.history import target_histories

    loaded = load_for(config, file)
    chosen = choose_targets(loaded, targets)
    loaded, rows = open_recording(loaded, file)
    events, refused = read_rows(loaded.event, list(rows), recorded_facts(loaded, rows))
    if refused:
        echo(f"{file.name}: {len(refused)} rows are not valid events, the first: {refused[0].reason}", err=True)
    found, short = target_histories(loaded, events, chosen)
    if short:
        echo(f"{file.name}: too few events to train on: {', '.join(short)}", err=True)
    return found


def _checks(result: Result) -> list[dict[str, Any]]:
    found = [("score", result.score, 1.0), *((row.kind, row.trained / row.start, MAX_RATIO) for row in result.rows)]
    return [
        {"name": f"train/{name}", "value": round(value, 4), "relation": "<=", "bar": bar, "ok": value <= bar}
        for name, value, bar in found
    ]


def _table(rows: list[Row]) -> Table:
    columns = ("stream", "streams", "untrained", "start", "trained", "trained / start")
    title = "Mean absolute error on held-out streams, in mean absolute deviations of the target"
    table = new_table(columns, text=("stream",), title=title)
    for row in rows:
        errors = (f"{error:.4f}" for error in (row.untrained, row.start, row.trained))
        if row.kind in ("all", "(past)"):
            table.add_section()
        table.add_row(row.kind, str(row.streams), *errors, f"{row.trained / row.start:.3f}")
    return table
