"""The messages that have come, by partition: in batches of the native core, or message by message."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from confluent_kafka import Consumer, KafkaError, Message

from ssm_stream.core import native
from ssm_stream.kafka.wire.library import latest_client
from ssm_stream.kafka.wire.messages import MessageBatch, ReadMessage

IDLE_POLL = 0.02
"""Seconds in which the first message may come."""
LINGER = 0.002
"""Seconds in which messages that come one by one are collected."""
BATCHES = 8
"""Batches that are read at once where so many messages wait, as one chunk a partition: what costs something a chunk is
rarer by large ones."""
Timed = Callable[[str], AbstractContextManager[object]]


class Fetched(NamedTuple):
    """What has come of one partition, in offset order. partition: None for an error of all of them

    errors: events of the client: the partition's end, or an error; ends: such an event came last
    end: the offset of the last event: at a partition's end, the next that is fetched, behind markers of transactions
    """

    partition: int | None
    messages: Sequence[ReadMessage]
    errors: Sequence[KafkaError] = ()
    ends: bool = False
    end: int = -1


class Fetcher(Protocol):
    """Returns what a consumer has read."""

    def add(self, topic: str, partitions: Iterable[int]) -> None:
        """Prepare for partitions: before they are assigned, and once more after it."""

    def fetch(self, most: int, timed: Timed) -> list[Fetched]:
        """Return the next messages, and events of the client; an empty list if none come within `IDLE_POLL`.

        Args:
            most: messages of a batch
            timed: measures the reading, without the wait for the first message
        """

    def close(self) -> None:
        """Free what the consumer must not find when it closes."""


def fetcher_of(consumer: Consumer, topic: str) -> Fetcher:
    """Return the fetcher of a consumer that this thread has made just now (`with_plugin`)."""
    client = latest_client()
    return BatchFetcher(consumer, topic, client) if client else MessageFetcher(consumer)


class BatchFetcher:
    """Reads batches past the interpreter. The consumer's own queue keeps callbacks, and errors of all partitions."""

    def __init__(self, consumer: Consumer, topic: str, client: int) -> None:
        self._consumer, self._topic = consumer, topic
        self._rest = MessageFetcher(consumer)
        self._reading = native.Reading(client)

    def add(self, topic: str, partitions: Iterable[int]) -> None:
        for partition in partitions:
            self._reading.add(topic, partition)

    def fetch(self, most: int, timed: Timed) -> list[Fetched]:
        if (first := self._consumer.poll(0)) is not None:
            return self._rest.complete(first, most, timed)
        if not self._reading.wait(round(IDLE_POLL * 1000)):
            return []
        with timed("read"):
            found = self._reading.read(BATCHES * most, round(LINGER * 1000))
        return [
            Fetched(
                partition,
                () if messages is None else MessageBatch(self._topic, messages),
                [KafkaError(code, text) for code, text in events],
                ends,
                end,
            )
            for partition, messages, events, ends, end in found
        ]

    def close(self) -> None:
        self._reading.close()


class MessageFetcher:
    """Reads message by message."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer

    def add(self, topic: str, partitions: Iterable[int]) -> None:
        """Nothing is to prepare."""

    def fetch(self, most: int, timed: Timed) -> list[Fetched]:
        # The first message at once, and those that are there already or follow it within a moment.
        first = self._consumer.poll(IDLE_POLL)
        return [] if first is None else self.complete(first, most, timed)

    def complete(self, first: Message, most: int, timed: Timed) -> list[Fetched]:
        """Return a message, and those that are there already or follow it within a moment."""
        with timed("read"):
            rest = self._consumer.consume(most - 1, LINGER) if most > 1 else []
        messages = [first, *rest]
        partitions = list(map(Message.partition, messages))
        plain = not any(map(Message.error, messages))
        if plain and partitions.count(partitions[0]) == len(partitions):
            return [Fetched(partitions[0], messages)]
        fetched = []
        for partition in dict.fromkeys(partitions):
            own = [m for m, at in zip(messages, partitions, strict=True) if at == partition]
            errors = [error for message in own if (error := message.error()) is not None]
            good = [message for message in own if message.error() is None]
            end = next((message.offset() for message in reversed(own) if message.error() is not None), None)
            fetched.append(Fetched(partition, good, errors, own[-1].error() is not None, -1 if end is None else end))
        return fetched

    def close(self) -> None:
        """Nothing is to free."""
