"""The whole engine over a stream of many entities: what it predicted, which episodes it opened, and figures of both.

Fleet alerts are off in all that is measured here, so that each entity's own episodes are counted.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.config import Config
from ssm_stream.engine.engine import Engine
from ssm_stream.ingest.events import Events

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]
Row = dict[str, Any]

KINDS = ("anomaly", "drift")
BATCH = 20_000
LEVEL = 0.9
ENOUGH = 200
"""Rows from which an hour's coverage is looked at."""


MAX_EPISODE = 1_000
"""Events that an episode may last with the defaults."""


class Stream(NamedTuple):
    """Events in their order.

    entity (n,): index of each event's entity in `names`; ts (n,): ms; x (n, d); event: what the section says beside
    the columns
    """

    name: str
    names: list[str]
    entity: Integers
    ts: Integers
    x: Floats
    y: Floats
    features: list[str]
    event: Row


class Episode(NamedTuple):
    """first, last: events of the entity, counted from 0; last is that of `recovered`, or its last one where it is open

    ended_by: what the message says, None where the episode is open or recovered by itself
    """

    entity: int
    kind: str
    first: int
    last: int
    open: bool
    ended_by: str | None

    @property
    def length(self) -> int:
        return self.last - self.first + self.open


class Judged(NamedTuple):
    """nth (n,): how many events of its entity came before; ready (n,): the entity is past its warm-up"""

    yhat: Floats
    lower: Floats
    upper: Floats
    score: Floats
    nth: Integers
    ready: Flags
    episodes: list[Episode]


def configuration(stream: Stream, budget: str | None = None, alerts: Row | None = None, fleet: bool = False) -> Config:
    """Defaults, the columns, a budget of both kinds, and what a comparison changes in `alerts`."""
    sections: Row = {kind: {} if budget is None else {"budget": budget} for kind in KINDS}
    for name, section in (alerts or {}).items():
        sections[name] = {**sections.get(name, {}), **section} if isinstance(section, dict) else section
    sections["fleet"] = {"enabled": fleet}
    return Config.model_validate(
        {
            "source": {"brokers": "localhost:9092", "topic": "benchmark"},
            "event": {"entity": "entity", "timestamp": "ts", "features": stream.features, **stream.event},
            "alerts": sections,
        }
    )


def absorb_after(config: Config, kind: str) -> int:
    """Events after which an episode must have ended: the setting, or the most that its default may be."""
    value = getattr(getattr(config.alerts, kind), "absorb_after", None)
    return value if isinstance(value, int) else MAX_EPISODE


def nth_of(entity: Integers) -> Integers:
    """(n,) how many events of its entity come before each."""
    order = np.argsort(entity, kind="stable")
    nth = np.empty(len(entity), np.int64)
    counts = np.bincount(entity)
    nth[order] = np.arange(len(entity)) - np.repeat(np.cumsum(counts) - counts, counts)
    return nth


def judge(stream: Stream, config: Config) -> Judged:
    """The stream through a new engine."""
    engine, parts, messages = Engine(config), [], []
    names = np.array(stream.names, object)
    for start in range(0, len(stream.y), BATCH):
        rows = slice(start, start + BATCH)
        count = len(stream.y[rows])
        x = np.ascontiguousarray(stream.x[rows])
        batch = Events(names[stream.entity[rows]].tolist(), stream.ts[rows], x, stream.y[rows], np.arange(count))
        p, alerts = engine.process(batch)
        parts.append((p.yhat, p.lower, p.upper, p.score, p.warmup))
        messages += [(start + alert.row, alert.message) for alert in alerts]
    yhat, lower, upper, score, warmup = (np.concatenate(column) for column in zip(*parts, strict=True))
    nth = nth_of(stream.entity)
    found = episodes(messages, {name: i for i, name in enumerate(stream.names)}, nth, np.bincount(stream.entity))
    return Judged(yhat, lower, upper, score, nth, ~warmup, found)


def episodes(messages: list[tuple[int, Row]], number: dict[str, int], nth: Integers, counts: Integers) -> list[Episode]:
    """messages: (row of the stream, alert); number: index by entity; counts: events of each entity"""
    open_: dict[tuple[int, str], int] = {}
    found = []
    for row, message in messages:
        if message["kind"] not in KINDS:
            continue
        key = (number[message["entity"]], message["kind"])
        if message["phase"] == "started":
            open_[key] = int(nth[row])
        elif message["phase"] == "recovered" and key in open_:
            found.append(Episode(*key, open_.pop(key), int(nth[row]), False, message.get("ended_by")))
    found += [Episode(*key, first, int(counts[key[0]]) - 1, True, None) for key, first in open_.items()]
    return sorted(found)


def inside(stream: Stream, judged: Judged, kind: str) -> Flags:
    """(n,) events within an episode of a kind, its ends among them; an open one lasts to its entity's end."""
    flags = np.zeros(len(stream.y), bool)
    order = np.argsort(stream.entity, kind="stable")
    start = np.concatenate([[0], np.cumsum(np.bincount(stream.entity, minlength=len(stream.names)))])
    for one in judged.episodes:
        if one.kind == kind:
            flags[order[start[one.entity] + one.first : start[one.entity] + one.last + 1]] = True
    return flags


def of_episodes(stream: Stream, judged: Judged) -> Row:
    """By kind: starts, share of rows inside, longest in events, episodes that were absorbed."""
    row: Row = {}
    for kind in KINDS:
        own = [one for one in judged.episodes if one.kind == kind]
        row[kind] = {
            "starts": len(own),
            "inside": float(inside(stream, judged, kind).mean()),
            "longest": max((one.length for one in own), default=0),
            "absorbed": sum(one.ended_by == "absorbed" for one in own),
        }
    return row


def of_intervals(stream: Stream, judged: Judged, count: Flags, by_hour: bool = True) -> Row:
    """Coverage, worst hour's distance from the level, interval score by entity. count (n,): the rows that count."""
    count = count & np.isfinite(stream.y) & np.isfinite(judged.lower) & np.isfinite(judged.upper)
    low, high = judged.lower[count], judged.upper[count]
    y, entity = stream.y[count], stream.entity[count]
    covered = (low <= y) & (y <= high)
    off = None
    if by_hour:
        hour = (stream.ts[count] // 3_600_000) % 24
        hours = [float(covered[hour == h].mean()) for h in range(24) if (hour == h).sum() >= ENOUGH]
        off = max((abs(one - LEVEL) for one in hours), default=None)
    cost = interval_score(low, high, y)
    error = np.abs(y - judged.yhat[count])
    events = np.bincount(entity, minlength=len(stream.names))
    with np.errstate(invalid="ignore", divide="ignore"):
        scores = np.bincount(entity, cost, len(events)) / events
        units = np.bincount(entity, error, len(events)) / events
    return {
        "coverage": float(covered.mean()) if len(covered) else None,
        "worst hour off": off,
        "scores": [None if not math.isfinite(one) else float(one) for one in scores],
        "units": [None if not math.isfinite(one) else float(one) for one in units],
        "score": mean_score(scores.tolist(), units.tolist()),
        "error": float(np.nanmean(error)) if len(error) else None,
    }


def interval_score(low: Floats, high: Floats, y: Floats, level: float = LEVEL) -> Floats:
    """Winkler's score of an interval: its width, and 2 / (1 − level) times how far the value lies outside."""
    return (high - low) + 2.0 / (1.0 - level) * (np.maximum(low - y, 0.0) + np.maximum(y - high, 0.0))


def mean_score(scores: list[float | None], units: list[float | None]) -> float | None:
    """Mean over entities of score ÷ unit; entities without either, or whose unit is 0, are left out."""
    ratios = [
        score / unit
        for score, unit in zip(scores, units, strict=True)
        if score is not None and unit is not None and math.isfinite(score / unit if unit else math.nan)
    ]
    return float(np.mean(ratios)) if ratios else None


def score_ratio(now: Row, before: Row) -> float | None:
    """Interval score by that of an earlier run, both in the earlier run's units: a worse prediction is not hidden."""
    if len(now["scores"]) != len(before["scores"]):
        return None
    units = [unit if one is not None else None for unit, one in zip(before["units"], now["scores"], strict=True)]
    a, b = mean_score(now["scores"], units), mean_score(before["scores"], units)
    return None if a is None or not b else a / b


def entities_ratio(now: Row, before: Row) -> float | None:
    """Interval score by that of an earlier run, geometric mean over entities: none outweighs the others."""
    if len(now["scores"]) != len(before["scores"]):
        return None
    pairs = zip(now["scores"], before["scores"], strict=True)
    return geometric_mean([a / b for a, b in pairs if a is not None and b])


def geometric_mean(values: list[float | None]) -> float | None:
    """None where one is missing."""
    found = [value for value in values if value is not None and value > 0.0]
    return math.exp(float(np.mean(np.log(found)))) if found and len(found) == len(values) else None
