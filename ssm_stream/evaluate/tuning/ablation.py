"""`ablate`: what each part of the model and each input is worth on a recording.

The engine runs once as configured and once without each part, over the whole recording; the errors on its last 30 %,
when the states are warm, are compared row by row. A part is worth what the error rises without it. The intervals hold
for all rows of the table together, so that among many useless parts none seems useful by chance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from ssm_stream.config import Config, ConfigError
from ssm_stream.evaluate.report.section import at_least
from ssm_stream.evaluate.tuning.candidates import Settings, describe, has_numbers, heads_of, without_columns
from ssm_stream.evaluate.tuning.comparison import Change, compare, on_rows_of, why_not
from ssm_stream.evaluate.tuning.runner import Runner
from ssm_stream.evaluate.tuning.targets import Targets
from ssm_stream.evaluate.tuning.trials import Trial, with_settings

Kind = Literal["model", "inputs", "feature"]


class Part(NamedTuple):
    """Something that can be left out. settings: those that leave it out"""

    name: str
    kind: Kind
    settings: Settings


class Worth(NamedTuple):
    """What a part is worth. change: of the error without it; figures: without it, on the later part"""

    part: Part
    change: Change | None
    figures: dict[str, Any]

    @property
    def verdict(self) -> str:
        """Short text for the table."""
        if self.change is None:
            return why_not(self.figures)
        if self.change.low == self.change.high == 0.0:
            return "not in use"
        if self.change.worse:
            return "worth it"
        return "harmful" if self.change.better else "not sure"

    def as_json(self) -> dict[str, Any]:
        """Return the content for `--json`."""
        return {
            "part": self.part.name,
            "kind": self.part.kind,
            "settings": self.part.settings,
            "worth": None if self.change is None else self.change._asdict(),
            "verdict": self.verdict,
            **self.figures,
        }


@dataclass(frozen=True)
class Ablation:
    """The table: the figures as configured (`everything`), and each part, the most valuable first. cut: ms"""

    everything: dict[str, Any]
    parts: list[Worth]
    cut: int
    runs: int

    def checks(self) -> list[dict[str, Any]]:
        """Return a check for each part: that it does no harm beyond chance."""
        return [
            at_least(f"ablate: worth of {each.part.name}, upper end of its interval", each.change.high, 0.0).row()
            for each in self.parts
            if each.change is not None
        ]

    def as_json(self) -> dict[str, Any]:
        """Return the content for `--json`."""
        return {
            "checks": self.checks(),
            "judged_from_ms": self.cut,
            "everything": self.everything,
            "parts": [each.as_json() for each in self.parts],
            "runs": self.runs,
        }


def parts(config: Config, targets: Targets) -> list[Part]:
    """Return what can be left out of a configuration, as far as something is left to predict from."""
    event, model = config.event, config.model
    found: list[Part] = []
    if model.tuned.gate == "learned":
        found.append(Part("gate", "model", {"model.tuning.gate": "equal"}))
    if model.fleet and len(targets.entities) > 1:
        found.append(Part("fleet", "model", {"model.fleet": False}))
    heads = heads_of(config)
    if len(heads) > 1:
        found += [
            Part(f"head {head}", "model", {"model.tuning.heads": [each for each in heads if each != head]})
            for head in heads
        ]
    if model.tuned.log_space and not targets.negative:
        found.append(Part("log space", "model", {"model.tuning.log_space": False}))
    if event.calendar:
        found.append(Part("calendar", "inputs", {"event.calendar": []}))
    if event.holidays:
        found.append(Part("holidays", "inputs", {"event.holidays": []}))
    if event.lags:
        # The changes of features go with the lags by default; here only the lags are left out.
        found.append(Part("lags", "inputs", {"event.lags": 0, "event.differences": event.uses_differences}))
    if event.feature_lags and has_numbers(config):
        settings = {"event.feature_lags": 0, "event.differences": False}
        found.append(Part("feature lags, differences", "inputs", settings))
    elif event.uses_differences and has_numbers(config):
        found.append(Part("differences", "inputs", {"event.differences": False}))
    for settings in without_columns(config):
        found.append(Part(describe(settings, config).removeprefix("without "), "feature", settings))
    usable = []
    for part in found:
        try:
            with_settings(config, part.settings)
        except ConfigError:
            continue  # nothing would be left to predict from
        usable.append(part)
    return usable


def ablate(
    config: Config,
    runner: Runner,
    cut: int,
    targets: Targets,
    begin: Callable[[Trial], None] = lambda _: None,
    seed: int = 0,
) -> Ablation:
    """Leave each part out once; arguments as of `search.tune`."""
    first = runner.one(config)
    begin(first)
    everything = first.part(since=cut)
    found = parts(config, targets)
    trials = runner.run([with_settings(config, part.settings) for part in found])
    rows = []
    for part, trial in zip(found, trials, strict=True):
        without = trial.part(since=cut)
        figures = on_rows_of(without, everything).figures()
        rows.append(Worth(part, compare(everything, without, len(found), seed), figures))
    rows.sort(key=lambda row: -row.change.value if row.change is not None else 0.0)
    return Ablation(everything.figures(), rows, cut, runner.done)
