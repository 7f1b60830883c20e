"""The first 1,000 events of machines: alarms where nothing is wrong, and faults that are found all the same.

    python benchmarks/first_events.py [--seeds 30 31 32] [--json]

Four machines of a kind each: an autoregression, noise with heavy tails, one that rests before it begins, a loud start,
a switch between two states, that switch as a feature, a saw tooth, batches, a season of a day, steps that stay. A row a
kind has the anomaly and drift alerts a machine. Then a fault at one of the machines, after 300, 600 or 900 events: a
spike of 20 or of 60 deviations, five such events of 15, a shift by 12; it is found if an anomaly alert starts within 20
events. It is looked for with past targets, and at machines that do not switch: there it is no larger than a change.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np
from absences import CELLS, Floats, Stream, autoregression, joined
from accuracy_product import configuration
from measuring import check, tell
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from ssm_stream.engine.engine import Engine

MACHINES, EVENTS = 4, 1_000
KINDS = {
    "autoregression": 1.6, "heavy tails": 1.4, "rests at first": 1.6, "loud start": 1.6, "season": 1.6,
    "switch": 0.3, "known switch": 0.3, "saw tooth": 0.3, "batches": 0.5, "steps": 0.3,
}  # fmt: skip
"""Kinds of machines, and the standard deviation of what cannot be predicted of them."""
SWITCHING = ("switch", "known switch", "saw tooth", "batches", "steps")
FAULTS = {"spike of 20": (20.0, 1), "spike of 60": (60.0, 1), "five of 15": (15.0, 5), "shift by 12": (12.0, EVENTS)}
"""Deviations, and events."""
AT, WITHIN = (300, 600, 900), 20
WORST_MOST, MEAN_MOST, FOUND_LEAST = 3.0, 1.0, 0.85
"""The budget allows 0.1 in 1,000 events, once it is known what is usual."""


def target_of(kind: str, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Target (n,) and features (n, 2) of a machine."""
    n, steps = EVENTS, np.arange(EVENTS)
    noise, features = rng.normal(size=n), rng.normal(size=(n, 2))
    y = 50 + 5 * autoregression(rng, n, 1, 0.95)[:, 0] + 0.3 * noise
    if kind == "heavy tails":
        y = 50 + rng.standard_t(4, n)
    elif kind == "rests at first":
        y[:150] = 50.0
    elif kind == "loud start":
        y[:80] += 20 * noise[:80]
    elif kind == "season":
        y += 10 * np.sin(2 * np.pi * steps / 288)
    elif kind in ("switch", "known switch"):
        state = np.cumsum(rng.random(n) < 0.01) % 2
        y = 50.0 * state + 0.3 * noise
        if kind == "known switch":
            features[:, 0] = state
    elif kind == "saw tooth":
        y = steps % 97 + 0.3 * noise
    elif kind == "batches":
        phase = steps % 120
        y = 20 + 60 * (1 - np.exp(-phase / 20)) * (phase < 100) + 0.5 * noise
    elif kind == "steps":
        y = 50 + np.cumsum((rng.random(n) < 0.002) * rng.normal(size=n) * 10) + 0.3 * noise
    return y, features


def stream(kind: str, seed: int, fault: tuple[int, float, int] | None = None) -> Stream:
    """fault: of the first machine, when, by how much, for how many events"""
    rng = np.random.default_rng([seed, list(KINDS).index(kind)])
    nothing: NDArray[np.bool_] = np.zeros(EVENTS, np.bool_)
    machines = []
    for m in range(MACHINES):
        y, features = target_of(kind, rng)
        if fault is not None and m == 0:
            at, size, length = fault
            y[at : at + length] += size
        machines.append((5.0 * np.arange(EVENTS), features, y, nothing))
    return joined(machines)


def started(of: Stream, lags: dict[str, Any]) -> list[tuple[str, str, int]]:
    """Kind, entity and number of its event of each alert that starts; alerts of one machine each."""
    config = configuration(of.features, "fast", {"event": lags, "alerts": {"fleet": {"enabled": False}}})
    _, alerts = Engine(config).process(of.events)
    return [
        (alert.message["kind"], of.events.entity[alert.row], alert.row // MACHINES)
        for alert in alerts
        if alert.message["phase"] == "started"
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[30, 31, 32])
    parser.add_argument("--json", action="store_true", help="checks and figures on standard output")
    options = parser.parse_args()
    rows, found, looked = list[dict[str, Any]](), 0, 0
    for kind, unit in KINDS.items():
        for cell, lags in CELLS.items():
            alerts = [each for seed in options.seeds for each in started(stream(kind, seed), lags)]
            machines, here = MACHINES * len(options.seeds), [0, 0]
            for seed in options.seeds if cell == "past" and kind not in SWITCHING else []:
                for at in AT:
                    for deviations, length in FAULTS.values():
                        of = started(stream(kind, seed, (at, deviations * unit, length)), lags)
                        hit = any(each[:2] == ("anomaly", "m0") and 0 <= each[2] - at < WITHIN for each in of)
                        here = [here[0] + hit, here[1] + 1]
            found, looked = found + here[0], looked + here[1]
            rows.append(
                {
                    "kind": kind,
                    "inputs": cell,
                    "anomalies a machine": sum(each[0] == "anomaly" for each in alerts) / machines,
                    "drifts a machine": sum(each[0] == "drift" for each in alerts) / machines,
                    "faults found": f"{here[0]} of {here[1]}" if here[1] else "",
                }
            )
    worst = max(each["anomalies a machine"] for each in rows)
    mean = float(np.mean([each["anomalies a machine"] for each in rows]))
    checks = [
        check("first 1,000 events: anomaly alerts a machine, the worst kind", worst, "<=", WORST_MOST),
        check("first 1,000 events: anomaly alerts a machine, the mean kind", mean, "<=", MEAN_MOST),
        check("first 1,000 events: share of faults found", found / looked, ">=", FOUND_LEAST),
    ]
    if options.json:
        print(json.dumps({"checks": checks, "kinds": rows}))
        return
    table = Table(box=None, padding=(0, 1))
    for name, value in rows[0].items():
        table.add_column(name, justify="left" if isinstance(value, str) else "right")
    for each in rows:
        table.add_row(*(f"{value:.2f}" if isinstance(value, float) else value for value in each.values()))
    Console(width=120).print(table)
    tell(checks)


if __name__ == "__main__":
    main()
