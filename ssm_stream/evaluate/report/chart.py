"""The charts of all reports: from values to the geometry that `chart.svg.j2` draws, coloured by `style.css`.

A long series is drawn by the smallest and the largest value of each of its stretches (`envelope`), so that no peak is
lost and a file stays small.
"""

from __future__ import annotations

import datetime
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from ssm_stream.evaluate.report.numbers import tick_label
from ssm_stream.evaluate.report.section import Chart

Floats = NDArray[np.float64]
STRETCHES = 220
STEPS_S = (
    1, 5, 15, 60, 300, 900, 3600, 3 * 3600, 6 * 3600, 86_400, 2 * 86_400, 7 * 86_400, 14 * 86_400, 30 * 86_400,
    91 * 86_400, 183 * 86_400, 365 * 86_400, 730 * 86_400,
)  # fmt: skip
"""Distances of two ticks of a time axis, s."""
MAX_DOTS = 16
"""A series of so many points or fewer shows each as a dot."""


class Frame(NamedTuple):
    """Size and margins of a chart, in pixels, and how many labels its axes have at most."""

    style: str
    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    x_labels: int
    y_labels: int


SMALL = Frame("small", 400, 180, 48, 10, 10, 24, 6, 4)
"""For a column of a phone or a third of a desktop: text keeps its size."""
STRIP = SMALL._replace(height=140)
WIDE = Frame("wide", 560, 320, 64, 14, 12, 46, 16, 16)
"""With titles of the axes."""


class Line(NamedTuple):
    """A line of a chart; it is broken at values that are not finite. style: its class in `style.css`"""

    style: str
    x: Floats
    y: Floats
    dots: bool = False


class Mark(NamedTuple):
    """A vertical line at x; style: anomaly or drift."""

    x: float
    style: str


@dataclass(frozen=True)
class Plot:
    """What a chart shows.

    label: for screen readers; zone: x is time, ms, shown in this zone; None: x is a number
    band: x, lower, upper; shaded: stretches of x and their style, event or learning
    level: a horizontal line; low: a value that the y axis shows in any case
    """

    label: str
    lines: Sequence[Line]
    frame: Frame = SMALL
    zone: str | None = None
    band: tuple[Floats, Floats, Floats] | None = None
    shaded: Sequence[tuple[float, float, str]] = ()
    marks: Sequence[Mark] = ()
    level: float | None = None
    low: float | None = None
    log_x: bool = False
    log_y: bool = False
    x_title: str = ""
    y_title: str = ""


@dataclass(frozen=True)
class Drawing:
    """A chart in pixels: what the template writes down."""

    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    shaded: list[tuple[float, float, str]]
    band: str
    level: float | None
    lines: list[tuple[str, str, list[tuple[float, float]]]]
    marks: list[tuple[float, str]]


def ticks(low: float, high: float, log: bool) -> list[float]:
    """Return round numbers within [low, high], four to eight of them."""
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

    def __init__(self, low: float, high: float, log: bool, start: float, end: float) -> None:
        """Pixels `start` and `end` are those of the smallest and largest value. Log axes need positive values."""
        self.log, self.low, self.high = log, low, high
        if not log:
            room = 0.04 * (high - low) or 1.0
            self.low, self.high = low - (room if start > end else 0.0), high + (room if start > end else 0.0)
        elif high / low < 1.01:
            self.low, self.high = low / 1.5, high * 1.5
        if self.low == self.high:
            self.high = self.low + 1.0
        self.start, self.end = start, end

    def __call__(self, value: float) -> float:
        """Return the pixel of a value."""
        low, high, at = self.low, self.high, value
        if self.log:
            low, high, at = math.log(low), math.log(high), math.log(at)
        return self.start + (at - low) / (high - low) * (self.end - self.start)

    def labels(self, count: int) -> list[tuple[float, str]]:
        """Return pixel and text of at most `count` ticks."""
        values = ticks(self.low, self.high, self.log)
        values = values[:: math.ceil(len(values) / count)]
        return [(self(t), tick_label(t)) for t in values]


def envelope(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Return the smallest and the largest point of each stretch, in their order; all points if they are few."""
    finite = np.isfinite(y)
    x, y = x[finite], y[finite]
    if len(y) <= 2 * STRETCHES:
        return x, y
    edges = np.linspace(0, len(y), STRETCHES + 1).astype(int)
    low = np.array([a + int(np.argmin(y[a:b])) for a, b in itertools.pairwise(edges)])
    high = np.array([a + int(np.argmax(y[a:b])) for a, b in itertools.pairwise(edges)])
    at = np.unique(np.concatenate([low, high]))
    return x[at], y[at]


def plot_of(chart: Chart) -> Plot:
    """Return the plot of a section's chart: each series in its colour, dashed if it was not measured."""
    lines = []
    for index, series in enumerate(chart.series):
        dots = len(series.x) <= MAX_DOTS and not series.dashed
        lines.append(Line(series.style(index), np.array(series.x), np.array(series.y), dots))
    return Plot(
        chart.title, lines, WIDE, log_x=chart.log_x, log_y=chart.log_y, x_title=chart.x, y_title=chart.y
    )  # fmt: skip


def draw(plot: Plot) -> Drawing | None:
    """Return the geometry of a plot; None if it has nothing to draw. A log axis leaves out what is not positive."""
    frame = plot.frame
    lines = [_positive(line, plot) for line in plot.lines]
    shown = [line for line in lines if np.isfinite(line.y).any()]
    if not shown:
        return None
    xs = np.concatenate([line.x[np.isfinite(line.x)] for line in shown])
    low, high = _y_range(shown, plot)
    across = Axis(float(xs.min()), float(xs.max()), plot.log_x, frame.left, frame.width - frame.right)
    up = Axis(low, high, plot.log_y, frame.height - frame.bottom, frame.top)
    shaded = []
    for start, end, style in plot.shaded:
        a, b = max(across(start), frame.left), min(across(end), frame.width - frame.right)
        if b >= frame.left and a <= frame.width - frame.right:
            shaded.append((a, max(b - a, 1.5), style))
    return Drawing(
        across.labels(frame.x_labels) if plot.zone is None else _time_labels(across, plot.zone),
        up.labels(frame.y_labels),
        shaded,
        "" if plot.band is None else _band(plot.band, across, up),
        None if plot.level is None else up(plot.level),
        [(line.style, _path(line, across, up), _dots(line, across, up)) for line in shown],
        [(across(mark.x), mark.style) for mark in plot.marks if across.low <= mark.x <= across.high],
    )


def _positive(line: Line, plot: Plot) -> Line:
    """Return the line without values that a log axis cannot show."""
    hidden = (plot.log_y & (line.y <= 0.0)) | (plot.log_x & (line.x <= 0.0))
    return line._replace(x=np.where(hidden, np.nan, line.x), y=np.where(hidden, np.nan, line.y))


def _y_range(lines: Sequence[Line], plot: Plot) -> tuple[float, float]:
    """Return what the y axis must show. A band wider than the lines is cut at three times their range."""
    inside = np.concatenate([line.y[np.isfinite(line.y)] for line in lines])
    low, high = least, most = float(inside.min()), float(inside.max())
    if plot.band is not None:
        room = (most - least) or abs(most) or 1.0
        for edge in plot.band[1:]:
            known = edge[np.isfinite(edge)]
            if len(known):
                low = max(min(low, float(known.min())), least - room)
                high = min(max(high, float(known.max())), most + room)
    others = [value for value in (plot.level, plot.low) if value is not None]
    return min(low, *others, high), max(low, *others, high)


def _path(line: Line, across: Axis, up: Axis) -> str:
    parts, pen = list[str](), "M"
    for x, y in zip(line.x.tolist(), line.y.tolist(), strict=True):
        if math.isfinite(y):
            parts.append(f"{pen}{across(x):.1f} {up(y):.1f}")
            pen = "L"
        else:
            pen = "M"
    return "".join(parts)


def _dots(line: Line, across: Axis, up: Axis) -> list[tuple[float, float]]:
    points = zip(line.x.tolist(), line.y.tolist(), strict=True) if line.dots else ()
    return [(across(x), up(y)) for x, y in points if math.isfinite(y)]


def _band(band: tuple[Floats, Floats, Floats], across: Axis, up: Axis) -> str:
    x, lower, upper = band
    known = np.isfinite(lower) & np.isfinite(upper)
    x, lower, upper = x[known], np.clip(lower[known], up.low, up.high), np.clip(upper[known], up.low, up.high)
    edge = [*zip(x.tolist(), upper.tolist(), strict=True), *zip(x[::-1].tolist(), lower[::-1].tolist(), strict=True)]
    return f"M{'L'.join(f'{across(a):.1f} {up(b):.1f}' for a, b in edge)}Z" if edge else ""


def _time_labels(across: Axis, zone: str) -> list[tuple[float, str]]:
    """Return pixel and text of ticks at round local times; x is in ms."""
    most = 5
    span = (across.high - across.low) / 1000.0
    step = next((s for s in STEPS_S if span / s <= most), STEPS_S[-1] * math.ceil(span / STEPS_S[-1] / most))
    here = ZoneInfo(zone)
    shift = datetime.datetime.fromtimestamp(across.low / 1000.0, here).utcoffset() or datetime.timedelta()
    offset = shift.total_seconds()
    at = math.ceil((across.low / 1000.0 + offset) / step) * step - offset
    form = "%Y-%m" if step >= 30 * 86_400 else "%m-%d" if step >= 86_400 else "%H:%M" if step >= 60 else "%H:%M:%S"
    labels = list[tuple[float, str]]()
    while at * 1000.0 <= across.high and len(labels) < 2 * most:
        x = across(min(max(at * 1000.0, across.low), across.high))
        if across.start + 12 <= x <= across.end - 12:
            labels.append((x, datetime.datetime.fromtimestamp(at, here).strftime(form)))
        at += step
    return labels
