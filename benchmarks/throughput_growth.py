"""Growth: what an event costs, and an entity, with more entities, more features and smaller batches.

The engine alone, without a broker: each point is a process of its own (`python throughput_growth.py JOB`). First every
entity has `MEET` events, which are not counted; then windows of the same size are timed at every point.
"""

from __future__ import annotations

import gc
import json
import statistics
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from clients import CHUNK
from measuring import Check, MissingError, check, child, free_memory, memory, say
from rich.console import Console
from rich.table import Table

from ssm_stream.config import Config, parse_config
from ssm_stream.engine.engine import Engine
from ssm_stream.ingest.events import Events

ENTITIES = (100, 1_000, 10_000, 100_000, 1_000_000)
FEATURES = (2, 4, 8, 16, 32, 64)
BATCHES = (1, 10, 100, 1_000, 4_000, 16_000)
MEET = 3  # events of each entity before the clock runs
LEAST = 30_000  # events before the clock runs, at least
WINDOWS, WINDOW = 3, 100_000  # the median of so many windows of so many events is told
SMALL = 10_000  # events of a window where a batch has fewer than 10

MILLION, WIDE = 1_000_000, 16
"""Entities, and features of each, on one box."""

SLOWER_MOST = 2.0
MEMORY_MOST = 1.2
RATE_LEAST = 0.5


def configuration(features: int, more: str = "") -> Config:
    """The default configuration with so many features."""
    names = ", ".join(f"f{i}" for i in range(features))
    return parse_config(
        "source: {brokers: unused, topic: events}\n"
        f"event:\n  entity: entity\n  timestamp: ts\n  features: [{names}]\n"
        f"{more}"
    )


class Stream:
    """Events of E entities, each with a linear relation of its own: all in turn, then at random."""

    def __init__(self, entities: int, features: int) -> None:
        self._rng = np.random.default_rng(0)
        self._weights = self._rng.normal(size=(entities, features)).astype(np.float32)
        self._at = 0

    def take(self, which: np.ndarray[Any, np.dtype[np.int64]]) -> Events:
        """One event of each of these entities, in this order."""
        n = len(which)
        x = self._rng.normal(size=(n, self._weights.shape[1]))
        y = (x * self._weights[which]).sum(1) + 0.1 * self._rng.normal(size=n)
        position = np.arange(n)
        ts = 1_700_000_000_000 + self._at + position
        self._at += n
        return Events([f"m{i:06d}" for i in which.tolist()], ts, x, y, position)

    def meeting(self, batch: int) -> Iterator[Events]:
        """`MEET` events of every entity, `LEAST` in all at least."""
        entities = len(self._weights)
        for _ in range(max(MEET, -(-LEAST // entities))):
            order = self._rng.permutation(entities)
            yield from (self.take(order[at : at + batch]) for at in range(0, entities, batch))

    def random(self, count: int, batch: int) -> Iterator[Events]:
        """So many events of entities at random."""
        for at in range(0, count, batch):
            yield self.take(self._rng.integers(0, len(self._weights), min(batch, count - at)))


def point(entities: int, features: int, batch: int, window: int) -> dict[str, float]:
    """One point: CPU µs an event, bytes an entity."""
    config = configuration(features)
    window = window if batch >= 10 else min(window, SMALL)
    warm, first = Stream(10, features), Engine(config)
    for events in warm.random(2_000, 1_000):
        first.process(events)  # the kernels are there, and what Python allocates once
    del first
    stream, engine = Stream(entities, features), Engine(config)
    gc.collect()
    before = memory()[0]
    for events in stream.meeting(max(batch, 1_000)):
        engine.process(events)
    del events
    gc.collect()
    now, peak = memory()
    costs = []
    for _ in range(WINDOWS):
        spent = 0.0
        for events in stream.random(window, batch):
            start = time.process_time()
            engine.process(events)
            spent += time.process_time() - start
        costs.append(spent / window * 1e6)
    return {
        "us": statistics.median(costs),
        "events_per_s": 1e6 / statistics.median(costs),
        "bytes": engine.bytes_per_entity,
        "resident": (now - before) / entities,
        "peak": (peak - before) / entities,
    }


def measure(
    entities: tuple[int, ...], features: tuple[int, ...], batches: tuple[int, ...], window: int = WINDOW
) -> dict[str, Any]:
    """All points: those of `entities` with 8 features, the others with 100 entities."""
    jobs = [("entities", e, {"entities": e, "features": 8, "batch": CHUNK}) for e in entities]
    jobs += [("features", d, {"entities": 100, "features": d, "batch": CHUNK}) for d in features]
    jobs += [("batches", b, {"entities": 100, "features": 8, "batch": b}) for b in batches]
    found: dict[str, dict[str, Any]] = {"entities": {}, "features": {}, "batches": {}}
    for kind, value, job in jobs:
        one = found[kind][str(value)] = child("throughput_growth.py", {**job, "window": window})
        say(f"  {kind} {value:,}: {one['us']:.2f} µs an event, {one['bytes']:,} bytes an entity")
    return found


def checks(measured: dict[str, Any], few: int, many: int) -> list[Check]:
    """The engine with few and with many entities."""
    found = measured["entities"]
    one, other = found[str(few)], found[str(many)]
    return [
        check(f"entities: events/s of {few:,} by {many:,}, engine", other["us"] / one["us"], "<=", SLOWER_MOST),
        check(f"entities: memory of one by its state, {many:,}", other["resident"] / other["bytes"], "<=", MEMORY_MOST),
    ]


def measure_million(few: int, many: int, window: int = WINDOW) -> dict[str, dict[str, Any]]:
    """The engine with few entities and with a million, of 16 features.

    Raises:
        MissingError: the machine has not the memory.
    """
    needed = many * Engine(configuration(WIDE)).bytes_per_entity * MEMORY_MOST
    if (free := free_memory()) < needed:
        raise MissingError(
            f"{many:,} entities of {WIDE} features need {needed / 2**30:.1f} GiB, free are {free / 2**30:.1f}; "
            "--million-entities takes fewer"
        )
    found = {}
    for entities in (few, many):
        job = {"entities": entities, "features": WIDE, "batch": CHUNK, "window": window}
        one = found[str(entities)] = child("throughput_growth.py", job)
        say(f"  {entities:,} entities of {WIDE} features: {one['us']:.2f} µs an event")
    return found


def checks_million(measured: dict[str, dict[str, Any]]) -> list[Check]:
    """Of the engine."""
    (few, one), (many, other) = measured.items()
    what = f"{int(many):,} entities of {WIDE} features"
    return [
        check(f"{what}: events/s by those at {few}, engine", one["us"] / other["us"], ">=", RATE_LEAST),
        check(f"{what}: memory of one by its state", other["resident"] / other["bytes"], "<=", MEMORY_MOST),
    ]


def show_million(measured: dict[str, dict[str, Any]], console: Console) -> None:
    """In words."""
    for entities, one in measured.items():
        console.print(
            f"[bold]{int(entities):,} entities[/] of {WIDE} features, engine alone: {one['us']:.2f} µs an event, "
            f"{one['events_per_s']:,.0f} events/s; an entity's state {one['bytes']:,} bytes, resident "
            f"{one['resident']:,.0f}, peak {one['peak']:,.0f}"
        )


TITLES = {"entities": "entities (8 features)", "features": "features (100 entities)", "batches": "events a batch"}


def show(measured: dict[str, Any], shards: dict[str, float], console: Console) -> None:
    """A table a kind."""
    for kind, points in measured.items():
        if not points:
            continue
        table = Table(title=f"Growth with {TITLES[kind]}, engine alone")
        memories = ["state, bytes", "resident", "peak"] if kind == "entities" else ["state, bytes"]
        for column in [kind, "µs an event", "events/s", *memories]:
            table.add_column(column, justify="right", no_wrap=True)
        for value, one in points.items():
            cells = [f"{one['bytes']:,}"]
            if kind == "entities":
                cells += [f"{one['resident']:,.0f}", f"{one['peak']:,.0f}"] if int(value) >= 1000 else ["", ""]
            table.add_row(f"{int(value):,}", f"{one['us']:.2f}", f"{one['events_per_s']:,.0f}", *cells)
        console.print(table)
    if shards:
        table = Table(title="Growth with shards, decode to encode")
        table.add_column("shards", justify="right")
        table.add_column("µs an event", justify="right")
        for value, cost in shards.items():
            table.add_row(value, f"{cost:.2f}")
        console.print(table)
    console.print(
        f"CPU of the engine for an event, the median of {WINDOWS} windows, after {MEET} events of every entity. State: "
        "`Engine.bytes_per_entity`; resident and peak: by how much the process grew, by entities, what they share "
        "included."
    )


if __name__ == "__main__":
    print(json.dumps(point(**json.loads(sys.argv[1]))))
