"""A pilot: the production engine over a recording, its figures, simpler methods to compare with, and a verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ssm_stream.config import Config
from ssm_stream.evaluate.alarm_matching import Alarm
from ssm_stream.evaluate.bootstrap import CONFIDENCE, DRAWS, Bootstrap
from ssm_stream.evaluate.engine_run import EngineRun, Floats, run_targets
from ssm_stream.evaluate.pilot import alarm_figures, verdict
from ssm_stream.evaluate.pilot.alarm_figures import AlarmContext, alert_list, judged_alarms, slider_draws, tally_methods
from ssm_stream.evaluate.pilot.alarm_tally import Tally, cut_blocks, judge_events
from ssm_stream.evaluate.pilot.at_work import run_at_work
from ssm_stream.evaluate.pilot.costs import Costs, default_costs
from ssm_stream.evaluate.pilot.detectors import Detected, detect, signals, together
from ssm_stream.evaluate.pilot.feedback import JudgedAlarms, judge_alarms
from ssm_stream.evaluate.pilot.headline import headline
from ssm_stream.evaluate.pilot.prediction_figures import PRODUCT, drifts
from ssm_stream.evaluate.pilot.quality import quality
from ssm_stream.evaluate.pilot.sections.excitation import excitation
from ssm_stream.evaluate.pilot.sections.explainable import explainable
from ssm_stream.evaluate.pilot.sections.machines import machines
from ssm_stream.evaluate.pilot.sections.measurement import Measurement, measure
from ssm_stream.evaluate.pilot.sections.stages import stages
from ssm_stream.evaluate.pilot.sections.upkeep import upkeep
from ssm_stream.evaluate.pilot.split import Split, split_targets
from ssm_stream.evaluate.pilot.targets import Predictions, TargetPart, all_together, compare_target, target_figures
from ssm_stream.evaluate.pilot.variants import FACTORS, predict_frozen, rerun_alerts, with_budget
from ssm_stream.evaluate.pools import partition_of, pools_of, small_pools
from ssm_stream.evaluate.report.section import Check
from ssm_stream.evaluate.report.texts import Language
from ssm_stream.evaluate.true_events import TrueEvent


class PilotOptions(NamedTuple):
    """How a pilot is run.

    first: share of each entity's rows that only teaches; seed: of the bootstrap and of random alarms
    partitions: of the source, by which the entities are pooled; language: of the alerts' sentences
    """

    first: float = 0.3
    seed: int = 1
    partitions: int = 1
    language: Language = "en"


DEFAULTS = PilotOptions()
STEPS = 6 + len(FACTORS)
"""Steps of the progress."""


class NothingToJudgeError(ValueError):
    """The recording is too short for a pilot. The text names what it lacks."""


@dataclass
class Pilot:
    """The report, and what its charts show."""

    report: dict[str, Any]
    """The content of `report.json`."""
    checks: list[Check]
    """The rules of the verdict."""
    run: EngineRun
    """Of the first target: entities, times and alerts are those of all."""
    split: Split
    """Of all targets."""
    targets: dict[str, TargetPart]
    """By path."""
    true_events: list[TrueEvent]
    alarms: list[Alarm]
    curves: dict[str, Floats]
    """The median over all drifts, by method."""
    drift_curves: list[dict[str, Floats]]
    """Of each drift, by method."""
    draws: list[Floats]
    """Of each position of the slider, (DRAWS, 2): false alarms, hours of warning."""
    draws_today: Floats
    """The same of the way to alarm today."""
    today: dict[str, float]
    """False alarms and hours of warning of that way."""


def run_pilot(
    config: Config,
    rows: Iterable[dict[str, Any]],
    true_events: Callable[[list[str]], list[TrueEvent]] | None = None,
    costs: Costs | None = None,
    options: PilotOptions = DEFAULTS,
    verdicts: dict[str, bool] | None = None,
    on_rows: Callable[[int], None] = lambda _: None,
    advance: Callable[[str, float], None] = lambda *_: None,
) -> Pilot:
    """Run the engine and everything that it is compared with, and judge.

    Args:
        config: of the pilot
        rows: dicts, one an event, or a `Recording`
        true_events: returns the true events, given the entities of the recording; None: there are no labels
        costs: None: assumptions
        options: of the run
        verdicts: of operators, by the id of the alert; they judge alarms where there are no true events
        on_rows: takes the number of rows of each batch that the engine has done
        advance: takes the part that runs now, and the fraction of the work that is done

    Raises:
        NothingToJudgeError: no entity has events beyond its first part and its warm-up.
    """
    first, seed, partitions, language = options
    given, config = config, config.replace(alerts=config.alerts.model_copy(update={"language": language}))
    runs = run_targets(config, rows, keep_events=True, partitions=partitions, on_rows=on_rows)
    split, splits = _split(config, runs, first)
    run = runs[0]
    events = [] if true_events is None else true_events(run.names)
    blocks = cut_blocks(run, split)
    bootstrap = Bootstrap(len(blocks.start), seed)
    judged = judge_events(run, split, events, silence=config.alerts.silence is not None)
    context = AlarmContext(run, split, judged, blocks, bootstrap, costs or default_costs(language), seed)

    def at(part: str, done: float) -> None:
        advance(part, done / STEPS)

    found = _compare(config, context, list(zip(runs, splits, strict=True)), at)
    if verdicts and not events:
        found.verdicts = judge_alarms([found.all_alarms[i] for i in found.places], verdicts, blocks)
    at("machine", STEPS - 2)
    measured = measure(config, run, lambda share: at("machine", STEPS - 2 + share))
    at("report", STEPS - 1)
    report = _report(given, context, found, labelled=bool(events))
    _add_fitness(report, given, measured, context.costs, language)
    report["excitation"] = excitation(config, run)
    report["judged_by"] = {
        "first_share": first, "seed": seed, "confidence": CONFIDENCE, "draws": DRAWS, "blocks": bootstrap.count,
    }  # fmt: skip
    checks, grade = verdict.checks(report), verdict.grade(report)
    report["verdict"] = {
        "grade": grade,
        "sentences": [{"key": key, **values} for key, values in verdict.sentences(report, grade)],
        "rules": (verdict.__doc__ or "").strip().splitlines(),
        "checks": [check.row() for check in checks],
    }
    today = found.tallies[context.costs.alarms_today]
    return Pilot(
        report, checks, run, split, {part.path: part for part in found.targets}, events, found.all_alarms,
        found.curves, found.drift_curves, found.draws,
        slider_draws(context, today), {"false": today.total("false"), "warned_hours": today.total("warned")},
    )  # fmt: skip


@dataclass
class _Comparison:
    """The product and all that it is compared with."""

    targets: list[TargetPart]
    predictions: Predictions
    all_alarms: list[Alarm]
    judged: list[Alarm]
    """Those past the first part of their entities, for these alone."""
    places: list[int]
    """Of the judged alarms among them."""
    detected: dict[str, Detected]
    tallies: dict[str, Tally]
    points: list[dict[str, Any]]
    draws: list[Floats]
    at_work: dict[str, Any] | None
    drifts: list[dict[str, Any]]
    curves: dict[str, Floats]
    drift_curves: list[dict[str, Floats]]
    verdicts: JudgedAlarms | None = None
    """Of operators."""


def _compare(
    config: Config, context: AlarmContext, targets: list[tuple[EngineRun, Split]], at: Callable[[str, float], None]
) -> _Comparison:
    """Run the frozen model, simpler predictors, other detectors, and the engine at other budgets. targets: of each"""
    run, bootstrap, paths = context.run, context.bootstrap, config.event.targets
    at("frozen model", 0)
    frozen = predict_frozen(config, run, context.split.first, lambda share: at("frozen model", 0.9 * share))
    parts = [
        compare_target(config, *own, yhat, context.blocks, bootstrap) for own, yhat in zip(targets, frozen, strict=True)
    ]
    by_path = {part.path: part for part in parts}
    at("other detectors", 1)
    all_alarms = run.alarms(rules=True)
    alarms, places = judged_alarms(context, all_alarms)
    rule = config.alerts.anomaly
    values = together([signals(*own) for own in targets], run.entity)
    detected = detect(values, len(alarms), rule.recover_after, rule.cooldown)
    points, draws = _slider_positions(config, context, all_alarms, at)
    at("without rest", 2 + len(FACTORS))
    at_work = _without_rest(config, context, points, lambda share: at("without rest", 2 + len(FACTORS) + share))

    def own_of(alarm: Alarm) -> tuple[Split, dict[str, Floats]]:
        part = by_path[alarm.message.get("target", paths[0])]
        return part.split, part.errors.relative

    return _Comparison(
        parts, all_together(parts, config.model.interval, bootstrap), all_alarms, alarms, places,
        detected,
        tally_methods(context, alarms, detected), points, draws, at_work,
        *drifts(run, [all_alarms[i] for i in places], own_of),
    )  # fmt: skip


def _report(config: Config, context: AlarmContext, found: _Comparison, *, labelled: bool) -> dict[str, Any]:
    """Return the report without its verdict. labelled: there are true events, whether or not any of them is judged"""
    run, split, judged, costs, tallies = context.run, context.split, context.judged, context.costs, found.tallies
    outcomes = dict(zip(found.places, tallies[PRODUCT].outcomes, strict=True)) if judged.events else {}
    if found.verdicts:
        outcomes = {found.places[i]: "true" if right else "false" for i, right in found.verdicts.right.items()}
    nights, runs = found.predictions.nights, [part.run for part in found.targets]
    kpis = alarm_figures.kpis(context, tallies, nights)
    report = {
        "report": 1,
        "recording": _recording(config, run, split),
        "config": {
            "hash": config.hash,
            "anomaly_budget": config.alerts.anomaly.budget.text,
            "drift_budget": config.alerts.drift.budget.text,
            "warmup": config.model.warmup,
        },
        "costs": {**costs.model_dump(), "assumed": costs.assumed},
        "episodes": run.shares,
        "headline": headline(context, tallies, nights, labelled=labelled, verdicts=found.verdicts),
        "kpis": {**kpis, "allowed_false": _allowed_false(config, context)},
        "quality": quality(config, runs),
        "errors": found.predictions.errors,
        "detection": alarm_figures.detection(context, tallies, found.detected, found.judged) if labelled else None,
        "feedback": {"alarms": len(found.verdicts.right), "false": found.verdicts.false} if found.verdicts else None,
        # Without labels, of alarms only their number is known.
        "alarm_counts": {name: result.alarms for name, result in tallies.items()},
        "what_if": {"points": found.points, "labelled": bool(judged.events)},
        "rest": found.at_work,
        "coverage": found.predictions.coverage,
        "drifts": found.drifts,
        "alerts": alert_list(run, split, found.all_alarms, outcomes),
    }
    if len(runs) > 1:
        alarms = [found.all_alarms[i] for i in found.places]
        known = {k: outcomes[i] for k, i in enumerate(found.places) if i in outcomes}
        report["targets"] = target_figures(found.targets, alarms, known if judged.events or found.verdicts else None)
    return report


def _add_fitness(
    report: dict[str, Any], config: Config, measured: Measurement, costs: Costs, language: Language
) -> None:
    """Add what else is judged before a signature: machines, causes of alerts, upkeep, stages."""
    intervals = [each["interval_s"] for each in report["quality"]["by_entity"] if each["interval_s"]]
    report["machines"] = machines(config, measured, intervals, len(report["recording"]["pools"]), costs)
    report["explainable"] = explainable(config, report["alerts"], language)
    report["upkeep"] = upkeep(config, measured, report["errors"]["trainings"], len(report["recording"]["pools"]))
    report["stages"] = stages(report, costs)


def _split(config: Config, runs: list[EngineRun], first: float) -> tuple[Split, list[Split]]:
    """Return the split of the whole, and of each target."""
    split, parts = split_targets(runs, first, config.model.warmup)
    if not split.judged.any():
        most = max((len(rows) for part in parts for rows in part.rows), default=0)
        raise NothingToJudgeError(
            f"nothing to judge: the entity with the most labelled events has {most:,}; it takes more than "
            f"{config.model.warmup} (model.warmup) beyond the first {first:.0%} that only teach. Record for longer, or "
            f"check `event.target` ({', '.join(config.event.targets)})"
        )
    return split, parts


def _allowed_false(config: Config, context: AlarmContext) -> float:
    """Return the false alarms that the budgets allow in the judged part, while nothing changes."""
    events, seconds = float(context.split.judged.sum()), 3600.0 * float(context.blocks.hours.sum())
    alerts = config.alerts
    budgets = [section.budget for section in (alerts.anomaly, alerts.drift) if section.enabled]
    budgets += [alerts.anomaly.budget] if alerts.silence is not None or alerts.stuck else []
    return sum(events / each.events if each.events else seconds / each.seconds for each in budgets)


def _slider_positions(
    config: Config, context: AlarmContext, alarms: list[Alarm], at: Callable[[str, float], None]
) -> tuple[list[dict[str, Any]], list[Floats]]:
    """Return figures and draws of the engine at each budget. alarms: at the configured one"""
    points, draws = [], []
    for step, factor in enumerate(FACTORS, 2):

        def advance(share: float, step: int = step) -> None:
            at("other budgets", step + share)

        advance(0.0)
        other, raised = config, alarms
        if factor != 1.0:
            other = with_budget(config, factor)
            raised = context.run.alarms(rerun_alerts(other, context.run, advance), rules=True)
        budgets = (other.alerts.anomaly.budget.text, other.alerts.drift.budget.text)
        point, drawn = alarm_figures.operating_point(context, factor, budgets, raised)
        points.append(point)
        draws.append(drawn)
    return points, draws


def _without_rest(
    config: Config, context: AlarmContext, points: list[dict[str, Any]], advance: Callable[[float], None]
) -> dict[str, Any] | None:
    """Return figures of the engine where the rows in which machines rest are left out; None if none do.

    points: figures at each budget; advance: takes the share of the events that is done
    """
    found = run_at_work(config, context.run, advance)
    if found is None:
        return None
    now = next(point for point in points if point["factor"] == 1.0)
    budgets = (now["budget_anomaly"], now["budget_drift"])
    then, _ = alarm_figures.operating_point(context, 1.0, budgets, context.run.alarms(found.alerts, rules=True))
    counts = ("alarms", "anomalies", "drifts", "by_rules", "false", "found")
    return {
        "column": found.rest.column.path,
        "states": found.rest.resting,
        "share": found.idle,
        "when": found.rest.when,
        "now": {name: now[name] for name in counts},
        "then": {name: then[name] for name in counts},
    }


def _recording(config: Config, run: EngineRun, split: Split) -> dict[str, Any]:
    """Return figures of the recording as a whole."""
    pools = pools_of({name: partition_of(name, run.partitions) for name in run.names}, config.state.shards)
    return {
        "events": len(run),
        "judged_events": int(split.judged.sum()),
        "entities": len(run.names),
        "judged_entities": int(np.count_nonzero(split.first < len(run))),
        "first": int(run.ts.min()) if len(run) else None,
        "last": int(run.ts.max()) if len(run) else None,
        "target": ", ".join(config.event.targets),
        "targets": config.event.targets,
        "features": len(config.event.columns),
        "time_zone": config.event.time_zone,
        "partitions": run.partitions,
        "shards": config.state.shards,
        "pools": [pool.as_json() for pool in pools],
        "small_pools": small_pools(config, pools),
    }
