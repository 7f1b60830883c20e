"""`ssm-stream train`: meta-training of the frozen weights."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from ssm_stream.cli.errors import reported, require_one_target, say_if_kernels_are_to_be_compiled, with_picked
from ssm_stream.config import load_config
from ssm_stream.kernels import frozen_weights
from ssm_stream.reference import require_torch

if TYPE_CHECKING:
    from ssm_stream.training.training import History, Result, Row

WORST = 1.05  # times the start's error that a kind of stream may end at


def train(
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where to write the weights.")] = Path(
        "weights.safetensors"
    ),
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Most updates; 400 where nothing is said, 12 with --quick.")
    ] = None,
    minutes: Annotated[float | None, typer.Option("--minutes", min=0.01, help="Most time; the best so far counts.")] = (
        None
    ),
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the streams trained on.")] = 0,
    start: Annotated[
        Path | None,
        typer.Option(
            "--start",
            metavar="FILE",
            help="Begin with these weights; `untrained`: those set by hand.",
            show_default="those of the package",
        ),
    ] = None,
    history: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            "--history",
            metavar="FILE CONFIG",
            show_default=False,
            help="Also train on the first 70 % of your own recording, and validate on the rest.",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from FILE.checkpoint, where it is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print checks and card as one JSON object.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="A minute or two, to see that it works.")] = False,
) -> None:
    """Train the frozen weights on synthetic streams, and on your own recording if you name one.

    Writes FILE (name it as `model.weights`) and, after every round, FILE.checkpoint. The best weights on streams held
    back are kept, or the start where none are better. Exit code 0 when no kind of stream got worse by more than 5 %, 1
    when one did or training failed, 2 for a wrong call.

    Example: ssm-stream train --minutes 30 --out weights.safetensors

    Example: ssm-stream train --history line7.csv.gz line7.yaml --out line7.safetensors
    """
    with reported():
        require_torch("train")
    # Loading torch takes seconds, which `ssm-stream --help` should not.
    from ssm_stream.evaluate.recordings.recording import RecordingError
    from ssm_stream.training import training

    if out.is_dir() or not out.absolute().parent.is_dir():
        raise typer.BadParameter(f"cannot write {out}: not a file in an existing folder", param_hint="--out")
    recipe = training.QUICK if quick else training.Recipe()
    recipe = recipe._replace(minutes=minutes, seed=seed, updates=steps or recipe.updates)
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(),
        console=console, disable=not sys.stderr.isatty(), transient=True,
    )  # fmt: skip
    with reported(RecordingError, training.TrainingError, OSError):
        begin = frozen_weights.load(start)
        own = _history(*history) if history else None
        say_if_kernels_are_to_be_compiled()
        with bar:
            task = bar.add_task("train", total=1.0)
            result = training.train(
                recipe,
                begin,
                own,
                out.with_name(out.name + ".checkpoint"),
                resume,
                notify=lambda line: console.print(line, highlight=False),
                advance=lambda fraction: bar.update(task, completed=fraction),
            )
        card = training.make_card(result, recipe, begin, history[0].name if history else None)
        frozen_weights.save(result.weights, out, card)
    checks = _checks(result)
    if as_json:
        sys.stdout.write(orjson.dumps({"checks": checks, "card": frozen_weights.card(out)}).decode() + "\n")
    (console if as_json else Console()).print(_table(result.rows))
    if result.better:
        console.print(f"score {result.score:.4f} (1 is the start); {result.reason}", highlight=False)
    else:
        console.print(f"nothing better than the start was found, which is kept; {result.reason}", highlight=False)
    console.print(f"weights: {out}", highlight=False)
    if not all(check["ok"] for check in checks):
        raise typer.Exit(1)


def _history(file: Path, config: Path) -> History:
    from ssm_stream.evaluate.recordings import recording
    from ssm_stream.ingest.events import EventReader
    from ssm_stream.training.training import read_history

    loaded, rows = load_config(config), recording.rows(file)
    require_one_target(loaded, "train")
    loaded, rows = with_picked(loaded, rows)
    events, refused = EventReader(loaded.event).read(list(rows))
    if refused:
        typer.echo(f"{file.name}: {len(refused)} rows are no events, the first: {refused[0].reason}", err=True)
    return read_history(loaded, events)


def _checks(result: Result) -> list[dict[str, Any]]:
    found = [("score", result.score, 1.0), *((row.kind, row.trained / row.start, WORST) for row in result.rows)]
    return [
        {"name": f"train/{name}", "value": round(value, 4), "relation": "<=", "bar": bar, "ok": value <= bar}
        for name, value, bar in found
    ]


def _table(rows: list[Row]) -> Table:
    table = Table(
        title="Mean absolute error on streams held back, in mean absolute deviations of the target",
        title_justify="left",
    )
    table.add_column("stream")
    for name in ("streams", "untrained", "start", "trained", "trained / start"):
        table.add_column(name, justify="right")
    for row in rows:
        errors = (f"{error:.4f}" for error in (row.untrained, row.start, row.trained))
        if row.kind in ("all", "(past)"):
            table.add_section()
        table.add_row(row.kind, str(row.streams), *errors, f"{row.trained / row.start:.3f}")
    return table
