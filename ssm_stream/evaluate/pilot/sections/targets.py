"""The signals one by one, where there are several: how each is predicted, and which alarms it started."""

from __future__ import annotations

from typing import Any

from ssm_stream.evaluate.pilot.format import Format
from ssm_stream.evaluate.pilot.sections.layout import Cell, Figure, Section, Table

METHODS = ("product", "persistence", "seasonal", "mean", "frozen", "least_squares")
MAX_TABLES = 64
"""Signals with a table of their own: as many as there can be."""


def has_several(report: dict[str, Any]) -> bool:
    """Return whether a report has several targets."""
    return "targets" in report


def section(f: Format) -> Section:
    """Return the section `Signal by signal`."""
    rows, labelled = f.report["targets"], f.report["targets"][0]["false"] is not None
    columns = ["relative", "targets.best", "coverage", "targets.alarms", "anomalies", "drifts"]
    columns += ["targets.right", "false"] if labelled else []
    keys = [("relative", "brief"), ("product_over_it.value", "brief"), ("coverage", "percent"), ("alarms", "number")]
    keys += [("anomaly_alarms", "number"), ("drift_alarms", "number")]
    keys += [("right", "number"), ("false", "number")] if labelled else []
    overview = list[list[Cell]]()
    for i, row in enumerate(rows):
        known = [
            ("", "") if key.startswith("product") and row["best_simple"] is None else (key, how) for key, how in keys
        ]
        overview.append([row["target"], *(Figure(f"targets.{i}.{key}", how) if key else "–" for key, how in known)])
    tables = [Table("targets", ("targets.signal", *columns), overview)]
    tables += [_methods(f, i, row) for i, row in enumerate(rows[:MAX_TABLES])]
    return Section("targets", [f.text("targets.text", signals=f.number(len(rows)))], tables, [f.text("targets.note")])


def _methods(f: Format, i: int, row: dict[str, Any]) -> Table:
    """Return the table of one signal: each way to predict it."""
    cells = list[list[Cell]]()
    for name in METHODS:
        if name not in row["methods"]:
            continue
        at = f"targets.{i}.methods.{name}"
        over: Cell = "–" if name == "product" else Figure(f"{at}.product_over_it", "brief")
        cells.append([f.method(name), Figure(f"{at}.relative", "brief"), over, Figure(f"{at}.mae")])
    return Table("targets.one", ("way", "relative", "ratio", "mae"), cells, caption=row["target"])
