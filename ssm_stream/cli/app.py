"""The `ssm-stream` command."""

from __future__ import annotations

import signal
from importlib.metadata import version
from typing import Annotated

import typer

from ssm_stream.cli.ablate import ablate
from ssm_stream.cli.backtest import backtest
from ssm_stream.cli.bundled.demo import demo
from ssm_stream.cli.bundled.examples import examples
from ssm_stream.cli.dlq import app as dlq_app
from ssm_stream.cli.doctor import doctor
from ssm_stream.cli.explain import explain
from ssm_stream.cli.features.rename import rename_feature
from ssm_stream.cli.feedback import feedback
from ssm_stream.cli.generations.resume import resume
from ssm_stream.cli.generations.rewind import RewindCommand, rewind
from ssm_stream.cli.init import init
from ssm_stream.cli.paper import paper
from ssm_stream.cli.pilot import pilot
from ssm_stream.cli.replay import replay
from ssm_stream.cli.run import run
from ssm_stream.cli.schema import app as schema_app
from ssm_stream.cli.state import app as state_app
from ssm_stream.cli.topic.mcp import mcp
from ssm_stream.cli.topic.mute import mute
from ssm_stream.cli.topic.notify import notify
from ssm_stream.cli.topic.record import record
from ssm_stream.cli.topic.report import report
from ssm_stream.cli.train import train
from ssm_stream.cli.tune import tune
from ssm_stream.cli.validate import validate
from ssm_stream.cli.verify import verify
from ssm_stream.ops.logging import set_up_logging

EPILOG = "The files in `examples/` come with the package: `ssm-stream examples` writes them."

app = typer.Typer(
    name="ssm-stream",
    help="Watch production: a Kafka topic in; predictions, alerts and dead letters out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def ssm_stream(
    show_version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    """Watch production: a Kafka topic in; predictions, alerts and dead letters out."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # since `__main__`
        signal.signal(signal.SIGINT, signal.default_int_handler)
    set_up_logging()  # to standard error: what a command prints is read by programs
    if show_version:
        typer.echo(version("ssm-stream"))
        raise typer.Exit


for command in (
    validate, demo, examples, init, run, replay, record, backtest, pilot, tune, ablate, doctor, explain, feedback,
    mcp, mute, notify, report, paper, verify, train,
):  # fmt: skip
    app.command()(command)
state_app.command(cls=RewindCommand)(rewind)
state_app.command()(resume)
state_app.command()(rename_feature)
app.add_typer(schema_app, name="schema")
app.add_typer(state_app, name="state")
app.add_typer(dlq_app, name="dlq")
for group in (app, schema_app, state_app, dlq_app):
    for each in group.registered_commands:
        if each.callback not in (None, examples) and "examples/" in (each.callback.__doc__ or ""):
            each.epilog = EPILOG


def main() -> None:
    """Entry point."""
    app()
