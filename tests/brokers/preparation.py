"""Made once for all starts of Apache Kafka, and kept in pytest's cache: its classes, and a formatted data folder.

An archive of the classes that a broker loads (class data sharing) takes half of the CPU off a start, and a run of all
tests has thirty. It is made beside their collection.
"""

from __future__ import annotations

import hashlib
import shutil
import signal
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

from confluent_kafka import Consumer, Producer

from brokers.apache import FORMATTED, ApacheKafka
from brokers.prepared import ARCHIVE
from brokers.prepared import FORMATTED as FORMATTED_FOLDER
from ssm_stream.kafka.client import LOGGER


class Model(ApacheKafka):
    """A broker that writes down which classes it has loaded, at its end."""

    def java(self, *arguments: str) -> list[str]:
        java, *rest = super().java(*arguments)
        archive = [f"-XX:ArchiveClassesAtExit={self.directory / ARCHIVE}"] if arguments[0] == "kafka.Kafka" else []
        return [java, *archive, *rest]


def name_of(home: Path) -> str:
    """Of what is made for this Kafka and this Java; another name for any other."""
    files = [Path(shutil.which("java") or "java").resolve(), *sorted(home.glob("libs/*"))]
    stats = [(str(file), file.stat().st_mtime_ns) for file in files if file.exists()]
    return hashlib.sha256(repr(stats).encode()).hexdigest()[:16]


def exercise(broker: ApacheKafka) -> None:
    """Do what tests do, so that its classes are loaded: topics, a transaction, a group."""
    topic = broker.topic("events", 2)
    broker.produce(topic, [b"message"] * 10)
    servers = {"bootstrap.servers": broker.bootstrap_servers, "logger": LOGGER}
    producer = Producer({**servers, "transactional.id": "model"})
    consumer = Consumer({**servers, "group.id": "model", "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    producer.init_transactions(20)
    producer.begin_transaction()
    producer.produce(topic, b"message")
    consumer.consume(1, 20)
    producer.send_offsets_to_transaction(
        consumer.position(consumer.assignment()), consumer.consumer_group_metadata(), 20
    )
    producer.commit_transaction(20)
    consumer.close()
    broker.read(topic)


def prepare(cache: Path, ended: threading.Event) -> None:
    """Fill the folder, unless that has been done, until `ended`. What fails leaves it as it is; tests go without."""
    if (cache / ARCHIVE).exists():
        return
    with tempfile.TemporaryDirectory(dir=cache) as temporary, suppress(Exception):
        broker = Model(work := Path(temporary) / "broker")
        try:
            exercise(broker)
            process = broker.process
            assert process is not None
            process.terminate()
            while process.poll() is None:
                if ended.wait(0.05):
                    return
            if (made := work / ARCHIVE).exists():
                (data := work / FORMATTED_FOLDER).mkdir()
                for name, content in FORMATTED.items():
                    (data / name).write_bytes(content)
                data.rename(cache / FORMATTED_FOLDER)
                made.rename(cache / ARCHIVE)
        finally:
            broker.stop(signal.SIGKILL)
