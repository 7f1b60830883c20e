"""The sink's producer: a full queue loses, repeats and reorders nothing."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ssm_stream.kafka.producer import OutputProducer
from ssm_stream.kafka.records import OutputBatch


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
