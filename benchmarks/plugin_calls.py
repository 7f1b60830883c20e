"""What one event a call costs: the engine of dicts, and an estimator in River's conventions.

    python benchmarks/plugin_calls.py [--json]

The stream is that of throughput.py: 8 features, 100 entities, 8 lags, alerts on. CPU time of a process of its own, the
least of several stretches of 1,000 events counts: other work on the machine only adds to it. plugin.py has these rows.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

from measuring import Check, check, child, say, tell
from wire import FEATURES, configuration, events

import ssm_stream
from ssm_stream.config import parse_config

ENTITIES, WARM, STRETCH, STRETCHES, ROUNDS = 100, 20_000, 1_000, 20, 3


def least(call: Callable[[Any], object], items: Iterable[Any]) -> float:
    """µs of CPU a call, in the cheapest stretch."""
    best = float("inf")
    rest = iter(items)
    while stretch := list(itertools.islice(rest, STRETCH)):
        began = time.process_time()
        for item in stretch:
            call(item)
        best = min(best, (time.process_time() - began) / STRETCH * 1e6)
    return best


def measure(job: dict[str, int]) -> dict[str, float]:
    """The figures of one process."""
    stream = [event for _, event in events(job["warm"] + STRETCH * job["stretches"], ENTITIES)]
    warm, rest = stream[: job["warm"]], stream[job["warm"] :]
    engine = ssm_stream.Engine(parse_config(configuration("127.0.0.1:9", "events", "out", "unused")))
    engine.run(warm)
    regressor = ssm_stream.Regressor()
    pairs = [({name: event[name] for name in FEATURES}, event["target"]) for event in stream]
    for x, y in pairs[: job["warm"] // 4]:
        regressor.learn_one(x, y)
    return {
        "engine": least(engine.run, rest),
        "learn_one": least(lambda pair: regressor.learn_one(*pair), pairs[job["warm"] :]),
        "predict_one": least(lambda pair: regressor.predict_one(pair[0]), pairs[job["warm"] :]),
    }


def measure_calls(*, quick: bool = False) -> list[Check]:
    """The rows of plugin.py. quick: too little for a figure"""
    job = {"warm": 1_000, "stretches": 2} if quick else {"warm": WARM, "stretches": STRETCHES}
    found = [child("plugin_calls.py", job, "--measure") for _ in range(1 if quick else ROUNDS)]
    best = {name: min(each[name] for each in found) for name in found[0]}
    say(f"  one event a call, µs of CPU: {', '.join(f'{name} {value:.1f}' for name, value in best.items())}")
    return [
        check("engine of dicts, µs an event at one a call", best["engine"], "<=", 30),
        check("learn_one µs", best["learn_one"], "<=", 30),
    ]


def main() -> None:
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(measure(json.loads(sys.argv[2]))))
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", action="store_true", help="only JSON on standard output")
    arguments = parser.parse_args()
    checks = measure_calls()
    tell(checks)
    if arguments.json:
        print(json.dumps({"checks": checks}))


if __name__ == "__main__":
    main()
