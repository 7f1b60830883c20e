"""The consumers of docs/consumers.md, run against the broker: committed messages only, keys, headers, and positions."""

from __future__ import annotations

import os
import queue
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest
from brokers import Kafka
from confluent_kafka import Producer, TopicPartition
from programs import program

from ssm_stream.config import parse_config
from ssm_stream.contract.message_schemas import alert_schema

PAGE = (Path(__file__).parent.parent / "docs" / "consumers.md").read_text(encoding="utf-8")
MAX_LINES = 15
ENTITY = "プレス 7"


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.M | re.S)
    return str(found)


@contextmanager
def running(command: list[str]) -> Iterator[queue.Queue[str]]:
    """The lines that a program prints."""
    lines = queue.Queue[str]()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        stdout = process.stdout
        thread = threading.Thread(target=lambda: [lines.put(line.strip()) for line in stdout], daemon=True)
        thread.start()
        try:
            yield lines
        finally:
            process.terminate()


def send(kafka: Kafka, alerts: str, predictions: str) -> None:
    """An aborted transaction, then a committed one: a prediction and an alert with headers as `run` writes them."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "transactional.id": f"t-{alerts}"})
    producer.init_transactions(30)
    for name in ("aborted", ENTITY):
        producer.begin_transaction()
        prediction = {"entity": name, "ts": 1000, "y": 1.0, "yhat": 1.5, "anomaly_score": 0.25}
        producer.produce(predictions, orjson.dumps(prediction), name)
        headers = [("ce_type", b"io.ssm-stream.drift.started"), ("ce_id", b"events-0-9-drift"), ("ce_subject", b"x")]
        producer.produce(alerts, orjson.dumps({"entity": name, "summary": "temp is 4.8"}), name, headers=headers)
        producer.flush(30)  # on the topic, also if it is aborted then
        producer.commit_transaction(30) if name == ENTITY else producer.abort_transaction(30)


def ends(kafka: Kafka, topics: list[str], group: str) -> int:
    """The sum of the positions that the group has committed."""
    from confluent_kafka import Consumer

    consumer = Consumer({"bootstrap.servers": kafka.bootstrap_servers, "group.id": group})
    found = consumer.committed([TopicPartition(topic, 0) for topic in topics], timeout=20)
    consumer.close()
    return sum(max(each.offset, 0) for each in found)


def commands(folder: Path) -> dict[str, list[str]]:
    folder.joinpath("consumer.py").write_text(block("python"))
    folder.joinpath("AlertConsumer.java").write_text(block("java"))
    libraries = Path(os.environ.get("KAFKA_HOME", "/nowhere")) / "libs"
    java = ["java", "-cp", f"{libraries}/*", str(folder / "AlertConsumer.java")]
    return {"python": [sys.executable, str(folder / "consumer.py")], "java": java}


@pytest.mark.parametrize("language", ["python", "java"])
def test_consumers_read_committed_messages(language: str, kafka: Kafka, tmp_path: Path) -> None:
    if kafka.kind == "mock":
        pytest.skip("librdkafka's mock cluster has no aborted transactions")
    if language == "java":
        program("java")
        if not (Path(os.environ.get("KAFKA_HOME", "/nowhere")) / "libs").exists():
            pytest.skip("KAFKA_HOME names no Kafka, whose client Java needs")
    alerts, predictions = kafka.topic("alerts"), kafka.topic("predictions")
    send(kafka, alerts, predictions)
    group = "maintenance" if language == "python" else "maintenance-java"
    with running([*commands(tmp_path)[language], kafka.bootstrap_servers, alerts, predictions]) as lines:
        found = sorted(lines.get(timeout=60) for _ in range(2))
        deadline = time.monotonic() + 30
        while ends(kafka, [alerts, predictions], group) < 6:
            assert time.monotonic() < deadline, "the positions are not committed"
            time.sleep(0.5)
        with pytest.raises(queue.Empty):
            lines.get(timeout=0.5)
    assert all(ENTITY in line for line in found), found
    if language == "python":
        assert found == [
            f"alert {ENTITY} io.ssm-stream.drift.started events-0-9-drift temp is 4.8",
            f"prediction {ENTITY} 1000 1.5 0.25",
        ]
    else:
        assert found[0].startswith(f"io.ssm-stream.drift.started {ENTITY} {{")
        assert found[1].startswith(f"prediction {ENTITY} {{")


@pytest.mark.parametrize("language", ["python", "java"])
def test_consumers_are_short(language: str) -> None:
    lines = block(language).splitlines()
    assert len(lines) <= MAX_LINES
    assert max(map(len, lines)) <= 140


def test_consumers_use_headers_and_fields_that_there_are() -> None:
    config = parse_config("source: {brokers: 'h:1', topic: t}\nevent: {entity: e, timestamp: t, features: [a]}\n")
    assert "summary" in str(alert_schema(config))
