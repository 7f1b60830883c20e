"""Weekly windows and holidays that false alarms fall into: a stop, a change of shifts. Nothing is proposed by them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ssm_stream.config import Event
from ssm_stream.core.features import FeaturePlan, calendar_columns
from ssm_stream.evaluate.engine_run import Ints

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MIN_ALARMS = 3
MIN_SHARE = 0.25
"""Share of the false alarms that a window must hold."""
LEVEL = 0.01
"""Chance of so many alarms in any of the windows, if alarms came evenly over the events."""
WINDOWS = 8 * 300
"""Windows: seven weekdays and every day, by first and last hour."""


class Window(NamedTuple):
    """A weekly window. day: 0 (Monday) to 6, None for every day; hours [first, last)"""

    day: int | None
    first: int
    last: int
    inside: int
    """False alarms that begin in it."""
    of: int
    """False alarms in all."""
    events: float
    """Share of the events that lie in it."""

    @property
    def text(self) -> str:
        """The window as `alerts.maintenance` has it: `Sun 06:00-18:00`."""
        day = "daily" if self.day is None else WEEKDAYS[self.day]
        return f"{day} {self.first:02d}:00-{self.last:02d}:00"

    def as_json(self) -> dict[str, Any]:
        """Return the content for `--json`."""
        return {"window": self.text, "false_inside": self.inside, "false": self.of, "events_inside": self.events}


def find_window(false: Ints, right: Ints, events: Ints, time_zone: str) -> Window | None:
    """Return the window that explains most false alarms, beyond chance; None without one.

    Args:
        false, right: times of alarms that were called false, and true, ms; a window has none of the latter
        events: times of all events, ms
        time_zone: of the window
    """
    if len(false) < MIN_ALARMS:
        return None
    plan = FeaturePlan((), time_zone=time_zone)
    alarm_steps, right_steps, event_steps = (calendar_columns(plan, ts)[1] for ts in (false, right, events))
    counts = np.zeros((7, 24))
    np.add.at(counts, (event_steps[:, 1], event_steps[:, 0]), 1.0 / max(len(events), 1))
    best: tuple[float, Window] | None = None
    for day in (None, *range(7)):
        hours = _hours(alarm_steps, day)
        for first in sorted(set(hours)):
            for last in sorted({hour + 1 for hour in hours if hour >= first}):
                inside = sum(first <= hour < last for hour in hours)
                if inside < max(MIN_ALARMS, MIN_SHARE * len(false)):
                    continue
                if any(first <= hour < last for hour in _hours(right_steps, day)):
                    continue
                share = float((counts.sum(0) if day is None else counts[day])[first:last].sum())
                chance = _tail(inside, len(false), share) * WINDOWS
                if chance <= LEVEL and (best is None or chance < best[0]):
                    best = chance, Window(day, first, last, inside, len(false), share)
    return None if best is None else best[1]


class OnHolidays(NamedTuple):
    """False alarms that begin on the days of `event.holidays`. of: false alarms in all; events: share of the events"""

    inside: int
    of: int
    events: float


def find_holidays(false: Ints, right: Ints, events: Ints, event: Event) -> OnHolidays | None:
    """Return how many false alarms begin on holidays, if more than by chance, and no true one does. Times as above"""
    if not event.holidays:
        return None
    plan = FeaturePlan((), calendar=("holiday",), time_zone=event.time_zone, holidays=event.holidays.numbers)
    alarms, right_ones, all_ = (calendar_columns(plan, ts)[0][:, 0] for ts in (false, right, events))
    found = OnHolidays(int(alarms.sum()), len(false), float(all_.mean()) if len(events) else 0.0)
    if found.inside < max(MIN_ALARMS, MIN_SHARE * found.of) or right_ones.any():
        return None
    return found if _tail(found.inside, found.of, found.events) <= LEVEL else None


def _hours(steps: Ints, day: int | None) -> list[int]:
    return [hour for hour, weekday in steps.tolist() if day is None or weekday == day]


def _tail(k: int, n: int, p: float) -> float:
    """Return the chance of k or more of n, each with chance p."""
    return sum(math.comb(n, i) * p**i * (1.0 - p) ** (n - i) for i in range(k, n + 1))
