"""The page that `explain --html` writes: the parts of a prediction, and of a reproduced alert; nothing to fetch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ssm_stream.engine.explain import Explanation
from ssm_stream.evaluate.report.render import render
from ssm_stream.evaluate.report.section import Cell, Chart, Section, Series, Table

FIELDS = (
    "summary", "kind", "phase", "episode", "ended_by", "scope", "severity", "score", "y", "yhat", "yhat_lower",
    "yhat_upper", "since", "absorbed_after", "channel", "change", "learning", "budget", "config_hash", "state_hash",
    "source", "id",
)  # fmt: skip
"""Fields of an alert, in the order of its table."""
SHOWN = 12
"""Inputs and heads in a table, the largest first; a chart has half as many lines at most."""


def explanation_section(found: Explanation) -> Section:
    """Return the section of a prediction: base, contributions, rest, residual; heads and their weights."""
    y = found.y
    residual = None if y is None else y - found.yhat
    rows: list[list[Cell]] = [["base", "", "", found.base], ["constant", "", "", found.constant]]
    rows += [
        [part.feature, "unknown" if part.value is None else part.value, part.weight, part.contribution]
        for part in found.parts[:SHOWN]
    ]
    others = found.parts[SHOWN:]
    if others:
        rows.append([f"{len(others)} other inputs", "", "", sum(part.contribution for part in others)])
    rows += [["rest (not linear)", "", "", found.rest], ["prediction", "", "", found.yhat]]
    if y is not None and residual is not None:
        rows += [["target", "", "", y], ["residual: target − prediction", "", "", residual]]
    heads: list[list[Cell]] = [[a.head, a.answer, a.weight] for a in found.answers[:SHOWN]]
    text = [
        f"{found.entity} at {found.when}, after {found.n:,} labelled events. {found.fleet:.0%} of the prediction rests "
        "on what other entities taught.",
        "Base, constant, contributions and the rest add up to the prediction; what the target has beyond that is the "
        "residual. A contribution is the input's standardised value times its implicit weight, which is in the "
        "target's unit per standard deviation of the input.",
        *(f"{name} = {computed}." for name, computed in found.derived.items()),
    ]
    return Section(
        "The prediction taken apart",
        text=text,
        tables=[
            Table("Parts of the prediction", ["part", "value", "weight", "contribution"], rows),
            Table("Heads, as the gate weighs them", ["head", "answer", "gate"], heads),
        ],
    )


def history_section(history: Sequence[Explanation]) -> Section | None:
    """Return the section of weights, contributions and the fleet's share over time; None for too few events."""
    if len(history) < 3:
        return None
    x = [float(each.n) for each in history]
    size: dict[str, float] = {}
    for each in history:
        for part in each.parts:
            size[part.feature] = max(size.get(part.feature, 0.0), abs(part.contribution))
    names = sorted(size, key=lambda name: -size[name])[: SHOWN // 2]

    def lines(of: str) -> list[Series]:
        found = []
        for name in names:
            at = [{part.feature: getattr(part, of) for part in each.parts}.get(name, 0.0) for each in history]
            found.append(Series(name, x, [float(value) for value in at]))
        return found

    charts = [
        Chart("Implicit weights", "labelled events", "target's unit per standard deviation", lines("weight")),
        Chart("Contributions", "labelled events", "target's unit", lines("contribution")),
        Chart("Predictions", "labelled events", "target's unit", _values(history, x)),
        Chart("Share that rests on the fleet", "labelled events", "share",
              [Series("fleet", x, [each.fleet for each in history])]),
    ]  # fmt: skip
    text = [f"{len(history)} of the entity's events, evenly, each as it stood before its target was learned."]
    return Section("Over time", text=text, charts=charts)


def _values(history: Sequence[Explanation], x: list[float]) -> list[Series]:
    known = [(n, each.y) for n, each in zip(x, history, strict=True) if each.y is not None]
    target = Series("target", [n for n, _ in known], [float(y) for _, y in known], dashed=True)
    return [Series("prediction", x, [each.yhat for each in history]), *([target] if known else [])]


def alert_section(message: dict[str, Any]) -> Section:
    """Return the section of an alert's own fields."""
    rows: list[list[Cell]] = [[name, str(message[name])] for name in FIELDS if message.get(name) is not None]
    tables = [Table("", ["field", "value"], rows)]
    for name, title, columns in (
        ("contributions", "What contributed", ("feature", "share")),
        ("weight_change", "Weights that changed most", ("feature", "before", "after")),
        ("heads", "Heads that the gate believed", ("head", "weight")),
        ("targets", "Targets", ("target", "score")),
        ("entities", "Entities", ("entity", "score")),
    ):
        listed = message.get(name)
        if listed:
            content: list[list[Cell]] = [
                [str(each.get(c)) if not isinstance(each.get(c), int | float) else each[c] for c in columns]
                for each in listed
            ]
            tables.append(Table(title, list(columns), content))
    return Section("The alert", tables=tables)


def explain_html(title: str, verdict: str, good: bool | None, sections: Sequence[Section]) -> str:
    """Return the page.

    Args:
        verdict: of the replay, in words
        good: whether the replay gave the same alert; None: there was nothing to compare with
    """
    return render("explanation.html.j2", title=title, sections=sections, verdict=verdict, ok=good)
