"""Numbers rounded to what matters: to the size of an interval, of a usual error, of a change."""

from __future__ import annotations

import math

MAX_DIGITS = 6
"""Significant digits of a number at most."""
NOTHING = 1e-9
"""A value that is so small a share of what is small for it is rounding."""
MIN_PLAIN, MAX_PLAIN = 1e-4, 1e9
"""Numbers below and from here on have an exponent."""


def rounded(value: float, size: float, side: int = 0) -> str:
    """Return a number rounded to the power of ten that is at most half of `size`.

    Args:
        value: the number
        size: what is small for it, such as the half-width of its interval; 0 or not finite: it gets 4 digits
        side: 1: up, −1: down, as a bound is that has to hold; 0: to the nearest

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
    if (value - number) * side > 0.0 and -300 < exponent < 300:
        number = round(number + side * 10.0**exponent, -exponent)
    if number == 0.0:
        return "0"
    if not MIN_PLAIN <= abs(number) < MAX_PLAIN:
        digits = min(max(math.floor(math.log10(abs(number))) - exponent, 0), MAX_DIGITS - 1)
        mantissa, _, power = f"{number:.{digits}e}".partition("e")
        return f"{mantissa.rstrip('0').rstrip('.') if '.' in mantissa else mantissa}e{int(power)}"
    text = f"{number:.{max(-exponent, 0)}f}"
    return f"{float(text):,.{max(-exponent, 0)}f}" if abs(number) >= 10_000 else text


def measured(value: float, size: float) -> str:
    """Return a value rounded as by `rounded`, with two digits of its own at least.

    >>> measured(11.44, 750.0), measured(0.2, 30.0), measured(71.2384, 3.1), measured(1e-17, 1.0)
    ('11', '0.20', '71', '0')
    """
    own = abs(value) / 5.0
    return rounded(value, min(size, own) if own > NOTHING * abs(size) else size)


def number_of(shown: str) -> float:
    """Return the number that a text shows; NaN if it shows none."""
    return math.nan if shown == "?" else float(shown.replace(",", ""))


def round_count(count: int) -> str:
    """Return a count rounded to two digits, down: so many there were.

    >>> round_count(8765), round_count(61), round_count(120)
    ('8,700', '61', '120')
    """
    step = 10 ** max(len(str(count)) - 2, 0)
    return f"{count // step * step:,}"


def factor(ratio: float) -> str:
    """Return how many times as large something is, to two digits.

    >>> factor(1.7712), factor(23.4), factor(0.3333), factor(5e7)
    ('1.8', '23', '0.33', 'more than 1,000')
    """
    if not math.isfinite(ratio) or ratio > 1000.0:
        return "more than 1,000"
    return "less than 0.01" if ratio < 0.01 else rounded(ratio, ratio / 4.0)
