"""The content of a report: checks, tables, charts and the sentences between them."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Check:
    """One figure against its bar."""

    name: str
    value: float
    relation: str
    """`<=` or `>=`: what the value must be to the bar."""
    bar: float

    @property
    def ok(self) -> bool:
        """Whether the value meets the bar. A value that is not a number does not."""
        if math.isnan(self.value):
            return False
        return self.value <= self.bar if self.relation == "<=" else self.value >= self.bar

    @property
    def bar_text(self) -> str:
        """The bar with its relation."""
        return f"{'≤' if self.relation == '<=' else '≥'} {self.bar:g}"

    def row(self) -> dict[str, str | float | bool | None]:
        """Return the row that `--json` prints; a value that is not finite becomes null, as JSON has no such number."""
        value = self.value if math.isfinite(self.value) else None
        return {"name": self.name, "value": value, "relation": self.relation, "bar": self.bar, "ok": self.ok}


def at_most(name: str, value: float, bar: float) -> Check:
    """Return the check that value ≤ bar."""
    return Check(name, float(value), "<=", bar)


def at_least(name: str, value: float, bar: float) -> Check:
    """Return the check that value ≥ bar."""
    return Check(name, float(value), ">=", bar)


Cell = str | float | int
"""A table's cell; floats are rounded by the report, not before."""
COLOURS = 8
"""Styles `s0` … `s7` of `style.css`, for the series of a chart."""


@dataclass
class Table:
    """Columns and rows, and a line under them."""

    title: str
    columns: list[str]
    rows: list[list[Cell]]
    note: str = ""


@dataclass
class Series:
    """A line or a set of points of a chart."""

    name: str
    x: list[float]
    y: list[float]
    dashed: bool = False
    """For targets and other lines that were not measured."""

    def style(self, index: int) -> str:
        """Return the classes in `style.css` of the series at that place of its chart."""
        return f"s{index % COLOURS}{' dashed' if self.dashed else ''}"


@dataclass
class Chart:
    """An x–y chart."""

    title: str
    x: str
    y: str
    series: list[Series]
    log_x: bool = False
    log_y: bool = False

    def legend(self) -> list[tuple[str, str]]:
        """Return the style and the name of each series."""
        return [(series.style(index), series.name) for index, series in enumerate(self.series)]


@dataclass
class Section:
    """A chapter of the report. `text` holds its paragraphs; tables and charts follow them."""

    title: str
    text: list[str] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    charts: list[Chart] = field(default_factory=list)
    seconds: float = 0.0
    """Wall-clock time of the experiment."""

    def as_json(self) -> dict[str, Any]:
        """Return the section as dictionaries and lists."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Section:
        """Return the section that `as_json` returned as `data`. Raises KeyError or TypeError if it is none."""
        return cls(
            title=data["title"],
            text=list(data["text"]),
            checks=[Check(**c) for c in data["checks"]],
            tables=[Table(**t) for t in data["tables"]],
            charts=[Chart(**{**c, "series": [Series(**s) for s in c["series"]]}) for c in data["charts"]],
            seconds=data["seconds"],
        )
