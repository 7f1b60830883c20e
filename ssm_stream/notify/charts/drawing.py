"""Draws a chart as PNG, with Pillow."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from PIL import Image, ImageDraw, ImageFont

from ssm_stream.notify.charts.points import Point

WIDTH, HEIGHT = 560, 240
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 30, 24
SCALE = 2
"""It is drawn larger, and made smaller: lines have no steps."""
VALUE, PREDICTION, BAND, ALERT, EPISODE = "#0b63bd", "#7a35b5", "#dbe8f6", "#c4262e", "#f8e4e5"
INK, MUTED, GRID, PAPER = "#16202b", "#566474", "#dde3ea", "#ffffff"
REACH = 0.6
"""Share of the values' range by which an interval is drawn beyond them, at most."""
LATER = 0.35
"""Share of the points' time by which a chart goes on beyond the last one, at most."""
MORE = "°·"
"""Characters of the font beyond ASCII, as units have them."""
Place = tuple[float, float]


def draw(points: Sequence[Point], since: int, until: int, title: str, zone: str, shown: str) -> bytes:
    """Return the chart of an alert: value, prediction, interval, and where it began.

    Args:
        points: at least two
        since, until: begin of the alert, and the time of its message, ms
        title: of the alert; characters that the font lacks are left out, here and below
        zone: of the times below
        shown: name of the target whose values these are
    """
    image = Image.new("RGB", (WIDTH * SCALE, HEIGHT * SCALE), PAPER)
    canvas, font = ImageDraw.Draw(image), ImageFont.load_default(12 * SCALE)
    low, high = _bounds(points)
    first, last = points[0].ts, points[-1].ts
    last += round(min(max(until - last, 0), LATER * max(last - first, 1)))  # of silence there are no points
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT

    def x(ts: float) -> float:
        return SCALE * (LEFT + (ts - first) / max(last - first, 1) * (right - LEFT))

    def y(value: float) -> float:
        value = min(max(value, low), high)
        return SCALE * (bottom - (value - low) / (high - low) * (bottom - TOP))

    def text(place: Place, words: str, colour: str, anchor: str) -> None:
        canvas.text((place[0] * SCALE, place[1] * SCALE), words, colour, font, anchor)

    begin = max(since, first)
    if begin <= last:
        canvas.rectangle((x(begin), TOP * SCALE, right * SCALE, bottom * SCALE), EPISODE)
    for part in _parts(points, lambda point: math.isfinite(point.lower) and math.isfinite(point.upper)):
        if len(part) > 1:
            upper = [(x(p.ts), y(p.upper)) for p in part]
            canvas.polygon(upper + [(x(p.ts), y(p.lower)) for p in reversed(part)], BAND)
    for value in (low, (low + high) / 2, high):
        canvas.line(((LEFT * SCALE, y(value)), (right * SCALE, y(value))), GRID, SCALE)
        text((LEFT - 6, y(value) / SCALE), f"{value:.4g}", MUTED, "rm")
    if first <= since <= last:
        canvas.line(((x(since), TOP * SCALE), (x(since), bottom * SCALE)), ALERT, 2 * SCALE)
    for part in _parts(points, lambda point: math.isfinite(point.yhat)):
        _line(canvas, [(x(p.ts), y(p.yhat)) for p in part], PREDICTION, 1.5)
    for part in _parts(points, lambda point: math.isfinite(point.y)):
        _line(canvas, [(x(p.ts), y(p.y)) for p in part], VALUE, 2.2)
    times = _times(first, last, zone)
    text((LEFT, HEIGHT - 6), times[0], MUTED, "ls")
    text((right, HEIGHT - 6), times[1], MUTED, "rs")
    legend = right
    for words, colour in (("interval", BAND), ("predicted", PREDICTION), ("value", VALUE)):
        width = canvas.textlength(words, font) / SCALE
        text((legend - width, 19), words, MUTED, "ls")
        canvas.rectangle([SCALE * (legend - width - 18), SCALE * 13, SCALE * (legend - width - 5), SCALE * 16], colour)
        legend -= round(width + 32)

    def fitting(words: str, width: float) -> str:
        known = "".join(each for each in words if (each.isascii() or each in MORE) and each.isprintable())
        while known and canvas.textlength(known, font) / SCALE > width:
            known = known[:-1]
        return known

    text((LEFT, 19), fitting(title, legend - LEFT), INK, "ls")
    begins, ends = (canvas.textlength(each, font) / SCALE for each in times)
    text(((LEFT + begins + right - ends) / 2, HEIGHT - 6), fitting(shown, right - ends - LEFT - begins - 12), INK, "ms")
    out = io.BytesIO()
    image.resize((WIDTH, HEIGHT), Image.Resampling.BOX).save(out, "PNG", optimize=True)
    return out.getvalue()


def _bounds(points: Iterable[Point]) -> tuple[float, float]:
    """Return the range of the values: a new entity's interval may be very wide, and is cut."""
    drawn = [value for point in points for value in (point.y, point.yhat) if math.isfinite(value)]
    low, high = min(drawn, default=0.0), max(drawn, default=1.0)
    reach = REACH * ((high - low) or abs(high) or 1.0)
    lower = min((p.lower for p in points if math.isfinite(p.lower)), default=low)
    upper = max((p.upper for p in points if math.isfinite(p.upper)), default=high)
    low, high = min(low, max(lower, low - reach)), max(high, min(upper, high + reach))
    room = 0.05 * ((high - low) or abs(high) or 1.0)
    return low - room, high + room


def _parts(points: Sequence[Point], known: Callable[[Point], bool]) -> list[list[Point]]:
    """Return the stretches of points without one that is not known."""
    parts: list[list[Point]] = [[]]
    for point in points:
        if known(point):
            parts[-1].append(point)
        elif parts[-1]:
            parts.append([])
    return [part for part in parts if part]


def _line(canvas: ImageDraw.ImageDraw, places: list[Place], colour: str, width: float) -> None:
    if len(places) == 1:
        ((x, y),) = places
        canvas.ellipse((x - 3, y - 3, x + 3, y + 3), colour)
    else:
        canvas.line(places, colour, round(width * SCALE), joint="curve")


def _times(first: int, last: int, zone: str) -> tuple[str, str]:
    begin, end = (datetime.fromtimestamp(ms / 1000, ZoneInfo(zone)) for ms in (first, last))
    if begin.date() == end.date():
        return f"{begin:%Y-%m-%d %H:%M:%S}", f"{end:%H:%M:%S}"
    return f"{begin:%Y-%m-%d %H:%M}", f"{end:%Y-%m-%d %H:%M}"
