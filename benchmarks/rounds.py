"""Many entities side by side in torch (`ssm-stream backtest --device`), beside the kernel, by the number of entities.

    python benchmarks/rounds.py [--device cuda] [--entities 100 1000 10000] [--json]

Every entity learns by itself and has the same number of events, of eight plain numbers; default heads and lags, no
calendar. Predictions of both are compared before the figures count. On a CPU the kernel is the one to use; what a GPU
gains has to be measured where there is one.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

import numpy as np
import torch

from ssm_stream.config import parse_config
from ssm_stream.engine.engine import Engine
from ssm_stream.evaluate.device_backtest import DeviceEngine
from ssm_stream.ingest.events import Events

CONFIG = """
source: {brokers: "localhost:9092", topic: events}
event: {entity: e, timestamp: t, features: [a, b, c, d, e1, f, g, h], target: y, calendar: []}
model: {fleet: false}
"""
EVENTS = 20
"""Of each entity."""
NEAR = 1e-3


def events(entities: int) -> Events:
    rng = np.random.default_rng(1)
    n = entities * EVENTS
    x = rng.normal(size=(n, 8))
    names = [f"machine-{i}" for i in range(entities)] * EVENTS
    ts = 1_700_000_000_000 + 1_000 * np.arange(n)
    y = x @ np.arange(1.0, 9.0) + rng.normal(size=n)
    return Events(names, ts, x, y, np.arange(n))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--entities", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        print("skipped: torch finds no GPU here", file=sys.stderr)
        return 0
    torch.set_num_threads(1)
    out = sys.stderr if options.json else sys.stdout
    config, rows = parse_config(CONFIG), []
    print(f"µs an event, {options.device} in torch beside one core of the kernel (processor time on a CPU)", file=out)
    clock = time.process_time if options.device == "cpu" else time.perf_counter
    for entities in options.entities:
        some = events(entities)
        took, said = [], []
        for engine in (Engine(config), DeviceEngine(config, options.device)):
            begin = clock()
            said.append(engine.process(some)[0].yhat)
            took.append(1e6 * (clock() - begin) / len(some))
        far = float(np.abs(said[0] - said[1]).max() / some.target.std())
        if far > NEAR:
            raise SystemExit(f"{entities} entities: predictions differ by {far:.1e} of the target's deviation")
        rows.append({"entities": entities, "kernel": took[0], "torch": took[1], "device": options.device, "far": far})
        print(f"{entities:>8} entities: kernel {took[0]:8.2f}   torch {took[1]:8.2f}   differ by {far:.0e}", file=out)
    if options.json:
        print(json.dumps({"checks": [], "rows": rows}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
