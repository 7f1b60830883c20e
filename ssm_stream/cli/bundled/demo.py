"""`ssm-stream demo`: runs the whole pipeline on a small plant and on the metrics of services."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ssm_stream.cli.errors import report_errors
from ssm_stream.cli.terminal.console import print_json

if TYPE_CHECKING:
    from ssm_stream.flow.demonstration.figures import DemoFigures, Progress


def demo(
    rate: Annotated[
        float | None,
        typer.Option(min=50, max=100_000, help="Events a second.", show_default="1800, with --ui 300"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON, without the live view.")] = False,
    ui: Annotated[
        bool, typer.Option("--ui", help="Serve the plant's live page, too; the demo then runs until Ctrl-C.")
    ] = False,
) -> None:
    """Watch it adapt: a relation changes, a sensor drifts, a new machine comes; every alarm is marked right or wrong.

    Seven pumps and three services, four weeks in 20 s, through the real Kafka protocol and production dataflows. The
    same model runs next to them, frozen after a week. The streams are generated, so that all that happens in them is
    known; only the marks use it. `ssm-stream examples` writes recordings, labels and configurations into a folder.

    Examples: ssm-stream demo

    ssm-stream demo --rate 5000

    ssm-stream demo --ui
    """
    from ssm_stream.flow.demonstration.processes import DemoError
    from ssm_stream.flow.demonstration.run import demonstrate
    from ssm_stream.kafka.client import BrokerError

    if as_json and ui:
        raise typer.BadParameter("--json and --ui exclude each other: with --ui the demo runs until Ctrl-C")
    rate = rate or (300.0 if ui else 1800.0)
    with report_errors(DemoError, BrokerError):
        if as_json:
            print_json(demonstrate(rate, lambda _: None, lambda _: None))
        else:
            _show(rate, ui)


def _show(rate: float, ui: bool) -> None:
    """Run the demonstration with the live view."""
    import contextlib

    from rich.console import Console

    from ssm_stream.flow.demonstration.run import demonstrate

    console, view = Console(highlight=False), list["DemoView"]()
    console.print(
        "[bold]ssm-stream demo[/bold]: embedded Kafka broker → two production dataflows → this view.\n"
        "Pumps and services, generated: labels have all that happens, and only the marks\n"
        "of the alarms (✓ right, ✗ wrong) use them. ○: an alert is over."
    )
    with contextlib.ExitStack() as stack:
        from ssm_stream.cli.terminal.demo_view import DemoView
        from ssm_stream.cli.terminal.live import LiveView

        def start(figures: DemoFigures) -> None:
            live = stack.enter_context(LiveView("ssm-stream demo", total=figures.total, console=console))
            view.append(DemoView(live, figures))

        def observe(progress: Progress) -> None:
            view[0].observe(progress)

        def announce(url: str) -> None:
            console.print(f"live page: [bold]{url}[/bold]   (Ctrl-C ends it)")

        result = demonstrate(rate, start, observe, announce if ui else None)
    from ssm_stream.cli.terminal.demo_summary import print_summary

    print_summary(result, console)
