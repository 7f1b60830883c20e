"""What the state shows of a target whose days creep, or whose hours are off: `monitor/days.hpp`, `hours.hpp`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from numpy.typing import NDArray

from ssm_stream.core import days, detect, hours
from ssm_stream.engine.alert_summary.numbers import rounded


class DayChange(NamedTuple):
    """Means of a target, in its unit.

    before: of the days before, or, by_inputs, what the last whole day's inputs make of that; after: of that day
    by_hours: of the last whole hour, and before is what its inputs, categories and time make of it
    """

    before: float
    after: float
    by_inputs: bool = False
    by_hours: bool = False

    @property
    def key(self) -> str:
        """Of the text that states it."""
        key = f"{self._unit}_{'up' if self.after > self.before else 'down'}"
        return f"{key}_by_inputs" if self.by_inputs else key

    def end(self, ended: str) -> str:
        """Return the key of the text that states that it is over, by what ended it."""
        return f"{self._unit}_over" if ended == "recovered" else f"{self._unit}_absorbed"

    @property
    def _unit(self) -> str:
        return "hours" if self.by_hours else "days"

    def shown(self) -> dict[str, str]:
        """Return both means, as finely as they differ."""
        size = max(abs(self.after - self.before) / 5.0, abs(self.after) / 500.0)
        return {"before": rounded(self.before, size), "after": rounded(self.after, size)}


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
        return DayChange(float(number[hours.EXPECTED]), float(number[hours.LATEST]), by_hours=True)
    after, gap = float(number[days.LATEST]), float(days.judged(number)[days.GAP])
    return DayChange(after - gap, after, bool(number[days.BY_INPUTS]))
