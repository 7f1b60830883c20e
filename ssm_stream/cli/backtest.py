"""`ssm-stream backtest`: runs the production engine over a recording."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import orjson
import typer

from ssm_stream.cli.errors import FAILED, exit_with, report_errors
from ssm_stream.cli.inputs import (
    AsJson,
    ConfigFile,
    EventCount,
    FileOrTopic,
    Limit,
    Partitions,
    Reading,
    load_for,
    open_recording,
    partitions_of,
    require_writable,
    rows_to_read,
    with_option_groups,
)
from ssm_stream.cli.terminal.console import counting_bar, format_number, new_table, output, print_json, print_table
from ssm_stream.cli.terminal.output_file import open_output
from ssm_stream.cli.topic.options import FromTopic, file_or_topic
from ssm_stream.config import Config, ConfigError
from ssm_stream.config.first_alerts import first_alerts, too_short
from ssm_stream.config.quantities import format_duration

if TYPE_CHECKING:
    from ssm_stream.evaluate.prequential import Chunk

SHOWN, EXAMPLES = 20, 3
"""Entities in the table, and rows that are printed of those refused for one fault."""


class AsIf(NamedTuple):
    """How the recording is processed, other than in one stream whose labels come with the events."""

    label_delay: Annotated[
        int, typer.Option(min=0, max=4095, help="Rows by which each label comes later.", show_default=False)
    ] = 0
    device: Annotated[
        Literal["cpu", "cuda"] | None,
        typer.Option(help="Predict many entities side by side in torch on this device; no alerts.", show_default=False),
    ] = None
    partitions: Partitions = None


class Messages(NamedTuple):
    """Files for what would be sent."""

    out: Annotated[Path | None, typer.Option(help="Write the prediction messages to this file (JSON lines).")] = None
    alerts: Annotated[Path | None, typer.Option(help="Write the alert messages to this file (JSON lines).")] = None


@with_option_groups
def backtest(
    config: ConfigFile,
    where: FromTopic,
    reading: Reading,
    as_if: AsIf,
    messages: Messages,
    file: FileOrTopic = None,
    as_json: AsJson = False,
    limit: Limit = None,
) -> None:
    """Predict, score and learn each row of a recording in order, as production does, and print errors and alerts.

    Exit code 0: done; 1: the recording cannot be read, or none of its rows is an event; 2: a wrong call.

    Examples: ssm-stream backtest examples/soft-sensor.yaml examples/plant.csv.gz --out predictions.jsonl

    ssm-stream backtest examples/soft-sensor.yaml --topic --since 7d
    """
    from ssm_stream.evaluate.backtest import backtest as run_backtest
    from ssm_stream.evaluate.prequential import alert_rows
    from ssm_stream.evaluate.recordings import RecordingError
    from ssm_stream.evaluate.recordings.context_files import find_facts

    label_delay, device, partitions = as_if
    out, alerts = messages
    with report_errors(RecordingError, OSError), ExitStack() as stack:
        loaded = load_for(config, file)
        recording = stack.enter_context(file_or_topic(loaded, file, where))
        require_writable({"--out": out, "--alerts": alerts}, config, file, *find_facts(loaded, recording)[0])
        loaded, rows = open_recording(loaded, recording, limit, reading)
        if device is not None and (partitions or 1) > 1:
            raise ConfigError("--partitions: with --device the entities form one pool a shard; leave one of them out")
        if device is not None and label_delay:
            raise ConfigError("--label-delay: with --device every target comes with its event; leave one of them out")
        predictions_file = stack.enter_context(open_output("--out", out))
        alerts_file = stack.enter_context(open_output("--alerts", alerts))
        bar = stack.enter_context(counting_bar())
        task = bar.add_task("backtest", total=rows_to_read(rows))
        count, examples = EventCount(loaded, recording.name), _Examples()

        def on_chunk(chunk: Chunk) -> None:
            bar.advance(task, chunk.height)
            count.add(chunk.events.ts, chunk.refused, chunk.height, chunk.passed_by)
            for line in examples.lines(chunk):
                bar.console.print(line, markup=False, highlight=False)
            if predictions_file is not None:
                predictions_file.write(prediction_lines(chunk, recording.name))
            if alerts_file is not None:
                for message in alert_rows(chunk):
                    alerts_file.write(orjson.dumps(message) + b"\n")

        pools = 1 if device else partitions_of(loaded, rows, partitions)
        result = run_backtest(loaded, rows, on_chunk, label_delay, device or "", recording.name, pools)
    if as_json:
        print_json(result)
    else:
        _print(loaded, result, with_late_labels=bool(label_delay) or loaded.labels is not None)
        _print_pools(loaded, result)
    if not as_json and (unit := count.describe_unit()):
        output().print(unit, markup=False, highlight=False, soft_wrap=True)
    if none := count.describe_none():
        raise exit_with(RecordingError(none), FAILED)


class _Examples:
    """Rows that are refused, the first few for each fault: hundreds that come late would hide the table."""

    def __init__(self) -> None:
        self._shown = Counter[str]()

    def lines(self, chunk: Chunk) -> Iterator[str]:
        """Yield a line each of those of the next chunk."""
        for refusal in chunk.refused:
            self._shown[refusal.fault] += 1
            if self._shown[refusal.fault] <= EXAMPLES:
                yield f"row {chunk.first + refusal.position + 1}: {refusal.fault}: {refusal.reason}"
            elif self._shown[refusal.fault] == EXAMPLES + 1:
                yield f"further rows are refused, too ({refusal.fault}); they are counted at the end"


def prediction_lines(chunk: Chunk, source: str) -> bytes:
    """The prediction messages of a chunk as on the topic; their id is `SOURCE-0-ROW`, or `…-TARGET` of several."""
    from ssm_stream.kafka.encoder import encode_predictions
    from ssm_stream.kafka.records import ShardBatch

    if not len(chunk.events):
        return b""
    batch = ShardBatch(0, chunk.events, (chunk.first + chunk.events.position).tolist())
    values = encode_predictions(batch, chunk.predictions, f"{source}-0-", chunk.ahead, chunk.targets)
    return b"\n".join(values) + b"\n"


def _print(config: Config, result: dict[str, Any], *, with_late_labels: bool) -> None:
    targets, entities = result.get("by_target"), result["by_entity"]
    first = "target" if targets else "entity"
    sparse = any(each["labelled"] < each["events"] for each in (result, *(targets or {}).values()))
    columns = (
        first,
        "events",
        *(["labels"] if sparse else []),
        "MAE",
        "naive",
        "ratio",
        "cover",
        "width",
        "anomaly",
        "drift",
    )
    table = new_table(columns, fold=(first,))
    rows = targets or {}
    if not targets and len(entities) > 1:
        by_alerts = sorted(entities.items(), key=lambda item: -(item[1]["anomalies"] + item[1]["drifts"]))
        rows = dict(by_alerts[:SHOWN])
    for name, metrics in rows.items():
        table.add_row(name, *_cells(metrics, sparse))
    if rows:
        table.add_section()
    count = len(targets or entities)
    table.add_row(f"all {count:,}" if count > 1 else next(iter(entities), "–"), *_cells(result, sparse))
    print_table(table)
    console = output()
    labels = "labels: events with a target, which alone are scored; " if sparse else ""
    repeated = "the last label that was there" if with_late_labels else "the last value"
    console.print(
        f"[dim]{labels}naive: persistence ({repeated}); ratio: MAE over that; cover: inside the interval[/dim]"
    )
    if targets:
        each = f"; --json has each of the {len(entities):,} entities" if len(entities) > 1 else ""
        console.print(f"[dim]{len(targets)} targets{each}[/dim]")
    elif len(entities) > SHOWN:
        console.print(f"[dim]the {SHOWN} entities with most alerts of {len(entities):,}; --json has all[/dim]")
    if config.labels is not None and result["events"] and not result["labelled"]:
        console.print(
            "no event has a label: a recording has labels as rows of their own, each where it came, by labels.marker",
            soft_wrap=True,
        )
    console.print(_inside(result), markup=False, highlight=False, soft_wrap=True)
    if result["by_rules"]:
        console.print(
            "alerts by rules: " + ", ".join(f"{kind} {n:,}" for kind, n in sorted(result["by_rules"].items()))
        )
    if short := too_short([each["labelled"] for each in entities.values()], config.model):
        console.print(short, markup=False, highlight=False, soft_wrap=True)
    share = result["labelled"] / result["events"] if result["labelled"] else 1.0
    if late := first_alerts(result["step"] / share, config.model, "rows that come more often are sooner"):
        console.print(late, markup=False, highlight=False, soft_wrap=True)
    refused, passed = sum(result["refused"].values()), result["passed_by"]
    others = "readings of other signals" if config.event.layout == "readings" else "rows of other entities"
    if result.get("sorted"):
        what = "readings" if config.event.layout == "readings" else "events"
        console.print(f"the {what} of the file are not in the order of their times: they were sorted")
    disordered = None
    if result.get("backward"):
        disordered = (
            f"times go back in {result['backward']:,} events within their entities, and rows are learned in order: a "
            f"file should be sorted by {config.event.timestamp}, oldest first"
        )
    elif result.get("late"):
        disordered = (
            f"{result['late']:,} events came after later ones of their entities, by up to "
            f"{result['late_by'] / 3600:.3g} h: none is refused, and they are learned in the order in which they came"
        )
        if "clocks_back" in result:
            disordered += (
                f". {result['clocks_back_late']:,} of them came in an hour that local clocks have twice, as in "
                f"{result['clocks_back']}: if `{config.event.timestamp}` is local time without an offset, set "
                "event.time_zone to its zone, by which the second hour is later"
            )
    if disordered is not None:
        console.print(disordered, markup=False, highlight=False, soft_wrap=True)
    if result.get("repeated"):
        console.print(
            f"{result['repeated']:,} events have the time and the values of their entity's event before, and are "
            "learned, too: is the file, or a part of it, there twice?",
            soft_wrap=True,
        )
    if result.get("rowless"):
        console.print(_rowless(config, result["rowless"]), markup=False, highlight=False, soft_wrap=True)
    if result.get("overtaken"):
        console.print(
            f"{result['overtaken']:,} readings came after the row of their own time, which has older values in their "
            "place: with event.grace: 1ms a row waits for all readings of its time",
            soft_wrap=True,
        )
    by_fault = ", ".join(f"{fault} {count}" for fault, count in result["refused"].items())
    console.print(
        f"{result['seconds']:.2f} s, {(result['events'] + refused + passed) / result['seconds']:,.0f} rows/s, "
        f"{result['bytes_per_entity']:,} bytes an entity, {result['bytes_per_pool']:,} a pool; "
        f"interval level {result['level']:.0%}; rows refused: {refused or 'none'}"
        + (f" ({by_fault})" if refused else "")
        + (f"; {passed:,} {others} passed by" + (" (event.only)" if config.event.only else "") if passed else "")
        + (f"; {result['idle']:,} rows idle (event.when)" if result["idle"] else "")
        + (": no row meets it, is it right?" if result["idle"] and result["idle"] == result["events"] else "")
        + (f"; {result['doubtful']:,} rows with values that are not good (event.quality)" if result["doubtful"] else "")
    )


def _print_pools(config: Config, result: dict[str, Any]) -> None:
    """Print the pools of production, and that the team's budget is for another number of entities."""
    from ssm_stream.evaluate.pools import Pool, describe_budget, describe_pools

    lines = [describe_budget(config, result["entities"])]
    if result["partitions"] > 1:
        pools = [Pool(**{name: each[name] for name in Pool._fields}) for each in result["pools"]]
        lines.insert(0, f"in production: {describe_pools(config, pools, result['partitions'])}")
    for line in filter(None, lines):
        output().print(line, markup=False, highlight=False, soft_wrap=True)


def _rowless(config: Config, names: list[str]) -> str:
    """Return which entities have readings and no row, and how they get some."""
    shown = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else "")
    what = f"{len(names):,} of the entities ({shown}) have readings and no row, so that nothing of them is watched"
    if config.event.every is not None:
        return f"{what}: a row takes two readings at least, event.every ({format_duration(config.event.every)}) apart"
    return (
        f"{what}: a row is made at each reading of `{config.event.targets[0]}`, which they never have. With "
        "event.every: 1m, or as often as they are read, rows of all entities are made at such times"
    )


def _inside(result: dict[str, Any]) -> str:
    """Return how much lies inside episodes, which their number does not show."""
    found = [
        f"{kind} {result[f'{kind}_share']:.1%} (the longest {result[f'{kind}_longest']:,}, of {name})"
        for kind in ("anomaly", "drift")
        if (name := result[f"{kind}_longest_entity"]) is not None
    ]
    return f"events inside episodes: {'; '.join(found) or 'none'}"


def _cells(m: dict[str, Any], sparse: bool) -> list[str]:
    ratio = m["mae"] / m["mae_persistence"] if m["mae"] is not None and m["mae_persistence"] else None
    return [
        f"{m['events']:,}", *([f"{m['labelled']:,}"] if sparse else []),
        format_number(m["mae"]), format_number(m["mae_persistence"]), format_number(ratio, ".3f"),
        format_number(m["coverage"], ".1%"), format_number(m["interval_width"]), str(m["anomalies"]), str(m["drifts"]),
    ]  # fmt: skip
