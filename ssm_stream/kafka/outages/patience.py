"""Requests that are repeated while they fail with an error that passes by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TypeVar

import structlog
from confluent_kafka import Consumer, KafkaException, TopicPartition

from ssm_stream.kafka.outages.classify import is_retriable, kafka_error

LOG = structlog.get_logger("ssm_stream.kafka")
FIRST_PAUSE, MAX_PAUSE = 0.05, 1.0
"""Seconds between two attempts; each pause is twice the one before."""
LEAST = 0.1
"""Seconds that a request has at least."""
T = TypeVar("T")


def patiently(what: str, call: Callable[[float], T], wait: float) -> T:
    """Return the call's result; repeat it while it fails with an error that passes by itself.

    Args:
        what: for the log
        call: takes the seconds that are left
        wait: seconds for all attempts together

    Raises:
        KafkaException: another error, or this one still when the time is over.
    """
    deadline, pause = time.monotonic() + wait, FIRST_PAUSE
    while True:
        try:
            return call(max(deadline - time.monotonic(), LEAST))
        except KafkaException as error:
            reason = kafka_error(error)
            if not is_retriable(reason) or time.monotonic() + pause > deadline:
                raise
            LOG.info("waiting", what=what, why=reason.str())
        time.sleep(pause)
        pause = min(2 * pause, MAX_PAUSE)


def watermarks(client: Consumer, place: TopicPartition, wait: float) -> tuple[int, int]:
    """Return the first offset of a partition, and the one after its last.

    Raises:
        KafkaException: the broker refuses, or does not answer within `wait` seconds.
    """
    what = f"offsets of {place.topic}-{place.partition}"
    low, high = patiently(what, lambda left: client.get_watermark_offsets(place, timeout=left), wait)
    return int(low), int(high)


def committed(client: Consumer, places: Iterable[TopicPartition], wait: float) -> list[TopicPartition]:
    """Return the committed offsets of a client's group.

    Raises:
        KafkaException: the broker refuses, or does not answer within `wait` seconds.
    """
    return _of_places("committed offsets", client.committed, places, wait)


def offsets_at(client: Consumer, places: Iterable[TopicPartition], wait: float) -> list[TopicPartition]:
    """Return the first offsets whose messages are not earlier than the time that stands for the offset of each place.

    Raises:
        KafkaException: the broker refuses, or does not answer within `wait` seconds.
    """
    return _of_places("offsets of a time", client.offsets_for_times, places, wait)


def _of_places(
    what: str, call: Callable[..., list[TopicPartition]], places: Iterable[TopicPartition], wait: float
) -> list[TopicPartition]:
    """Return what the client answers for places, none of which may have an error."""
    requested = list(places)

    def request(left: float) -> list[TopicPartition]:
        found = call(requested, timeout=left)
        for place in found:
            if place.error is not None:
                raise KafkaException(place.error)
        return found

    return patiently(what, request, wait)
