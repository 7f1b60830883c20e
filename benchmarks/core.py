"""The native core: what an event costs, a message read and written, and a start until the first prediction.

    python benchmarks/core.py [--json] [--quick]

CPU time of the thread, minimum over repetitions, so that two builds may be compared that run in turns on one machine.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ssm_stream.config import Config, parse_config
from ssm_stream.core import ISA, native
from ssm_stream.engine import entity_store
from ssm_stream.engine.engine import Engine
from ssm_stream.ingest.events import Events
from ssm_stream.kafka.fast_json import FastReader

BATCH = 4_000


def config(features: int = 8) -> Config:
    names = ", ".join(f"f{i}" for i in range(features))
    return parse_config(
        f"source: {{brokers: unused, topic: events}}\nevent: {{entity: entity, timestamp: ts, features: [{names}]}}\n"
    )


class Stream:
    """Events of entities that each have weights of their own."""

    def __init__(self, entities: int, features: int = 8) -> None:
        self._rng = np.random.default_rng(0)
        self._weights = self._rng.normal(size=(entities, features))
        self._at = 0

    def take(self, which: np.ndarray[Any, np.dtype[np.int64]]) -> Events:
        n = len(which)
        x = self._rng.normal(size=(n, self._weights.shape[1]))
        y = (x * self._weights[which]).sum(1) + 0.1 * self._rng.normal(size=n)
        ts = 1_700_000_000_000 + self._at + np.arange(n)
        self._at += n
        return Events([f"m{i:06d}" for i in which.tolist()], ts, x, y, np.arange(n))

    def met(self, engine: Engine, least: int = 30_000) -> None:
        entities = len(self._weights)
        for _ in range(max(3, -(-least // entities))):
            order = self._rng.permutation(entities)
            for at in range(0, entities, BATCH):
                engine.process(self.take(order[at : at + BATCH]))

    def random(self, count: int) -> list[Events]:
        return [self.take(self._rng.integers(0, len(self._weights), BATCH)) for _ in range(count // BATCH)]


def best(run: Callable[[], object], count: int, repetitions: int) -> float:
    """Nanoseconds of this thread's CPU time for each of `count`."""
    found = float("inf")
    for _ in range(repetitions):
        begin = time.thread_time()
        run()
        found = min(found, time.thread_time() - begin)
    return 1e9 * found / count


class Timed:
    """The core's loops, and the CPU time that they took, s."""

    took = 0.0

    def __init__(self, engine: native.Engine) -> None:
        self._engine = engine

    def run(self, *arguments: Any) -> tuple[int, int]:
        begin = time.thread_time()
        found = self._engine.run(*arguments)
        Timed.took += time.thread_time() - begin
        return found


def event(entities: int, count: int, repetitions: int) -> float:
    """ns that the loop over events takes for one: learner, all detectors."""
    bind = entity_store.EntityStore.bind
    entity_store.EntityStore.bind = lambda store, rules: Timed(bind(store, rules))  # type: ignore[method-assign,assignment,return-value]
    try:
        engine, stream, found = Engine(config()), Stream(entities), float("inf")
        stream.met(engine)
        for _ in range(repetitions):
            batches = stream.random(count)
            Timed.took = 0.0
            for batch in batches:
                engine.process(batch)
            found = min(found, 1e9 * Timed.took / count)
    finally:
        entity_store.EntityStore.bind = bind  # type: ignore[method-assign]
    return found


def wire(repetitions: int) -> tuple[float, float]:
    """ns a message of 8 numbers, read and written."""
    rng, n = np.random.default_rng(0), 2_000
    rows = rng.normal(size=(n, 9)).tolist()
    names = [f"machine-{i % 100}" for i in range(n)]
    messages: list[bytes | None] = []
    for i, row in enumerate(rows):
        event = {"entity": names[i], "ts": 1_700_000_000_000 + i, "target": row[8]}
        messages.append(json.dumps(event | {f"f{j}": row[j] for j in range(8)}).encode())
    reader = FastReader(config().event)
    assert reader.read(messages) is not None
    columns = [rng.normal(size=n) for _ in range(6)] + [np.arange(n), np.arange(n) > 5]
    template = [[b'{"entity":', *(f',"column{j}":'.encode() for j in range(8)), b"}"]]
    read = best(lambda: reader.read(messages), n, repetitions)
    return read, best(lambda: native.write_rows(template, names, columns), n, repetitions)


def yardstick() -> float:
    """ns of a step of a loop in plain Python."""

    def loop() -> float:
        total = 0.0
        for i in range(100_000):
            total += i * 0.5
        return total

    return best(loop, 100_000, 7)


def start() -> float:
    """Seconds of wall time until a new process has predicted."""
    code = (
        "import numpy as np; from ssm_stream.config import parse_config; from ssm_stream.engine.engine import Engine; "
        "from ssm_stream.ingest.events import Events; "
        "c = parse_config('source: {brokers: a, topic: t}\\nevent: {entity: e, timestamp: t, features: [a]}'); "
        "Engine(c).process(Events(['m'], np.array([1]), np.ones((1, 1)), np.ones(1), np.arange(1)))"
    )
    found = float("inf")
    for _ in range(3):
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        found = min(found, time.perf_counter() - begin)
    return found


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--json", action="store_true")
    arguments.add_argument("--quick", action="store_true")
    given = arguments.parse_args()
    repetitions = 3 if given.quick else 9
    read, write = wire(repetitions)
    figures = {
        "isa": ISA,
        "yardstick_ns": yardstick(),
        "event_100_ns": event(100, 20_000, repetitions),
        "event_10000_ns": event(10_000, 20_000, repetitions),
        "read_ns": read,
        "write_ns": write,
        "first_prediction_s": start(),
    }
    if given.json:
        print(json.dumps(figures, indent=2))
    else:
        for name, value in figures.items():
            print(f"{name:>20}  {value if isinstance(value, str) else round(value, 3)}")


if __name__ == "__main__":
    main()
