"""What stops and rests in a sample: whether the rules on it suit the data, and how to leave rest out.

Where machines end, as batches and test runs do, each end would be an alert.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.autoconfig.columns import Column
from ssm_stream.config import Config, Event, Source
from ssm_stream.config.sections.alerts import SILENCE, Alerts, Silence
from ssm_stream.engine.rules.silence import SilenceAlerts
from ssm_stream.ingest.events import EventReader

MAX_ENDED = 0.1
"""Share of the entities that end up to which an end is worth an alert."""
MAX_ALERTS = 4.0
"""Times what the default budget allows for the sample, up to which a switch is worth its alerts; or one an entity."""
MAX_STATES, MIN_SIGNALS = 12, 3
"""Values of a column that shows states; signals that rest or do not."""
MIN_REST, MAX_REST, MIN_RUN = 0.03, 0.9, 5.0
"""Share of the rows in a state of rest, and rows of a stretch of it in the mean."""
STILL, MIN_RESTING = 1 / 3, 0.4
"""A signal rests where its steps are smaller than this share of those elsewhere; more than this share of them do."""


class Stops(NamedTuple):
    """What a switch would do on the sample: why it is left out; None: it is not.

    columns: why silence is that of machines only
    """

    silence: str | None = None
    stuck: str | None = None
    columns: str | None = None


def find_stops(event: Event, rows: Sequence[Any]) -> Stops:
    """Return whether silence and stuck signals are worth watching.

    Args:
        event: the section, without an operating condition
        rows: the sample, as `EventReader` reads it
    """
    events, _ = EventReader(event).read(rows)
    alerts = Alerts(silence=Silence(), stuck=True)
    rules = SilenceAlerts(Config(source=Source(brokers="-", topic="-"), event=event, alerts=alerts))
    messages = [alert.message for alert in rules.process(events, 0, [])]
    phase_by_entity = {
        each["entity"]: each["phase"] for each in messages if each["kind"] == SILENCE and each["column"] is None
    }
    ended, entities = [*phase_by_entity.values()].count("started"), len(set(events.entity))
    started = [each for each in messages if each["phase"] == "started"]
    missing = [each["column"] for each in started if each["kind"] == SILENCE]
    stuck = len(started) - len(missing)
    allowed = max(MAX_ALERTS * len(events) / alerts.anomaly.budget.events, entities)
    # A column that has values in some states of the process only is no reason to leave machines alone that fall silent.
    by_column = Counter(path for path in missing if path is not None)
    machines = len(missing) - by_column.total()
    silence = _too_many(machines, allowed)
    if ended > MAX_ENDED * entities:
        silence = f"{ended} of {entities} machines end within the sample"
    columns = None
    if silence is None and len(missing) > allowed:
        ((path, count),) = by_column.most_common(1)
        others = f", the other columns {by_column.total() - count}" if len(by_column) > 1 else ""
        columns = f"{path} would raise {count} alerts in the sample{others}"
    return Stops(silence, _too_many(stuck, allowed), columns)


def _too_many(count: int, allowed: float) -> str | None:
    return f"it would raise {count} alerts in the sample" if count > allowed else None


def rest_note(columns: Sequence[Column], owners: Mapping[int, Any]) -> str | None:
    """Return a note on the states in which many signals of a machine rest, and how to leave such rows out.

    Args:
        columns: those that are used, some of which show a state: zero in a number that is never below, or one of a few
            texts
        owners: row → name of its entity
    """
    signals = {c.path: c.numbers for c in columns if c.kind in ("number", "whole") and c.distinct > MAX_STATES}
    before = _rows_before(columns[0].n if columns else 0, owners)
    steps = {path: np.abs(x - np.where(before >= 0, x[before], np.nan)) for path, x in signals.items()}
    best: tuple[float, str] = (MIN_RESTING, "")
    for column in columns:
        states, test = _states(column)
        others = [x for path, x in steps.items() if path != column.path]
        if len(states) < 2 or len(others) < MIN_SIGNALS:
            continue
        still = {value: _share_that_rests(others, rows, rows[before]) for value, rows in states.items()}
        resting = [value for value, share in still.items() if share > MIN_RESTING]
        rests = np.any([states[value] for value in resting] or [np.zeros(column.n, np.bool_)], axis=0)
        starts = int(np.count_nonzero(rests & ~((before >= 0) & rests[before])))
        most = max(still.values())
        if MIN_REST <= rests.mean() <= MAX_REST and rests.sum() >= MIN_RUN * starts and most > best[0]:
            names = " or ".join(map(_as_json, resting))
            what = f"{names} in {rests.mean():.0%} of the rows, where many of the other signals rest"
            when = f"{{{_as_json(column.path)}: {test([value for value in states if value not in resting])}}}"
            best = most, f"`{column.path}` is {what}: event.when: {when} leaves them out of learning and alerts"
    return best[1] or None


def _rows_before(n: int, owners: Mapping[int, Any]) -> NDArray[np.int64]:
    """Return of each row the one before of its entity, −1 if there is none."""
    last: dict[Any, int] = {}
    out = np.full(n, -1)
    for i in range(n):
        name = owners.get(i)
        out[i], last[name] = last.get(name, -1), i
    return out


def _states(column: Column) -> tuple[dict[Any, NDArray[np.bool_]], Callable[[list[Any]], str]]:
    """Return the rows of each state that a column may show, and the test of those that are left."""
    x = column.numbers
    if column.kind in ("number", "whole") and column.distinct > 1 and not (x < 0).any():
        return {0: x == 0.0, None: x > 0.0}, lambda _: "{above: 0}"
    states: dict[Any, NDArray[np.bool_]] = {}
    if column.kind in ("text", "flag") and column.distinct <= MAX_STATES:
        for i, value in column.values.items():
            states.setdefault(value, np.zeros(column.n, np.bool_))[i] = True
    return {value: states[value] for value in sorted(states, key=str)}, _as_json


def _share_that_rests(
    steps: Sequence[NDArray[np.float64]], rows: NDArray[np.bool_], before: NDArray[np.bool_]
) -> float:
    """Return the share of the signals whose steps are small within a state. rows, before: whether a row, and the one
    before it, are in it"""
    inside, outside = rows & before, ~rows & ~before
    return sum(_mean(x[inside]) < STILL * _mean(x[outside]) for x in steps) / len(steps)


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _mean(steps: NDArray[np.float64]) -> float:
    known = steps[np.isfinite(steps)]
    return float(known.mean()) if len(known) else 0.0
