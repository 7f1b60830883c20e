"""Silence by cadence: how soon a machine that stops sending is told, and how often one that did not stop.

The *usual gap* of a cadence is that in which a moment lies: half of all time lies in longer ones. Of regular and
jittered cadences it is about the median gap; of one that sends in bursts the pause between two, as nothing can be
told within a pause that comes every time. How many median gaps it is, is printed beside it.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
from measuring import Check, check
from numpy.typing import NDArray

from ssm_stream.config import parse_config
from ssm_stream.engine.rules.silence import SilenceAlerts
from ssm_stream.ingest.events import Events

Floats = NDArray[np.float64]
Row = dict[str, Any]
MINUTE = 60_000.0
MACHINES, EVENTS = 12, 8064
"""As many events a machine as the plant has in eight weeks."""
KILLS = 3
"""Machines of each stream that fall silent, one after another, for 30 usual gaps."""
CONFIG = """
source: {brokers: "localhost:9092", topic: events}
event: {entity: machine, timestamp: ts, target: temp, features: [load]}
alerts: {silence: {after: auto}}
"""


def bursts(g: np.random.Generator, n: int, length: int, spread: float) -> Floats:
    """Readings of ten minutes each, so many of them sent together, 20 s apart."""
    pause = 10.0 * length - (length - 1) / 3.0
    gaps = np.where(np.arange(n) % length == length - 1, pause * (1.0 + spread * g.uniform(-1, 1, n)), 1.0 / 3.0)
    return gaps * MINUTE


CADENCES: dict[str, Callable[[np.random.Generator, int], Floats]] = {
    "regular": lambda g, n: np.full(n, 10.0 * MINUTE) + g.normal(size=n) * 500.0,
    "jittered": lambda g, n: 10.0 * MINUTE * g.uniform(0.5, 1.5, n),
    "bursty": lambda g, n: bursts(g, n, 6, 0.2),
    "bursty, irregular": lambda g, n: bursts(g, n, 12, 0.5),
    "at random": lambda g, n: g.exponential(10.0 * MINUTE, n),
}


def usual_gap(gaps: Floats) -> float:
    """The gap in which a moment lies: weighted by their lengths, the median."""
    own = np.sort(gaps)
    return float(own[np.searchsorted(np.cumsum(own), own.sum() / 2.0)])


def stream(cadence: str, seed: int) -> tuple[NDArray[np.float64], NDArray[np.int64], Floats]:
    """Times (ms) and machines of all events, in order, and the gaps."""
    g = np.random.default_rng([seed, sorted(CADENCES).index(cadence)])
    gaps = [CADENCES[cadence](g, EVENTS) for _ in range(MACHINES)]
    times = [np.cumsum(own) + g.uniform(0, 60 * MINUTE) for own in gaps]
    end = min(own[-1] for own in times)
    ts, who = np.concatenate(times), np.repeat(np.arange(MACHINES), EVENTS)
    order = np.argsort(ts, kind="stable")
    order = order[ts[order] <= end]
    return ts[order], who[order], np.concatenate(gaps)


def said(ts: NDArray[np.float64], who: NDArray[np.int64]) -> list[Row]:
    """Messages of all alerts."""
    names, n = [f"m{each:02d}" for each in who.tolist()], len(ts)
    zero = np.zeros(n)
    events = Events(names, ts.astype(np.int64), zero[:, None], zero, np.arange(n))
    return [each.message for each in SilenceAlerts(parse_config(CONFIG)).process(events, 0, [])]


def measured(cadence: str, seed: int) -> Row:
    """False alarms of a stream in which all send, and delays of one in which some stop."""
    ts, who, gaps = stream(cadence, seed)
    usual = usual_gap(gaps)
    g = np.random.default_rng([seed, 99])
    row: Row = {"cadence": cadence, "events": len(ts), "usual": usual, "median": float(np.median(gaps))}
    row["false"] = sum(message["phase"] == "started" for message in said(ts, who))
    row["delays"], row["missed"] = [], 0
    gone, killed = np.zeros(len(ts), bool), []
    for k in range(KILLS):
        start = ts[0] + (ts[-1] - ts[0]) * ((k + 1.0) / (KILLS + 1.0) + g.uniform(-0.05, 0.05))
        machine = int(g.integers(MACHINES))
        killed.append((machine, start, start + 30.0 * usual))
        gone |= (who == machine) & (ts >= start) & (ts < start + 30.0 * usual)
    messages = said(ts[~gone], who[~gone])
    for machine, start, end in killed:
        last = ts[(who == machine) & ~gone & (ts < start)][-1]
        own = [m for m in messages if m["entity"] == f"m{machine:02d}" and m["phase"] == "started"]
        found = [m["ts"] - last for m in own if last < m["ts"] < end]
        row["delays"] += [float(min(found) / usual)] if found else []
        row["missed"] += not found
    return row


def together(seeds: list[int]) -> list[Row]:
    """A row a cadence."""
    rows = []
    for cadence in CADENCES:
        own = [measured(cadence, seed) for seed in seeds]
        delays = sorted(delay for row in own for delay in row["delays"])
        usual, plain = (statistics.median(row[name] for row in own) for name in ("usual", "median"))
        events = sum(row["events"] for row in own)
        rows.append(
            {
                "cadence": cadence,
                "usual_minutes": usual / MINUTE,
                "by_median_gap": usual / plain,
                "found": len(delays),
                "missed": sum(row["missed"] for row in own),
                "delay": statistics.median(delays),
                "delay_95": delays[int(0.95 * (len(delays) - 1))],
                "false": sum(row["false"] for row in own),
                "allowed": events / 10_000,
            }
        )
    return rows


def checks_of(rows: list[Row]) -> list[Check]:
    out = []
    for row in rows:
        name = f"silence, {row['cadence']}"
        if row["cadence"] != "at random":  # whose gaps are of any length
            out.append(check(f"{name}: found after, usual gaps, median", row["delay"], "<=", 3.0))
            out.append(check(f"{name}: machines that fell silent and were not told", row["missed"], "<=", 0))
        out.append(check(f"{name}: false alarms by the budget", row["false"] / row["allowed"], "<=", 1.2))
    return out
