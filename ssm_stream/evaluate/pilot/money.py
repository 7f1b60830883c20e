"""What a pilot says of alarms: events found and missed, false alarms, what that costs; beside other ways to alarm."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ssm_stream.engine.alert_kinds import KINDS
from ssm_stream.evaluate.pilot.baselines import Split
from ssm_stream.evaluate.pilot.detectors import Found
from ssm_stream.evaluate.pilot.inputs import Costs
from ssm_stream.evaluate.pilot.run import Alarm, Floats, Tape
from ssm_stream.evaluate.pilot.score import (
    SUMS,
    WEEK_HOURS,
    Blocks,
    Bootstrap,
    Call,
    Judged,
    Tally,
    always,
    at_random,
    event_sums,
    median_delay,
    rate,
    share,
    tally,
)

FALSE, REPEATS, FOUND, WARNED, DELAY = range(len(SUMS))
RIVALS = ("never", "three_sigma", "sigma", "ewma", "adwin")
"""Ways to alarm that one might choose instead; the verdict compares with the cheapest of them."""


@dataclass
class Ground:
    """What all figures of alarms stand on. events (B, 2): true events that start in a block, and their hours"""

    tape: Tape
    parts: Split
    what: Judged
    blocks: Blocks
    of: Bootstrap
    costs: Costs
    seed: int

    @property
    def weeks(self) -> Floats:
        """(B,) entity-weeks."""
        return self.blocks.hours / WEEK_HOURS

    @property
    def calendar_weeks(self) -> float:
        """Weeks that an entity was judged for, in the mean."""
        entities = len(np.unique(self.blocks.entity))
        return float(self.weeks.sum()) / entities if entities else 0.0


def calls_of(ground: Ground, alarms: list[Alarm]) -> tuple[list[Call], list[int]]:
    """The alarms that are judged: those of entities past their first part. Also their places."""
    first = ground.parts.first
    calls, places = [], []
    for i, alarm in enumerate(alarms):
        entities = tuple(e for e in alarm.entities if alarm.row >= first[e])
        if entities:
            calls.append(Call(alarm.ts, entities))
            places.append(i)
    return calls, places


def tallies(ground: Ground, alarms: list[Alarm], found: dict[str, Found]) -> dict[str, Tally]:
    """Every way to alarm against the labels; the product's own first, then its kinds by themselves."""
    tape, parts, what, blocks = ground.tape, ground.parts, ground.what, ground.blocks
    calls, places = calls_of(ground, alarms)
    out = {"product": tally(calls, what, blocks)}
    for kind in KINDS:
        mine = [call for call, i in zip(calls, places, strict=True) if alarms[i].kind == kind]
        out[f"product_{kind}"] = tally(mine, what, blocks)
    out["never"] = tally([], what, blocks)
    out["always"] = always(tape, parts, what, blocks)
    out["random"] = at_random(tape, parts, what, blocks, len(calls), ground.seed)
    for name, each in found.items():
        rows = each.rows.tolist()
        out[name] = tally([Call(int(tape.ts[r]), (int(tape.entity[r]),)) for r in rows], what, blocks)
    return out


def alarm_costs(ground: Ground, result: Tally, events: Floats) -> Floats:
    """(B,): false alarms and hours unnoticed, at their cost."""
    unnoticed = events[:, 1] - result.sums[:, WARNED]
    return ground.costs.false_alarm * result.sums[:, FALSE] + ground.costs.missed_hour * unnoticed


def detection(ground: Ground, results: dict[str, Tally], found: dict[str, Found]) -> dict[str, Any]:
    """A row a way to alarm, and what was judged."""
    events = event_sums(ground.what, ground.blocks)
    rows = {name: _method(ground, result, events, found.get(name)) for name, result in results.items()}
    return {
        "events": len(ground.what.events),
        "event_hours": float(events[:, 1].sum()),
        "begun_before": len(ground.what.ignored),
        "outside": ground.what.outside,
        "methods": rows,
        "missed": [
            {"entity": event.entity, "start": event.start, "end": event.end, "kind": event.kind}
            for (_, event), at in zip(ground.what.events, results["product"].first, strict=True)
            if at is None
        ],
    }


def _method(ground: Ground, result: Tally, events: Floats, detector: Found | None) -> dict[str, Any]:
    of, sums = ground.of, result.sums
    found, false = float(sums[:, FOUND].sum()), float(sums[:, FALSE].sum())
    cost = alarm_costs(ground, result, events)
    threshold = None if detector is None or not math.isfinite(detector.threshold) else float(detector.threshold)
    return {
        "alarms": result.alarms,
        "false": false,
        "repeats": float(sums[:, REPEATS].sum()),
        "found": found,
        "recall": share(of, sums[:, FOUND], events[:, 0]),
        "precision": share(of, sums[:, FOUND], sums[:, FOUND] + sums[:, FALSE]),
        "false_rate": rate(of, sums[:, FALSE], ground.weeks),
        "warned_hours": of.total(sums[:, WARNED]),
        "delay_hours": of.ratio(sums[:, DELAY], sums[:, FOUND]),
        "median_delay_hours": median_delay(result, ground.what),
        "threshold": threshold,
        "cost": of.total(cost),
    }


def kpis(ground: Ground, results: dict[str, Tally], nights: int) -> dict[str, Any]:
    """The block of figures at the top of the report. nights: retrainings that the batch model needed"""
    costs, of = ground.costs, ground.of
    labelled = bool(ground.what.events)
    own, today = results["product"], results[costs.alarms_today]
    events = event_sums(ground.what, ground.blocks)
    retrained = costs.retraining * nights if costs.retrained_today == "nightly" else 0.0
    # The blocks share the nights by their length: only alarms make the interval wide.
    hours = ground.blocks.hours
    nightly = retrained * hours / hours.sum() if len(hours) and hours.sum() else np.zeros(len(hours))
    work = nightly + costs.false_alarm * (today.sums[:, FALSE] - own.sums[:, FALSE])
    known = work if labelled else nightly - costs.false_alarm * own.sums[:, FALSE]
    out: dict[str, Any] = {
        "entity_weeks": float(ground.weeks.sum()),
        "weeks": ground.calendar_weeks,
        "false_alarms_a_week": rate(of, own.sums[:, FALSE], ground.weeks),
        "alarms": own.alarms,
        "engineer_hours": of.total(known / costs.engineer_hour),
        "saved_retraining": retrained,
        "retrainings": nights if costs.retrained_today == "nightly" else 0,
    }
    if not labelled:
        return out | dict.fromkeys(("missed", "missed_share", "warned_hours", "saved_alarms", "saved"))
    saved = alarm_costs(ground, today, events) - alarm_costs(ground, own, events)
    never_seen = share(of, events[:, 0] - own.sums[:, FOUND], events[:, 0])
    chance = alarm_costs(ground, results["random"], events) - alarm_costs(ground, own, events)
    rivals = {name: _total(alarm_costs(ground, results[name], events)) for name in RIVALS if name in results}
    rival = min(rivals, key=lambda name: rivals[name])
    apart = alarm_costs(ground, results[rival], events) - alarm_costs(ground, own, events)
    extra = own.total("false") - today.total("false")
    more = own.total("warned") - today.total("warned")
    return out | {
        "missed": {k: None if v is None else v * len(ground.what.events) for k, v in never_seen.items()},
        "missed_share": never_seen,
        "warned_hours": of.total(own.sums[:, WARNED]),
        "saved_alarms": of.total(saved),
        "saved": of.total(saved + nightly),
        "rival": rival,
        "saved_against_rival": of.total(apart),
        "saved_against_random": of.total(chance),
        "break_even_hour": extra * costs.false_alarm / more if more > 0 and extra > 0 else None,
    }


def _total(column: Floats) -> float:
    return float(column.sum())


def operating_point(
    ground: Ground, factor: float, budgets: tuple[str, str], alarms: list[Alarm], results: Tally | None = None
) -> tuple[dict[str, Any], Floats]:
    """A position of the slider, and draws (DRAWS, 2) of its false alarms and hours of warning."""
    calls, places = calls_of(ground, alarms)
    result = results or tally(calls, ground.what, ground.blocks)
    kinds = [alarms[i].kind for i in places]
    weeks = float(ground.weeks.sum())
    drawn = (ground.of.weights @ result.sums)[:, [FALSE, WARNED]]
    return {
        "factor": factor,
        "budget_anomaly": budgets[0],
        "budget_drift": budgets[1],
        "alarms": result.alarms,
        "anomalies": kinds.count("anomaly"),
        "drifts": kinds.count("drift"),
        "alarms_a_week": result.alarms / weeks if weeks else None,
        "false": result.total("false"),
        "false_a_week": result.total("false") / weeks if weeks else None,
        "found": result.total("found"),
        "warned_hours": result.total("warned"),
    }, drawn


def slider_ground(ground: Ground, results: dict[str, Tally]) -> tuple[dict[str, float], Floats]:
    """What the sliders need of today's way, and its draws (DRAWS, 2)."""
    today = results[ground.costs.alarms_today]
    drawn = (ground.of.weights @ today.sums)[:, [FALSE, WARNED]]
    return {"false": today.total("false"), "warned_hours": today.total("warned")}, drawn
