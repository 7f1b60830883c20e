"""`ssm-stream schema`: prints the schemas of the topics, for their producers and consumers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from ssm_stream.cli.errors import report_errors
from ssm_stream.cli.inputs import ConfigFile, load_with_stored_features
from ssm_stream.cli.terminal.console import print_json
from ssm_stream.config import Config, ConfigError

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode="markdown", help="Print the JSON Schema of each message, or AsyncAPI."
)
SchemaOf = Callable[[Config], dict[str, Any]]
DRAFT = "https://json-schema.org/draft/2020-12/schema"


def _message(config: Path, schema: SchemaOf, missing: Callable[[Config], str] | None) -> None:
    """Print the schema of a message. missing: why the configuration has no such message, or an empty text"""
    loaded = load_with_stored_features(config)
    with report_errors():
        if missing is not None and (why := missing(loaded)):
            raise ConfigError(f"{config}: {why}")
        found = schema(loaded)
        print_json(found if found.get("type") == "record" else {"$schema": DRAFT, **found})


def _written(schema: SchemaOf, avro: SchemaOf) -> SchemaOf:
    """Return the schema of a message in `sinks.format`."""
    return lambda config: avro(config) if config.sinks.format == "avro" else schema(config)


@app.command("config")
def config_() -> None:
    """Print the JSON Schema of the configuration file.

    Example: ssm-stream schema config > ssm-stream.schema.json
    """
    from ssm_stream.config.file_schema import file_schema

    print_json(file_schema())


@app.command()
def event(config: ConfigFile) -> None:
    """Print the JSON Schema of the events that this configuration reads.

    Example: ssm-stream schema event examples/soft-sensor.yaml > event.schema.json
    """
    from ssm_stream.contract.event_schema import event_schema

    _message(config, event_schema, None)


@app.command()
def label(config: ConfigFile) -> None:
    """Print the JSON Schema of the labels, for targets that come later than their events.

    Example: ssm-stream schema label examples/soft-sensor.yaml
    """
    from ssm_stream.contract.event_schema import label_schema

    _message(config, label_schema, lambda c: "" if c.labels else "labels: not set; targets come with the events")


@app.command()
def feedback(config: ConfigFile) -> None:
    """Print the JSON Schema of the operators' feedback on alerts.

    Example: ssm-stream schema feedback examples/soft-sensor.yaml
    """
    from ssm_stream.contract.event_schema import feedback_schema

    def missing(c: Config) -> str:
        return "" if c.alerts.feedback else "alerts.feedback: not set; name its topic"

    _message(config, feedback_schema, missing)


@app.command()
def control(config: ConfigFile) -> None:
    """Print the JSON Schema of the control topic: planned stops that are announced, and what processes answer.

    Example: ssm-stream schema control monitor.yaml
    """
    from ssm_stream.contract.event_schema import control_schema

    _message(
        config, control_schema, lambda c: "" if c.control_topic else "alerts.control: not set; write control: true"
    )


@app.command()
def prediction(config: ConfigFile) -> None:
    """Print the schema of the predictions: a JSON Schema, or Avro with `sinks.format: avro`.

    Example: ssm-stream schema prediction examples/soft-sensor.yaml

    Ids begin with the topic. Those of messages that `backtest` writes to files begin with the recording's name instead.
    """
    from ssm_stream.contract.avro_schemas import prediction_avro
    from ssm_stream.contract.message_schemas import prediction_schema

    _message(
        config,
        _written(prediction_schema, prediction_avro),
        lambda c: "" if c.sinks.predictions else "sinks.predictions: null",
    )


@app.command()
def alert(
    config: ConfigFile,
    headers: Annotated[bool, typer.Option("--headers", help="Of the headers: CloudEvents' attributes.")] = False,
) -> None:
    """Print the schema of the alerts (a JSON Schema, or Avro with `sinks.format: avro`), or of their headers.

    Example: ssm-stream schema alert examples/soft-sensor.yaml

    Ids begin with the topic. Those of messages that `backtest` writes to files begin with the recording's name instead.
    """
    from ssm_stream.contract.avro_schemas import alert_avro
    from ssm_stream.contract.message_schemas import alert_headers, alert_schema

    schema = alert_headers if headers else _written(alert_schema, alert_avro)
    _message(config, schema, lambda c: "" if c.sinks.alerts else "sinks.alerts: null")


@app.command()
def suppressed(
    config: ConfigFile,
    headers: Annotated[bool, typer.Option("--headers", help="Of the headers: CloudEvents' attributes.")] = False,
) -> None:
    """Print the schema of the suppressed alerts, as of the alerts, or of their headers.

    Example: ssm-stream schema suppressed examples/soft-sensor.yaml
    """
    from ssm_stream.contract.avro_schemas import suppressed_avro
    from ssm_stream.contract.message_schemas import alert_headers, suppressed_schema

    schema = alert_headers if headers else _written(suppressed_schema, suppressed_avro)
    _message(config, schema, lambda c: "" if c.sinks.suppressed else "sinks.suppressed: not set; name its topic")


@app.command()
def summary(config: ConfigFile) -> None:
    """Print the schema of the hourly summaries: a JSON Schema, or Avro with `sinks.format: avro`.

    Example: ssm-stream schema summary examples/soft-sensor.yaml
    """
    from ssm_stream.contract.avro_schemas import summary_avro
    from ssm_stream.contract.summary_schema import summary_schema

    _message(
        config,
        _written(summary_schema, summary_avro),
        lambda c: "" if c.sinks.summaries else "sinks.summaries: not set; name its topic",
    )


@app.command("dead-letter")
def dead_letter(config: ConfigFile) -> None:
    """Print the JSON Schema of the headers of the dead letters; keys and values are those of the messages.

    Example: ssm-stream schema dead-letter examples/soft-sensor.yaml
    """
    from ssm_stream.contract.message_schemas import dead_letter_headers

    _message(config, dead_letter_headers, None)


@app.command("asyncapi")
def asyncapi_(config: ConfigFile) -> None:
    """Print all topics and messages as one AsyncAPI 3.0 document, without secrets.

    Example: ssm-stream schema asyncapi examples/soft-sensor.yaml > asyncapi.json
    """
    from ssm_stream.contract.asyncapi import asyncapi

    loaded = load_with_stored_features(config)
    with report_errors():
        print_json(asyncapi(loaded))
