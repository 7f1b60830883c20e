"""What the state shows of a target that creeps from day to day: `monitor/days.hpp`."""

from __future__ import annotations

from typing import Any, NamedTuple

from numpy.typing import NDArray

from ssm_stream.core import days, detect
from ssm_stream.engine.alert_summary.numbers import rounded


class DayChange(NamedTuple):
    """Means of a target, in its unit.

    before: of the days before, or, by_inputs, what the last whole day's inputs make of that; after: of that day
    """

    before: float
    after: float
    by_inputs: bool = False

    @property
    def key(self) -> str:
        """Of the text that states it."""
        key = "days_up" if self.after > self.before else "days_down"
        return f"{key}_by_inputs" if self.by_inputs else key

    @staticmethod
    def end(ended: str) -> str:
        """Return the key of the text that states that it is over, by what ended it."""
        return "days_over" if ended == "recovered" else "days_absorbed"

    def shown(self) -> dict[str, str]:
        """Return both means, as finely as they differ."""
        size = max(abs(self.after - self.before) / 5.0, abs(self.after) / 500.0)
        return {"before": rounded(self.before, size), "after": rounded(self.after, size)}


def day_change(detector: NDArray[Any] | None, number: NDArray[Any] | None) -> DayChange | None:
    """Return how the days differ, None where the last alarm was not about days.

    detector: number of `DetectorState`, (34,); number: of `DaysState`, (18,)
    """
    if detector is None or number is None or detector[detect.CHANGE] < detect.BY_DAYS:
        return None
    after, gap = float(number[days.LATEST]), float(days.judged(number)[days.GAP])
    return DayChange(after - gap, after, bool(number[days.BY_INPUTS]))
