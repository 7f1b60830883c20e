"""A pilot: the production engine over a recording, judged by figures, against simpler ways, with a verdict.

`pilot(...)` computes everything; `Pilot.report` is what `report.json` holds, and the page (`pilot_page`) shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ssm_stream.config import Config
from ssm_stream.evaluate.pilot import money, verdict
from ssm_stream.evaluate.pilot.baselines import Split, baselines, split
from ssm_stream.evaluate.pilot.detectors import detected, signals
from ssm_stream.evaluate.pilot.figures import PRODUCT, Errors, alert_list, coverage, drifts, errors, facts
from ssm_stream.evaluate.pilot.inputs import Costs, TrueEvent
from ssm_stream.evaluate.pilot.quality import quality
from ssm_stream.evaluate.pilot.run import (
    FACTORS,
    Alarm,
    Floats,
    Tape,
    alarms_of,
    frozen,
    record,
    run_again,
    with_budget,
)
from ssm_stream.evaluate.pilot.score import CONFIDENCE, DRAWS, Bootstrap, blocks_of, judged, row_blocks
from ssm_stream.evaluate.report.section import Check

FIRST_SHARE = 0.3
SEED = 1


class NothingToJudgeError(ValueError):
    """The recording is too short for a pilot. The text says what it lacks."""


@dataclass
class Pilot:
    """All that the page shows.

    report: what `report.json` holds; checks: the verdict's rules
    tape, parts, labels, alarms: for the charts; relative: by method, |error| (n,) in the entity's unit
    curves: the median of all drifts, by method; drift_curves: of each drift; draws: of the slider's positions
    """

    report: dict[str, Any]
    checks: list[Check]
    tape: Tape
    parts: Split
    labels: list[TrueEvent]
    alarms: list[Alarm]
    relative: dict[str, Floats]
    curves: dict[str, Floats]
    drift_curves: list[dict[str, Floats]]
    draws: list[Floats]
    today: tuple[dict[str, float], Floats]


def pilot(
    config: Config,
    rows: Iterable[dict[str, Any]],
    labels: Callable[[list[str]], list[TrueEvent]] | None = None,
    costs: Costs | None = None,
    first: float = FIRST_SHARE,
    seed: int = SEED,
    on_rows: Callable[[int], None] = lambda _: None,
    advance: Callable[[str, float], None] = lambda *_: None,
) -> Pilot:
    """Run the engine, everything it is compared with, and judge.

    Args:
        config: with one target
        rows: dicts, one an event, or a `Recording`
        labels: gives the true events, told the entities of the recording; None: there are none
        costs: None: assumptions
        first: share of each entity's rows that only teaches
        seed: of the bootstrap and of random alarms
        on_rows: told how many rows the engine has had; advance: told the part that runs, and how much of it is done

    Raises:
        NothingToJudgeError: no entity has events beyond its first part and its warm-up.
    """
    costs = costs or Costs()
    tape = record(config, rows, on_rows)
    parts = split(tape, first, config.model.warmup)
    if not parts.judged.any():
        most = max((len(each) for each in parts.rows), default=0)
        raise NothingToJudgeError(
            f"nothing to judge: the entity with the most labelled events has {most:,}; it takes more than "
            f"{config.model.warmup} (model.warmup) beyond the first {first:.0%} that only teach. Record for longer, or "
            f"look at `event.target` ({config.event.targets[0]})"
        )
    true = [] if labels is None else labels(tape.names)
    parts_of_it = 4 + len(FACTORS)

    def at(part: str, done: int) -> None:
        advance(part, done / parts_of_it)

    at("frozen model", 0)
    answers = {PRODUCT: tape.yhat}
    simple = baselines(config, tape, parts)
    answers |= {name: simple.yhat[name] for name in ("persistence", "seasonal", "mean")}
    answers["frozen"] = frozen(config, tape, parts.first)
    answers["least_squares"] = simple.yhat["least_squares"]
    blocks = blocks_of(tape, parts)
    block, count = row_blocks(tape, parts, blocks), len(blocks.start)
    of = Bootstrap(count, seed)
    found = errors(tape, answers, block, count, of)
    alarms = alarms_of(tape, tape.messages)
    what = judged(tape, parts, true)
    ground = money.Ground(tape, parts, what, blocks, of, costs, seed)
    at("other detectors", 1)
    calls, places = money.calls_of(ground, alarms)
    anomaly = config.alerts.anomaly
    rivals = detected(signals(tape, parts), len(calls), anomaly.recover_after, anomaly.cooldown)
    results = money.tallies(ground, alarms, rivals)
    points, draws = _points(config, ground, alarms, at)
    at("report", parts_of_it - 1)
    truth = dict(zip(places, results["product"].truth, strict=True)) if what.events else {}
    judged_alarms = [alarms[i] for i in places]
    absorbed, curves, own_curves = drifts(tape, parts, judged_alarms, found.relative)
    report = _report(config, ground, found, results, rivals, points, simple.nights)
    report["errors"] |= {"seasons": simple.seasons, "trainings": simple.trainings, "nights": simple.nights}
    report["coverage"] = coverage(tape, config.model.interval, block, count, of)
    report["drifts"] = absorbed
    report["alerts"] = alert_list(tape, parts, alarms, truth)
    report["judged_by"] = {
        "first_share": first,
        "seed": seed,
        "confidence": CONFIDENCE,
        "draws": DRAWS,
        "blocks": count,
    }
    checks = verdict.checks(report)
    chosen = verdict.grade(report)
    report["verdict"] = {
        "grade": chosen,
        "sentences": [{"key": key, **said} for key, said in verdict.sentences(report, chosen)],
        "rules": (verdict.__doc__ or "").strip().splitlines(),
        "checks": [check.row() for check in checks],
    }
    today = money.slider_ground(ground, results)
    return Pilot(report, checks, tape, parts, true, alarms, found.relative, curves, own_curves, draws, today)


def allowed_false(config: Config, ground: money.Ground) -> float:
    """False alarms that the budgets allow in the judged part, while nothing changes."""
    events, seconds = float(ground.parts.judged.sum()), 3600.0 * float(ground.blocks.hours.sum())
    rules = (config.alerts.anomaly, config.alerts.drift)
    budgets = [rule.budget for rule in rules if rule.enabled]
    return sum(events / each.events if each.events else seconds / each.seconds for each in budgets)


def _points(
    config: Config, ground: money.Ground, alarms: list[Alarm], at: Callable[[str, int], None]
) -> tuple[list[dict[str, Any]], list[Floats]]:
    """The engine at every position of the slider; at the configured budget it has run already."""
    points, draws = [], []
    for i, factor in enumerate(FACTORS):
        at("other budgets", 2 + i)
        other = config if factor == 1.0 else with_budget(config, factor)
        heard = alarms if factor == 1.0 else alarms_of(ground.tape, run_again(other, ground.tape))
        budgets = (other.alerts.anomaly.budget.text, other.alerts.drift.budget.text)
        point, drawn = money.operating_point(ground, factor, budgets, heard)
        points.append(point)
        draws.append(drawn)
    return points, draws


def _report(
    config: Config,
    ground: money.Ground,
    found: Errors,
    results: dict[str, Any],
    rivals: dict[str, Any],
    points: list[dict[str, Any]],
    nights: int,
) -> dict[str, Any]:
    costs, what, tape = ground.costs, ground.what, ground.tape
    labelled = bool(what.events or what.ignored or what.outside)
    seen = money.detection(ground, results, rivals)
    # Without labels nothing is known but how many alarms each raises.
    counts = {name: result.alarms for name, result in results.items()}
    return {
        "report": 1,
        "recording": facts(config, tape, ground.parts),
        "config": {
            "hash": config.hash,
            "anomaly_budget": config.alerts.anomaly.budget.text,
            "drift_budget": config.alerts.drift.budget.text,
            "warmup": config.model.warmup,
        },
        "costs": {**costs.model_dump(), "assumed": costs.assumed},
        "kpis": {**money.kpis(ground, results, nights), "allowed_false": allowed_false(config, ground)},
        "quality": quality(config, tape),
        "errors": found.figures,
        "detection": seen if labelled else None,
        "alarm_counts": counts,
        "what_if": {"points": points, "labelled": bool(what.events)},
    }
