"""Figures of alarms: events found and missed, false alarms, what that costs; for the product and for other methods."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from ssm_stream.engine.alert_kinds import KINDS
from ssm_stream.evaluate.alarm_matching import Alarm, Outcome, signals_of
from ssm_stream.evaluate.bootstrap import Bootstrap
from ssm_stream.evaluate.engine_run import EngineRun, Floats
from ssm_stream.evaluate.pilot.alarm_tally import (
    DELAY,
    FALSE,
    FOUND,
    HOUR,
    REPEATS,
    RIGHT,
    WARNED,
    Blocks,
    JudgedEvents,
    Tally,
    alarms_at,
    event_sums,
    median_delay,
    tally,
    tally_random,
)
from ssm_stream.evaluate.pilot.costs import Alarms, Costs
from ssm_stream.evaluate.pilot.detectors import Detected
from ssm_stream.evaluate.pilot.split import Split

RIVALS: tuple[str, ...] = get_args(Alarms)
"""Other ways to alarm; the verdict compares with the cheapest of them."""
LABELLED = (
    "false_alarms_a_week", "engineer_hours", "saved_retraining", "retrainings", "missed", "missed_share",
    "warned_hours", "running", "saved_alarms", "saved", "rival", "saved_against_rival", "saved_against_random",
    "break_even_hour",
)  # fmt: skip
"""Figures that need true events."""
MAX_ALERTS = 2000
"""Alerts that are listed; all are counted."""


@dataclass
class AlarmContext:
    """What all figures of alarms are computed from."""

    run: EngineRun
    split: Split
    judged: JudgedEvents
    blocks: Blocks
    bootstrap: Bootstrap
    costs: Costs
    seed: int

    @property
    def calendar_weeks(self) -> float:
        """Weeks that an entity was judged for, in the mean."""
        entities = len(np.unique(self.blocks.entity))
        return float(self.blocks.weeks.sum()) / entities if entities else 0.0


def judged_alarms(context: AlarmContext, alarms: list[Alarm]) -> tuple[list[Alarm], list[int]]:
    """Return the alarms of entities past their first part, for these entities, and their places."""
    first = context.split.first
    judged, places = [], []
    for i, alarm in enumerate(alarms):
        entities = tuple(e for e in alarm.entities if alarm.row >= first[e])
        if entities:
            judged.append(alarm._replace(entities=entities))
            places.append(i)
    return judged, places


def tally_methods(context: AlarmContext, alarms: list[Alarm], detected: dict[str, Detected]) -> dict[str, Tally]:
    """Return the tally of each way to alarm. alarms: the judged ones of the product"""
    run, judged, blocks = context.run, context.judged, context.blocks
    rows = np.flatnonzero(context.split.judged)
    out = {"product": tally(alarms, judged, blocks)}
    for kind in KINDS:
        out[f"product_{kind}"] = tally([alarm for alarm in alarms if alarm.kind == kind], judged, blocks)
    if by_rules := [alarm for alarm in alarms if alarm.kind not in KINDS]:
        out["product_rules"] = tally(by_rules, judged, blocks)
    out["never"] = tally([], judged, blocks)
    out["always"] = tally(alarms_at(run, rows), judged, blocks)
    out["random"] = tally_random(run, rows, judged, blocks, len(alarms), context.seed)
    return out | {name: tally(alarms_at(run, each.rows), judged, blocks) for name, each in detected.items()}


def cost(context: AlarmContext, result: Tally, events: Floats) -> Floats:
    """Return (B,) the cost of false alarms and of hours without an alarm. events: see `event_sums`"""
    unnoticed = events[:, 1] - result.sums[:, WARNED]
    return context.costs.false_alarm * result.sums[:, FALSE] + context.costs.missed_hour * unnoticed


def detection(
    context: AlarmContext, results: dict[str, Tally], detected: dict[str, Detected], alarms: list[Alarm]
) -> dict[str, Any]:
    """Return what was judged, and the figures of each way to alarm. alarms: the judged ones of the product"""
    events = event_sums(context.judged, context.blocks)
    # Where no event is judged, no alarm is right or false.
    shown = results if context.judged.events else {}
    rows = {name: _method(context, result, events, detected.get(name)) for name, result in shown.items()}
    return {
        "events": len(context.judged.events),
        "event_hours": float(events[:, 1].sum()),
        "rows": sum(event.rows for _, event in context.judged.events),
        "of_signals": sum(bool(event.signal) for _, event in context.judged.events),
        "begun_before": len(context.judged.ignored),
        "outside": context.judged.outside,
        "methods": rows,
        "found": _found(context.judged, results["product"], alarms),
        "missed": [
            event._asdict()
            for (_, event), at in zip(context.judged.events, results["product"].first, strict=True)
            if at is None
        ],
    }


def _found(judged: JudgedEvents, result: Tally, alarms: list[Alarm]) -> list[dict[str, Any]]:
    """Return the events that were found, each with the alarm that found it, hours of delay and those left to its end.

    A slow fault that is found near its end counts in the recall as one that is found at once.
    """
    out = []
    for (e, event), at in zip(judged.events, result.first, strict=True):
        if at is None:
            continue
        by = next(alarm for alarm in alarms if e in alarm.entities and alarm.meets(event) == at)
        out.append(
            {
                **event._asdict(), "at": at, "delay_hours": (at - event.start) / HOUR,
                "warned_hours": (event.end - at) / HOUR, "alarm": by.message.get("episode"), "alarm_kind": by.kind,
                "signals": sorted(signals_of(by.message)), "summary": by.message.get("summary"),
            }
        )  # fmt: skip
    return out


def _method(context: AlarmContext, result: Tally, events: Floats, detector: Detected | None) -> dict[str, Any]:
    bootstrap, sums = context.bootstrap, result.sums
    known = detector is not None and math.isfinite(detector.threshold)
    return {
        "alarms": result.alarms,
        "false": result.total("false"),
        "repeats": result.total("repeats"),
        "found": result.total("found"),
        "recall": bootstrap.share(sums[:, FOUND], events[:, 0]),
        "precision": bootstrap.share(sums[:, FOUND], sums[:, FOUND] + sums[:, FALSE]),
        "false_rate": bootstrap.rate(sums[:, FALSE], context.blocks.weeks),
        "warned_hours": bootstrap.total(sums[:, WARNED]),
        "delay_hours": bootstrap.ratio(sums[:, DELAY], sums[:, FOUND]),
        "median_delay_hours": median_delay(result, context.judged),
        "threshold": float(detector.threshold) if detector is not None and known else None,
        "cost": bootstrap.total(cost(context, result, events)),
    }


def nightly_costs(context: AlarmContext, nights: int) -> Floats:
    """Return (B,) the cost of today's retrainings: the blocks share the nights by their length.

    So only alarms make an interval wide.
    """
    costs, hours = context.costs, context.blocks.hours
    total = costs.retraining * nights if costs.retrained_today == "nightly" else 0.0
    return total * hours / hours.sum() if len(hours) and hours.sum() else np.zeros(len(hours))


def running_costs(context: AlarmContext) -> Floats:
    """Return (B,) what the product costs while it runs, shared by the length of the blocks."""
    hours, total = context.blocks.hours, context.costs.running_week * context.calendar_weeks
    return total * hours / hours.sum() if len(hours) and hours.sum() else np.zeros(len(hours))


def kpis(context: AlarmContext, results: dict[str, Tally], nights: int) -> dict[str, Any]:
    """Return figures of the alarms; those that need true events are None without.

    nights: retrainings of a batch model
    """
    costs, bootstrap = context.costs, context.bootstrap
    own, today = results["product"], results[costs.alarms_today]
    raised = own.sums[:, [FALSE, REPEATS, RIGHT]].sum(axis=1)
    out: dict[str, Any] = {
        "entity_weeks": float(context.blocks.weeks.sum()),
        "weeks": context.calendar_weeks,
        "alarms": own.alarms,
        "alarms_a_week": bootstrap.rate(raised, context.blocks.weeks),
    }
    if not context.judged.events:
        return out | dict.fromkeys(LABELLED)
    events = event_sums(context.judged, context.blocks)
    nightly, running = nightly_costs(context, nights), running_costs(context)
    work = nightly + costs.false_alarm * (today.sums[:, FALSE] - own.sums[:, FALSE])
    saved = cost(context, today, events) - cost(context, own, events)
    missed = bootstrap.share(events[:, 0] - own.sums[:, FOUND], events[:, 0])
    chance = cost(context, results["random"], events) - cost(context, own, events)
    rivals = {name: float(cost(context, results[name], events).sum()) for name in RIVALS if name in results}
    rival = min(rivals, key=lambda name: rivals[name])
    apart = cost(context, results[rival], events) - cost(context, own, events)
    extra = own.total("false") - today.total("false")
    more = own.total("warned") - today.total("warned")
    n, bounds = len(context.judged.events), {name: missed[name] for name in ("value", "low", "high")}
    figures: dict[str, Any] = {
        "false_alarms_a_week": bootstrap.rate(own.sums[:, FALSE], context.blocks.weeks),
        "engineer_hours": bootstrap.total(work / costs.engineer_hour),
        "saved_retraining": float(nightly.sum()),
        "retrainings": nights if costs.retrained_today == "nightly" else 0,
        "missed": {name: None if value is None else value * n for name, value in bounds.items()},
        "missed_share": missed,
        "warned_hours": bootstrap.total(own.sums[:, WARNED]),
        "running": float(running.sum()),
        "saved_alarms": bootstrap.total(saved),
        "saved": bootstrap.total(saved + nightly - running),
        "rival": rival,
        "saved_against_rival": bootstrap.total(apart),
        "saved_against_random": bootstrap.total(chance),
        "break_even_hour": extra * costs.false_alarm / more if more > 0 and extra > 0 else None,
    }
    assert figures.keys() == set(LABELLED)
    return out | figures


def operating_point(
    context: AlarmContext, factor: float, budgets: tuple[str, str], alarms: list[Alarm]
) -> tuple[dict[str, Any], Floats]:
    """Return a position of the slider, and its `slider_draws`. alarms: all that the engine raised at these budgets"""
    judged, _ = judged_alarms(context, alarms)
    result = tally(judged, context.judged, context.blocks)
    kinds = [alarm.kind for alarm in judged]
    weeks = float(context.blocks.weeks.sum())
    labelled = bool(context.judged.events)
    false = result.total("false")
    return {
        "factor": factor,
        "budget_anomaly": budgets[0],
        "budget_drift": budgets[1],
        "alarms": result.alarms,
        "anomalies": kinds.count("anomaly"),
        "drifts": kinds.count("drift"),
        "by_rules": sum(kind not in KINDS for kind in kinds),
        "alarms_a_week": result.alarms / weeks if weeks else None,
        "false": false if labelled else None,
        "false_a_week": false / weeks if weeks and labelled else None,
        "found": result.total("found") if labelled else None,
        "warned_hours": result.total("warned") if labelled else None,
    }, slider_draws(context, result)


def slider_draws(context: AlarmContext, result: Tally) -> Floats:
    """Return (DRAWS, 2): false alarms and hours of warning of each draw of the bootstrap."""
    return context.bootstrap.sums(result.sums)[:, [FALSE, WARNED]]


def rows_until(split: Split, alarm: Alarm) -> int:
    """Return how many rows the entity of an alarm has until it."""
    return int(np.searchsorted(split.rows[alarm.entities[0]], alarm.row, side="right"))


def alert_list(run: EngineRun, split: Split, alarms: list[Alarm], outcomes: dict[int, Outcome]) -> list[dict[str, Any]]:
    """Return the alerts as rows. outcomes: by place among the alarms, if there are true events"""
    out = []
    for i, alarm in enumerate(alarms[:MAX_ALERTS]):
        m = alarm.message
        # An entity that is silent has no row: an event of another one tells it.
        own = alarm.kind in KINDS or not alarm.entities
        row = int(run.position[alarm.row]) + 1 if own else rows_until(split, alarm)
        out.append(
            {
                "id": m["episode"], "entity": m["entity"], "scope": m["scope"], "kind": m["kind"],
                "severity": m["severity"], "summary": m["summary"],
                "ts": alarm.ts, "row": row, "score": m["score"], "y": m["y"],
                "yhat": m["yhat"], "yhat_lower": m["yhat_lower"], "yhat_upper": m["yhat_upper"],
                "channel": m.get("channel"), "change": m.get("change"), "contributions": m.get("contributions") or [],
                "entities": [run.names[e] for e in alarm.entities] if m["scope"] == "fleet" else None,
                "recovered": alarm.end,
                "judged": bool(alarm.row >= split.first[alarm.entities[0]]) if alarm.entities else False,
                "truth": outcomes.get(i),
                **({name: m[name] for name in ("target", "targets", "column") if name in m}),
            }
        )  # fmt: skip
    return out
