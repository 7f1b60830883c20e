"""Alerts of machines that stand still, switch and pulse: budgets by quarter where nothing is wrong, and faults found.

    python benchmarks/alerts.py --parts rest                # a minute
    python benchmarks/alerts.py --parts rest --rest-seeds 1 2 3 --json

Each stream is what a plant does every day, with what `init` writes for it (defaults; silence and stuck by the rules'
own choice). Alerts that start are counted by quarter of the run, so that a flood that ends is seen apart from one that
does not, and judged in all against the budget. Streams with a fault say after how many events it is found, and what the
same stream without it has there (*by chance*).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from alerts_recordings import check
from alerts_run import Row, Stream, configuration
from rich.console import Console
from rich.table import Table

from ssm_stream.engine.engine import Engine
from ssm_stream.ingest.events import Events

CONSOLE = Console(stderr=True, highlight=False, soft_wrap=True, width=140)
START = 1_772_409_600_000
MINUTE = 60_000
DAY = 1440
BATCH = 20_000
BUDGET = 1e4
"""Events between false alarms of a kind, an entity: what `init` writes."""
RATE_MOST = 1.2
FOUND_WITHIN = 300
RULES: Row = {"silence": {"after": "auto"}, "stuck": True}
Generator = np.random.Generator


class Fault(NamedTuple):
    """entity: index; first, last: events of that entity"""

    entity: int
    first: int
    last: int


class Case(NamedTuple):
    """kinds: of alerts that are counted, each has a budget; fault: None where nothing is wrong; watched: the machines
    whose alerts are counted, None: all
    """

    stream: Stream
    kinds: tuple[str, ...]
    fault: Fault | None = None
    watched: tuple[str, ...] | None = None


def of_machines(name: str, ts: list[Any], y: list[Any], x: dict[str, list[Any]] | None = None) -> Stream:
    """Columns by machine, put into the order of time."""
    inputs = x or {}
    entity = np.repeat(np.arange(len(y)), [len(one) for one in y])
    times = np.concatenate(ts).astype(np.int64)
    order = np.argsort(times, kind="stable")
    columns = np.stack([np.concatenate(own) for own in inputs.values()], 1) if inputs else np.zeros((len(times), 0))
    names = [f"M{i}" for i in range(len(y))]
    return Stream(name, names, entity[order], times[order], columns[order], np.concatenate(y)[order], list(inputs), {})


def minutes(n: int) -> Any:
    return START + MINUTE * np.arange(n)


def shifts(g: Generator, fault: bool) -> Case:
    """Three machines, 30 ± 2 from 06 to 22 h and 0 at night, 40 days. Fault: one stands at 31.4 in a shift."""
    t = np.arange(40 * DAY)
    works = (t // 60 % 24 >= 6) & (t // 60 % 24 < 22)
    y = [np.where(works, 30 + 2 * g.normal(size=len(t)), 0.0) for _ in range(3)]
    first = 30 * DAY + 10 * 60
    if fault:
        y[1][first : first + 240] = 31.4
    broken = Fault(1, first, first + 240) if fault else None
    return Case(of_machines("shifts", [minutes(len(t))] * 3, y), ("anomaly", "drift", "stuck"), broken)


def dead_band(g: Generator, fault: bool) -> Case:
    """Two meters that send a new value once it differs by 0.5 from the last. Fault: one rises by 4."""
    n = 60_000
    y = []
    for _ in range(2):
        value, sent, own = 0.0, 0.0, np.empty(n)
        for i, noise in enumerate(g.normal(size=n) * 1.5 * np.sqrt(1 - 0.995**2)):
            value = 0.995 * value + noise
            if abs(value - sent) > 0.5:
                sent = value
            own[i] = 60 + sent
        y.append(own)
    if fault:
        y[0][40_000:41_000] += 12.0
    broken = Fault(0, 40_000, 41_000) if fault else None
    return Case(of_machines("dead band", [minutes(n)] * 2, y), ("anomaly", "drift"), broken)


def pulses(g: Generator, fault: bool) -> Case:
    """0 but for a pulse of 100 about every 3,000 events. Fault: 100 events of 20 ± 2."""
    n = 200_000
    y = np.zeros(n)
    y[np.cumsum(g.integers(2100, 3900, n // 3900))] = 100.0
    if fault:
        y[150_000:150_100] = 20 + 2 * g.normal(size=100)
    broken = Fault(0, 150_000, 150_100) if fault else None
    return Case(of_machines("pulses", [minutes(n)], [y]), ("anomaly", "drift"), broken)


def neighbour(g: Generator, fault: bool) -> Case:
    """Two machines at 12; after five days one begins to move, and the other's alerts count. Fault: it leaves 12 too."""
    n = 10 * DAY
    y = [np.full(n, 12.0), np.full(n, 12.0)]
    y[0][n // 2 :] += g.normal(size=n - n // 2)
    y[0] = y[0].round(2)
    if fault:
        y[1][12_000:12_060] = 14.0
    broken = Fault(1, 12_000, 12_060) if fault else None
    return Case(of_machines("a neighbour moves", [minutes(n)] * 2, y), ("anomaly", "drift"), broken, ("M1",))


def valve(g: Generator, fault: bool) -> Case:
    """A flow of half a valve's opening, which is 0 or 100 for an hour on average. Fault: 5 flow through it closed."""
    n, opening, at, now = 30_000, np.zeros(30_000), 0, 0.0
    while at < n:
        dwell = int(g.exponential(60)) + 3
        opening[at : at + dwell] = now
        at, now = at + dwell, 100.0 - now
    flow = 0.5 * opening + 0.2 * g.normal(size=n)
    if fault:
        flow[20_000:][opening[20_000:] == 0] += 5.0
    broken = Fault(0, 20_000, n) if fault else None
    return Case(of_machines("valve", [minutes(n)], [flow.round(2)], {"valve": [opening]}), ("anomaly", "drift"), broken)


def setpoints(g: Generator, fault: bool) -> Case:
    """A loop that follows its setpoint in eight minutes; eight hours a setpoint. Fault: it stays 3 below."""
    n, noise, value = 70_000, 0.0, 70.0
    wanted = np.repeat(g.choice([60.0, 65, 70, 75, 80], n // 480 + 1), 480)[:n]
    y = np.empty(n)
    for i, z in enumerate(g.normal(size=n) * 0.3 * 0.8):
        value += (wanted[i] - value) / 8
        noise = 0.6 * noise + z
        y[i] = value + noise
    if fault:
        y[50_000:51_000] -= 3.0
    broken = Fault(0, 50_000, 51_000) if fault else None
    return Case(of_machines("setpoints", [minutes(n)], [y.round(2)], {"sp": [wanted]}), ("anomaly", "drift"), broken)


def bursts(g: Generator, fault: bool) -> Case:
    """Twelve machines a minute, three of them send 240 rows and then nothing for eight hours. Fault: one is silent for
    two days."""
    ts, y = [], []
    for machine in range(12):
        i = np.arange(20 * DAY)
        pauses = 480 * (i // 240) if machine < 3 else 0 * i
        at = i + pauses
        own = at[at < 20 * DAY]
        if fault and machine == 0:
            own = own[(own < 15 * DAY) | (own > 17 * DAY)]
        ts.append(START + MINUTE * own + g.integers(0, 10_000, len(own)))
        y.append((50 + g.normal(size=len(own))).round(2))
    first = int(np.searchsorted(ts[0], START + 15 * DAY * MINUTE)) if fault else 0
    broken = Fault(0, first - 1, first + 1) if fault else None
    return Case(of_machines("bursts", ts, y), ("anomaly", "drift", "silence"), broken)


CASES: dict[str, Callable[[Generator, bool], Case]] = {
    "shifts": shifts,
    "dead band": dead_band,
    "pulses": pulses,
    "a neighbour moves": neighbour,
    "valve": valve,
    "setpoints": setpoints,
    "bursts": bursts,
}


class Start(NamedTuple):
    row: int
    entity: str
    kind: str


def starts(stream: Stream) -> list[Start]:
    """The alerts of entities that start, in order."""
    engine, names, found = (
        Engine(configuration(stream, "1 per 10000 events", RULES)),
        np.array(stream.names, object),
        [],
    )
    for first in range(0, len(stream.y), BATCH):
        rows = slice(first, first + BATCH)
        x = np.ascontiguousarray(stream.x[rows])
        events = Events(names[stream.entity[rows]].tolist(), stream.ts[rows], x, stream.y[rows], np.arange(len(x)))
        found += [
            Start(first + alert.row, alert.message["entity"], alert.message["kind"])
            for alert in engine.process(events)[1]
            if alert.message["phase"] == "started"
        ]
    return found


def of_budget(case: Case) -> Row:
    """Starts by kind and quarter, and what the budget allows of a kind."""
    names, n = case.watched or case.stream.names, len(case.stream.y)
    quarters = {kind: [0, 0, 0, 0] for kind in case.kinds}
    for one in starts(case.stream):
        if one.kind in quarters and one.entity in names:
            quarters[one.kind][4 * one.row // n] += 1
    events = np.isin(np.array(case.stream.names)[case.stream.entity], names).sum()
    return {"quarters": quarters, "allowed": float(events) / BUDGET}


def of_fault(case: Case, calm: Case) -> Row:
    """Events until the first alert on the entity in the fault; None: not found. by chance: the same without it"""
    assert case.fault is not None
    fault, own = case.fault, np.flatnonzero(case.stream.entity == case.fault.entity)
    low, high = own[fault.first], own[min(fault.last, len(own) - 1)]
    name = case.stream.names[fault.entity]

    def first(of: Case) -> int | None:
        inside = [s.row for s in starts(of.stream) if low <= s.row <= high and s.entity == name]
        return int(np.searchsorted(own, inside[0]) - fault.first) if inside else None

    return {"after": first(case), "by chance": None if len(calm.stream.y) != len(case.stream.y) else first(calm)}


def parts(options: argparse.Namespace) -> tuple[list[Row], list[Row]]:
    """Checks, and a row a stream and seed."""
    checks, rows = [], []
    table = Table(box=None, padding=(0, 1, 0, 0), title="Alerts that start, by quarter of the run (allowed a quarter)")
    for title in ("stream", "seed", "alerts a quarter", "fault found after events (by chance)"):
        table.add_column(title)
    for number, (name, make) in enumerate(CASES.items()):
        by_kind: dict[str, list[Row]] = {}
        delays = []
        for seed in options.rest_seeds:
            calm, broken = (make(np.random.default_rng([seed, number]), fault) for fault in (False, True))
            row: Row = {"stream": name, "seed": seed, **of_budget(calm), "fault": of_fault(broken, calm)}
            rows.append(row)
            delays.append(row["fault"]["after"])
            for kind, counts in row["quarters"].items():
                by_kind.setdefault(kind, []).append({"counts": counts, "allowed": row["allowed"]})
            words = "; ".join(f"{kind} {', '.join(map(str, counts))}" for kind, counts in row["quarters"].items())
            shown = ["–" if one is None else f"{one:,}" for one in row["fault"].values()]
            table.add_row(name, str(seed), f"{words} ({row['allowed'] / 4:.1f})", f"{shown[0]} ({shown[1]})")
        for kind, own in by_kind.items():
            allowed = sum(one["allowed"] for one in own)
            rate = sum(sum(one["counts"]) for one in own) / allowed
            late = sum(sum(one["counts"][2:]) for one in own) / (allowed / 2)
            checks.append(check(f"rest/{name}: {kind} alerts by allowed", rate, "<=", RATE_MOST))
            checks.append(check(f"rest/{name}: {kind} alerts by allowed, second half", late, "<=", RATE_MOST))
        found = sum(one is not None and one <= FOUND_WITHIN for one in delays)
        checks.append(check(f"rest/{name}: fault found within {FOUND_WITHIN} events, runs", found, ">=", len(delays)))
    CONSOLE.print(table)
    return checks, rows


def add_options(parser: Any) -> None:
    """Twelve seeds: of three, budgets allow nine alerts of a valve, so that eleven of them are chance."""
    parser.add_argument(
        "--rest-seeds", nargs="+", type=int, default=[*range(101, 113)], help="of the streams of `rest`"
    )
