"""How fast `ssm-stream record` is, and whether a topic and its recording give the same: 1,000,000 events, 4 partitions.

    python benchmarks/record.py [--events N] [--rounds R] [--compared N] [--json]

The commands run as a person runs them, each in a process of its own, on events of about 170 bytes with 8 features of
100 entities. The rate is the median over the rounds, from the first request to the broker until the file has its name;
the start of the interpreter is apart. Compared are, on a smaller topic that also has nested fields, text among numbers,
messages that are no events and timestamps out of order: `backtest --topic` with `backtest FILE`, byte by byte, and both
with what `ssm-stream run` writes.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
from confluent_kafka import Producer
from measuring import Check, check, say, tell
from wire import cluster, configuration, create, events, load, named, read

RATE = 200_000.0
FIRST = 1_750_000_000_000
"""Timestamp of the first message, ms."""


def ssm_stream(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The command, which must succeed."""
    command = [sys.executable, "-m", "ssm_stream", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return done


def mixed(count: int, entities: int) -> Iterator[tuple[str, bytes | None, int]]:
    """Keys, values and timestamps of messages as topics have them."""
    for i, (key, event) in enumerate(events(count, entities)):
        if i % 7 == 0:
            event["site"] = {"line": i % 3, "shift": {"name": "ab"[i % 2]}}
        if i % 11 == 0:
            event["f1"] = int(event["f1"])
        if i % 997 == 0:
            event["f2"] = "n/a"
        value: bytes | None = orjson.dumps(event)
        if i % 1501 == 0:
            value = None if i % 2 else b"{broken"
        yield key, value, FIRST + 100 * i - (5000 if i % 50 == 0 else 0)


def load_mixed(broker: str, topic: str, count: int) -> None:
    producer = Producer({"bootstrap.servers": broker, "linger.ms": 20, "queue.buffering.max.messages": 1_000_000})
    for key, value, ts in mixed(count, 20):
        producer.produce(topic, value, key, timestamp=ts)
        producer.poll(0)
    producer.flush(60)


def differing(left: list[Any], right: list[Any]) -> int:
    """Places at which two lists differ."""
    return abs(len(left) - len(right)) + sum(a != b for a, b in zip(left, right, strict=False))


def bare(lines: list[bytes]) -> list[dict[str, Any]]:
    """Predictions without their ids, by entity in the order of its events."""
    rows = [orjson.loads(line) for line in lines]
    return [{**row, "id": None} for row in sorted(rows, key=lambda row: (row["entity"], row["ts"]))]


def speed(broker: str, folder: Path, count: int, rounds: int) -> dict[str, Any]:
    """Rate, bytes and columns of a recording."""
    topic = named("record")
    create(broker, [topic])
    size = load(broker, topic, count, 100)
    config = folder / "speed.yaml"
    config.write_text(configuration(broker, topic, named("none"), folder / "state"))
    found, cpu = [], []
    for _ in range(rounds):
        before = children_cpu()
        done = ssm_stream("record", config, "--out", folder / "speed.parquet", "--force", "--json")
        found.append(json.loads(done.stdout))
        cpu.append((children_cpu() - before) / count * 1e6)
        say(f"record: {found[-1]['events_per_s']:,.0f} events/s, {cpu[-1]:.2f} µs of CPU an event")
    rates = [one["events_per_s"] for one in found]
    figures = {"events": count, "bytes_per_event": size, "rates": rates, "rate": statistics.median(rates)}
    return {**figures, "cpu_us_per_event": min(cpu), **found[-1]}


def children_cpu() -> float:
    """CPU time of all commands so far, their start and librdkafka's threads included, s."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def comparison(broker: str, folder: Path, count: int) -> dict[str, int]:
    """Differences between what a topic, its recording and the service give."""
    topic, sink = named("record-mixed"), named("record-out")
    create(broker, [topic, sink, f"{sink}-alerts", f"{sink}-dead"])
    load_mixed(broker, topic, count)
    config = folder / "mixed.yaml"
    config.write_text(configuration(broker, topic, sink, folder / "state-mixed"))
    file = folder / f"{topic}.parquet"
    ssm_stream("record", config, "--out", file)
    outputs: dict[str, list[bytes]] = {}
    for name, given in (("topic", ["--topic"]), ("file", [file])):
        written = [folder / f"{name}.jsonl", folder / f"{name}-alerts.jsonl"]
        ssm_stream("backtest", config, *given, "--out", written[0], "--alerts", written[1])
        outputs[name] = [line for each in written for line in each.read_bytes().splitlines()]
        outputs[f"{name} predictions"] = written[0].read_bytes().splitlines()
    ssm_stream("run", config, "--until-eof")
    served = [message.value() for message in read(broker, sink)]
    return {
        "lines": len(outputs["topic"]),
        "topic_and_file": differing(outputs["topic"], outputs["file"]),
        "topic_and_run": differing(bare(outputs["topic predictions"]), bare(served)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Rate of ssm-stream record, and the bits of --topic.")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--compared", type=int, default=40_000, help="events of the comparison")
    parser.add_argument("--json", action="store_true", help="checks and figures on stdout")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with cluster(folder) as (broker, kind):
            say(f"broker: {kind}")
            figures = {
                "broker": kind,
                "speed": speed(broker, folder, options.events, options.rounds),
                "differences": comparison(broker, folder, options.compared),
            }
    different = figures["differences"]
    checks: list[Check] = [
        check("record/events/s", figures["speed"]["rate"], ">=", RATE),
        check("record/differences between --topic and the file", different["topic_and_file"], "<=", 0),
        check("record/differences between --topic and run", different["topic_and_run"], "<=", 0),
    ]
    tell(checks)
    if options.json:
        print(json.dumps({"checks": checks, **figures}, indent=2))


if __name__ == "__main__":
    main()
