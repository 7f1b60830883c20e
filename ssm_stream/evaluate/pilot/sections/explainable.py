"""Which alerts have a cause that a person can act on: a column and its direction, or an input that drove the value."""

from __future__ import annotations

import functools
import re
from collections.abc import Collection
from typing import Any

from ssm_stream.config import Config
from ssm_stream.engine.alert_kinds import KINDS
from ssm_stream.engine.alert_summary.words import TEXTS
from ssm_stream.evaluate.pilot.format import Format
from ssm_stream.evaluate.pilot.sections.layout import Cell, Figure, Section, Table
from ssm_stream.evaluate.report.texts import Language

DIRECTED = (
    "outside", "outside_and", "level", "level_by", "level_from_to", "steps_up", "steps_down", "steps_up_here",
    "steps_down_here", "still", "restless",
    "higher", "lower", "hour", "usual", "livelier", "calmer", "shift_up", "shift_down", "creep_up", "creep_down",
    "shift_up_some", "shift_down_some", "creep_up_some", "creep_down_some",
    "days_up", "days_down", "days_up_by_inputs", "days_down_by_inputs", "hours_up", "hours_down",
)  # fmt: skip
"""Parts of an alert's sentence that name a column and which way it went."""
MIN_DRIVER = 0.25
"""Share of the contributions from which an input is the driver."""
EXAMPLES = 3
"""Alerts with a usable cause that are shown, and as many without."""


def explainable(config: Config, alerts: list[dict[str, Any]], language: Language) -> dict[str, Any]:
    """Return how many of the judged alerts have a usable cause, and examples. alerts: rows of `alert_list`"""
    columns = {*config.event.columns, *config.event.targets}
    found = []
    for i, alert in enumerate(alerts):
        if alert["judged"]:
            directed, driver = names_direction(alert["summary"], language), driver_of(alert["contributions"], columns)
            directed |= alert["kind"] not in KINDS  # a rule says what it is about
            found.append((i, directed, driver))
    ranked = sorted(found, key=lambda each: -(alerts[each[0]]["score"] or 0.0))
    shown = [each for usable in (True, False) for each in [e for e in ranked if usable_cause(e) is usable][:EXAMPLES]]
    count = sum(usable_cause(each) for each in found)
    return {
        "alerts": len(found),
        "usable": count,
        "directed": sum(directed for _, directed, _ in found),
        "driven": sum(driver is not None for *_, driver in found),
        "share": count / len(found) if found else None,
        "examples": [{"alert": i, "usable": usable_cause((i, d, driver)), "driver": driver} for i, d, driver in shown],
    }


def usable_cause(found: tuple[int, bool, dict[str, Any] | None]) -> bool:
    """Return whether a person can act on an alert. found: its place, whether it names a direction, its driver"""
    _, directed, driver = found
    return directed or driver is not None


def names_direction(summary: str, language: Language) -> bool:
    """Return whether an alert's sentence names a column and which way it went."""
    return _directed(language).search(summary) is not None


def driver_of(contributions: list[dict[str, Any]], columns: Collection[str]) -> dict[str, Any] | None:
    """Return the largest contribution of a column of the events, if it is large enough.

    The hour, past targets and the usual value are not columns: nobody can act on them.
    """
    for each in contributions:
        column = re.sub(r"^steps\((.*)\)$", r"\1", each["feature"])
        # A category is named with its value.
        known = column in columns or any(column.startswith(f"{name}=") for name in columns)
        if known and abs(each["share"]) >= MIN_DRIVER:
            return {"feature": each["feature"], "share": each["share"]}
    return None


@functools.cache
def _directed(language: Language) -> re.Pattern[str]:
    """Return the pattern of the sentences that name a column and a direction."""
    texts = [TEXTS[key].ja if language == "ja" else TEXTS[key].en for key in DIRECTED]
    return re.compile("|".join(".+?".join(map(re.escape, re.split(r"\{\w+\}", text))) for text in texts))


def section(f: Format) -> Section:
    """Return the section `Can people act on the alerts?`."""
    r = f.report["explainable"]
    if not r["alerts"]:
        return Section("explainable", [f.text("alerts.none")])
    examples = list[list[Cell]]()
    for each in r["examples"]:
        alert, driver = f.report["alerts"][each["alert"]], each["driver"]
        named = f"{driver['feature']} ({f.percent(abs(driver['share']))})" if driver else "–"
        usable = f.text("explainable.yes" if each["usable"] else "explainable.no")
        examples.append([alert["summary"], named, usable])
    rows: list[list[Cell]] = [
        [f.text("explainable.usable"), Figure("explainable.usable"), Figure("explainable.share", "percent")],
        [f.text("explainable.directed"), Figure("explainable.directed"), ""],
        [f.text("explainable.driven"), Figure("explainable.driven"), ""],
    ]
    return Section(
        "explainable",
        [
            f.text(
                "explainable.text",
                usable=f.number(r["usable"]),
                alerts=f.number(r["alerts"]),
                share=f.percent(r["share"]),
                least=f.percent(MIN_DRIVER),
            )
        ],
        [
            Table("explainable", ("explainable.kind", "quality.count", "share"), rows),
            Table(
                "explainable.examples", ("explainable.sentence", "explainable.driver", "explainable.result"), examples,
                left=(1, 2),
            ),
        ],
    )  # fmt: skip
