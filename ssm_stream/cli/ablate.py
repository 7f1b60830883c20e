"""`ssm-stream ablate`: measures what each part of the model and each input is worth on a recording."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ssm_stream.cli.inputs import AsJson, ConfigFile, FileOrTopic, with_option_groups
from ssm_stream.cli.terminal.console import format_number, new_table, output, print_json, print_table
from ssm_stream.cli.topic.options import FromTopic
from ssm_stream.cli.trials import TrialOptions, format_alerts, format_change, format_time, open_trials

if TYPE_CHECKING:
    from ssm_stream.evaluate.tuning.ablation import Ablation


@with_option_groups
def ablate(
    config: ConfigFile, where: FromTopic, options: TrialOptions, file: FileOrTopic = None, as_json: AsJson = False
) -> None:
    """Leave out each part of the model and each input in turn, and print by how much the error rises without it.

    Errors are those of the last 30 % of the recording. After Ctrl-C, the same command continues with the finished runs.

    Example: ssm-stream ablate examples/forecast-fleet.yaml examples/parking_birmingham.csv.gz --jobs 4
    """
    from ssm_stream.evaluate.tuning.ablation import ablate as leave_out
    from ssm_stream.evaluate.tuning.ablation import parts
    from ssm_stream.evaluate.tuning.search import find_cut

    with open_trials(config, file, where, options, "ablate") as trials:
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
    columns = ("without", "worth", "interval", "", "MAE", "cover", "alerts")
    table = new_table(columns, fold=("without",), text=("",), lines=False)

    def figures(m: dict[str, Any]) -> list[str]:
        return [format_number(m["mae"]), format_number(m["coverage"], ".1%"), format_alerts(m)]

    table.add_row("(nothing)", "", "", "", *figures(found.everything))
    for each in found.parts:
        table.add_row(each.part.name, *format_change(each.change), each.verdict, *figures(each.figures))
    print_table(table, console)
    console.print(
        "[dim]worth: the rise of the error without it, each entity in its own unit; the intervals hold at 95 % for all "
        "rows together; alerts: anomaly + drift[/dim]",
        soft_wrap=True,
    )
