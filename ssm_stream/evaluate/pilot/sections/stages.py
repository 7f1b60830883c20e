"""Go or not, for each stage of the introduction: figures against bars that were set beforehand."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from ssm_stream.evaluate.pilot.costs import Bars, Costs
from ssm_stream.evaluate.pilot.costs import Figure as FigureName
from ssm_stream.evaluate.pilot.format import Format
from ssm_stream.evaluate.pilot.sections.layout import Cell, Figure, Section, Table
from ssm_stream.evaluate.pilot.verdict import COVERAGE_OFF, MIN_EVENTS, MIN_TRUE

STAGES = ("task", "field", "fleet")
Result = Literal["go", "no", "open", "later"]


class Source(NamedTuple):
    """Where a figure stands in the report, what it must be to its bar, and how it is written."""

    path: str
    relation: Literal["<=", ">="]
    how: str = "brief"


SOURCES: dict[FigureName, Source] = {
    "judged_events": Source("recording.judged_events", ">=", "number"),
    "error_ratio": Source("errors.methods.{best}.product_over_it.high", "<="),
    "coverage_off": Source("coverage.off", "<=", "points"),
    "true_events": Source("detection.events", ">=", "number"),
    "recall": Source("detection.methods.product.recall.value", ">=", "percent"),
    "false_share": Source("headline.false_detection.rate.value", "<=", "percent"),
    "false_a_week": Source("headline.false_detection.amount.value", "<="),
    "usable": Source("explainable.share", ">=", "percent"),
    "settings": Source("upkeep.touched", "<=", "number"),
    "saved_share": Source("headline.cost_saved.rate.low", ">=", "percent"),
    "productivity": Source("headline.productivity.rate.low", ">=", "percent"),
    "over_random": Source("kpis.saved_against_random.low", ">=", "money"),
    "cores": Source("machines.fleet.cores", "<=", "number"),
    "memory_gb": Source("machines.fleet.memory_gb", "<=", "gigabytes"),
    "growth": Source("upkeep.state.growth", "<="),
}
DEFAULTS: dict[str, Bars] = {
    "task": {"judged_events": MIN_EVENTS, "error_ratio": 1.0, "coverage_off": COVERAGE_OFF},
    "field": {"true_events": MIN_TRUE, "recall": 0.5, "false_share": 0.5, "usable": 0.8},
    "fleet": {"productivity": 0.0, "saved_share": 0.0, "over_random": 0.0, "cores": 8, "memory_gb": 32, "growth": 1.1},
}
"""Bars by stage, where the file of costs has no other."""


def stages(report: dict[str, Any], costs: Costs) -> list[dict[str, Any]]:
    """Return the stages in their order, each with its bars and whether to go. report: with all other figures

    A stage is `open` where a figure is missing and no other misses its bar, and `later` where it meets its own bars but
    the stage before is not a go.
    """
    out, before = list[dict[str, Any]](), "go"
    for name in STAGES:
        given: Bars = getattr(costs.stages, name)
        bars = [
            _bar(report, key, bar, key in given) for key, bar in {**DEFAULTS[name], **given}.items() if bar is not None
        ]
        results = {each["result"] for each in bars}
        own: Result = "no" if "no" in results else "open" if "open" in results else "go"
        result = "later" if own == "go" and before != "go" else own
        out.append({"stage": name, "result": result, "bars": bars})
        before = result
    return out


def _bar(report: dict[str, Any], key: FigureName, bar: float, given: bool) -> dict[str, Any]:
    source = SOURCES[key]
    best = report["errors"]["best_simple"]
    path = source.path.format(best=best)
    value: Any = report
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    met = value is not None and (value <= bar if source.relation == "<=" else value >= bar)
    if key == "over_random" and report["headline"]["cost_saved"]["missing"]:
        value = None  # no sum of money is claimed
    result: Result = "open" if value is None else "go" if met else "no"
    return {
        "figure": key, "path": path, "value": value, "relation": source.relation, "bar": float(bar), "given": given,
        "result": result,
    }  # fmt: skip


def unmet(f: Format, stage: dict[str, Any]) -> str:
    """Return the figures for which a stage is not a go: those that miss their bars with both, then those not known."""
    missed = [
        f.text(
            "stage.unmet",
            figure=f.text(f"bar.{each['figure']}"),
            value=_text(f, each["figure"], each["value"]),
            bar=_bar_text(f, each),
        )
        for each in stage["bars"]
        if each["result"] == "no"
    ]
    unknown = [f.text(f"bar.{each['figure']}") for each in stage["bars"] if each["result"] == "open"]
    texts = [f.text("list").join(missed)] if missed else []
    texts += [f.text("stage.unknown", figures=f.text("list").join(unknown))] if unknown else []
    return f.text("list").join(texts)


def _bar_text(f: Format, bar: dict[str, Any]) -> str:
    return f"{'≤' if bar['relation'] == '<=' else '≥'} {_text(f, bar['figure'], bar['bar'])}"


def _text(f: Format, figure: FigureName, value: float) -> str:
    return str(getattr(f, SOURCES[figure].how)(value))


def section(f: Format) -> Section:
    """Return the section `Go or not`."""
    rows = list[list[Cell]]()
    for i, stage in enumerate(f.report["stages"]):
        rows.append([f.text(f"stage.{stage['stage']}"), "", "", f.text(f"stage.{stage['result']}")])
        for k, each in enumerate(stage["bars"]):
            how = SOURCES[each["figure"]].how
            bar = _bar_text(f, each)
            shown = "met" if each["result"] == "go" else "missed" if each["result"] == "no" else "open"
            rows.append(
                [
                    f.text(f"bar.{each['figure']}"),
                    Figure(f"stages.{i}.bars.{k}.value", how),
                    bar if each["given"] else f"{bar} ({f.text('assumed')})",
                    f.text(f"stage.bar_{shown}"),
                ]
            )
    return Section(
        "stages",
        [f.text("stages.text")],
        [Table("stages", ("stages.figure", "value", "how.bar", "how.result"), rows, left=(3,))],
        [f.text("stages.note")],
    )
