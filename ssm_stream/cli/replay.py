"""`ssm-stream replay`: a recorded file onto the events topic."""

from __future__ import annotations

import contextlib
import itertools
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn

import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ssm_stream.config import Config, ConfigError, load_config
from ssm_stream.evaluate.recordings import RecordingError, count_rows, rows
from ssm_stream.stream.broker import BrokerError, check_broker, client_properties
from ssm_stream.stream.replay import Position, ReplayError, ReplayResult
from ssm_stream.stream.replay import replay as send

SAVE = 1.0
"""Seconds between two writes of the position file."""


def replay(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="The YAML file: source and event are used.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="CSV, CSV.gz, JSON lines (.gz) or Parquet.")],
    speed: Annotated[
        float | None, typer.Option(min=1e-9, help="Recorded speed × N: 1 is as it happened, 3600 an hour a second.")
    ] = None,
    rate: Annotated[float | None, typer.Option(min=1e-9, help="Events a second, whatever their times.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Send at most so many rows.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where the last replay of this file onto this topic ended.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="The summary as JSON on standard output.")] = False,
) -> None:
    """Send a recording to the events topic, each row a JSON message keyed by its entity.

    Without --speed and --rate, as fast as the broker takes them. --speed wants a file sorted by time.
    Ctrl-C stops once what was sent is acknowledged, and --resume goes on from there; the position is kept in
    .ssm-stream/ of the working directory. After a crash, the rows of about a second are sent again.

    Example: ssm-stream replay configs/forecast-fleet.yaml parking.csv.gz --speed 3600
    """
    if speed is not None and rate is not None:
        _end("--speed and --rate exclude each other: give one", 2)
    try:
        settings = load_config(config)
        recording = rows(file)
        first = next(recording)
        position = Position(file, settings.source.brokers, settings.source.topic)
        skipped = position.read() if resume else 0
    except (ConfigError, RecordingError, ReplayError) as error:
        _end(str(error), 2)
    wanted = itertools.islice(itertools.chain([first], recording), skipped, None if limit is None else skipped + limit)
    tracker = _Tracker(position, skipped, required=resume)
    try:
        check_broker(settings.source)
        with _stopping() as stopping, _bar(file, skipped, limit) as bar:

            def progress(done: int) -> None:
                tracker.reached(done)
                bar(done)

            result = send(
                client_properties(settings.source),
                settings.source.topic,
                wanted,
                entity=settings.event.entity,
                timestamp=settings.event.timestamp,
                timestamp_format=settings.event.timestamp_format,
                time_zone=settings.event.time_zone,
                speed=speed,
                rate=rate,
                on_progress=progress,
                should_stop=lambda: bool(stopping),
            )
    except (BrokerError, ReplayError, RecordingError) as error:
        tracker.required = False
        tracker.close()
        _end(f"{error}\n  {tracker.told}", 1)
    tracker.close()
    _summary(settings, file, result, skipped, tracker, json)


class _Tracker:
    """Keeps the position file up to date, once a second."""

    def __init__(self, position: Position, skipped: int, *, required: bool) -> None:
        self._position = position
        self._skipped = skipped
        self.required = required
        self._written = time.monotonic()
        self.done = 0
        self.warning = ""

    def reached(self, done: int) -> None:
        self.done = done
        if time.monotonic() - self._written >= SAVE:
            self._written = time.monotonic()
            self.close()

    def close(self) -> None:
        try:
            self._position.write(self._skipped + self.done)
        except OSError as error:
            if self.required:
                raise ReplayError(f"{self._position.path}: cannot be written: {error}", self.done) from error
            # A replay that nobody means to resume need not fail where the working directory is read-only.
            self.warning = f"the position was not kept, --resume will not work: {error}"

    @property
    def told(self) -> str:
        return f"{self.done:,} rows were sent and acknowledged; go on with --resume"


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
def _bar(file: Path, skipped: int, limit: int | None) -> Iterator[Any]:
    """A progress bar on a terminal; elsewhere nothing."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda done: None
        return
    left = max(0, count_rows(file) - skipped)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(file.name, total=left if limit is None else min(limit, left))
        yield lambda done: progress.update(task, completed=done)


def _summary(
    settings: Config, file: Path, result: ReplayResult, skipped: int, tracker: _Tracker, as_json: bool
) -> None:
    told = {
        "file": str(file),
        "topic": settings.source.topic,
        "rows": result.rows,
        "skipped": skipped,
        "seconds": round(result.seconds, 3),
        "events_per_s": round(result.events_per_s, 1),
        "stopped": result.stopped,
    }
    if tracker.warning:
        typer.echo(tracker.warning, err=True)
    if as_json:
        typer.echo(orjson.dumps(told).decode())
    else:
        after = f", after {skipped:,} of an earlier replay" if skipped else ""
        speed = f"{result.seconds:.1f} s, {result.events_per_s:,.0f} events/s"
        typer.echo(f"{result.rows:,} rows of {file.name} → topic {settings.source.topic} in {speed}{after}")
    if result.stopped:
        typer.echo(f"stopped at row {skipped + result.rows:,}; go on with --resume", err=True)
        raise typer.Exit(1)


def _end(text: str, code: int) -> NoReturn:
    typer.echo(text, err=True)
    raise typer.Exit(code)
