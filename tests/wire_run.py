"""One run over a topic of good and bad messages, for test_wire_client.py: writes its output topics to `out.txt`."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

import orjson
from confluent_kafka import Consumer, Producer, TopicPartition

from ssm_stream.config import load_config
from ssm_stream.flow import runtime
from ssm_stream.kafka.embedded_broker import EmbeddedBroker

TOPICS = {"events": 2, "predictions": 1, "alerts": 1, "dead": 1}


def feed(servers: str) -> None:
    producer, chance = Producer({"bootstrap.servers": servers}), random.Random(4)
    for i in range(2_500):
        entity = f"m{i % 5}"
        event = {
            "e": entity,
            "t": 1_700_000_000_000 + 1_000 * i,
            "target": chance.gauss(0, 1) + 9 * (i > 2_000),
            "x": i % 7,
        }
        value = orjson.dumps(event) if i % 97 else b'{"e": 1, "t":'
        headers: Any = [("origin", b"test")] if i % 11 == 0 else None
        producer.produce("events", value, entity, partition=i % 5 % 2, timestamp=1_000 + i, headers=headers)
    producer.flush(20)


def dump(servers: str, path: Path) -> None:
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "dump", "enable.partition.eof": True})
    lines: list[str] = []
    for topic in ("predictions", "alerts", "dead"):
        consumer.assign([TopicPartition(topic, 0, 0)])
        own = []
        while (message := consumer.poll(10)) is not None and message.error() is None:
            own.append(repr((topic, message.key(), message.value(), message.headers())))
        lines += sorted(own)
    consumer.close()
    path.write_text("".join(f"{line}\n" for line in lines))


def main(folder: Path) -> None:
    folder.mkdir()
    with EmbeddedBroker(topics=TOPICS) as broker:
        feed(broker.bootstrap_servers)
        path = folder / "monitor.yaml"
        path.write_text(
            f"source: {{brokers: '{broker.bootstrap_servers}', topic: events, start: earliest}}\n"
            "event: {entity: e, timestamp: t, features: [x]}\n"
            "sinks: {predictions: predictions, alerts: alerts, dead_letters: dead}\nops: {address: null}\n"
            f"recovery: {{directory: {folder / 'state'}}}\n"
        )
        runtime.run(runtime.prepare(load_config(path), until_eof=True))
        dump(broker.bootstrap_servers, folder / "out.txt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
