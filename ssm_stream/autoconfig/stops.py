"""What stops and rests in a sample: whether the rules on it suit the data, and how to leave rest out.

Where machines end, as batches and test runs do, each end would be an alert.
"""

from __future__ import annotations

import json
import math
import shlex
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.autoconfig.columns import Column, median_step, name_words, word_set
from ssm_stream.autoconfig.roles import is_named_command
from ssm_stream.config import Config, Event, Model, Source
from ssm_stream.config.sections.alerts import SILENCE, STUCK, Alerts, Silence
from ssm_stream.config.sections.process import State
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
MAX_STATES, MIN_SIGNALS = 12, 3
"""Values of a column that shows states; signals that rest or do not."""
MIN_REST, MAX_REST, MIN_RUN = 0.03, 0.9, 5.0
"""Share of the rows in a state of rest, and rows of a stretch of it in the mean."""
STILL, MIN_RESTING = 1 / 3, 0.4
"""A signal rests where its noise is smaller than this share of that elsewhere; more than this share of them do. What a
controller holds in place has no ramps, and its noise as elsewhere: noise is how far values are off the line through
their neighbours."""
MIN_AT_REST, MIN_OFF, ALL_OFF = 0.9, 0.5, 0.75
"""Share of the rows of a state at zero by which a column that is zero at times, a flow or a current, is off in it;
share of these columns that must be, as a machine whose motor runs does not rest; and share that shows rest by itself:
sensors of a tank that stands still have their noise, and it cools down."""
MIN_STEPS = 5
"""Steps of a signal that show whether it rests: where there are fewer, as in columns of other machines, none do."""
FAULTS = word_set(
    "fault faults faulted faulty fail failed failure failures error errors alarm alarms alert alerts trip trips "
    "tripped emergency breakdown broken defect defective anomaly"
)
"""Words of states that are to be seen, though signals rest in them."""
ABOVE_ZERO = "above 0"


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


def find_stops(event: Event, rows: Sequence[Any]) -> Stops:
    """Return whether silence and stuck signals are worth watching.

    Args:
        event: the section, without an operating condition
        rows: the sample, as `EventReader` reads it
    """
    events, _ = EventReader(event).read(rows)
    stuck = _stuck_columns(event, events)
    messages, alerts = stuck.messages, Alerts()
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
    """watched, unwatched: as of `Stops`; messages: of silence, and of the columns that are watched, in the sample"""

    watched: list[str] | None
    unwatched: str
    messages: list[dict[str, Any]]


def _stuck_columns(event: Event, events: Events) -> _Stuck:
    """Return the columns in which a repeated value is worth an alert: what is set holds its value by command, and what
    would raise more alerts in the sample than the budget allows does so by itself.

    Of columns that would raise as many, those that repeat their values most are left out first.
    """
    columns = [*event.numbers, *event.targets]
    commands = [path for path in columns if is_named_command(path)]
    watched = [path for path in columns if path not in commands]
    allowed = max(len(events) / Alerts().anomaly.budget.events, 1.0)
    flooding = dict[str, int]()
    while True:
        messages = _messages(event, events, watched)
        counts = Counter(each["column"] for each in messages if each["kind"] == STUCK and each["phase"] == "started")
        if counts.total() <= allowed:
            break
        worst = max(counts, key=lambda path: (counts[path], _repeats(event, events, path)))
        flooding[worst] = counts[worst]
        watched.remove(worst)
    reasons = [f"{', '.join(commands)}: set by command, and held"] if commands else []
    if flooding:
        alerts = [f"{path} ({count} alert{'s' * (count != 1)} in the sample)" for path, count in flooding.items()]
        reasons.append(f"more alerts than the budget allows: {', '.join(alerts)}")
    return _Stuck(watched if reasons else None, "; ".join(reasons), messages)


def _messages(event: Event, events: Events, stuck: list[str]) -> list[dict[str, Any]]:
    """Return the messages of silence, and of what is stuck of these columns. events: of the sample"""
    alerts = Alerts(silence=Silence(), stuck=stuck)
    rules = SilenceAlerts(Config(source=Source(brokers="-", topic="-"), event=event, alerts=alerts))
    return [alert.message for alert in rules.process(events, 0, [])]


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
        if (group := _group(found, owners, entity, short)) is None:
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
    last = max((int(ts.max()) for ts in times.values()), default=0)
    few = {name: ts for name, ts in times.items() if len(ts) <= WARMUP}
    longest = {name: max(float(np.diff(np.sort(ts)).max(initial=0)), 1000.0 * step) for name, ts in few.items()}
    return {name for name, ts in few.items() if last - ts.max() > MAX_LATE * longest[name]}


def _group(
    found: Mapping[str, Column], owners: Mapping[int, Any], entity: str, short: Collection[str]
) -> Column | None:
    """Return the column with most values of those that group the entities, and whose groups last; None if none does."""
    groups = []
    for column in found.values():
        if (
            column.path == entity
            or not column.may_be_entity
            or not 1 < column.distinct <= len(set(owners.values())) / 2
        ):
            continue
        pairs = {(str(owners.get(i)), value) for i, value in column.values.items()}
        lasting = {value for name, value in pairs if name not in short}
        if len(pairs) == len(set(owners.values())) and len(lasting) >= (1.0 - MAX_ENDED) * column.distinct:
            groups.append(column)
    return max(groups, key=lambda column: column.distinct, default=None)


def rest_note(columns: Sequence[Column], owners: Mapping[int, Any]) -> str | None:
    """Return a note on the states in which many signals of a machine rest, and how to leave such rows out.

    Args:
        columns: those that are used, some of which show a state: zero in a number that is never below, or one of a few
            texts; those named like a fault show none
        owners: row → name of its entity
    """
    signals = {c.path: c.numbers for c in columns if c.kind in ("number", "whole") and c.distinct > MAX_STATES}
    before = _rows_before(columns[0].n if columns else 0, owners)
    steps = {path: _own_noise(x, before, owners) for path, x in signals.items()}
    flows = {c.path: c.numbers for c in columns if c.kind in ("number", "whole") and _is_zero_at_times(c)}
    best: tuple[bool, float, str] = (False, MIN_RESTING, "")
    for column in columns:
        states = {} if FAULTS & {*column.name} else _states(column)
        others = [x for path, x in steps.items() if path != column.path]
        if len(states) < 2:
            continue
        off = [x for path, x in flows.items() if path != column.path]
        still = {value: _share_that_rests(others, rows, before) for value, rows in states.items()}
        for value, rows in states.items():
            share = _share_off(off, rows)
            if share is not None and (share < MIN_OFF or (share >= ALL_OFF and len(off) >= MIN_SIGNALS)):
                still[value] = share if share >= ALL_OFF else 0.0
        resting = [value for value, share in still.items() if share > MIN_RESTING and not FAULTS & {*name_words(value)}]
        kept = [value for value in states if value not in resting]
        rests = np.any([states[value] for value in resting] or [np.zeros(column.n, np.bool_)], axis=0)
        starts = int(np.count_nonzero(rests & ~((before >= 0) & rests[before])))
        most = max((still[value] for value in resting), default=0.0)
        rank = column.kind in ("text", "flag"), most  # a name tells more than a zero that comes with it
        if kept and MIN_REST <= rests.mean() <= MAX_REST and rests.sum() >= MIN_RUN * starts and rank > best[:2]:
            names = " or ".join(resting)
            what = f"{names} in {rests.mean():.0%} of the rows, where many of the other signals rest"
            best = *rank, f"`{column.path}` is {what}: {_cure(column, kept, owners)}"
    return best[2] or None


def _cure(column: Column, kept: Sequence[str], owners: Mapping[int, Any]) -> str:
    """Return the operating condition that only the states that are kept meet, and what else it leaves out.

    A condition has no "all but": bounds are met by numbers that the sample does not show, a list of texts is not.
    """
    test = f"[{', '.join(kept)}]"
    if column.kind in ("number", "whole"):
        test = "0" if kept == ["0"] else "{above: 0}"
    having = {owners.get(i) for i in column.values}
    lacking = {owners.get(i) for i in range(column.n)} - having
    condition = f"{_as_json(column.path)}: {test}"
    entities = name_pattern(having, lacking) if lacking else None
    when = f"{{{condition}}}" if entities is None else f"[{{entities: {_as_json(entities)}, {condition}}}]"
    cure = f"event.when: {when} leaves them out of learning and alerts"
    if column.kind == "text":
        cure += ". A state that is not in the sample, such as a fault, is left out too unless you add it"
    missing = sum(owners.get(i) in having for i in range(column.n)) - len(column.values)
    if missing:
        cure += f". So are the {missing} rows without `{column.path}`"
    if lacking and entities is None:
        cure += (
            f". {len(lacking)} of {len(having | lacking)} machines never have `{column.path}` and would be left out "
            "for good: write an entry for each that has it, with `entities: NAME`"
        )
    return cure


def name_pattern(having: Collection[Any], lacking: Collection[Any]) -> str | None:
    """Return the beginning that the names of these entities share, as a pattern; None if others have it too."""
    first, last = min(map(str, having)), max(map(str, having))
    different = (i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b)
    begin = first[: next(different, min(len(first), len(last)))]
    if not begin or {*begin} & {*"*?["} or any(str(name).startswith(begin) for name in lacking):
        return None
    return f"{begin}*" if len(having) > 1 else begin


def _rows_before(n: int, owners: Mapping[int, Any]) -> NDArray[np.int64]:
    """Return of each row the one before of its entity, −1 if there is none."""
    last: dict[Any, int] = {}
    out = np.full(n, -1)
    for i in range(n):
        name = owners.get(i)
        out[i], last[name] = last.get(name, -1), i
    return out


def _is_zero_at_times(column: Column) -> bool:
    x = column.numbers[~np.isnan(column.numbers)]
    return bool((x >= 0).all()) and MIN_REST <= float(np.mean(x == 0)) <= MAX_REST


def _share_off(flows: Sequence[NDArray[np.float64]], rows: NDArray[np.bool_]) -> float | None:
    """Return the share of the columns that are zero at times which are so in a state; None if there are none.

    Args:
        flows: (n,) each such column
        rows: (n,) whether a row is in the state
    """
    known = [x[rows & np.isfinite(x)] for x in flows]
    off = [float(np.mean(x == 0)) >= MIN_AT_REST for x in known if len(x)]
    return sum(off) / len(off) if off else None


def _own_noise(x: NDArray[np.float64], before: NDArray[np.int64], owners: Mapping[int, Any]) -> NDArray[np.float64]:
    """Return how far a signal (n,) is off the line through the two values before, over the mean of its entity, as
    machines differ; NaN: unknown.

    Args:
        x: (n,) the signal
        before: (n,) row before of the entity, -1: none
        owners: row → name of its entity
    """
    steps = x - np.where(before >= 0, x[before], np.nan)
    steps = np.abs(steps - np.where(before >= 0, steps[before], np.nan))
    names: dict[Any, int] = {}
    codes = np.array([names.setdefault(owners.get(i), len(names)) for i in range(len(x))], np.int64)
    known = np.isfinite(steps)
    totals = np.bincount(codes[known], steps[known], minlength=len(names))
    counts = np.bincount(codes[known], minlength=len(names))
    means = np.divide(totals, counts, out=np.full(len(names), np.nan), where=totals > 0)
    own: NDArray[np.float64] = steps / means[codes]
    return own


def _states(column: Column) -> dict[str, NDArray[np.bool_]]:
    """Return the rows (n,) of each state that a column may show, by its value as JSON: of a number zero, and others."""
    x = column.numbers
    if column.kind in ("number", "whole") and column.distinct > 1 and not (x < 0).any():
        others = np.unique(x[x > 0])
        return {"0": x == 0.0, f"{others[0]:g}" if len(others) == 1 else ABOVE_ZERO: x > 0.0}
    states: dict[Any, NDArray[np.bool_]] = {}
    if column.kind in ("text", "flag") and column.distinct <= MAX_STATES:
        for i, value in column.values.items():
            states.setdefault(value, np.zeros(column.n, np.bool_))[i] = True
    return {_as_json(value): states[value] for value in sorted(states, key=str)}


def _share_that_rests(
    steps: Sequence[NDArray[np.float64]], rows: NDArray[np.bool_], before: NDArray[np.int64]
) -> float:
    """Return the share of the signals whose noise is small within a state, of those that are known in it and elsewhere;
    0 if these are too few.

    Args:
        steps: (n,) noise of each signal
        rows: (n,) whether a row is in the state
        before: (n,) row before of the entity, -1: none
    """
    earlier = before[before]
    inside, outside = rows & rows[before] & rows[earlier], ~(rows | rows[before] | rows[earlier])
    means = [(_mean(x[inside]), _mean(x[outside])) for x in steps]
    known = [(within, elsewhere) for within, elsewhere in means if within is not None and elsewhere is not None]
    if len(known) < MIN_SIGNALS:
        return 0.0
    return sum(within < STILL * elsewhere for within, elsewhere in known) / len(known)


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _mean(steps: NDArray[np.float64]) -> float | None:
    """Return the mean of the steps that are known; None if there are too few."""
    known = steps[np.isfinite(steps)]
    return float(known.mean()) if len(known) >= MIN_STEPS else None
