"""What `delivery: exactly_once` costs, and how soon a killed process goes on.

    python benchmarks/delivery.py [--json]

Rates: the same events through the product with either delivery, in turn, on one broker; the ratio is taken within a
round. Recovery: a process with 10,000 entities is killed by SIGKILL in the middle of an epoch; from the start of the
next one (`ssm-stream run`, interpreter and imports included) until a `read_committed` consumer has its first
prediction of an event that was not predicted before.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import orjson
import throughput_topics as topics
from confluent_kafka import Consumer, Producer, TopicPartition
from measuring import MissingError, check, end_on_signals, ratio, running, say, tell
from wire import PARTITIONS, cluster, configuration, create, events, load, named, read

RATIO_LEAST = 0.8
RECOVERY_MOST = 5.0
ENTITIES = 10_000


def rates(broker: str, folder: Path, count: int, entities: int, rounds: int) -> list[dict[str, dict[str, float]]]:
    """Both deliveries, once a round."""

    def one(client: topics.Client, source: topics.Topic) -> dict[str, float]:
        return topics.time_client(client, broker, source, sys.executable, folder)

    return topics.in_turn(broker, count, entities, rounds, lambda _: [topics.DEFAULT, topics.EXACTLY], one)


def recovery(broker: str, folder: Path, entities: int) -> float:
    """Seconds from the start of a process to the first new prediction that a consumer sees, after a SIGKILL.

    Raises:
        MissingError: none came within a minute.
    """
    source, sink = named("recovered-events"), named("recovered")
    create(broker, [source, sink, f"{sink}-alerts", f"{sink}-dead"])
    load(broker, source, 5 * entities, entities)
    file = folder / "recovery.yaml"
    file.write_text(configuration(broker, source, sink, folder / "recovery", more="delivery: exactly_once\n"))
    command = [sys.executable, "-m", "ssm_stream", "run", str(file)]
    with running(command, folder / "first.log") as process:
        deadline = time.monotonic() + 120
        while sum(1 for _ in read(broker, sink)) < 4 * entities:
            if process.poll() is not None or time.monotonic() > deadline:
                raise MissingError(f"no predictions: {(folder / 'first.log').read_text()[-2000:]}")
            time.sleep(0.2)
        time.sleep(1.5)
        process.kill()
    seen = {orjson.loads(message.value())["id"] for message in read(broker, sink)}
    producer = Producer({"bootstrap.servers": broker})
    for key, event in events(100, entities):
        producer.produce(source, orjson.dumps({**event, "ts": event["ts"] + 10_000_000}), key)
    producer.flush(30)
    consumer = Consumer({"bootstrap.servers": broker, "group.id": "recovered", "enable.auto.commit": False})
    ends = [
        TopicPartition(sink, p, consumer.get_watermark_offsets(TopicPartition(sink, p), timeout=10)[1])
        for p in range(PARTITIONS)
    ]
    consumer.assign(ends)
    began = time.perf_counter()
    try:
        with running(command, folder / "second.log"):
            while time.perf_counter() - began < 60:
                message = consumer.poll(0.05)
                if message is None or message.error() is not None:
                    continue
                if orjson.loads(message.value())["id"] not in seen:
                    return time.perf_counter() - began
    finally:
        consumer.close()
    raise MissingError(f"no new prediction within a minute: {(folder / 'second.log').read_text()[-2000:]}")


def main() -> None:
    parser = argparse.ArgumentParser(description="What exactly once costs, and how soon a killed process goes on.")
    parser.add_argument("--events", type=int, default=600_000)
    parser.add_argument("--entities", type=int, default=100, help="of the rates (100)")
    parser.add_argument("--recovered", type=int, default=ENTITIES, help="entities of the killed process (10,000)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="checks and figures on stdout")
    arguments = parser.parse_args()
    end_on_signals()
    with tempfile.TemporaryDirectory(prefix="ssm-stream-bench-") as name, cluster(Path(name)) as (broker, word):
        say(f"on {word}")
        found = rates(broker, Path(name), arguments.events, arguments.entities, arguments.rounds)
        again = recovery(broker, Path(name), arguments.recovered)
    checks = [
        check(
            "exactly once, share of the rate of at least once", ratio(found, "exactly", "default"), ">=", RATIO_LEAST
        ),
        check(f"recovery, s to a new prediction, {arguments.recovered:,} entities", again, "<=", RECOVERY_MOST),
    ]
    tell(checks)
    if arguments.json:
        report: dict[str, Any] = {"checks": checks, "rounds": found, "recovery_s": again}
        print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
