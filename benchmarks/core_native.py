"""The native core of this commit, measured when core.py asks."""

from __future__ import annotations

import time
from functools import cache
from typing import Any

import numpy as np
from core_serving import CONFIG, Stream, messages, predictions, serve, taken

from ssm_stream.config import parse_config
from ssm_stream.core import native
from ssm_stream.core.loop import Predictions
from ssm_stream.engine import entity_store
from ssm_stream.engine.engine import Engine
from ssm_stream.ingest.events import Events
from ssm_stream.kafka.encoder import encode_predictions
from ssm_stream.kafka.fast_json import FastReader
from ssm_stream.kafka.records import ShardBatch

BIND = entity_store.EntityStore.bind


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


def events(columns: Any) -> Events:
    names, ts, x, y = columns
    return Events(names, ts, x, y, np.arange(len(names)))


@cache
def ready(entities: int) -> tuple[Engine, Stream]:
    entity_store.EntityStore.bind = lambda store, rules: Timed(BIND(store, rules))  # type: ignore[method-assign,assignment,return-value]
    engine, stream = Engine(parse_config(CONFIG)), Stream(entities)
    for columns in stream.first():
        engine.process(events(columns))
    return engine, stream


def event(entities: int, count: int = 20_000) -> float:
    """ns that the loop over events takes for one: learner, all detectors."""
    engine, stream = ready(entities)
    batches = [events(columns) for columns in stream.random(count)]
    Timed.took = 0.0
    for batch in batches:
        engine.process(batch)
    return 1e9 * Timed.took / count


@cache
def texts() -> tuple[FastReader, list[bytes | None]]:
    return FastReader(parse_config(CONFIG).event), list(messages())


def read(_: int) -> float:
    """ns a message read into columns."""
    reader, chunk = texts()
    assert reader.read(chunk) is not None
    return taken(lambda: [reader.read(chunk) for _ in range(5)], 5 * len(chunk))


@cache
def outcome() -> tuple[ShardBatch, Predictions]:
    names, ts, y, numbers = predictions()
    n = len(names)
    batch = ShardBatch(0, Events(names, ts, np.empty((n, 0)), y, np.arange(n)), list(range(n)))
    made = Predictions(*numbers[:4], np.arange(n) < 5, np.arange(n), numbers[4])
    return batch, made


def write(_: int) -> float:
    """ns a prediction written as JSON."""
    batch, made = outcome()
    return taken(lambda: [encode_predictions(batch, made, "events-0-") for _ in range(5)], 5 * len(batch.offsets))


if __name__ == "__main__":
    serve({"event": event, "read": read, "write": write})
