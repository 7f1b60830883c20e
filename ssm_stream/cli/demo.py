"""`ssm-stream demo`: runs the whole pipeline on recorded data."""

from __future__ import annotations

from typing import Annotated

import typer

from ssm_stream.cli.errors import report_errors
from ssm_stream.cli.terminal.console import print_json


def demo(
    rate: Annotated[
        float | None,
        typer.Option(min=50, max=100_000, help="Events a second.", show_default="1500, with --ui 300"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON, without the live view.")] = False,
    ui: Annotated[
        bool, typer.Option("--ui", help="Serve the live page for a browser, too; the demo then runs until Ctrl-C.")
    ] = False,
) -> None:
    """Watch 16 car parks over the real Kafka protocol: embedded broker, bundled recording, production dataflow.

    No fault is injected: the data is what the city of Birmingham recorded in autumn 2016.

    Examples: ssm-stream demo --rate 3000

    ssm-stream demo --ui
    """
    from rich.console import Console

    from ssm_stream.cli.terminal.live import LiveView
    from ssm_stream.cli.terminal.summary import print_summary
    from ssm_stream.evaluate.recordings import count_rows
    from ssm_stream.flow.demo import DemoError, demonstrate, recording
    from ssm_stream.kafka.client import BrokerError

    if as_json and ui:
        raise typer.BadParameter("--json and --ui exclude each other: with --ui the demo runs until Ctrl-C")
    rate = rate or (300.0 if ui else 1500.0)
    with report_errors(DemoError, BrokerError):
        if as_json:
            print_json(demonstrate(rate, lambda _: None))
            return
        console = Console()
        console.print(
            "[bold]ssm-stream demo[/bold]: embedded Kafka broker on loopback → production dataflow → this view.\n"
            "A recording of 16 car parks (Birmingham 2016, half-hourly) is replayed; nothing is injected."
        )
        with LiveView("ssm-stream demo", total=count_rows(recording()), time_zone="Europe/London") as view:
            result = demonstrate(
                rate,
                lambda p: view.observe(p.predictions, p.alerts, p.dead_letters),
                (lambda url: console.print(f"live page: [bold]{url}[/bold]   (Ctrl-C ends it)")) if ui else None,
            )
        print_summary(result, console)
