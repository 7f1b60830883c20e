"""`ssm-stream schema`: the contracts of a configuration, for those who write to its topics and read from them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from ssm_stream.cli.errors import load_with_stored_features, reported
from ssm_stream.config import Config, ConfigError, config_schema

app = typer.Typer(no_args_is_help=True, help="Print the contracts: JSON Schema of each message, and AsyncAPI.")
DRAFT = "https://json-schema.org/draft/2020-12/schema"
File = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file.", show_default=False)]


def _print(document: dict[str, Any]) -> None:
    sys.stdout.write(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode() + "\n")


def _message(config: Path, schema: Callable[[Config], dict[str, Any]], lacks: Callable[[Config], str] | None) -> None:
    """Print a message's schema. lacks: why the configuration has no such message, empty where it has"""
    loaded = load_with_stored_features(config)
    with reported():
        if lacks is not None and (why := lacks(loaded)):
            raise ConfigError(f"{config}: {why}")
        _print({"$schema": DRAFT, **schema(loaded)})


@app.command("config")
def config_() -> None:
    """JSON Schema of the configuration file.

    Example: ssm-stream schema config > ssm-stream.schema.json
    """
    _print(config_schema())


@app.command()
def event(config: File) -> None:
    """JSON Schema of the events that this configuration reads.

    Example: ssm-stream schema event monitor.yaml > event.schema.json
    """
    from ssm_stream.contract.event_schema import event_schema

    _message(config, event_schema, None)


@app.command()
def label(config: File) -> None:
    """JSON Schema of its labels, where targets come later than their events.

    Example: ssm-stream schema label monitor.yaml
    """
    from ssm_stream.contract.event_schema import label_schema

    _message(config, label_schema, lambda c: "" if c.labels else "labels: not set; targets come with the events")


@app.command()
def feedback(config: File) -> None:
    """JSON Schema of what operators say of alerts.

    Example: ssm-stream schema feedback monitor.yaml
    """
    from ssm_stream.contract.event_schema import feedback_schema

    def lacks(c: Config) -> str:
        return "" if c.alerts.feedback else "alerts.feedback: not set; name its topic"

    _message(config, feedback_schema, lacks)


@app.command()
def prediction(config: File) -> None:
    """JSON Schema of its predictions.

    Example: ssm-stream schema prediction monitor.yaml
    """
    from ssm_stream.contract.message_schemas import prediction_schema

    _message(config, prediction_schema, lambda c: "" if c.sinks.predictions else "sinks.predictions: null")


@app.command()
def alert(
    config: File,
    headers: Annotated[bool, typer.Option("--headers", help="Of the headers: CloudEvents' attributes.")] = False,
) -> None:
    """JSON Schema of the value of its alerts, or of their headers.

    Example: ssm-stream schema alert monitor.yaml
    """
    from ssm_stream.contract.message_schemas import alert_headers, alert_schema

    schema = alert_headers if headers else alert_schema
    _message(config, schema, lambda c: "" if c.sinks.alerts else "sinks.alerts: null")


@app.command("dead-letter")
def dead_letter(config: File) -> None:
    """JSON Schema of the headers of its dead letters; keys and values are those of the messages.

    Example: ssm-stream schema dead-letter monitor.yaml
    """
    from ssm_stream.contract.message_schemas import dead_letter_headers

    _message(config, dead_letter_headers, None)


@app.command("asyncapi")
def asyncapi_(config: File) -> None:
    """All topics and messages as one AsyncAPI 3.0 document; it holds no secrets.

    Example: ssm-stream schema asyncapi monitor.yaml > asyncapi.json
    """
    from ssm_stream.contract.asyncapi import asyncapi

    loaded = load_with_stored_features(config)
    with reported():
        _print(asyncapi(loaded))
