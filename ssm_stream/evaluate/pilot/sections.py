"""The chapters of the pilot report: alarms, predictions, adaptation, coverage, data quality, entities."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from ssm_stream.evaluate.pilot.charts import Line, Mark, bar, chart, envelope, times
from ssm_stream.evaluate.pilot.figures import AFTER, BEFORE, BIN
from ssm_stream.evaluate.pilot.format import MISSING, Format, Html, figure, legend, table
from ssm_stream.evaluate.pilot.score import HOUR

if TYPE_CHECKING:
    from ssm_stream.evaluate.pilot.pilot import Pilot
    from ssm_stream.evaluate.pilot.run import Alarm, Floats

WAYS = (
    "product",
    "product_anomaly",
    "product_drift",
    "never",
    "always",
    "random",
    "three_sigma",
    "sigma",
    "ewma",
    "adwin",
)
PREDICTORS = ("product", "persistence", "seasonal", "mean", "frozen", "least_squares")
ALERT_ROWS, ALERTS_SEEN, ALERT_CHARTS, CHARTS_EACH = 100, 20, 12, 2
AROUND = (120, 80)
"""Labelled events of the entity before and after an alert that its chart shows."""
STRIPS, DRIFT_CHARTS, DRIFT_ROWS, ENTITY_ROWS, FINDINGS = 12, 6, 50, 50, 12


def section(anchor: str, title: str, body: str) -> str:
    """A chapter."""
    return (
        f'<section id="{anchor}" aria-labelledby="h-{anchor}"><h2 id="h-{anchor}">{escape(title)}</h2>{body}</section>'
    )


def detection(f: Format) -> str:
    """The ways to alarm side by side."""
    seen = f.report["detection"]
    if seen is None or not seen["events"]:
        counts = f.report["alarm_counts"]
        rows: list[list[object]] = [
            [f.way(name), Html(f.figure(f"alarm_counts.{name}"))] for name in WAYS if name in counts
        ]
        body = f"<p>{f.text('detection.none')}</p>" + table(
            f, f.words("detection"), ["way", "alarms"], rows, own=[0], named=False
        )
    else:
        body = f"<p>{f.text('detection.text')}</p>" + _ways(f, seen)
    if seen is not None and (seen["begun_before"] or seen["outside"]):
        said = f.text("detection.left_out", before=seen["begun_before"], outside=seen["outside"])
        body += f'<p class="dim">{said}</p>'
    if seen is not None and seen["missed"]:
        missed = [[m["entity"], f.time(m["start"]), f.time(m["end"]), m["kind"]] for m in seen["missed"][:ENTITY_ROWS]]
        body += table(f, f.words("detection.missed"), ["entity", "start", "end", "kind"], missed, left=[1, 2, 3])
    return section("detection", f.words("detection"), body)


def _ways(f: Format, seen: dict[str, Any]) -> str:
    rows: list[list[object]] = []
    for name in (name for name in WAYS if name in seen["methods"]):
        at = f"detection.methods.{name}"
        rows.append(
            [
                f.way(name),
                Html(f.figure(f"{at}.alarms")),
                Html(f.figure(f"{at}.false", "brief")),
                Html(f.cell(f"{at}.false_rate", "brief")),
                Html(f.figure(f"{at}.found", "brief")),
                Html(f.cell(f"{at}.recall", "percent")),
                Html(f.cell(f"{at}.precision", "percent")),
                Html(f.figure(f"{at}.median_delay_hours", "duration")),
                Html(f.cell(f"{at}.warned_hours", "brief")),
                Html(f.cell(f"{at}.cost", "money")),
            ]
        )
    columns = ["way", "alarms", "false", "false_rate", "found", "recall", "precision", "delay", "warned", "cost"]
    return table(f, f.words("detection"), columns, rows, own=[0], named=False)


def alerts(f: Format, p: Pilot) -> str:
    """The list, and a chart of each of the gravest."""
    told = f.report["alerts"]
    if not told:
        return section("alerts", f.words("alerts"), f"<p>{f.text('alerts.none')}</p>")
    ranked = sorted(range(len(told)), key=lambda i: (not told[i]["judged"], -told[i]["score"]))
    charts = _some_of_each(p, ranked)
    listed = sorted(ranked[:ALERT_ROWS])
    said = f.text("alerts.text", shown=f.number(len(listed)), all=f.number(len(p.alarms)), charts=len(charts))
    keys = [("value", "legend.value"), ("hat", "legend.predicted"), ("band", "legend.interval")]
    keys += [("anomaly", "legend.anomaly"), ("drift", "legend.drift")]
    if p.labels:
        keys.append(("event", "legend.event"))
    figures = "".join(_alert_figure(f, p, told[i], p.alarms[i]) for i in sorted(charts))
    rows: list[list[object]] = []
    for i in listed:
        m = told[i]
        rows.append(
            [
                _whose(f, m), f.time(m["ts"]), f.words(f"kind.{m['kind']}"),
                Html(f.figure(f"alerts.{i}.score", "brief")), f.brief(m["y"]), f.brief(m["yhat"]), _why(f, m),
                _truth(f, m),
            ]
        )  # fmt: skip
    columns = ["entity", "time", "kind", "score", "value", "predicted", "why", "truth"]
    listing = table(f, f.words("alerts"), columns, rows[:ALERTS_SEEN], left=[1, 2, 6, 7], named=False)
    if rows[ALERTS_SEEN:]:
        rest = table(f, f.words("alerts"), columns, rows[ALERTS_SEEN:], left=[1, 2, 6, 7], named=False)
        more = f.text("alerts.more", count=len(rows) - ALERTS_SEEN)
        listing += f"<details><summary>{more}</summary>{rest}</details>"
    return section(
        "alerts", f.words("alerts"), f'<p>{said}</p>{legend(f, *keys)}<div class="charts">{figures}</div>{listing}'
    )


def _some_of_each(p: Pilot, ranked: list[int]) -> list[int]:
    """The first alerts of a ranking, of each entity a few at most."""
    out, seen = list[int](), dict[int, int]()
    for i in (i for i in ranked if p.alarms[i].entities):
        e = p.alarms[i].entities[0]
        if seen.get(e, 0) < CHARTS_EACH:
            seen[e] = seen.get(e, 0) + 1
            out.append(i)
    return out[:ALERT_CHARTS]


def _whose(f: Format, m: dict[str, Any]) -> str:
    return f.words("fleet", count=len(m["entities"])) if m["scope"] == "fleet" else str(m["entity"])


def _why(f: Format, m: dict[str, Any]) -> str:
    said = (
        f.words(f"channel.{m['channel']}") if m["channel"] else f.words(f"change.{m['change']}") if m["change"] else ""
    )
    parts = [
        f"{each['feature']} {_signed(each['share'])}" for each in m["contributions"][:3] if abs(each["share"]) >= 0.01
    ]
    return f"{said}: {', '.join(parts)}" if parts else said


def _signed(share: float) -> str:
    return f"{'+' if share > 0 else '−'}{abs(share):.0%}"


def _truth(f: Format, m: dict[str, Any]) -> str:
    if not m["judged"]:
        return f.words("truth.learning")
    return f.words(f"truth.{m['truth'] or 'none'}")


def _alert_figure(f: Format, p: Pilot, m: dict[str, Any], alarm: Alarm) -> str:
    e, tape = alarm.entities[0], p.tape
    rows = p.parts.rows[e]
    at = int(np.searchsorted(rows, alarm.row))
    rows = rows[max(at - AROUND[0], 0) : at + AROUND[1]]
    x = times(tape.ts[rows])
    label = f"{_whose(f, m)}, {f.time(m['ts'])}: {f.words('kind.' + m['kind'])}"
    svg = chart(
        [Line("hat", x, tape.yhat[rows]), Line("value", x, tape.y[rows])], label,
        zone=f.report["recording"]["time_zone"], band=(x, tape.lower[rows], tape.upper[rows]),
        shaded=_shaded(p, e), marks=[Mark(float(alarm.ts), alarm.kind)],
    )  # fmt: skip
    shown = f"<b>{escape(tape.names[e])}</b> {escape(f.time(m['ts']))}, {f.text('kind.' + m['kind'])}"
    return figure(f"{shown}. {escape(_why(f, m))}", svg)


def _shaded(p: Pilot, e: int) -> list[tuple[float, float, str]]:
    name = p.tape.names[e]
    return [(float(event.start), float(event.end), "event") for event in p.labels if event.entity == name]


def predictions(f: Format) -> str:
    """Errors of the product and of simpler predictors."""
    told = f.report["errors"]
    methods = told["methods"]
    values = [m["relative"]["value"] for m in methods.values() if m["relative"]["value"] is not None]
    most = max(min(max(values, default=1.0), 2.5), 1.25)
    rows: list[list[object]] = []
    for name in (name for name in PREDICTORS if name in methods):
        at, own = f"errors.methods.{name}", name == "product"
        r = methods[name]["relative"]
        drawn = bar(r["value"], r["low"], r["high"], most, own)
        rows.append(
            [
                f.way(name), Html(drawn), Html(f.cell(f"{at}.relative", "brief")),
                MISSING if own else Html(f.cell(f"{at}.product_over_it", "brief")), Html(f.figure(f"{at}.mae")),
            ]
        )  # fmt: skip
    said = f.text(
        "errors.text", events=f.number(told["events"]), better=f.number(told["entities_better_than_persistence"]),
        entities=f.number(len(told["by_entity"])),
    )  # fmt: skip
    batch = f.text("errors.least_squares", trainings=f.number(told["trainings"]), nights=f.number(told["nights"]))
    columns = ["way", "errors.chart", "relative", "ratio", "mae"]
    body = f"<p>{said}</p>" + table(f, f.words("errors"), columns, rows, left=[1], own=[0], named=False)
    return section("errors", f.words("errors"), f'{body}<p class="dim">{batch}</p>')


def adaptation(f: Format, p: Pilot) -> str:
    """Errors around each drift that was found."""
    told = f.report["drifts"]
    if not told:
        return section("adaptation", f.words("adaptation"), f"<p>{f.text('adaptation.none')}</p>")
    looks = {"product": "own", "frozen": "frozen", "least_squares": "squares"}

    def drawn(curves: dict[str, Floats], label: str) -> str:
        x = np.array([(i + 0.5) * BIN - BEFORE for i in range((BEFORE + AFTER) // BIN)], np.float64)
        lines = [Line(looks[name], x, curves[name]) for name in reversed(looks) if name in curves]
        return chart(lines, label, level=1.0, log=True, marks=[Mark(0.0, "drift")])

    figures = [figure(f"<b>{f.text('adaptation.mean')}</b>", drawn(p.curves, f.words("adaptation.mean")))]
    ranked = sorted(range(len(told)), key=lambda i: -told[i]["score"])
    for i in sorted(ranked[:DRIFT_CHARTS]):
        name = told[i]["entity"] if told[i]["entity"] != "*" else f.words("fleet", count=told[i]["entities"])
        label = f"{name}, {f.time(told[i]['ts'])}"
        figures.append(
            figure(f"<b>{escape(name)}</b> {escape(f.time(told[i]['ts']))}", drawn(p.drift_curves[i], label))
        )
    rows: list[list[object]] = []
    for i in sorted(ranked[:DRIFT_ROWS]):
        m, at = told[i], f"drifts.{i}"
        name = m["entity"] if m["entity"] != "*" else f.words("fleet", count=m["entities"])
        absorbed = MISSING if m["absorbed_after"] is None else Html(f.figure(f"{at}.absorbed_after"))
        rows.append(
            [
                name, f.time(m["ts"]), f.words(f"change.{m['change']}") if m["change"] else MISSING, absorbed,
                Html(f.figure(f"{at}.product_peak", "brief")) if "product_peak" in m else MISSING,
                Html(f.figure(f"{at}.product_after", "brief")) if "product_after" in m else MISSING,
                Html(f.figure(f"{at}.frozen_after", "brief")) if "frozen_after" in m else MISSING,
            ]
        )  # fmt: skip
    columns = ["entity", "time", "change", "absorbed", "peak", "after", "frozen_after"]
    keys = [("own", "method.product"), ("frozen", "method.frozen"), ("squares", "method.least_squares")]
    body = f"<p>{f.text('adaptation.text', count=len(told))}</p>{legend(f, *keys)}"
    body += f'<div class="charts">{"".join(figures)}</div>'
    return section(
        "adaptation",
        f.words("adaptation"),
        body + table(f, f.words("adaptation"), columns, rows, left=[1, 2], named=False),
    )


def coverage(f: Format) -> str:
    """Do the intervals hold what they promise?"""
    told = f.report["coverage"]
    said = f.text("coverage.text", covered=f.percent(told["value"]), level=f.percent(told["level"]))
    y = np.array([np.nan if v is None else v for v in told["by_tenth"]])
    svg = chart(
        [Line("own", np.arange(1.0, 11.0), y)], f.words("coverage.chart"), level=told["level"],
        low=min(0.8, float(np.nanmin(y)) if np.isfinite(y).any() else 0.8),
    )  # fmt: skip
    entities = sorted(told["by_entity"].items(), key=lambda item: item[1]["coverage"])
    rows = [[name, f.percent(m["coverage"]), f.number(m["width"])] for name, m in entities[:FINDINGS]]
    keys = legend(f, ("own", "method.product"), ("level", "coverage.level"))
    listing = (
        table(f, f.words("coverage"), ["entity", "coverage", "width"], rows, named=False) if len(entities) > 1 else ""
    )
    body = f'<p>{said}</p>{keys}<div class="charts">{figure(f.text("coverage.chart"), svg)}<div>{listing}</div></div>'
    return section("coverage", f.words("coverage"), body)


def quality(f: Format) -> str:
    """What is wrong with the data."""
    q = f.report["quality"]
    rows: list[list[object]] = []

    def add(key: str, path: str, where: str) -> None:
        if f.at(path):
            rows.append([f.words(f"quality.{key}"), Html(f.figure(path)), where])

    def some(items: list[str], count: int) -> str:
        shown = "; ".join(items[:3])
        return shown if count <= 3 else f"{shown}; {f.words('quality.more', count=f.number(count - 3))}"

    refused = sum(q["refused"].values())
    if refused:
        told = [f"{each['row']}: {each['reason']}" for each in q["refused_examples"]]
        rows.append([f.words("quality.refused"), f.number(refused), some(told, refused)])
    gaps = [f"{g['entity']} {f.time(g['start'])} ({f.duration((g['end'] - g['start']) / HOUR)})" for g in q["gap_list"]]
    add("gaps", "quality.gaps", some(gaps, q["gaps"]))
    add("duplicates", "quality.duplicates.exact", "")
    add("conflicting", "quality.duplicates.conflicting", "")
    add("out_of_order", "quality.out_of_order", "")
    stuck = [
        f"{s['entity']} {s['column']} = {f.number(s['value'])} × {s['events']}, {f.time(s['start'])}"
        for s in q["stuck_list"]
    ]
    add("stuck", "quality.stuck", some(stuck, q["stuck"]))
    jumps = [
        f"{j['entity']} {j['column']} {f.brief(j['before'])} → {f.brief(j['after'])}, {j['unit']}, {f.time(j['at'])}"
        for j in q["unit_jump_list"]
    ]
    add("unit_jumps", "quality.unit_jumps", some(jumps, q["unit_jumps"]))
    if q["constant"]:
        rows.append(
            [f.words("quality.constant"), f.number(len(q["constant"])), some(q["constant"], len(q["constant"]))]
        )
    if q["missing"]:
        told = [f"{name} {f.percent(share)}" for name, share in sorted(q["missing"].items(), key=lambda m: -m[1])]
        rows.append([f.words("quality.missing"), f.number(len(told)), some(told, len(told))])
    columns = ["quality.finding", "quality.count", "quality.where"]
    body = (
        table(f, f.words("quality"), columns, rows, left=[2], named=False)
        if rows
        else f"<p>{f.text('quality.fine')}</p>"
    )
    worst = sorted(q["by_entity"], key=lambda each: -each["gaps"] - each["duplicates"] - each["out_of_order"])
    entities = [
        [
            m["entity"], f.number(m["events"]), f.duration(None if m["interval_s"] is None else m["interval_s"] / 3600),
            f.number(m["gaps"]), f.number(m["duplicates"]), f.number(m["out_of_order"]), f.number(m["without_target"]),
        ]
        for m in worst[:ENTITY_ROWS]
    ]  # fmt: skip
    listed = ["entity", "events", "interval", "gaps", "duplicates", "out_of_order", "without_target"]
    inner = table(f, f.words("quality.entities"), listed, entities, named=False)
    body += f"<details><summary>{f.text('quality.entities')}</summary>{inner}</details>"
    return section("quality", f.words("quality"), body)


def entities(f: Format, p: Pilot) -> str:
    """The value of each entity over the whole time."""
    busy = np.zeros(len(p.tape.names))
    for alarm in p.alarms:
        busy[list(alarm.entities)] += 1.0
    number = {name: e for e, name in enumerate(p.tape.names)}
    for event in p.labels:
        busy[number[event.entity]] += 1.0
    chosen = np.sort(np.argsort(-busy, kind="stable")[:STRIPS])
    figures = []
    for e in chosen.tolist():
        rows = p.parts.rows[e]
        if not len(rows):
            continue
        x, y = envelope(times(p.tape.ts[rows]), p.tape.y[rows])
        first = int(p.parts.first[e])
        until = float(p.tape.ts[first]) if first < len(p.tape) else float(x[-1])
        marks = [Mark(float(a.ts), a.kind) for a in p.alarms if e in a.entities]
        svg = chart(
            [Line("value", x, y)], f"{p.tape.names[e]}: {f.words('legend.value')}",
            zone=f.report["recording"]["time_zone"], shaded=[(float(x[0]), until, "learning"), *_shaded(p, e)],
            marks=marks[:200], height=140,
        )  # fmt: skip
        figures.append(figure(f"<b>{escape(p.tape.names[e])}</b>", svg))
    keys = [
        ("value", "legend.value"),
        ("anomaly", "legend.anomaly"),
        ("drift", "legend.drift"),
        ("learning", "legend.learning"),
    ]
    if p.labels:
        keys.append(("event", "legend.event"))
    said = f.text("entities.text", shown=len(figures), all=f.number(len(p.tape.names)))
    body = f'<p>{said}</p>{legend(f, *keys)}<div class="charts">{"".join(figures)}</div>'
    return section("entities", f.words("entities"), body)
