"""What it costs to read and to write an event, each way that was tried: µs of one thread's processor time an event.

    python benchmarks/codec.py [--events N] [--json]

JSON of about 170 bytes with 8 numeric features in chunks of 4,000, in memory; produced to librdkafka's mock cluster.
"native" is the part of a step in the native core, most of which runs without the interpreter's lock. See README.md.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import repeat
from operator import attrgetter
from typing import Any

import numpy as np
import orjson
from clients import CHUNK, FEATURES
from confluent_kafka import Producer
from measuring import fastest
from wire import events

from ssm_stream.config import parse_config
from ssm_stream.core.loop import Predictions
from ssm_stream.ingest.events import EventReader, Events
from ssm_stream.kafka import encoder
from ssm_stream.kafka.client import LOGGER
from ssm_stream.kafka.embedded_broker import EmbeddedBroker
from ssm_stream.kafka.encoder import encode_predictions
from ssm_stream.kafka.fast_json import FastReader
from ssm_stream.kafka.records import ShardBatch

CONFIG = parse_config(
    "source: {brokers: 'localhost:9092', topic: events}\n"
    f"event: {{entity: entity, timestamp: ts, target: target, features: [{', '.join(FEATURES)}]}}\n"
)
Chunks = list[list[bytes]]


def chunked(items: list[Any]) -> list[list[Any]]:
    return [items[at : at + CHUNK] for at in range(0, len(items), CHUNK)]


def cost(work: Callable[[], Any], count: int, repeats: int = 5) -> float:
    """µs of this thread an event."""
    return fastest(repeats, work, count, time.thread_time)


def reading(chunks: Chunks, count: int) -> Iterator[tuple[str, float, float]]:
    """Bytes to columns."""
    general, fast = EventReader(CONFIG.event), FastReader(CONFIG.event)
    each = cost(lambda: [list(map(orjson.loads, chunk)) for chunk in chunks], count)
    joined = cost(lambda: [orjson.loads(b"[" + b",".join(chunk) + b"]") for chunk in chunks], count)
    documents = [list(map(orjson.loads, chunk)) for chunk in chunks]
    columns = cost(lambda: [general.read(chunk) for chunk in documents], count)
    yield "read: orjson one by one, columns checked", each + columns, 0.0
    yield "read: orjson on the joined array, columns checked", joined + columns, 0.0
    if importlib.util.find_spec("msgspec"):
        yield "read: msgspec structs, columns unchecked", cost(lambda: structs(chunks), count), 0.0
    whole = cost(lambda: [fast.read(list(c)) for c in chunks], count)
    ts, target, features = np.empty(CHUNK), np.empty(CHUNK), np.empty((CHUNK, len(FEATURES)))

    def native(chunk: list[bytes]) -> object:
        n = len(chunk)
        return fast._reader.read(chunk, None, ts[:n], target[:n], features[:n])

    yield "read: native, checked (in use)", whole, cost(lambda: list(map(native, chunks)), count)


def structs(chunks: Chunks) -> list[Any]:
    import msgspec

    names = ["target", *FEATURES]
    made = msgspec.defstruct("E", [("entity", str), ("ts", float), *((n, float | None) for n in names)], gc=False)
    decode, get = msgspec.json.Decoder(made).decode, attrgetter("entity", "ts", *names)
    found = [list(zip(*map(get, map(decode, chunk)), strict=True)) for chunk in chunks]
    return [[np.array(column, np.float64) for column in columns[1:]] for columns in found]


def predicted(read: Events) -> tuple[ShardBatch, Predictions]:
    """Return a batch with made-up predictions."""
    n, y = len(read), read.target
    share = np.random.default_rng(0).random(n)
    predictions = Predictions(0.98 * y, y - 1.234, y + 1.234, np.abs(y) / 3, np.zeros(n, np.bool_), np.arange(n), share)
    return ShardBatch(0, read, list(range(n))), predictions


def dictionaries(batch: ShardBatch, p: Predictions) -> list[bytes]:
    numbers = [batch.events.ts, batch.events.target, *p]
    names = ["entity", "ts", "y", "yhat", "yhat_lower", "yhat_upper", "anomaly_score", "warmup", "n", "fleet"]
    written = zip(batch.events.entity, *(column.tolist() for column in numbers), strict=True)
    return [orjson.dumps(dict(zip(names, row, strict=True)) | {"id": f"events-0-{i}"}) for i, row in enumerate(written)]


def writing(chunks: Chunks, count: int) -> Iterator[tuple[str, float, float]]:
    """Predictions to bytes."""
    reader = EventReader(CONFIG.event)
    all_ = [predicted(reader.read(list(map(orjson.loads, chunk)))[0]) for chunk in chunks]
    yield "write: a dict an event, orjson", cost(lambda: [dictionaries(*one) for one in all_], count), 0.0
    spent = 0.0
    whole = cost(lambda: [encode_predictions(*one, "events-0-") for one in all_], count)
    write_rows = encoder.native.write_rows

    def timed(*arguments: Any) -> list[bytes]:
        nonlocal spent
        before = time.thread_time()
        rows = write_rows(*arguments)
        spent += time.thread_time() - before
        return rows

    encoder.native.write_rows = timed
    try:
        for one in all_:
            encode_predictions(*one, "events-0-")
    finally:
        encoder.native.write_rows = write_rows
    yield "write: columns, native (in use)", whole, spent / count * 1e6


def producing(chunks: Chunks, count: int) -> Iterator[tuple[str, float, float]]:
    """Bytes to the client's queue; its own threads are not in it."""
    with EmbeddedBroker(topics={"out": 4}) as broker:
        settings = {
            "bootstrap.servers": broker.bootstrap_servers,
            "logger": LOGGER,
            "queue.buffering.max.messages": 2_000_000,
        }
        producer = Producer({**settings, "linger.ms": 5, "compression.type": "lz4", "partitioner": "murmur2_random"})
        producer.list_topics("out")

        def one_by_one() -> None:
            for chunk in chunks:
                for value in chunk:
                    producer.produce("out", value, "m00001")
            producer.flush()

        def at_once() -> None:
            for chunk in chunks:
                deque(map(producer.produce, repeat("out"), chunk, repeat("m00001")), 0)
            producer.flush()

        def in_batches() -> None:
            for chunk in chunks:
                producer.produce_batch("out", [{"value": value, "key": "m00001"} for value in chunk])
            producer.flush()

        yield "produce: one by one", cost(one_by_one, count, 3), 0.0
        yield "produce: one by one, by map (in use)", cost(at_once, count, 3), 0.0
        if hasattr(producer, "produce_batch"):
            yield "produce: produce_batch", cost(in_batches, count, 3), 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description="What it costs to read and to write an event.")
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    chunks = chunked([orjson.dumps(event) for _, event in events(arguments.events, 100)])
    steps = [*reading(chunks, arguments.events), *writing(chunks, arguments.events)]
    steps += producing(chunks, arguments.events)
    rows_ = [{"step": name, "us": round(us, 3), "native_us": round(native, 3)} for name, us, native in steps]
    if arguments.json:
        print(json.dumps({"rows": rows_, "events": arguments.events}, indent=2))
        return
    for row in rows_:
        print(f"{row['step']:52} {row['us']:6.2f} µs   native {row['native_us']:5.2f}", file=sys.stdout)


if __name__ == "__main__":
    main()
