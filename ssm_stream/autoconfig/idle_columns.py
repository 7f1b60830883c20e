"""Features of a sample that carry no gradient: constant ones, and those that others hold."""

from __future__ import annotations

import numpy as np

from ssm_stream.autoconfig.signals import Narrowed
from ssm_stream.config import Event
from ssm_stream.core.excitation import Collinear, Excitation, measure_excitation
from ssm_stream.ingest.events import Events

MIN_ROWS = 200
"""Events without which a sample does not show what is constant or a copy."""
MIN_ROWS_EACH = 10
"""Events a feature without which collinear columns may be an accident of the sample."""
MAX_LISTED = 5
"""Collinear columns that a note names."""


def without_idle_columns(event: Event, events: Events) -> Narrowed:
    """Return the section without the constant features and the copies of others.

    events: those of the sample, read by the section
    """
    found = _measured(event, events)
    if found is None:
        return Narrowed(event, {}, {}, [])
    left_out = {
        name: f"the same in all {len(events):,} rows of the sample, so no gradient reaches its weight; name it under "
        "features if it will move"
        for name in found.dead
    }
    left_out |= {
        each.column: f"{each.others[0]} in another unit: it adds no direction to the gradient"
        for each in _collinear(found, events)
        if _is_copy(each)
    }
    features = [name for name in event.numbers if name not in left_out]
    if not features and not event.categories and not event.lags and not event.calendar:
        return Narrowed(event, {}, {}, [f"no feature varies in the sample: {', '.join(event.numbers)}"])
    return Narrowed(event.model_copy(update={"features": features}), left_out, {}, [])


def collinear_notes(event: Event, events: Events) -> list[str]:
    """Return a note on the features that others hold, or nearly hold.

    events: those of the sample, read by the section
    """
    found = _measured(event, events)
    columns = [] if found is None else [each for each in _collinear(found, events) if not _is_copy(each)]
    if not columns:
        return []
    listed = "; ".join(_described(each) for each in columns[:MAX_LISTED])
    more = f"; and {len(columns) - MAX_LISTED} more" if len(columns) > MAX_LISTED else ""
    return [
        f"collinear features: {listed}{more}. Predictions do not suffer, but single weights mean little "
        "(ssm-stream verify has the rank)"
    ]


def _measured(event: Event, events: Events) -> Excitation | None:
    names = event.numbers
    if not names or len(events) < MIN_ROWS:
        return None
    return measure_excitation(np.asarray(events.features[:, : len(names)], np.float64), names)


def _collinear(found: Excitation, events: Events) -> tuple[Collinear, ...]:
    return found.collinear if len(events) >= MIN_ROWS_EACH * found.inputs else ()


def _is_copy(column: Collinear) -> bool:
    return column.exact and len(column.others) == 1


def _described(column: Collinear) -> str:
    share = "all" if column.exact else f"{1.0 - column.left:.2%}"
    return f"{column.column} ({share} of its variance is held by {', '.join(column.others)})"
