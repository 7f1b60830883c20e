"""Apache Kafka in Docker."""

from __future__ import annotations

import subprocess
import uuid

from brokers.base import Kafka
from ssm_stream.kafka.client import BrokerError
from ssm_stream.kafka.cluster import check_broker
from ssm_stream.ops.bytewax_metrics import free_port

DOCKER_IMAGE = "apache/kafka:4.3.1"


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
            "AUTO_CREATE_TOPICS_ENABLE": "false",
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
