"""The compiled parts of commit 9f6b921, the last with numba, measured when core.py asks: runs in a checkout of it."""

from __future__ import annotations

import time
from functools import cache
from typing import Any

import numpy as np
import orjson
from core_serving import CONFIG, Stream, messages, predictions, serve, taken
from ssm_stream.events import Events
from ssm_stream.loop import Predictions
from ssm_stream.stream.codec import ShardBatch, prediction_values
from ssm_stream.stream.names import Remembered
from ssm_stream.stream.plain import PlainReader

from ssm_stream import loop
from ssm_stream.config import parse_config
from ssm_stream.engine import Engine

took = 0.0
run = loop.run


def timed(*arguments: Any) -> Any:
    global took
    begin = time.thread_time()
    found = run(*arguments)
    took += time.thread_time() - begin
    return found


def events(columns: Any) -> Events:
    names, ts, x, y = columns
    return Events(names, ts, x, y, np.arange(len(names)))


@cache
def ready(entities: int) -> tuple[Engine, Stream]:
    loop.run = timed
    engine, stream = Engine(parse_config(CONFIG)), Stream(entities)
    for columns in stream.first():
        engine.process(events(columns))
    return engine, stream


def event(entities: int, count: int = 20_000) -> float:
    global took
    engine, stream = ready(entities)
    batches = [events(columns) for columns in stream.random(count)]
    took = 0.0
    for batch in batches:
        engine.process(batch)
    return 1e9 * took / count


@cache
def texts() -> tuple[PlainReader, list[bytes | None]]:
    return PlainReader(parse_config(CONFIG).event), list(messages())


def read(_: int) -> float:
    reader, chunk = texts()
    assert reader(chunk) is not None
    return taken(lambda: [reader(chunk) for _ in range(5)], 5 * len(chunk))


@cache
def outcome() -> tuple[ShardBatch, Predictions, Any]:
    names, ts, y, numbers = predictions()
    n = len(names)
    batch = ShardBatch(0, Events(names, ts, np.empty((n, 0)), y, np.arange(n)), list(range(n)))
    made = Predictions(*numbers[:4], np.arange(n) < 5, np.arange(n), numbers[4])
    return batch, made, Remembered(orjson.dumps)


def write(_: int) -> float:
    batch, made, cached = outcome()
    return taken(
        lambda: [prediction_values(batch, made, "events-0-", quoted=cached.of) for _ in range(5)],
        5 * len(batch.offsets),
    )


if __name__ == "__main__":
    serve({"event": event, "read": read, "write": write})
