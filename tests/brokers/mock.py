"""librdkafka's mock cluster, with faults on demand."""

from __future__ import annotations

from collections.abc import Mapping

from brokers.base import Kafka
from ssm_stream.kafka.embedded_broker import EmbeddedBroker


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
