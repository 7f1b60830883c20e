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
from ssm_stream.verify.words import Words

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


def context_section(run: Replay, seen: Recorded, words: Words) -> tuple[Section, Any]:
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
        words("context.title"),
        text=_text(run, table, checks, frozen, words),
        checks=checks,
        tables=_tables(table, words),
        charts=_charts(run, table, words),
    )
    return section, figures


def _ratio(a: Array, b: Array) -> float:
    """Σa/Σb; 1 where both are 0."""
    return float(a.sum() / b.sum()) if b.sum() > 0 else (1.0 if a.sum() == 0 else float("inf"))


def _tables(bins: list[dict[str, Any]], words: Words) -> list[Table]:
    rows: list[list[Cell]] = [[r["events_seen"], r["events"], *(r[name] for name in NAMES)] for r in bins]
    seen, events = words("context.seen"), words("context.events")
    columns = [seen, events, words("context.production"), "W0", words("context.persistence")]
    learning = Table(words("context.table"), columns, rows)
    later: list[list[Cell]] = [
        [r["events_seen"], r["frozen_events"], r["production_beside_frozen"], r["frozen"]]
        for r in bins
        if r["frozen_events"]
    ]
    columns = [seen, events, words("context.learning"), words("context.frozen")]
    return [learning, Table(words("context.frozen_table"), columns, later)] if later else [learning]


def _charts(run: Replay, bins: list[dict[str, Any]], words: Words) -> list[Chart]:
    """Production, W0 and persistence over all events; production and the frozen model after freezing."""
    x = [float(r["from"]) for r in bins]
    production, axes = words("context.production"), (words("kernel.x"), words("context.y"))
    series = [Series(production, x, [r["production"] for r in bins])]
    if run.params.lags:
        series.append(Series(words("context.w0_last"), x, [r["w0"] for r in bins]))
    else:
        series.append(Series(words("context.w0_mean"), x, [r["w0"] for r in bins]))
        series.append(Series(words("context.persistence"), x, [r["persistence"] for r in bins]))
    charts = [Chart(words("context.chart"), *axes, series, log_x=True)]
    later = [r for r in bins if r["frozen_events"]]
    if len(later) > 1:
        x = [float(r["from"]) for r in later]
        pair = [
            Series(production, x, [r["production_beside_frozen"] for r in later]),
            Series(words("context.frozen"), x, [r["frozen"] for r in later]),
        ]
        charts.append(Chart(words("context.frozen_chart"), *axes, pair, log_x=True))
    return charts


def _text(
    run: Replay, bins: list[dict[str, Any]], checks: list[Check], frozen: float | None, words: Words
) -> list[str]:
    base = words("context.base_last" if run.params.lags else "context.base_mean")
    text = [words("context.text.start", base=base, share=f"{FROZEN_SHARE:.0%}")]
    if checks:
        ratio = checks[0].value
        learns = words("context.learns" if ratio < 1.0 else "context.learns_not")
        text.append(words("context.text.ratio", settled=SETTLED, ratio=number(ratio), learns=learns))
    else:
        text.append(words("context.text.unjudged", settled=SETTLED))
    if frozen is not None:
        pays = "context.pays" if frozen < 0.98 else "context.holds" if frozen <= 1.02 else "context.harms"
        text.append(words("context.text.frozen", ratio=number(frozen), so=words(pays)))
    if len(bins) > 1:
        text.append(words("context.text.bins"))
    return text
