"""`ssm-stream init`: a first configuration from a sample of one's own data."""

from __future__ import annotations

import re
import sys
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from ssm_stream.cli.errors import reported
from ssm_stream.config import ConfigError, parse_config

ROWS, MESSAGES = 20_000, 2_000
"""Looked at, of a file and of a topic."""
BROKERS = "${KAFKA_BOOTSTRAP_SERVERS:-localhost:9092}"


def init(
    file: Annotated[
        Path | None, typer.Argument(help="Sample: CSV, CSV.gz, JSON lines or Parquet.", show_default=False)
    ] = None,
    topic: Annotated[
        str | None, typer.Option(help="The events topic; without FILE, the sample is read from it.", show_default=False)
    ] = None,
    brokers: Annotated[str | None, typer.Option(help="Its brokers, host:port.", show_default=False)] = None,
    kafka: Annotated[
        list[str] | None,
        typer.Option(help="Property of the client, NAME=VALUE; secrets as '${VARIABLE}'.", show_default=False),
    ] = None,
    entity: Annotated[str | None, typer.Option(help="Path of the entity's name.", show_default=False)] = None,
    timestamp: Annotated[str | None, typer.Option(help="Path of the time.", show_default=False)] = None,
    target: Annotated[
        list[str] | None, typer.Option(help="Path of the number to predict; again for more.", show_default=False)
    ] = None,
    out: Annotated[Path, typer.Option(help="File to write.")] = Path("monitor.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was decided as JSON.")] = False,
) -> None:
    """Write a commented configuration from a sample of a file or of a topic, and say why it is so.

    What names an entity, tells the time and is to be predicted is inferred; an option decides it instead.

    Example: ssm-stream init recording.csv --out monitor.yaml
    """
    from ssm_stream.autoconfig.draft import Choices, draft_event
    from ssm_stream.autoconfig.render import render_config
    from ssm_stream.evaluate.recordings.recording import RecordingError
    from ssm_stream.kafka.client import BrokerError

    if file is None and topic is None:
        raise typer.BadParameter("give a FILE, or --topic (and --brokers)")
    properties = dict(_property(text) for text in kafka or [])
    with reported(RecordingError, BrokerError, OSError):
        if out.exists() and not force:
            raise ConfigError(f"{out} exists and is left as it is: --out names another file, --force overwrites it")
        if file is not None:
            documents, sampled, framed = *_rows(file), False
            topic = topic or _topic_name(file)
        else:
            assert topic is not None
            documents, sampled, framed = _messages(topic, brokers or BROKERS, properties)
        draft = draft_event(documents, Choices(entity, timestamp, tuple(target or ())), topic)
        if framed:
            draft = draft._replace(event=draft.event.model_copy(update={"framed": True}))
        text = render_config(draft, topic, brokers or BROKERS, properties, sampled)
        parse_config(text, str(out))
        out.write_text(text, encoding="utf-8")
    event = draft.event
    typer.echo(f"looked at {sampled}", err=True)
    facts = {
        "entity": event.entity if event.entity_default is None else f"{event.entity_default} (every row's)",
        "timestamp": event.timestamp,
        "target": ", ".join(event.targets),
        "features": ", ".join(event.numbers) or "none",
        "categories": ", ".join(event.categories) or "none",
    }
    for name, value in facts.items():
        reason = f": {draft.why[name]}" if name in draft.why else ""
        typer.echo(f"  {name:<11} {value}{reason}", err=True)
    for path, why in draft.left_out.items():
        typer.echo(f"  left out    {path}: {why}", err=True)
    for note in draft.notes:
        typer.echo(f"  note        {note}", err=True)
    typer.echo(f"written to {out}; next:\n  ssm-stream validate {out}", err=True)
    typer.echo(f"  ssm-stream backtest {out} {file if file is not None else 'RECORDING'}", err=True)
    if as_json:
        facts_told = {
            "out": str(out),
            "event": event.model_dump(mode="json", exclude_defaults=True),
            "why": draft.why,
            "left_out": draft.left_out,
            "notes": draft.notes,
            "rows": draft.rows,
            "entities": draft.entities,
        }
        sys.stdout.write(orjson.dumps(facts_told, option=orjson.OPT_INDENT_2).decode() + "\n")


def _property(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise typer.BadParameter(f"--kafka: found {text.partition('=')[0]!r}; write NAME=VALUE")
    return name, value


def _rows(file: Path) -> tuple[list[Any], str]:
    from ssm_stream.evaluate.recordings.recording import Recording

    rows = list(islice(Recording(file, ROWS), ROWS))
    return rows, f"{'the first ' if len(rows) == ROWS else ''}{len(rows):,} rows of {file.name}"


def _messages(topic: str, brokers: str, properties: dict[str, str]) -> tuple[list[Any], str, bool]:
    from ssm_stream.autoconfig.render import yaml_quoted
    from ssm_stream.kafka.cluster import check_broker
    from ssm_stream.kafka.topic_head import sample_documents

    kafka = "".join(f"\n    {yaml_quoted(name)}: {yaml_quoted(value)}" for name, value in properties.items())
    head = f"source:\n  brokers: {yaml_quoted(brokers)}\n  topic: {yaml_quoted(topic)}\n" + (
        f"  kafka:{kafka}\n" if kafka else ""
    )
    source = parse_config(f"{head}event: {{entity: e, timestamp: t}}\n", "--brokers, --topic, --kafka").source
    partitions = check_broker(source).partitions_of(topic)
    documents, framed = sample_documents(source, partitions, MESSAGES)
    if not documents:
        raise ConfigError(
            f"topic {topic!r} on {source.brokers} holds no JSON message: send events first, or give a FILE for a sample"
        )
    return documents, f"{len(documents):,} messages of topic {topic}", framed


def _topic_name(file: Path) -> str:
    """The file's name without its ending, as a topic may be called."""
    stem = re.sub(r"\.(csv|jsonl|ndjson|parquet)(\.gz)?$", "", file.name, flags=re.IGNORECASE)
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-.")[:200] or "events"
