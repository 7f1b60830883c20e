"""Numbers rounded to what matters: to the size of an interval, of a usual error, of a change."""

from __future__ import annotations

import math
from decimal import Decimal

MAX_DIGITS = 6
"""Significant digits of a rounded number at most."""
FEW_DIGITS = 4
"""A measured value with so many significant digits at most is not rounded."""
EXACT_DIGITS, TRUE_DIGITS = 15, 12
"""Significant digits of an exact number at most; those beyond which a value has only noise of its computation."""
NOTHING = 1e-9
"""A value that is so small a share of what is small for it is rounding."""
ROUNDING = 1e-3
"""Share of a step that is the rounding of a computed number of steps."""
MIN_PLAIN, MAX_PLAIN = 1e-4, 1e9
"""Numbers below and from here on have an exponent."""
MIN_FACTOR, MAX_FACTOR = 0.01, 1000.0
"""Factors beyond are given as a bound."""


def rounded(value: float, size: float, side: int = 0, most: int | None = None) -> str:
    """Return a number rounded to the power of ten that is at most half of `size`.

    Args:
        value: the number
        size: what is small for it, such as the half-width of its interval; 0 or not finite: it gets 4 digits
        side: 1: up, −1: down, as a bound is that has to hold; 0: to the nearest
        most: decimals at most

    >>> rounded(71.2384, 3.1), rounded(0.0312, 0.004), rounded(12345.6, 900.0), rounded(-2.5e12, 1.0)
    ('71', '0.031', '12,300', '-2.5e12')
    >>> rounded(16.5405, 0.001, most=2)
    '16.54'
    """
    if not math.isfinite(value):
        return "?"
    size = abs(size) if math.isfinite(size) else 0.0
    # Both ends: more digits are noise, and a number smaller than its step would be 0.
    size = max(size if size > 0.0 else abs(value) / 500.0, abs(value) / 10.0 ** (MAX_DIGITS - 1) * 2.0)
    if size == 0.0 or not math.isfinite(size) or size < 1e-290:
        return "0" if value == 0.0 else f"{value:.3g}"
    exponent = math.floor(math.log10(size / 2.0))
    if most is not None:
        exponent = max(exponent, -most)
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
    """Return a measured value: with all of its digits if they are few or it is a count, rounded as by `rounded` if not.

    Two digits of its own stay at least, those before the point do, and none that it does not have are added.

    >>> measured(327.0, 90.0), measured(0.2, 30.0), measured(16.6, 1e-4), measured(1213456.0, 1e4)
    ('327', '0.2', '16.6', '1,213,456')
    >>> measured(71.2384, 3.1), measured(1e-17, 1.0)
    ('71', '0')
    """
    own = abs(value) / 5.0
    if not math.isfinite(value) or own <= NOTHING * abs(size):
        return rounded(value, size)
    places, plain = decimals(value), MIN_PLAIN <= abs(value) < MAX_PLAIN
    if plain and (not places or len(f"{abs(value):.{places}f}".replace(".", "").lstrip("0")) <= FEW_DIGITS):
        return exact(value)
    return rounded(value, min(abs(size), own, 2.0) if plain else min(abs(size), own), most=places)


def exact(value: float) -> str:
    """Return a number with all of its digits.

    >>> exact(1213000.5), exact(1013.0), exact(18.0), exact(0.1 + 0.2), exact(1e18)
    ('1,213,000.5', '1013', '18', '0.3', '1e18')
    """
    if not math.isfinite(value):
        return "?"
    mantissa, _, power = f"{value:{',' if abs(value) >= 10_000 else ''}.{EXACT_DIGITS}g}".partition("e")
    return (f"{mantissa}e{int(power)}" if power else mantissa) if value else "0"


def decimals(value: float) -> int:
    """Return how many decimals a number has.

    >>> decimals(16.6), decimals(1200.0), decimals(0.1 + 0.2), decimals(18.1 - 18.0)
    (1, 0, 1, 1)
    """
    if not math.isfinite(value):
        return 0
    return max(-int(Decimal(f"{value:.{TRUE_DIGITS}g}").normalize().as_tuple().exponent), 0)


def next_step(value: float, places: int, side: int) -> float:
    """Return the nearest number of so many decimals that is not beyond a value; itself where that is not known.

    side: 1: not above it, −1: not below

    >>> next_step(17.991, 1, -1), next_step(98.4, 0, 1), next_step(18.0, 1, -1)
    (18.0, 98.0, 18.0)
    """
    steps = value * 10.0 ** min(places, EXACT_DIGITS)
    if not abs(steps) < 10.0**TRUE_DIGITS:
        return value
    # A bound that is a number of steps, computed, is off by its rounding.
    return (math.floor(steps + ROUNDING) if side > 0 else math.ceil(steps - ROUNDING)) / 10.0**places


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
    """Return how many times as large something is, to two digits, from `MIN_FACTOR` to `MAX_FACTOR`.

    >>> factor(1.7712), factor(23.4), factor(0.3333), factor(5e7)
    ('1.8', '23', '0.33', '1,000')
    """
    if not math.isfinite(ratio) or ratio >= MAX_FACTOR:
        return f"{MAX_FACTOR:,.0f}"
    return rounded(ratio, ratio / 4.0) if ratio > MIN_FACTOR else f"{MIN_FACTOR:g}"


def signed(value: float) -> str:
    """Return a number to two digits or so, with its sign."""
    shown = rounded(value, abs(value) / 4)
    return f"+{shown}" if value > 0 else shown
