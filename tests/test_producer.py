"""The sink's producer: a full queue loses, repeats and reorders nothing."""

from __future__ import annotations

import time
from typing import Any

import pytest
from brokers import MockKafka
from confluent_kafka import KafkaError
from hypothesis import given
from hypothesis import strategies as st

from ssm_stream.config import parse_config
from ssm_stream.kafka.client import BrokerError
from ssm_stream.kafka.embedded_broker import ApiKey
from ssm_stream.kafka.producer import OutputProducer
from ssm_stream.kafka.records import OutputBatch, ProducerRecord


class FullProducer:
    """A client that takes every message at the second attempt, where it has been told so."""

    takes_batches = False

    def __init__(self, full: set[int]) -> None:
        self._full = full
        self.taken: list[tuple[str, Any, Any]] = []

    def produce(self, topic: str, value: Any, key: Any, headers: Any = None) -> None:
        if value in self._full:
            self._full.discard(value)
            raise BufferError
        self.taken.append((topic, value, key))

    def poll(self, seconds: float) -> None:
        assert seconds > 0, "the queue is full: wait"


@given(st.sets(st.integers(0, 9)), st.integers(0, 10))
def test_a_full_queue_loses_repeats_and_reorders_nothing(full: set[int], n: int) -> None:
    producer: Any = object.__new__(OutputProducer)
    producer._producer, producer._failed, producer._oversized = FullProducer(full), None, []
    producer._at_once = 3
    keys, values = [f"k{i}" for i in range(n)], list(range(n))
    producer.produce(OutputBatch("t", 0, 0, n, [], "p", keys, values, values))  # type: ignore[arg-type]
    assert producer._producer.taken == [("p", value, key) for value, key in zip(values, keys, strict=True)]


class SilentProducer:
    """A client that never hears from its broker, and misses the timeouts of its messages."""

    takes_batches = True

    def __init__(self, messages: int) -> None:
        self._messages = messages

    def __len__(self) -> int:
        return self._messages

    def flush(self, seconds: float) -> int:
        return self._messages

    def failure(self) -> None:
        return None


@pytest.mark.parametrize("hurried", [False, True])
def test_a_client_that_misses_its_own_timeout_is_given_up_before_it_gets_more(hurried: bool) -> None:
    config = parse_config("source: {brokers: 'localhost:1', topic: t}\nevent: {entity: e, timestamp: ts, target: y}\n")
    producer: Any = OutputProducer(config)
    producer._producer, producer.hurried, producer._stalled_after = SilentProducer(10**7), lambda: hurried, 0.05
    with pytest.raises(BrokerError, match=r"10000000 messages to localhost:1 timed out") as found:
        producer.produce(OutputBatch("t", 0, 0, 1, [], "p", ["k"], [b"{}"], [0]))
    assert found.value.passes
    with pytest.raises(BrokerError, match="timed out"):
        producer.deliver()


def test_a_message_for_a_client_that_has_given_up_tells_why(mock_kafka: MockKafka) -> None:
    """Before any report of the message that the broker refused for good: the client itself says `fatal`, no more."""
    topic = mock_kafka.topic("out")
    config = parse_config(
        f"source: {{brokers: '{mock_kafka.bootstrap_servers}', topic: t}}\n"
        "event: {entity: e, timestamp: ts, target: y}\n"
    )
    producer: Any = OutputProducer(config)
    mock_kafka.push_errors(ApiKey.PRODUCE, [KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER] * 3)

    def produce_for_ten_seconds() -> None:
        for _ in range(500):
            producer._produce(ProducerRecord(topic, "k", b"{}", None, 0))
            time.sleep(0.02)

    with pytest.raises(BrokerError, match=r"the client has given up: .*[Ss]equence") as found:
        produce_for_ten_seconds()
    assert found.value.passes
