"""Machines that run in bursts: that they pause is learned from few of them, and is no silence in the others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_silence import config, found, starts

from ssm_stream.engine.engine import Engine
from ssm_stream.engine.rules.silence import SilenceAlerts
from ssm_stream.ingest.events import Events

SECOND, HOUR = 1_000, 3_600_000
BURST, PAUSE = 60, 1_500
"""Rows a second apart, and about how many seconds from one burst to the next."""


def bursts(machines: int, hours: float, steady: int = 0, seed: int = 0) -> Events:
    """Chambers that send a row a second while they run, and nothing between two runs; the last `steady` send always."""
    rng = np.random.default_rng(seed)
    pairs = list[tuple[float, int]]()
    for e in range(machines):
        t, end = rng.uniform(0, 600.0), 3600.0 * hours
        while t < end:
            run = 600 if e >= machines - steady else BURST + int(rng.integers(-10, 15))
            pairs += [(t + i, e) for i in range(run)]
            t += run + (0.0 if e >= machines - steady else PAUSE * rng.uniform(0.9, 1.2))
    pairs = sorted(pair for pair in pairs if pair[0] < 3600.0 * hours)
    n = len(pairs)
    ts = np.array([1000.0 * t for t, _ in pairs]).astype(np.int64)
    return Events([f"m{e:02}" for _, e in pairs], ts, np.zeros((n, 1)), np.zeros(n), np.arange(n))


def silences(events: Events) -> list[dict[str, Any]]:
    made = config("silence: {columns: false}")
    return starts([a.message for a in SilenceAlerts(made).process(events, 0, [])])


def until(events: Events, entity: str, last: float) -> Events:
    """The events without those of an entity from an hour on."""
    gone = (np.array(events.entity) == entity) & (events.ts >= last * HOUR)
    return events.take(np.flatnonzero(~gone))


@pytest.mark.parametrize("seed", range(3))
def test_pauses_between_bursts_are_no_silence_once_some_machines_have_had_them(seed: int) -> None:
    """Four chambers of a lot had 15 alerts in their first 18 hours: each had to learn its pauses by itself."""
    assert len(silences(bursts(4, 18.0, seed=seed))) <= 6
    assert len(silences(bursts(12, 18.0, seed=seed))) <= 14


def test_one_that_joins_has_the_pauses_of_the_others() -> None:
    events = bursts(6, 12.0)
    late = events.take(np.flatnonzero((np.array(events.entity) != "m05") | (events.ts >= 6 * HOUR)))
    assert not [m for m in silences(late) if m["entity"] == "m05"]


def test_one_that_stops_is_found_after_about_two_pauses() -> None:
    events = bursts(6, 18.0)
    mine = events.ts[(np.array(events.entity) == "m03") & (events.ts < 9 * HOUR)]
    own = [m for m in silences(until(events, "m03", 9.0)) if m["entity"] == "m03"]
    found_ = [m for m in own if m["since"] == mine[-1]]
    assert len(found_) == 1
    assert (found_[0]["ts"] - mine[-1]) / 1000 <= 3.0 * PAUSE


def test_one_that_sends_steadily_is_missed_within_seconds_though_the_others_pause() -> None:
    events = bursts(6, 6.0, steady=2)
    found_ = [m for m in silences(until(events, "m05", 4.0)) if m["entity"] == "m05"]
    assert len(found_) == 1
    assert 4 * HOUR <= found_[0]["ts"] <= 4 * HOUR + 20 * SECOND


def line(robots: int = 30, shifts: int = 4, seed: int = 0) -> Events:
    """Robots of a line: each has a row a body, every four minutes or so; all stop for a while, at times twice."""
    rng, bodies, t = np.random.default_rng(seed), list[float](), 0.0
    for _ in range(shifts):
        for stretch in (30, 60, 1, 60):  # bodies until the line stops
            bodies += (t + np.cumsum(rng.normal(240.0, 4.0, stretch))).tolist()
            t = bodies[-1] + 900.0 + rng.uniform(0.0, 900.0)
    at = np.array(bodies)[:, None] + 9.0 * (np.arange(robots) % 6) + rng.normal(25.0, 4.0, (len(bodies), robots))
    pairs = sorted((float(x), e) for row in at for e, x in enumerate(row))
    n = len(pairs)
    ts = np.array([1000.0 * x for x, _ in pairs]).astype(np.int64)
    return Events([f"r{e:02}" for _, e in pairs], ts, np.zeros((n, 1)), np.zeros(n), np.arange(n))


@pytest.mark.parametrize("robots", [6, 30, 120])
@pytest.mark.parametrize("seed", range(3))
def test_a_line_that_stops_twice_in_a_row_is_no_silence_of_its_robots(robots: int, seed: int) -> None:
    """The first was a gap of each, after which four times the usual gap was usual, and the second no pause of all.

    One that does not come back from them is missed within two of its rows."""
    events = line(robots, seed=seed)
    assert silences(events) == []
    mine = events.ts[np.array(events.entity) == "r03"]
    last = int(np.flatnonzero(np.diff(mine) > 800_000)[-2])  # before the first of two in a row
    (message,) = silences(until(events, "r03", (mine[last] + 1) / HOUR))
    back = mine[last + 2]  # of the others, from the second
    assert (message["entity"], message["since"]) == ("r03", mine[last])
    assert (message["ts"] - back) / 1000 <= 2 * 240.0


def trucks(machines: int = 40, days: int = 5, seed: int = 0) -> Events:
    """Trucks with a row half a minute while they drive: some trips a day, an hour or so between two, and nights."""
    rng, pairs = np.random.default_rng(seed), list[tuple[float, int]]()
    for e in range(machines):
        for day in range(days):
            t = 86_400.0 * day + 3600.0 * rng.normal(6.3, 0.7)
            for _ in range(int(rng.integers(2, 5))):
                rows = int(rng.uniform(70, 310))
                pairs += [(t + 30.0 * i, e) for i in range(rows)]
                t += 30.0 * rows + 3600.0 * rng.uniform(0.2, 1.4)
    pairs.sort()
    n = len(pairs)
    ts = np.array([1000.0 * t for t, _ in pairs]).astype(np.int64)
    return Events([f"t{e:02}" for _, e in pairs], ts, np.zeros((n, 1)), np.zeros(n), np.arange(n))


@pytest.mark.parametrize("seed", range(4))
def test_on_the_first_day_of_a_fleet_that_pauses_few_of_its_machines_are_alerts(seed: int) -> None:
    """Each of 40 trucks had two or three: half of them had to have paused before that was no news of the others."""
    events = trucks(seed=seed)
    messages = silences(events)
    first = [m for m in messages if m["ts"] < 24 * HOUR]
    assert len(first) <= 45
    assert len(messages) <= 60
    (last,) = [m for m in silences(until(events, "t07", 57.0)) if m["entity"] == "t07" and m["ts"] > 57 * HOUR]
    assert (last["ts"] - last["since"]) / HOUR <= 30


@pytest.mark.parametrize("hour", [10.0, 12.0, 20.0, 40.0])
def test_machines_that_never_come_back_hide_no_other_for_long(hour: float) -> None:
    """What goes on is a pause for up to four times the longest that the machine had, and then it is gone."""
    events = bursts(6, 48.0)
    for gone, last in (("m01", 9.0), ("m04", 9.5)):
        events = until(events, gone, last)
    mine = events.ts[(np.array(events.entity) == "m03") & (events.ts < hour * HOUR)]
    (message,) = [m for m in silences(until(events, "m03", hour)) if m["since"] == mine[-1]]
    assert (message["ts"] - mine[-1]) / 1000 <= 7.0 * PAUSE


def test_cuts_and_snapshots_change_nothing() -> None:
    events, made = bursts(4, 6.0), config("silence: {columns: false}")
    whole = found(Engine(made), events)
    n = len(events)
    assert found(Engine(made), events, (n // 7, n // 3, n // 2)) == whole
    rules, uncut, out = SilenceAlerts(made), SilenceAlerts(made), list[str]()
    uncut.process(events, 0, [])
    for start in range(0, n, 97):
        part = events.take(np.arange(start, min(start + 97, n)))
        out += [f"{a.message['entity']} {a.message['phase']} {a.message['ts']}" for a in rules.process(part, 0, [])]
        content = rules.dump()
        rules = SilenceAlerts(made)
        rules.load(content)
    assert out == [f"{m['entity']} {m['phase']} {m['ts']}" for m in whole]
    assert rules.dump() == uncut.dump()
