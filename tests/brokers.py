"""The brokers that tests speak to, and how one is chosen. See README.md beside this file."""

from __future__ import annotations

import ctypes
import importlib.resources
import importlib.util
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from ssm_stream.config import Source
from ssm_stream.kafka.client import LOGGER, BrokerError, EmbeddedBroker, check_broker, create_topics
from ssm_stream.ops.bytewax_metrics import free_port as free_port

Payload = bytes | str | None
Record = Payload | tuple[Payload, Payload]
"""A value, or a key and a value."""

NOIDA_GLIBC = (2, 39)
DOCKER_IMAGE = "apache/kafka:3.9.1"


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

    def produce(self, topic: str, messages: Iterable[Record], partition: int | None = None) -> int:
        """Write messages in order and wait until the broker has them all. Returns how many."""
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

        for message in messages:
            key, value = message if isinstance(message, tuple) else (None, message)
            while True:
                try:
                    producer.produce(
                        topic, value, key, partition=-1 if partition is None else partition, on_delivery=delivered
                    )
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
        partitions = check_broker(self.source(topic, wait=timeout)).partitions_of(topic)
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
            consumer.list_topics(topic, timeout=timeout)
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

    def close(self) -> None:
        """Leave a cluster that is not ours as it was found."""
        if self.created:
            admin = AdminClient({"bootstrap.servers": self.bootstrap_servers, "logger": LOGGER})
            for answer in admin.delete_topics(self.created, request_timeout=10).values():
                answer.exception(15)


class MockKafka(Kafka, EmbeddedBroker):
    """The embedded broker, with faults (`push_errors`, `set_down`, `set_leader`, …)."""

    kind = "mock"

    def __init__(self, topics: Mapping[str, int] | None = None, brokers: int = 1) -> None:
        EmbeddedBroker.__init__(self, topics, brokers=brokers)
        self.created = []

    def _create(self, name: str, partitions: int, config: Mapping[str, str]) -> None:
        self.create_topic(name, partitions)

    def close(self) -> None:
        EmbeddedBroker.close(self)


SEIZE, INTERRUPT, DETACH = 0x4206, 0x4207, 17  # linux/ptrace.h
ALL = 0x40000000  # __WALL: threads too


def _ptrace(request: int, thread: int) -> bool:
    ptrace = ctypes.CDLL(None).ptrace
    ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
    ptrace.restype = ctypes.c_long
    return bool(ptrace(request, thread, None, None) == 0)


def hold(thread: int) -> bool:
    """Stop a thread of another process until `release`, or the end of the thread that calls this.

    Whether it could be: not everybody may trace others.
    """
    if sys.platform != "linux" or not (_ptrace(SEIZE, thread) and _ptrace(INTERRUPT, thread)):
        return False
    os.waitpid(thread, ALL)
    return True


def release(thread: int) -> None:
    """Have it go on. A held thread that ends keeps its process from ending."""
    _ptrace(DETACH, thread)


class NoidaKafka(Kafka):
    """noida-db in a process group of its own. `stop` and `start` keep port and data."""

    kind = "noida-db"
    replication = 1

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.process: subprocess.Popen[bytes] | None = None
        self._held: int | None = None
        for attempt in range(3):  # another process may take the free port first
            self.port = free_port()
            super().__init__(f"127.0.0.1:{self.port}")
            try:
                self.start()
                return
            except BrokerError:
                if attempt == 2:
                    raise

    def start(self) -> None:
        """Start, and wait until it answers."""
        program = noida_program()
        assert program is not None
        program.chmod(program.stat().st_mode | 0o100)
        # setpriv: a test run that is killed takes its broker along.
        guard = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []
        where = ["--host", "127.0.0.1", "--kafka-port", str(self.port), "--data-dir", str(self.directory)]
        self.directory.mkdir(parents=True, exist_ok=True)
        log = self.directory / "noida-db.log"
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [*guard, str(program), "start", "--only", "kafka", *where],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
        deadline = time.monotonic() + 20
        while self.process.poll() is None and time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), 0.2).close()
                check_broker(self.source(wait=10))
                self._calm()
                return
            except OSError:
                time.sleep(0.02)
        self.stop()
        raise BrokerError(f"noida-db did not start: {log.read_text()[-500:]}", "see its log")

    def _calm(self) -> None:
        """Its thread `autosave` writes all data anew, as JSON, every second in which any change: a whole processor and
        half a disk, which no Kafka takes. It is held where it sleeps, until `stop`; where that is not permitted it
        gives way to the others, but not altogether, as requests wait while it copies."""
        assert self.process is not None
        for name in Path(f"/proc/{self.process.pid}/task").glob("*/comm"):
            if name.read_text().strip() == "autosave":
                thread = int(name.parent.name)
                self._held = thread if hold(thread) else None
                if self._held is None:
                    os.setpriority(os.PRIO_PROCESS, thread, 10)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it and wait for its exit; unless it is killed, what it has acknowledged stays on disk."""
        if self.process is None:
            return
        if self._held is not None:
            release(self._held)
            self._held = None
        if self.process.poll() is None:
            os.killpg(self.process.pid, how)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait(10)
        self.process = None

    def close(self) -> None:
        self.stop()


class DockerKafka(Kafka):
    """Apache Kafka, one node in KRaft mode, in a container."""

    kind = "docker"
    replication = 1

    def __init__(self) -> None:
        port = free_port()
        super().__init__(f"127.0.0.1:{port}")
        self.name = f"ssm-stream-test-{uuid.uuid4().hex[:8]}"
        settings = {
            "NODE_ID": "1",
            "PROCESS_ROLES": "broker,controller",
            "LISTENERS": "PLAINTEXT://:9092,CONTROLLER://:9093",
            "ADVERTISED_LISTENERS": f"PLAINTEXT://127.0.0.1:{port}",
            "CONTROLLER_LISTENER_NAMES": "CONTROLLER",
            "LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
            "OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
            "TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
            "TRANSACTION_STATE_LOG_MIN_ISR": "1",
            "GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        }
        environment = [part for name, value in settings.items() for part in ("-e", f"KAFKA_{name}={value}")]
        run = ["docker", "run", "--detach", "--rm", "--name", self.name, "--publish", f"127.0.0.1:{port}:9092"]
        subprocess.run([*run, *environment, DOCKER_IMAGE], check=True, capture_output=True, timeout=180)
        try:
            check_broker(self.source(wait=60))
        except BrokerError:
            self.close()
            raise

    def close(self) -> None:
        subprocess.run(["docker", "stop", "--time", "5", self.name], capture_output=True, timeout=60, check=False)


def noida_program() -> Path | None:
    """noida-db's binary, where the package is installed."""
    if importlib.util.find_spec("noida_db") is None:
        return None
    return Path(str(importlib.resources.files("noida_db") / "noida-db"))


def noida_obstacle() -> str | None:
    """Why noida-db cannot run here; None: it can."""
    program = noida_program()
    if program is None or not program.exists():
        return "noida-db is not installed (pip install noida-db==0.2.3)"
    library, version = platform.libc_ver()
    if library != "glibc" or tuple(map(int, version.split(".")[:2])) < NOIDA_GLIBC:
        return f"noida-db needs glibc 2.39 or later, here is {library or 'no glibc'} {version}"
    return None


class Choice(NamedTuple):
    """Which broker the `kafka` fixture uses, and why."""

    kind: str
    reason: str


def choose_broker() -> Choice:
    """The environment's cluster, else Docker, else noida-db, else the mock."""
    if servers := os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        return Choice("external", f"KAFKA_BOOTSTRAP_SERVERS={servers}")
    if shutil.which("docker"):
        try:
            subprocess.run(["docker", "info"], check=True, capture_output=True, timeout=3)
            return Choice("docker", f"Docker answers; {DOCKER_IMAGE}")
        except (OSError, subprocess.SubprocessError):
            away = "Docker does not answer"
    else:
        away = "no Docker"
    obstacle = noida_obstacle()
    if obstacle is None:
        return Choice("noida-db", f"KAFKA_BOOTSTRAP_SERVERS is not set, {away}")
    return Choice("mock", f"{away}; {obstacle}")


def start_broker(choice: Choice, directory: Path) -> Kafka:
    """Start what was chosen.

    Raises:
        BrokerError, subprocess.SubprocessError: it does not start.
    """
    if choice.kind == "external":
        return Kafka(os.environ["KAFKA_BOOTSTRAP_SERVERS"])
    if choice.kind == "docker":
        return DockerKafka()
    if choice.kind == "noida-db":
        return NoidaKafka(directory)
    return MockKafka()
