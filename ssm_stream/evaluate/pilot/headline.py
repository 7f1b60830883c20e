"""The three figures at the top of the report, each as rate and amount; none where nobody has judged the alarms."""

from __future__ import annotations

from typing import Any

from ssm_stream.evaluate.bootstrap import Estimate
from ssm_stream.evaluate.engine_run import Floats
from ssm_stream.evaluate.pilot.alarm_figures import AlarmContext, cost, nightly_costs, running_costs
from ssm_stream.evaluate.pilot.alarm_tally import FALSE, REPEATS, RIGHT, WARNED, Tally, event_sums
from ssm_stream.evaluate.pilot.feedback import JudgedAlarms
from ssm_stream.evaluate.pilot.verdict import MIN_TRUE

HEADLINES = ("productivity", "false_detection", "cost_saved")
WEEKS_A_YEAR = 365.25 / 7
MIN_WEEKS = 1.0
"""Weeks judged from which amounts follow: of a year in the mean of the entities, of a week in all."""
NO_FIGURE: Estimate = {"value": None, "low": None, "high": None}


def headline(
    context: AlarmContext,
    results: dict[str, Tally],
    nights: int,
    *,
    labelled: bool,
    verdicts: JudgedAlarms | None = None,
) -> dict[str, dict[str, Any]]:
    """Return productivity, false detection and operating cost saved.

    Each has `rate` and `amount` with their intervals, `recording` (the amount in the judged time), and `missing` and
    `amount_missing`: why a figure is None, by the key of its text.

    Args:
        results: by way to alarm
        nights: retrainings of a batch model
        labelled: true events were given, whether or not any of them is judged
        verdicts: of operators, where there are no true events
    """
    blocks, bootstrap, costs = context.blocks, context.bootstrap, context.costs
    own, today = results["product"], results[costs.alarms_today]
    judged, weeks = len(context.judged.events), context.calendar_weeks
    if not judged:
        why = "no_events" if labelled else "no_hours" if verdicts else "unlabelled"
        figures = {name: _figure(missing=why) for name in HEADLINES}
        if verdicts and not labelled:
            counts = verdicts.counts
            figures["false_detection"] = _false_detection(context, counts[:, 0], counts.sum(axis=1))
        return figures
    out = {
        "false_detection": _false_detection(
            context, own.sums[:, FALSE], own.sums[:, [FALSE, REPEATS, RIGHT]].sum(axis=1)
        )
    }
    if judged < MIN_TRUE:
        return {name: out.get(name) or _figure(missing="few_events") for name in HEADLINES}
    year = WEEKS_A_YEAR / weeks if weeks >= MIN_WEEKS else None
    events = event_sums(context.judged, blocks)
    gained = own.sums[:, WARNED] - today.sums[:, WARNED]
    good_today = blocks.hours - events[:, 1] + today.sums[:, WARNED]
    nightly, spent = nightly_costs(context, nights), cost(context, today, events)
    saved = spent - cost(context, own, events) + nightly - running_costs(context)
    for name, amount, whole in (("productivity", gained, good_today), ("cost_saved", saved, spent + nightly)):
        total = bootstrap.total(amount)
        out[name] = _figure(
            bootstrap.ratio(amount, whole),
            _times(total, year),
            total,
            missing="" if whole.sum() > 0.0 else "no_cost",
            amount_missing="" if year else "short",
        )
    return {name: out[name] for name in HEADLINES}


def _false_detection(context: AlarmContext, false: Floats, judged: Floats) -> dict[str, Any]:
    """Return the false detection. false, judged: (B,) alarms by block"""
    blocks, bootstrap = context.blocks, context.bootstrap
    enough = float(blocks.weeks.sum()) >= MIN_WEEKS
    return _figure(
        bootstrap.share(false, judged),
        _times(bootstrap.rate(false, blocks.weeks), _entities(context) if enough else None),
        bootstrap.total(false),
        missing="" if judged.sum() else "no_alarms",
        amount_missing="" if enough else "short_week",
    )


def _figure(
    rate: Estimate = NO_FIGURE,
    amount: Estimate = NO_FIGURE,
    recording: Estimate = NO_FIGURE,
    missing: str = "",
    amount_missing: str = "",
) -> dict[str, Any]:
    return {
        "rate": rate, "amount": amount, "recording": recording, "missing": missing or None,
        "amount_missing": amount_missing or None,
    }  # fmt: skip


def _times(figure: Estimate, factor: float | None) -> Estimate:
    if factor is None:
        return NO_FIGURE
    bounds = (figure["value"], figure["low"], figure["high"])
    value, low, high = (None if each is None else each * factor for each in bounds)
    return {"value": value, "low": low, "high": high}


def _entities(context: AlarmContext) -> float:
    """Return the number of judged entities."""
    return float(len(set(context.blocks.entity.tolist())))
