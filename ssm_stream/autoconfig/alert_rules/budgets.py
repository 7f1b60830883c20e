"""The budget of false alarms that a draft sets for an entity: of events, or of a time where that is longer."""

from __future__ import annotations

BUDGET_EVENTS, BUDGET_DAYS = 10_000, 30
"""Without a false alarm of an entity and kind: whichever is longer. So many events of a machine that is read each
second are hours: more alerts than anybody would read."""
BY_EVENTS, BY_TIME = f"1 per {BUDGET_EVENTS} events", f"1 per {BUDGET_DAYS}d"
DAY_S = 86_400.0


def is_by_time(step: float) -> bool:
    """Return whether the budget is of a time. step: between two events of an entity, s"""
    return 0.0 < BUDGET_EVENTS * step < patience(step)


def patience(step: float) -> float:
    """Return how long an entity is to go without a false alarm, s; step: as of `is_by_time`"""
    return max(BUDGET_EVENTS * step, BUDGET_DAYS * DAY_S)


def patience_events(step: float) -> float:
    """Return the events for which an entity is to go without a false alarm; step: as of `is_by_time`"""
    return patience(step) / step if is_by_time(step) else float(BUDGET_EVENTS)


def budget_of(step: float) -> str:
    """Return the budget as a setting; step: as of `is_by_time`"""
    return BY_TIME if is_by_time(step) else BY_EVENTS
