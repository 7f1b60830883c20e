"""Events onto a topic, and back what came of them: the broker, its topics, the configuration that reads them."""

from __future__ import annotations

import contextlib
import os
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from brokers import EXTERNAL, local_obstacle, start_local
from clients import FEATURES
from measuring import MissingError, hand_over

from ssm_stream.config import Source
from ssm_stream.kafka.admin import create_topics
from ssm_stream.kafka.client import LOGGER
from ssm_stream.kafka.cluster import check_broker

PARTITIONS = 4
RUN = uuid.uuid4().hex[:8]
KEPT = {"retention.ms": "-1"}
"""Topic settings: events never grow too old for the broker."""
STAMPED = {**KEPT, "message.timestamp.type": "LogAppendTime"}
"""The broker notes when it took a message."""


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[tuple[str, str]]:
    """Bootstrap servers and a word for them: the cluster of the environment, else a fresh broker."""
    if servers := os.environ.get(EXTERNAL):  # which has what KAFKA_BOOTSTRAP_SERVERS had
        yield servers, f"the cluster {servers}"
        return
    if obstacle := local_obstacle():
        raise SystemExit(f"no broker: {obstacle}; set KAFKA_BOOTSTRAP_SERVERS to use another one")
    broker = start_local(folder / "broker")
    try:
        yield broker.bootstrap_servers, f"a fresh {broker.kind} on the same machine"
    finally:
        broker.close()


def named(stem: str) -> str:
    """A topic's name that no other run has, on a cluster that stays."""
    return f"{stem}-{RUN}"


def create(broker: str, names: list[str], partitions: int = PARTITIONS, config: dict[str, str] = KEPT) -> None:
    """New topics."""
    create_topics(Source(brokers=broker, topic=names[0]), dict.fromkeys(names, partitions), config=config)


def delete(broker: str, names: list[str]) -> None:
    """Topics that have been read: the broker beside us shall not keep them in memory."""
    admin = AdminClient({"bootstrap.servers": broker, "logger": LOGGER})
    for answer in admin.delete_topics(names, request_timeout=10).values():
        answer.exception(15)


def events(count: int, entities: int, features: list[str] = FEATURES) -> Iterator[tuple[str, dict[str, Any]]]:
    """Keys and events: a linear relation of its own for each entity, with a little noise."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(entities, len(features)))
    entity = rng.integers(0, entities, count)
    for at in range(0, count, 100_000):
        e = entity[at : at + 100_000]
        x = rng.normal(size=(len(e), len(features)))
        y = (x * weights[e]).sum(1) + 0.1 * rng.normal(size=len(e))
        rows = zip(e.tolist(), x.round(6).tolist(), y.round(6).tolist(), strict=True)
        for i, (which, row, target) in enumerate(rows, at):
            event = {"ts": 1_700_000_000_000 + i, "target": target, **dict(zip(features, row, strict=True))}
            yield f"m{which:06d}", {"entity": f"m{which:06d}", **event}


def load(broker: str, topic: str, count: int, entities: int) -> float:
    """Fill a topic; mean bytes of a value."""
    producer = Producer({"bootstrap.servers": broker, "linger.ms": 20, "queue.buffering.max.messages": 1_000_000})
    size = 0
    for key, event in events(count, entities):
        value = orjson.dumps(event)
        size += len(value)
        hand_over(producer, topic, value, key)
        producer.poll(0)
    if left := producer.flush(60):
        raise MissingError(f"{left} of {count} events did not reach the broker within a minute")
    return size / count


def read(broker: str, topic: str) -> Iterator[Any]:
    """All messages of a topic."""
    base = {"bootstrap.servers": broker, "enable.partition.eof": True, "enable.auto.commit": False, "logger": LOGGER}
    consumer = Consumer({**base, "group.id": f"count-{topic}", "receive.message.max.bytes": 10**9})
    try:
        partitions = check_broker(Source(brokers=broker, topic=topic)).partitions_of(topic)
        consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in partitions])
        found = ended = 0
        deadline = time.monotonic() + 120
        while ended < len(partitions):
            if time.monotonic() > deadline:
                raise MissingError(f"{topic}: {found} messages and no end within two minutes")
            for message in consumer.consume(10_000, 0.2):
                if message.error() is None:
                    found += 1
                    yield message
                else:
                    ended += 1
    finally:
        consumer.close()


def end(consumer: Consumer, topic: str, partitions: int) -> int:
    """Messages that a topic has ever held: the next offsets of its partitions."""
    parts = [TopicPartition(topic, partition) for partition in range(partitions)]
    return sum(consumer.get_watermark_offsets(part, timeout=60, cached=False)[1] for part in parts)


def configuration(broker: str, source: str, sink: str, directory: Path | str, event: str = "", more: str = "") -> str:
    """The smallest file that reads these events; alerts are on by default.

    event: lines of its section beside the names of the fields; more: other sections
    Counters are on, as they always are. Nothing is served, so that several may run, and the self-check, which takes a
    core for a few seconds once a start, is off.
    """
    ops = "" if "ops:" in more else "ops: {address: null}\n"
    return (
        f"source: {{brokers: '{broker}', topic: {source}, group: {sink}}}\n"
        f"event:\n  entity: entity\n  timestamp: ts\n  target: target\n  features: [{', '.join(FEATURES)}]\n"
        f"{event}"
        f"sinks: {{predictions: {sink}, alerts: {sink}-alerts, dead_letters: {sink}-dead}}\n"
        f"recovery: {{directory: '{directory}'}}\n"
        f"{ops}{more}"
    )


PLAIN = "  lags: 0\n  differences: false\n  calendar: []\n"
"""Lines of the event section: the columns alone are inputs."""
