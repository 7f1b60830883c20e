"""The page that `explain --html` writes: the parts of a prediction, and of a reproduced alert; nothing to fetch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ssm_stream.engine.explain import Explanation
from ssm_stream.evaluate.report.explain_words import Words, words
from ssm_stream.evaluate.report.render import render
from ssm_stream.evaluate.report.section import Cell, Chart, Section, Series, Table
from ssm_stream.evaluate.report.texts import Language

FIELDS = (
    "summary", "kind", "phase", "episode", "ended_by", "scope", "severity", "score", "y", "yhat", "yhat_lower",
    "yhat_upper", "since", "absorbed_after", "channel", "change", "learning", "budget", "config_hash", "state_hash",
    "source", "id",
)  # fmt: skip
"""Fields of an alert, in the order of its table."""
SHOWN = 12
"""Inputs and heads in a table, the largest first; a chart has half as many lines at most."""


def explanation_section(found: Explanation, language: Language = "en") -> Section:
    """Return the section of a prediction: base, contributions, rest, residual; heads and their weights."""
    y, text = found.y, words(language)
    residual = None if y is None else y - found.yhat
    rows: list[list[Cell]] = [[text("base"), "", "", found.base], [text("constant"), "", "", found.constant]]
    rows += [
        [text.name(part.feature), text.value(part.value, part.reading), part.weight, part.contribution]
        for part in found.parts[:SHOWN]
    ]
    others = found.parts[SHOWN:]
    if others:
        rows.append([text("others", n=len(others)), "", "", sum(part.contribution for part in others)])
    rows += [[text("rest"), "", "", found.rest], [text("prediction"), "", "", found.yhat]]
    if y is not None and residual is not None:
        rows += [[text("target"), "", "", y], [text("residual.long"), "", "", residual]]
    heads: list[list[Cell]] = [[text.name(a.head), a.answer, a.weight] for a in found.answers[:SHOWN]]
    share = f"{found.fleet:.0%}"
    return Section(
        text("apart"),
        text=[
            text("apart.first", entity=found.name, when=found.when, n=f"{found.n:,}", share=share),
            text("apart.sum"),
            *(f"{name} = {computed}." for name, computed in found.derived.items()),
        ],
        tables=[
            Table(text("apart.parts"), [text(key) for key in ("part", "value", "weight", "contribution")], rows),
            Table(text("apart.heads"), [text(key) for key in ("head", "answer", "gate")], heads),
        ],
    )


def history_section(history: Sequence[Explanation], language: Language = "en") -> Section | None:
    """Return the section of weights, contributions and the fleet's share over time; None for too few events."""
    if len(history) < 3:
        return None
    text = words(language)
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
            found.append(Series(text.name(name), x, [float(value) for value in at]))
        return found

    labelled, unit = text("labelled"), text("unit")
    charts = [
        Chart(text("weights"), labelled, text("per_deviation"), lines("weight")),
        Chart(text("contributions"), labelled, unit, lines("contribution")),
        Chart(text("predictions"), labelled, unit, _values(history, x, text)),
        Chart(text("fleet_share"), labelled, text("share"),
              [Series(text("fleet.name"), x, [each.fleet for each in history])]),
    ]  # fmt: skip
    return Section(text("over_time"), text=[text("over_time.text", n=len(history))], charts=charts)


def _values(history: Sequence[Explanation], x: list[float], text: Words) -> list[Series]:
    known = [(n, each.y) for n, each in zip(x, history, strict=True) if each.y is not None]
    target = Series(text("target"), [n for n, _ in known], [float(y) for _, y in known], dashed=True)
    return [Series(text("prediction"), x, [each.yhat for each in history]), *([target] if known else [])]


def alert_section(message: dict[str, Any], language: Language = "en") -> Section:
    """Return the section of an alert's own fields, by the names that they have in the message."""
    text = words(language)
    rows: list[list[Cell]] = [[name, str(message[name])] for name in FIELDS if message.get(name) is not None]
    tables = [Table("", [text("field"), text("value")], rows)]
    for name, title, columns in (
        ("contributions", "contributed", ("feature", "share")),
        ("weight_change", "moved", ("feature", "before", "after")),
        ("heads", "believed", ("head", "weight")),
        ("targets", "targets", ("target", "score")),
        ("entities", "entities", ("entity", "score")),
    ):
        listed = message.get(name)
        if listed:
            content: list[list[Cell]] = [[_cell(each.get(c), c, text) for c in columns] for each in listed]
            tables.append(Table(text(title), [text(c) for c in columns], content))
    return Section(text("alert"), tables=tables)


def _cell(value: Any, column: str, text: Words) -> Cell:
    if isinstance(value, int | float):
        return value
    return text.name(str(value)) if column in ("feature", "head") else str(value)


def explain_html(
    title: str, verdict: str, good: bool | None, sections: Sequence[Section], language: Language = "en"
) -> str:
    """Return the page.

    Args:
        verdict: of the replay, in words
        good: whether the replay gave the same alert; None: there was nothing to compare with
    """
    return render("explanation.html.j2", title=title, sections=sections, verdict=verdict, ok=good, language=language)
