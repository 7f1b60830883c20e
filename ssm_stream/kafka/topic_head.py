"""The first messages of the events topic, read before the dataflow starts and without moving any position."""

from __future__ import annotations

import time
from typing import Any

import orjson
from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, Message, TopicPartition

from ssm_stream.config import ConfigError, Source
from ssm_stream.kafka.client import BrokerError, LastError, metadata_client, scrubbed
from ssm_stream.kafka.codec import unframed


def sampled(source: Source, partitions: tuple[int, ...], most: int) -> tuple[list[Any], bool]:
    """JSON documents from the beginning of the partitions, of what is there now, and whether some have a schema
    registry's frame. None where nothing is there, or no JSON.

    Raises:
        BrokerError: the broker refuses, or does not answer.
    """
    documents, messages = _documents(source, partitions, most, until_eof=True)
    return documents, any((message.value() or b"")[:1] == b"\0" for message in messages)


def first_documents(source: Source, partitions: tuple[int, ...], most: int, *, until_eof: bool) -> list[Any]:
    """JSON documents from the beginning of the partitions, as evenly from each as they come.

    With too few on the topic it waits for more, `source.wait` seconds at most; with `until_eof` it takes what is there.

    Raises:
        BrokerError: the broker refuses, or does not answer.
        ConfigError: no message is JSON, or none came.
    """
    documents, messages = _documents(source, partitions, most, until_eof=until_eof)
    if documents:
        return documents
    found = f"none of its first {len(messages)} messages is JSON" if messages else "it is empty"
    raise ConfigError(
        f"event.features: auto: there is nothing to pick from on topic {source.topic!r} ({found}): start when events "
        "come, or list the features"
    )


def _documents(
    source: Source, partitions: tuple[int, ...], most: int, *, until_eof: bool
) -> tuple[list[Any], list[Message]]:
    """The documents, and the messages that were looked at. Raises where the broker does not answer."""
    remember = LastError(source)
    try:
        messages, ended = _first_messages(source, partitions, most, remember, until_eof=until_eof)
    except KafkaException as error:
        reason = scrubbed(str(error.args[0]), source.kafka)
        raise BrokerError(f"topic {source.topic!r} on {source.brokers}: {reason}", remember.cure) from error
    if not messages and not ended:
        found = f"no message of topic {source.topic!r} on {source.brokers} came within {source.wait:g} s (source.wait)"
        raise BrokerError(found + (f": {remember.text}" if remember.text else ""), remember.cure)
    documents = []
    for message in messages:
        try:
            documents.append(orjson.loads(unframed(message.value()) or b""))
        except orjson.JSONDecodeError:
            continue  # it will be a dead letter
    return documents, messages


def _first_messages(
    source: Source, partitions: tuple[int, ...], most: int, remember: LastError, *, until_eof: bool
) -> tuple[list[Message], bool]:
    """`most` messages or fewer, the first of each partition before the second of any; and whether all have ended."""
    share = -(-most // len(partitions))
    found: dict[int, list[Message]] = {partition: [] for partition in partitions}
    ended: set[int] = set()
    deadline = time.monotonic() + source.wait
    settings: dict[str, str | bool] = {
        "enable.partition.eof": True,
        "auto.offset.reset": "earliest",
        "isolation.level": "read_committed",
    }
    with metadata_client(source, remember, **settings) as client:
        client.list_topics(source.topic, timeout=source.wait)  # a client that knows the topic starts at once
        client.assign([TopicPartition(source.topic, partition, OFFSET_BEGINNING) for partition in partitions])
        while time.monotonic() < deadline:
            enough = sum(map(len, found.values())) >= most
            # A partition that has its share, or no more, need not be waited for.
            served = all(len(some) >= share or partition in ended for partition, some in found.items())
            if served and (enough or (until_eof and ended.issuperset(p for p in found if len(found[p]) < most))):
                break
            for message in client.consume(most, 0.1):
                partition, error = message.partition(), message.error()
                assert partition is not None
                if error is None:
                    ended.discard(partition)
                    some = found[partition]
                    if len(some) < most:
                        some.append(message)
                    if len(some) == most:
                        client.pause([TopicPartition(source.topic, partition)])
                elif error.code() == KafkaError._PARTITION_EOF:
                    ended.add(partition)
                elif not error.retriable():
                    raise KafkaException(error)
    rounds = [(i, partition) for partition, some in found.items() for i in range(len(some))]
    return [found[partition][i] for i, partition in sorted(rounds)[:most]], len(ended) == len(partitions)
