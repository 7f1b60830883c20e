"""A method's alarms against the true events of the judged part, as sums over blocks of an entity's time.

All figures of alarms are such sums or their ratios, so that a bootstrap over blocks gives their intervals; methods that
are compared are drawn together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from ssm_stream.evaluate.alarm_matching import Alarm, EntityEvent, Outcome, match
from ssm_stream.evaluate.engine_run import EngineRun, Floats, Ints
from ssm_stream.evaluate.pilot.split import Split
from ssm_stream.evaluate.true_events import TrueEvent

HOUR = 3_600_000.0
WEEK_HOURS = 168.0
MIN_BLOCKS = 60
"""Blocks that a recording is cut into at least; no block is longer than a week."""
RANDOM_DRAWS = 100
"""Draws that the figures of random alarms are the mean of."""
SUMS = ("false", "repeats", "right", "found", "warned", "delay")
"""Of a method by block: false alarms, repeats, alarms that found an event, events found, hours from the first alarm to
the event's end, and from its start to the alarm. An event counts in the block that it starts in."""
FALSE, REPEATS, RIGHT, FOUND, WARNED, DELAY = range(len(SUMS))
COLUMNS: dict[Outcome, int] = {"false": FALSE, "repeat": REPEATS, "true": RIGHT}


@dataclass
class JudgedEvents:
    """The true events, by what the judged part makes of them."""

    events: list[EntityEvent] = field(default_factory=list)
    """Those that are judged."""
    ignored: list[EntityEvent] = field(default_factory=list)
    """Those that began before the judged part."""
    outside: int = 0
    """Number of those that no row of the judged part falls into."""


class Blocks(NamedTuple):
    """Stretches of judged time."""

    entity: Ints
    """(B,)"""
    start: Ints
    """(B,) ms."""
    end: Ints
    """(B,) ms."""
    first: Ints
    """(E + 1,) an entity's first block."""

    def of(self, entity: int, ts: int) -> int:
        """Return the block of a time; the nearest if it lies outside."""
        left, right = int(self.first[entity]), int(self.first[entity + 1])
        if left == right:
            return min(left, len(self.start) - 1)
        return min(max(left + int(np.searchsorted(self.start[left:right], ts, side="right")) - 1, left), right - 1)

    @property
    def hours(self) -> Floats:
        """(B,) length."""
        return (self.end - self.start) / HOUR

    @property
    def weeks(self) -> Floats:
        """(B,) entity-weeks."""
        return self.hours / WEEK_HOURS


def cut_blocks(run: EngineRun, split: Split) -> Blocks:
    """Return the judged time of each entity, cut into blocks."""
    spans = []
    for e in range(len(run.names)):
        rows = split.rows[e]
        mine = rows[rows >= split.first[e]]
        spans.append((int(run.ts[mine].min()), int(run.ts[mine].max())) if len(mine) else None)
    total = sum(b - a for a, b in filter(None, spans))
    length = max(min(total / MIN_BLOCKS, WEEK_HOURS * HOUR), 1.0)
    entity, start, end, first = list[int](), list[int](), list[int](), [0]
    for e, span in enumerate(spans):
        if span is not None:
            count = max(round((span[1] - span[0]) / length), 1)
            edges = np.linspace(span[0], span[1], count + 1).astype(np.int64)
            entity += [e] * count
            start += edges[:-1].tolist()
            end += edges[1:].tolist()
        first.append(len(start))
    return Blocks(*(np.array(each, np.int64) for each in (entity, start, end, first)))


def row_blocks(run: EngineRun, split: Split, blocks: Blocks) -> Ints:
    """Return (n,) the block of each judged row, −1 for the others."""
    out = np.full(len(run), -1)
    for e, rows in enumerate(split.rows):
        left, right = int(blocks.first[e]), int(blocks.first[e + 1])
        mine = rows[split.judged[rows]]
        if left < right and len(mine):
            at = np.searchsorted(blocks.start[left:right], run.ts[mine], side="right") - 1
            out[mine] = left + np.clip(at, 0, right - left - 1)
    return out


def judge_events(
    run: EngineRun, split: Split, true_events: Iterable[TrueEvent], *, silence: bool = False
) -> JudgedEvents:
    """Return which true events are judged; an event ends with its entity's last row.

    Args:
        run, split: all rows, and those that are judged
        true_events: of any entity of the run
        silence: an entity without rows is an alarm: an event that none of its rows falls into is judged, and ends with
            the last row of all
    """
    number = {name: e for e, name in enumerate(run.names)}
    out = JudgedEvents()
    for event in true_events:
        e = number[event.entity]
        rows = split.rows[e]
        ts = run.ts[rows]
        last = int(run.ts.max()) if silence else int(ts.max(initial=event.start))
        inside = rows[(ts >= event.start) & (ts <= event.end)]
        known = len(inside) or (silence and len(rows) and int(ts.min()) < event.start <= last)
        if not known or split.first[e] >= len(run):
            out.outside += 1
        elif (inside < split.first[e]).any() or event.start < int(run.ts[rows[rows >= split.first[e]]].min()):
            out.ignored.append((e, event))
        else:
            out.events.append((e, event._replace(end=min(event.end, last))))
    return out


@dataclass
class Tally:
    """A method's alarms against the true events."""

    sums: Floats
    """(B, SUMS)"""
    alarms: int
    first: list[int | None]
    """Of each judged event the time of its first alarm, ms, None if it was missed."""
    outcomes: list[Outcome]
    """Of each alarm."""

    def total(self, name: str) -> float:
        """Return one of SUMS over all blocks."""
        return float(self.sums[:, SUMS.index(name)].sum())


def tally(alarms: Sequence[Alarm], judged: JudgedEvents, blocks: Blocks) -> Tally:
    """Return the alarms against the events."""
    sums = np.zeros((len(blocks.start), len(SUMS)))
    first, outcomes = match(alarms, judged.events, judged.ignored)
    for alarm, outcome in zip(alarms, outcomes, strict=True):
        if outcome in COLUMNS and len(blocks.start):
            sums[blocks.of(alarm.entities[0], alarm.ts), COLUMNS[outcome]] += 1
    for (e, event), at in zip(judged.events, first, strict=True):
        if at is not None:
            sums[blocks.of(e, event.start), FOUND:] += [1.0, (event.end - at) / HOUR, (at - event.start) / HOUR]
    return Tally(sums, len(alarms), first, outcomes)


def alarms_at(run: EngineRun, rows: Ints) -> list[Alarm]:
    """Return an alarm at each of these rows."""
    return [Alarm(ts, (e,)) for ts, e in zip(run.ts[rows].tolist(), run.entity[rows].tolist(), strict=True)]


def tally_random(run: EngineRun, rows: Ints, judged: JudgedEvents, blocks: Blocks, count: int, seed: int) -> Tally:
    """Return the mean of many draws of `count` alarms at random rows, out of `rows`."""
    rng = np.random.default_rng(seed)
    sums = np.zeros((len(blocks.start), len(SUMS)))
    for _ in range(RANDOM_DRAWS):
        chosen = rng.choice(rows, min(count, len(rows)), replace=False) if len(rows) else rows
        sums += tally(alarms_at(run, chosen), judged, blocks).sums
    return Tally(sums / RANDOM_DRAWS, min(count, len(rows)), [None] * len(judged.events), [])


def event_sums(judged: JudgedEvents, blocks: Blocks) -> Floats:
    """Return (B, 2): true events that start in a block, and their hours."""
    out = np.zeros((len(blocks.start), 2))
    for e, event in judged.events:
        out[blocks.of(e, event.start)] += [1.0, (event.end - event.start) / HOUR]
    return out


def median_delay(result: Tally, judged: JudgedEvents) -> float | None:
    """Return hours from an event's start to its first alarm, the median over the events found; None if none was."""
    delays = [
        (at - event.start) / HOUR for (_, event), at in zip(judged.events, result.first, strict=True) if at is not None
    ]
    return float(np.median(delays)) if delays else None
