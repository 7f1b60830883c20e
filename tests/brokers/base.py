"""A broker with what tests need of it: topics of their own, messages in, messages out."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from ssm_stream.config import Source
from ssm_stream.kafka.admin import create_topics
from ssm_stream.kafka.client import LOGGER, BrokerError
from ssm_stream.kafka.cluster import check_broker
from ssm_stream.kafka.outages.classify import is_retriable
from ssm_stream.ops.bytewax_metrics import free_port

Payload = bytes | str | None
Record = Payload | tuple[Payload, Payload]
"""A value, or a key and a value."""


class Kafka:
    """A broker with what tests need of it. Subclasses start and stop one."""

    kind = "external"
    replication = -1
    bootstrap_servers: str

    def __init__(self, bootstrap_servers: str) -> None:
        self.bootstrap_servers = bootstrap_servers
        self.created: list[str] = []

    def source(self, topic: str = "events", wait: float = 20.0) -> Source:
        return Source(brokers=self.bootstrap_servers, topic=topic, wait=wait)

    def topic(self, prefix: str = "events", partitions: int = 1, config: Mapping[str, str] | None = None) -> str:
        """A new topic with a name of its own. Kept for good: recordings carry old timestamps."""
        name = f"{prefix}-{uuid.uuid4().hex[:8]}"
        self._create(name, partitions, {"retention.ms": "-1", **(config or {})})
        return name

    def _create(self, name: str, partitions: int, config: Mapping[str, str]) -> None:
        create_topics(self.source(name), {name: partitions}, replication=self.replication, config=config)
        self.created.append(name)

    def produce(
        self,
        topic: str,
        messages: Iterable[Record],
        partition: int | None = None,
        timestamps: Iterable[int] | None = None,
    ) -> int:
        """Write messages in order and wait until the broker has them all. Returns how many.

        timestamps: of each message, ms; None: now
        """
        failed: list[str] = []
        sent = 0
        producer = Producer(
            {
                "bootstrap.servers": self.bootstrap_servers,
                "logger": LOGGER,
                "linger.ms": 5,
                # Keeps the order through retries; idempotence would too, and costs half a second a producer.
                "max.in.flight": 1,
                "message.max.bytes": 2_000_000,
            }
        )

        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                failed.append(f"{message.topic()}: {error.str()}")

        to = -1 if partition is None else partition
        for message, ms in zip(messages, itertools.repeat(0) if timestamps is None else timestamps, strict=False):
            key, value = message if isinstance(message, tuple) else (None, message)
            while True:
                try:
                    producer.produce(topic, value, key, to, on_delivery=delivered, timestamp=ms)
                    break
                except BufferError:
                    producer.poll(0.05)
            producer.poll(0)
            sent += 1
        left = producer.flush(30)
        assert not left, f"{left} of {sent} messages are still not on the broker after 30 s"
        assert not failed, failed[:3]
        return sent

    def read(self, topic: str, expected: int | None = None, timeout: float = 20.0) -> list[Message]:
        """All committed messages up to the end of each partition, by partition and offset.

        With `expected`, goes on until there are at least so many, and fails when `timeout` seconds pass before.
        """
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap_servers,
                "group.id": f"test-{uuid.uuid4().hex[:8]}",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 20,
                "isolation.level": "read_committed",
                "logger": LOGGER,
            }
        )
        found: list[Message] = []
        at_end: set[int] = set()
        deadline = time.monotonic() + timeout
        try:
            # A consumer that knows the topic before it is assigned starts half a second sooner.
            while (known := consumer.list_topics(topic, timeout=timeout).topics[topic]).error is not None:
                waits = known.partitions and is_retriable(known.error) and time.monotonic() < deadline
                assert waits, f"{topic}: {known.error}"
                time.sleep(0.05)
            partitions = sorted(known.partitions)
            consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in partitions])
            while len(at_end) < len(partitions) or (expected is not None and len(found) < expected):
                if time.monotonic() > deadline:
                    wanted = "the end" if expected is None else f"{expected} messages"
                    raise AssertionError(f"{topic}: {len(found)} messages in {timeout:g} s, waiting for {wanted}")
                for message in consumer.consume(10_000, timeout=0.1):
                    error = message.error()
                    if error is None:
                        found.append(message)
                        at_end.discard(message.partition())
                    elif error.code() == KafkaError._PARTITION_EOF:
                        at_end.add(message.partition())
                    elif not error.retriable():
                        raise AssertionError(f"{topic}: {error}")
        finally:
            consumer.close()
        return sorted(found, key=lambda message: (message.partition(), message.offset()))

    def delete_topics(self) -> None:
        """Delete the topics that were made until now."""
        if self.created:
            admin = AdminClient({"bootstrap.servers": self.bootstrap_servers, "logger": LOGGER})
            for answer in admin.delete_topics(self.created, request_timeout=10).values():
                answer.exception(15)
            self.created = []

    def close(self) -> None:
        """Leave a cluster that is not ours as it was found."""
        self.delete_topics()


class LocalKafka(Kafka):
    """A broker that is a process of the tests' own on loopback. `stop` and `start` keep port and data.

    Raises:
        BrokerError: it does not start.
    """

    replication = 1
    patience = 20.0
    """Seconds from the start of the process to its first answer, at most."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.process: subprocess.Popen[bytes] | None = None
        for attempt in range(3):  # another process may take the free port first
            self.port = free_port()
            super().__init__(f"127.0.0.1:{self.port}")
            try:
                self.start()
                return
            except BrokerError:
                if attempt == 2:
                    raise

    def command(self) -> list[str]:
        """The command that runs the broker in the foreground."""
        raise NotImplementedError

    def on_started(self) -> None:
        """Called once the broker answers."""

    def on_stopping(self) -> None:
        """Called before the broker is ended."""

    def start(self) -> None:
        """Start the process and wait until it answers."""
        self.launch()
        self.await_answer()

    def launch(self) -> None:
        """Start the process."""
        self.directory.mkdir(parents=True, exist_ok=True)
        # setpriv: a test run that is killed takes its broker along.
        guard = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []
        with (self.directory / "broker.log").open("ab") as output:
            self.process = subprocess.Popen(
                [*guard, *self.command()], stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                process_group=0,
            )  # fmt: skip

    def await_answer(self) -> None:
        """Wait until the started process answers.

        Raises:
            BrokerError: it ends before, or takes too long.
        """
        deadline = time.monotonic() + self.patience
        while self.process is not None and self.process.poll() is None and time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), 0.2).close()
                check_broker(self.source(wait=10))
                self.on_started()
                return
            except OSError:
                time.sleep(0.02)
        self.stop()
        log = self.directory / "broker.log"
        raise BrokerError(f"{self.kind} did not start: {log.read_text()[-500:]}", f"see {log}")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End the process and wait for its exit; unless it is killed, what it has acknowledged stays on disk."""
        if self.process is None:
            return
        self.on_stopping()
        if self.process.poll() is None:
            os.killpg(self.process.pid, how)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait(10)
        self.process = None

    def close(self) -> None:
        self.stop()
