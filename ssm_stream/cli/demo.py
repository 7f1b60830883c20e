"""`ssm-stream demo`: everything at once, on real recorded data."""

from __future__ import annotations

import sys
from typing import Annotated

import orjson
import typer

from ssm_stream.cli.errors import reported, say_if_kernels_are_to_be_compiled


def demo(
    rate: Annotated[
        float | None,
        typer.Option(min=50, max=100_000, help="Events a second.", show_default="1500, with --ui 300"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON, without the live view.")] = False,
    ui: Annotated[
        bool, typer.Option("--ui", help="With the live page in the browser too; it stays until Ctrl-C.")
    ] = False,
) -> None:
    """Watch 16 car parks through a real Kafka protocol: embedded broker, bundled recording, production dataflow.

    Nothing is injected: what you see is what the city of Birmingham recorded in autumn 2016.

    Examples: ssm-stream demo --rate 3000

    ssm-stream demo --ui
    """
    from rich.console import Console

    from ssm_stream.cli.live import LiveView, summary
    from ssm_stream.evaluate.recordings.recording import count_rows
    from ssm_stream.flow.demo import DemoError, demonstrate, recording
    from ssm_stream.kafka.client import BrokerError

    if as_json and ui:
        raise typer.BadParameter("--json and --ui do not go together: the page stays until Ctrl-C")
    rate = rate or (300.0 if ui else 1500.0)
    with reported(DemoError, BrokerError):
        say_if_kernels_are_to_be_compiled()
        if as_json:
            result = demonstrate(rate, lambda _: None)
            sys.stdout.write(orjson.dumps(result, option=orjson.OPT_INDENT_2).decode() + "\n")
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
        summary(result, console)
