"""`ablate --from paper`: from the paper's one-layer GD-SSM to the configured model, one part more at each step.

The first step is that layer on the recording: its inputs are the features alone (the last targets where there are no
features), each entity has a layer of its own, one gradient step with decay predicts, and nothing weighs or corrects it.
All steps run in the production engine over the whole recording; errors are of its last 30 %, costs of the same engine
over its first events.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ssm_stream.config import Config, ConfigError
from ssm_stream.engine.engine import Engine
from ssm_stream.evaluate.prequential import batches
from ssm_stream.evaluate.recordings import Recording
from ssm_stream.evaluate.report.section import at_most
from ssm_stream.evaluate.tuning.candidates import Settings, has_numbers
from ssm_stream.evaluate.tuning.comparison import Change, compare
from ssm_stream.evaluate.tuning.runner import Runner
from ssm_stream.evaluate.tuning.targets import Targets
from ssm_stream.evaluate.tuning.trials import Trial, with_settings

COST_EVENTS = 20_000
"""Events that the cost is measured over: the second half of so many, when most of the state has been touched."""
COST_BATCH = 500
HEADS = {
    "moments": "moments in the place of the one step: many steps, two memories",
    "products": "products: the inputs that weigh most, times each other",
    "proximal": "proximal heads: each event at once",
    "embedding": "embedding: random waves of the inputs",
    "attention": "attention over the last events",
}


class Step(NamedTuple):
    """A model on the way. settings: those in which it still differs from the configuration; beyond: adds to it"""

    name: str
    settings: Settings
    beyond: bool = False


class Cost(NamedTuple):
    """What a model costs. us_per_event: processor time; bytes_per_entity: pooled state divided among its entities"""

    us_per_event: float
    bytes_per_entity: float


class Rung(NamedTuple):
    """A step with its figures on the later part. change: of the error from the step before; None for the first"""

    step: Step
    figures: dict[str, Any]
    change: Change | None
    cost: Cost

    @property
    def verdict(self) -> str:
        """Short text for the table."""
        if self.change is None:
            return ""
        if self.change.low == self.change.high == 0.0:
            return "the same"
        if self.change.better:
            return "better"
        return "worse" if self.change.worse else "not sure"

    def as_json(self) -> dict[str, Any]:
        """Return the content for `--json`."""
        return {
            "step": self.step.name,
            "beyond_the_configuration": self.step.beyond,
            "settings": self.step.settings,
            "change": None if self.change is None else self.change._asdict(),
            "verdict": self.verdict,
            **self.cost._asdict(),
            **self.figures,
        }


@dataclass(frozen=True)
class Climb:
    """All steps, the paper's layer first. cut: ms; whole: from the first step to the configuration"""

    rungs: list[Rung]
    whole: Change | None
    cut: int
    runs: int

    def as_json(self) -> dict[str, Any]:
        """Return the content for `--json`."""
        name = "ablate --from paper: error of the configured model against the first step, upper end of its interval"
        return {
            "checks": [] if self.whole is None else [at_most(name, self.whole.high, 0.0).row()],
            "judged_from_ms": self.cut,
            "mae_persistence": self.rungs[0].figures["mae_persistence"],
            "whole": None if self.whole is None else self.whole._asdict(),
            "steps": [each.as_json() for each in self.rungs],
            "runs": self.runs,
        }


def steps(config: Config, targets: Targets) -> list[Step]:
    """Return the steps from the paper's layer to the configuration, and attention if that has none."""
    model, event = config.model, config.event
    configured: list[str] = [name for name in HEADS if name != "attention" or model.profile == "accurate"]
    configured = [*model.tuned.heads] if model.tuned.heads else configured
    left: Settings = {"model.tuning.heads": ["gd"], "model.tuning.gate": "heads", "model.profile": "fast"}
    if model.fleet and len(targets.entities) > 1:
        left["model.fleet"] = False
    if model.tuned.log_space and not targets.negative:
        left["model.tuning.log_space"] = False
    if event.calendar:
        left["event.calendar"] = []
    numbers = has_numbers(config)
    if numbers or event.categories:
        left |= {"event.lags": 0} if event.lags else {}
        # The changes of features go with the lags by default.
        left |= {"event.differences": False} if numbers and event.uses_differences else {}
        left |= {"event.feature_lags": 0, "event.differences": False} if event.feature_lags else {}
    found = [Step("the paper's layer: one gradient step with decay", dict(left))]

    def add(name: str, *keys: str) -> None:
        if not keys or any(key in left for key in keys):
            for key in keys:
                left.pop(key, None)
            found.append(Step(name, dict(left)))

    add("last targets as inputs, the last one as base", "event.lags")
    add("changes of the features", "event.differences", "event.feature_lags")
    add("calendar, and what the target was at this time", "event.calendar")
    heads = [name for name in configured if name == "gd"]
    gated = False
    for name in HEADS:
        if name not in configured:
            continue
        if name == "attention":
            left.pop("model.profile", None)
        gated = _add_gate(left, found, len(heads) > 1 or name == "attention", gated)
        heads.append(name)
        left["model.tuning.heads"] = list(heads)
        if set(heads) == set(configured):
            left.pop("model.tuning.heads")
        add(HEADS[name])
    left.pop("model.tuning.heads", None)
    left.pop("model.profile", None)
    _add_gate(left, found, True, gated)
    add("log space", "model.tuning.log_space")
    add("fleet: one pool learns from all entities", "model.fleet")
    if model.tuned.heads is None and model.profile == "fast":
        found.append(Step(f"{HEADS['attention']} (model.profile: accurate)", {"model.profile": "accurate"}, True))
    return [step for step in found if _possible(config, step)]


def _add_gate(left: Settings, found: list[Step], due: bool, gated: bool) -> bool:
    """Add the step of the gate if it is due and not there yet; return whether it is there."""
    if not due or gated:
        return gated
    left.pop("model.tuning.gate")
    found.append(Step("gate: weighs heads and bases by their errors", dict(left)))
    return True


def _possible(config: Config, step: Step) -> bool:
    """Return whether something is left to predict from."""
    try:
        with_settings(config, step.settings)
    except ConfigError:
        return False
    return True


def measure_cost(config: Config, file: Path, limit: int | None) -> Cost:
    """Run the engine over the first events of a recording, and measure time and state."""
    rows = Recording(file, min(limit or COST_EVENTS, COST_EVENTS))
    engine = Engine(config)
    times: list[float] = []
    for events, *_ in batches(config, rows):
        starts = range(0, len(events), COST_BATCH)
        parts = [events.take(np.arange(at, min(at + COST_BATCH, len(events)))) for at in starts]
        for part in parts:
            admitted, _ = engine.admit(part)
            begin = time.process_time()
            engine.process(admitted)
            times.append((time.process_time() - begin) / max(len(admitted), 1))
    store = engine.target_engines[0].store
    entities = max(len(store.names), 1)
    pools = len(store.pools) if config.model.fleet else entities
    state = engine.bytes_per_entity + engine.bytes_per_pool * pools / entities
    return Cost(1e6 * float(np.median(times[len(times) // 2 :])), state)


def climb(
    config: Config,
    runner: Runner,
    cut: int,
    targets: Targets,
    begin: Callable[[Trial], None] = lambda _: None,
    seed: int = 0,
) -> Climb:
    """Run each step once; arguments as of `search.tune`."""
    planned = steps(config, targets)
    configs = [with_settings(config, step.settings) for step in planned]
    begin(runner.one(configs[0]))
    trials = [trial.part(since=cut) for trial in runner.run(configs)]
    rungs: list[Rung] = []
    for number, (step, trial) in enumerate(zip(planned, trials, strict=True)):
        change = compare(trials[number - 1], trial, len(planned), seed) if number else None
        # What learns labels from rows of their own is timed as a whole.
        late = config.labels is not None and config.labels.marker is not None
        measured = Cost(trial.micros, trial.memory) if late else None
        cost = measured or measure_cost(configs[number], runner.file, runner.limit)
        rungs.append(Rung(step, trial.figures(), change, cost))
    final = max(number for number, step in enumerate(planned) if not step.beyond)
    return Climb(rungs, compare(trials[0], trials[final], 1, seed), cut, runner.done)
