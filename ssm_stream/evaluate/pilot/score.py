"""Alarms against true events, and how sure the figures are.

An event is found by an alarm that starts within it (both ends included), of its entity or of a fleet alert that names
it; the first such alarm counts, later ones are repeats. An alarm outside every event is false. What began before the
judged part is not judged, nor are alarms within it. Nothing is point-adjusted.

All figures are ratios of sums over blocks of an entity's time, so that a bootstrap over blocks (Künsch 1989, with
blocks that do not overlap) gives their intervals; methods that are compared are drawn together.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from ssm_stream.evaluate.pilot.baselines import Split
from ssm_stream.evaluate.pilot.inputs import TrueEvent
from ssm_stream.evaluate.pilot.run import Floats, Ints, Tape

HOUR = 3_600_000.0
WEEK_HOURS = 168.0
DRAWS = 2000
CONFIDENCE = 0.9
BLOCKS = 60
"""Blocks that a recording is cut into at least; no block is longer than a week."""
SUMS = ("false", "repeats", "found", "warned", "delay")
"""Of a method by block: false alarms, repeats, events found, hours from the first alarm to the event's end, and from
its start to the alarm. An event counts in the block that it starts in."""


@dataclass
class Judged:
    """What is judged of the labels.

    events: those that count, with their entity's number; ignored: begun before the judged part
    outside: those that no row of the judged part falls into
    """

    events: list[tuple[int, TrueEvent]] = field(default_factory=list)
    ignored: list[tuple[int, TrueEvent]] = field(default_factory=list)
    outside: int = 0


class Blocks(NamedTuple):
    """Stretches of judged time. entity (B,); start, end (B,) ms; first (E + 1,): an entity's first block"""

    entity: Ints
    start: Ints
    end: Ints
    first: Ints

    def of(self, entity: int, ts: int) -> int:
        """The block of a time; the nearest where it lies outside."""
        left, right = int(self.first[entity]), int(self.first[entity + 1])
        if left == right:
            return min(left, len(self.start) - 1)
        return min(max(left + int(np.searchsorted(self.start[left:right], ts, side="right")) - 1, left), right - 1)

    @property
    def hours(self) -> Floats:
        """(B,) length."""
        return (self.end - self.start) / HOUR


def blocks_of(tape: Tape, parts: Split) -> Blocks:
    """The judged time of each entity, cut."""
    spans = []
    for e in range(len(tape.names)):
        rows = parts.rows[e]
        mine = rows[rows >= parts.first[e]]
        spans.append((int(tape.ts[mine].min()), int(tape.ts[mine].max())) if len(mine) else None)
    total = sum(b - a for a, b in filter(None, spans))
    length = max(min(total / BLOCKS, WEEK_HOURS * HOUR), 1.0)
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


def judged(tape: Tape, parts: Split, labels: Iterable[TrueEvent]) -> Judged:
    """Which labels count."""
    number = {name: e for e, name in enumerate(tape.names)}
    out = Judged()
    for event in labels:
        e = number[event.entity]
        rows = parts.rows[e]
        ts = tape.ts[rows]
        inside = rows[(ts >= event.start) & (ts <= event.end)]
        if not len(inside) or parts.first[e] >= len(tape):
            out.outside += 1
        elif inside[0] < parts.first[e] or event.start < int(tape.ts[rows[rows >= parts.first[e]]].min()):
            out.ignored.append((e, event))
        else:
            last = int(ts.max())
            out.events.append((e, event._replace(end=min(event.end, last))))
    return out


class Call(NamedTuple):
    """A time at which somebody is called, for one or several entities."""

    ts: int
    entities: tuple[int, ...]


@dataclass
class Tally:
    """A method's alarms against the events.

    sums (B, SUMS); alarms, false, repeats; first: of each judged event the first alarm within it, ms, None: missed
    truth: of each alarm `true`, `repeat`, `false` or `ignored`
    """

    sums: Floats
    alarms: int
    first: list[int | None]
    truth: list[str]

    def total(self, name: str) -> float:
        """Of all blocks."""
        return float(self.sums[:, SUMS.index(name)].sum())


def tally(calls: Sequence[Call], what: Judged, blocks: Blocks) -> Tally:
    """Match alarms, in order of time, to events."""
    sums = np.zeros((len(blocks.start), len(SUMS)))
    first: list[int | None] = [None] * len(what.events)
    of_entity: dict[int, list[tuple[int, TrueEvent]]] = {}
    for i, (e, event) in enumerate(what.events):
        of_entity.setdefault(e, []).append((i, event))
    ignored: dict[int, list[TrueEvent]] = {}
    for e, event in what.ignored:
        ignored.setdefault(e, []).append(event)
    truth = [""] * len(calls)
    for c in sorted(range(len(calls)), key=lambda c: calls[c].ts):
        ts, entities = calls[c]
        met = [i for e in entities for i, event in of_entity.get(e, ()) if event.start <= ts <= event.end]
        if met:
            new = [i for i in met if first[i] is None]
            for i in new:
                first[i] = ts
            truth[c] = "true" if new else "repeat"
        elif any(event.start <= ts <= event.end for e in entities for event in ignored.get(e, ())):
            truth[c] = "ignored"
        else:
            truth[c] = "false"
        if truth[c] in ("false", "repeat") and len(blocks.start):
            sums[blocks.of(entities[0], ts), SUMS.index("false" if truth[c] == "false" else "repeats")] += 1
    for (e, event), at in zip(what.events, first, strict=True):
        if at is not None:
            sums[blocks.of(e, event.start), 2:] += [1.0, (event.end - at) / HOUR, (at - event.start) / HOUR]
    return Tally(sums, len(calls), first, truth)


def always(tape: Tape, parts: Split, what: Judged, blocks: Blocks) -> Tally:
    """An alarm at every event that is judged."""
    calls = [Call(int(tape.ts[row]), (int(tape.entity[row]),)) for row in np.flatnonzero(parts.judged).tolist()]
    return tally(calls, what, blocks)


def at_random(tape: Tape, parts: Split, what: Judged, blocks: Blocks, count: int, seed: int, draws: int = 100) -> Tally:
    """The mean of many draws of as many alarms at random rows."""
    rows, rng = np.flatnonzero(parts.judged), np.random.default_rng(seed)
    sums = np.zeros((len(blocks.start), len(SUMS)))
    for _ in range(draws):
        chosen = rng.choice(rows, min(count, len(rows)), replace=False) if len(rows) else rows
        sums += tally([Call(int(tape.ts[r]), (int(tape.entity[r]),)) for r in chosen.tolist()], what, blocks).sums
    return Tally(sums / draws, min(count, len(rows)), [None] * len(what.events), [])


def event_sums(what: Judged, blocks: Blocks) -> Floats:
    """(B, 2): true events that start in a block, and their hours."""
    out = np.zeros((len(blocks.start), 2))
    for e, event in what.events:
        out[blocks.of(e, event.start)] += [1.0, (event.end - event.start) / HOUR]
    return out


def row_blocks(tape: Tape, parts: Split, blocks: Blocks) -> Ints:
    """(n,) the block of each judged row, −1 for the others."""
    out = np.full(len(tape), -1)
    for e, rows in enumerate(parts.rows):
        left, right = int(blocks.first[e]), int(blocks.first[e + 1])
        mine = rows[parts.judged[rows]]
        if left < right and len(mine):
            at = np.searchsorted(blocks.start[left:right], tape.ts[mine], side="right") - 1
            out[mine] = left + np.clip(at, 0, right - left - 1)
    return out


def sums_by_block(values: Floats, block: Ints, count: int) -> Floats:
    """(B,): the sum of a column over the rows of each block."""
    inside = block >= 0
    sums: Floats = np.bincount(block[inside], values[inside], minlength=count).astype(np.float64)
    return sums


class Bootstrap:
    """Draws of blocks, the same for every figure. weights (DRAWS, B): how often each block was drawn"""

    def __init__(self, count: int, seed: int, draws: int = DRAWS) -> None:
        self.count = count
        rng = np.random.default_rng(seed)
        self.weights = rng.multinomial(count, np.full(count, 1.0 / count), draws) if count else np.zeros((draws, 0))

    def sums(self, columns: Floats) -> Floats:
        """(DRAWS, …) the sums of each draw."""
        out: Floats = self.weights @ columns
        return out

    def interval(self, draws: Floats) -> tuple[float | None, float | None]:
        """Between which CONFIDENCE of the draws lie; None where there are too few blocks to say."""
        known = draws[np.isfinite(draws)]
        if self.count < 2 or len(known) < len(draws) / 2:
            return None, None
        edge = (1.0 - CONFIDENCE) / 2
        low, high = np.quantile(known, [edge, 1.0 - edge]).tolist()
        return low, high

    def ratio(self, top: Floats, bottom: Floats, scale: float = 1.0) -> dict[str, float | None]:
        """scale · Σ top / Σ bottom with its interval; top, bottom (B,)"""
        with np.errstate(invalid="ignore", divide="ignore"):
            drawn = scale * self.sums(top) / self.sums(bottom)
        low, high = self.interval(drawn)
        below = float(bottom.sum())
        return {"value": scale * float(top.sum()) / below if below else None, "low": low, "high": high}

    def total(self, column: Floats) -> dict[str, float | None]:
        """Σ column with its interval."""
        low, high = self.interval(self.sums(column))
        return {"value": float(column.sum()), "low": low, "high": high}


def rate(of: Bootstrap, count: Floats, exposure: Floats) -> dict[str, float | None]:
    """Counts per exposure. Where none was counted, draws say nothing: at most 3 / exposure, the rule of three."""
    out = of.ratio(count, exposure)
    if out["value"] == 0.0:
        out["low"], out["high"] = 0.0, rule_of_three(float(exposure.sum()))
    return out


def share(of: Bootstrap, part: Floats, whole: Floats) -> dict[str, float | None]:
    """Part of a whole that is counted. Where all or none is, the rule of three bounds what draws cannot."""
    out, n = of.ratio(part, whole), float(whole.sum())
    if out["value"] == 0.0:
        out["low"], out["high"] = 0.0, min(rule_of_three(n) or 1.0, 1.0)
    elif out["value"] == 1.0:
        out["low"], out["high"] = max(1.0 - (rule_of_three(n) or 1.0), 0.0), 1.0
    return out


def rule_of_three(n: float) -> float | None:
    """What a share or a rate is at most, at a confidence of 95 %, if nothing was counted in n."""
    return 3.0 / n if n and math.isfinite(n) else None


def median_delay(result: Tally, what: Judged) -> float | None:
    """Hours from an event's start to its first alarm, over the events found."""
    delays = [
        (at - event.start) / HOUR for (_, event), at in zip(what.events, result.first, strict=True) if at is not None
    ]
    return float(np.median(delays)) if delays else None
