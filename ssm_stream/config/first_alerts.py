"""How long it takes until the first alerts, where that is weeks, or a recording ends before."""

from __future__ import annotations

import math
from collections.abc import Collection

from ssm_stream.config.sections.model import Model

DRIFT_FROM = 800
"""Event of an entity from which on its errors are judged for drift (docs/alerts.md)."""
DAY_EVENTS, DAYS_FROM = 6, 9
"""Events that days are joined to for their means, and such days with the first, a part, until one is judged."""
DAY_S = 86_400.0
MAX_WAIT, MAX_DRIFT_WAIT = 7 * DAY_S, 14 * DAY_S
"""Waits, s, that are worth a warning beyond these: of anomalies and of drift."""

MANY_SHORT = 0.1
"""Share of entities that is worth a sentence."""


def first_alerts(step: float, model: Model, cure: str) -> str | None:
    """Return a sentence on when an entity can have its first alerts; None if that is soon.

    Args:
        step: time between its rows with a target, s
        model: the section
        cure: what shortens it
    """
    anomaly, drift = model.warmup * step, DRIFT_FROM * step
    if not (anomaly > MAX_WAIT or drift > MAX_DRIFT_WAIT):
        return None
    means = max(anomaly, DAYS_FROM * DAY_S * max(math.ceil(DAY_EVENTS * step / DAY_S), 1))
    return (
        f"at this cadence the first anomaly of an entity can be an alert after {_days(anomaly)} ({model.warmup} rows, "
        f"model.warmup), the first drift of its daily means after {_days(means)}, of its errors after {_days(drift)} "
        f"({DRIFT_FROM} rows): {cure}"
    )


def too_short(labelled: Collection[int], model: Model) -> str | None:
    """Return a sentence on entities that end before an alert of the model can come; None if they are few.

    Args:
        labelled: events with a target of each entity
        model: the section
    """
    short = sum(events <= model.warmup for events in labelled)
    if not short or short < MANY_SHORT * len(labelled):
        return None
    begin = f"alerts begin after {model.warmup:,} labelled events of an entity (model.warmup)"
    if short == len(labelled):
        most = max(labelled)
        return f"no alert of the model could come: {begin}, and none here has more than {most:,}"
    of_all = f"{short:,} of {len(labelled):,} entities"
    return f"no alert of the model could come for {of_all}: {begin}, and they have no more"


def _days(seconds: float) -> str:
    days = float(f"{seconds / DAY_S:.2g}")
    return f"{days:,.0f} days" if days >= 10.0 else f"{days:g} days"
