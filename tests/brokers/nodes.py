"""Apache Kafka of three nodes: what is written is on all of them, and acknowledged once two have it."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from confluent_kafka.admin import AdminClient

from brokers.apache import ApacheKafka, cluster_id
from brokers.base import Kafka
from ssm_stream.kafka.client import LOGGER, BrokerError
from ssm_stream.ops.bytewax_metrics import free_port

NODES = 3
IN_SYNC = 2
"""Replicas that must have what is acknowledged."""


class Node(ApacheKafka):
    """A node, broker and controller in one. It is not started yet. voters: node → port of its controller"""

    patience = 240.0
    """It answers once it knows the others, which may start at the same time."""

    def __init__(self, directory: Path, number: int, port: int, voters: Mapping[int, int], cluster: str) -> None:
        Kafka.__init__(self, f"127.0.0.1:{port}")
        self.directory, self.number, self.port, self.process = directory, number, port, None
        self.voters, self.cluster = voters, cluster
        self.environment: dict[str, str] = {}

    def settings(self, controller: int) -> dict[str, object]:
        own = self.voters[self.number]
        return super().settings(own) | {
            "node.id": self.number,
            "controller.quorum.voters": ",".join(f"{node}@127.0.0.1:{port}" for node, port in self.voters.items()),
            "default.replication.factor": NODES,
            "min.insync.replicas": IN_SYNC,
            "offsets.topic.replication.factor": NODES,
            "transaction.state.log.replication.factor": NODES,
            "transaction.state.log.min.isr": IN_SYNC,
        }

    def java(self, *arguments: str) -> list[str]:
        command = super().java(*arguments)
        return ["env", *(f"{name}={value}" for name, value in self.environment.items()), *command]

    def format(self) -> None:
        """Write settings, and format the data folder."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self._format(self.directory / "server.properties")

    def await_answer(self) -> None:
        """A node may listen, and not answer while it waits for the others."""
        deadline = time.monotonic() + self.patience
        while True:
            try:
                super().await_answer()
                return
            except BrokerError:
                if self.process is None or self.process.poll() is not None or time.monotonic() > deadline:
                    raise


class KafkaNodes(Kafka):
    """Three nodes on loopback, each a process of its own. prepare: is given each node before it is formatted"""

    kind = "Apache Kafka, three nodes"
    replication = NODES

    def __init__(self, directory: Path, prepare: Callable[[Node], None] = lambda _: None) -> None:
        cluster, numbers = cluster_id(), range(1, NODES + 1)
        voters = {number: free_port() for number in numbers}
        self.nodes = [Node(directory / f"node-{n}", n, free_port(), voters, cluster) for n in numbers]
        super().__init__(",".join(node.bootstrap_servers for node in self.nodes))
        for node in self.nodes:
            prepare(node)
        with ThreadPoolExecutor(NODES) as pool:
            list(pool.map(Node.format, self.nodes))
        try:
            self.start(self.nodes)
        except BaseException:
            self.close()
            raise

    def start(self, nodes: Iterable[Node]) -> None:
        """Start nodes at once, and wait until each answers."""
        each = list(nodes)
        for node in each:
            node.launch()
        for node in each:
            node.await_answer()

    def stop(self, nodes: Iterable[Node], how: signal.Signals = signal.SIGKILL) -> None:
        """End nodes, and wait until they have ended."""
        for node in nodes:
            node.stop(how)

    def behind(self) -> int:
        """Partitions of which a replica is not in sync."""
        client = AdminClient({"bootstrap.servers": self.bootstrap_servers, "logger": LOGGER})
        topics = client.list_topics(timeout=10).topics.values()
        return sum(len(p.isrs) < len(p.replicas) for topic in topics for p in topic.partitions.values())

    def await_in_sync(self, seconds: float) -> bool:
        """Wait until all replicas are in sync, at most so long. Returns whether they are."""
        deadline = time.monotonic() + seconds
        while self.behind():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.3)
        return True

    def close(self) -> None:
        self.stop(self.nodes)
