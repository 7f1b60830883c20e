"""How the pilot report writes figures, times, tables and names: in one language, always escaped."""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from html import escape
from typing import Any
from zoneinfo import ZoneInfo

from ssm_stream.evaluate.pilot.words import Language, Words
from ssm_stream.evaluate.report.html import number

MISSING = "–"
MONEY = (
    "saved",
    "saved_low",
    "saved_high",
    "saved_random",
    "apart",
    "money",
    "saved_loss",
    "saved_low_loss",
    "saved_high_loss",
)
WAYS = ("today", "rival", "best")
LONG = ("why", "quality.where")
"""Columns whose text may take several lines."""


class Format:
    """report: as `Pilot.report`; figures are taken from it by path, and marked with it, so that page and JSON agree."""

    def __init__(self, report: dict[str, Any], language: Language) -> None:
        self.report, self.words = report, Words(language)
        self.currency = str(report["costs"]["currency"])
        self.zone = ZoneInfo(report["recording"]["time_zone"])
        every = [each["interval_s"] or 60.0 for each in report.get("quality", {}).get("by_entity", ())]
        self.seconds = min(every, default=60.0) < 60.0

    # Figures as text.

    def number(self, value: float | None) -> str:
        """Four digits at most; a count as it is."""
        if value is None or not math.isfinite(value):
            return MISSING
        whole = isinstance(value, int) or (abs(value) >= 100 and value == int(value))
        if whole:
            return f"{int(value):,}".replace("-", "−")
        text = number(float(value))
        return text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text

    def brief(self, value: float | None) -> str:
        """Three digits at most."""
        if value is None or not math.isfinite(value) or value == 0:
            return self.number(value)
        digits = 2 - math.floor(math.log10(abs(value)))
        return self.number(round(value, digits))

    def money(self, value: float | None) -> str:
        """An amount, to three digits."""
        if value is None or not math.isfinite(value):
            return MISSING
        rounded = 0.0 if value == 0 else round(value, max(2 - math.floor(math.log10(abs(value))), -15))
        text = f"{abs(rounded):,.2f}".rstrip("0").rstrip(".")
        return f"{self.currency} {'−' if rounded < 0 else ''}{text}"

    def percent(self, value: float | None) -> str:
        """A share; as many digits as tell it from 0 and 1."""
        if value is None or not math.isfinite(value):
            return MISSING
        if 0.0 < value < 0.001:
            return f"{self.brief(100 * value)} %"
        return f"{100 * value:.1f} %" if 0.0 < value < 0.1 or 0.9 < value < 1.0 else f"{100 * value:.0f} %"

    def duration(self, hours: float | None) -> str:
        """In the unit that a person would use."""
        if hours is None or not math.isfinite(hours):
            return MISSING
        for unit, size in (("d", 24.0), ("h", 1.0), ("min", 1 / 60)):
            if hours >= 1.5 * size or (unit == "min" and hours >= size):
                return self.words(f"unit.{unit}", n=self.brief(round(hours / size, 1)))
        return self.words("unit.s", n=self.brief(round(hours * 3600, 1)))

    def time(self, ms: int | None) -> str:
        """Local date and time, with seconds where events come faster than once a minute."""
        if ms is None:
            return MISSING
        form = "%Y-%m-%d %H:%M:%S" if self.seconds else "%Y-%m-%d %H:%M"
        return datetime.datetime.fromtimestamp(ms / 1000.0, self.zone).strftime(form)

    def way(self, name: str) -> str:
        """A way to predict or to alarm."""
        return self.words(f"method.{name}")

    def sentence(self, key: str, said: dict[str, Any]) -> str:
        """A sentence of the verdict, not escaped."""
        said = {**said, **{f"{k}_loss": None if v is None else -v for k, v in said.items() if k.startswith("saved")}}
        filled = {}
        for name, value in said.items():
            if name in MONEY:
                filled[name] = self.money(value)
            elif name in WAYS:
                filled[name] = self.way(value) if value else MISSING
            elif name in ("share", "covered", "level"):
                filled[name] = self.percent(value)
            elif name == "delay":
                filled[name] = self.duration(value)
            else:
                filled[name] = self.brief(value) if isinstance(value, float) else self.number(value)
        return self.words(key, **filled)

    # Figures as HTML.

    def at(self, path: str) -> Any:
        """What stands at a path of the report, such as `kpis.saved.value`."""
        value: Any = self.report
        for part in path.split("."):
            value = value[int(part)] if isinstance(value, list) else None if value is None else value[part]
        return value

    def figure(self, path: str, how: str = "number") -> str:
        """A figure as it is shown, with its whole value and its place in report.json."""
        value = self.at(path)
        if value is None:
            return MISSING
        return f'<data value="{value!r}" data-at="{escape(path)}">{escape(getattr(self, how)(value))}</data>'

    def range_of(self, path: str, how: str = "number") -> str:
        """Its range, where there is one."""
        if self.at(f"{path}.low") is None or self.at(f"{path}.high") is None:
            return escape(self.words("no_range"))
        low, high = self.figure(f"{path}.low", how), self.figure(f"{path}.high", how)
        return self.words("range", low=low, high=high)

    def cell(self, path: str, how: str = "number") -> str:
        """A figure and its range, small."""
        if self.at(f"{path}.value") is None:
            return MISSING
        small = "" if self.at(f"{path}.low") is None else f"<br><small>{self.range_of(path, how)}</small>"
        return self.figure(f"{path}.value", how) + small

    def text(self, key: str, **filled: object) -> str:
        """Words, escaped with what is filled in."""
        return escape(self.words(key, **filled))


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def table(
    f: Format,
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    left: Sequence[int] = (),
    own: Sequence[int] = (),
    *,
    named: bool = True,
) -> str:
    """A table with a caption, its first column the rows' headers.

    Args:
        title: for the caption, and to name the part that scrolls; columns: keys of `pilot_words`, `col.…` or whole ones
        rows: cells, text unless `Html`; left: columns that are words; own: rows in bold
        named: whether the caption is seen; else it is only heard, as the heading says the same
    """
    heads = [f.words(c if "." in c else f"col.{c}") for c in columns]
    head = "".join(
        f'<th scope="col"{" class=left" if j == 0 or j in left else ""}>{escape(name)}</th>'
        for j, name in enumerate(heads)
    )
    body = []
    for i, row in enumerate(rows):
        cells = []
        for j, cell in enumerate(row):
            shown = cell if isinstance(cell, Html) else escape(str(cell))
            if j == 0:
                cells.append(f'<th scope="row" class="name">{shown}</th>')
            else:
                look = "why" if columns[j] in LONG else "left" if j in left else ""
                cells.append(f'<td class="{look}">{shown}</td>' if look else f"<td>{shown}</td>")
        body.append(f"<tr{' class=own' if i in own else ''}>{''.join(cells)}</tr>")
    caption = "<caption>" if named else '<caption class="heard">'
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(title)}"><table>{caption}{escape(title)}'
        f"</caption><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def figure(caption: str, svg: str) -> str:
    """A chart with its caption (HTML already); nothing without a chart."""
    return f"<figure>{svg}<figcaption>{caption}</figcaption></figure>" if svg else ""


def legend(f: Format, *entries: tuple[str, str]) -> str:
    """Samples of line looks beside their words. entries: class and key"""
    parts = []
    for look, key in entries:
        if look in ("event", "learning", "band"):
            sample = f'<rect class="{look}" x="0" y="0" width="26" height="12"/>'
        elif look in ("anomaly", "drift"):
            sample = f'<path class="mark {look}" d="M13 0V12"/>'
        elif look == "level":
            sample = '<path class="level" d="M0 6H26"/>'
        else:
            sample = f'<path class="line {look}" d="M0 6H26"/>'
        parts.append(f'<span><svg viewBox="0 0 26 12" aria-hidden="true">{sample}</svg>{f.text(key)}</span>')
    return f'<div class="legend">{"".join(parts)}</div>'
