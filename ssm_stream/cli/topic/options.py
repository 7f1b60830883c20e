"""The events topic in place of a recording: which part of it, and the recording that is made of it."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple
from zoneinfo import ZoneInfo

import typer

from ssm_stream.cli.errors import report_errors
from ssm_stream.cli.terminal.alert_text import format_minute
from ssm_stream.cli.terminal.console import counting_bar
from ssm_stream.cli.terminal.printable import echo
from ssm_stream.config import Config, ConfigError
from ssm_stream.config.quantities import DURATION, UNITS
from ssm_stream.ingest.timestamps import in_range, iso_to_ms

if TYPE_CHECKING:
    from ssm_stream.kafka.recorder.topic_recorder import Recorded

Since = Annotated[
    str | None,
    typer.Option(
        help="From messages of this time on: 7d (so long ago) or 2026-01-31T12:00. Default: the first.",
        show_default=False,
    ),
]
Until = Annotated[
    str | None,
    typer.Option(help="Up to messages of this time, as --since. Default: what is there now.", show_default=False),
]


class FromTopic(NamedTuple):
    """The events topic in place of FILE."""

    topic: Annotated[
        bool, typer.Option("--topic", help="In place of FILE: what the events topic of CONFIG holds now.")
    ] = False
    since: Since = None
    until: Until = None

    def arguments(self, file: Path | None) -> list[str]:
        """Return the arguments of a command on the same recording."""
        if file is not None:
            return [str(file)]
        times = {"--since": self.since, "--until": self.until}
        return ["--topic", *(each for option, time in times.items() if time is not None for each in (option, time))]


@contextlib.contextmanager
def file_or_topic(config: Config, file: Path | None, where: FromTopic) -> Iterator[Path]:
    """Yield the recording: the file, or one that is made of the topic and is removed afterwards.

    Raises:
        BadParameter: there is neither, or both.
    """
    if file is not None and where.topic:
        raise typer.BadParameter("give a FILE or --topic, not both")
    if file is None and not where.topic:
        raise typer.BadParameter("give a FILE, or --topic")
    if not where.topic and (where.since or where.until):
        raise typer.BadParameter("--since and --until need --topic")
    if file is not None:
        yield file
        return
    with tempfile.TemporaryDirectory(prefix="ssm-stream-") as folder:
        # The name that `record` gives by default, which is in the ids of predictions and alerts.
        path = Path(folder) / default_name(config)
        echo(describe(config, record(config, path, where.since, where.until)), err=True)
        yield path


def default_name(config: Config) -> str:
    """Return the name of a recording of the events topic."""
    return f"{config.source.topic}.parquet"


def record(config: Config, path: Path, since: str | None, until: str | None) -> Recorded:
    """Record the events topic, with a progress bar. since, until: as the options have them"""
    from ssm_stream.evaluate.recordings import RecordingError
    from ssm_stream.kafka.client import BrokerError
    from ssm_stream.kafka.recorder.topic_recorder import Progress, record_topic

    begin, end = read_time(config, since, "--since"), read_time(config, until, "--until")
    if begin is not None and end is not None and begin >= end:
        raise ConfigError("--since: it is not before --until")
    bar = counting_bar()
    with report_errors(BrokerError, RecordingError, OSError), bar:
        task = bar.add_task("record", total=None)

        def on_progress(progress: Progress) -> None:
            bar.update(task, completed=progress.done, total=progress.total)

        return record_topic(config, path, since=begin, until=end, on_progress=on_progress)


def read_time(config: Config, text: str | None, option: str) -> int | None:
    """Return the time of an option, ms since 1970; one without an offset is in `event.time_zone`.

    Raises:
        ConfigError: it is no time.
    """
    if text is None:
        return None
    try:
        if found := DURATION.match(text):
            return in_range((time.time() - float(found[1]) * UNITS[found[2]]) * 1000)
        return in_range(iso_to_ms(text, ZoneInfo(config.event.time_zone)))
    except (ValueError, OverflowError):
        raise ConfigError(
            f"{option}: found {text!r}; write how long ago, such as 7d or 12h, or a time such as 2026-01-31T12:00"
        ) from None


def describe(config: Config, recorded: Recorded) -> str:
    """Return in a sentence what was read of the topic, and what could not be read."""
    zone = ZoneInfo(config.event.time_zone)
    text = (
        f"{recorded.rows:,} events of topic {', '.join(config.source.names)} ({recorded.partitions} "
        f"partition{'s' if recorded.partitions > 1 else ''}), messages from {format_minute(recorded.first, zone)} to "
        f"{format_minute(recorded.last, zone)} {config.event.time_zone}"
    )
    if recorded.unreadable:
        faults = ", ".join(f"{fault} {count:,}" for fault, count in recorded.unreadable.most_common())
        count = recorded.unreadable.total()
        what = "message is no event" if count == 1 else "messages are no events"
        text += f"\n{count:,} {what} and left out ({faults}); the first: {recorded.example}"
    for found, cure in recorded.held_back:
        text += f"\n{found}, and are left out\n  {cure}"
    return text
