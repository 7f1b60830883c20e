"""The `ssm-stream` command."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import orjson
import typer

from ssm_stream.cli.ablate import ablate
from ssm_stream.cli.backtest import backtest
from ssm_stream.cli.demo import demo
from ssm_stream.cli.dlq import app as dlq_app
from ssm_stream.cli.doctor import asking, doctor, show
from ssm_stream.cli.errors import reported
from ssm_stream.cli.explain import explain
from ssm_stream.cli.feedback import feedback
from ssm_stream.cli.init import init
from ssm_stream.cli.paper import paper
from ssm_stream.cli.pilot import pilot
from ssm_stream.cli.replay import replay
from ssm_stream.cli.run import run
from ssm_stream.cli.schema import app as schema_app
from ssm_stream.cli.state import app as state_app
from ssm_stream.cli.train import train
from ssm_stream.cli.tune import tune
from ssm_stream.cli.verify import verify
from ssm_stream.config import load_config
from ssm_stream.config.client_properties import security_warnings

if TYPE_CHECKING:
    from ssm_stream.flow.doctor import Check

app = typer.Typer(
    name="ssm-stream",
    help="Watch production: a Kafka topic in; predictions, alerts and dead letters out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def ssm_stream(
    show_version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    """Watch production: a Kafka topic in; predictions, alerts and dead letters out."""
    if show_version:
        typer.echo(version("ssm-stream"))
        raise typer.Exit


@app.command()
def validate(
    config: Annotated[Path, typer.Argument(help="YAML file.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole configuration, defaults filled in.")] = False,
    against_broker: Annotated[
        bool,
        typer.Option("--against-broker", help="Ask the broker too: topics, permissions, and whether events fit."),
    ] = False,
) -> None:
    """Check a configuration file; says what it means, or what is wrong, where, and what would be right.

    With --against-broker also what `doctor` looks at, the latest events read by this file among it: exit code 1 where
    something is not as it must be.

    Examples: ssm-stream validate monitor.yaml

    ssm-stream validate monitor.yaml --against-broker
    """
    with reported():
        loaded = load_config(config)
    found = None
    if loaded.recovery.directory is not None and loaded.recovery.directory.exists():
        from ssm_stream.recovery.compatibility import check_state  # takes a second

        found = check_state(loaded)
    auto = loaded.event.features == "auto"
    checks: list[Check] = []
    if against_broker:
        from ssm_stream.flow.doctor import diagnose

        with asking(loaded):
            checks = diagnose(loaded)
    code = 0 if all(check.ok for check in checks) else 1
    if as_json:
        content = {"config_hash": None if auto else loaded.hash, **loaded.redacted()}
        content["recovery"]["kept"] = None if found is None else found.as_json()
        if against_broker:
            content["checks"] = [check._asdict() for check in checks]
        sys.stdout.write(orjson.dumps(content, option=orjson.OPT_INDENT_2).decode() + "\n")
        raise typer.Exit(code)
    event = loaded.event
    typer.echo(f"{config}: ok" + ("" if auto else f" (config hash {loaded.hash})"))
    typer.echo(f"  reads     {loaded.source.topic} on {loaded.source.brokers}")
    picked = ["features (auto: picked from the first events at start)", *event.categories]
    columns = picked if auto else event.columns
    calendar = ["calendar (auto)"] if event.calendar == "auto" else event.calendar
    past = [f"their values at {event.feature_lags} past events"] if event.feature_lags else []
    inputs = [*columns, *past, *calendar, *([f"{event.lags} past targets"] if event.lags else [])]
    typer.echo(f"  predicts  {', '.join(event.targets)} of each {event.entity} from {', '.join(inputs)}")
    sinks = [s for s in (loaded.sinks.predictions, loaded.sinks.alerts, loaded.sinks.dead_letters) if s]
    typer.echo(f"  writes    {', '.join(sinks)}")
    shards, alone = loaded.state.shards, not loaded.model.fleet
    most = (
        "1 shard: one worker does the work"
        if shards == 1
        else f"{shards} shards: up to {shards} workers share the work"
    )
    typer.echo(f"  learns    {'each entity by itself' if alone else 'entities of a shard and partition together'}")
    typer.echo(f"  state     {most}; recovery in {loaded.recovery.directory or '(off)'}")
    for weakness in security_warnings({**loaded.source.kafka, **loaded.sinks.kafka}):
        typer.echo(f"  warning   {weakness}")
    for line in [] if found is None else found.lines():
        typer.echo(f"  {line}")
    if against_broker:
        show(checks)
    raise typer.Exit(code)


for command in (
    demo, init, run, replay, backtest, pilot, tune, ablate, doctor, explain, feedback, paper, verify, train,
):  # fmt: skip
    app.command()(command)
app.add_typer(schema_app, name="schema")
app.add_typer(state_app, name="state")
app.add_typer(dlq_app, name="dlq")


def main() -> None:
    """Entry point."""
    app()
