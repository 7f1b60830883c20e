"""The report as one HTML file: text, tables and SVG charts, no scripts and nothing to fetch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape

from ssm_stream.evaluate.report.section import Cell, Chart, Check, Section, Table

WIDTH, HEIGHT = 560, 320
LEFT, RIGHT, TOP, BOTTOM = 64, 14, 12, 46
COLOURS = ("#1f6feb", "#d1570a", "#2a8f4f", "#8250df", "#b8236b", "#5a6572", "#0f8b8d", "#9a6b00")

STYLE = """
body{font:16px/1.55 system-ui,sans-serif;color:#1b1f24;max-width:72rem;margin:2rem auto;padding:0 1.2rem}
h1{font-size:1.9rem;line-height:1.2}h2{margin-top:3rem;border-top:1px solid #d0d7de;padding-top:1.2rem}
h3{font-size:1rem;margin:1.6rem 0 .4rem}p{max-width:48rem}.lead{font-size:1.1rem}
table{border-collapse:collapse;font-size:.88rem;font-variant-numeric:tabular-nums;margin:.4rem 0}
th,td{padding:.28rem .7rem;text-align:right;border-bottom:1px solid #e4e8ec}
th:first-child,td:first-child,td.word{text-align:left}th{background:#f6f8fa;font-weight:600}
.scroll{overflow-x:auto}.ok{color:#1a7f37;font-weight:600}.miss{color:#b42318;font-weight:600}
.note,figcaption{color:#57606a;font-size:.88rem}.charts{display:flex;flex-wrap:wrap;gap:1rem 2rem}
figure{margin:1rem 0;max-width:560px}svg{width:100%;height:auto}nav{columns:2;max-width:48rem;font-size:.92rem}
.legend{display:flex;flex-wrap:wrap;gap:.2rem 1rem;font-size:.82rem}.legend i{display:inline-block;width:1.4rem;
border-top:3px solid;vertical-align:middle;margin-right:.35rem}.legend i.dashed{border-top-style:dashed}
@media print{h2{break-after:avoid}figure,table{break-inside:avoid}}
"""


def number(value: Cell) -> str:
    """A cell as text: four significant digits, powers of ten where the number is tiny or huge."""
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return f"{value:,}"
    if value == 0.0:
        return "0"
    if not math.isfinite(value):
        return "not finite"
    if abs(value) < 1e-3 or abs(value) >= 1e6:
        return f"{value:.1e}".replace("-", "−")
    digits = max(0, 3 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}".replace("-", "−")


def table_html(table: Table) -> str:
    """A table, its title above and its note below."""
    head = "".join(f"<th>{escape(column)}</th>" for column in table.columns)
    rows = "".join(
        "<tr>"
        + "".join(f"<td{' class=word' if isinstance(cell, str) else ''}>{escape(number(cell))}</td>" for cell in row)
        + "</tr>"
        for row in table.rows
    )
    title = f"<h3>{escape(table.title)}</h3>" if table.title else ""
    note = f"<p class=note>{escape(table.note)}</p>" if table.note else ""
    return f"{title}<div class=scroll><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>{note}"


def check_rows(checks: Iterable[Check]) -> str:
    """The table of checks."""
    rows = "".join(
        f"<tr><td>{escape(c.name)}</td><td>{number(c.value)}</td>"
        f"<td>{'≤' if c.relation == '<=' else '≥'} {c.bar:g}</td>"
        f"<td class={'ok' if c.ok else 'miss'}>{'met' if c.ok else 'missed'}</td></tr>"
        for c in checks
    )
    head = "<tr><th>check</th><th>value</th><th>bar</th><th>result</th></tr>"
    return f"<div class=scroll><table><thead>{head}</thead><tbody>{rows}</tbody></table></div>"


# --- charts -----------------------------------------------------------------------------------------------------------


def ticks(low: float, high: float, log: bool) -> list[float]:
    """Round numbers within [low, high], four to eight of them."""
    if log:
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        steps = (1,) if last - first > 4 else (1, 2, 5) if last - first > 1 else (1, 1.5, 2, 3, 4, 5, 7)
        found = [step * 10.0**power for power in range(first, last + 1) for step in steps]
    else:
        raw = (high - low) / 5 or 1.0
        scale = 10.0 ** math.floor(math.log10(raw))
        step = next(s * scale for s in (1, 2, 2.5, 5, 10) if s * scale >= raw)
        start = math.ceil(low / step)
        found = [step * (start + index) for index in range(12)]
    inside = [t for t in found if low * (1 - 1e-9) - 1e-12 <= t <= high * (1 + 1e-9) + 1e-12]
    return inside or [low, high]


class Axis:
    """Maps values of one direction to pixels."""

    def __init__(self, values: Sequence[float], log: bool, start: float, end: float) -> None:
        """Pixels `start` and `end` are those of the smallest and largest value. Log axes need positive values."""
        self.log = log
        self.low, self.high = min(values), max(values)
        if not log:
            room = 0.04 * (self.high - self.low) or 1.0
            self.low, self.high = self.low - (room if start > end else 0.0), self.high + (room if start > end else 0.0)
        elif self.high / self.low < 1.01:
            self.low, self.high = self.low / 1.5, self.high * 1.5
        if self.low == self.high:
            self.high = self.low + 1.0
        self.start, self.end = start, end

    def __call__(self, value: float) -> float:
        """Pixel of a value."""
        low, high, at = self.low, self.high, value
        if self.log:
            low, high, at = math.log(low), math.log(high), math.log(at)
        return self.start + (at - low) / (high - low) * (self.end - self.start)

    @property
    def ticks(self) -> list[float]:
        """Values to label."""
        return ticks(self.low, self.high, self.log)


def short(value: float) -> str:
    """A tick's label."""
    return f"{value:.0e}" if value and (abs(value) < 1e-3 or abs(value) >= 1e5) else f"{value:g}"


def chart_svg(chart: Chart) -> str:
    """A chart as an SVG figure with a legend. Points that a log axis cannot show are left out."""

    def shown(x: float, y: float) -> bool:
        return math.isfinite(y) and (x > 0 or not chart.log_x) and (y > 0 or not chart.log_y)

    lines = [[(x, y) for x, y in zip(s.x, s.y, strict=True) if shown(x, y)] for s in chart.series]
    points = [point for line in lines for point in line]
    if not points:
        return ""
    x_axis = Axis([p[0] for p in points], chart.log_x, LEFT, WIDTH - RIGHT)
    y_axis = Axis([p[1] for p in points], chart.log_y, HEIGHT - BOTTOM, TOP)
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(chart.title)}" font-size="12" '
        'font-family="system-ui,sans-serif" fill="#57606a">'
    ]
    for t in y_axis.ticks:
        y = y_axis(t)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#e4e8ec"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{short(t)}</text>')
    for t in x_axis.ticks:
        x = x_axis(t)
        parts.append(f'<path d="M{x:.1f} {HEIGHT - BOTTOM}v5" stroke="#8c959f"/>')
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{short(t)}</text>')
    parts.append(f'<path d="M{LEFT} {HEIGHT - BOTTOM}H{WIDTH - RIGHT}" stroke="#8c959f"/>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{escape(chart.x)}</text>')
    parts.append(
        f'<text transform="translate(14 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" text-anchor="middle">'
        f"{escape(chart.y)}</text>"
    )
    legend = []
    for index, (series, line) in enumerate(zip(chart.series, lines, strict=True)):
        colour = COLOURS[index % len(COLOURS)]
        path = "M" + "L".join(f"{x_axis(x):.1f} {y_axis(y):.1f}" for x, y in line) if line else ""
        dash = ' stroke-dasharray="6 4"' if series.dashed else ""
        parts.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
        if len(line) <= 16 and not series.dashed:
            parts += [f'<circle cx="{x_axis(x):.1f}" cy="{y_axis(y):.1f}" r="3.5" fill="{colour}"/>' for x, y in line]
        style = "dashed" if series.dashed else "solid"
        legend.append(f'<span><i class={style} style="border-color:{colour}"></i>{escape(series.name)}</span>')
    parts.append("</svg>")
    caption = f"<figcaption>{escape(chart.title)}</figcaption>"
    return f"<figure>{caption}{''.join(parts)}<div class=legend>{''.join(legend)}</div></figure>"


# --- the page ---------------------------------------------------------------------------------------------------------


def section_html(section: Section, anchor: str) -> str:
    """A chapter: text, checks, tables, charts."""
    text = "".join(f"<p>{escape(paragraph)}</p>" for paragraph in section.text)
    checks = f"<h3>Checks</h3>{check_rows(section.checks)}" if section.checks else ""
    tables = "".join(table_html(table) for table in section.tables)
    charts = "".join(chart_svg(chart) for chart in section.charts)
    took = f"<p class=note>Measured in {section.seconds:.0f} s.</p>"
    return (
        f'<section id="{anchor}"><h2>{escape(section.title)}</h2>{text}{tables}'
        f"<div class=charts>{charts}</div>{checks}{took}</section>"
    )


def report_html(sections: Sequence[Section], description: str) -> str:
    """The whole report. description: one line on the run, such as device and versions."""
    checks = [check for section in sections for check in section.checks]
    missed = [check for check in checks if not check.ok]
    verdict = (
        f"All {len(checks)} checks are met."
        if not missed
        else f"{len(missed)} of {len(checks)} checks are missed: {'; '.join(check.name for check in missed)}."
    )
    links = "".join(f'<li><a href="#s{i}">{escape(s.title)}</a></li>' for i, s in enumerate(sections))
    chapters = "".join(section_html(section, f"s{i}") for i, section in enumerate(sections))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>State space models learn in context by gradient descent: measured</title><style>{STYLE}</style></head>"
        "<body><h1>State space models learn in context by gradient descent: measured</h1>"
        "<p class=lead>The layer of ssm-stream's reference model, after arXiv 2410.11687, against explicit gradient "
        f"descent, closed forms and other layers. {escape(verdict)}</p>"
        "<p>A loss is ½ of the mean squared error of the prediction for the query. Inputs are uniform in (−½, ½), "
        "weights normal, ten inputs and ten examples without noise, unless a chapter says otherwise. Every predictor "
        "of a table is tested on the same fresh tasks.</p>"
        f"<p class=note>{escape(description)}</p><nav><ol>{links}</ol></nav>"
        f'{chapters}<section id="checks"><h2>All checks</h2>{check_rows(checks)}</section></body></html>\n'
    )
