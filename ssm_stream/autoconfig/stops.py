"""What stops in a sample: whether the rules on it suit the data.

Where machines end, as batches and test runs do, each end would be an alert.
"""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.autoconfig.columns import Column, median_step
from ssm_stream.config import Config, Event, Model, Source
from ssm_stream.config.sections.alerts import SILENCE, STUCK, Alerts, Silence
from ssm_stream.config.sections.process import State
from ssm_stream.engine.alerts import Alert
from ssm_stream.engine.rules.silence import SilenceAlerts
from ssm_stream.ingest.events import EventReader, Events

MAX_ENDED = 0.1
"""Share of the entities that end up to which an end is worth an alert."""
MIN_DAYS, TIMES_AWAY = 7, 4
"""Days for which a machine is remembered at least, as a sample of a few days shows no weekend; and times the longest
absence of one that came back."""
DAY_S, DAY_MS = 86_400.0, 86_400_000.0
MAX_LATE = 10
"""Times its longest step before the end of the sample up to which a machine may yet go on."""
WARMUP = Model().warmup
UNJUDGED = "not judged by the sample, whose windows are too few"
"""Why the switches are left out where rows are windows of those of the sample."""
MAX_ALERTS = 4.0
"""Times what the default budget allows for the sample, up to which a switch is worth its alerts; or one an entity."""
MAX_LISTED = 5
"""Columns that a reason names, with their alerts."""


class Stops(NamedTuple):
    """What ends and stops in the sample.

    Attributes:
        silence, stuck: why the switch is left out; None: it is not
        columns: why silence is that of machines only
        watched: columns that may be stuck, where others are no signals to watch so; None: all
        unwatched: why the others are not
        ttl: `state.ttl` that suits a sample whose machines end, s; None: the default does
    """

    silence: str | None = None
    stuck: str | None = None
    columns: str | None = None
    ttl: float | None = None
    watched: list[str] | None = None
    unwatched: str = ""


def find_stops(event: Event, rows: Sequence[Any], commands: Collection[str]) -> Stops:
    """Return whether silence and stuck signals are worth watching.

    Args:
        event: the section, without an operating condition
        commands: paths of what is set, and held
        rows: the sample, as `EventReader` reads it
    """
    events, _ = EventReader(event).read(rows)
    stuck = _stuck_columns(event, events, commands)
    messages, alerts = [each.message for each in stuck.alerts], Alerts()
    phase_by_entity = {
        each["entity"]: each["phase"] for each in messages if each["kind"] == SILENCE and each["column"] is None
    }
    times = _times_by_entity(events)
    stopped = {name for name, phase in phase_by_entity.items() if phase == "started"}
    # Silence is judged by the gaps of an entity, of which the shortest-lived have too few.
    ended = stopped | _short_lived(times, median_step(events.entity, events.ts))
    entities = len(times)
    started = [each for each in messages if each["phase"] == "started"]
    missing = [each["column"] for each in started if each["kind"] == SILENCE]
    allowed = max(MAX_ALERTS * len(events) / alerts.anomaly.budget.events, entities)
    # A column that has values in some states of the process only is no reason to leave machines alone that fall silent.
    by_column = Counter(path for path in missing if path is not None)
    silence = _too_many(len(missing) - by_column.total(), allowed)
    stops = Stops(silence, stuck.unwatched) if stuck.watched == [] else Stops(silence, None, None, None, *stuck[:2])
    if len(ended) > MAX_ENDED * entities:
        silence = f"{len(ended)} of {entities} machines end within the sample"
        return stops._replace(silence=silence, ttl=_time_to_live(times, ended))
    columns = None
    if silence is None and len(missing) > allowed:
        ((path, count),) = by_column.most_common(1)
        others = f", the other columns {by_column.total() - count}" if len(by_column) > 1 else ""
        columns = f"{path} would raise {count} alerts in the sample{others}"
    return stops._replace(columns=columns)


class _Stuck(NamedTuple):
    """watched, unwatched: as of `Stops`; alerts: of silence, and of the columns that are watched, in the sample"""

    watched: list[str] | None
    unwatched: str
    alerts: list[Alert]


def _stuck_columns(event: Event, events: Events, commands: Collection[str]) -> _Stuck:
    """Return the columns in which a repeated value is worth an alert: what is set holds its value by command, and what
    would raise more alerts in the sample than the budget allows does so by itself.

    Those are left out first that would raise most alerts alone, as columns that stop together are one alert, which
    is that of another where one of them is not watched; and of these, those that repeat their values most.
    """
    columns = [*event.numbers, *event.targets]
    held = [path for path in columns if path in commands]
    watched = [path for path in columns if path not in held]
    allowed = max(len(events) / Alerts().anomaly.budget.events, 1.0)
    flooding = dict[str, int]()
    while True:
        alerts = _alerts(event, events, watched)
        started = [each for each in alerts if each.message["kind"] == STUCK and each.message["phase"] == "started"]
        if len(started) <= allowed:
            break
        counts = Counter(each.message["column"] for each in started)
        alone = Counter(each.message["column"] for each in started if not each.others)
        worst = max(counts, key=lambda path: (alone[path], counts[path], _repeats(event, events, path)))
        flooding[worst] = counts[worst]
        watched.remove(worst)
    reasons = [f"{', '.join(held)}: set by command, and held"] if held else []
    if flooding:
        some = list(flooding.items())[:MAX_LISTED]
        listed = [f"{path} ({count} alert{'s' * (count != 1)})" for path, count in some]
        listed += [f"{len(flooding) - MAX_LISTED} more"] if len(flooding) > MAX_LISTED else []
        reasons.append(f"{', '.join(listed)}: with these the sample would have more alerts than the budget allows")
    return _Stuck(watched if reasons else None, "; ".join(reasons), alerts)


def _alerts(event: Event, events: Events, stuck: list[str]) -> list[Alert]:
    """Return the alerts of silence, and of what is stuck of these columns. events: of the sample"""
    alerts = Alerts(silence=Silence(), stuck=stuck)
    rules = SilenceAlerts(Config(source=Source(brokers="-", topic="-"), event=event, alerts=alerts))
    return rules.process(events, 0, [])


def _repeats(event: Event, events: Events, path: str) -> float:
    """Return the share of its values that a column repeats from one row of an entity to the next."""
    at = event.numbers.index(path) if path in event.numbers else -1
    x = events.features[:, at] if at >= 0 else events.target.reshape(len(events), -1)[:, event.targets.index(path)]
    runs = [x[rows][np.isfinite(x[rows])] for rows in _rows_by_entity(events).values()]
    equal = sum(int(np.count_nonzero(np.diff(run) == 0.0)) for run in runs)
    return equal / max(sum(len(run) - 1 for run in runs if len(run)), 1)


def _too_many(count: int, allowed: float) -> str | None:
    return f"it would raise {count} alerts in the sample" if count > allowed else None


def _time_to_live(times: Mapping[str, NDArray[np.int64]], ended: Collection[str]) -> float | None:
    """Return the whole days, s, after which a machine that ends may be forgotten; None if the default does.

    They are more than any absence in the sample, and than the life of any that ended: what ran for months may stand
    still for weeks.

    Args:
        times: of each entity, ms
        ended: entities that end in the sample
    """
    away = [TIMES_AWAY * float(np.diff(np.sort(ts)).max(initial=0)) for ts in times.values()]
    lives = [float(np.ptp(times[name])) for name in ended]
    days = max(MIN_DAYS, math.ceil(max([*away, *lives]) / DAY_MS))
    default = State().ttl
    return None if default is None or days * DAY_S >= default else days * DAY_S


def _times_by_entity(events: Events) -> dict[str, NDArray[np.int64]]:
    """Return the times of each entity, ms."""
    return {name: events.ts[at] for name, at in _rows_by_entity(events).items()}


def _rows_by_entity(events: Events) -> dict[str, list[int]]:
    """Return the rows of each entity."""
    rows: dict[str, list[int]] = {}
    for i, name in enumerate(events.entity):
        rows.setdefault(name, []).append(i)
    return rows


def warmup_note(
    events: Events, entity: str | None, found: Mapping[str, Column], owners: Mapping[int, Any]
) -> str | None:
    """Return a note where machines end before they can raise an alert, with what there is in place of them; or where
    the sample is shorter than that.

    Args:
        events: of the sample
        entity: path of the entity's name
        found: path → column
        owners: row → name of its entity
    """
    times = _times_by_entity(events)
    short = _short_lived(times, median_step(events.entity, events.ts))
    if entity is not None and len(short) > MAX_ENDED * len(times):
        note = (
            f"{len(short)} of {len(times)} machines (`{entity}`) end in the sample within {WARMUP} rows, before the "
            "model may raise an alert of them (model.warmup)"
        )
        if (group := _group(found, owners, entity, events)) is None:
            return f"{note}: if a column groups them, such as a service or a line, name it with --entity"
        return (
            f"{note}: --entity {shlex.quote(group.path)} watches what lasts ({group.distinct} values). Rows of several "
            "machines then share a time: make one of them by event.aggregate (docs/data-shapes.md#windows)"
        )
    if len(events) < WARMUP * len(times):
        return (
            f"about {len(events) // max(len(times), 1)} rows an entity in the sample: it can raise alerts from its "
            f"event {WARMUP} on (model.warmup)"
        )
    return None


def _short_lived(times: Mapping[str, NDArray[np.int64]], step: float) -> set[str]:
    """Return the entities that end in the sample before they may raise an alert.

    Args:
        times: of each entity, ms
        step: usual one between rows of an entity, s
    """
    return _ended(times, step) & {name for name, ts in times.items() if len(ts) <= WARMUP}


def _ended(times: Mapping[Any, NDArray[np.int64]], step: float) -> set[Any]:
    """Return what has no row any more for long before the sample's last. times, step: as of `_short_lived`"""
    last = max((int(ts.max()) for ts in times.values()), default=0)
    longest = {name: max(float(np.diff(np.sort(ts)).max(initial=0)), 1000.0 * step) for name, ts in times.items()}
    return {name for name, ts in times.items() if last - ts.max() > MAX_LATE * longest[name]}


def _group(found: Mapping[str, Column], owners: Mapping[int, Any], entity: str, events: Events) -> Column | None:
    """Return the column with most values of those that group the entities, and whose groups last; None if none does.

    A group may last though each of its entities ends, as a service does, and not though some of these had many rows, as
    a version.
    """
    step = median_step(events.entity, events.ts)
    groups = []
    for column in found.values():
        if (
            column.path == entity
            or not column.may_be_entity
            or not 1 < column.distinct <= len(set(owners.values())) / 2
        ):
            continue
        pairs = {(str(owners.get(i)), value) for i, value in column.values.items()}
        if len(pairs) != len(set(owners.values())):
            continue
        of = np.array([str(column.values.get(i)) for i in events.position.tolist()])
        ended = _ended({value: events.ts[of == value] for value in np.unique(of).tolist()}, step)
        if len(ended) <= MAX_ENDED * column.distinct:
            groups.append(column)
    return max(groups, key=lambda column: column.distinct, default=None)
