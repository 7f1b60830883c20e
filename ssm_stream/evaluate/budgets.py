"""Budgets of false alarms, scaled."""

from __future__ import annotations

from ssm_stream.config import Budget

MIN_GAP = 20.0
"""Events between false alarms below which an alarm cannot be distinguished from noise (`config.Budget`)."""
UNITS = (("d", 86_400.0), ("h", 3600.0), ("m", 60.0), ("s", 1.0))


def scale_budget(budget: Budget, factor: float, digits: int | None = None) -> Budget:
    """Return the budget that allows `factor` times as many false alarms.

    Args:
        digits: significant digits, for a number of events that stands in a file; None: it is exact
    """
    if factor == 1.0:
        return budget
    if budget.events:
        gap = budget.events / factor
        gap = max(gap if digits is None else _rounded(gap, digits), MIN_GAP)
        return Budget(text=f"1 per {gap:.0f} events", events=gap)
    seconds = budget.seconds / factor
    unit, size = next((u, s) for u, s in UNITS if seconds >= s or s == 1.0)
    return Budget(text=f"1 per {_rounded(seconds / size, digits or 3):g}{unit}", seconds=seconds)


def _rounded(value: float, digits: int) -> float:
    return float(f"{value:.{digits}g}")
