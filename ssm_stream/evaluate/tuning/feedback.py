"""`tune --feedback`: changes of the alarm settings that spare alarms called false by operators, and lose no true one.

Each change is replayed over the stretch that the verdicts are of. It is proposed only if every alarm that was called
true is still raised. Where the false alarms fall into a weekly window, a note has it: only a person can decide on that.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ssm_stream.config import Config, ConfigError
from ssm_stream.evaluate.budgets import scale_budget
from ssm_stream.evaluate.engine_run import EngineRun
from ssm_stream.evaluate.report.section import at_most
from ssm_stream.evaluate.tuning.candidates import Settings, budgets, describe
from ssm_stream.evaluate.tuning.patterns import OnHolidays, Window, find_holidays, find_window
from ssm_stream.evaluate.tuning.runner import Runner
from ssm_stream.evaluate.tuning.trials import Trial, with_settings
from ssm_stream.evaluate.tuning.verdicts import JudgedAlarm, Located

FACTORS = (0.5, 0.2, 0.1, 0.03)
"""Times the false alarms that the configuration allows."""
CONSECUTIVE = (2, 3, 5)
QUANTILES = (0.25, 0.5, 0.75, 1.0)
"""Of the deviations of the alarms called false: the values of `min_deviation`, just above them."""
MIN_OF_ONE = 3
"""False alarms of one entity, or of one channel, from which it is named."""


class Effect(NamedTuple):
    """What a replay does to the alarms with a verdict."""

    spared: int
    """Called false, and no longer raised."""
    lost: list[JudgedAlarm]
    """Called true, and no longer raised."""
    delays: list[float]
    """Of each that was called true and is raised, ms by which it begins later than as configured."""
    alarms: int
    """All alarms of the replay, those without a verdict among them."""

    def as_json(self) -> dict[str, Any]:
        """Return the content for `--json`."""
        return {
            "false_spared": self.spared,
            "true_lost": [each.id for each in self.lost],
            "delay_seconds_max": max(self.delays) / 1000 if self.delays else None,
            "delay_seconds_median": float(np.median(self.delays)) / 1000 if self.delays else None,
            "alarms": self.alarms,
        }


@dataclass
class TriedChange:
    """A change that was replayed. words: it in a few words"""

    settings: Settings
    words: str
    effect: Effect
    chosen: bool = False

    @property
    def useful(self) -> bool:
        """Whether it spares an alarm, and loses none that was called true."""
        return self.effect.spared > 0 and not self.effect.lost

    @property
    def rank(self) -> tuple[float, ...]:
        """The best has the greatest: most spared, least delay, most of the other alarms left, fewest changes."""
        return (self.effect.spared, -sum(self.effect.delays), self.effect.alarms, -len(self.settings))


@dataclass
class FeedbackTuning:
    """The result: verdicts by what became of them, the changes, and the proposal."""

    located: Located
    before: Effect
    tried: list[TriedChange] = field(default_factory=list)
    window: Window | None = None
    on_holidays: OnHolidays | None = None
    notes: list[str] = field(default_factory=list)
    runs: int = 0

    @property
    def proposal(self) -> TriedChange | None:
        """The change that is proposed."""
        return next((each for each in self.tried if each.chosen), None)

    @property
    def settings(self) -> Settings:
        """Those of the proposal; empty: keep what you have."""
        return {} if self.proposal is None else self.proposal.settings

    @property
    def verdict(self) -> str:
        """The result in a sentence or two."""
        false, right = len(self.located.false), len(self.located.right)
        if not false:
            return "Keep what you have: no alarm of this stretch was called false."
        found = self.proposal
        if found is None:
            loss = " without losing one that was called true" if right else ""
            return f"Keep what you have: no change tried spares one of the {false} alarms called false{loss}."
        kept = f"all {right} called true are raised" if right > 1 else "the one called true is raised"
        delays = found.effect.delays
        late = f", at most {duration(max(delays))} later" if delays and max(delays) > 0 else " at the same time"
        true = f", and {kept}{late}" if right else "; none was called true, so nothing shows what it would lose"
        return f"{found.words}: {found.effect.spared} of the {false} alarms called false are spared{true}."

    def checks(self) -> list[dict[str, Any]]:
        """Return a check of the proposal: it loses nothing that was called true."""
        lost = 0 if self.proposal is None else len(self.proposal.effect.lost)
        return [at_most("tune --feedback: alarms called true that the proposal loses", lost, 0.0).row()]

    def as_json(self) -> dict[str, Any]:
        """Return the content for `--json`."""
        found = self.located
        return {
            "checks": self.checks(),
            "verdict": self.verdict,
            "settings": self.settings,
            "called_false": [each.id for each in found.false],
            "called_true": [each.id for each in found.right],
            "verdicts_elsewhere": found.elsewhere,
            "verdicts_not_raised": found.absent,
            "verdicts_on_other_rules": found.others,
            "before": self.before.as_json(),
            "tried": [
                {"settings": each.settings, "chosen": each.chosen, **each.effect.as_json()} for each in self.tried
            ],
            "window": None if self.window is None else self.window.as_json(),
            "on_holidays": None if self.on_holidays is None else self.on_holidays._asdict(),
            "notes": self.notes,
            "runs": self.runs,
        }


def tune_by_feedback(
    config: Config, run: EngineRun, located: Located, runner: Runner, begin: Callable[[Trial], None] = lambda _: None
) -> FeedbackTuning:
    """Replay bounded changes of the alarm settings, and propose the best that loses no alarm that was called true.

    Args:
        config: with listed features
        run: of the configuration over the recording; of any of its targets
        located: the verdicts on its alarms
        begin: takes the first trial, before the others begin
    """
    first = runner.one(config)
    begin(first)
    result = FeedbackTuning(located, measure(located, first))
    groups = candidates(config, run, located)
    result.tried = _replay(config, [each for group in groups.values() for each in group], located, runner)
    best = max((each for each in result.tried if each.useful), key=lambda each: each.rank, default=None)
    while best is not None:
        # A second change on top of the best, of another key.
        more = [
            {**best.settings, **each.settings}
            for each in result.tried
            if len(each.settings) == 1 and each.useful and not set(each.settings) & set(best.settings)
        ]
        further = _replay(config, more, located, runner)
        result.tried += further
        better = max((each for each in further if each.useful), key=lambda each: each.rank, default=None)
        if better is None or better.effect.spared <= best.effect.spared:
            break
        best = better
    if best is not None:
        best.chosen = True
    false, right = (np.array([each.alarm.ts for each in some], np.int64) for some in (located.false, located.right))
    result.window = find_window(false, right, run.ts, config.event.time_zone)
    result.on_holidays = find_holidays(false, right, run.ts, config.event)
    result.notes, result.runs = _notes(result, run), runner.done
    return result


def max_runs(config: Config, run: EngineRun, located: Located) -> int:
    """Return the largest number of runs: as configured, each change, and each on top of the best, twice."""
    groups = candidates(config, run, located)
    tried = sum(map(len, groups.values()))
    return 1 + tried + (len(groups) > 1) * tried + (len(groups) > 2) * tried


def candidates(config: Config, run: EngineRun, located: Located) -> dict[str, list[Settings]]:
    """Return the changes to try by key, each within bounds: stricter than what is configured, and not beyond use."""
    alerts, out = config.alerts, dict[str, list[Settings]]()
    kinds = {each.alarm.kind for each in located.false}
    if alerts.budget is not None and kinds:
        out["budget"] = [budgets(config, factor) for factor in FACTORS]
    elif alerts.budget is None:
        for kind in sorted(kinds):
            budget = (alerts.anomaly if kind == "anomaly" else alerts.drift).budget
            key = f"alerts.{kind}.budget"
            out[key] = [{key: scale_budget(budget, factor, digits=2).text} for factor in FACTORS]
    if "anomaly" in kinds:
        rows = [each.alarm.row for each in located.false if each.alarm.kind == "anomaly"]
        off = np.abs(run.y - run.yhat)[rows]
        values = sorted({_above(float(value)) for value in np.quantile(off[~np.isnan(off)], QUANTILES)} if
                        np.any(~np.isnan(off)) else ())  # fmt: skip
        now = alerts.anomaly.min_deviation
        if not run.target:  # it is in the unit of the target, and several targets have several
            out["min_deviation"] = [{"alerts.anomaly.min_deviation": value} for value in values if value > now]
        more = [n for n in CONSECUTIVE if n > alerts.anomaly.consecutive]
        out["consecutive"] = [{"alerts.anomaly.consecutive": n} for n in more]
    return {key: each for key, each in out.items() if each}


def _above(value: float) -> float:
    """Return the least number of two significant digits that is greater."""
    if value <= 0.0:
        return 0.0
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{(math.floor(value / step) + 1) * step:.2g}")


def measure(located: Located, trial: Trial) -> Effect:
    """Return what a replay does to the alarms with a verdict."""
    spared, lost, delays = 0, list[JudgedAlarm](), list[float]()
    for each in located.judged:
        raised = each.raised_by(trial.alarms)
        if not each.true:
            spared += not raised
        elif raised:
            delays.append(float(max(min(alarm.ts for alarm in raised) - each.alarm.ts, 0)))
        else:
            lost.append(each)
    return Effect(spared, lost, delays, len(trial.alarms))


def _replay(config: Config, changes: list[Settings], located: Located, runner: Runner) -> list[TriedChange]:
    usable: list[tuple[Settings, Config]] = []
    for settings in changes:
        try:
            usable.append((settings, with_settings(config, settings)))
        except ConfigError:
            continue  # they contradict another setting
    trials = runner.run([each for _, each in usable])
    return [
        TriedChange(settings, describe(settings, config), measure(located, trial))
        for (settings, _), trial in zip(usable, trials, strict=True)
    ]


def duration(ms: float) -> str:
    """Return a time as text: `90s`, `15m`, `3.5h`, `2d`."""
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000)):
        if ms >= 2 * size:
            return f"{ms / size:.3g}{unit}"
    return f"{ms / 1000:.3g}s"


def _notes(result: FeedbackTuning, run: EngineRun) -> list[str]:
    """Return sentences on what the table does not show."""
    found, notes = result.located, list[str]()
    if (window := result.window) is not None:
        notes.append(
            f"{window.inside} of the {window.of} alarms called false begin {window.text}, where {window.events:.1%} of "
            "the events and no true alarm lie: a planned stop, or a change of shifts? A maintenance window would "
            "withhold them; only you know"
        )
    if (days := result.on_holidays) is not None:
        notes.append(
            f"{days.inside} of the {days.of} alarms called false begin on days of event.holidays, where "
            f"{days.events:.1%} of the events and no true alarm lie"
        )
    channels = Counter(each.alarm.message.get("channel") for each in found.false)
    channel, count = channels.most_common(1)[0] if channels else (None, 0)
    true = sum(each.alarm.message.get("channel") == channel for each in found.right)
    if channel is not None and count >= MIN_OF_ONE and count > len(found.false) / 2:
        notes.append(
            f"{count} of the {len(found.false)} alarms called false, and {true} of the {len(found.right)} called true, "
            f"are of the channel {channel} (alerts.anomaly.channels)"
        )
    if found.elsewhere:
        notes.append(f"{_count(found.elsewhere, 'verdict')} on events that this recording does not have: not judged")
    if found.absent:
        notes.append(
            f"{_count(len(found.absent), 'verdict')} on alarms that the replay as configured does not raise, as it "
            f"begins without the state of then: not judged ({_few(found.absent)})"
        )
    if run.target:
        notes.append("alerts.anomaly.min_deviation is not tried: one number for targets in different units")
    if found.others:
        notes.append(f"{_count(found.others, 'verdict')} on limits, silence or stuck signals: change those by hand")
    spared = 0 if result.proposal is None else result.proposal.effect.spared
    for each in result.tried:
        if each.effect.lost and each.effect.spared > spared:
            named = [f"{one.id} ({run.names[one.alarm.entities[0]]})" for one in each.effect.lost if one.alarm.entities]
            notes.append(
                f"{each.words}: spares {each.effect.spared}, but loses {len(each.effect.lost)} called true "
                f"({_few(named)}): not proposed"
            )
    unjudged = result.before.alarms - len(found.judged)
    if found.judged and unjudged > 0:
        notes.append(
            f"{unjudged} of the {_count(result.before.alarms, 'alarm')} in this stretch have no verdict: what a change "
            "spares of them may have been right"
        )
    names = Counter(run.names[e] for each in found.false for e in each.alarm.entities[:1])
    name, count = names.most_common(1)[0] if names else ("", 0)
    if len(run.names) > 1 and count >= MIN_OF_ONE and count > len(found.false) / 2:
        notes.append(f"{count} of the {len(found.false)} alarms called false are of {name}: look at it first")
    return notes


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if names[3:] else "")


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"
