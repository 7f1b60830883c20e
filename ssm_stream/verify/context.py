"""Part (b) of `verify`: does the model learn in context on this recording?"""

from __future__ import annotations

from typing import Any

import numpy as np

from ssm_stream.evaluate.report.numbers import number
from ssm_stream.evaluate.report.section import Cell, Chart, Check, Section, Series, Table, at_most
from ssm_stream.verify.kernel import EDGES, bin_name
from ssm_stream.verify.record import Recorded
from ssm_stream.verify.reference import Array
from ssm_stream.verify.replay import FROZEN_SHARE, Replay

NAMES = ("production", "w0", "persistence")
SETTLED = 100
"""Events seen after which the model must not be worse than its own start."""


def persistence(run: Replay) -> Array:
    """(n,) the life's last target before each event; NaN where it has no earlier one."""
    order = np.argsort(run.lives, kind="stable")
    lives, y = run.lives[order], run.y[order]
    at = np.where(np.isnan(y), -1, np.arange(len(y)))
    before = np.r_[-1, np.maximum.accumulate(at)[:-1]]
    known = (before >= 0) & (lives[before] == lives)
    last = np.full(len(y), np.nan)
    last[order] = np.where(known, y[before], np.nan)
    return last


def context_section(run: Replay, seen: Recorded) -> tuple[Section, Any]:
    """Errors against events seen: production, W0, persistence, frozen model; and the figures for the JSON."""
    judged = ~np.isnan(run.y) & (run.seen > 0)
    errors = {
        "production": np.abs(run.y - seen.yhat),
        "w0": np.abs(run.y - seen.w0),
        "persistence": np.abs(run.y - persistence(run)),
        "frozen": np.abs(run.y - seen.frozen),
    }
    after = judged & ~np.isnan(seen.frozen)
    bins = np.digitize(run.seen, EDGES) - 1
    table: list[dict[str, Any]] = []
    for b in range(len(EDGES)):
        here = judged & (bins == b)
        if not here.any():
            continue
        both = here & after
        row: dict[str, Any] = {"events_seen": bin_name(b), "from": EDGES[b], "events": int(here.sum())}
        row |= {name: float(errors[name][here].mean()) for name in NAMES}
        row["frozen_events"] = int(both.sum())
        row["production_beside_frozen"] = float(errors["production"][both].mean()) if both.any() else None
        row["frozen"] = float(errors["frozen"][both].mean()) if both.any() else None
        table.append(row)
    settled = judged & (run.seen > SETTLED)
    checks = []
    if settled.any():
        ratio = _ratio(errors["production"][settled], errors["w0"][settled])
        checks = [at_most(f"verify in context: error over that of W0, after {SETTLED} events", ratio, 1.0)]
    frozen = _ratio(errors["production"][after], errors["frozen"][after]) if after.any() else None
    figures = {"bins": table, "error_over_frozen": frozen}
    section = Section(
        "Does it learn in context?",
        text=_text(run, table, checks, frozen),
        checks=checks,
        tables=_tables(table),
        charts=_charts(run, table),
    )
    return section, figures


def _ratio(a: Array, b: Array) -> float:
    """Σa/Σb; 1 where both are 0."""
    return float(a.sum() / b.sum()) if b.sum() > 0 else (1.0 if a.sum() == 0 else float("inf"))


def _tables(bins: list[dict[str, Any]]) -> list[Table]:
    rows: list[list[Cell]] = [[r["events_seen"], r["events"], *(r[name] for name in NAMES)] for r in bins]
    learning = Table(
        "Mean absolute error, in the target's unit, by labelled events that the entity has seen",
        ["seen", "events", "production", "W0", "persistence"],
        rows,
    )
    later: list[list[Cell]] = [
        [r["events_seen"], r["frozen_events"], r["production_beside_frozen"], r["frozen"]]
        for r in bins
        if r["frozen_events"]
    ]
    columns = ["seen", "events", "production, still learning", "frozen"]
    frozen = Table("The same, on the events after the entity's model was frozen", columns, later)
    return [learning, frozen] if later else [learning]


def _charts(run: Replay, bins: list[dict[str, Any]]) -> list[Chart]:
    """Production, W0 and persistence over all events; production and the frozen model after freezing."""
    x = [float(r["from"]) for r in bins]
    series = [Series("production", x, [r["production"] for r in bins])]
    if run.params.lags:
        series.append(Series("W0 = persistence", x, [r["w0"] for r in bins]))
    else:
        series.append(Series("W0: the running mean", x, [r["w0"] for r in bins]))
        series.append(Series("persistence", x, [r["persistence"] for r in bins]))
    charts = [Chart("Error against events seen", "events seen", "mean absolute error", series, log_x=True)]
    later = [r for r in bins if r["frozen_events"]]
    if len(later) > 1:
        x = [float(r["from"]) for r in later]
        pair = [
            Series("production", x, [r["production_beside_frozen"] for r in later]),
            Series("frozen", x, [r["frozen"] for r in later]),
        ]
        charts.append(Chart("After freezing", "events seen", "mean absolute error", pair, log_x=True))
    return charts


def _text(run: Replay, bins: list[dict[str, Any]], checks: list[Check], frozen: float | None) -> list[str]:
    base = (
        "the last target, so W0 and persistence are one" if run.params.lags
        else "the running mean of the entity's targets"
    )  # fmt: skip
    text = [
        f"No parameter was trained before the first event. W0 is what the model answers before any gradient: {base}. "
        f"The frozen model is the production model after {FROZEN_SHARE:.0%} of the labelled events of those that learn "
        "together: all heads' weights and the gate's, their mean over the second half of that time. It goes on "
        "with live inputs, base, means and deviations, but learns nothing more.",
    ]
    if checks:
        ratio = checks[0].value
        verb = "it learns in context" if ratio < 1.0 else "here its gradients gain nothing over its start"
        text.append(f"After {SETTLED} events the error is {number(ratio)} of that of W0: {verb}.")
    else:
        text.append(f"No entity has seen more than {SETTLED} events, so learning is not judged.")
    if frozen is not None:
        tail = (
            "so going on learning pays on this recording."
            if frozen < 0.98
            else "so what was learned early holds for the rest of this recording."
            if frozen <= 1.02
            else "so going on learning costs on this recording: what was learned early was better."
        )
        text.append(f"After freezing, production has {number(frozen)} of the frozen model's error, {tail}")
    if len(bins) > 1:
        text.append("Bins hold different times of the recording, so read across a row rather than down a column.")
    return text
