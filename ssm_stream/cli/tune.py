"""`ssm-stream tune`: proposes settings from a recording and judges them on a later part of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from ssm_stream.cli.errors import report_errors
from ssm_stream.cli.inputs import AsJson, ConfigFile, FileOrTopic, read_labels, require_writable, with_option_groups
from ssm_stream.cli.terminal.console import format_number, new_table, output, print_json, print_table
from ssm_stream.cli.terminal.output_file import write_output
from ssm_stream.cli.topic.options import FromTopic
from ssm_stream.cli.trials import (
    TrialOptions,
    Trials,
    error_name,
    format_alerts,
    format_change,
    format_cost,
    format_error,
    format_naive,
    format_time,
    open_trials,
)
from ssm_stream.config import Config, ConfigError

if TYPE_CHECKING:
    from ssm_stream.evaluate.tuning.feedback import FeedbackTuning
    from ssm_stream.evaluate.tuning.result import Tuning

FEEDBACK_TOPIC = "topic"
"""As --feedback: the topic of `alerts.feedback`, not a file."""


class Outputs(NamedTuple):
    """Files to write."""

    out: Annotated[Path | None, typer.Option(help="Write a copy of CONFIG with the proposal to this file.")] = None
    diff: Annotated[
        Path | None, typer.Option("--diff", help="Write the proposal to this file as a diff, for `patch`.")
    ] = None


class Search(NamedTuple):
    """What is tried."""

    labels: Annotated[
        Path | None, typer.Option(help="True events (entity,start,end): choose the alarm budgets, too.")
    ] = None
    add: Annotated[
        list[str] | None,
        typer.Option(help="A column that may become a feature, text a category. Repeatable.", show_default=False),
    ] = None
    only: Annotated[
        list[str] | None,
        typer.Option(help="Try only this: lags, profile, heads, features, derive, … Repeatable.", show_default=False),
    ] = None
    feedback: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|topic",
            help="Change the alarm settings by operators' verdicts: a file of messages as on the feedback topic, one a "
            "line; or `topic`, the feedback topic itself.",
            show_default=False,
        ),
    ] = None


@with_option_groups
def tune(
    config: ConfigFile,
    where: FromTopic,
    outputs: Outputs,
    options: TrialOptions,
    search: Search,
    file: FileOrTopic = None,
    as_json: AsJson = False,
) -> None:
    """Search for better settings on the first 70 % of a recording, and judge them on the rest.

    With --feedback: change the alarm settings so that alarms that operators called false are spared, and none that they
    called true is lost, as replayed on the same recording.

    CONFIG is not changed: the proposal is printed as a diff. After Ctrl-C, the same command continues with the finished
    runs. Exit code 0 also if the present settings are the best.

    Examples: ssm-stream tune examples/forecast-fleet.yaml examples/parking_birmingham.csv.gz --out tuned.yaml

    ssm-stream tune examples/soft-sensor.yaml --topic --since 28d --feedback topic
    """
    from ssm_stream.evaluate.recordings import Recording
    from ssm_stream.evaluate.tuning.added import added_columns
    from ssm_stream.evaluate.tuning.candidates import KEYS, ON_REQUEST
    from ssm_stream.evaluate.tuning.search import Plan, find_cut
    from ssm_stream.evaluate.tuning.search import tune as search_settings

    labels, add, only, feedback = search
    every = (*KEYS, *ON_REQUEST)
    groups = tuple(KEYS if only is None else [key for key in every if key in only])
    if unknown := sorted(set(only or ()) - set(every)):
        raise typer.BadParameter(f"found {unknown[0]!r}; known: {', '.join(every)}", param_hint="--only")
    if add and "features" not in groups:
        raise typer.BadParameter("a column is a feature: give --only features, too", param_hint="--add")
    if feedback is not None and (labels or add or only):
        raise typer.BadParameter(
            "changes the alarm settings alone: leave out --labels, --add and --only", param_hint="--feedback"
        )
    verdicts = None if feedback is None or feedback == FEEDBACK_TOPIC else Path(feedback)
    require_writable({"--out": outputs.out, "--diff": outputs.diff}, config, file, labels, verdicts)
    with open_trials(config, file, where, options, "tune") as trials:
        loaded, found = trials.config, None
        if feedback is not None:
            judged = _by_feedback(trials, feedback, options.limit)
            written = _write_proposal(judged.settings, config, loaded, outputs)
        else:
            if add and loaded.event.watches_all:
                raise ConfigError("--add: with `target: all` a feature is a target, too; add it to the file by hand")
            columns = added_columns(loaded, trials.file, list(add or ()), options.limit)
            true_events = None
            if labels is not None:
                rows = Recording(trials.file, options.limit)
                true_events = read_labels(labels, loaded, rows, trials.targets.entities)
            plan = Plan(groups, columns, true_events)
            on_first = trials.expect(plan.max_runs(loaded, trials.targets))
            cut = find_cut(trials.targets.ts, str(trials.file))
            found = search_settings(loaded, trials.runner, cut, trials.targets, plan, on_first, options.seed)
            written = _write_proposal(found.settings, config, loaded, outputs)
    if as_json:
        content = judged.as_json() if found is None else found.as_json()
        print_json({**content, "settings": written.settings, "diff": written.patch})
        return
    if found is None:
        _print_feedback(judged)
    else:
        _print(found)
    if written.patch:
        sys.stdout.write(f"\n{written.patch}")
    for path, is_written in ((outputs.out, written.edited), (outputs.diff, bool(written.settings))):
        if path is not None:
            typer.echo(f"written to {path}" if is_written else f"nothing to write to {path}", err=True)


class _Proposal(NamedTuple):
    """The proposal as the file needs it. patch: its diff, or empty; edited: whether the text could be edited"""

    settings: dict[str, Any]
    patch: str
    edited: bool


def _write_proposal(settings: dict[str, Any], config: Path, loaded: Config, outputs: Outputs) -> _Proposal:
    """Make the diff of a proposal, and write the files of `outputs`."""
    from ssm_stream.evaluate.tuning.config_edit import changed_keys, edited, for_the_file
    from ssm_stream.evaluate.tuning.config_edit import diff as unified_diff

    settings = for_the_file(settings, config, loaded)
    patch, new = "", None
    with config.open(encoding="utf-8", newline="") as opened:
        text = opened.read()
    if settings:
        try:
            new = edited(text, settings, str(config))
        except ConfigError as error:
            typer.echo(f"{error}:\n{changed_keys(settings)}", err=True)
        else:
            patch = unified_diff(text, new, str(config), str(outputs.out or config))
    if outputs.out is not None and new is not None:
        write_output("--out", outputs.out, new)
    if outputs.diff is not None and settings:
        write_output("--diff", outputs.diff, patch or changed_keys(settings))
    return _Proposal(settings, patch, new is not None)


def _by_feedback(trials: Trials, feedback: str, limit: int | None) -> FeedbackTuning:
    """Try other alarm settings by the verdicts of a file, or of the feedback topic."""
    from ssm_stream.evaluate.engine_run import run_targets
    from ssm_stream.evaluate.pilot.feedback import read_feedback
    from ssm_stream.evaluate.recordings import Recording, RecordingError
    from ssm_stream.evaluate.tuning.feedback import max_runs, tune_by_feedback
    from ssm_stream.evaluate.tuning.verdicts import locate, none_judged

    config = trials.config
    verdicts = _read_topic(config) if feedback == FEEDBACK_TOPIC else read_feedback(Path(feedback), config)
    recording = Recording(trials.file, limit)
    run = run_targets(config, recording)[0]  # alarms are those of all targets
    located = locate(verdicts, run, recording.row_by_place(), config.source)
    if not located.judged:
        raise RecordingError(none_judged(located, run, len(verdicts)))
    return tune_by_feedback(config, run, located, trials.runner, trials.expect(max_runs(config, run, located)))


def _read_topic(config: Config) -> dict[str, bool]:
    from ssm_stream.flow.feedback import feedback_topic, read_verdicts
    from ssm_stream.kafka.client import BrokerError

    source = feedback_topic(config)
    if source is None:
        raise ConfigError("alerts.feedback: not set; name the topic there, or give a file: --feedback verdicts.jsonl")
    with report_errors(BrokerError):
        verdicts = read_verdicts(config, source)
    if not verdicts:
        raise ConfigError(f'topic {source.topic} has no verdicts; operators send {{"id": ALERT_ID, "true": false}}')
    return verdicts


def _print_feedback(found: FeedbackTuning) -> None:
    from ssm_stream.evaluate.tuning.feedback import duration

    console = output()
    false, right = len(found.located.false), len(found.located.right)
    console.print(f"alarms of this stretch with a verdict: {false} false, {right} true", highlight=False)
    if found.tried:
        console.print("replayed on the same stretch:")
    table = new_table(
        ("setting", "spared", "true kept", "later", "alarms", ""), fold=("setting",), text=("",), lines=False
    )
    table.add_row("(as configured)", f"0 of {false}", f"{right} of {right}", "", f"{found.before.alarms:,}", "")
    for each in found.tried:
        effect = each.effect
        kept = f"{right - len(effect.lost)} of {right}"
        late = duration(max(effect.delays)) if effect.delays and max(effect.delays) > 0 else ""
        mark = "proposed" if each.chosen else "loses" if effect.lost else ""
        table.add_row(each.words, f"{effect.spared} of {false}", kept, late, f"{effect.alarms:,}", mark)
    print_table(table, console)
    console.print("[dim]spared: of those called false; later: at most, of those called true; alarms: all[/dim]")
    for note in found.notes:
        console.print(f"note: {note}", markup=False, soft_wrap=True)
    console.print(found.verdict, style="bold", markup=False, soft_wrap=True)


def _print(found: Tuning) -> None:
    console = output()
    console.print("tried, on the first part:" if found.tried else "there is nothing to try")
    tried = new_table(("setting", "error", "interval", "µs", "bytes", ""), fold=("setting",), text=("",), lines=False)
    for each in found.tried:
        cost = format_cost(each.micros, each.memory)
        tried.add_row(each.words, *format_change(each.change), *cost, "chosen" if each.kept else "")
    print_table(tried, console)
    columns = ("", error_name(found.before), "naive", "cover", "width", "alerts", "a week", "µs", "bytes")
    later = new_table(columns, text=("",), lines=False)
    for name, m in (("as configured", found.before), ("as chosen", found.after)):
        if m is not None:
            later.add_row(
                name, format_error(m), format_naive(m),
                format_number(m["coverage"], ".1%"), format_number(m["interval_width"]), format_alerts(m),
                format_number(m["alerts_per_entity_week"], ".2g"),
                *format_cost(m["micros_per_event"], m["bytes_per_entity"]),
            )  # fmt: skip
    console.print(f"\nthe later part, from {format_time(found.cut)}:")
    print_table(later, console)
    _print_choices(console, found)
    console.print("[dim]alerts: anomaly + drift; a week: of one entity; µs: an event; bytes: an entity[/dim]")
    for note in found.notes:
        console.print(f"note: {note}", markup=False, soft_wrap=True)
    console.print(found.verdict, style="bold", markup=False, soft_wrap=True)


def _print_choices(console: Any, found: Tuning) -> None:
    """Print the effect of alarm budgets and interval levels, which are a matter of choice."""
    labelled = "f1" in found.budgets[0]
    columns = ("budget", "alerts", "a week", *(("found", "false", "F1") if labelled else ()))
    table = new_table(columns, text=("budget",), lines=False)
    for row in found.budgets:
        both = [row[key] for key in ("alerts.anomaly.budget", "alerts.drift.budget") if key in row]
        both += [f"alerts: {row[key]:g}" for key in ("alerts.budget.alerts",) if key in row]
        week = format_number(row["alerts_per_entity_week"], ".2g")
        cells = [" and ".join(dict.fromkeys(both)) or "off", format_alerts(row), week]
        if labelled:
            cells += [f"{row['found']} of {row['events']}", str(row["false"]), f"{row['f1']:.2f}"]
        table.add_row(*cells, style="bold" if row["factor"] == 1.0 else None)
    console.print("\nalarm budgets there, a matter of choice:")
    print_table(table, console)
    levels = new_table(("model.interval", "cover", "width"), text=(), lines=False)
    for row in found.levels:
        cells = [f"{row['level']:g}", format_number(row["coverage"], ".1%"), format_number(row["width"])]
        levels.add_row(*cells, style="bold" if row["level"] == found.level else None)
    console.print("\ninterval levels there, a matter of choice:")
    print_table(levels, console)
