"""The drift detector on errors that wander for hundreds of events: false alarms, and how soon a shift is found.

    python benchmarks/drift_wander.py [--json]          # 5 s

Errors are white noise, and a slow part of so many deviations that is forgotten within so many events, as of weather or
of a load that no input has. A shift comes after 12,000 events, without the slow part and with a third of a deviation.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
from measuring import Check, check, tell
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from ssm_stream.core import detect, native

BUDGET, EVENTS, SEEDS = 10_000.0, 40_000, range(8)
WANDER = ((1, 0.0), (30, 0.3), (100, 0.2), (100, 0.4), (300, 0.3), (300, 0.5), (1000, 0.4))
"""Events in which it is forgotten, deviations."""
SHIFTS, SHIFT_AT, SHIFT_EVENTS, SHIFT_SEEDS = (0.5, 1.0), 12_000, 2_000, range(30)
APART = 200
"""Events within which alarms are one."""
MOST, SOONEST = 1.2, 100.0
"""Bars: alarms by the budget, of the worst; events to a shift by one deviation, the median."""


def errors(rng: np.random.Generator, n: int, memory: float, size: float) -> NDArray[np.float64]:
    """(n,)"""
    keep = np.exp(-1.0 / memory)
    steps, slow = rng.normal(size=n) * np.sqrt(1.0 - keep * keep), np.empty(n)
    value = rng.normal()
    for i in range(n):
        slow[i] = value = keep * value + steps[i]
    return rng.normal(size=n) + size * slow


def alarms(observed: NDArray[np.float64]) -> list[int]:
    """The events at which the detector alarms."""
    evidence = np.empty(len(observed))
    native.drift_observe_all(detect.new_detector_state(1), 0, np.ascontiguousarray(observed), BUDGET, False, evidence)
    at = np.flatnonzero(evidence >= 1.0)
    return [int(i) for k, i in enumerate(at) if k == 0 or i - at[k - 1] > APART]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="checks and figures on standard output")
    options = parser.parse_args()
    table, checks, rates = Table(box=None, padding=(0, 1)), list[Check](), list[float]()
    for name in ("wanders within", "by", "alarms by the budget"):
        table.add_column(name, justify="right")
    for memory, size in WANDER:
        rngs = [np.random.default_rng([seed, memory, int(100 * size)]) for seed in SEEDS]
        count = sum(len(alarms(errors(rng, EVENTS, memory, size))) for rng in rngs)
        rates.append(count / (len(SEEDS) * EVENTS / BUDGET))
        table.add_row(f"{memory:,}", f"{size:g}", f"{rates[-1]:.2f}")
    checks.append(check("drift: false alarms by the budget, the worst wander", max(rates), "<=", MOST))
    for shift in SHIFTS:
        for memory, size in ((1, 0.0), (100, 0.3)):
            first = list[float]()
            for seed in SHIFT_SEEDS:
                rng = np.random.default_rng([seed, 77, int(100 * shift)])
                observed = errors(rng, SHIFT_AT + SHIFT_EVENTS, memory, size)
                observed[SHIFT_AT:] += shift
                first.append(min((i - SHIFT_AT for i in alarms(observed) if i >= SHIFT_AT), default=np.inf))
            table.add_row(f"shift {shift:g}, {memory:,}", f"{size:g}", f"after {np.median(first):g} events")
            if shift == 1.0 and size:
                name = "drift: events to a shift by one deviation in errors that wander, median"
                checks.append(check(name, float(np.median(first)), "<=", SOONEST))
    if options.json:
        print(json.dumps({"checks": checks}))
        return
    Console(width=120).print(table)
    tell(checks)


if __name__ == "__main__":
    main()
