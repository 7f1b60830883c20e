"""Apache Kafka itself: one node in KRaft mode, from the unpacked Kafka that KAFKA_HOME names."""

from __future__ import annotations

import base64
import os
import re
import signal
import subprocess
import uuid
from functools import cached_property
from pathlib import Path

from brokers import prepared
from brokers.base import LocalKafka
from ssm_stream.kafka.client import BrokerError
from ssm_stream.ops.bytewax_metrics import free_port

JAVA = 17
"""The version that Apache Kafka 4 needs at least."""
QUICK = ("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")
"""Options of the JVM for a quick start; slower under load than Kafka's own."""
LOGGING = """rootLogger.level=WARN
rootLogger.appenderRef.console.ref=Console
appender.console.type=Console
appender.console.name=Console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d %p %c: %m%n
"""


def kafka_home() -> Path | None:
    """The folder of the unpacked Kafka; None where KAFKA_HOME is not set."""
    home = os.environ.get("KAFKA_HOME")
    return Path(home).resolve() if home else None


def kafka_obstacle() -> str | None:
    """Why Apache Kafka cannot run here; None: it can."""
    home = kafka_home()
    if home is None:
        return "KAFKA_HOME is not set"
    if not list(home.glob("libs/kafka-clients-*.jar")):
        return f"KAFKA_HOME={home} has no libs/kafka-clients-*.jar"
    try:
        answer = subprocess.run(["java", "-version"], capture_output=True, text=True, timeout=20, check=True).stderr
    except (OSError, subprocess.SubprocessError) as error:
        return f"KAFKA_HOME is set, but `java -version` fails: {error}"
    found = re.search(r'version "(\d+)', answer)
    if found is None or int(found[1]) < JAVA:
        return f"Apache Kafka needs Java {JAVA} or later, `java -version` prints {answer.splitlines()[:1]}"
    return None


def cluster_id() -> str:
    """Return an id for a new cluster. One that begins with a dash would be an option."""
    while (made := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[:22]).startswith("-"):
        pass
    return made


class ApacheKafka(LocalKafka):
    """A node in a process of its own, broker and controller in one, with its own data folder."""

    kind = "Apache Kafka"
    patience = 120.0

    @cached_property
    def cluster(self) -> str:
        """The cluster's id."""
        return cluster_id()

    def close(self) -> None:
        self.stop(signal.SIGKILL)  # nothing of it is read again

    def java(self, *arguments: str) -> list[str]:
        """The command that runs one of Kafka's main classes."""
        logging = self.directory / "log4j2.properties"
        logging.write_text(LOGGING)
        options = os.environ.get("KAFKA_JVM", " ".join(QUICK)).split()
        configured = f"-Dlog4j2.configurationFile={logging}"
        unpacked = f"-Djava.io.tmpdir={self.directory}"  # native libraries, which a killed JVM leaves where it put them
        classes = ("-cp", f"{kafka_home()}/libs/*")
        return ["java", *options, *prepared.options(), configured, unpacked, *classes, *arguments]

    def command(self) -> list[str]:
        settings = self.directory / "server.properties"
        if not settings.exists() or f":{self.port}," not in settings.read_text():
            self._format(settings)
        return self.java("kafka.Kafka", str(settings))

    def settings(self, controller: int) -> dict[str, object]:
        """Return the node's settings. controller: the port of its listener for controllers"""
        return {
            "node.id": 1,
            "process.roles": "broker,controller",
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": self.directory / f"data-{self.port}",
            "offsets.topic.replication.factor": 1,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "offsets.topic.num.partitions": 5,
            "transaction.state.log.num.partitions": 5,
            "group.initial.rebalance.delay.ms": 0,
            "auto.create.topics.enable": "false",
            # Threads for a few clients on two cores; each request goes through three of them.
            "num.network.threads": 1,
            "num.io.threads": 2,
            "background.threads": 2,
            "metadata.max.idle.interval.ms": 0,  # else the idle controller writes to its log twice a second
        }

    def _format(self, settings: Path) -> None:
        """Write the node's settings and format its data folder; where one has been formatted already, as a copy of
        that with the node's ids, which saves the start of a JVM."""
        of_node = self.settings(free_port())
        settings.write_text("".join(f"{name}={value}\n" for name, value in of_node.items()))
        data = Path(str(of_node["log.dirs"]))
        if not FORMATTED:
            FORMATTED.update(prepared.formatted())
        if FORMATTED:
            ids = {"directory.id": cluster_id(), "cluster.id": self.cluster, "node.id": of_node["node.id"]}
            data.mkdir()
            for name, content in FORMATTED.items():
                for key, value in ids.items():
                    content = re.sub(rf"(?m)^{key}=.*$".encode(), f"{key}={value}".encode(), content)
                (data / name).write_bytes(content)
            return
        command = self.java("kafka.tools.StorageTool", "format", "-t", self.cluster, "-c", str(settings))
        made = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if made.returncode:
            raise BrokerError(f"formatting Kafka's data folder failed: {made.stdout}{made.stderr}", f"see {settings}")
        FORMATTED.update({file.name: file.read_bytes() for file in data.iterdir()})


FORMATTED = dict[str, bytes]()
"""Name → content of the files in a formatted data folder."""
