"""`ssm-stream pilot`: writes a report on whether a deployment is worth it, from a recording."""

from __future__ import annotations

import shlex
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import orjson
import typer

from ssm_stream.cli.errors import report_errors
from ssm_stream.cli.inputs import (
    ConfigFile,
    FileOrTopic,
    Limit,
    OneTarget,
    Partitions,
    Reading,
    load_for,
    one_target,
    open_recording,
    partitions_of,
    read_labels,
    require_writable,
    rows_to_read,
    with_option_groups,
)
from ssm_stream.cli.language import Lang, language
from ssm_stream.cli.terminal.command_line import command_line
from ssm_stream.cli.terminal.console import format_number, new_table, output, print_json, print_table, share_bar
from ssm_stream.cli.terminal.output_file import write_output
from ssm_stream.cli.terminal.printable import echo
from ssm_stream.cli.topic.options import FromTopic, file_or_topic

if TYPE_CHECKING:
    from ssm_stream.evaluate.true_events import TrueEvent

PRINTED = ("recording", "headline", "stages", "kpis", "episodes", "what_if", "config", "targets")
"""Parts of the report that `--json` prints whole."""
MAX_TARGETS = 16
"""Targets with a line in the terminal."""


class Judging(NamedTuple):
    """What the recording is judged by."""

    labels: Annotated[
        Path | None,
        typer.Option(help="True events, CSV or JSON lines: entity, start, end[, kind][, signal].", show_default=False),
    ] = None
    feedback: Annotated[
        Path | None,
        typer.Option(help="Verdicts on alarms instead, JSON lines, by the ids in the report.", show_default=False),
    ] = None
    costs: Annotated[
        Path | None,
        typer.Option(help="YAML file: costs, fleet, bars of the stages. Default: assumptions.", show_default=False),
    ] = None
    first: Annotated[
        float, typer.Option(min=0.05, max=0.9, help="Share of each entity's rows that are learned and not judged.")
    ] = 0.3
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap and of random alarms.")] = 1
    partitions: Partitions = None
    target: OneTarget = None
    limit: Limit = None
    lang: Lang = None


@with_option_groups
def pilot(
    context: typer.Context,
    config: ConfigFile,
    where: FromTopic,
    reading: Reading,
    judging: Judging,
    file: FileOrTopic = None,
    out: Annotated[Path, typer.Option(help="Write the report to this file, and its data to .json next to it.")] = Path(
        "report.html"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print verdict, checks and figures as one JSON object.")] = (
        False
    ),
) -> None:
    """Judge a pilot by a recording and write an HTML report: alarms, costs, machines, upkeep, and whether to go on.

    Exit code 0 when the report is written, whatever the verdict.

    Examples: ssm-stream pilot examples/soft-sensor.yaml examples/plant.csv.gz --labels examples/plant-labels.csv

    ssm-stream pilot examples/soft-sensor.yaml --topic --since 28d
    """
    from ssm_stream.evaluate.pilot.costs import read_costs
    from ssm_stream.evaluate.pilot.evaluation import STEPS, NothingToJudgeError, PilotOptions, run_pilot
    from ssm_stream.evaluate.pilot.feedback import read_feedback
    from ssm_stream.evaluate.pilot.format import paragraph
    from ssm_stream.evaluate.pilot.page import page
    from ssm_stream.evaluate.recordings import RecordingError
    from ssm_stream.evaluate.true_events import read_true_events

    labels, feedback, costs, first, seed, partitions, target, limit, lang = judging
    if labels is not None and feedback is not None:
        raise typer.BadParameter(
            "true events judge the alarms already: leave one of the two out", param_hint="--feedback"
        )
    data = out.with_suffix(".json")
    if data == out:
        raise typer.BadParameter(f"cannot write {out}: name a .html file in an existing folder", param_hint="--out")
    for each in (out, data):
        require_writable({"--out": each}, config, file, labels, feedback, costs)
    bar = share_bar(of_all_work=True)
    with report_errors(RecordingError, NothingToJudgeError, OSError), ExitStack() as stack:
        whole = load_for(config, file)
        loaded = one_target(whole, target)
        written = language(lang)
        priced = read_costs(costs, written)
        shadow = loaded.alerts.shadow
        recording = stack.enter_context(file_or_topic(loaded, file, where))
        loaded, rows = open_recording(loaded, recording, limit, reading)

        unjudged = whole.event.targets if target else ()
        if labels is not None:  # what is wrong with them shows before the engine runs
            read_labels(labels, loaded, rows, None, unjudged)

        def true_events(names: list[str]) -> list[TrueEvent]:
            assert labels is not None
            return read_true_events(labels, loaded, names, unjudged, lambda _: True)

        with bar:
            count = rows_to_read(rows)
            # The engine is run once before the steps, each of which is such a run again.
            task = bar.add_task("engine", total=None if count is None else count * (1 + STEPS))
            made = run_pilot(
                loaded,
                rows,
                true_events if labels is not None else None,
                priced,
                PilotOptions(first, seed, partitions_of(loaded, rows, partitions), written),
                read_feedback(feedback, loaded) if feedback is not None else None,
                on_rows=lambda count: bar.advance(task, count),
                advance=lambda part, done: bar.update(
                    task, description=part, completed=1 + STEPS * done, total=1 + STEPS
                ),
            )
        report = made.report
        report["config"] |= {"hash": loaded.hash, "shadow": shadow}
        report["verdict"]["text"] = paragraph(report, written)
        report["recording"]["file"] = recording.name
        report["commands"] = {
            "pilot": command_line(context, lang=written, as_json=None),
            "backtest": shlex.join(
                ["ssm-stream", "backtest", str(config), *where.arguments(file), *reading.arguments(), "--json"]
            ),
            "data": str(data),
        }
        write_output("--out", out, page(made, written, recording.name))
        write_output("--out", data, orjson.dumps(report, option=orjson.OPT_INDENT_2) + b"\n")
    verdict = report["verdict"]
    if as_json:
        print_json(
            {
                "verdict": verdict["grade"],
                "text": verdict["text"],
                "checks": verdict["checks"],
                **{name: report[name] for name in PRINTED if name in report},
                "report": str(out),
                "json": str(data),
            }
        )
    else:
        echo(verdict["text"])
        if len(made.targets) > 1:
            _print_targets(report["targets"], out)
    echo(f"report: {out}, figures: {data}", err=True)


def _print_targets(rows: list[dict[str, Any]], where: Path) -> None:
    """Print a line a target, the one with the largest error over persistence first; of many the first ones.

    where: the report, which has all of them
    """
    labelled = rows[0]["false"] is not None
    columns = (
        "target",
        "over persistence",
        "over best",
        "cover",
        "anomaly",
        "drift",
        *(("false",) if labelled else ()),
    )
    table = new_table(columns, fold=("target",))
    shown = rows if len(rows) <= MAX_TARGETS else rows[:MAX_TARGETS]
    for row in shown:
        over = row["product_over_it"]
        cells = [
            format_number(row["relative"], ".3f"), format_number(over and over["value"], ".3f"),
            format_number(row["coverage"], ".1%"), str(row["anomaly_alarms"]), str(row["drift_alarms"]),
        ]  # fmt: skip
        table.add_row(row["target"], *cells, *([str(row["false"])] if labelled else []))
    print_table(table)
    if rest := rows[len(shown) :]:
        alarms = ", ".join(f"{sum(row[f'{kind}_alarms'] for row in rest):,} of {kind}" for kind in ("anomaly", "drift"))
        low, high = (format_number(rest[i]["relative"], ".3f") for i in (-1, 0))
        output().print(
            f"{len(rest)} targets more, {low} to {high} over persistence, alarms: {alarms}: see {where}",
            markup=False, soft_wrap=True,
        )  # fmt: skip
    output().print(
        "[dim]errors of ssm-stream over those of the last value, and of the best simple predictor; an alarm of several "
        "targets counts once, at the one that began[/dim]",
        soft_wrap=True,
    )
