"""Apache Kafka with the settings of docker/compose.yaml, without Docker."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

from brokers.apache import ApacheKafka
from ssm_stream.ops.bytewax_metrics import free_port

COMPOSE = Path(__file__).parents[2] / "docker" / "compose.yaml"
TOOLS = {"kafka-broker-api-versions.sh": "org.apache.kafka.tools.BrokerApiVersionsCommand"}
"""Script of Kafka → the class that it runs, which is all that it does."""


def composed_service() -> dict[str, Any]:
    """The service `kafka` of the compose file."""
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"]["kafka"]
    return found


def composed_settings() -> dict[str, str]:
    """Kafka's settings, by the rule of its image: KAFKA_LOG_DIRS is log.dirs."""
    environment = composed_service()["environment"]
    return {
        name.removeprefix("KAFKA_").lower().replace("_", "."): str(value)
        for name, value in environment.items()
        if name.startswith("KAFKA_")
    }


class ComposedKafka(ApacheKafka):
    """The service `kafka`: its settings but for hosts, ports and the place of its data.

    `host_port`: of the listener that compose publishes
    """

    kind = "Apache Kafka with the settings of compose.yaml"

    def settings(self, controller: int) -> dict[str, object]:
        self.host_port = free_port()
        mine = {"9092": self.port, "29092": self.host_port, "9093": controller}

        def here(value: str) -> str:
            """Hosts and ports of the compose file → free ones on loopback."""
            return re.sub(r"(?:[a-z]+|(?<=//)):(\d+)", lambda found: f"127.0.0.1:{mine[found[1]]}", value)

        places = {"listeners", "advertised.listeners", "controller.quorum.voters"}
        settings: dict[str, object] = {
            name: here(value) if name in places else value for name, value in composed_settings().items()
        }
        return settings | {"log.dirs": self.directory / f"data-{self.port}"}

    def healthy(self) -> bool:
        """The health check of the compose file."""
        script, *arguments = composed_service()["healthcheck"]["test"][1:]
        known = TOOLS[Path(script).name]
        arguments = [each.replace("kafka:9092", f"127.0.0.1:{self.port}") for each in arguments]
        done = subprocess.run(self.java(known, *arguments), capture_output=True, text=True, timeout=120, check=False)
        return done.returncode == 0
