"""The pilot report as one HTML file: nothing to fetch, readable without scripts, in English or Japanese."""

from __future__ import annotations

import json
from html import escape
from importlib.resources import files
from typing import Any

from ssm_stream.evaluate.pilot import sections
from ssm_stream.evaluate.pilot.format import MISSING, Format, Html, table
from ssm_stream.evaluate.pilot.pilot import Pilot
from ssm_stream.evaluate.pilot.score import CONFIDENCE
from ssm_stream.evaluate.pilot.words import Language

PRICES = ("false_alarm", "missed_hour")


def paragraph(report: dict[str, Any], language: Language) -> str:
    """The verdict in words."""
    f = Format(report, language)
    told = report["verdict"]["sentences"]
    said = [f.sentence(each["key"], {k: v for k, v in each.items() if k != "key"}) for each in told]
    return ("" if language == "ja" else " ").join(said)


def page(p: Pilot, language: Language, file: str) -> str:
    """The whole file. file: name of the recording"""
    f = Format(p.report, language)
    asset = files("ssm_stream").joinpath("data")
    style, script = (asset.joinpath(name).read_text(encoding="utf-8") for name in ("pilot.css", "pilot.js"))
    chapters = [
        _what_if(f, p), sections.detection(f), sections.alerts(f, p), sections.predictions(f),
        sections.adaptation(f, p), sections.coverage(f), sections.quality(f), sections.entities(f, p), _how(f),
    ]  # fmt: skip
    names = ("what_if", "detection", "alerts", "errors", "adaptation", "coverage", "quality", "entities", "how")
    anchors = ("what-if", *names[1:])
    links = "".join(f'<li><a href="#{a}">{f.text(name)}</a></li>' for a, name in zip(anchors, names, strict=True))
    title = f"{f.text('title')}: {escape(file)}"
    return (
        f'<!doctype html><html lang="{language}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<link rel="icon" href="data:,">'
        f"<title>{title}</title><style>{style}</style></head><body><header>{_head(f, file)}</header>"
        f'<main>{_verdict(f)}{_tiles(f)}<nav aria-label="{f.text("contents")}"><ul>{links}</ul></nav>'
        f"{''.join(chapters)}</main><script>{script}</script></body></html>\n"
    )


def _head(f: Format, file: str) -> str:
    r = f.report["recording"]
    said = f.text(
        "subtitle", file=file, events=f.number(r["events"]), entities=f.number(r["entities"]),
        first=f.time(r["first"]), last=f.time(r["last"]), target=r["target"],
    )  # fmt: skip
    judged = f.text(
        "judged", share=f.percent(f.report["judged_by"]["first_share"]), events=f.number(r["judged_events"])
    )
    return f'<h1>{f.text("title")}</h1><p class="sub">{said} {judged}</p>'


def _verdict(f: Format) -> str:
    grade = f.report["verdict"]["grade"]
    said = escape(f.report["verdict"]["text"])
    question = f.text("question")
    return (
        f'<div class="verdict {grade}" role="region" aria-label="{question}"><p class="q">{question}'
        f"</p><h2>{f.text('grade.' + grade)}</h2><p>{said}</p></div>"
    )


def _tile(title: str, big: str, low_high: str, note: str) -> str:
    shown = f'<div class="range">{low_high}</div>' if low_high else ""
    return f'<div class="tile"><h3>{title}</h3><div class="big">{big}</div>{shown}<p class="note">{note}</p></div>'


def _tiles(f: Format) -> str:
    kpi, costs, seen = f.report["kpis"], f.report["costs"], f.report["detection"]
    tiles = []
    labelled = seen is not None and seen["events"] > 0
    weeks, allowed = f.brief(kpi["entity_weeks"]), f.brief(kpi["allowed_false"])
    if labelled:
        note = f.text("kpi.saved.note", today=f.way(costs["alarms_today"]), retraining=f.money(kpi["saved_retraining"]))
        if kpi["weeks"] >= 2.0:
            note += f.text("kpi.saved.week", week=f.money(kpi["saved"]["value"] / kpi["weeks"]))
        tiles.append(_figure(f, "saved", "kpis.saved", "money", note))
        share = f.percent(kpi["missed_share"]["value"])
        note = f.text("kpi.missed.note", events=f.number(seen["events"]), share=share)
        tiles.append(_figure(f, "missed", "kpis.missed", "brief", note))
        own = seen["methods"]["product"]
        note = f.text(
            "kpi.false.note", false=f.brief(own["false"]), alarms=f.number(own["alarms"]), weeks=weeks, allowed=allowed
        )
        tiles.append(_figure(f, "false", "kpis.false_alarms_a_week", "brief", note))
        note = f.text("kpi.warned.note", hours=f.brief(seen["event_hours"]))
        tiles.append(_figure(f, "warned", "kpis.warned_hours", "brief", note))
    else:
        note = f.text("kpi.alarms.note", alarms=f.number(kpi["alarms"]), weeks=weeks, allowed=allowed)
        tiles.append(_figure(f, "alarms", "kpis.false_alarms_a_week", "brief", note))
    key = "kpi.work.note" if labelled else "kpi.work.unlabelled"
    tiles.append(
        _figure(f, "work", "kpis.engineer_hours", "brief", f.text(key, retrainings=f.number(kpi["retrainings"])))
    )
    errors = f.report["errors"]
    best = errors["best_simple"]
    if best is not None:
        note = f.text("kpi.error.note", best=f.way(best))
        tiles.append(_figure(f, "error", f"errors.methods.{best}.product_over_it", "brief", note))
    if not labelled:
        note = f.text("kpi.coverage.note", level=f.percent(f.report["coverage"]["level"]))
        tiles.append(_figure(f, "coverage", "coverage", "percent", note))
        tiles.append(_figure(f, "adapts", "errors.methods.frozen.product_over_it", "brief", f.text("kpi.adapts.note")))
    by = f.report["judged_by"]
    sure = f.text(
        "how_sure", confidence=f.percent(CONFIDENCE), draws=f.number(by["draws"]), blocks=f.number(by["blocks"])
    )
    return f'<div class="tiles">{"".join(tiles)}</div><p class="dim">{sure}</p>{_costs(f)}'


def _figure(f: Format, name: str, path: str, how: str, note: str) -> str:
    known = f.at(f"{path}.value") is not None
    big = f.figure(f"{path}.value", how) if known else MISSING
    return _tile(f.text(f"kpi.{name}"), big, f.range_of(path, how) if known else "", note)


def _costs(f: Format) -> str:
    costs = f.report["costs"]
    parts = []
    for name in ("false_alarm", "missed_hour", "retraining", "engineer_hour", "alarms_today", "retrained_today"):
        value = costs[name]
        if name == "alarms_today":
            shown = f.way(value)
        elif name == "retrained_today":
            shown = f.words(f"retrained.{value}")
        else:
            shown = f.money(value)
        mark = f" ({f.text('assumed')})" if name in costs["assumed"] else ""
        parts.append(f"{f.text('cost.' + name)}: {escape(shown)}{mark}")
    return f'<p class="dim">{f.text("costs")}: {f.text("list").join(parts)}{f.text("stop")}</p>'


def _what_if(f: Format, p: Pilot) -> str:
    told = f.report["what_if"]
    labelled, points = told["labelled"], told["points"]
    configured = next(i for i, point in enumerate(points) if point["factor"] == 1.0)
    texts = [_budget_text(f, point) for point in points]
    rows: list[list[object]] = []
    for i, point in enumerate(points):
        at = f"what_if.points.{i}"
        row: list[object] = [texts[i], Html(f.figure(f"{at}.anomalies")), Html(f.figure(f"{at}.drifts"))]
        row.append(Html(f.figure(f"{at}.alarms_a_week", "brief")))
        if labelled:
            row += [Html(f.figure(f"{at}.{name}", "brief")) for name in ("false_a_week", "found", "warned_hours")]
            row.append(Html(f"<span data-saved>{escape(f.money(_saved(f, p, point)))}</span>"))
        rows.append(row)
    columns = ["what_if.budget", "anomalies", "drifts", "a_week"]
    if labelled:
        columns += ["false_rate", "found", "warned", "what_if.saved"]
    costs = f' <span class="live" hidden>{f.text("what_if.costs")}</span>' if labelled else ""
    sliders = [_slider(f, "budget", 0, len(points) - 1, configured, 1)]
    live = ""
    if labelled:
        sliders += [_slider(f, name, 0, 100, 50, 5) for name in PRICES]
        live = (
            '<p class="answer live" data-part="answer" aria-live="polite" hidden></p>'
            '<div class="charts live" hidden><figure>'
            f'<svg viewBox="0 0 400 140" role="img" aria-label="{f.text("what_if.curve")}">'
            '<path class="band" data-part="band"/>'
            '<path class="level" data-part="zero"/><path class="line own" data-part="line"/>'
            '<circle r="5" fill="var(--own)" data-part="dot"/></svg>'
            f"<figcaption>{f.text('what_if.curve')}</figcaption></figure></div>"
        )
    body = (
        f'<p>{f.text("what_if.text")}{costs}</p><div class="controls live" hidden>{"".join(sliders)}</div>{live}'
        + table(f, f.words("what_if"), columns, rows, own=[configured], named=False)
        + f'<script type="application/json" id="what-if-data">{_embedded(f, p, texts)}</script>'
    )
    return sections.section("what-if", f.words("what_if"), body)


def _budget_text(f: Format, point: dict[str, Any]) -> str:
    one, other = point["budget_anomaly"], point["budget_drift"]
    text = one if one == other else f"{f.words('kind.anomaly')} {one}; {f.words('kind.drift')} {other}"
    return f"{text} ({f.words('what_if.configured')})" if point["factor"] == 1.0 else text


def _saved(f: Format, p: Pilot, point: dict[str, Any]) -> float:
    costs, today = f.report["costs"], p.today[0]
    cheaper = costs["false_alarm"] * (today["false"] - point["false"])
    return float(cheaper + costs["missed_hour"] * (point["warned_hours"] - today["warned_hours"]))


def _slider(f: Format, name: str, low: int, high: int, value: int, step: int) -> str:
    return (
        f'<label>{f.text("what_if." + name)}<input type="range" min="{low}" max="{high}" step="{step}" value="{value}" '
        f'data-part="{name}"><output data-part="{name}_out"></output></label>'
    )


def _embedded(f: Format, p: Pilot, texts: list[str]) -> str:
    """What the script needs; no text of it can end the element."""
    told = f.report["what_if"]
    data: dict[str, Any] = {
        "lang": f.words.language,
        "labelled": told["labelled"],
        "points": [{**point, "text": text} for point, text in zip(told["points"], texts, strict=True)],
    }
    if told["labelled"]:
        data |= {
            "currency": f.currency,
            "costs": [f.report["costs"][name] or 1.0 for name in PRICES],
            "events": f.report["detection"]["events"],
            "edge": (1.0 - CONFIDENCE) / 2,
            "today": [p.today[0]["false"], p.today[0]["warned_hours"]],
            "draws": [[[round(v, 3) for v in draw] for draw in drawn.tolist()] for drawn in p.draws],
            "today_draws": [[round(v, 3) for v in draw] for draw in p.today[1].tolist()],
            "words": {
                "saved": f.words("what_if.saved"), "range": f.words("range", low="{low}", high="{high}"),
                "false": f.words("kpi.false"), "missed": f.words("kpi.missed"),
            },
        }  # fmt: skip
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _how(f: Format) -> str:
    rows: list[list[object]] = []
    for i, check in enumerate(f.report["verdict"]["checks"]):
        value = MISSING if check["value"] is None else Html(f.figure(f"verdict.checks.{i}.value", "number"))
        mark, look = ("how.met", "ok") if check["ok"] else ("how.missed", "miss")
        sign = "≤" if check["relation"] == "<=" else "≥"
        result = Html(f'<span class="{look}">{f.text(mark)}</span>')
        rows.append([f.words(f"rule.{check['name']}"), value, f"{sign} {check['bar']:g}", result])
    c = f.report["config"]
    made = f.text(
        "how.config", hash=c["hash"], anomaly=c["anomaly_budget"], drift=c["drift_budget"],
        warmup=f.number(c["warmup"]), seed=f.report["judged_by"]["seed"],
    )  # fmt: skip
    listing = table(f, f.words("how"), ["how.rule", "value", "how.bar", "how.result"], rows, named=False)
    body = f'<p>{f.text("how.text")}</p>{listing}<p>{f.text("grade.rules")}</p><p class="dim">{made}</p>'
    return sections.section("how", f.words("how"), body)
