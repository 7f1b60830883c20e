"""Cost by stage: each step of the dataflow by itself, on the events of a topic in the dataflow's chunks.

`python throughput_stages.py JOB` measures in a process of its own, with real messages from the broker that JOB names.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import orjson
from clients import CHUNK
from measuring import child, fastest, say
from rich.console import Console
from rich.table import Table
from wire import PLAIN, configuration, create, delete, load, named, read

from ssm_stream.config import Config, parse_config
from ssm_stream.engine.engine import Engine
from ssm_stream.ingest.events import EventReader
from ssm_stream.kafka.decoder import Decoder
from ssm_stream.kafka.encoder import Encoder
from ssm_stream.kafka.records import Chunk, ShardBatch

REPEATS = 3
QUIET = "alerts: {anomaly: {enabled: false}, drift: {enabled: false}}\n"
SHARDS = (1, 4, 16, 64)
Keyed = list[tuple[str, ShardBatch]]


def chunks_of(broker: str, topic: str) -> list[Chunk]:
    """A topic as the dataflow cuts it, the partitions in turn."""
    by_partition: dict[int, list[Any]] = {}
    for message in read(broker, topic):
        by_partition.setdefault(message.partition(), []).append(message)
    pieces = [
        (at, Chunk(topic, partition, messages[at : at + CHUNK]))
        for partition, messages in sorted(by_partition.items())
        for at in range(0, len(messages), CHUNK)
    ]
    return [chunk for _, chunk in sorted(pieces, key=lambda piece: (piece[0], piece[1].partition))]


def decoded(config: Config, chunks: list[Chunk]) -> Keyed:
    """(shard, batch) of all chunks."""
    decoder = Decoder(config)
    return [(key, item) for chunk in chunks for key, item in decoder.decode(chunk) if isinstance(item, ShardBatch)]


def learned(config: Config, batches: Keyed) -> tuple[list[Any], list[Engine]]:
    """What the engines of the shards say, and the engines."""
    engines: dict[str, Engine] = {}
    answers = [engines.setdefault(key, Engine(config)).process(item.events, item.partition) for key, item in batches]
    return answers, list(engines.values())


def steps(broker: str, topic: str, event: str) -> dict[str, float]:
    """µs of CPU an event of each step; snapshot: ms of one, and bytes."""
    config = parse_config(configuration(broker, topic, "predictions", "unused", event))
    quiet = parse_config(configuration(broker, topic, "predictions", "unused", event, QUIET))
    chunks = chunks_of(broker, topic)
    count = sum(len(chunk.messages) for chunk in chunks)
    reader, decoder, encoder = EventReader(config.event), Decoder(config), Encoder(config)
    documents = [[orjson.loads(message.value()) for message in chunk.messages] for chunk in chunks]
    batches = decoded(config, chunks)
    answers, engines = learned(config, batches)

    def parse() -> None:
        for chunk in chunks:
            for message in chunk.messages:
                orjson.loads(message.value())

    decode = fastest(REPEATS, lambda: [decoder.decode(chunk) for chunk in chunks], count)
    learn = fastest(REPEATS, lambda: learned(quiet, batches), count)
    pairs = list(zip(batches, answers, strict=True))
    before = time.process_time()
    snapshot = [engine.snapshot() for engine in engines]
    snapshot_ms = (time.process_time() - before) * 1e3
    return {
        "decode: messages to batches": decode,
        "  of it, JSON alone": fastest(REPEATS, parse, count),
        "  of it, columns alone": fastest(REPEATS, lambda: [reader.read(chunk) for chunk in documents], count),
        "predict and learn": learn,
        "alerts": fastest(REPEATS, lambda: learned(config, batches), count) - learn,
        "encode": fastest(REPEATS, lambda: [encoder.encode(batch, *answer) for (_, batch), answer in pairs], count),
        "snapshot_ms": snapshot_ms,
        "snapshot_bytes": float(sum(map(len, snapshot))),
    }


def by_shards(broker: str, topic: str) -> dict[str, float]:
    """µs of CPU an event of decode, learn and encode together, by the number of shards."""
    chunks, found = chunks_of(broker, topic), {}
    count = sum(len(chunk.messages) for chunk in chunks)
    for shards in SHARDS:
        more = f"state: {{shards: {shards}}}\n"
        config = parse_config(configuration(broker, topic, "predictions", "unused", more=more))

        def work(config: Config = config) -> None:
            encoder, batches = Encoder(config), decoded(config, chunks)
            for (_, batch), answer in zip(batches, learned(config, batches)[0], strict=True):
                encoder.encode(batch, *answer)

        work()
        found[str(shards)] = fastest(REPEATS, work, count)
        say(f"  {shards} shards: {found[str(shards)]:.2f} µs an event")
    return found


def measure(broker: str, count: int, entities: int) -> dict[str, Any]:
    """The steps of the default configuration and of plain, and the pass-through's consume and produce beside them."""
    topic, sink = named("events-staged"), named("staged")
    create(broker, [topic, sink])
    load(broker, topic, count, entities)
    job = {"broker": broker, "topic": topic}
    wire = child(
        "clients.py", {"broker": broker, "events": count, "source": topic, "sink": sink, "partitions": 4}, "passthrough"
    )
    found = {
        name: child("throughput_stages.py", {**job, "event": event})
        for name, event in (("default", ""), ("plain", PLAIN))
    }
    delete(broker, [topic, sink])
    return {"consume_us": wire["consume_us"], "produce_us": wire["produce_us"], "by_configuration": found}


def measure_shards(broker: str, count: int, entities: int) -> dict[str, float]:
    """As `by_shards`, in a process of its own."""
    topic = named("events-sharded")
    create(broker, [topic])
    load(broker, topic, count, entities)
    found = child("throughput_stages.py", {"broker": broker, "topic": topic, "shards": True})
    delete(broker, [topic])
    return found


def show(measured: dict[str, Any], console: Console) -> None:
    """Step by step."""
    table = Table(title="Cost by stage, µs of CPU an event")
    table.add_column("stage", no_wrap=True)
    found = measured["by_configuration"]
    for name in found:
        table.add_column(name, justify="right")
    table.add_row("consume (pass-through)", *[f"{measured['consume_us']:.2f}"] * len(found))
    for step in found["default"]:
        if not step.startswith("snapshot"):
            table.add_row(step, *[f"{one[step]:.2f}" for one in found.values()])
    table.add_row("produce (pass-through)", *[f"{measured['produce_us']:.2f}"] * len(found))
    console.print(table)
    snapshots = [
        f"{name} {one['snapshot_ms']:.1f} ms, {one['snapshot_bytes']:,.0f} bytes" for name, one in found.items()
    ]
    console.print(
        f"One snapshot of all state, once an epoch: {'; '.join(snapshots)}. Consume and produce are wall time of the "
        "pass-through's calling thread. Bytewax, librdkafka's threads and waiting for a processor are in none of them."
    )


def main() -> None:
    job = json.loads(sys.argv[1])
    found = (
        by_shards(job["broker"], job["topic"])
        if job.get("shards")
        else steps(job["broker"], job["topic"], job["event"])
    )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
