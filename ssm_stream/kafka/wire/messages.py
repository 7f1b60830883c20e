"""Messages of one partition without an object for each: one is made where a single message is needed."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from functools import cached_property
from operator import methodcaller
from typing import Any, Protocol, overload

from ssm_stream.core import native

HeaderList = list[tuple[str, bytes | None]]


class ReadMessage(Protocol):
    """What is used of a message of confluent-kafka that was consumed."""

    def key(self) -> bytes | str | None: ...
    def value(self) -> bytes | None: ...
    def headers(self) -> Any: ...
    def offset(self) -> int | None: ...
    def timestamp(self) -> tuple[int, int]: ...
    def partition(self) -> int | None: ...
    def topic(self) -> str | None: ...


class NativeMessage:
    """One message of a batch."""

    __slots__ = ("_at", "_batch")

    def __init__(self, batch: MessageBatch, at: int) -> None:
        self._batch, self._at = batch, at

    def key(self) -> bytes | None:
        return self._batch.native.key(self._at)

    def value(self) -> bytes | None:
        return self._batch.native.value(self._at)

    def headers(self) -> HeaderList | None:
        return self._batch.native.headers(self._at)

    def offset(self) -> int:
        return self._batch.native.offset(self._at)

    def timestamp(self) -> tuple[int, int]:
        """Return the kind of the timestamp, as confluent-kafka numbers them, and ms since 1970."""
        return self._batch.native.timestamp(self._at)

    def partition(self) -> int:
        return self._batch.native.partition

    def topic(self) -> str:
        return self._batch.topic


class MessageBatch(Sequence[NativeMessage]):
    """Messages of one partition, in offset order."""

    def __init__(self, topic: str, messages: native.Messages) -> None:
        self.topic, self.native, self._size = topic, messages, len(messages)

    @cached_property
    def values(self) -> list[bytes | None]:
        """Their values, which are made once: several readers may try a chunk."""
        return self.native.values()

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, at: int) -> NativeMessage: ...
    @overload
    def __getitem__(self, at: slice) -> list[NativeMessage]: ...
    def __getitem__(self, at: int | slice) -> NativeMessage | list[NativeMessage]:
        if isinstance(at, slice):
            return [NativeMessage(self, i) for i in range(*at.indices(self._size))]
        if not -self._size <= at < self._size:
            raise IndexError(at)
        return NativeMessage(self, at % self._size)


def values_of(messages: Sequence[ReadMessage]) -> list[bytes | None]:
    """Return the values of messages."""
    if isinstance(messages, MessageBatch):
        return messages.values
    return list(map(methodcaller("value"), messages))


def keys_of(messages: Sequence[ReadMessage]) -> list[bytes | str | None]:
    """Return the keys of messages."""
    if isinstance(messages, MessageBatch):
        return messages.native.keys()
    return list(map(methodcaller("key"), messages))


def unread(messages: Sequence[ReadMessage], first: int) -> Sequence[ReadMessage]:
    """Return the messages of a partition from an offset on, each once.

    While a group moves partitions, the client pauses all of them by a thread of its own. A message that it hands over
    at this moment is not counted as read there: when the partition goes on, it comes once more.
    """
    if isinstance(messages, MessageBatch):  # the core has left out what came twice within the batch
        begin = 0 if messages.native.offset(0) >= first else bisect_left(messages.native.offsets(), first)
        return messages[begin:] if begin else messages
    found = list[ReadMessage]()
    for message in messages:
        if (offset := message.offset() or 0) >= first:
            found.append(message)
            first = offset + 1
    return found
