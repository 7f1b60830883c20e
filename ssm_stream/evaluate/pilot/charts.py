"""Charts of the pilot report as inline SVG, coloured by the page's style so that they follow dark and light.

Drawn 400 wide, for a column of a phone or a third of a desktop: text keeps its size. Long series are drawn by the
smallest and largest value of each stretch, so that no peak is lost and a file stays small.
"""

from __future__ import annotations

import datetime
import itertools
import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple
from zoneinfo import ZoneInfo

import numpy as np

from ssm_stream.evaluate.pilot.run import Floats, Ints
from ssm_stream.evaluate.report.html import Axis, short

WIDTH, HEIGHT = 400, 180
LEFT, RIGHT, TOP, BOTTOM = 48, 10, 10, 24
STRETCHES = 220
STEPS = (1, 5, 15, 60, 300, 900, 3600, 3 * 3600, 6 * 3600, 86_400, 2 * 86_400, 7 * 86_400, 14 * 86_400, 30 * 86_400,
         91 * 86_400, 183 * 86_400, 365 * 86_400, 730 * 86_400)  # fmt: skip
TICKS = 5


class Line(NamedTuple):
    """A line of a chart; `look` is its class in the style: value, hat, band, frozen, squares, level."""

    look: str
    x: Floats
    y: Floats


class Mark(NamedTuple):
    """A vertical line at x; `look`: anomaly or drift."""

    x: float
    look: str


def envelope(x: Floats, y: Floats, stretches: int = STRETCHES) -> tuple[Floats, Floats]:
    """The smallest and the largest point of each stretch, in the order in which they come; all where they are few."""
    known = np.isfinite(y)
    x, y = x[known], y[known]
    if len(y) <= 2 * stretches:
        return x, y
    edges = np.linspace(0, len(y), stretches + 1).astype(int)
    low = np.array([a + int(np.argmin(y[a:b])) for a, b in itertools.pairwise(edges)])
    high = np.array([a + int(np.argmax(y[a:b])) for a, b in itertools.pairwise(edges)])
    at = np.unique(np.concatenate([low, high]))
    return x[at], y[at]


def _path(x: Floats, y: Floats, across: Axis, up: Axis) -> str:
    """A line that is broken where y is not known."""
    parts, pen = list[str](), "M"
    for a, b in zip(x.tolist(), y.tolist(), strict=True):
        if math.isfinite(b):
            parts.append(f"{pen}{across(a):.1f} {up(b):.1f}")
            pen = "L"
        else:
            pen = "M"
    return "".join(parts)


def _bounds(lines: Iterable[Line]) -> list[float]:
    """What the y axis must show. A band may be far wider than what lies in it: it is cut at three times the spread."""
    lines = list(lines)
    core = [line.y[np.isfinite(line.y)] for line in lines if line.look != "band"]
    inside = np.concatenate(core) if core else np.zeros(0)
    if not len(inside):
        return [0.0, 1.0]
    low, high = float(inside.min()), float(inside.max())
    room = (high - low) or abs(high) or 1.0
    for line in lines:
        known = line.y[np.isfinite(line.y)]
        if line.look == "band" and len(known):
            low = max(min(low, float(known.min())), float(inside.min()) - room)
            high = min(max(high, float(known.max())), float(inside.max()) + room)
    return [low, high]


def chart(
    lines: Sequence[Line],
    label: str,
    *,
    zone: str | None = None,
    band: tuple[Floats, Floats, Floats] | None = None,
    shaded: Sequence[tuple[float, float, str]] = (),
    marks: Sequence[Mark] = (),
    level: float | None = None,
    low: float | None = None,
    log: bool = False,
    height: int = HEIGHT,
) -> str:
    """An SVG; empty where there is nothing to draw.

    Args:
        label: what it shows, for those who do not see it
        zone: x is time, ms, shown in this zone; None: x is a number
        band: x, lower, upper
        shaded: stretches of x and their class: event or learning
        level: a horizontal line; low: the least that the y axis shows; log: whether that is logarithmic
    """
    if log:
        lines = [line._replace(y=np.where(line.y > 0.0, line.y, np.nan)) for line in lines]
    shown = [line for line in lines if np.isfinite(line.y).any()]
    if not shown:
        return ""
    edges = [] if band is None else [Line("band", band[0], band[1]), Line("band", band[0], band[2])]
    xs = np.concatenate([line.x for line in shown])
    ys = _bounds([*shown, *edges]) + ([] if level is None else [level]) + ([] if low is None else [low])
    across = Axis([float(xs.min()), float(xs.max())], False, LEFT, WIDTH - RIGHT)
    up = Axis(ys, log, height - BOTTOM, TOP)
    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(label)}">']
    for left, right, look in shaded:
        a, b = max(across(left), LEFT), min(across(right), WIDTH - RIGHT)
        if b >= LEFT and a <= WIDTH - RIGHT:
            box = f'x="{a:.1f}" y="{TOP}" width="{max(b - a, 1.5):.1f}" height="{height - BOTTOM - TOP}"'
            parts.append(f'<rect class="{look}" {box}/>')
    values = up.ticks if len(up.ticks) <= 4 else up.ticks[:: math.ceil(len(up.ticks) / 4)]
    for t in values:
        y = up(t)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{_short(t)}</text>')
    for x, text in _x_ticks(across, zone):
        parts.append(f'<text x="{across(x):.1f}" y="{height - BOTTOM + 15}" text-anchor="middle">{escape(text)}</text>')
    parts.append(f'<path class="axis" d="M{LEFT} {height - BOTTOM}H{WIDTH - RIGHT}"/>')
    if band is not None:
        along, lower, upper = band
        known = np.isfinite(lower) & np.isfinite(upper)
        floor, roof = up.low, up.high
        top = [
            f"{across(a):.1f} {up(min(max(b, floor), roof)):.1f}"
            for a, b in zip(along[known].tolist(), upper[known].tolist(), strict=True)
        ]
        back = [
            f"{across(a):.1f} {up(min(max(b, floor), roof)):.1f}"
            for a, b in zip(along[known][::-1].tolist(), lower[known][::-1].tolist(), strict=True)
        ]
        if top:
            parts.append(f'<path class="band" d="M{"L".join([*top, *back])}Z"/>')
    if level is not None:
        parts.append(f'<path class="level" d="M{LEFT} {up(level):.1f}H{WIDTH - RIGHT}"/>')
    parts += [f'<path class="line {line.look}" d="{_path(line.x, line.y, across, up)}"/>' for line in shown]
    parts += [
        f'<path class="mark {mark.look}" d="M{across(mark.x):.1f} {TOP}V{height - BOTTOM}"/>'
        for mark in marks
        if across.low <= mark.x <= across.high
    ]
    return "".join(parts) + "</svg>"


def _short(value: float) -> str:
    return short(value).replace("-", "−")


def _x_ticks(across: Axis, zone: str | None) -> list[tuple[float, str]]:
    if zone is None:
        found = across.ticks if len(across.ticks) <= TICKS + 1 else across.ticks[::2]
        return [(t, _short(t)) for t in found]
    span = (across.high - across.low) / 1000.0
    step = next((s for s in STEPS if span / s <= TICKS), STEPS[-1] * math.ceil(span / STEPS[-1] / TICKS))
    here = ZoneInfo(zone)
    shift = datetime.datetime.fromtimestamp(across.low / 1000.0, here).utcoffset() or datetime.timedelta()
    offset = shift.total_seconds()
    first = math.ceil((across.low / 1000.0 + offset) / step) * step - offset
    out = list[tuple[float, str]]()
    while first * 1000.0 <= across.high and len(out) < 2 * TICKS:
        at = datetime.datetime.fromtimestamp(first, here)
        form = "%Y-%m" if step >= 30 * 86_400 else "%m-%d" if step >= 86_400 else "%H:%M" if step >= 60 else "%H:%M:%S"
        x = min(max(first * 1000.0, across.low), across.high)
        if LEFT + 12 <= across(x) <= WIDTH - RIGHT - 12:
            out.append((x, at.strftime(form)))
        first += step
    return out


def bar(value: float | None, low: float | None, high: float | None, most: float, own: bool) -> str:
    """A cell's bar from 0 to `most`, its range as a line, and a mark at 1."""
    if value is None:
        return ""
    scale = 200.0 / most
    width = min(value, most) * scale
    parts = ['<svg class="bar" viewBox="0 0 202 16" aria-hidden="true">']
    parts.append(f'<rect class="{"own" if own else "other"}" x="0" y="3" width="{width:.1f}" height="10"/>')
    parts.append(f'<path class="one" d="M{min(scale, 200.0):.1f} 0V16"/>')
    if low is not None and high is not None:
        parts.append(f'<path class="whisker" d="M{min(low, most) * scale:.1f} 8H{min(high, most) * scale:.1f}"/>')
    if value > most:
        parts.append('<path class="beyond" d="M196 2l5 6l-5 6"/>')
    return "".join(parts) + "</svg>"


def times(ts: Ints) -> Floats:
    """As floats, ms."""
    return ts.astype(np.float64)
