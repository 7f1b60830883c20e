"""`tune`: other settings, proposed from a recording, and judged on a later part of it that is not used for the choice.

The first 70 % of the recording's time choose, the last 30 % judge. While choosing, the engine sees nothing of the later
part. The search is greedy: group by group, each candidate against the best so far; a change is kept if the interval of
its gain, widened for the number of candidates, excludes that there is none, and if the gain is worth a change at all.
Then what was kept and what is configured run once over the whole recording, and the later part decides whether the gain
holds there. If it does not, nothing is proposed.

Alarm budgets and the interval's level are preferences: `tune` shows what they cost, and proposes a budget only if there
are labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ssm_stream.config import Config, ConfigError
from ssm_stream.evaluate.engine_run import Ints
from ssm_stream.evaluate.recordings import RecordingError
from ssm_stream.evaluate.true_events import TrueEvent
from ssm_stream.evaluate.tuning.alarm_score import AlarmScore, f1_change, score_alarms
from ssm_stream.evaluate.tuning.candidates import (
    COLUMN_KEYS,
    FACTORS,
    KEYS,
    LEVELS,
    WINDOWS,
    Settings,
    budgets,
    candidates,
    describe,
    listed,
    with_columns_added,
)
from ssm_stream.evaluate.tuning.comparison import MIN_ROWS, Change, compare, on_rows_of, why_not
from ssm_stream.evaluate.tuning.result import COVERAGE_SLACK, Tried, Tuning
from ssm_stream.evaluate.tuning.runner import Runner
from ssm_stream.evaluate.tuning.targets import Targets
from ssm_stream.evaluate.tuning.trials import Trial, with_settings

CHOOSING = 0.7
"""Share of the events with a target, the earliest, that choose."""
MIN_GAIN = 0.005
"""A smaller gain is not worth another configuration, however sure; of one that takes n times the time, n times it."""


def find_cut(ts: Ints, name: str) -> int:
    """Return the time from which on a recording judges, ms: before it lies CHOOSING of its events with a target.

    Raises:
        RecordingError: too few events on one side.
    """
    cut = int(np.partition(ts, int(CHOOSING * len(ts)))[int(CHOOSING * len(ts))]) if len(ts) else 0
    before = int(np.count_nonzero(ts < cut))
    if min(before, len(ts) - before) < MIN_ROWS:
        least = round(MIN_ROWS / (1.0 - CHOOSING))
        why = f"{before:,} events before and {len(ts) - before:,} after the cut at {CHOOSING:.0%} of them"
        raise RecordingError(
            f"{name}: too short to choose on one part and judge on another ({why}; {MIN_ROWS} are needed in "
            f"each): give a recording of {least:,} events or more, over time"
        )
    return cut


@dataclass(frozen=True)
class Plan:
    """What will be tried."""

    groups: Sequence[str] = KEYS
    add: Mapping[str, str] = field(default_factory=dict)
    """Columns that may become inputs: path → key that would list it."""
    true_events: Sequence[TrueEvent] | None = None

    def max_runs(self, config: Config, targets: Targets) -> int:
        """Return the largest number of runs: first, candidates, columns together, old and new, budgets, levels."""
        tried = sum(len(candidates(group, config, targets)) for group in self.groups) + len(self.add)
        if {"profile", "window"} <= set(self.groups) and config.model.profile == "fast":
            tried += len(WINDOWS) - 1  # once attention is chosen
        columns = len(candidates("features", config, targets)) if "features" in self.groups else 0
        preferences = len(FACTORS) - 1 + len([level for level in LEVELS if level != config.model.interval])
        return (
            1
            + tried
            + max(columns + len(self.add), 0)
            + 2
            + preferences
            + (len(FACTORS) + 1 if self.true_events else 0)
        )


def tune(
    config: Config,
    runner: Runner,
    cut: int,
    targets: Targets,
    plan: Plan,
    begin: Callable[[Trial], None] = lambda _: None,
    seed: int = 0,
) -> Tuning:
    """Search for better settings on the first part of a recording, and judge them on the rest.

    Args:
        config: with listed features
        runner: of the recording
        cut: see `find_cut`
        begin: takes the first trial, before the others begin
    """
    first = runner.one(config, cut)
    begin(first)
    best, chosen = config, Settings()
    tried: list[Tried] = []
    notes: list[str] = []
    count = sum(len(candidates(group, config, targets)) for group in plan.groups) + len(plan.add)
    search = _Search(runner, cut, count + 1, seed)
    for group in plan.groups:
        options = candidates(group, best, targets)
        if group == "features":
            options += with_columns_added(best, plan.add)
        found = _best(best, group, options, search)
        tried += found.tried
        chosen |= found.settings
        best = found.config
    if tried and all(each.change is None for each in tried):
        notes.append(f"nothing could be compared on the first part: {why_not(first.figures())}")
    notes += [*_together(config), *_costly(tried), *_not_tried(config)]
    whole = runner.one(config)
    judged = whole.part(since=cut)
    result = Tuning({}, chosen, cut, tried, judged.figures(), config.model.interval, notes=notes)
    now = config
    if chosen:
        after = runner.one(best).part(since=cut)
        before, same = on_rows_of(judged, after), on_rows_of(after, judged)
        result.before, result.after = before.figures(), same.figures()
        result.held = compare(judged, after, seed=seed)
        notes += _other_rows(judged.events, after.events, same.events)
        if result.held is not None and result.held.better:
            result.settings, now, judged = dict(chosen), best, after
            notes += _worse_targets(result.before, result.after)
            old, new = result.before["coverage"], result.after["coverage"]
            if old is not None and new is not None and abs(new - old) > COVERAGE_SLACK:
                notes.append(f"the interval's coverage moves from {old:.1%} to {new:.1%} on the later part")
    _preferences(result, now, runner, cut, plan, seed)
    result.runs = runner.done
    return result


@dataclass
class _Found:
    config: Config
    settings: Settings
    tried: list[Tried]


@dataclass
class _Search:
    """Comparisons on the choosing part."""

    runner: Runner
    cut: int
    comparisons: int
    """Number of candidates in all."""
    seed: int

    def changes(self, config: Config, others: list[Config]) -> list[_Measured]:
        """Return the change of the error by each of the others, and what they cost."""
        reference = self.runner.one(config, self.cut)
        trials = self.runner.run(others, self.cut)
        changes = (compare(reference, trial, self.comparisons, self.seed) for trial in trials)
        return [
            _Measured(change, trial.micros, trial.memory, trial.micros / reference.micros)
            for change, trial in zip(changes, trials, strict=True)
        ]


class _Measured(NamedTuple):
    """What a candidate changes and costs. factor: its time over that of the best so far"""

    change: Change | None
    micros: float
    memory: float
    factor: float

    @property
    def sure(self) -> bool:
        """Whether the error is smaller beyond chance, and by enough for the time: twice it needs twice MIN_GAIN."""
        found = self.change
        needed = MIN_GAIN * max(1, round(self.factor))
        return found is not None and found.better and found.value <= -needed


def _best(config: Config, group: str, options: list[Settings], search: _Search) -> _Found:
    """Return the best candidate of a group, if it is better beyond chance; of columns, all that are better left out."""
    usable = [(settings, each) for settings in options if (each := _with(config, settings)) is not None]
    measured = search.changes(config, [each for _, each in usable])
    changes = [each.change for each in measured]
    order = sorted((each.change.value, i) for i, each in enumerate(measured) if each.sure and each.change is not None)
    kept: set[int] = set()
    together, best = Settings(), config
    for _, i in order if group == "features" else order[:1]:
        mine = _on_top(best, usable[i][0], config)
        further = _with(best, mine)
        if further is not None and (not kept or search.changes(best, [further])[0].sure):
            kept.add(i)
            together |= mine
            best = further
    tried = [
        Tried(group, each, describe(each, config), changes[i], i in kept, *measured[i][1:])
        for i, (each, _) in enumerate(usable)
    ]
    if group == "features":
        # Each useless column may cost too little to be sure of, and all of them together not.
        idle = [
            i
            for i, each in enumerate(changes)
            if each is not None and each.value <= 0.0 and _drops(usable[i][0], config)
        ]
        all_idle = Settings()
        for i in idle:
            all_idle |= _on_top(_with(config, all_idle) or config, usable[i][0], config)
        without = _with(config, all_idle) if len(idle) > 1 else None
        if without is not None and without != best:
            found = search.changes(config, [without])[0]
            on_top = search.changes(best, [without])[0] if kept else found
            taken, words = found.sure and on_top.sure, f"without all {len(idle)} that did no good"
            tried.append(Tried(group, all_idle, words, found.change, taken, *found[1:]))
            if taken:
                return _Found(without, all_idle, tried)
    return _Found(best, together, tried)


def _with(config: Config, settings: Settings) -> Config | None:
    """Return the configuration with these settings; None if they leave nothing to predict from."""
    try:
        return with_settings(config, settings)
    except ConfigError:
        return None


def _drops(settings: Settings, config: Config) -> bool:
    """Return whether settings leave a column out, and add none."""
    return all(key in COLUMN_KEYS and set(value) < set(listed(config, key)) for key, value in settings.items())


def _on_top(config: Config, settings: Settings, before: Config) -> Settings:
    """Return a change of columns, applied to those that are left by now."""
    out = Settings()
    for key, value in settings.items():
        if key == "event.derive":
            now_ = {name: each.model_dump(exclude_defaults=True) for name, each in config.event.derive.items()}
            out[key] = {name: each for name, each in now_.items() if name in value}
            continue
        if key not in COLUMN_KEYS:
            out[key] = value
            continue
        was, now = listed(before, key), listed(config, key)
        out[key] = [path for path in now if path in value or path not in was] + [
            path for path in value if path not in was and path not in now
        ]
    return out


def _costly(tried: list[Tried]) -> list[str]:
    """Return a note on each candidate that is surely better, but not by enough for the time that it takes."""
    notes = []
    for each in tried:
        change = each.change
        if each.factor >= 1.5 and not each.kept and change is not None and change.better and change.value <= -MIN_GAIN:
            notes.append(
                f"{each.words}: surely better by {-change.value:.1%}, at {each.factor:.2g} times the time "
                f"({each.micros:.3g} µs an event, {each.memory:,.0f} bytes an entity): a matter of choice, not proposed"
            )
    return notes


def _together(config: Config) -> list[str]:
    """Return a note on how several targets are judged as one."""
    count = len(config.event.targets)
    if count == 1:
        return []
    return [
        f"one set of settings for all {count} targets, judged by the geometric mean of their errors, each over that of "
        "the last value: every target counts alike"
    ]


def _worse_targets(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Return a note on each target whose error the proposal makes larger on the later part."""
    old, new = before.get("by_target", {}), after.get("by_target", {})
    found = [(path, new[path]["mae"] / old[path]["mae"] - 1.0) for path in old if old[path]["mae"] and new[path]["mae"]]
    return [
        f"{path}: the error on the later part is larger by {change:.1%} with the proposal"
        for path, change in found
        if change > MIN_GAIN
    ]


def _other_rows(before: int, after: int, both: int) -> list[str]:
    """Return a note on events that are refused with one of two configurations; all arguments are numbers of events."""
    words = ((before - both, "as configured"), (after - both, "as chosen"))
    return [
        f"{count:,} more events of the later part are read {name}: errors are compared on the {both:,} that both have"
        for count, name in words
        if count
    ]


def _not_tried(config: Config) -> list[str]:
    """Return notes on what is not tried, and why."""
    notes = []
    if not config.event.lags:
        notes.append("event.lags: 0 means that the last measurement is not to be used; it is left alone")
    return notes


def _preferences(result: Tuning, config: Config, runner: Runner, cut: int, plan: Plan, seed: int) -> None:
    """Add what budgets and levels cost on the later part; with labels, the best budget."""
    scaled = [with_settings(config, budgets(config, factor)) for factor in FACTORS]
    levels = [with_settings(config, {"model.interval": level}) for level in LEVELS]
    trials = [trial.part(since=cut) for trial in runner.run([*scaled, *levels])]
    spans = trials[: len(FACTORS)]
    scores: list[AlarmScore | None] = [None] * len(FACTORS)
    if plan.true_events is not None:
        scores = [score_alarms(trial, plan.true_events, since=cut) for trial in spans]
    for factor, trial, found in zip(FACTORS, spans, scores, strict=True):
        figures = trial.figures()
        kept = ("anomalies", "drifts", "alerts_per_entity_week")
        row = {"factor": factor, **budgets(config, factor), **{name: figures[name] for name in kept}}
        result.budgets.append(row if found is None else {**row, **found.as_json()})
    for level, trial in zip(LEVELS, trials[len(FACTORS) :], strict=True):
        figures = trial.figures()
        result.levels.append({"level": level, "coverage": figures["coverage"], "width": figures["interval_width"]})
    if plan.true_events is None:
        return
    early = [score_alarms(trial, plan.true_events, until=cut) for trial in runner.run(scaled, cut)]
    now = FACTORS.index(1.0)
    if not early[now].events:
        result.notes.append("no true event begins in the first part of the recording: no budget can be chosen from it")
        return
    changes = [(i, f1_change(early[now], each, len(FACTORS) - 1, seed)) for i, each in enumerate(early) if i != now]
    sure = [(found[0], i) for i, found in changes if found[1] > 0.0]
    if not sure:
        result.notes.append("no other budget is surely better for the labels of the first part: yours is kept")
        return
    at = max(sure)[1]
    result.budget_chosen = budgets(config, FACTORS[at])
    late = [each for each in scores if each is not None]
    result.budget_change = f1_change(late[now], late[at], 1, seed)
    if result.budget_change[1] > 0.0:
        result.settings |= result.budget_chosen
