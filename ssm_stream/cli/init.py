"""`ssm-stream init`: writes a first configuration from a sample of data."""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from ssm_stream.cli.errors import report_errors
from ssm_stream.cli.inputs import Reading, print_reading, require_writable, with_option_groups
from ssm_stream.cli.samples.later_rows import later_ends, own_note, own_signals, some_of, with_ends, with_later_rows
from ssm_stream.cli.terminal.console import output, print_json
from ssm_stream.cli.terminal.output_file import write_output
from ssm_stream.cli.terminal.printable import echo
from ssm_stream.config import ConfigError, Event, parse_config
from ssm_stream.config.natural_order import natural_key
from ssm_stream.config.paths import KEY, is_message_field
from ssm_stream.config.quantities import format_duration

ROWS, LAST, MAX_SIGNALS = 20_000, 2_000, 10
"""Size of the sample, and of a topic's end; and signals of a file of readings for each of which it is so large."""
EXAMPLES = 3
"""Columns that are named of many that are left out for one reason."""
NAMES, NAMES_SHOWN = 24, 8
"""Names of columns on one line, and those named of more."""
BROKERS = "${KAFKA_BOOTSTRAP_SERVERS:-localhost:9092}"


class TopicOptions(NamedTuple):
    """The events topic."""

    topic: Annotated[
        str | None, typer.Option(help="Events topic; without FILE, the sample is read from it.", show_default=False)
    ] = None
    brokers: Annotated[str | None, typer.Option(help="Brokers of the topic, host:port.", show_default=False)] = None
    kafka: Annotated[
        list[str] | None,
        typer.Option(
            help="Kafka client property, NAME=VALUE; secrets as '${VARIABLE}'. Repeatable.", show_default=False
        ),
    ] = None
    schema_registry: Annotated[
        str | None,
        typer.Option(help="Schema registry of messages in Avro or Protobuf, http://host:8081.", show_default=False),
    ] = None
    registry: Annotated[
        list[str] | None,
        typer.Option(
            help="Property of the registry's client, NAME=VALUE; secrets as '${VARIABLE}'. Repeatable.",
            show_default=False,
        ),
    ] = None


class FieldOptions(NamedTuple):
    """Fields of the event."""

    entity: Annotated[str | None, typer.Option(help="Path of the entity's name.", show_default=False)] = None
    timestamp: Annotated[str | None, typer.Option(help="Path of the event time.", show_default=False)] = None
    target: Annotated[
        list[str] | None, typer.Option(help="Path of the number to predict, or all. Repeatable.", show_default=False)
    ] = None


@with_option_groups
def init(
    source: TopicOptions,
    fields: FieldOptions,
    reading: Reading,
    file: Annotated[
        Path | None,
        typer.Argument(
            help="Sample: CSV, Excel, JSON lines, Parquet, packed or not, or a folder of them.", show_default=False
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Write the configuration to this file.")] = Path("monitor.yaml"),
    alerts_per_week: Annotated[
        float | None,
        typer.Option(
            min=0.001, help="False alarms that you accept a week from all entities together.", show_default=False
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the choices as one JSON object.")] = False,
) -> None:
    """Write a commented configuration from a sample of a file or a topic, and print the reason for each choice.

    Entity, time and target are inferred from the sample; each can be set by an option. `--target all` watches every
    signal by itself, with one alert for an entity.

    Examples: ssm-stream init examples/plant.csv.gz --out monitor.yaml

    ssm-stream init examples/plant.csv.gz --target all
    """
    from ssm_stream.autoconfig.columns import values_in_lists
    from ssm_stream.autoconfig.draft import Choices
    from ssm_stream.autoconfig.feature_selection import is_number
    from ssm_stream.autoconfig.label_rows.sample import draft_sample, refuse_batches
    from ssm_stream.autoconfig.render import by_reason, render_config, sparse_note
    from ssm_stream.autoconfig.stops import ends_note, judge_last
    from ssm_stream.autoconfig.tag_names import family_note
    from ssm_stream.evaluate.recordings import RecordingError
    from ssm_stream.kafka.client import BrokerError

    topic, brokers, kafka, registry_url, of_registry = source
    if file is None and topic is None:
        raise typer.BadParameter("give a FILE, or --topic (and --brokers)")
    require_writable({"--out": out}, file)
    properties = dict(_property(text, "--kafka") for text in kafka or [])
    registry = _registry(registry_url, dict(_property(text, "--registry") for text in of_registry or []))
    with report_errors(RecordingError, BrokerError, OSError):
        if out.exists() and not force:
            raise ConfigError(f"{out} exists and is not overwritten: --out names another file, --force overwrites it")
        read_with, numbered, keys, last = "", None, None, list[Any]()
        if file is not None:
            (documents, sampled, read_with, numbered), message_format = _rows(file, reading), "json"
            topic = topic or _topic_name(file)
        else:
            assert topic is not None
            source_text = _source(topic, brokers or BROKERS, properties)
            documents, sampled, message_format, keys, last = _messages(topic, source_text, registry, fields)
        chosen = Choices(fields.entity, fields.timestamp, tuple(fields.target or ()))
        refuse_batches(documents[:1])
        inside = values_in_lists(documents)
        try:
            with output(error=True).status(f"examining {sampled}"):
                draft = draft_sample(documents, chosen, topic, as_they_came=file is None)
        except ConfigError as error:
            raise ConfigError(f"{error}. In lists: {some_of([*inside])}" if inside else str(error)) from error
        if file is not None and draft.event.layout == "readings" and len(documents) == ROWS:
            # A row takes a reading of each signal: of ROWS readings a fleet has few, of a day or two.
            signals = min(len({*draft.event.columns, *draft.event.targets}), MAX_SIGNALS)
            with output(error=True).status(f"examining more readings of {file.name}"):
                documents, sampled, *_ = _rows(file, reading, signals * ROWS)
                draft = draft_sample(documents, chosen, topic)
        numbers = [path for path, value in inside.items() if is_number(value) and path not in draft.event.targets]
        notes = (
            [f"numbers in lists are inputs only where event.features names them: {some_of(numbers)}"] if numbers else []
        )
        if file is not None and len(documents) >= ROWS:
            if own := own_signals(draft, file, reading):
                draft = draft_sample(documents, chosen._replace(own=own), topic)
                notes.append(own_note(own))
            draft = with_later_rows(draft, file, reading)
            draft = with_ends(draft, lambda stops: later_ends(stops, draft, file, reading))
        elif last:
            draft = with_ends(draft, lambda stops: judge_last(stops, draft.event, documents, last))
        if file is not None and draft.event.entity_default is not None and reading.options().tags is None:
            notes += filter(None, [family_note([*documents[0]])])
        if keys is not None and draft.event.entity_default is not None:
            notes.append(f"{keys}: if a key names the machine, give --entity '{KEY}'")
        notes += filter(None, [sparse_note(draft), ends_note(draft.stops)])
        draft = draft._replace(notes=[*draft.notes, *notes])
        if reading.every is not None and file is not None and draft.event.timestamp != numbered:
            raise ConfigError(
                f"--every: the file has times of its own, `{draft.event.timestamp}`; leave the option out"
                + (f", or give --timestamp {numbered} to count rows in spite of them" if numbered else "")
            )
        draft = draft._replace(event=draft.event.model_copy(update={"format": message_format}))
        text = render_config(draft, topic, brokers or BROKERS, properties, sampled, alerts_per_week, read_with)
        if registry:
            text += f"\n# Schemas of events are read there, and those of predictions and alerts registered.\n{registry}"
        parse_config(text, str(out))
        write_output("--out", out, text)
    event = draft.event
    echo(f"sampled {sampled}", err=True)
    facts = {
        **({"layout": event.layout} if event.layout != "events" else {}),
        **({"aggregate": ", ".join(event.aggregate.columns)} if event.aggregate is not None else {}),
        "entity": event.entity if event.entity_default is None else f"{event.entity_default} (every row's)",
        "timestamp": event.timestamp,
        **({"grace": format_duration(event.grace)} if event.grace else {}),
        "target": f"{'all: ' if event.watches_all else ''}{_names(event.targets)}",
        "inputs" if event.watches_all else "features": _names(_inputs(event)) or "none",
        "categories": _names(event.categories) or "none",
        **({} if draft.labels is None else {"labels": f"rows with `{draft.labels.marker}`"}),
        **({} if event.quality is None else {"quality": _names(event.quality.flags)}),
        **({"state.ttl": format_duration(draft.stops.ttl)} if draft.stops and draft.stops.ttl else {}),
    }
    for name, value in facts.items():
        reason = f": {draft.why[name]}" if name in draft.why else ""
        echo(f"  {name:<11} {value}{reason}", err=True)
    for paths, why in by_reason(draft.left_out):
        echo(f"  left out    {some_of(paths, EXAMPLES)}: {why}", err=True)
    for note in draft.notes:
        echo(f"  note        {note}", err=True)
    echo(f"written to {out}; next:\n  {shlex.join(['ssm-stream', 'validate', str(out)])}", err=True)
    where = [str(file), *reading.arguments()] if file is not None else ["--topic"]
    echo(f"  {shlex.join(['ssm-stream', 'backtest', str(out), *where])}", err=True)
    if file is None:
        for words in (["doctor", str(out), "--create-topics"], ["run", str(out)]):
            echo(f"  {shlex.join(['ssm-stream', *words])}", err=True)
    if as_json:
        choices = {
            "out": str(out),
            "event": event.model_dump(mode="json", exclude_defaults=True),
            "why": draft.why,
            "left_out": draft.left_out,
            "notes": draft.notes,
            "rows": draft.rows,
            "entities": draft.entities,
        }
        print_json(choices)


def _names(paths: Sequence[str]) -> str:
    """The names on one line; the first ones of many, as all are in the file that is written."""
    if len(paths) <= NAMES:
        return ", ".join(paths)
    return f"{', '.join(sorted(paths, key=natural_key)[:NAMES_SHOWN])}, … ({len(paths)} in all)"


def _inputs(event: Event) -> list[str]:
    """The numeric inputs; with `target: all` those that the signals are predicted from."""
    if not event.watches_all:
        return event.numbers
    return ["the other signals"] if event.inputs is None else event.inputs


def _registry(url: str | None, properties: dict[str, str]) -> str:
    """Return the section of the schema registry; an empty text without one."""
    from ssm_stream.autoconfig.render import yaml_quoted

    if url is None:
        return ""
    lines = [f"    {yaml_quoted(name)}: {yaml_quoted(value)}\n" for name, value in properties.items()]
    return f"schema_registry:\n  url: {yaml_quoted(url)}\n" + "".join(["  properties:\n", *lines] if lines else [])


def _property(text: str, option: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise typer.BadParameter(f"{option}: found {text.partition('=')[0]!r}; write NAME=VALUE")
    return name, value


def _rows(file: Path, reading: Reading, most: int = ROWS) -> tuple[list[Any], str, str, str | None]:
    """Return documents of a file, two descriptions, of the sample and of how it is read, and `Recording.numbered`."""
    from ssm_stream.evaluate.recordings import Recording

    recording = Recording(file, most, reading.options())
    read_with = print_reading(recording) if most == ROWS else ""
    rows = list(recording)
    sampled = f"{'the first ' if len(rows) == most else ''}{len(rows):,} rows of {file.name}"
    return rows, sampled, read_with, recording.numbered


def _source(topic: str, brokers: str, properties: dict[str, str]) -> str:
    """Return the section of the topic."""
    from ssm_stream.autoconfig.render import yaml_quoted

    kafka = "".join(f"\n    {yaml_quoted(name)}: {yaml_quoted(value)}" for name, value in properties.items())
    head = f"source:\n  brokers: {yaml_quoted(brokers)}\n  topic: {yaml_quoted(topic)}\n"
    return head + (f"  kafka:{kafka}\n" if kafka else "")


def _messages(
    topic: str, source_text: str, registry: str, chosen: FieldOptions
) -> tuple[list[Any], str, str, str | None, list[Any]]:
    """Return documents of a topic, a description of the sample, `event.format`, a description of its keys (None: there
    are none that recur), and its last documents, if it has more.

    chosen: those of its fields that are of the message are added to the documents
    """
    from ssm_stream.evaluate.recordings.line_protocol import is_line
    from ssm_stream.kafka.cluster import check_broker
    from ssm_stream.kafka.topic_head import format_of, last_documents, names_schema, sample_documents

    form = "auto" if registry else "json"
    # Of the fields given, those of the message are read with its document.
    own = {name: path for name, path in chosen._asdict().items() if isinstance(path, str) and is_message_field(path)}
    targets = [path for path in chosen.target or [] if is_message_field(path)]
    event = {"entity": "e", "timestamp": "t", "target": targets or "y", "format": form, **own}
    text = f"{source_text}event: {json.dumps(event)}\n{registry}"
    config = parse_config(text, "--brokers, --topic, --kafka, --schema-registry")
    source = config.source
    cluster = check_broker(source)
    if topic not in cluster.topics.keys() | cluster.topic_errors.keys() | cluster.denied:
        raise ConfigError(
            f"topic {topic!r} does not exist on {source.brokers}, or this user may not see it: correct --topic, or "
            "give a FILE for a sample"
        )
    documents, messages, goes_on = sample_documents(config, cluster.partitions_of(topic), ROWS)
    if not documents and not registry and any(names_schema(message) for message in messages):
        raise ConfigError(
            f"topic {topic!r} on {source.brokers}: its messages name schemas of a registry, and are not JSON: give "
            "--schema-registry http://host:8081"
        )
    if not documents:
        if any(is_line((message.value() or b"").decode(errors="replace")) for message in messages[:1]):
            raise ConfigError(
                f"topic {topic!r} on {source.brokers} holds line protocol, which only files may hold: set "
                'data_format = "json" in the output of Telegraf that writes it'
            )
        raise ConfigError(
            f"topic {topic!r} on {source.brokers} holds no JSON message: send events first, or give a FILE for a sample"
        )
    counts = Counter(key for message in messages if (key := message.key()) is not None)
    many = f"{len(counts)} different one{'s' * (len(counts) != 1)}"
    keys = f"the messages have keys, {many} in the sample" if 0 < 2 * len(counts) <= counts.total() else None
    last = last_documents(config, cluster.partitions_of(topic), LAST) if goes_on else []
    sampled = f"{'the first ' * goes_on}{len(documents):,} messages of topic {topic}"
    return documents, sampled, format_of(config, messages), keys, last


def _topic_name(file: Path) -> str:
    """A valid topic name from the file's name without its suffix."""
    stem = re.sub(r"(\.[a-z]{3,7})(\.(gz|zst))?$", "", file.name, flags=re.IGNORECASE)
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-.")[:200] or "events"
