"""What the two builds of core.py have in common: stream, messages, and a process that measures when it is asked.

Only the standard library and numpy: the commit with numba runs it too, with its own interpreter.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

FEATURES = 8
BATCH = 4_000
NAMES = [f"f{i}" for i in range(FEATURES)]
CONFIG = (
    "source: {brokers: unused, topic: events}\n"
    f"event: {{entity: entity, timestamp: ts, target: target, features: [{', '.join(NAMES)}]}}\n"
)
START = 1_700_000_000_000  # ms

Columns = tuple[list[str], Any, Any, Any]


class Stream:
    """Events of entities that each have weights of their own: names, times, features and targets of a batch."""

    def __init__(self, entities: int) -> None:
        self._rng = np.random.default_rng(0)
        self._weights = self._rng.normal(size=(entities, FEATURES))
        self._at = 0

    def take(self, which: Any) -> Columns:
        n = len(which)
        x = self._rng.normal(size=(n, FEATURES))
        y = (x * self._weights[which]).sum(1) + 0.1 * self._rng.normal(size=n)
        ts = START + self._at + np.arange(n)
        self._at += n
        return [f"m{i:06d}" for i in which.tolist()], ts, x, y

    def first(self, events: int = 30_000) -> Iterator[Columns]:
        """Every entity in a random order, three times and at least so many events."""
        entities = len(self._weights)
        for _ in range(max(3, -(-events // entities))):
            order = self._rng.permutation(entities)
            for at in range(0, entities, BATCH):
                yield self.take(order[at : at + BATCH])

    def random(self, events: int) -> list[Columns]:
        return [self.take(self._rng.integers(0, len(self._weights), BATCH)) for _ in range(events // BATCH)]


def messages(count: int = BATCH) -> list[bytes]:
    """JSON of about 230 bytes: an entity, a time, a target and 8 numbers of 16 digits."""
    names, ts, x, y = Stream(100).take(np.arange(count) % 100)
    return [
        json.dumps(
            {"entity": names[i], "ts": int(ts[i]), "target": y[i]} | dict(zip(NAMES, x[i].tolist(), strict=True))
        ).encode()
        for i in range(count)
    ]


def predictions(count: int = BATCH) -> Columns:
    """Names, times, targets and six columns of numbers, to be written as predictions."""
    names, ts, x, y = Stream(100).take(np.arange(count) % 100)
    return names, ts, y, x.T.copy()


def taken(work: Callable[[], object], count: int) -> float:
    """ns of this thread's CPU for each of `count`."""
    begin = time.thread_time()
    work()
    return 1e9 * (time.thread_time() - begin) / count


def serve(measures: dict[str, Callable[[int], float]]) -> None:
    """Read lines `name argument` and answer each with a figure, until the end of the input."""
    for line in sys.stdin:
        name, argument = line.split()
        print(measures[name](int(argument)), flush=True)
