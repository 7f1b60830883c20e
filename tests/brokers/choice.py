"""Which broker the tests take, and why."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from brokers.apache import ApacheKafka, kafka_home, kafka_obstacle
from brokers.base import Kafka, LocalKafka
from brokers.docker import DOCKER_IMAGE, DockerKafka
from brokers.mock import MockKafka
from brokers.noida import NoidaKafka, noida_obstacle
from ssm_stream.kafka.client import BrokerError

EXTERNAL = "SSM_STREAM_TEST_BROKERS"
"""Holds the content of KAFKA_BOOTSTRAP_SERVERS for the tests: configurations under test read that name, too."""
if _servers := os.environ.pop("KAFKA_BOOTSTRAP_SERVERS", None):
    os.environ[EXTERNAL] = _servers


class Choice(NamedTuple):
    """Which broker the `kafka` fixture uses, and why."""

    kind: str
    reason: str


def choose_broker() -> Choice:
    """The environment's cluster, else Apache Kafka in KAFKA_HOME, else Docker, else noida-db, else the mock.

    Raises:
        BrokerError: KAFKA_HOME is set and cannot be used, with CI=true: a run of CI takes no other broker in silence.
    """
    if servers := os.environ.get(EXTERNAL):
        return Choice("external", f"KAFKA_BOOTSTRAP_SERVERS={servers}")
    away = kafka_obstacle()
    if away is None:
        return Choice("Apache Kafka", f"KAFKA_HOME={kafka_home()}")
    if kafka_home() is not None and os.environ.get("CI") == "true":
        raise BrokerError(f"{away}, and CI=true", "install Java 17, correct KAFKA_HOME, or unset it")
    if shutil.which("docker"):
        try:
            subprocess.run(["docker", "info"], check=True, capture_output=True, timeout=3)
            return Choice("docker", f"{away}; Docker answers; {DOCKER_IMAGE}")
        except (OSError, subprocess.SubprocessError):
            away += "; Docker does not answer"
    else:
        away += "; no Docker"
    obstacle = noida_obstacle()
    return Choice("noida-db", away) if obstacle is None else Choice("mock", f"{away}; {obstacle}")


def start_broker(choice: Choice, directory: Path) -> Kafka:
    """Start what was chosen.

    Raises:
        BrokerError, subprocess.SubprocessError: it does not start.
    """
    if choice.kind == "external":
        return Kafka(os.environ[EXTERNAL])
    if choice.kind == "docker":
        return DockerKafka()
    return MockKafka() if choice.kind == "mock" else start_local(directory)


def local_obstacle() -> str | None:
    """Why no broker can run in a process of the tests' own; None: one can."""
    apache, noida = kafka_obstacle(), noida_obstacle()
    return None if apache is None or noida is None else f"{apache}; {noida}"


def start_local(directory: Path) -> LocalKafka:
    """Start a broker that may be stopped and started again: Apache Kafka, else noida-db."""
    return ApacheKafka(directory) if kafka_obstacle() is None else NoidaKafka(directory)
