"""Days and weeks of the fleet and of one entity, from its hours."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.engine.summaries.columns import HOUR_MS, KINDS
from ssm_stream.ui.history.hours import HOURS, Columns, HourlyHistory

DAYS = (1, HOURS // 24)
"""Days of a report, at least and at most."""
MOST = 20
"""Entities that a report lists."""
WITHOUT_EVENTS = 24
"""Hours before the newest one without an event after which an entity is listed."""
Content = dict[str, Any]


def entity_history(history: HourlyHistory, entity: str) -> Content:
    """Return the hours of an entity, a list for each target, as columns."""
    latest = history.latest.get(entity)
    found = []
    for target, cells in history.rows_of(entity):
        columns = {
            name: [_number(each) for each in cells[name].tolist()]
            for name in ("mean", "mean_predicted", "error", "relative", "coverage", "score")
        }
        found.append(
            {
                "target": target,
                "hour": (cells["hour"].astype(np.int64) * HOUR_MS).tolist(),
                "events": cells["events"].tolist(),
                "inside": cells["inside"].tolist(),
                "alerts": cells["alerts"].sum(axis=1, dtype=np.int64).tolist(),
                **columns,
            }
        )
    return {
        "entity": entity,
        "known": latest is not None,
        "last": None if latest is None else latest.last,
        "silent_since": None if latest is None else latest.silence,
        "targets": found,
    }


def fleet_report(history: HourlyHistory, days: int) -> Content:
    """Return what the last days were, in hours that end with the newest summary."""
    keys, cells = history.hours(24 * days)
    names, row = [entity for entity, _ in keys], cells["row"]
    first = _first_of_each_entity(names)[row]  # alerts are the entity's, whatever the target
    end = (history.newest + 1) * HOUR_MS if keys else None
    by_day = _totals(cells, first, days - 1 - (history.newest - cells["hour"]) // 24, days)
    begins = [] if end is None else [end - (days - i) * 24 * HOUR_MS for i in range(days)]
    return {
        "days": [{"begin": begin, **by_day.content(i)} for i, begin in enumerate(begins)],
        "end": end,
        "entities": len(np.unique(row[first])),
        "kinds": list(KINDS),
        **_totals(cells, first, np.zeros(len(row), np.int64), 1).content(0),
        "worst": _worst(history, names, cells, _totals(cells, first, row, len(names))),
        "silent": _silences(history),
    }


def _first_of_each_entity(names: list[str]) -> NDArray[np.bool_]:
    seen = dict[str, int]()
    for i, name in enumerate(names):
        seen.setdefault(name, i)
    found = np.zeros(len(names), np.bool_)
    found[list(seen.values())] = True
    return found


class _Totals(NamedTuple):
    """Sums and means of n groups of hours. alerts: (n, kinds); relative, coverage: NaN where none is known"""

    events: NDArray[np.float64]
    alerts: NDArray[np.float64]
    inside: NDArray[np.float64]
    hours: NDArray[np.int64]
    relative: NDArray[np.float64]
    coverage: NDArray[np.float64]

    def content(self, i: int) -> Content:
        """Return those of one group."""
        return {
            "events": int(self.events[i]),
            "alerts": self.alerts[i].astype(int).tolist(),
            "inside": int(self.inside[i]),
            "hours": int(self.hours[i]),
            "relative": _number(float(self.relative[i])),
            "coverage": _number(float(self.coverage[i])),
        }


def _totals(cells: Columns, first: NDArray[np.bool_], group: NDArray[np.int64], n: int) -> _Totals:
    """Return the totals of n groups. first: whose events and alerts count; group: of each hour, from 0"""

    def total(values: NDArray[Any], keep: NDArray[np.bool_]) -> NDArray[np.float64]:
        return np.bincount(group[keep], values[keep].astype(np.float64), minlength=n).astype(np.float64)

    def mean(name: str) -> NDArray[np.float64]:
        events = cells["events"].astype(np.float64)
        known = np.isfinite(cells[name]) & (events > 0)
        weight = total(events, known)
        found = np.full(n, np.nan)
        np.divide(total(cells[name] * events, known), weight, out=found, where=weight > 0)
        return found

    alerts = np.zeros((n, len(KINDS)))
    some = first & cells["alerts"].any(axis=1)
    np.add.at(alerts, group[some], cells["alerts"][some])
    hours = np.bincount(group[first], minlength=n)
    return _Totals(
        total(cells["events"], first), alerts, total(cells["inside"], first), hours, mean("relative"), mean("coverage")
    )


def _worst(history: HourlyHistory, names: list[str], cells: Columns, totals: _Totals) -> list[Content]:
    """Return the entities with the most alerts, then the longest time in episodes, then the largest errors."""
    alerts, relative = totals.alerts.sum(axis=1), np.nan_to_num(totals.relative)
    score = np.zeros(len(names))
    np.maximum.at(score, cells["row"], np.nan_to_num(cells["score"]).astype(np.float64))
    found = dict[str, Content]()
    for i in np.lexsort((-relative, -totals.inside, -alerts)).tolist():
        latest = history.latest.get(names[i])
        if len(found) == MOST or not (alerts[i] or totals.inside[i] or relative[i] > 1):
            break
        if names[i] in found or latest is None:
            continue
        found[names[i]] = {
            "entity": names[i],
            "alerts": int(alerts[i]),
            "inside": int(totals.inside[i]),
            "relative": _number(float(totals.relative[i])),
            "score": float(score[i]),
            "open": list(latest.open),
        }
    return list(found.values())


def _silences(history: HourlyHistory) -> list[Content]:
    """Return the entities with an open alert of silence, or without an event for a day."""
    with history.lock:
        latest = list(history.latest.items())
    before = (history.newest + 1 - WITHOUT_EVENTS) * HOUR_MS
    found = [
        (each.silence or each.last or each.hour, name)
        for name, each in latest
        if each.silence is not None or (each.last or each.hour + HOUR_MS) < before
    ]
    return [{"entity": name, "since": since} for since, name in sorted(found, reverse=True)[:MOST]]


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)


def days_of(query: Mapping[str, str]) -> int:
    """Return the days that a request names; a week unless it does."""
    try:
        return min(max(int(query.get("days") or DAYS[1]), DAYS[0]), DAYS[1])
    except ValueError:
        return DAYS[1]
