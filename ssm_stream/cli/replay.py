"""`ssm-stream replay`: sends a recording to the events topic."""

from __future__ import annotations

import contextlib
import itertools
import signal
import time
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Annotated, NamedTuple

import orjson
import typer

from ssm_stream.cli.errors import BAD_USAGE, FAILED, exit_with
from ssm_stream.cli.inputs import (
    AsJson,
    ConfigFile,
    Reading,
    RecordingFile,
    print_reading,
    rows_to_read,
    with_option_groups,
)
from ssm_stream.cli.terminal.console import counting_bar
from ssm_stream.config import Config, ConfigError, load_config
from ssm_stream.config.paths import is_message_field

if TYPE_CHECKING:
    from ssm_stream.evaluate.recordings import Recording
    from ssm_stream.kafka.replay import ReplayPosition

SAVE_INTERVAL = 1.0
"""Seconds between two writes of the position file."""


class Pace(NamedTuple):
    """How fast rows are sent."""

    speed: Annotated[
        float | None,
        typer.Option(min=1e-9, help="Multiple of the recorded speed: 1 is real time, 3600 an hour per second."),
    ] = None
    rate: Annotated[float | None, typer.Option(min=1e-9, help="Events a second, regardless of their times.")] = None


@with_option_groups
def replay(
    config: ConfigFile,
    file: RecordingFile,
    reading: Reading,
    pace: Pace,
    limit: Annotated[int | None, typer.Option(min=1, help="Send at most N rows.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue where the last replay of this file to this topic ended.")
    ] = False,
    to: Annotated[
        str | None,
        typer.Option(metavar="TOPIC", help="One of source.topics. Default: the first.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Send a recording to the events topic, each row a message keyed by its entity: JSON, or in Avro or Protobuf by the
    latest schema of the topic in the schema registry, where `event.format` is that.

    Without --speed and --rate, rows are sent as fast as the broker accepts them. --speed needs a file sorted by time.
    Ctrl-C stops when the sent rows are acknowledged, and --resume continues from there (the position is stored in
    .ssm-stream/ of the working directory). After a crash, the rows of about a second are sent again.

    Exit code 0: all rows were sent; 1: stopped or failed; 2: the configuration, the file or the call is wrong.

    Example: ssm-stream replay examples/forecast-fleet.yaml examples/parking_birmingham.csv.gz --speed 3600
    """
    from ssm_stream.evaluate.recordings import Recording, RecordingError
    from ssm_stream.kafka import replay as core
    from ssm_stream.kafka.client import BrokerError, client_properties
    from ssm_stream.kafka.cluster import check_broker
    from ssm_stream.kafka.formats.rows import row_encoder

    speed, rate = pace
    if speed is not None and rate is not None:
        raise typer.BadParameter("--speed and --rate exclude each other: give one")
    try:
        settings = load_config(config)
        source = settings.source
        if to is not None:
            if to not in source.names:
                raise ConfigError(f"--to: {to!r} is none of the events topics ({', '.join(source.names)})")
            source = source.model_copy(update={"topic": to})
        options = reading.options().of_event(settings.event)
        print_reading(Recording(file, options=options))
        recording = iter(Recording(file, options=options))
        _require_key(settings, Recording(file, options=options))
        recording = itertools.chain([next(recording)], recording)
        position = core.ReplayPosition(file, source.brokers, source.topic)
        skipped = position.read() if resume else 0
    except (ConfigError, RecordingError, core.PositionError) as error:
        raise exit_with(error, BAD_USAGE) from None
    end = None if limit is None else skipped + limit
    selected = itertools.islice(recording, skipped, end)
    tracker = _Tracker(position, skipped, required=resume)
    bar = counting_bar()
    try:
        check_broker(source)
        encode = row_encoder(settings) or core.encode_row
        producer = core.RowProducer(client_properties(source), source.topic, settings.event, encode)
        with tracker, _stopping() as stopping, bar:
            rows = rows_to_read(Recording(file, end, options))
            task = bar.add_task(file.name, total=None if rows is None else max(rows - skipped, 0))

            def progress(done: int) -> None:
                tracker.reached(done)
                bar.update(task, completed=done)

            result = core.replay(
                producer,
                selected,
                speed=speed,
                rate=rate,
                on_progress=progress,
                should_stop=lambda: bool(stopping),
            )
    except (BrokerError, core.ReplayError, RecordingError) as error:
        raise exit_with(error, FAILED) from None
    summary = {
        "file": str(file),
        "topic": source.topic,
        "rows": result.rows,
        "skipped": skipped,
        "seconds": round(result.seconds, 3),
        "events_per_s": round(result.events_per_s, 1),
        "stopped": result.stopped,
    }
    if as_json:
        typer.echo(orjson.dumps(summary).decode())
    else:
        after = f", after {skipped:,} of an earlier replay" if skipped else ""
        speed_text = f"in {result.seconds:.1f} s, {result.events_per_s:,.0f} events/s"
        typer.echo(f"{result.rows:,} rows of {file.name} → topic {source.topic} {speed_text}{after}")
    if result.stopped:
        typer.echo(f"stopped after row {skipped + result.rows:,}; continue with --resume", err=True)
        raise typer.Exit(FAILED)


def _require_key(config: Config, recording: Recording) -> None:
    """Require the messages' keys in a file, if they are the entities.

    Raises:
        ConfigError, RecordingError: there is no such column, or the file cannot be read.
    """
    if is_message_field(config.event.entity):
        found = [each for each in recording.missing_paths(config) if each.startswith("event.entity:")]
        if found:
            raise ConfigError(found[0])


class _Tracker:
    """Updates the position file once a second and at the end, and prints the position of a failed replay."""

    def __init__(self, position: ReplayPosition, skipped: int, *, required: bool) -> None:
        self._position = position
        self._skipped = skipped
        self._required = required
        self._written = time.monotonic()
        self._done = 0

    def reached(self, done: int) -> None:
        self._done = done
        if time.monotonic() - self._written >= SAVE_INTERVAL:
            self._written = time.monotonic()
            self._write()

    def _write(self) -> None:
        from ssm_stream.kafka.replay import PositionError

        try:
            self._position.write(self._skipped + self._done)
        except PositionError as error:
            if self._required:
                raise
            # Without --resume, a replay need not fail in a read-only working directory.
            typer.echo(f"{error}; the replay continues, but --resume will not work", err=True)
            self._written = float("inf")

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if self._written != float("inf"):
            self._required = self._required and error is None
            self._write()
        if error is not None:
            done = self._skipped + self._done
            typer.echo(f"the broker has {done:,} rows; continue from there with --resume", err=True)


@contextlib.contextmanager
def _stopping() -> Iterator[list[int]]:
    """A list that gets the first SIGINT or SIGTERM; the second one acts as by default."""
    seen: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop(number: int, _frame: FrameType | None) -> None:
        seen.append(number)
        for each, handler in before.items():
            signal.signal(each, handler)

    for number in before:
        signal.signal(number, stop)
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
