"""What the state shows of a target that creeps from day to day: `monitor/days.hpp`."""

from __future__ import annotations

from typing import Any, NamedTuple

from numpy.typing import NDArray

from ssm_stream.core import detect
from ssm_stream.engine.alert_summary.numbers import rounded


class DayChange(NamedTuple):
    """Means of a target, in its unit.

    before: of the days before; after: of the last whole day
    """

    before: float
    after: float

    @property
    def key(self) -> str:
        """Of the text that states it."""
        return "days_up" if self.after > self.before else "days_down"

    @staticmethod
    def end(ended: str) -> str:
        """Return the key of the text that states that it is over, by what ended it."""
        return "days_over" if ended == "recovered" else "days_absorbed"

    def shown(self) -> dict[str, str]:
        """Return both means, as finely as they differ."""
        size = max(abs(self.after - self.before) / 5.0, abs(self.after) / 500.0)
        return {"before": rounded(self.before, size), "after": rounded(self.after, size)}


def day_change(number: NDArray[Any] | None) -> DayChange | None:
    """Return how the days differ, None where the last alarm was not about days. number: of `DetectorState`, (45,)"""
    if number is None or number[detect.CHANGE] < detect.BY_DAYS:
        return None
    base = float(number[detect.DAY_BASE])
    return DayChange(base, base + float(number[detect.DAY_GAP]))
