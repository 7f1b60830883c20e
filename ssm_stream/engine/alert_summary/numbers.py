"""Numbers rounded to what matters: to the size of an interval, of a usual error, of a change."""

from __future__ import annotations

import math

MAX_DIGITS = 6
"""Significant digits of a number at most."""
MIN_PLAIN, MAX_PLAIN = 1e-4, 1e9
"""Numbers below and from here on have an exponent."""


def rounded(value: float, size: float) -> str:
    """Return a number rounded to the power of ten that is at most half of `size`.

    Args:
        value: the number
        size: what is small for it, such as the half-width of its interval; 0 or not finite: it gets 4 digits

    >>> rounded(71.2384, 3.1), rounded(0.0312, 0.004), rounded(12345.6, 900.0), rounded(-2.5e12, 1.0)
    ('71', '0.031', '12,300', '-2.5e12')
    """
    if not math.isfinite(value):
        return "?"
    size = abs(size) if math.isfinite(size) else 0.0
    # Both ends: more digits are noise, and a number smaller than its step would be 0.
    size = max(size if size > 0.0 else abs(value) / 500.0, abs(value) / 10.0 ** (MAX_DIGITS - 1) * 2.0)
    if size == 0.0 or not math.isfinite(size) or size < 1e-290:
        return "0" if value == 0.0 else f"{value:.3g}"
    exponent = math.floor(math.log10(size / 2.0))
    # The exponent is beyond what `round` handles for numbers near the limits of float64.
    number = round(value, -exponent) if -300 < exponent < 300 else value
    if number == 0.0:
        return "0"
    if not MIN_PLAIN <= abs(number) < MAX_PLAIN:
        digits = min(max(math.floor(math.log10(abs(number))) - exponent, 0), MAX_DIGITS - 1)
        mantissa, _, power = f"{number:.{digits}e}".partition("e")
        return f"{mantissa.rstrip('0').rstrip('.') if '.' in mantissa else mantissa}e{int(power)}"
    text = f"{number:.{max(-exponent, 0)}f}"
    return f"{float(text):,.{max(-exponent, 0)}f}" if abs(number) >= 10_000 else text


def factor(ratio: float) -> str:
    """Return how many times as large something is, to two digits.

    >>> factor(1.7712), factor(23.4), factor(0.3333), factor(5e7)
    ('1.8', '23', '0.33', 'more than 1,000')
    """
    if not math.isfinite(ratio) or ratio > 1000.0:
        return "more than 1,000"
    return "less than 0.01" if ratio < 0.01 else rounded(ratio, ratio / 4.0)
