"""`ssm-stream tune`: other settings, proposed from a recording and judged on a later part of it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from ssm_stream.cli.errors import JOB_FAILED, reported, require_one_target, say_if_kernels_are_to_be_compiled
from ssm_stream.config import Config, ConfigError, load_config

if TYPE_CHECKING:
    from rich.table import Table

    from ssm_stream.evaluate.tuning.comparison import Change
    from ssm_stream.evaluate.tuning.runner import Runner
    from ssm_stream.evaluate.tuning.search import Tuning
    from ssm_stream.evaluate.tuning.trials import Targets, Trial

Jobs = Annotated[
    int | None,
    typer.Option(min=1, help="Processes. Default: 1, or one a core where it takes long.", show_default=False),
]
Cache = Annotated[
    Path | None,
    typer.Option(help="Folder that keeps the runs. Default: ~/.cache/ssm-stream/trials.", show_default=False),
]
Seed = Annotated[int, typer.Option(min=0, help="Of the bootstrap.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Only the first rows.")]


def tune(
    config: Annotated[Path, typer.Argument(help="YAML file; it is not changed.", show_default=False)],
    file: Annotated[Path, typer.Argument(help="CSV, CSV.gz, JSON lines or Parquet.", show_default=False)],
    out: Annotated[Path | None, typer.Option(help="Write a copy of CONFIG with what is proposed here.")] = None,
    diff: Annotated[Path | None, typer.Option("--diff", help="Write the difference here, as `patch` takes it.")] = None,
    labels: Annotated[
        Path | None, typer.Option(help="True events (entity,start,end): choose the alarm budgets, too.")
    ] = None,
    add: Annotated[
        list[str] | None, typer.Option(help="A column that may become a feature (again for more).", show_default=False)
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Try only this: lags, half_lives, features, … (again for more).", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON.")] = False,
    limit: Limit = None,
    jobs: Jobs = None,
    cache: Cache = None,
    seed: Seed = 0,
) -> None:
    """Look for better settings on the first 70 % of a recording, and say whether they hold on the rest.

    Nothing is changed: what is proposed is printed as a difference of the file. Ctrl-C stops, and the same command goes
    on where it was. Exit code 0 also where the answer is to keep what you have.

    Example: ssm-stream tune monitor.yaml recording.csv --out tuned.yaml
    """
    from ssm_stream.evaluate.true_events import read_true_events
    from ssm_stream.evaluate.tuning.candidates import KEYS
    from ssm_stream.evaluate.tuning.config_edit import changed_keys, edited
    from ssm_stream.evaluate.tuning.config_edit import diff as difference
    from ssm_stream.evaluate.tuning.search import Plan, find_cut
    from ssm_stream.evaluate.tuning.search import tune as search

    groups = tuple(KEYS if only is None else [key for key in KEYS if key in only])
    if unknown := sorted(set(only or ()) - set(KEYS)):
        raise typer.BadParameter(f"found {unknown[0]!r}; known: {', '.join(KEYS)}", param_hint="--only")
    if add and "features" not in groups:
        raise typer.BadParameter("a column is a feature: give --only features, too", param_hint="--add")
    for path, name in ((out, "--out"), (diff, "--diff")):
        if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
            raise typer.BadParameter(f"cannot write {path}: not a file in an existing folder", param_hint=name)
        if path is not None and any(path.resolve() == given.resolve() for given in (config, file)):
            raise typer.BadParameter(f"{path} is given to read; it is not written over", param_hint=name)
    with prepared(config, file, limit, jobs, cache, "tune") as (loaded, runner, targets, progress):
        require_columns(file, list(add or ()))
        true_events = None if labels is None else read_true_events(labels, loaded, entities_of(loaded, file, limit))
        plan = Plan(groups, tuple(add or ()), true_events)
        begin = progress(plan.max_runs(loaded, targets), "tune")
        found = search(loaded, runner, find_cut(targets.ts, str(file)), targets, plan, begin, seed)
        settings = as_the_file_has_it(found.settings, config, loaded)
        patch, new = "", None
        with config.open(encoding="utf-8", newline="") as opened:
            text = opened.read()
        if settings:
            try:
                new = edited(text, settings, str(config))
            except ConfigError as error:
                typer.echo(f"{error}:\n{changed_keys(settings)}", err=True)
            else:
                patch = difference(text, new, str(config), str(out or config))
        if out is not None and new is not None:
            out.write_text(new, encoding="utf-8", newline="")
        if diff is not None and settings:
            diff.write_text(patch or changed_keys(settings), encoding="utf-8", newline="")
    if as_json:
        content = {**found.as_json(), "settings": settings, "diff": patch}
        sys.stdout.write(orjson.dumps(content, option=orjson.OPT_INDENT_2).decode() + "\n")
        return
    _print(found)
    if patch:
        sys.stdout.write(f"\n{patch}")
    for path, done in ((out, new is not None), (diff, bool(settings))):
        if path is not None:
            typer.echo(f"written to {path}" if done else f"nothing to write to {path}", err=True)


Begin = Callable[["Trial"], None]


@contextlib.contextmanager
def prepared(
    config: Path, file: Path, limit: int | None, jobs: int | None, cache: Path | None, command: str
) -> Iterator[tuple[Config, Runner, Targets, Callable[[int, str], Begin]]]:
    """What tune and ablate begin with: the configuration with picked features, a runner, the targets, and
    what makes a progress bar of so many runs (it gives the function that is told of the first run)."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from ssm_stream.autoconfig.feature_selection import SAMPLE, select_features
    from ssm_stream.evaluate.recordings.recording import Recording, RecordingError
    from ssm_stream.evaluate.tuning.runner import Runner, TrialError, cores
    from ssm_stream.evaluate.tuning.trials import read_targets

    console = Console(stderr=True)
    shown = Progress(
        TextColumn(command), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=console, disable=not console.is_terminal, transient=True,
    )  # fmt: skip
    with reported(RecordingError, TrialError, OSError):
        loaded = load_config(config)
        require_one_target(loaded, command)
        if loaded.event.features == "auto":
            selection = select_features(loaded, list(islice(Recording(file, limit), SAMPLE)))
            loaded = selection.config
            typer.echo("\n".join(selection.lines()), err=True)
        targets = read_targets(loaded, file, limit)
        say_if_kernels_are_to_be_compiled()
        with Runner(file, limit, cache, jobs) as runner, shown:

            def progress(most: int, name: str) -> Begin:
                bar = shown.add_task(name, total=most)
                runner.on_run = lambda: shown.advance(bar)

                def begin(first: Trial) -> None:
                    each = first.seconds * len(targets.ts) / max(len(first.row), 1)
                    runner.expected = each * (most - 1)
                    together = jobs or (cores() if runner.slow else 1)
                    reused = " (the first was kept from before)" if runner.reused else ""
                    most_time = duration(runner.expected / together)
                    console.print(
                        f"up to {most} runs of about {each:.1f} s{reused}: at most {most_time} "
                        f"in {together} process{'es' if together > 1 else ''}; kept in {runner.folder}",
                        highlight=False, markup=False, soft_wrap=True,
                    )  # fmt: skip

                return begin

            try:
                yield loaded, runner, targets, progress
            except KeyboardInterrupt:
                typer.echo(
                    f"stopped after {runner.done} runs, which are kept in {runner.folder}; the same command goes on",
                    err=True,
                )
                raise typer.Exit(JOB_FAILED) from None


def duration(seconds: float) -> str:
    """Seconds in words."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def entities_of(config: Config, file: Path, limit: int | None) -> set[str]:
    """Names of the recording's entities."""
    from ssm_stream.evaluate.prequential import batches
    from ssm_stream.evaluate.recordings.recording import Recording

    return {name for events, _, _ in batches(config, Recording(file, limit)) for name in set(events.entity)}


def require_columns(file: Path, paths: list[str]) -> None:
    """Refuse columns that the first rows do not have.

    Raises:
        ConfigError: which.
    """
    from ssm_stream.autoconfig.feature_selection import SAMPLE
    from ssm_stream.evaluate.recordings.recording import Recording
    from ssm_stream.ingest.events import path_getter

    rows = list(islice(Recording(file, SAMPLE), SAMPLE)) if paths else []
    for path in paths:
        if all(path_getter(path)(row) is None for row in rows):
            raise ConfigError(f"--add: no column {path!r} in the first rows of {file}; there are: {', '.join(rows[0])}")


def as_the_file_has_it(settings: dict[str, Any], config: Path, picked: Config) -> dict[str, Any]:
    """Settings for the file: where it picks its columns itself, all that was picked must stand there once one is left
    out."""
    columns = {"event.features": picked.event.numbers, "event.categories": picked.event.categories}
    if load_config(config).event.features != "auto" or not set(columns) & set(settings):
        return settings
    return {**columns, **settings}


def percent(value: float | None, form: str = "+.1%") -> str:
    """A share, or a dash."""
    return "–" if value is None else format(value, form)


def number(value: float | None, form: str = ".4g") -> str:
    """A number, or a dash."""
    return "–" if value is None else format(value, form)


def day(ms: int) -> str:
    """A time for people."""
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M} UTC"


def table_of(columns: str, left: tuple[str, ...]) -> Table:
    """A table with these columns (words apart by |), those on the left named."""
    from rich.table import Table

    table = Table(show_edge=False, box=None, padding=(0, 2, 0, 0))
    for name in columns.split("|"):
        table.add_column(name, justify="left" if name in left else "right", no_wrap=name != "setting", overflow="fold")
    return table


def alarms(figures: dict[str, Any]) -> str:
    """Anomaly and drift alerts."""
    return f"{figures['anomalies']} + {figures['drifts']}"


def interval(change: Change | None) -> str:
    """Of a change of the error."""
    return "" if change is None else f"{change.low:+.1%} to {change.high:+.1%}"


def _print(found: Tuning) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console()
    console.print("tried, on the first part:" if found.tried else "there is nothing to try")
    tried = table_of("setting|error|interval|", ("setting", ""))
    for each in found.tried:
        c = each.change
        tried.add_row(escape(each.words), percent(c.value if c else None), interval(c), "chosen" if each.kept else "")
    console.print(tried)
    columns = "|MAE|naive|cover|width|alerts|a week"
    later = table_of(columns, ("",))
    for name, m in (("as configured", found.before), ("as chosen", found.after)):
        if m is not None:
            later.add_row(
                name, number(m["mae"]), number(m["mae_persistence"]), percent(m["coverage"], ".1%"),
                number(m["interval_width"]), alarms(m), number(m["alerts_per_entity_week"], ".2g"),
            )  # fmt: skip
    console.print(f"\nthe later part, from {day(found.cut)}:", highlight=False)
    console.print(later)
    _print_preferences(console, found)
    console.print("[dim]alerts: anomaly + drift; a week: of one entity[/dim]")
    for note in found.notes:
        console.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)
    console.print(found.verdict, style="bold", highlight=False, markup=False, soft_wrap=True)


def _print_preferences(console: Any, found: Tuning) -> None:
    labelled = "f1" in found.budgets[0]
    more = "|found|false|F1" if labelled else ""
    table = table_of(f"budget|alerts|a week{more}", ("budget",))
    for row in found.budgets:
        both = [row[key] for key in ("alerts.anomaly.budget", "alerts.drift.budget") if key in row]
        cells = [" and ".join(dict.fromkeys(both)) or "off", alarms(row), number(row["alerts_per_entity_week"], ".2g")]
        if labelled:
            cells += [f"{row['found']} of {row['events']}", str(row["false"]), f"{row['f1']:.2f}"]
        table.add_row(*cells, style="bold" if row["factor"] == 1.0 else None)
    console.print("\nalarm budgets there, a matter of choice:")
    console.print(table)
    levels = table_of("model.interval|cover|width", ())
    for row in found.levels:
        now = row["level"] == found.level
        levels.add_row(
            f"{row['level']:g}", percent(row["coverage"], ".1%"), number(row["width"]), style="bold" if now else None
        )
    console.print("\ninterval levels there, a matter of choice:")
    console.print(levels)
