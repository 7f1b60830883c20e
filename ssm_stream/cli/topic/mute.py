"""`ssm-stream mute`: announces a planned stop to the processes that run."""

from __future__ import annotations

import getpass
import time
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple
from zoneinfo import ZoneInfo

import orjson
import typer

from ssm_stream.cli.errors import report_errors
from ssm_stream.cli.inputs import AsJson, ConfigFile, with_option_groups
from ssm_stream.cli.terminal.console import new_table, print_json, print_table
from ssm_stream.cli.terminal.printable import echo
from ssm_stream.config import DURATION, UNITS, Config, ConfigError, load_config

if TYPE_CHECKING:
    from ssm_stream.config import Source

TOO_LONG = "which ends after the year 9998; write 30d or less"


class Stop(NamedTuple):
    """When the stop is, and why."""

    begin: Annotated[
        str | None,
        typer.Option("--from", help="When it begins, ISO 8601. Default: the events' now.", show_default=False),
    ] = None
    lasts: Annotated[str | None, typer.Option("--for", help="How long it lasts, such as 8h.", show_default=False)] = (
        None
    )
    until: Annotated[
        str | None, typer.Option("--until", help="In place of --for: when it ends, ISO 8601.", show_default=False)
    ] = None
    reason: Annotated[str, typer.Option("--reason", help="Why, for those who read it later.")] = ""
    by: Annotated[
        str | None, typer.Option("--by", help="Who announces it. Default: this user.", show_default=False)
    ] = None
    end: Annotated[
        str | None, typer.Option("--end", help="End the stop with this id, as --list prints it.", show_default=False)
    ] = None
    adapt: Annotated[bool, typer.Option("--adapt", help="Learn the events of the stop; as a rule none is.")] = False


@with_option_groups
def mute(
    config: ConfigFile,
    stop: Stop,
    entity: Annotated[
        str | None,
        typer.Argument(metavar="ENTITY", help="Its name, or a pattern such as 'pump-*'.", show_default=False),
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="Print the stops that are not over; write nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Announce a planned stop of a machine: alerts are suppressed, and nothing is learned.

    It is written to the control topic (alerts.control), and acts on events that are read from then on.

    Example: ssm-stream mute monitor.yaml pump-3 --for 8h --reason "new bearing"
    """
    from ssm_stream.ingest.control import ControlError
    from ssm_stream.ingest.timestamps import OTHER_TIME, iso_to_ms, ms_to_iso
    from ssm_stream.kafka.client import BrokerError
    from ssm_stream.kafka.control.topic import control_topic, write_message

    with report_errors(BrokerError):
        loaded = load_config(config)
        source = control_topic(loaded)
        if source is None:
            raise ConfigError(
                f"{config}: alerts.control: not set; write alerts: {{control: true}}, and create the topic by "
                f"`ssm-stream doctor {config} --create-topics`"
            )
        if listed or stop.end is not None:
            if listed:
                _print_list(loaded, source, as_json)
            else:
                _end(loaded, source, entity, stop, as_json)
            _note_unread(loaded, source.topic)
            return
        if not entity:
            raise ConfigError(
                "ENTITY: missing; name the entity, or a pattern such as 'pump-*', or give --list or --end"
            )
        document = _document(loaded, source, entity, stop)
        try:
            name = write_message(loaded, source, orjson.dumps(document), entity)
        except ControlError as error:
            raise ConfigError(str(error)) from None
    if as_json:
        print_json({"id": name, "topic": source.topic, **document})
        _note_unread(loaded, source.topic)
        return
    echo(f"{entity} is muted from {document['from']} to {document['to']}: message {name} of {source.topic}.")
    now = round(1000 * time.time())
    if stop.begin is None and abs(iso_to_ms(document["from"]) - now) > OTHER_TIME:
        echo(f"It begins now by the time of the events, which is another than the clock's, {ms_to_iso(now)}.")
    echo("It acts on events of that time that are read from now on; `ssm-stream mute CONFIG --list` prints from which.")
    _note_unread(loaded, source.topic)
    _note_unknown(loaded, entity, name)


def _note_unread(config: Config, topic: str) -> None:
    """Print a note where the process that runs does not read the topic: no stop acts on it before it does.

    Where none answers at `ops.address` there is none, as it may run elsewhere.
    """
    from ssm_stream.mcp.process_client import running_settings

    own = config.redacted()["alerts"]["control"]
    for url, running in running_settings(config):
        if (control := running["alerts"].get("control")) != own:
            echo(
                f"note: the process at {url} does not read {topic}: it runs with alerts.control: "
                f"{orjson.dumps(control).decode()}, and mutes nothing by what is written there. Start it "
                "again with the file, or see `config_refused` in its log",
                err=True,
            )


def _note_unknown(config: Config, entity: str, name: str) -> None:
    """Print a note where no entity that sends now has the name: a misspelt stop suppresses nothing.

    name: id of the stop
    """
    from ssm_stream.config.suggestions import nearest
    from ssm_stream.ingest.entity_filter import pattern_filter
    from ssm_stream.kafka.sample import latest_entities

    known = latest_entities(config)
    if not known or any(map(pattern_filter(entity).matches, known)):
        return
    near = nearest(entity, known)
    meant = f"did you mean {near!r}? " if near is not None else ""
    echo(
        f"note: none of the {len(known)} entities in the latest events is {entity!r}: {meant}To take the stop back: "
        f"ssm-stream mute CONFIG --end {name}",
        err=True,
    )


def _document(config: Config, source: Source, entity: str, stop: Stop) -> dict[str, Any]:
    """Return the message.

    Raises:
        ConfigError: the options name no time.
        BrokerError: the control topic does not exist, or the broker does not answer.
    """
    from ssm_stream.ingest.timestamps import in_range, iso_to_ms, ms_to_iso

    def at(option: str, text: str) -> int:
        try:
            return in_range(iso_to_ms(text, ZoneInfo(config.event.time_zone)))
        except (ValueError, OverflowError):
            raise ConfigError(f"{option}: found {text!r}; write a time such as 2026-08-10T06:00") from None

    if (stop.lasts is None) == (stop.until is None):
        raise ConfigError("--for: give either --for, such as 8h, or --until")
    lasts = _duration(stop.lasts) if stop.lasts is not None else None
    until = at("--until", stop.until) if stop.until is not None else 0
    begin = at("--from", stop.begin) if stop.begin is not None else _now(config, source) // 1000 * 1000
    try:
        end = until if lasts is None else in_range(begin + lasts)
    except OverflowError:
        raise ConfigError(f"--for: found {stop.lasts!r}, {TOO_LONG}") from None
    if begin >= end:
        raise ConfigError(f"--until: {ms_to_iso(end)} is not later than {ms_to_iso(begin)}, when the stop begins")
    learn = {"learn": "adapt"} if stop.adapt else {}
    times = {"from": ms_to_iso(begin), "to": ms_to_iso(end)}
    return {"entity": entity, **times, "reason": stop.reason, "by": _author(stop), **learn}


def _duration(text: str) -> int:
    """Return the milliseconds of a duration.

    Raises:
        ConfigError: it is none, or no time.
    """
    from ssm_stream.ingest.timestamps import in_range

    found = DURATION.match(text)
    try:
        ms = in_range(1000 * float(found[1]) * UNITS[found[2]]) if found is not None else 0
    except OverflowError:
        raise ConfigError(f"--for: found {text!r}, {TOO_LONG}") from None
    if not ms:
        raise ConfigError(f"--for: found {text!r}; write a duration such as 30m, 8h or 2d")
    return ms


def _now(config: Config, source: Source) -> int:
    """Return the time of the stream now, ms.

    Raises:
        BrokerError: the control topic does not exist, or the broker does not answer.
    """
    from ssm_stream.kafka.cluster import check_broker
    from ssm_stream.kafka.sample import stream_time

    check_broker(source).partitions_of(source.topic)
    return stream_time(config)


def _author(stop: Stop) -> str:
    return getpass.getuser() if stop.by is None else stop.by


def _end(config: Config, source: Source, entity: str | None, stop: Stop, as_json: bool) -> None:
    """Write that a stop ends now, and print it.

    Raises:
        ConfigError: there is no such stop, or the call has more than its end.
    """
    from ssm_stream.kafka.control.topic import read_control, write_message

    assert stop.end is not None
    more = {"ENTITY": entity, "--from": stop.begin, "--for": stop.lasts, "--until": stop.until, "--adapt": stop.adapt}
    if given := [name for name, value in more.items() if value not in (None, False)]:
        raise ConfigError(f"--end: ends the stop {stop.end!r} now, by its id alone; leave out {', '.join(given)}")
    if stop.end not in read_control(config, source).windows:
        raise ConfigError(f"--end: found {stop.end!r}, and {source.topic} has no such stop; --list prints their ids")
    document = {"ends": stop.end, "reason": stop.reason, "by": _author(stop)}
    name = write_message(config, source, orjson.dumps(document), stop.end)
    if as_json:
        print_json({"id": name, "topic": source.topic, **document})
    else:
        echo(f"{stop.end} ends with the events that are read from now on: message {name} of {source.topic}.")


def _print_list(config: Config, source: Source, as_json: bool) -> None:
    """Print the stops that end later than now, by the time of the stream, and from where on each acts.

    Raises:
        BrokerError: the topic does not exist, or the broker refuses or does not answer.
    """
    from ssm_stream.ingest.timestamps import ms_to_iso
    from ssm_stream.kafka.control.topic import read_control
    from ssm_stream.kafka.sample import stream_time

    found = read_control(config, source)
    now = stream_time(config) if found.windows else 0
    rows: list[dict[str, Any]] = [
        {
            "id": name, "entity": each.entity, "from": ms_to_iso(each.begin), "to": ms_to_iso(each.end),
            "learn": "hold" if each.held else "adapt", "reason": each.reason, "by": each.by,
            "acts_from": {
                str(partition): offsets[name] for partition, offsets in sorted(found.applied.items()) if name in offsets
            },
        }
        for name, each in sorted(found.windows.items(), key=lambda item: item[1].begin)
        if each.end > now and name not in found.ends.values()
    ]  # fmt: skip
    if as_json:
        print_json({"topic": source.topic, "stops": rows})
        return
    if not rows:
        echo(f"no stop on {source.topic} that is not over")
        return
    table = new_table(("id", "entity", "from", "to", "reason", "by", "acts from"), fold=("reason", "acts from"),
                      text=("id", "entity", "from", "to", "by"))  # fmt: skip
    for row in rows:
        places = ", ".join(f"{partition}-{offset}" for partition, offset in row["acts_from"].items())
        table.add_row(
            row["id"], row["entity"], row["from"], row["to"], row["reason"], row["by"], places or "the next event"
        )
    print_table(table)
