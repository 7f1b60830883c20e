"""What stops in a sample, and in the rows of a file that follow it: whether the rules on it suit the data.

Where machines end, as batches and test runs do, each end would be an alert. A sample of an hour has few ends of
machines that live for half a day, so ends are judged by later rows, too, where there are any.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.autoconfig.alert_rules.budgets import DAY_S, budget_of, patience_events
from ssm_stream.autoconfig.alert_rules.slow_falls import SLOW_FALL, falls_slowly
from ssm_stream.autoconfig.columns import median_step
from ssm_stream.config import Config, Event, Model, Source
from ssm_stream.config.quantities import plural, rough_duration
from ssm_stream.config.sections.alerts import SILENCE, STUCK, Alerts, Silence
from ssm_stream.config.sections.process import State
from ssm_stream.engine.alerts import Alert
from ssm_stream.engine.rules.silence import SilenceAlerts
from ssm_stream.ingest.events import EventReader, Events
from ssm_stream.ingest.factorize import factorize

MAX_ENDED = 0.1
"""Share of the entities that end up to which an end is worth an alert."""
MOST, SELDOM_MS = 0.5, 7 * 86_400_000.0
"""Share up to which it is, too, where ends come no more often than this, ms: sensors that are taken out in a year."""
MIN_DAYS, TIMES_AWAY = 7, 4
"""Days for which a machine is remembered at least, as a sample of a few days shows no weekend; and times the longest
absence of one that came back."""
DAY_MS = 1000.0 * DAY_S
MIN_SPAN_MS, MIN_COVERED, LONGER = 14 * DAY_MS, 0.95, 1.5
"""Time of the rows that shows how long machines pause, with a weekend and its repetition; share of the machines whose
longest pause is no alert; and times that by which one is longer than those."""
MAX_LATE = 10
"""Times its longest step before the end of the sample up to which a machine may yet go on."""
AHEAD = 0.05
"""Share of the machines whose clocks may be ahead: while they alone have rows, the others have not ended."""
WARMUP = Model().warmup
UNJUDGED = "not judged by the sample, whose windows are too few"
"""Why the switches are left out where rows are windows of those of the sample."""
MAX_ALERTS = 4.0
"""Times what the drafted budget allows for the sample, up to which a switch is worth its alerts; or one an entity."""
MAX_LISTED = 5
"""Columns that a reason names, with their alerts."""
MAX_MACHINES = 100_000
"""Machines in later rows after which no more of these are read."""
SAMPLE = "the sample"


class Life(NamedTuple):
    """Of an entity: its first and its last time, ms, the longest time between two of its rows, ms, and their number."""

    first: int
    last: int
    longest: float
    rows: int


class Stops(NamedTuple):
    """What ends and stops in the sample; what ends, in the rows of its file that follow, too.

    Attributes:
        silence, stuck: why the switch is left out; None: it is not
        columns: why silence is that of machines only, where it is not left out
        watched: columns that may be stuck, where others are no signals to watch so; None: all
        unwatched: why the others are not
        ttl: `state.ttl` that suits a sample whose machines end, s; None: the default does
        after, pauses: `alerts.silence.after` of machines that pause, s, and why; None: `auto` does
        machines: whose ends are judged; 0: none are
        within, span: a name of the rows by which they are, and their time, s
    """

    silence: str | None = None
    stuck: str | None = None
    columns: str | None = None
    ttl: float | None = None
    watched: list[str] | None = None
    unwatched: str = ""
    machines: int = 0
    within: str = SAMPLE
    span: float = 0.0
    after: float | None = None
    pauses: str = ""


def find_stops(event: Event, rows: Sequence[Any], commands: Collection[str]) -> Stops:
    """Return whether silence and stuck signals are worth watching.

    Args:
        event: the section, without an operating condition
        commands: paths of what is set, and held
        rows: the sample, as `EventReader` reads it
    """
    events, _ = EventReader(event).read(rows)
    stuck = _stuck_columns(event, events, commands)
    messages = [each.message for each in stuck.alerts]
    phase_by_entity = {
        each["entity"]: each["phase"] for each in messages if each["kind"] == SILENCE and each["column"] is None
    }
    lives = lives_of(events)
    stopped = {name for name, phase in phase_by_entity.items() if phase == "started"}
    started = [each for each in messages if each["phase"] == "started"]
    missing = [each["column"] for each in started if each["kind"] == SILENCE]
    # A column that has values in some states of the process only is no reason to leave machines alone that fall silent.
    by_column = Counter(path for path in missing if path is not None)
    of_machines = len(missing) - by_column.total()
    stops = Stops(None, stuck.unwatched) if stuck.watched == [] else Stops(None, None, None, None, *stuck[:2])
    stops = _with_ends(stops, lives, _Gaps(stopped, of_machines, len(events)), step_of(events), SAMPLE)
    allowed = _allowed(len(events), len(lives), step_of(events))
    if of_machines <= allowed < len(missing):
        ((path, count),) = by_column.most_common(1)
        others = f", the other columns {by_column.total() - count}" if len(by_column) > 1 else ""
        stops = stops._replace(columns=f"{path} would raise {plural(count, 'alert')} in the sample{others}")
    return stops


class LaterRows:
    """Machines in all rows of a file, read part by part: what the rule on silence finds, and how long each lives.

    Attributes:
        event: the section by which the rows are read: entity and time only
        alerts: the section by which they are judged
    """

    def __init__(self, event: Event, step: float = 0.0) -> None:
        """event: the section, with a column for the entity; step: between two events of one, s, 0 if it is unknown"""
        self.event = _times_only(event)
        self.alerts = _drafted(step, silence=Silence(columns=False))
        self._rules = SilenceAlerts(Config(source=Source(brokers="-", topic="-"), event=self.event, alerts=self.alerts))
        self._are_readings = event.layout == "readings"
        self._gaps, self._step = _Gaps(set(), 0, 0), math.nan
        self._lives: dict[str, Life] = {}

    def add(self, events: Events) -> bool:
        """Add the next rows; return whether there is room for more machines."""
        if not len(events):
            return True
        codes = factorize(events.entity, {})
        if self._are_readings:  # of which those of one time make a row
            order = np.lexsort((events.ts, codes))
            repeats = (np.diff(codes[order], prepend=-1) == 0) & (np.diff(events.ts[order], prepend=0) == 0)
            kept = np.sort(order[~repeats])
            events, codes = events.take(kept), codes[kept]
        stopped, started, rows = self._gaps
        for alert in self._rules.process(events, 0, []):
            name, begins = alert.message["entity"], alert.message["phase"] == "started"
            started += begins
            (stopped.add if begins else stopped.discard)(name)
        self._gaps = _Gaps(stopped, started, rows + len(events))
        if math.isnan(self._step):
            self._step = step_of(events)
        order = np.argsort(codes, kind="stable")
        starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
        for at, ts in zip(order[starts].tolist(), np.split(events.ts[order], starts[1:]), strict=True):
            name, first = events.entity[at], int(ts.min())
            old = self._lives.get(name, Life(first, int(ts[0]), 0.0, 0))
            # A row that comes late ends no absence.
            latest = np.maximum.accumulate(np.append(old.last, ts))
            longest = max(old.longest, float(np.diff(latest).max()))
            self._lives[name] = Life(min(old.first, first), int(latest[-1]), longest, old.rows + len(ts))
        return len(self._lives) < MAX_MACHINES

    def judge(self, stops: Stops, within: str) -> Stops:
        """Return what ends in all the rows, in place of what ends in the sample. within: a name of these rows"""
        if not self._lives:
            return stops
        return _with_ends(stops, self._lives, self._gaps, self._step, within)


def judge_last(stops: Stops, event: Event, first: Sequence[Any], last: Sequence[Any]) -> Stops:
    """Return whether silence is worth watching by the first and the last messages of a topic, and none between them.

    Only of machines whose next message must be among the last is it known that they have ended.
    """
    reader = EventReader(_times_only(event))
    head, tail = reader.read(first)[0], reader.read(last)[0]
    lives, least = lives_of(head), 1000.0 * step_of(head)
    if not len(head) or not len(tail) or int(tail.ts.min()) < int(head.ts.max()):
        return stops
    time, left = int(np.ptp(tail.ts)), set(tail.entity)
    known = {name for name, life in lives.items() if name in left or time > MAX_LATE * max(life.longest, least)}
    if len(known) < (1.0 - MAX_ENDED) * len(lives):
        return stops
    gone, span = known - left, int(tail.ts.max() - head.ts.min())
    stops = stops._replace(within="the topic", span=span / 1000)
    if not _are_many(len(gone), len(lives), span):
        return stops
    silence = f"{len(gone)} of {len(lives)} machines of the topic's first messages are not in its last {len(last):,}"
    return stops._replace(silence=silence, ttl=_ttl(span))


def ttl_reason(stops: Stops) -> str:
    """Return why `state.ttl` is set."""
    return f"{stops.silence}: after so long without events the open alerts of one end, too"


def ends_note(stops: Stops | None) -> str | None:
    """Return a note where silence is watched, and the rows are of too short a time to show that machines end.

    Fleets grow and shrink with the time of day: rows of less than a day may lie between two ends. Of so few machines
    that one is more than `MAX_ENDED` of them there is none.
    """
    if stops is None or stops.silence is not None or stops.span >= DAY_S or stops.machines * MAX_ENDED < 1.0:
        return None
    return (
        f"the {rough_duration(stops.span)} of {stops.within} are too short a time to show whether {stops.machines} "
        "machines come and go, as pods do: if so, take alerts.silence out, as each end would be an alert that stays "
        f"open until state.ttl (90 days), and set state.ttl to {MIN_DAYS}d"
    )


class _Gaps(NamedTuple):
    """stopped: machines without events at the end; started: alerts of machines' silence; rows: that were judged"""

    stopped: set[str]
    started: int
    rows: int


def _with_ends(stops: Stops, lives: Mapping[str, Life], gaps: _Gaps, step: float, within: str) -> Stops:
    """Return whether the silence of machines is worth watching by what ends in the rows, with a time to live.

    Args:
        lives: of each entity
        step: usual one between rows of an entity, s
        within: a name of the rows
    """
    # Silence is judged by the gaps of an entity, of which the shortest-lived have too few.
    ended = gaps.stopped | short_lived(lives, step)
    allowed = _allowed(gaps.rows, len(lives), step)
    silence = f"it would raise {plural(gaps.started, 'alert')} in {within}" if gaps.started > allowed else None
    ttl, times = None, [time for life in lives.values() for time in (life.first, life.last)]
    span = max(times, default=0) - min(times, default=0)
    after = _longer_than_pauses(lives, ended) if gaps.started > len(lives) and span >= MIN_SPAN_MS else None
    if _are_many(len(ended), len(lives), span):
        silence, after = f"{len(ended)} of {len(lives)} machines end within {within}", None
        ttl = _time_to_live(lives, ended)
    pauses = ""
    if after is not None:
        silence = None
        pauses = f"auto would raise {plural(gaps.started, 'alert')} in {within}, of pauses that are usual there"
    stops = stops._replace(silence=silence, ttl=ttl, machines=len(lives), within=within, span=span / 1000)
    return stops._replace(after=after, pauses=pauses)


def _longer_than_pauses(lives: Mapping[str, Life], ended: Collection[str]) -> float | None:
    """Return the whole days, s, that are longer than the pauses of nearly all machines; None if all have ended."""
    pauses = [life.longest for name, life in lives.items() if name not in ended]
    return math.ceil(LONGER * float(np.quantile(pauses, MIN_COVERED)) / DAY_MS) * DAY_S if pauses else None


def _are_many(ended: int, machines: int, span: float) -> bool:
    """Return whether so many end in a time, ms, that an end is not worth an alert."""
    return ended > MAX_ENDED * machines and (ended > MOST * machines or ended > span / SELDOM_MS)


def _allowed(rows: int, machines: int, step: float) -> float:
    """Return how many alerts a switch may raise in so many rows. step: usual one between rows of an entity, s"""
    return max(MAX_ALERTS * rows / patience_events(step), machines)


class _Stuck(NamedTuple):
    """watched, unwatched: as of `Stops`; alerts: of silence, and of the columns that are watched, in the sample"""

    watched: list[str] | None
    unwatched: str
    alerts: list[Alert]


def _stuck_columns(event: Event, events: Events, commands: Collection[str]) -> _Stuck:
    """Return the columns in which a repeated value is worth an alert: what is set holds its value by command, and what
    would raise more alerts in the sample than the budget allows does so by itself; so does a battery that runs down.

    Those are left out first that would raise most alerts alone, as columns that stop together are one alert, which
    is that of another where one of them is not watched; and of these, those that repeat their values most.
    """
    columns = [*event.numbers, *event.targets]
    held = [path for path in columns if path in commands]
    falling = [path for path in columns if path not in held and falls_slowly(_runs(event, events, path))]
    watched = [path for path in columns if path not in (*held, *falling)]
    allowed = max(len(events) / patience_events(step_of(events)), 1.0)
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
    reasons += [f"{', '.join(falling)}: {SLOW_FALL}"] if falling else []
    if flooding:
        some = list(flooding.items())[:MAX_LISTED]
        listed = [f"{path} ({plural(count, 'alert')})" for path, count in some]
        listed += [f"{len(flooding) - MAX_LISTED} more"] if len(flooding) > MAX_LISTED else []
        reasons.append(f"{', '.join(listed)}: with these the sample would have more alerts than the budget allows")
    return _Stuck(watched if reasons else None, "; ".join(reasons), alerts)


def _alerts(event: Event, events: Events, stuck: list[str]) -> list[Alert]:
    """Return the alerts of silence, and of what is stuck of these columns. events: of the sample"""
    alerts = _drafted(step_of(events), silence=Silence(), stuck=stuck)
    rules = SilenceAlerts(Config(source=Source(brokers="-", topic="-"), event=event, alerts=alerts))
    return rules.process(events, 0, [])


def _drafted(step: float, **switches: Any) -> Alerts:
    """Return the section with the budget of the draft, by which the rules on what stops are judged."""
    return Alerts.model_validate({"anomaly": {"budget": budget_of(step)}, **switches})


def _runs(event: Event, events: Events, path: str) -> list[NDArray[np.float64]]:
    """Return the finite values of a column in the rows of each entity."""
    at = event.numbers.index(path) if path in event.numbers else -1
    x = events.features[:, at] if at >= 0 else events.target.reshape(len(events), -1)[:, event.targets.index(path)]
    return [x[rows][np.isfinite(x[rows])] for rows in _rows_by_entity(events).values()]


def _repeats(event: Event, events: Events, path: str) -> float:
    """Return the share of its values that a column repeats from one row of an entity to the next."""
    runs = _runs(event, events, path)
    equal = sum(int(np.count_nonzero(np.diff(run) == 0.0)) for run in runs)
    return equal / max(sum(len(run) - 1 for run in runs if len(run)), 1)


def _time_to_live(lives: Mapping[str, Life], ended: Collection[str]) -> float | None:
    """Return the whole days, s, after which a machine that ends may be forgotten; None if the default does.

    They are more than any absence in the rows, and than the life of any that ended: what ran for months may stand
    still for weeks.

    Args:
        lives: of each entity
        ended: entities that end in the rows
    """
    away = [TIMES_AWAY * life.longest for life in lives.values()]
    lived = [float(lives[name].last - lives[name].first) for name in ended]
    return _ttl(max([*away, *lived]))


def _ttl(least: float) -> float | None:
    """Return the whole days, s, no less than this time, ms, and than `MIN_DAYS`; None if the default does."""
    days, default = max(MIN_DAYS, math.ceil(least / DAY_MS)), State().ttl
    return None if default is None or days * DAY_S >= default else days * DAY_S


def _times_only(event: Event) -> Event:
    """Return the section with entity and time alone; not in its time zone, which takes longer: no life depends on it"""
    kept = event.model_dump(include={"entity", "timestamp", "timestamp_format"})
    return Event.model_validate({**kept, "target": "\0"})


def lives_of(events: Events) -> dict[str, Life]:
    """Return the life of each entity."""
    return {name: life_of(events.ts[at]) for name, at in _rows_by_entity(events).items()}


def life_of(ts: NDArray[np.int64]) -> Life:
    """Return the life of what has these times (n,), ms."""
    ts = np.sort(ts)
    return Life(int(ts[0]), int(ts[-1]), float(np.diff(ts).max(initial=0)), len(ts))


def step_of(events: Events) -> float:
    """Return the usual time between two rows of an entity, s."""
    return median_step(events.entity, events.ts)


def _rows_by_entity(events: Events) -> dict[str, list[int]]:
    """Return the rows of each entity."""
    rows: dict[str, list[int]] = {}
    for i, name in enumerate(events.entity):
        rows.setdefault(name, []).append(i)
    return rows


def short_lived(lives: Mapping[str, Life], step: float) -> set[str]:
    """Return the entities that end before they may raise an alert.

    Args:
        lives: of each entity
        step: usual one between rows of an entity, s
    """
    return find_ended(lives, step) & {name for name, life in lives.items() if life.rows <= WARMUP}


def find_ended(lives: Mapping[Any, Life], step: float) -> set[Any]:
    """Return what has no row any more for long before the last one. lives, step: as of `short_lived`"""
    lasts, least = sorted(life.last for life in lives.values()), 1000.0 * step
    end = lasts[-1 - int(AHEAD * len(lasts))] if lasts else 0
    return {name for name, life in lives.items() if end - life.last > MAX_LATE * max(life.longest, least)}
