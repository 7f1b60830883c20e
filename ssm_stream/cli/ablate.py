"""`ssm-stream ablate`: measures what each part of the model and each input is worth on a recording."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ssm_stream.cli.inputs import AsJson, ConfigFile, FileOrTopic, with_option_groups
from ssm_stream.cli.terminal.console import format_number, new_table, output, print_json, print_table
from ssm_stream.cli.topic.options import FromTopic
from ssm_stream.cli.trials import (
    TrialOptions,
    error_name,
    format_alerts,
    format_change,
    format_error,
    format_naive,
    format_time,
    open_trials,
)

if TYPE_CHECKING:
    from ssm_stream.evaluate.tuning.ablation import Ablation
    from ssm_stream.evaluate.tuning.climb import Climb


@with_option_groups
def ablate(
    config: ConfigFile,
    where: FromTopic,
    options: TrialOptions,
    file: FileOrTopic = None,
    start: Annotated[
        Literal["paper"] | None,
        typer.Option(
            "--from",
            metavar="paper",
            help="Start from the paper's one-layer model and add each part in turn, with error and cost at each step.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Leave out each part of the model and each input in turn, and print by how much the error rises without it.

    Errors are those of the last 30 % of the recording. After Ctrl-C, the same command continues with the finished runs.

    Examples: ssm-stream ablate examples/forecast-fleet.yaml examples/parking_birmingham.csv.gz --jobs 4

    ssm-stream ablate examples/soft-sensor.yaml examples/plant.csv.gz --from paper
    """
    from ssm_stream.evaluate.tuning.ablation import ablate as leave_out
    from ssm_stream.evaluate.tuning.ablation import parts
    from ssm_stream.evaluate.tuning.climb import climb, steps
    from ssm_stream.evaluate.tuning.search import find_cut

    with open_trials(config, file, where, options, "ablate") as trials:
        if start is not None:
            on_first = trials.expect(len(steps(trials.config, trials.targets)))
            cut = find_cut(trials.targets.ts, str(trials.file))
            way = climb(trials.config, trials.runner, cut, trials.targets, on_first, options.seed)
            if as_json:
                print_json(way.as_json())
            else:
                _print_climb(way)
            return
        on_first = trials.expect(1 + len(parts(trials.config, trials.targets)))
        cut = find_cut(trials.targets.ts, str(trials.file))
        found = leave_out(trials.config, trials.runner, cut, trials.targets, on_first, options.seed)
    if as_json:
        print_json(found.as_json())
    else:
        _print(found)


def _print(found: Ablation) -> None:
    console = output()
    console.print(f"the later part, from {format_time(found.cut)}: {found.everything['rows']:,} rows")
    columns = ("without", "worth", "interval", "", error_name(found.everything), "cover", "alerts")
    table = new_table(columns, fold=("without",), text=("",), lines=False)

    def figures(m: dict[str, Any]) -> list[str]:
        return [format_error(m), format_number(m["coverage"], ".1%"), format_alerts(m)]

    table.add_row("(nothing)", "", "", "", *figures(found.everything))
    for each in found.parts:
        table.add_row(each.part.name, *format_change(each.change), each.verdict, *figures(each.figures))
    print_table(table, console)
    console.print(
        "[dim]worth: the rise of the error without it, each entity in its own unit; the intervals hold at 95 % for all "
        "rows together; alerts: anomaly + drift[/dim]",
        soft_wrap=True,
    )


def _print_climb(way: Climb) -> None:
    console, first = output(), way.rungs[0].figures
    console.print(f"the later part, from {format_time(way.cut)}: {first['rows']:,} rows")
    columns = ("step", error_name(first), "change", "interval", "", "cover", "µs an event", "bytes an entity")
    table = new_table(columns, fold=("step",), text=("",), lines=False)
    table.add_row("(the last target)", format_naive(first), "", "", "", "", "", "")
    for each in way.rungs:
        name = each.step.name if each is way.rungs[0] else f"+ {each.step.name}"
        cost = format_number(each.cost.us_per_event, ".1f"), format_number(each.cost.bytes_per_entity, ",.0f")
        figures = each.figures
        table.add_row(
            f"{name}, not configured" if each.step.beyond else name, format_error(figures),
            *(format_change(each.change) if each.change is not None else ("", "")), each.verdict,
            format_number(figures["coverage"], ".1%"), *cost,
        )  # fmt: skip
    print_table(table, console)
    if way.whole is not None:
        change, interval = format_change(way.whole)
        console.print(f"from the paper's layer to the configuration: error {change} ({interval})", soft_wrap=True)
    console.print(
        "[dim]change: of the error from the step before, each entity in its own unit; the intervals hold at 95 % for "
        "all rows together; µs: processor time; bytes: with the entity's share of its pool[/dim]",
        soft_wrap=True,
    )
