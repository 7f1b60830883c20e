"""The brokers that tests use, and how one is chosen. See README.md in tests/."""

from __future__ import annotations

from brokers.apache import ApacheKafka, kafka_obstacle
from brokers.base import Kafka, LocalKafka, Payload, Record
from brokers.choice import EXTERNAL, Choice, choose_broker, local_obstacle, start_broker, start_local
from brokers.mock import MockKafka
from brokers.noida import NoidaKafka, noida_obstacle
from ssm_stream.ops.bytewax_metrics import free_port as free_port

__all__ = [
    "EXTERNAL", "ApacheKafka", "Choice", "Kafka", "LocalKafka", "MockKafka", "NoidaKafka", "Payload", "Record",
    "choose_broker", "free_port", "kafka_obstacle", "local_obstacle", "noida_obstacle", "start_broker", "start_local",
]  # fmt: skip
