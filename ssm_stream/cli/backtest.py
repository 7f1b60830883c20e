"""`ssm-stream backtest`: the production engine over a recording."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import orjson
import typer

from ssm_stream.cli.errors import reported, say_if_kernels_are_to_be_compiled
from ssm_stream.config import ConfigError, load_config

if TYPE_CHECKING:
    from ssm_stream.evaluate.prequential import Chunk


def backtest(
    config: Annotated[Path, typer.Argument(help="YAML file.", show_default=False)],
    file: Annotated[Path, typer.Argument(help="CSV, CSV.gz, JSON lines or Parquet.", show_default=False)],
    out: Annotated[Path | None, typer.Option(help="Write a prediction message an event here (JSON lines).")] = None,
    alerts: Annotated[Path | None, typer.Option(help="Write the alert messages here (JSON lines).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the metrics as JSON.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first rows.")] = None,
    label_delay: Annotated[
        int, typer.Option(min=0, max=4095, help="The label of a row comes so many rows later.", show_default=False)
    ] = 0,
    device: Annotated[
        Literal["cpu", "cuda"] | None,
        typer.Option(help="Predict many entities side by side in torch on it; no alerts.", show_default=False),
    ] = None,
) -> None:
    """Predict, judge and learn every row in order, as production would, and print how well that went.

    Example: ssm-stream backtest configs/soft-sensor.yaml gas_turbine.csv.gz --out predictions.jsonl
    """
    from itertools import islice

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from ssm_stream.autoconfig.feature_selection import SAMPLE, select_features
    from ssm_stream.evaluate import prequential
    from ssm_stream.evaluate.recordings import recording

    console = Console(stderr=True)
    with reported(recording.RecordingError, OSError), ExitStack() as stack:
        loaded = load_config(config)
        rows = recording.Recording(file, limit)
        if loaded.event.features == "auto":
            selection = select_features(loaded, list(islice(rows, SAMPLE)))
            loaded = selection.config
            typer.echo("\n".join(selection.lines()), err=True)
        if device is None:
            say_if_kernels_are_to_be_compiled()
        elif label_delay:
            raise ConfigError("--label-delay: with --device every target comes with its event; leave one of them out")
        predictions_file = stack.enter_context(out.open("wb")) if out else None
        alerts_file = stack.enter_context(alerts.open("wb")) if alerts else None
        shown = stack.enter_context(
            Progress(
                TextColumn("backtest"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
                console=console, disable=not console.is_terminal, transient=True,
            )
        )  # fmt: skip
        total = recording.count_rows(file) if console.is_terminal else None
        bar = shown.add_task("backtest", total=total if total is None or limit is None else min(total, limit))

        def on_chunk(chunk: prequential.Chunk) -> None:
            shown.advance(bar, len(chunk.events) + len(chunk.refused))
            for refusal in chunk.refused[:3]:
                console.print(
                    f"row {chunk.first + refusal.position + 1}: {refusal.fault}: {refusal.reason}", markup=False
                )
            if predictions_file is not None:
                predictions_file.write(prediction_lines(chunk, file.name))
            if alerts_file is not None:
                for message in prequential.alert_rows(chunk, file.name):
                    alerts_file.write(orjson.dumps(message) + b"\n")

        result = prequential.backtest(loaded, rows, on_chunk, label_delay, device or "")
    if as_json:
        sys.stdout.write(orjson.dumps(result, option=orjson.OPT_INDENT_2).decode() + "\n")
    else:
        _print(result)


def prediction_lines(chunk: Chunk, source: str) -> bytes:
    """The chunk's prediction messages, as they stand on the topic; the id is `SOURCE-0-ROW` (`…-TARGET` of several)."""
    from ssm_stream.kafka.encoder import encode_predictions
    from ssm_stream.kafka.records import ShardBatch

    if not len(chunk.events):
        return b""
    batch = ShardBatch(0, chunk.events, (chunk.first + chunk.events.position).tolist())
    values = encode_predictions(batch, chunk.predictions, f"{source}-0-", chunk.ahead, chunk.targets)
    return b"\n".join(values) + b"\n"


def _print(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    several = result.get("by_target")
    table = Table(title=None, show_edge=False)
    for name in (
        "target" if several else "entity",
        "events",
        "MAE",
        "naive",
        "ratio",
        "cover",
        "width",
        "anomaly",
        "drift",
    ):
        table.add_column(name, justify="left" if name in ("entity", "target") else "right")

    def number(value: float | None, form: str = ".4g") -> str:
        return "–" if value is None else format(value, form)

    def add(name: str, m: dict[str, Any]) -> None:
        ratio = m["mae"] / m["mae_persistence"] if m["mae"] is not None and m["mae_persistence"] else None
        table.add_row(
            name, f"{m['events']:,}", number(m["mae"]), number(m["mae_persistence"]), number(ratio, ".3f"),
            number(m["coverage"], ".1%"), number(m["interval_width"]), str(m["anomalies"]), str(m["drifts"]),
        )  # fmt: skip

    entities = result["by_entity"]
    if several:
        for name, metrics in several.items():
            add(name, metrics)
        table.add_section()
    elif len(entities) > 1:
        shown = sorted(entities.items(), key=lambda item: -(item[1]["anomalies"] + item[1]["drifts"]))[:20]
        for name, metrics in shown:
            add(name, metrics)
        table.add_section()
    count = len(several or entities)
    add(f"all {count:,}" if count > 1 else next(iter(entities), "–"), result)
    console.print(table)
    console.print("[dim]naive: persistence (the last value); ratio: MAE over that; cover: inside the interval[/dim]")
    if several:
        console.print(f"[dim]{len(several)} targets; --json has each of the {len(entities):,} entities[/dim]")
    elif len(entities) > 20:
        console.print(f"[dim]the 20 entities with most alerts of {len(entities):,}; --json has all[/dim]")
    refused = sum(result["refused"].values())
    rate = (result["events"] + refused) / result["seconds"]
    console.print(
        f"{result['seconds']:.2f} s, {rate:,.0f} rows/s, "
        f"{result['bytes_per_entity']:,} bytes an entity, {result['bytes_per_pool']:,} a pool; "
        f"interval level {result['level']:.0%}; rows refused: {refused or 'none'}"
        + (f" ({', '.join(f'{fault} {count}' for fault, count in result['refused'].items())})" if refused else "")
    )
