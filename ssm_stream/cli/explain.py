"""`ssm-stream explain`: why the engine predicts what it does for an entity."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from ssm_stream.cli.errors import reported, say_if_kernels_are_to_be_compiled
from ssm_stream.config import load_config

if TYPE_CHECKING:
    from ssm_stream.explain import Explanation


def explain(
    config: Annotated[Path, typer.Argument(help="YAML file.", show_default=False)],
    entity: Annotated[str, typer.Argument(help="Name of the entity.", show_default=False)],
    recording: Annotated[
        Path, typer.Option(help="CSV, CSV.gz, JSON lines or Parquet: the events up to then.", show_default=False)
    ],
    row: Annotated[
        int | None, typer.Option(min=1, help="Explain the prediction of this row. Default: the entity's last.")
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="Which target, where there are several. Default: the first.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Inputs and heads that are shown.")] = 12,
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON.")] = False,
) -> None:
    """Take a prediction apart: base, each input's weight and contribution, heads, gate, and what rests on the fleet.

    The production engine runs over the recording up to the event. Base, constant, contributions and the rest (what
    bends: embedding, ferns, log space, attention) add up to the prediction.

    Example: ssm-stream explain configs/parking.yaml BHMBCCMKT01 --recording parking.csv.gz
    """
    from ssm_stream.evaluate import recordings
    from ssm_stream.explain import UnknownEntityError, explain_recorded
    from ssm_stream.pick import pick_ahead

    with reported(recordings.RecordingError, OSError):
        loaded = load_config(config)
        rows: Iterator[dict[str, Any]] = recordings.rows(recording)
        if loaded.event.features == "auto":
            picked, rows = pick_ahead(loaded, rows)
            loaded = picked.config
        say_if_kernels_are_to_be_compiled()
        try:
            found = explain_recorded(loaded, rows, entity, row, target)
        except UnknownEntityError as error:
            raise typer.BadParameter(str(error)) from None
    if as_json:
        sys.stdout.write(orjson.dumps(found.as_json(), option=orjson.OPT_INDENT_2).decode() + "\n")
    else:
        _print(found, top)


def _print(found: Explanation, top: int) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    console.print(
        f"{found.entity} at {found.when}, after {found.n:,} labelled events: yhat {found.yhat:.6g}", markup=False
    )
    console.print(f"{found.fleet:.0%} of the prediction rests on what other entities taught")
    table = Table(show_edge=False)
    for name in ("part", "value", "weight", "contribution"):
        table.add_column(name, justify="left" if name == "part" else "right")
    table.add_row("base", "", "", f"{found.base:.6g}")
    table.add_row("constant", "", "", f"{found.constant:+.4g}")
    for part in found.parts[:top]:
        value = "unknown" if part.value is None else f"{part.value:.5g}"
        table.add_row(part.feature, value, f"{part.weight:+.4g}", f"{part.contribution:+.4g}")
    others = found.parts[top:]
    if others:
        total = sum(part.contribution for part in others)
        table.add_row(f"{len(others)} other inputs", "", "", f"{total:+.4g}")
    table.add_row("rest (what bends)", "", "", f"{found.rest:+.4g}")
    table.add_section()
    table.add_row("yhat", "", "", f"{found.yhat:.6g}")
    console.print(table)
    heads = Table(show_edge=False)
    for name in ("head", "answer", "gate"):
        heads.add_column(name, justify="left" if name == "head" else "right")
    for answer in found.answers[:top]:
        heads.add_row(answer.head, f"{answer.answer:.6g}", f"{answer.weight:+.3f}")
    if found.answers[top:]:
        total = sum(answer.weight for answer in found.answers[top:])
        heads.add_row(f"{len(found.answers) - top} other heads", "", f"{total:+.3f}")
    console.print(heads)
