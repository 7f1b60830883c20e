"""What the state shows of a target whose days creep, or whose hours are off: `monitor/days.hpp`, `hours.hpp`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from numpy.typing import NDArray

from ssm_stream.core import days, detect, hours
from ssm_stream.engine.alert_summary.numbers import rounded


class DayChange(NamedTuple):
    """Means of a target, in its unit.

    before, after: by `basis`: `days`: of the days before, and of the last whole one; `inputs`: what the inputs of the
        last whole day make of the days before, and of it; `hours`: what its inputs, categories and time make of the
        last whole hour, and of it
    events: of such a day, where that is several days that are joined, as each has few; 0: of one day
    """

    before: float
    after: float
    basis: Literal["days", "inputs", "hours"] = "days"
    events: int = 0

    @property
    def key(self) -> str:
        """Of the text that states it."""
        key = f"{self._unit}_{'up' if self.after > self.before else 'down'}"
        return f"{key}_by_inputs" if self.basis == "inputs" else key

    def end(self, ended: str) -> str:
        """Return the key of the text that states that it is over, by what ended it."""
        return f"{self._unit}_over" if ended == "recovered" else f"{self._unit}_absorbed"

    @property
    def _unit(self) -> str:
        return "hours" if self.basis == "hours" else "events" if self.events else "days"

    def shown(self) -> dict[str, str]:
        """Return both means, as finely as they differ, and events."""
        differ = abs(self.after - self.before) / 5.0
        size = max(differ, abs(self.after) / 500.0)
        if rounded(self.before, size) == rounded(self.after, size):
            size = differ
        means = {"before": rounded(self.before, size), "after": rounded(self.after, size)}
        return {**means, "events": f"{self.events:,}", "twice": f"{2 * self.events:,}"}


def day_change(rows: Callable[[str], NDArray[Any] | None]) -> DayChange | None:
    """Return how the days or the hours differ, None where the last alarm was about neither.

    rows: the captured state
    """
    detector = rows("detector.number")
    if detector is None or detector[detect.CHANGE] < detect.BY_DAYS:
        return None
    by_hours = bool(detector[detect.CHANGE] >= detect.BY_HOURS)
    number = rows("hours.number" if by_hours else "days.number")
    if number is None:
        return None
    if by_hours:
        return DayChange(float(number[hours.EXPECTED]), float(number[hours.LATEST]), "hours")
    after, gap = float(number[days.LATEST]), float(days.judged(number)[days.GAP])
    usual = float(number[days.USUAL_EVENTS])
    events = round(usual) if usual < days.FEW_EVENTS else 0
    return DayChange(after - gap, after, "inputs" if number[days.BY_INPUTS] else "days", events)
