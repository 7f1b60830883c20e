"""Each target of a pilot: its predictions against simpler ones; and with several targets, all of them as one.

Errors of targets in different units have no mean, so all of them are taken together in units of persistence: each error
over the mean error of persistence for its target and entity.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ssm_stream.config import Config
from ssm_stream.engine.alert_kinds import KINDS
from ssm_stream.evaluate.alarm_matching import Alarm, Outcome
from ssm_stream.evaluate.bootstrap import Bootstrap
from ssm_stream.evaluate.engine_run import EngineRun, Flags, Floats, Ints, with_inputs
from ssm_stream.evaluate.pilot.alarm_tally import Blocks, row_blocks
from ssm_stream.evaluate.pilot.baselines import BASELINES, Baselines, baselines
from ssm_stream.evaluate.pilot.prediction_figures import PRODUCT, Errors, at_rest, coverage, errors
from ssm_stream.evaluate.pilot.split import Split


@dataclass
class TargetPart:
    """One target, and what was predicted of it."""

    path: str
    run: EngineRun
    split: Split
    block: Ints
    """(n,) of each judged row, −1 of the others."""
    predictions: dict[str, Floats]
    """(n,) by method."""
    simple: Baselines
    errors: Errors
    coverage: dict[str, Any]


@dataclass
class Predictions:
    """Figures of the predictions of all targets together."""

    errors: dict[str, Any]
    coverage: dict[str, Any]
    nights: int
    """On which any model was retrained."""


def compare_target(
    config: Config,
    run: EngineRun,
    split: Split,
    frozen: Floats,
    blocks: Blocks,
    bootstrap: Bootstrap,
) -> TargetPart:
    """Run the simpler predictors for a target.

    Args:
        config: of the run, with all targets
        run: of the target
        split: of the target
        frozen: (n,) predictions of the frozen model
        blocks, bootstrap: of the whole run
    """
    path = run.target or config.event.targets[0]
    simple = baselines(config.for_target(path), with_inputs(config, run), split)
    *untrained, trained = BASELINES
    predictions = {PRODUCT: run.yhat} | {name: simple.yhat[name] for name in untrained}
    predictions |= {"frozen": frozen, trained: simple.yhat[trained]}
    block = row_blocks(run, split, blocks)
    found = errors(run, predictions, block, bootstrap)
    covered = coverage(run, at_rest(run), config.model.interval, block, bootstrap)
    return TargetPart(path, run, split, block, predictions, simple, found, covered)


def all_together(parts: list[TargetPart], level: float, bootstrap: Bootstrap) -> Predictions:
    """Return the figures of all targets. level: of the intervals"""
    nights = max(part.simple.nights for part in parts)
    seasons = {
        "seasons": dict(sum((Counter(part.simple.seasons) for part in parts), Counter[str]())),
        "trainings": sum(part.simple.trainings for part in parts),
        "nights": nights,
    }
    if len(parts) == 1:
        (part,) = parts
        return Predictions(part.errors.figures | seasons | {"seasons": part.simple.seasons}, part.coverage, nights)
    run, predictions, block, usable, rests = _stacked(parts)
    figures = errors(run, predictions, np.where(usable, block, -1), bootstrap).figures
    for each in figures["methods"].values():
        each |= {"mae": None, "rmse": None}
    figures["by_target"] = {part.path: part.errors.figures for part in parts}
    covered = coverage(run, rests, level, block, bootstrap)
    covered["by_target"] = {part.path: part.coverage for part in parts}
    return Predictions(figures | seasons, covered, nights)


def _stacked(parts: list[TargetPart]) -> tuple[EngineRun, dict[str, Floats], Ints, Flags, Flags]:
    """Return all targets as the rows of one run, in units of persistence; their predictions and blocks; which rows
    have a unit; and which rest."""
    n, m = len(parts[0].run), len(parts)
    order = np.argsort(np.tile(np.arange(n), m), kind="stable")  # an event's targets follow each other
    units = []
    for part in parts:
        rows = np.isfinite(part.errors.relative["persistence"])
        missed = np.where(rows, np.abs(part.run.y - part.predictions["persistence"]), 0.0)
        entities = len(part.run.names)
        count = np.bincount(part.run.entity[rows], minlength=entities)
        unit = np.bincount(part.run.entity, missed, minlength=entities) / np.maximum(count, 1)
        units.append(unit[part.run.entity])
    unit = np.concatenate(units)[order]
    scale = np.where(unit > 0.0, unit, 1.0)

    def stack(columns: list[Floats]) -> Floats:
        out: Floats = np.concatenate(columns)[order] / scale
        return out

    first = parts[0].run
    run = replace(
        first,
        entity=np.tile(first.entity, m)[order],
        y=stack([part.run.y for part in parts]),
        yhat=stack([part.run.yhat for part in parts]),
        lower=stack([part.run.lower for part in parts]),
        upper=stack([part.run.upper for part in parts]),
        ts=np.tile(first.ts, m)[order],
    )
    predictions = {name: stack([part.predictions[name] for part in parts]) for name in parts[0].predictions}
    rests = np.concatenate([at_rest(part.run) for part in parts])[order]
    return run, predictions, np.concatenate([part.block for part in parts])[order], unit > 0.0, rests


def target_figures(
    parts: list[TargetPart], alarms: list[Alarm], outcomes: dict[int, Outcome] | None
) -> list[dict[str, Any]]:
    """Return the figures of each target, the one with the largest error over persistence first.

    An alarm counts at the target that started it.

    Args:
        alarms: the judged ones
        outcomes: by place among them, if there are true events or verdicts
    """
    out = []
    for part in parts:
        own = [i for i, alarm in enumerate(alarms) if alarm.message["target"] == part.path]
        kinds = Counter(alarms[i].kind for i in own)
        judged = Counter(outcomes[i] for i in own if i in outcomes) if outcomes is not None else None
        best = part.errors.figures["best_simple"]
        methods = part.errors.figures["methods"]
        out.append(
            {
                "target": part.path,
                "judged_events": int(part.split.judged.sum()),
                "alarms": len(own),
                **{f"{kind}_alarms": kinds[kind] for kind in KINDS},
                "right": None if judged is None else judged["true"] + judged["repeat"],
                "false": None if judged is None else judged["false"],
                "relative": methods[PRODUCT]["relative"]["value"],
                "best_simple": best,
                "product_over_it": methods[best]["product_over_it"] if best else None,
                "coverage": part.coverage["value"],
                "mae": methods[PRODUCT]["mae"],
                "methods": {
                    name: {
                        "mae": each["mae"],
                        "relative": each["relative"]["value"],
                        "product_over_it": each["product_over_it"]["value"],
                    }
                    for name, each in methods.items()
                },
            }
        )
    return sorted(out, key=lambda each: -(each["relative"] if each["relative"] is not None else -1.0))
