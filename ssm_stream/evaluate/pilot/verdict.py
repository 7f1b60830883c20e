"""The verdict: a grade and sentences that follow from the figures by these rules, in this order, and nothing else.

few_data     fewer than MIN_EVENTS (1000) judged events
unlabelled   no labels: of alarms only their number is known
feedback     no labels, but operators' verdicts: which alarms were right is known, and not what they saved
few_labels   fewer than MIN_TRUE (5) true events that are judged
no           the alarms cost more than what is done today: all of the interval of what they saved is below 0
simpler      another way to alarm is surely cheaper: all of the interval of the difference is below 0
yes          the alarms saved something: none of the interval of what they saved is below 0; and as many alarms at
             random would surely have saved less: all of the interval of that difference is above 0
open         otherwise: it may pay, and this recording does not show it

Savings by not retraining are left out of the grade: they rest on an assumption, not on the recording.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from ssm_stream.evaluate.report.section import Check, at_least, at_most

MIN_EVENTS = 1000
MIN_TRUE = 5
COVERAGE_OFF = 0.02
COUNTS = ("alarms", "false", "found")
Grade = Literal["few_data", "unlabelled", "feedback", "few_labels", "no", "simpler", "yes", "open"]
Sentence = tuple[str, dict[str, Any]]
"""Key of the text (`words.en.yaml`), and what to fill in."""


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def checks(report: dict[str, Any]) -> list[Check]:
    """Return the rules as figures with their bars."""
    errors, kpi = report["errors"], report["kpis"]
    best = errors["best_simple"]
    over = errors["methods"][best]["product_over_it"]["high"] if best else None
    out = [
        at_least("pilot: judged events", report["recording"]["judged_events"], MIN_EVENTS),
        at_most("pilot: error over the best simple predictor, upper bound", _number(over), 1.0),
        at_most("pilot: coverage, distance from the level", _number(report["coverage"]["off"]), COVERAGE_OFF),
    ]
    if report["detection"] is not None:
        out += [
            at_least("pilot: true events judged", report["detection"]["events"], MIN_TRUE),
            at_least("pilot: saved by alarms, lower bound", _number((kpi["saved_alarms"] or {}).get("low")), 0.0),
            at_least(
                "pilot: saved against the cheapest other way, upper bound",
                _number((kpi.get("saved_against_rival") or {}).get("high")),
                0.0,
            ),
            at_least(
                "pilot: saved against as many alarms at random, lower bound",
                _number((kpi.get("saved_against_random") or {}).get("low")),
                0.0,
            ),
        ]
    return out


def grade(report: dict[str, Any]) -> Grade:
    """Return the grade of the product."""
    kpi, detection = report["kpis"], report["detection"]
    if report["recording"]["judged_events"] < MIN_EVENTS:
        return "few_data"
    if detection is None:
        return "feedback" if report["feedback"] else "unlabelled"
    if detection["events"] < MIN_TRUE:
        return "few_labels"
    saved, apart = kpi["saved_alarms"], kpi["saved_against_rival"]
    if saved["high"] is not None and saved["high"] < 0.0:
        return "no"
    if apart["high"] is not None and apart["high"] < 0.0:
        return "simpler"
    return "yes" if _pays(saved) and _number(kpi["saved_against_random"]["low"]) > 0.0 else "open"


def _pays(saved: dict[str, Any]) -> bool:
    return _number(saved["low"]) >= 0.0 and saved["value"] > 0.0


def sentences(report: dict[str, Any], chosen: str) -> list[Sentence]:
    """Return the sentences of the verdict as keys and figures."""
    kpi, detection, costs = report["kpis"], report["detection"], report["costs"]
    first = "open_random" if chosen == "open" and _pays(kpi["saved_alarms"]) else chosen
    out: list[Sentence] = [(f"verdict.{first}", _values(report))]
    if chosen == "few_labels" and detection["begun_before"]:
        out.append(("verdict.begun_before", {"before": detection["begun_before"]}))
    if chosen == "few_labels" and detection["outside"]:
        out.append(("verdict.outside", {"outside": detection["outside"]}))
    if detection is not None and detection["rows"] > detection["events"]:
        out.append(("verdict.merged", {"rows": detection["rows"], "events": detection["events"]}))
    if detection is not None and detection.get("of_signals"):
        out.append(("verdict.of_signals", {"named": detection["of_signals"], "events": detection["events"]}))
    if detection is not None and detection["events"]:
        own = detection["methods"]["product"]
        out.append(
            (
                "verdict.found" if own["found"] else "verdict.none_found",
                {
                    "found": int(own["found"]), "events": detection["events"],
                    "delay": own["median_delay_hours"], "rate": kpi["false_alarms_a_week"]["value"],
                },
            )
        )  # fmt: skip
        rivals = detection["methods"]
        equal = [name for name in ("sigma", "ewma", "adwin") if name in rivals]
        best = max(equal, key=lambda name: (rivals[name]["found"], -rivals[name]["false"])) if equal else None
        if best is not None:
            values = {"rival": best, "found": int(rivals[best]["found"]), "random": rivals["random"]["found"]}
            out.append(("verdict.rival", values))
        if kpi["break_even_hour"] is not None and chosen in ("yes", "open", "no"):
            out.append(("verdict.break_even", {"money": kpi["break_even_hour"]}))
    out += _rest(report) + _predictions(report)
    if costs["assumed"] and detection is not None and detection["events"]:
        given = {"false_alarm", "missed_hour"} - set(costs["assumed"])
        out.append(("verdict.assumed_some" if given else "verdict.assumed", {}))
    return out


def _values(report: dict[str, Any]) -> dict[str, Any]:
    kpi = report["kpis"]
    values: dict[str, Any] = {
        "events": report["recording"]["judged_events"], "least": MIN_EVENTS, "least_true": MIN_TRUE,
        "alarms": kpi["alarms"], "rate": kpi["alarms_a_week"]["value"],
        "true": report["detection"]["events"] if report["detection"] else 0,
        "today": report["costs"]["alarms_today"],
    }  # fmt: skip
    if report["feedback"]:
        values |= {"judged": report["feedback"]["alarms"], "false": report["feedback"]["false"]}
    if kpi["saved_alarms"] is not None:
        saved, apart = kpi["saved_alarms"], kpi["saved_against_rival"]
        values |= {
            "saved": saved["value"], "saved_low": saved["low"], "saved_high": saved["high"], "rival": kpi["rival"],
            "saved_random": saved["value"] - kpi["saved_against_random"]["value"],
            "apart": None if apart["value"] is None else -apart["value"],
        }  # fmt: skip
    return values


def _rest(report: dict[str, Any]) -> list[Sentence]:
    """Return what there would be without the rows in which machines rest, where anything is better."""
    rest = report.get("rest")
    if rest is None:
        return []
    now, then = rest["now"], rest["then"]
    values = {
        "column": rest["column"],
        "states": " / ".join(rest["states"]),
        "share": rest["share"],
        "when": rest["when"],
    }
    values |= {f"{name}_{key}": each[name] for key, each in (("now", now), ("then", then)) for name in COUNTS}
    if now["found"] is None:
        return [("verdict.rest", values)] if then["alarms"] < now["alarms"] else []
    better = then["found"] > now["found"] or then["false"] < now["false"]  # and which counts more, people decide
    return [("verdict.rest_labelled", values)] if better else []


def _predictions(report: dict[str, Any]) -> list[Sentence]:
    errors = report["errors"]
    best = errors["best_simple"]
    if best is None:
        return []
    ratio = errors["methods"][best]["product_over_it"]
    if ratio["value"] is None:
        return []
    low, high = _number(ratio["low"]), _number(ratio["high"])
    key = "better" if high < 1.0 else "worse" if low > 1.0 else "alike"
    out: list[Sentence] = [(f"verdict.predicts_{key}", {"share": abs(1.0 - ratio["value"]), "best": best})]
    frozen = errors["methods"].get("frozen", {}).get("product_over_it")
    if frozen and frozen["value"] is not None and _number(frozen["high"]) < 1.0:
        out.append(("verdict.adapts", {"share": 1.0 - frozen["value"]}))
    covered = report["coverage"]["value"]
    if covered is not None and report["coverage"]["off"] > COVERAGE_OFF:
        out.append(("verdict.coverage_off", {"covered": covered, "level": report["coverage"]["level"]}))
    return out
