"""A topic read once from here to there: in no group, and without moving any position."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from ssm_stream.config import Source
from ssm_stream.kafka.client import BrokerError, LastError, metadata_client, scrubbed

BATCH = 1000


class Span(NamedTuple):
    """Offsets of a partition, the end not included."""

    begin: int
    end: int


def spans(
    source: Source, partitions: tuple[int, ...], since: int | None = None, last: int | None = None
) -> dict[int, Span]:
    """Partition → what it holds now. since: from that time on, ms; last: so many messages at most

    Raises:
        BrokerError: the broker refuses, or does not answer.
    """
    remember, out = LastError(source), dict[int, Span]()
    with metadata_client(source, remember) as client:
        try:
            for partition in partitions:
                place = TopicPartition(source.topic, partition)
                low, high = client.get_watermark_offsets(place, timeout=source.wait)
                begin = low
                if since is not None:
                    (found,) = client.offsets_for_times(
                        [TopicPartition(source.topic, partition, since)], timeout=source.wait
                    )
                    begin = high if found.offset < 0 else max(low, found.offset)
                out[partition] = Span(begin if last is None else max(begin, high - last), high)
        except KafkaException as error:
            raise _unanswered(source, error, remember) from error
    return out


def scan(source: Source, wanted: Mapping[int, Span]) -> Iterator[list[Message]]:
    """The committed messages of these spans, those of a partition in order.

    Raises:
        BrokerError: the broker refuses, or is silent for `source.wait`.
    """
    left = {partition for partition, span in wanted.items() if span.begin < span.end}
    if not left:
        return
    remember = LastError(source)
    settings: dict[str, str | bool] = {"enable.partition.eof": True, "isolation.level": "read_committed"}
    with metadata_client(source, remember, **settings) as client:
        try:
            client.list_topics(source.topic, timeout=source.wait)  # a client that knows the topic starts at once
            client.assign([TopicPartition(source.topic, p, wanted[p].begin) for p in sorted(left)])
            heard = time.monotonic()
            while left:
                some = []
                for message in client.consume(BATCH, 0.1):
                    heard = time.monotonic()
                    partition, error = message.partition(), message.error()
                    assert partition is not None
                    if error is None:
                        offset = message.offset()
                        assert offset is not None
                        if offset < wanted[partition].end:
                            some.append(message)
                        if offset + 1 >= wanted[partition].end:
                            left.discard(partition)
                    elif error.code() == KafkaError._PARTITION_EOF:
                        left.discard(partition)
                    elif not error.retriable():
                        raise KafkaException(error)
                if some:
                    yield some
                if time.monotonic() - heard > source.wait:
                    text = (
                        f"topic {source.topic!r} on {source.brokers} did not answer for {source.wait:g} s (source.wait)"
                    )
                    raise BrokerError(text + (f": {remember.text}" if remember.text else ""), remember.cure)
        except KafkaException as error:
            raise _unanswered(source, error, remember) from error


def _unanswered(source: Source, error: KafkaException, remember: LastError) -> BrokerError:
    reason = scrubbed(str(error.args[0]), source.kafka)
    return BrokerError(f"topic {source.topic!r} on {source.brokers}: {reason}", remember.cure)
