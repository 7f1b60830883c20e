"""The pilot report as one HTML file: nothing to fetch, readable without scripts, in English or Japanese."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from ssm_stream.engine.alert_kinds import KINDS
from ssm_stream.evaluate.alarm_matching import Alarm
from ssm_stream.evaluate.bootstrap import CONFIDENCE
from ssm_stream.evaluate.engine_run import Floats
from ssm_stream.evaluate.pilot.alarm_tally import HOUR
from ssm_stream.evaluate.pilot.evaluation import Pilot
from ssm_stream.evaluate.pilot.format import Format
from ssm_stream.evaluate.pilot.period_means import DAY, alert_period, period_means
from ssm_stream.evaluate.pilot.prediction_figures import AFTER, BEFORE, BIN
from ssm_stream.evaluate.pilot.sections import excitation, explainable, machines, stages, targets, upkeep
from ssm_stream.evaluate.pilot.sections.layout import Section, jq_path
from ssm_stream.evaluate.pilot.verdict import MIN_TRUE
from ssm_stream.evaluate.report.chart import STRIP, Line, Mark, Plot, envelope
from ssm_stream.evaluate.report.render import render
from ssm_stream.evaluate.report.texts import Language

ALARM_METHODS = (
    "product", "product_anomaly", "product_drift", "product_rules", "never", "always", "random", "three_sigma", "sigma",
    "ewma", "adwin",
)  # fmt: skip
DRIFT_STYLES = {"least_squares": "squares", "frozen": "frozen", "product": "own"}
"""Methods in the charts of drifts, in the order in which they are drawn, and their lines."""
PRICES = ("false_alarm", "missed_hour")
SECTIONS: tuple[Callable[[Format], Section], ...] = (
    explainable.section, excitation.section, machines.section, upkeep.section,
)  # fmt: skip
"""Sections that are laid out from data, after `Coverage`: add a function here, and its figures to the report."""
ALERT_ROWS, ALERT_CHARTS, CHARTS_EACH, STRIPS, DRIFT_CHARTS, DRIFT_ROWS, ENTITY_ROWS = 100, 12, 2, 12, 6, 50, 50
EVENTS_BEFORE, EVENTS_AFTER = 120, 80
"""Labelled events of the entity before and after an alert that its chart shows."""
MAX_WATCHED = 6
"""Targets that the head of the page names."""
RULE_SCORE = 1.0
"""Rank of an alert of a rule among the scores."""
MAX_MARKS = 200
"""Alerts marked in the chart of an entity."""


def page(p: Pilot, language: Language, file: str) -> str:
    """Return the page. file: name of the recording"""
    f, q = Format(p.report, language), p.report["quality"]
    commands = {"pilot": "ssm-stream pilot …", "backtest": "ssm-stream backtest …", "data": "report.json"}
    commands |= p.report.get("commands", {})
    errors = [m["relative"]["value"] for m in p.report["errors"]["methods"].values()]
    widest = max((value for value in errors if value is not None), default=1.0)
    first_sections = [stages.section, *([targets.section] if targets.has_several(p.report) else [])]
    has_rules = any(alarm.kind not in KINDS for alarm in p.alarms)
    untidy = sorted(q["by_entity"], key=lambda each: -each["gaps"] - each["duplicates"] - each["out_of_order"])
    return render(
        "pilot.html.j2",
        title=f"{f.text('title')}: {file}",
        language=language,
        f=f,
        t=f.html,
        r=p.report,
        file=file,
        checks=p.checks,
        alarm_methods=ALARM_METHODS,
        event_legend=[("event", f.text("legend.event"))] if p.true_events else [],
        rule_legend=[("rule", f.text("legend.rule"))] if has_rules else [],
        has_rules=has_rules,
        what_if=_what_if(f, p),
        alerts=_Alerts(f, p),
        inside=_inside(f),
        widest_bar=max(min(widest, 2.5), 1.25),
        drifts=_Drifts(f, p),
        coverage=_coverage(f),
        findings=_findings(f),
        worst_entities=untidy[:ENTITY_ROWS],
        strips=_strips(f, p),
        first_sections=[each(f) for each in first_sections],
        several=len(p.targets) > 1,
        watched=_watched(f),
        sections=[each(f) for each in SECTIONS],
        commands=commands,
        jq=lambda *paths: recompute(commands["data"], *paths),
        min_true=MIN_TRUE,
        unmet=stages.unmet,
    )


def recompute(data: str, *paths: str) -> str:
    """Return the command that prints figures of a report. data: its file; paths: of the figures"""
    return f"jq {shlex.quote(', '.join(map(jq_path, paths)))} {shlex.quote(data)}"


def _watched(f: Format) -> str:
    """Return the targets; of many, the first ones and the number of all."""
    paths = f.report["recording"]["targets"]
    shown = f.text("list").join(paths[:MAX_WATCHED])
    return shown if len(paths) <= MAX_WATCHED else f.text("targets.more", shown=shown, count=f.number(len(paths)))


def _what_if(f: Format, p: Pilot) -> dict[str, Any]:
    """Return the table of budgets and what the script computes with."""
    costs, labelled = f.report["costs"], f.report["what_if"]["labelled"]
    today, points = p.today, list[dict[str, Any]]()
    for point in f.report["what_if"]["points"]:
        anomaly, drift = point["budget_anomaly"], point["budget_drift"]
        text = anomaly if anomaly == drift else f"{f.text('kind.anomaly')} {anomaly}; {f.text('kind.drift')} {drift}"
        if point["factor"] == 1.0:
            text = f"{text} ({f.text('what_if.configured')})"
        if not labelled:
            points.append({**point, "text": text})
            continue
        cheaper = costs["false_alarm"] * (today["false"] - point["false"])
        saved = cheaper + costs["missed_hour"] * (point["warned_hours"] - today["warned_hours"])
        points.append({**point, "text": text, "saved": saved})
    data: dict[str, Any] = {"lang": f.language, "labelled": labelled, "points": points}
    if labelled:
        data |= {
            "currency": f.currency,
            "costs": [costs[name] or 1.0 for name in PRICES],
            "events": f.report["detection"]["events"],
            "edge": (1.0 - CONFIDENCE) / 2,
            "today": [today["false"], today["warned_hours"]],
            "draws": [np.round(drawn, 3).tolist() for drawn in p.draws],
            "today_draws": np.round(p.draws_today, 3).tolist(),
            "words": {
                "saved": f.text("what_if.saved"), "range": f.words["range"],
                "false": f.text("kpi.false"), "missed": f.text("kpi.missed"),
            },
        }  # fmt: skip
    configured = next(i for i, point in enumerate(points) if point["factor"] == 1.0)
    return {"labelled": labelled, "points": points, "configured": configured, "data": data}


def _inside(f: Format) -> str:
    """Return in sentences how much of the recording lies inside episodes."""
    found = f.report["episodes"]
    return " ".join(
        f.text(
            "inside.text",
            kind=f.text(f"kind.{kind}"),
            share=f.percent(found[f"{kind}_share"]),
            longest=f.number(found[f"{kind}_longest"]),
            entity=found[f"{kind}_longest_entity"],
        )
        if found[f"{kind}_longest_entity"] is not None
        else f.text("inside.none", kind=f.text(f"kind.{kind}"))
        for kind in KINDS
    )


class _Alerts:
    """The alerts that the page lists and draws: those of the judged part with the highest scores.

    listed: places in the report; plots: place, entity and chart; means: of a chart of days or hours by its place, the
    key of the text that states it; count: all
    """

    def __init__(self, f: Format, p: Pilot) -> None:
        alerts = f.report["alerts"]
        ranked = sorted(
            range(len(alerts)), key=lambda i: (not alerts[i]["judged"], -(alerts[i]["score"] or RULE_SCORE))
        )
        self._f, self.count, self.means = f, len(p.alarms), dict[int, str]()
        self.listed = sorted(ranked[:ALERT_ROWS])
        chosen, charts = list[int](), Counter[int]()
        for i in (i for i in ranked if p.alarms[i].entities):
            e = p.alarms[i].entities[0]
            charts[e] += 1
            if charts[e] <= CHARTS_EACH:
                chosen.append(i)
        self.plots = [(i, _titled(p, p.alarms[i]), self._plot(p, i)) for i in sorted(chosen[:ALERT_CHARTS])]

    def entity(self, m: dict[str, Any]) -> str:
        """Return the entity of an alert, or how many a fleet alert stands for; with several targets, which began."""
        name = self._f.text("fleet", count=len(m["entities"])) if m["scope"] == "fleet" else str(m["entity"])
        what = m.get("target") or m.get("column")
        return name if what is None else f"{name} · {what}"

    def reason(self, m: dict[str, Any]) -> str:
        """Return what an alert found and the inputs that contributed most."""
        key = f"channel.{m['channel']}" if m["channel"] else f"change.{m['change']}" if m["change"] else ""
        text = self._f.text(key) if key else ""
        parts = [
            f"{each['feature']} {'+' if each['share'] > 0 else '−'}{abs(each['share']):.0%}"
            for each in m["contributions"][:3]
            if abs(each["share"]) >= 0.01
        ]
        return f"{text}: {', '.join(parts)}" if parts else text

    def _plot(self, p: Pilot, i: int) -> Plot:
        f, alarm, m = self._f, p.alarms[i], self._f.report["alerts"][i]
        e, part = alarm.entities[0], p.targets[_target_of(p, alarm)]
        run, rows = part.run, part.split.rows[e]
        label = f"{self.entity(m)}, {f.time(m['ts'])}: {f.text('kind.' + m['kind'])}"
        columns: list[Floats] = [column[rows] for column in (run.yhat, run.y, run.lower, run.upper)]
        ts, zone = run.ts[rows], f.zone.key
        if period := alert_period(alarm.message, ts, run.y[rows], zone):
            x, (hat, y, lower, upper) = period_means(ts, columns, period, zone)
            self.means[i] = "alerts.days" if period.length == DAY else "alerts.hours"
            label = f"{label}. {f.text(self.means[i])}"
        else:
            at = int(np.searchsorted(rows, alarm.row))
            shown = slice(max(at - EVENTS_BEFORE, 0), at + EVENTS_AFTER)
            x, (hat, y, lower, upper) = ts[shown].astype(np.float64), (column[shown] for column in columns)
        return Plot(
            label, [Line("hat", x, hat), Line("value", x, y)],
            zone=zone, band=(x, lower, upper), shaded=_true_events(p, e), marks=[_mark(alarm)],
        )  # fmt: skip


def _mark(alarm: Alarm) -> Mark:
    return Mark(float(alarm.ts), alarm.kind if alarm.kind in KINDS else "rule")


def _target_of(p: Pilot, alarm: Alarm) -> str:
    """Return the target that started an alarm, or that a rule is about; else the first."""
    named = (alarm.message.get("target"), alarm.message.get("column"))
    return next((path for path in named if path in p.targets), next(iter(p.targets)))


def _titled(p: Pilot, alarm: Alarm) -> str:
    """Return the first entity of an alarm; with several targets, that which began as well."""
    name = p.run.names[alarm.entities[0]]
    return f"{name} · {_target_of(p, alarm)}" if len(p.targets) > 1 else name


def _true_events(p: Pilot, e: int) -> list[tuple[float, float, str]]:
    """Return the stretches of an entity's true events."""
    name = p.run.names[e]
    return [(float(event.start), float(event.end), "event") for event in p.true_events if event.entity == name]


class _Drifts:
    """The drifts that the page lists and draws: those with the highest scores.

    listed: places in the report; median: the chart of all; plots: figures and chart of single ones
    """

    def __init__(self, f: Format, p: Pilot) -> None:
        drifts = f.report["drifts"]
        self._f = f
        ranked = sorted(range(len(drifts)), key=lambda i: -drifts[i]["score"])
        self.listed = sorted(ranked[:DRIFT_ROWS])
        self.median = self._plot(p.curves, f.text("adaptation.mean"))
        self.plots = [
            (m, self._plot(p.drift_curves[i], f"{self.entity(m)}, {f.time(m['ts'])}"))
            for i, m in ((i, drifts[i]) for i in sorted(ranked[:DRIFT_CHARTS]))
        ]

    def entity(self, m: dict[str, Any]) -> str:
        """Return the entity of a drift, or how many a fleet alert stands for."""
        return str(m["entity"]) if m["entity"] != "*" else self._f.text("fleet", count=m["entities"])

    def _plot(self, curves: dict[str, Floats], label: str) -> Plot:
        x = np.arange(0.5, (BEFORE + AFTER) // BIN) * BIN - BEFORE
        lines = [Line(style, x, curves[name]) for name, style in DRIFT_STYLES.items() if name in curves]
        return Plot(label, lines, level=1.0, log_y=True, marks=[Mark(0.0, "drift")])


def _coverage(f: Format) -> dict[str, Any]:
    """Return the chart of coverage over time, and the entities with the lowest first."""
    found = f.report["coverage"]
    y = np.array([np.nan if v is None else v for v in found["by_tenth"]])
    low = min(0.8, float(np.nanmin(y)) if np.isfinite(y).any() else 0.8)
    lines = [Line("own", np.arange(1.0, 11.0), y)]
    return {
        "plot": Plot(f.text("coverage.chart"), lines, level=found["level"], low=low),
        "by_entity": sorted(found["by_entity"].items(), key=lambda item: item[1]["coverage"]),
    }


def _findings(f: Format) -> list[tuple[str, str, int, str]]:
    """Return what is wrong with the data: key, path of its count in the report or the count, and where it is."""
    q, rows = f.report["quality"], list[tuple[str, str, int, str]]()

    def add(key: str, path: str, count: int, places: list[str]) -> None:
        if count:
            shown = "; ".join(places[:3])
            more = f"; {f.text('quality.more', count=f.number(count - 3))}" if places and count > 3 else ""
            rows.append((key, path, count, shown + more))

    examples = [f"{each['row']}: {each['reason']}" for each in q["refused_examples"]]
    add("refused", "", sum(q["refused"].values()), examples)
    gaps = [f"{g['entity']} {f.time(g['start'])} ({f.duration((g['end'] - g['start']) / HOUR)})" for g in q["gap_list"]]
    add("gaps", "quality.gaps", q["gaps"], gaps)
    add("duplicates", "quality.duplicates.exact", q["duplicates"]["exact"], [])
    add("conflicting", "quality.duplicates.conflicting", q["duplicates"]["conflicting"], [])
    add("out_of_order", "quality.out_of_order", q["out_of_order"], [])
    stuck = [
        f"{s['entity']} {s['column']} = {f.number(s['value'])} × {s['events']}, {f.time(s['start'])}"
        for s in q["stuck_list"]
    ]
    add("stuck", "quality.stuck", q["stuck"], stuck)
    jumps = [
        f"{j['entity']} {j['column']} {f.brief(j['before'])} → {f.brief(j['after'])}, {j['unit']}, {f.time(j['at'])}"
        for j in q["unit_jump_list"]
    ]
    add("unit_jumps", "quality.unit_jumps", q["unit_jumps"], jumps)
    add("constant", "", len(q["constant"]), q["constant"])
    missing = sorted(q["missing"].items(), key=lambda m: -m[1])
    add("missing", "", len(missing), [f"{name} {f.percent(share)}" for name, share in missing])
    return rows


def _strips(f: Format, p: Pilot) -> list[tuple[str, Plot]]:
    """Return name and chart over the whole time of the entities with the most alerts and true events."""
    busy, run = np.zeros(len(p.run.names)), p.run
    for alarm in p.alarms:
        busy[list(alarm.entities)] += 1.0
    number = {name: e for e, name in enumerate(run.names)}
    for event in p.true_events:
        busy[number[event.entity]] += 1.0
    strips, several = [], len(p.targets) > 1
    for e in np.sort(np.argsort(-busy, kind="stable")[:STRIPS]).tolist():
        mine = [alarm for alarm in p.alarms if e in alarm.entities]
        # Of several targets, the one that alarms most.
        started = Counter(_target_of(p, alarm) for alarm in mine)
        path = started.most_common(1)[0][0] if started else next(iter(p.targets))
        part = p.targets[path]
        rows = part.split.rows[e]
        if not len(rows):
            continue
        name = f"{run.names[e]} · {path}" if several else run.names[e]
        x, y = envelope(run.ts[rows].astype(np.float64), part.run.y[rows])
        first = int(p.split.first[e])
        until = float(run.ts[first]) if first < len(run) else float(x[-1])
        plot = Plot(
            f"{name}: {f.text('legend.value')}", [Line("value", x, y)], STRIP, zone=f.zone.key,
            shaded=[(float(x[0]), until, "learning"), *_true_events(p, e)],
            marks=[_mark(alarm) for alarm in mine[:MAX_MARKS]],
        )  # fmt: skip
        strips.append((name, plot))
    return strips
