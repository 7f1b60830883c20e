"""A value and its prediction: on which side of its interval it is, and with how many digits they are written."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from ssm_stream.engine.alert_summary.numbers import decimals, measured, number_of, rounded

MINOR, FAR, WIDE = 50.0, 10.0, 100.0
"""An error is shown to a fiftieth where the interval is narrower; where it is ten times narrower, it is left out.
Where the interval is far wider than the values, these keep two digits, unless they are a hundred times smaller."""
FINER = 4
"""Powers of ten that numbers become finer by, until what is outside of its interval is so as written."""
NEAR = 0.5
"""Share of the way from the prediction to a bound up to which a value is as predicted."""
UNEVEN = 0.2
"""Share of the half-width by which the prediction may be off the middle of its interval to be written with ±."""
Message = Mapping[str, Any]


class ShownValue(NamedTuple):
    """A value and its prediction as written.

    y, yhat: the two; key: the text of the prediction with its interval, None: without; interval: the numbers of that
    """

    y: str
    yhat: str
    key: Literal["interval", "bounds"] | None
    interval: Mapping[str, str]


def side_of(values: Message) -> int | None:
    """Return 1 for a value above its interval, −1 below, 0 inside or where rounding hides it; None if it has none."""
    y, yhat, lower, upper = (values.get(name) for name in ("y", "yhat", "yhat_lower", "yhat_upper"))
    if y is None or yhat is None or lower is None or upper is None:
        return None
    size = size_of(values)
    if lower <= y <= upper or rounded(y, size) == rounded(yhat, size):
        return 0
    return 1 if y > upper else -1


def is_near(values: Message) -> bool:
    """Return whether a value inside its interval is as predicted: no farther than half of the way to its bound."""
    y, yhat, lower, upper = (values.get(name) for name in ("y", "yhat", "yhat_lower", "yhat_upper"))
    if y is None or yhat is None or lower is None or upper is None or not lower <= y <= upper:
        return True
    return bool(abs(y - yhat) <= NEAR * abs((upper if y > yhat else lower) - yhat))


def size_of(values: Message) -> float:
    """Return what is small for a value: half the width of its interval, or a part of an error that is far beyond.

    Where that is far wider than the values are large, it is a part of these.
    """
    y, yhat = (abs(values.get(name) or 0.0) for name in ("y", "yhat"))
    half, own = _half(values), max(y, yhat) / 5.0
    size = max(half, _error(values))
    return min(size, max(own, half / WIDE)) if own > 0.0 else size


def places_of(y: float | None, step: float) -> int:
    """Return how many decimals a target is measured to: as its value has, or its smallest step. step: 0: not known"""
    return max(0 if y is None else decimals(y), decimals(step))


def shows(message: Message, key: str) -> bool:
    """Return whether one value, with its prediction, shows what is true of many: outside of its interval, on that side.

    key: of the text that states what is true
    """
    side = side_of(message)
    if not side or key == "errors_smaller":
        return False
    return not (side < 0 if key.endswith("_up") else key.endswith("_down") and side > 0)


def shown_value(values: Message, step: float, size: float | None = None) -> ShownValue:
    """Return a value and its prediction, rounded to `size`; None: of the interval, or of an error beyond.

    The prediction has at most one decimal more than the target is measured to, unless it takes more to differ from the
    value. An interval that is narrower than these, or than a part of the error, is left out. step: as of `places_of`
    """
    side, least = side_of(values), size_of(values) if size is None else size
    y, yhat, lower, upper = (values.get(name) for name in ("y", "yhat", "yhat_lower", "yhat_upper"))
    half, most = _half(values), places_of(y, step) + 1
    if lower is None or upper is None or y is None or yhat is None:
        known = [math.nan if x is None else x for x in (y, yhat)]
        return ShownValue(measured(known[0], least), rounded(known[1], least, most=most), None, {})
    narrow = half < _error(values) / FAR
    even = abs((lower / 2 + upper / 2) - yhat) <= UNEVEN * half
    found = list[ShownValue]()
    for more in range(FINER):
        finer, width, places = least / 10.0**more, half / 10.0**more, most + more
        own = min(finer, max(abs(yhat) / 5.0, width)) if side else finer
        shown = measured(y, finer), rounded(yhat, own if narrow or not width else min(finer, width), most=places)
        at, middle = number_of(shown[0]), number_of(shown[1])
        reach, low, high = (rounded(x, width, most=places) for x in (half, lower, upper))
        if narrow or number_of(reach) == 0.0 or low == high:
            found.append(ShownValue(*shown, None, {}))
            if side == 0 or (at - middle) * (side or 0) > 0.0:
                return found[-1]
            continue
        if even:
            found.append(ShownValue(*shown, "interval", {"half": reach}))
            if side == _beyond(at, middle - number_of(reach), middle + number_of(reach)):
                return found[-1]
        found.append(ShownValue(*shown, "bounds", {"lower": low, "upper": high}))
        if side == _beyond(at, number_of(low), number_of(high)):
            return found[-1]
    return found[0]


def _beyond(value: float, low: float, high: float) -> int:
    return 1 if value > high else -1 if value < low else 0


def _error(values: Message) -> float:
    """Return a part of the error, to which it is shown."""
    y, yhat = values.get("y"), values.get("yhat")
    return 0.0 if y is None or yhat is None else abs(y / MINOR - yhat / MINOR)


def _half(values: Message) -> float:
    """Return half the width of the interval; 0 without one."""
    lower, upper = values.get("yhat_lower"), values.get("yhat_upper")
    return 0.0 if lower is None or upper is None else abs(upper / 2 - lower / 2)
