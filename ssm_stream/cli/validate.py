"""`ssm-stream validate`: checks a configuration file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ssm_stream.cli.doctor import diagnosing, named_file, print_checks
from ssm_stream.cli.errors import FAILED, report_errors
from ssm_stream.cli.inputs import (
    ConfigFile,
    EventCount,
    Partitions,
    Reading,
    partitions_of,
    print_reading,
    with_option_groups,
)
from ssm_stream.cli.terminal.console import print_json
from ssm_stream.config import Config, Event, load_config
from ssm_stream.config.client_properties import security_warnings
from ssm_stream.config.first_alerts import first_alerts
from ssm_stream.config.quantities import format_duration
from ssm_stream.config.sections.aggregate import Aggregate
from ssm_stream.config.sections.registry import OF_REGISTRY

if TYPE_CHECKING:
    from ssm_stream.evaluate.recordings import Recording
    from ssm_stream.flow.doctor import Check

NAMES, FIRST = 24, 8
"""Flags on one line, and those named of more."""


@with_option_groups
def validate(
    config: ConfigFile,
    reading: Reading,
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]",
            help="Recording in which to look for the configured paths, and whose entities are counted.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole configuration, defaults filled in.")] = False,
    against_broker: Annotated[
        bool, typer.Option("--against-broker", help="Also check topics, permissions and the latest events.")
    ] = False,
    recording: Annotated[Path | None, typer.Option(help="As FILE.", hidden=True)] = None,
    partitions: Partitions = None,
) -> None:
    """Check a configuration file: print what it means, or each error with its line and the cure.

    If the recovery directory holds a state, the effect of each changed setting on it is printed.

    With a FILE, each configured path must be in it, and its entities are counted: pools, and the team's budget. With
    --against-broker, the checks of `doctor` run too, and the latest events are decoded under this file.

    Exit code 0: the file is valid; 1: the state is refused, a path is missing, no row is an event, or a check failed;
    2: the file is invalid.

    Examples: ssm-stream validate examples/soft-sensor.yaml examples/plant.csv.gz

    ssm-stream validate examples/soft-sensor.yaml --against-broker
    """
    with report_errors():
        loaded = load_config(config)
    recording = file or recording
    rows = None if recording is None else _open(loaded, recording, reading)
    missing = [] if rows is None else _missing_paths(loaded, rows)
    notes, no_event = ([], "") if rows is None or missing else _entity_notes(loaded, rows, partitions)
    state = None
    if loaded.recovery.directory is not None and loaded.recovery.directory.exists():
        from ssm_stream.recovery.compatibility import check_state  # takes a second to import

        state = check_state(loaded)
    checks: list[Check] = []
    if against_broker:
        from ssm_stream.flow.doctor import diagnose

        with diagnosing(loaded):
            checks = named_file(diagnose(loaded), config)
    refused = state is not None and state.effect == "refused"
    config_hash = None if loaded.event.features == "auto" else loaded.hash
    if as_json:
        content = {"config_hash": config_hash, **loaded.redacted()}
        content["recovery"]["kept"] = None if state is None else state.as_json()
        if recording is not None:
            content["recording"] = notes
            content["missing_paths"] = missing
        if against_broker:
            content["checks"] = [check._asdict() for check in checks]
        print_json(content)
    else:
        unfit = [] if recording is None or not (missing or no_event) else [recording.name]
        unfit += [f"the state in {loaded.recovery.directory}"] if refused else []
        result = f"valid, but not for {' and '.join(unfit)}" if unfit else "ok"
        typer.echo(f"{config}: {result}" + ("" if config_hash is None else f" (config hash {config_hash})"))
        for line in [
            *_describe(loaded),
            *(f"missing   {each}" for each in missing),
            *(f"recording {note}" for note in notes),
            *([] if state is None else state.lines()),
        ]:
            typer.echo(f"  {line}")
        if against_broker:
            print_checks(checks)
    if missing or no_event or refused or not all(check.ok for check in checks):
        raise typer.Exit(FAILED)


def _open(config: Config, recording: Path, reading: Reading) -> Recording:
    """Return a recording as the configuration reads it, and print how."""
    from ssm_stream.evaluate.recordings import Recording, RecordingError

    with report_errors(RecordingError, OSError):
        rows = Recording(recording, options=reading.options().of_event(config.event))
        print_reading(rows)
        return rows


def _missing_paths(config: Config, rows: Recording) -> list[str]:
    """Return a sentence for each configured path that a recording does not have."""
    from ssm_stream.evaluate.recordings import RecordingError
    from ssm_stream.evaluate.recordings.context_files import find_facts

    with report_errors(RecordingError, OSError):
        return [*rows.missing_paths(config), *find_facts(config, rows.path)[1]]


def _entity_notes(config: Config, file: Recording, given: int | None) -> tuple[list[str], str]:
    """Return what the entities of a recording make of pools and of the team's budget, and why no row is an event."""
    from ssm_stream.evaluate.pools import describe_budget, describe_pools, partition_of, pools_of
    from ssm_stream.evaluate.prequential import read_events
    from ssm_stream.evaluate.recordings import RecordingError
    from ssm_stream.evaluate.recordings.backward_steps import BackwardSteps

    unknown: dict[str, Any] = {"features": []} if config.event.features == "auto" else {}
    with report_errors(RecordingError, OSError):
        partitions = partitions_of(config, file, given)
        rows = read_events(config.replace(event=config.event.model_copy(update=unknown)), file)
        names, passed, events = dict[str, None](), 0, EventCount(config, file.path.name)
        cadence = BackwardSteps()
        for part, refused, height in rows:
            names |= dict.fromkeys(part.entity)
            cadence.add(part.entity, part.ts)
            others = height - len(part) - len(refused)
            passed += others
            events.add(part.ts, refused, height, others)
    if none := events.describe_none():
        return [none], none
    pools = pools_of({name: partition_of(name, partitions) for name in names}, config.state.shards)
    notes = [describe_pools(config, pools, partitions), events.describe_unit() or None]
    notes.append(describe_budget(config, len(names)))
    what = "readings of other signals" if config.event.layout == "readings" else "rows of other entities"
    notes += [f"{passed:,} {what} pass by" + (" (event.only)" if config.event.only else "")] if passed else []
    if config.event.aggregate is None and not config.event.every:  # else known from the file alone
        notes.append(first_alerts(cadence.usual_step, config.model, "rows that come more often are sooner"))
    return [note for note in notes if note is not None], ""


def _some(names: list[str]) -> str:
    """Return names as text; of many the first ones, as the file has all."""
    return ", ".join(names) if len(names) <= NAMES else f"{', '.join(names[:FIRST])}, … ({len(names)} in all)"


def _describe_readings(event: Event) -> Iterator[str]:
    """How rows are made of readings, as lines of text."""
    apart = f"entity and signal: `{event.entity}` and `{event.signal}`"
    who = apart if event.tag is None else f"entity and signal: {event.tag.pattern} in `{event.tag.field}`"
    yield f"readings  {who}; time: `{event.timestamp}`; value: `{event.value}`"
    when = f"every {format_duration(event.every)}" if event.every else f"at each reading of {event.targets[0]}"
    ages = {} if event.max_age is None else event.max_age if isinstance(event.max_age, dict) else {"": event.max_age}
    found = [f"{name} {format_duration(age)}".strip() for name, age in ages.items()]
    found += [] if "" in ages else ["10 of the signal's usual gaps"]
    grace = f"; a row waits {format_duration(event.grace)} for readings that come late" if event.grace else ""
    yield f"rows      {when}, with the last value of each signal, unknown after {', '.join(found)}{grace}"


def _describe_windows(event: Event, aggregate: Aggregate) -> Iterator[str]:
    """How rows are made of windows, as lines of text."""
    grace = f", {format_duration(aggregate.grace)} after its end" if aggregate.grace else ""
    yield f"windows   {format_duration(aggregate.every)} of each {event.entity}: a row for each window{grace}"
    yield f"rows      {', '.join(f'{name}: {column.text}' for name, column in aggregate.columns.items())}"


def _describe(config: Config) -> Iterator[str]:
    """What a configuration reads, predicts, writes and learns, as lines of text."""
    event, sinks = config.event, config.sinks
    registry = f" by the schemas in {config.schema_registry.url}" if config.schema_registry else ""
    form = f", in {event.format}{registry}" if event.format in OF_REGISTRY else ""
    yield f"reads     {', '.join(config.source.names)} on {config.source.brokers}{form}"
    auto = ["features (auto: selected from the first events at start)", *event.categories]
    columns = auto if event.features == "auto" else event.columns
    columns = [f"{name} ({event.derive[name].text})" if name in event.derive else name for name in columns]
    if event.watches_all:
        columns = [*(["the others"] if event.inputs is None else event.inputs), *event.categories]
    calendar = ["calendar (auto)"] if event.calendar == "auto" else event.calendar
    calendar = [*calendar, *([f"holiday ({', '.join(event.holidays.of)})"] if event.holidays else [])]
    past = [f"their values at {event.feature_lags} past events"] if event.feature_lags else []
    inputs = [*columns, *past, *calendar, *([f"{event.lags} past targets"] if event.lags else [])]
    for each in config.source.context:
        of = "row" if event.makes_rows else "event"
        yield f"joins     {', '.join(each.columns)} from {each.topic}, as of the {of}'s time (source.context)"
    if event.layout == "readings":
        yield from _describe_readings(event)
    if event.aggregate is not None:
        yield from _describe_windows(event, event.aggregate)
    of = "entity" if event.layout == "readings" else event.entity
    yield f"predicts  {_some(event.targets)} of each {of} from {_some(inputs)}"
    if event.only:
        yield f"watches   {', '.join(event.only)}; all other entities pass by (event.only)"
    for when in event.when:
        yield f"judges    events with {when.text}; others pass through as idle (event.when)"
    if event.quality is not None:
        flags, numbers = event.quality.flags, event.quality.judged_by_value
        believed = [f"values whose flag is good ({_some(flags)})"] if flags else []
        believed += [f"values of {', '.join(numbers)} that are {event.quality.good.words}"] if numbers else []
        yield f"believes  {' and '.join(believed)}; others are unknown"
    if (labels := config.labels) is not None:
        where = f"messages with `{labels.marker}`" if labels.topic is None else labels.topic
        span = format_duration(labels.wait)
        yield f"labels    {where}; an event waits {span} for its label, and {labels.pending} of an entity do at most"
    yield f"writes    {', '.join(sinks.topics)}{', in avro' if sinks.format == 'avro' else ''}"
    if config.alerts.shadow:
        yield f"shadow    alerts go to {sinks.suppressed or '(nowhere)'}, none to {sinks.alerts or '(off)'}"
    for window in config.alerts.maintenance:
        learning = "not learned" if window.learn == "hold" else "learned"
        yield f"stops     {window.entities}: {window.text}; alerts are suppressed, events {learning}"
    if config.control_topic is not None:
        yield f"stops     also those that are announced on {config.control_topic} (ssm-stream mute)"
    if config.notify is not None:
        yield f"notifies  {', '.join(name for name, _ in config.notify.named_targets())} (ssm-stream notify)"
    yield "learns    " + (
        "entities of a shard and partition together" if config.model.fleet else "each entity by itself"
    )
    shards = config.state.shards
    work = (
        f"{shards} shards: up to {shards} workers share the work" if shards > 1 else "1 shard: one worker does the work"
    )
    if config.source.assignment == "group":
        yield f"shares    the partitions of the topic with the members of {config.source.group_id} (source.assignment)"
        yield f"state     of each partition in {config.state.store}"
    else:
        yield f"state     {work}; recovery in {config.recovery.directory or '(off)'}"
    budget = config.alerts.budget
    if budget is not None:
        from ssm_stream.evaluate.pools import expect_small_pools

        share = config.alerts.anomaly.budget.seconds * len(event.targets)
        own = f"{share / 86_400:.3g}d"
        yield f"budget    {budget.text}: of each kind, and target, 1 per {own} for an entity"
        if (warning := expect_small_pools(config)) is not None:
            yield f"warning   {warning}"
    every = event.aggregate.every if event.aggregate is not None else event.every
    if every and (late := first_alerts(every, config.model, "shorter windows, or rows as they come, are sooner")):
        yield f"warning   {late}"
    for warning in (*config.harmful_combinations(), *security_warnings({**config.source.kafka, **sinks.kafka})):
        yield f"warning   {warning}"
