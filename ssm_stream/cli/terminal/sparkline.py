"""A series as a line of bars, one character a value."""

from __future__ import annotations

from collections.abc import Sequence

BARS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], top: float) -> str:
    """Return a bar for each value from 0 to `top`, the full height; a space for NaN.

    >>> sparkline([0.0, 0.5, 1.0, float("nan"), 2.0], 1.0)
    '▁▅█ █'
    """
    return "".join(" " if value != value else BARS[_level(value, top)] for value in values)


def _level(value: float, top: float) -> int:
    return min(int(value / top * len(BARS)), len(BARS) - 1) if top > 0 else 0
