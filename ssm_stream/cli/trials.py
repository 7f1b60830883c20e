"""What `tune` and `ablate` share: their options, the runs over a recording, and the parts of their tables."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple
from zoneinfo import ZoneInfo

import typer

from ssm_stream.cli.errors import report_errors
from ssm_stream.cli.inputs import Limit, load_for, open_recording
from ssm_stream.cli.terminal.alert_text import format_minute
from ssm_stream.cli.terminal.console import counting_bar, format_number
from ssm_stream.cli.topic.options import FromTopic, file_or_topic
from ssm_stream.config import Config

if TYPE_CHECKING:
    from ssm_stream.evaluate.tuning.comparison import Change
    from ssm_stream.evaluate.tuning.runner import Runner
    from ssm_stream.evaluate.tuning.targets import Targets
    from ssm_stream.evaluate.tuning.trials import Trial


class TrialOptions(NamedTuple):
    """Options of the runs."""

    limit: Limit = None
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Processes. Default: 1, or one a core for long recordings.", show_default=False),
    ] = None
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder that stores the runs. Default: ~/.cache/ssm-stream/trials.", show_default=False),
    ] = None
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")] = 0


class Trials(NamedTuple):
    """The runs of a configuration over a recording."""

    config: Config
    """With features."""
    file: Path
    runner: Runner
    targets: Targets
    expect: Callable[[int], Callable[[Trial], None]]
    """Shows a progress bar for so many runs; returns the function that is called with the first of them."""


@contextlib.contextmanager
def open_trials(
    config: Path, given: Path | None, where: FromTopic, options: TrialOptions, command: str
) -> Iterator[Trials]:
    """Prepare runs of the configuration over the recording or the topic, and report their errors."""
    from ssm_stream.engine.parallel.cores import cores
    from ssm_stream.evaluate.recordings import RecordingError
    from ssm_stream.evaluate.tuning.runner import Runner, TrialError
    from ssm_stream.evaluate.tuning.targets import read_targets

    bar = counting_bar()
    with report_errors(RecordingError, TrialError, OSError), contextlib.ExitStack() as stack:
        loaded = load_for(config, given)
        file = stack.enter_context(file_or_topic(loaded, given, where))
        loaded, _ = open_recording(loaded, file, options.limit)
        targets = read_targets(loaded, file, options.limit)
        with Runner(file, options.limit, options.cache, options.jobs) as runner, bar:

            def expect(runs: int) -> Callable[[Trial], None]:
                task = bar.add_task(command, total=runs)
                runner.on_run = lambda: bar.advance(task)

                def on_first(first: Trial) -> None:
                    each = first.seconds * len(targets.ts) / max(first.events, 1)
                    runner.expected = each * (runs - 1)
                    processes = options.jobs or (cores() if runner.slow else 1)
                    reused = " (the first is from the cache)" if runner.reused else ""
                    bar.console.print(
                        f"up to {runs} runs of about {each:.1f} s{reused}: at most "
                        f"{_duration(runner.expected / processes)} in {processes} "
                        f"process{'es' if processes > 1 else ''}; stored in {runner.folder}",
                        markup=False, soft_wrap=True,
                    )  # fmt: skip

                return on_first

            try:
                yield Trials(loaded, file, runner, targets, expect)
            except KeyboardInterrupt:
                typer.echo(
                    f"stopped after {runner.done} runs, which are stored in {runner.folder}; the same command "
                    "continues from there",
                    err=True,
                )
                raise  # exit code 130, as of any command that is stopped


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def format_time(ms: int) -> str:
    """A time to the minute, in UTC."""
    return f"{format_minute(ms, ZoneInfo('UTC'))} UTC"


def error_name(figures: dict[str, Any]) -> str:
    """Name of the column of errors: with several targets they are over those of the last value."""
    return "MAE/naive" if "by_target" in figures else "MAE"


def format_error(figures: dict[str, Any]) -> str:
    """Error as of `error_name`."""
    return format_number(figures["over_persistence"] if "by_target" in figures else figures["mae"])


def format_naive(figures: dict[str, Any]) -> str:
    """Error of the last value as of `error_name`."""
    return format_number(1.0 if "by_target" in figures else figures["mae_persistence"])


def format_alerts(figures: dict[str, Any]) -> str:
    """Numbers of anomaly and drift alerts."""
    return f"{figures['anomalies']} + {figures['drifts']}"


def format_cost(micros: float, memory: float) -> tuple[str, str]:
    """Time per event, µs, and memory per entity, bytes."""
    return ("", "") if math.isnan(micros) else (f"{micros:.3g}", f"{memory:,.0f}")


def format_change(change: Change | None) -> tuple[str, str]:
    """The change of the error and its interval."""
    return ("–", "") if change is None else (f"{change.value:+.1%}", f"{change.low:+.1%} to {change.high:+.1%}")
