"""The summary at the end of a demonstration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ssm_stream.cli.terminal.alert_text import count, short_number

NEXT = (
    ("ssm-stream backtest CONFIG FILE", "how well it does on a recording of yours"),
    ("ssm-stream doctor CONFIG", "whether your brokers and topics are ready"),
    ("ssm-stream run CONFIG", "the same on your own topic"),
)


def print_summary(
    result: Mapping[str, Any],
    console: Console | None = None,
    *,
    title: str = "Done",
) -> None:
    """Print errors, coverage, alerts and speed of a demonstration, and the next steps.

    Args:
        result: `events, entities, mae, mae_persistence, coverage, level, anomalies, drifts, dead_letters, events_per_s,
            seconds`; errors and coverage may be None if no event had a target
        console: default: standard output
        title: the heading
    """
    (console or Console()).print(_summary(result, title), highlight=False)


def _summary(result: Mapping[str, Any], title: str) -> RenderableType:
    mae, naive, coverage = result["mae"], result["mae_persistence"], result["coverage"]
    table = Table(box=None, padding=(0, 1), show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    entities = count(result["entities"], "entity", "entities")
    speed = f"in {result['seconds']:.1f} s: {result['events_per_s']:,.0f} events/s"
    table.add_row("events", f"{result['events']:,} from {entities} {speed}")
    if mae is None or not naive:
        table.add_row("error (MAE)", "no event had a target" if mae is None else short_number(mae))
    else:
        text = Text(f"{short_number(mae)}, ").append(
            f"{mae / naive:.2f} ×", "bold green" if mae < naive else "bold yellow"
        )
        table.add_row("error (MAE)", text.append(f" that of repeating the last value ({short_number(naive)})"))
    if coverage is not None:
        table.add_row("intervals", f"hold {coverage:.1%} of the targets, {result['level']:.0%} expected")
    anomalies, drifts = result["anomalies"], result["drifts"]
    table.add_row("alerts", f"{count(anomalies, 'anomaly', 'anomalies')}, {count(drifts, 'drift', 'drifts')}")
    lost = result["dead_letters"]
    table.add_row("dead letters", Text(f"{lost:,}", "yellow") if lost else "none")
    steps = Table(box=None, padding=(0, 1), show_header=False)
    steps.add_column(style="bold cyan", no_wrap=True)
    steps.add_column()
    for command, purpose in NEXT:
        steps.add_row(command, purpose)
    heading = Text(f"  {title}", "bold")
    return Group(
        Text(),
        heading,
        Padding(table, (0, 0, 0, 1)),
        Text(),
        Text("  What to do next", "bold"),
        Padding(steps, (0, 0, 0, 1)),
    )
