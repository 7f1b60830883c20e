"""What the plant's context costs: events a second with the lines of an engineer, by those without.

Two ways: from topic to topic on a broker of its own, one configuration and the other in alternating rounds, each in a
process of its own; and the steps decode, engine, encode of one process by CPU time, which other work on the machine
disturbs less, chunk by chunk in turn.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import orjson
import plant
import polars as pl
from measuring import Check, MissingError, check, child, hand_over, say
from plant_run import ALL, initial, with_lines, written
from wire import create, delete, named, read

from ssm_stream.config import Config
from ssm_stream.engine.engine import Engine
from ssm_stream.engine.episodes.ids import EventIds
from ssm_stream.kafka.decoder import Decoder
from ssm_stream.kafka.encoder import Encoder
from ssm_stream.kafka.records import Chunk, ShardBatch

CHUNK = 4000
PARTITIONS, WEEKS = 4, 8
ONE_TARGET = ("--target", "temp")
"""The cheapest of what `init` writes: the rest weighs most beside it."""
BARE = {"quality": None}
"""`init` finds flags of quality by itself: without it, too."""
SAMPLED = 3
"""Pumps in the sample that `init` reads."""
LEAST = 0.9
KINDS: dict[str, tuple[str, ...]] = {"without": (), "all": ALL}
NOTHING_STOPS = {
    "event": {"when": {"load": {"above": -1}}},
    "alerts": {"maintenance": [{"from": "2020-01-05T06:00", "to": "2020-01-05T16:00"}]},
}
"""All of it, but no event is idle or held: what the lines cost, without what they spare."""
Row = dict[str, Any]


class Message:
    """What the decoder asks of a message."""

    def __init__(self, offset: int, key: bytes, value: bytes) -> None:
        self._offset, self._key, self._value = offset, key, value

    def value(self) -> bytes:
        return self._value

    def key(self) -> bytes:
        return self._key

    def offset(self) -> int:
        return self._offset

    def timestamp(self) -> tuple[int, int]:
        return 1, 0

    def headers(self) -> None:
        return None


def readings(pumps: int, whole_numbers: bool) -> list[tuple[str, bytes]]:
    """Keys and events of a plant. whole_numbers: times in ms, not as text, which the native reader does not read"""
    rows = plant.made(pumps, WEEKS, seed=7, context=True).rows
    if whole_numbers:
        rows = rows.with_columns(pl.col("time").str.to_datetime("%Y-%m-%dT%H:%M:%SZ").dt.epoch("ms"))
    return [(row["pump"], orjson.dumps(row)) for row in rows.iter_rows(named=True)]


def configurations(folder: Path, whole_numbers: bool, nothing_stops: bool) -> dict[str, Config]:
    """With the lines and without, of what `init` writes for a plant."""
    made = plant.made(SAMPLED, WEEKS, seed=7, context=True)
    plant.write(folder, made)
    start = initial(folder, ONE_TARGET)
    ms = {"timestamp_format": "ms"} if whole_numbers else {}
    found = {
        word: with_lines(start, lines, {"event": {**ms, **({} if lines else BARE)}}) for word, lines in KINDS.items()
    }
    if nothing_stops:
        found["all"] = with_lines(start, ALL, {**NOTHING_STOPS, "event": {**ms, **NOTHING_STOPS["event"]}})
    return found


def spent(configs: dict[str, Config], chunks: list[Chunk]) -> dict[str, float]:
    """Seconds of CPU for all chunks, by configuration: each chunk by one after the other, in alternating order."""
    parts = {word: (Decoder(config), Engine(config), Encoder(config)) for word, config in configs.items()}
    found = dict.fromkeys(configs, 0.0)
    for number, chunk in enumerate(chunks):
        for word in list(configs)[:: -1 if number % 2 else 1]:
            decoder, engine, encoder = parts[word]
            begin = time.process_time()
            for _, item in decoder.decode(chunk):
                if isinstance(item, ShardBatch):
                    encoder.encode(item, *engine.process(item.events, 0, EventIds("plant", 0, item.offsets)))
            found[word] += time.process_time() - begin
    return found


def steps(pumps: int, rounds: int, *, whole_numbers: bool = True, nothing_stops: bool = False) -> Row:
    """µs of CPU an event, by configuration, and the ratio: medians of the rounds."""
    events = readings(pumps, whole_numbers)
    messages: list[Any] = [Message(i, key.encode(), value) for i, (key, value) in enumerate(events)]
    chunks = [Chunk("plant", 0, messages[at : at + CHUNK]) for at in range(0, len(messages), CHUNK)]
    with tempfile.TemporaryDirectory() as name:
        configs = configurations(Path(name), whole_numbers, nothing_stops)
    times = [spent(configs, chunks) for _ in range(rounds)]
    found = {word: statistics.median(one[word] for one in times) / len(messages) * 1e6 for word in configs}
    ratio = statistics.median(one["without"] / one["all"] for one in times)
    return {"us": found, "ratio": ratio, "events": len(messages)}


def run_once(broker: str, folder: Path, topic: str, count: int, words: tuple[str, ...], start: Path) -> Row:
    """One run from topic to topic; every event must have its prediction."""
    sink = named(f"plant-{'all' if words else 'without'}-{time.monotonic_ns()}")
    topics = {kind: f"{sink}-{kind}" for kind in ("predictions", "alerts", "dead_letters", "suppressed")}
    create(broker, list(topics.values()), PARTITIONS)
    more = {
        "source": {"brokers": broker, "topic": topic, "group": sink},
        "event": {"timestamp_format": "ms", **({} if words else BARE)},
        "recovery": {"directory": str(folder / sink)},
        "ops": {"address": None},
        "sinks": topics,
    }
    file = written(start, words, more)
    job = {"broker": broker, "events": count, "source": topic, "sink": sink, "partitions": PARTITIONS}
    figures = child("clients.py", {**job, "config": str(file)}, "product", title=sink)
    came = sum(1 for _ in read(broker, topics["predictions"]))
    alerts, dead = (sum(1 for _ in read(broker, topics[kind])) for kind in ("alerts", "dead_letters"))
    if came != count or dead:
        raise MissingError(f"{sink}: {count} events, {came} predictions, {dead} dead letters")
    delete(broker, list(topics.values()))
    cpu = figures["cpu_seconds"] / count * 1e6
    say(f"  {'all of it' if words else 'without'}: {count / figures['seconds']:,.0f} events/s, {cpu:.1f} µs of CPU")
    return {"events_per_s": count / figures["seconds"], "cpu_us": cpu, "alerts": alerts}


def topic_to_topic(broker: str, folder: Path, pumps: int, rounds: int) -> Row:
    """Both configurations in turn, the other way round in every other round."""
    from confluent_kafka import Producer

    topic = named("plant-events")
    create(broker, [topic], PARTITIONS)
    events = readings(pumps, whole_numbers=True)
    producer = Producer({"bootstrap.servers": broker, "linger.ms": 20, "queue.buffering.max.messages": 1_000_000})
    for key, value in events:
        hand_over(producer, topic, value, key)
        producer.poll(0)
    if left := producer.flush(60):
        raise MissingError(f"{left} events did not reach the broker within a minute")
    plant.write(folder, plant.made(SAMPLED, WEEKS, seed=7, context=True))
    start = initial(folder, ONE_TARGET)
    found: list[dict[str, Row]] = []
    for number in range(rounds):
        say(f" round {number + 1}")
        words = list(KINDS)[:: -1 if number % 2 else 1]
        found.append({word: run_once(broker, folder, topic, len(events), KINDS[word], start) for word in words})
    delete(broker, [topic])
    speed = statistics.median(one["all"]["events_per_s"] / one["without"]["events_per_s"] for one in found)
    cpu = statistics.median(one["without"]["cpu_us"] / one["all"]["cpu_us"] for one in found)
    return {"rounds": found, "speed": speed, "cpu": cpu, "events": len(events)}


TITLES = {
    "steps": "CPU of decode to encode",
    "as text": "the same, times as text",
    "nothing stops": "the same, no event idle or held",
}


def measured(pumps: int, rounds: int) -> Row:
    """The steps of one process, by title."""
    found = {
        "steps": steps(pumps, rounds),
        "as text": steps(pumps, rounds, whole_numbers=False),
        "nothing stops": steps(pumps, rounds, nothing_stops=True),
    }
    for word, one in found.items():
        costs = ", ".join(f"{name} {us:.2f} µs" for name, us in one["us"].items())
        say(f"  {TITLES[word]}: {costs} an event, ratio {one['ratio']:.3f}")
    return found


def checks_of(row: Row) -> list[Check]:
    out = [
        check(f"throughput with all of it by without, {title}", row[word]["ratio"], ">=", LEAST)
        for word, title in TITLES.items()
        if word in row
    ]
    if (wire := row.get("wire")) is not None:
        out.append(check("throughput with all of it by without, topic to topic", wire["speed"], ">=", LEAST))
        out.append(check("the same, CPU of the process", wire["cpu"], ">=", LEAST))
    return out
