"""Numbers as the reports show them."""

from __future__ import annotations

import math

from ssm_stream.evaluate.report.section import Cell


def number(value: Cell) -> str:
    """Return a cell as text: four significant digits, powers of ten if the number is tiny or huge."""
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return f"{value:,}"
    if value == 0.0:
        return "0"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if math.isnan(value):
        return "not finite"
    if abs(value) < 1e-3 or abs(value) >= 1e6:
        return f"{value:.1e}".replace("-", "−")
    digits = max(0, 3 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}".replace("-", "−")


def tick_label(value: float) -> str:
    """Return the label of a tick of an axis."""
    text = f"{value:.0e}" if value and (abs(value) < 1e-3 or abs(value) >= 1e5) else f"{value:g}"
    return text.replace("-", "−")
