"""`ssm-stream replay`: a recorded file onto the events topic."""

from __future__ import annotations

import contextlib
import itertools
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, NoReturn

import orjson
import typer

from ssm_stream.config import ConfigError, load_config

if TYPE_CHECKING:
    from ssm_stream.kafka.replay import Position

JOB_FAILED, BAD_USAGE = 1, 2
SAVE = 1.0
"""Seconds between two writes of the position file."""


def replay(
    config: Annotated[Path, typer.Argument(help="YAML file: source and event are used.", show_default=False)],
    file: Annotated[Path, typer.Argument(help="CSV, CSV.gz, JSON lines (.gz) or Parquet.", show_default=False)],
    speed: Annotated[
        float | None, typer.Option(min=1e-9, help="Recorded speed × N: 1 is as it happened, 3600 an hour a second.")
    ] = None,
    rate: Annotated[float | None, typer.Option(min=1e-9, help="Events a second, whatever their times.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Send at most so many rows.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where the last replay of this file onto this topic ended.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Send a recording to the events topic, each row a JSON message keyed by its entity.

    Without --speed and --rate, as fast as the broker takes them. --speed wants a file sorted by time.
    Ctrl-C stops once what was sent is acknowledged, and --resume goes on from there (the position is kept in
    .ssm-stream/ of the working directory). After a crash, the rows of about a second are sent again.

    Example: ssm-stream replay configs/forecast-fleet.yaml parking.csv.gz --speed 3600
    """
    from ssm_stream.evaluate.recordings.recording import RecordingError, count_rows, rows
    from ssm_stream.kafka import replay as core
    from ssm_stream.kafka.client import BrokerError, client_properties
    from ssm_stream.kafka.cluster import check_broker

    if speed is not None and rate is not None:
        raise typer.BadParameter("--speed and --rate exclude each other: give one")
    try:
        settings = load_config(config)
        source, event = settings.source, settings.event
        recording = rows(file)
        recording = itertools.chain([next(recording)], recording)
        position = core.Position(file, source.brokers, source.topic)
        skipped = position.read() if resume else 0
    except (ConfigError, RecordingError, core.PositionError) as error:
        _end(error, BAD_USAGE)
    wanted = itertools.islice(recording, skipped, None if limit is None else skipped + limit)
    tracker = _Tracker(position, skipped, required=resume)

    def left() -> int:
        whole = max(0, count_rows(file) - skipped)
        return whole if limit is None else min(limit, whole)

    try:
        check_broker(source)
        with tracker, _stopping() as stopping, _bar(file.name, left) as bar:

            def progress(done: int) -> None:
                tracker.reached(done)
                bar(done)

            result = core.replay(
                client_properties(source),
                source.topic,
                wanted,
                entity=event.entity,
                entity_default=event.entity_default,
                timestamp=event.timestamp,
                timestamp_format=event.timestamp_format,
                time_zone=event.time_zone,
                speed=speed,
                rate=rate,
                on_progress=progress,
                should_stop=lambda: bool(stopping),
            )
    except (BrokerError, core.ReplayError, RecordingError) as error:
        _end(error, JOB_FAILED)
    told = {
        "file": str(file),
        "topic": source.topic,
        "rows": result.rows,
        "skipped": skipped,
        "seconds": round(result.seconds, 3),
        "events_per_s": round(result.events_per_s, 1),
        "stopped": result.stopped,
    }
    if as_json:
        typer.echo(orjson.dumps(told).decode())
    else:
        after = f", after {skipped:,} of an earlier replay" if skipped else ""
        took = f"in {result.seconds:.1f} s, {result.events_per_s:,.0f} events/s"
        typer.echo(f"{result.rows:,} rows of {file.name} → topic {source.topic} {took}{after}")
    if result.stopped:
        typer.echo(f"stopped after row {skipped + result.rows:,}; go on with --resume", err=True)
        raise typer.Exit(JOB_FAILED)


def _end(error: Exception, code: int) -> NoReturn:
    typer.secho(f"error: {error}", err=True, fg=typer.colors.RED)
    raise typer.Exit(code) from None


class _Tracker:
    """Keeps the position file up to date, once a second and at the end, and says how far a failed replay got."""

    def __init__(self, position: Position, skipped: int, *, required: bool) -> None:
        self._position = position
        self._skipped = skipped
        self._required = required
        self._written = time.monotonic()
        self._done = 0

    def reached(self, done: int) -> None:
        self._done = done
        if time.monotonic() - self._written >= SAVE:
            self._written = time.monotonic()
            self._write()

    def _write(self) -> None:
        from ssm_stream.kafka.replay import PositionError

        try:
            self._position.write(self._skipped + self._done)
        except PositionError as error:
            if self._required:
                raise
            # A replay that nobody means to resume need not fail where the working directory is read-only.
            typer.echo(f"{error}; going on, but --resume will not work", err=True)
            self._written = float("inf")

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if self._written != float("inf"):
            self._required = self._required and error is None
            self._write()
        if error is not None:
            done = self._skipped + self._done
            typer.echo(f"the broker has {done:,} rows; go on from there with --resume", err=True)


@contextlib.contextmanager
def _stopping() -> Iterator[list[int]]:
    """A list that holds the first SIGINT or SIGTERM; the second one acts as it always does."""
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


@contextlib.contextmanager
def _bar(name: str, total: Callable[[], int]) -> Iterator[Callable[[int], None]]:
    """A progress bar on a terminal; elsewhere nothing, and no need to count the rows."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda done: None
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(name, total=total())
        yield lambda done: progress.update(task, completed=done)
