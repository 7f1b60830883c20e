"""Events a second from topic to topic, beside what the wire allows and what a user would run instead.

    python benchmarks/throughput.py [--smoke] [--stages] [--json] [--peers-python PATH]

One run makes every figure: a fresh broker on the same machine, the same events, each client in a process of its own and
with an output topic of its own, in turn, several rounds. Ratios are taken within a round, and medians over the rounds,
so that a machine that is slow for a while slows both sides. See README.md beside this file.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from brokers import NoidaKafka, noida_obstacle
from clients import CHUNK, FEATURES

from ssm_stream.config import Config, Source, parse_config
from ssm_stream.engine import Engine
from ssm_stream.stream.broker import check_broker, create_topics
from ssm_stream.stream.codec import Chunk, Decoder, Encoder, ShardBatch

CONSOLE = Console(stderr=True)
PARTITIONS = 4
PEERS_SHARE = 4  # the peers get every fourth event: they are slow, and their rate does not depend on it
LIMIT = 600.0  # seconds that one client may take

END_TO_END_LEAST = 50_000
PASSTHROUGH_LEAST = 0.40
QUIX_LEAST = 10.0


class Client(NamedTuple):
    """A row of the table."""

    name: str
    client: str
    title: str
    event: str = ""
    """Lines of the configuration's `event` section beside the field names."""


OURS = [
    Client("passthrough", "passthrough", "pass-through"),
    Client("default", "product", "ssm-stream"),
    Client("plain", "product", "ssm-stream, plain", "  lags: 0\n  differences: false\n"),
]
PEERS = [
    Client("quix", "quix", "Quix + River"),
    Client("bytewax", "bytewax", "Bytewax + River"),
]
NEEDS = {"quix": "quixstreams, river", "bytewax": "bytewax.connectors.kafka, river"}


class MissingError(RuntimeError):
    """An output topic does not hold what it must."""


def events(count: int, entities: int) -> Iterator[tuple[str, bytes]]:
    """Keys and JSON values: a linear relation of its own for each entity, with a little noise."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(entities, len(FEATURES)))
    entity = rng.integers(0, entities, count)
    x = rng.normal(size=(count, len(FEATURES)))
    y = (x * weights[entity]).sum(1) + 0.1 * rng.normal(size=count)
    for i, (e, row, target) in enumerate(zip(entity.tolist(), x.round(6).tolist(), y.round(6).tolist(), strict=True)):
        name = f"m{e:05d}"
        event = {"entity": name, "ts": 1_700_000_000_000 + i, "target": target, **dict(zip(FEATURES, row, strict=True))}
        yield name, orjson.dumps(event)


def load(broker: str, topic: str, count: int, entities: int) -> float:
    """Fill a topic; mean bytes of a value."""
    producer = Producer({"bootstrap.servers": broker, "linger.ms": 20, "queue.buffering.max.messages": 1_000_000})
    size = 0
    for key, value in events(count, entities):
        size += len(value)
        while True:
            try:
                producer.produce(topic, value, key)
                break
            except BufferError:
                producer.poll(0.05)
        producer.poll(0)
    if left := producer.flush(60):
        raise MissingError(f"{left} of {count} events did not reach the broker within a minute")
    return size / count


def read(broker: str, topic: str) -> list[Any]:
    """All messages of a topic, partition after partition."""
    base = {"bootstrap.servers": broker, "enable.partition.eof": True, "enable.auto.commit": False}
    consumer = Consumer({**base, "group.id": f"count-{topic}", "fetch.wait.max.ms": 20})
    try:
        partitions = check_broker(Source(brokers=broker, topic=topic)).partitions_of(topic)
        consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in partitions])
        found: list[Any] = []
        ended = 0
        deadline = time.monotonic() + 60
        while ended < len(partitions):
            if time.monotonic() > deadline:
                raise MissingError(f"{topic}: {len(found)} messages and no end within a minute")
            for message in consumer.consume(10_000, 0.2):
                if message.error() is None:
                    found.append(message)
                else:
                    ended += 1
        return found
    finally:
        consumer.close()


def configuration(broker: str, source: str, sink: str, client: Client, directory: Path) -> str:
    """The smallest file that reads these events; alerts are on by default."""
    return (
        f"source: {{brokers: '{broker}', topic: {source}}}\n"
        f"event:\n  entity: entity\n  timestamp: ts\n  target: target\n  features: [{', '.join(FEATURES)}]\n"
        f"{client.event}"
        f"sinks: {{predictions: {sink}, alerts: {sink}-alerts, dead_letters: {sink}-dead}}\n"
        f"recovery: {{directory: '{directory}'}}\n"
    )


def time_client(client: Client, broker: str, source: str, count: int, python: str, folder: Path) -> dict[str, float]:
    """Run one client on topics of its own, and count what came out.

    Raises:
        MissingError: the client failed, or an event has no output, or more than one, or became a dead letter.
    """
    sink = f"{client.name}-{uuid.uuid4().hex[:8]}"
    ours = client.client == "product"
    topics = [sink, f"{sink}-alerts", f"{sink}-dead"] if ours else [sink]
    create(broker, topics)
    job: dict[str, Any] = {"broker": broker, "events": count, "source": source, "sink": sink, "partitions": PARTITIONS}
    if ours:
        file = folder / f"{sink}.yaml"
        file.write_text(configuration(broker, source, sink, client, folder / f"{sink}-state"))
        job["config"] = str(file)
    command = [python, str(Path(__file__).with_name("clients.py")), client.client, json.dumps(job)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, cwd=folder, check=False)
    if done.returncode != 0:
        raise MissingError(f"{client.title} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    messages = read(broker, sink)
    if len(messages) != count:
        raise MissingError(f"{client.title}: {count} events, but {len(messages)} messages came out")
    if ours:
        distinct = len({orjson.loads(message.value())["id"] for message in messages})
        refused = len(read(broker, f"{sink}-dead"))
        if distinct != count or refused:
            raise MissingError(f"{client.title}: {count} events, {distinct} predicted, {refused} dead letters")
        figures["alerts"] = float(len(read(broker, f"{sink}-alerts")))
    figures["events_per_s"] = count / figures["seconds"]
    figures["cpu_us"] = figures["cpu_seconds"] / count * 1e6
    return figures


def create(broker: str, names: list[str]) -> None:
    """Topics whose events never grow too old for the broker."""
    source = Source(brokers=broker, topic=names[0])
    create_topics(source, dict.fromkeys(names, PARTITIONS), config={"retention.ms": "-1"})


def has(python: str, modules: str) -> bool:
    """Whether an interpreter can import what a peer needs."""
    return subprocess.run([python, "-c", f"import {modules}"], capture_output=True, check=False).returncode == 0


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[tuple[str, str]]:
    """Bootstrap servers and a word for them: the environment's cluster, else a fresh noida-db."""
    if servers := os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        yield servers, f"the cluster {servers}"
        return
    if obstacle := noida_obstacle():
        raise SystemExit(f"no broker: {obstacle}; set KAFKA_BOOTSTRAP_SERVERS to use another one")
    broker = NoidaKafka(folder / "broker")
    try:
        yield broker.bootstrap_servers, "a fresh noida-db on the same machine"
    finally:
        broker.close()


def fastest(repeats: int, work: Callable[[], Any], count: int) -> float:
    """µs an event of the fastest of some repetitions."""
    best = float("inf")
    for _ in range(repeats):
        before = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - before)
    return best / count * 1e6


def stages(broker: str, source: str, client: Client, folder: Path, repeats: int = 3) -> dict[str, float]:
    """µs an event of each step, in this process on the events of the topic, cut into the chunks of the dataflow."""
    config: Config = parse_config(configuration(broker, source, "predictions", client, folder))
    by_partition: dict[int, list[Any]] = {}
    for message in read(broker, source):
        by_partition.setdefault(message.partition(), []).append(message)
    chunks = [
        Chunk(source, partition, messages[at : at + CHUNK])
        for partition, messages in sorted(by_partition.items())
        for at in range(0, len(messages), CHUNK)
    ]
    count = sum(len(chunk.messages) for chunk in chunks)
    decoder = Decoder(config)
    batches = [item for chunk in chunks for _, item in decoder(chunk) if isinstance(item, ShardBatch)]
    Engine(config).process(batches[0].events)  # compiled before the clock runs

    def learn() -> list[Any]:
        engines: dict[str, Engine] = {}
        keyed = [(key, item) for chunk in decoded for key, item in chunk]
        return [engines.setdefault(key, Engine(config)).process(item.events, item.partition) for key, item in keyed]

    decoded = [[(key, item) for key, item in decoder(chunk) if isinstance(item, ShardBatch)] for chunk in chunks]
    decoding = fastest(repeats, lambda: [decoder(chunk) for chunk in chunks], count)
    learning = fastest(repeats, learn, count)
    answers = learn()
    encoder = Encoder(config)
    encoding = fastest(
        repeats,
        lambda: [encoder(batch, *answer) for batch, answer in zip(batches, answers, strict=True)],
        count,
    )
    return {
        "decode": decoding,
        "predict, judge, learn": learning,
        "encode": encoding,
    }


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All that the run has to tell."""
    peers = [peer for peer in PEERS if not arguments.no_peers and has(arguments.peers_python, NEEDS[peer.name])]
    with cluster(folder) as (broker, word):
        create(broker, ["events", "events-peers"])
        size = load(broker, "events", arguments.events, arguments.entities)
        few = max(arguments.events // PEERS_SHARE, 1)
        if peers:
            load(broker, "events-peers", few, arguments.entities)
        CONSOLE.print(
            f"{arguments.events:,} events of {size:.0f} bytes, {len(FEATURES)} features, {arguments.entities:,} "
            f"entities, {PARTITIONS} partitions, on {word}; {arguments.rounds} rounds"
        )
        rounds: list[dict[str, dict[str, float]]] = []
        for number in range(arguments.rounds):
            figures = {}
            for client in OURS:
                figures[client.name] = time_client(client, broker, "events", arguments.events, sys.executable, folder)
                CONSOLE.print(f"  {number + 1}: {client.title}: {figures[client.name]['events_per_s']:,.0f} events/s")
            for client in peers:
                figures[client.name] = time_client(client, broker, "events-peers", few, arguments.peers_python, folder)
                CONSOLE.print(f"  {number + 1}: {client.title}: {figures[client.name]['events_per_s']:,.0f} events/s")
            rounds.append(figures)
        ours = OURS[1:] if arguments.stages else []
        steps = {client.name: stages(broker, "events", client, folder) for client in ours}
    return {"bytes": size, "rounds": rounds, "peers": peers, "stages": steps}


def median(rounds: list[dict[str, dict[str, float]]], name: str, figure: str) -> float:
    return statistics.median(one[name][figure] for one in rounds)


def ratio(rounds: list[dict[str, dict[str, float]]], name: str, other: str) -> float:
    return statistics.median(one[name]["events_per_s"] / one[other]["events_per_s"] for one in rounds)


def summary(measured: dict[str, Any], arguments: argparse.Namespace) -> dict[str, Any]:
    """`checks` and `rows`."""
    rounds, peers = measured["rounds"], measured["peers"]
    rows: list[dict[str, Any]] = []
    for client in [*OURS, *peers]:
        row: dict[str, Any] = {"name": client.name, "title": client.title}
        row |= {figure: round(median(rounds, client.name, figure), 3) for figure in rounds[0][client.name]}
        row["of_passthrough"] = round(ratio(rounds, client.name, "passthrough"), 3)
        row |= {f"of_{peer.name}": round(ratio(rounds, client.name, peer.name), 2) for peer in peers}
        rows.append(row)
    speed = median(rounds, "default", "events_per_s")
    checks = [check("end to end, one worker, events/s", round(speed), END_TO_END_LEAST)]
    checks.append(check("pass-through ratio", round(ratio(rounds, "default", "passthrough"), 3), PASSTHROUGH_LEAST))
    if any(peer.name == "quix" for peer in peers):
        checks.append(check("quix ratio", round(ratio(rounds, "default", "quix"), 2), QUIX_LEAST))
    stages_us = {
        name: {step: round(value, 3) for step, value in steps.items()} for name, steps in measured["stages"].items()
    }
    return {
        "checks": checks,
        "rows": rows,
        "stages": stages_us,
        "events": arguments.events,
        "entities": arguments.entities,
        "rounds": arguments.rounds,
        "peers_absent": [peer.name for peer in PEERS if peer not in peers],
    }


def check(name: str, value: float, bar: float) -> dict[str, Any]:
    return {"name": name, "value": value, "relation": ">=", "bar": bar, "ok": value >= bar}


def show(report: dict[str, Any]) -> None:
    """The same for a person."""
    table = Table(title="Topic to topic, one process")
    table.add_column("client", no_wrap=True)
    shown = [row["name"] for row in report["rows"] if row["name"] in NEEDS]
    for title in ["events/s", "CPU µs", "MiB", "of ceiling", *[f"× {name}" for name in shown]]:
        table.add_column(title, justify="right", no_wrap=True)
    for row in report["rows"]:
        table.add_row(
            row["title"],
            f"{row['events_per_s']:,.0f}",
            f"{row['cpu_us']:.1f}",
            f"{row['peak_bytes'] / 2**20:.0f}",
            f"{row['of_passthrough']:.2f}",
            *[f"{row[f'of_{name}']:.1f}" for name in shown],
        )
    CONSOLE.print(table)
    CONSOLE.print(
        "The pass-through decodes nothing: it is the ceiling. Plain is without lags and differences. Medians of the "
        "rounds. The product's clock runs from before its first connection until the broker has the last prediction "
        "and the state is written; the interpreter's start and the kernels (compiled, or read from their cache) come "
        "before. The others' clock starts at their first event. CPU is µs an event of the client's process with all "
        "its threads, MiB its peak memory."
    )
    if absent := report["peers_absent"]:
        CONSOLE.print(f"Not measured: {', '.join(absent)}. Install the `bench` extra, or give --peers-python.")
    if report["stages"]:
        show_stages(report)
    for one in report["checks"]:
        word = "[green]met[/]" if one["ok"] else "[red]not met[/]"
        CONSOLE.print(f"{one['name']}: {one['value']:,} {one['relation']} {one['bar']:,}: {word}")


def show_stages(report: dict[str, Any]) -> None:
    table = Table(title="Cost by stage, µs an event")
    table.add_column("stage", no_wrap=True)
    columns = list(report["stages"])
    for name in columns:
        table.add_column(name, justify="right")
    raw = report["rows"][0]
    table.add_row("consume (pass-through)", *[f"{raw['consume_us']:.2f}"] * len(columns))
    for step in report["stages"][columns[0]]:
        table.add_row(step, *[f"{report['stages'][name][step]:.2f}" for name in columns])
    table.add_row("produce (pass-through)", *[f"{raw['produce_us']:.2f}"] * len(columns))
    CONSOLE.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description="Events a second from topic to topic.")
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--entities", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stages", action="store_true", help="cost by stage as well")
    parser.add_argument("--smoke", action="store_true", help="few events, one round, no peers: does it work at all?")
    parser.add_argument("--json", action="store_true", help="checks and rows on stdout")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--peers-python", default=sys.executable, help="interpreter that has quixstreams and river")
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.events, arguments.rounds, arguments.no_peers = 20_000, 1, True
    with tempfile.TemporaryDirectory(prefix="ssm-stream-bench-") as folder:
        try:
            measured = measure(arguments, Path(folder))
        except MissingError as error:
            CONSOLE.print(f"[red]failed:[/] {error}")
            sys.exit(1)
    report = summary(measured, arguments)
    show(report)
    if arguments.json:
        print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
