"""What moves through the dataflow: chunks of messages, batches of one shard, and the messages to be produced."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from operator import methodcaller
from typing import Any, NamedTuple, overload

import numpy as np
from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, TIMESTAMP_NOT_AVAILABLE
from numpy.typing import NDArray

from ssm_stream.core.loop import Predictions
from ssm_stream.engine.engine import Alert
from ssm_stream.engine.episodes.ids import Ended
from ssm_stream.engine.summaries.hourly import EndedHours
from ssm_stream.ingest.control import ControlWindow
from ssm_stream.ingest.events import Events, RefusedDocument
from ssm_stream.ingest.labels import Labels
from ssm_stream.ingest.rows.builder import Rows
from ssm_stream.kafka.wire.messages import MessageBatch, ReadMessage
from ssm_stream.ops.observers import Sent

Message = ReadMessage
Headers = list[tuple[str, str | bytes | None]]

offset_of: Callable[[Message], int] = methodcaller("offset")
"""Return the offset of a message that was consumed."""


class RawMessage(NamedTuple):
    """The parts of a message that a dead letter repeats."""

    key: bytes | str | None
    value: bytes | None
    headers: Headers


class RawMessages(Sequence[RawMessage]):
    """Messages of a chunk, whose parts are read when they are needed: few are ever repeated."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self._messages = messages

    def __len__(self) -> int:
        return len(self._messages)

    @overload
    def __getitem__(self, at: int) -> RawMessage: ...
    @overload
    def __getitem__(self, at: slice) -> list[RawMessage]: ...
    def __getitem__(self, at: int | slice) -> RawMessage | list[RawMessage]:
        if isinstance(at, slice):
            return list(map(raw_message, self._messages[at]))
        return raw_message(self._messages[at])

    def take(self, rows: list[int]) -> RawMessages:
        """Return those of these rows."""
        return RawMessages([self._messages[i] for i in rows])

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (list(map(raw_message, self._messages)),)  # the client's messages stay in their process


class Chunk(NamedTuple):
    """Messages of one partition, in offset order, as the client returned them."""

    topic: str
    partition: int
    messages: Sequence[Message]


class ShardBatch(NamedTuple):
    """Events of one chunk that belong to one shard, with the offset of each: of its message, of a row of the one that
    caused it (`ingest/rows`). Until the shard has made rows, the events are messages.

    raw: the messages, where the shard may still refuse one
    timestamps: of some of the messages, ms, from which the latency is measured
    chunk: first offset of the chunk
    topic: that the events come from; None: the configuration's
    control: the planned stops of the control topic that are applied to the partition; None: without such a topic
    again: after a rewind: what the events cause was delivered before
    """

    partition: int
    events: Events
    offsets: Sequence[int]
    raw: Sequence[RawMessage] | None = None
    timestamps: tuple[int, ...] = ()
    chunk: int = 0
    topic: str | None = None
    control: tuple[ControlWindow, ...] | None = None
    again: bool = False

    def with_rows(self, rows: Rows, *, keep_raw: bool = False) -> ShardBatch:
        """Return the batch with the rows of its messages. keep_raw: with the messages that caused them"""
        raw: list[RawMessage] | None = None
        if keep_raw and self.raw is not None:
            at = {offset: i for i, offset in enumerate(self.offsets)}
            raw = [self.raw[at[offset]] for offset in rows.offsets]
        return self._replace(events=rows.events, offsets=rows.offsets, raw=raw)

    def without(self, refused: list[RefusedDocument], admitted: Events) -> ShardBatch:
        """Return the batch without the refused events. admitted: the events that remain"""
        gone = {refusal.position for refusal in refused}
        offsets = [offset for i, offset in enumerate(self.offsets) if i not in gone] if gone else self.offsets
        return self._replace(events=admitted, offsets=offsets, raw=None)

    def slice(self, begin: int, end: int) -> ShardBatch:
        """Return the events in [begin, end); the last slice has the timestamps."""
        raw = None if self.raw is None else self.raw[begin:end]
        timestamps = self.timestamps if end == len(self.events) else ()
        events = self.events.take(np.arange(begin, end))
        return self._replace(events=events, offsets=self.offsets[begin:end], raw=raw, timestamps=timestamps)


class LabelBatch(NamedTuple):
    """Labels of one chunk that belong to one shard, with the offset of each as their position.

    again: as of `ShardBatch`
    topic: that they come from; None: that of labels, or the only events topic
    """

    partition: int
    labels: Labels
    again: bool = False
    topic: str | None = None


class CaughtUp(NamedTuple):
    """A shard has what was delivered before a rewind behind it, up to an offset of a partition.

    open: its episodes from that partition whose beginning consumers have, and whose end they have not
    """

    shard: int
    topic: str
    partition: int
    offset: int
    open: list[Ended]


class PredictedBatch(NamedTuple):
    """A shard batch with the engine's results, to be encoded by the sink.

    ended: hours that it ends; gaps: by row: offsets that are missing before it (`recovery/resume/gaps.py`)
    """

    batch: ShardBatch
    predictions: Predictions
    alerts: list[Alert]
    ended: Sequence[EndedHours] = ()
    gaps: Mapping[int, int] | None = None


class ProducerRecord(NamedTuple):
    """One message to be produced. offset: of the message that caused it; sent: how metrics count it"""

    topic: str
    key: bytes | str | None
    value: bytes | None
    headers: Headers | None
    offset: int
    sent: Sent | None = None


class OutputBatch(NamedTuple):
    """The messages to be produced for one batch of one partition of a source topic; the offsets of the messages that
    caused them lie in [first, last].

    Predictions are columns: `keys` and `values` for the one topic `predictions`, and `offsets` of the messages that
    caused them. They come before the `others`.
    """

    topic: str
    partition: int
    first: int
    last: int
    others: list[ProducerRecord]
    predictions: str | None = None
    keys: list[str] = []  # noqa: RUF012  # of a tuple
    values: Sequence[bytes] = ()
    offsets: Sequence[int] = ()

    @property
    def size(self) -> int:
        """Number of messages."""
        return len(self.values) + len(self.others)

    @property
    def records(self) -> list[ProducerRecord]:
        """All messages one by one, in the order of production."""
        if self.predictions is None:
            return self.others
        rows = zip(self.keys, self.values, self.offsets, strict=True)
        return [
            *(ProducerRecord(self.predictions, key, value, None, offset) for key, value, offset in rows),
            *self.others,
        ]

    def caused_from(self, offset: int) -> OutputBatch:
        """Return the batch without what messages before that offset caused."""
        others = [record for record in self.others if record.offset >= offset]
        if not (at := bisect_left(self.offsets, offset)):
            return self._replace(others=others)
        return self._replace(others=others, keys=self.keys[at:], values=self.values[at:], offsets=self.offsets[at:])


def shard_key(shard: int) -> str:
    """Return the shard's key in Bytewax, which sorts keys as text."""
    return f"{shard:04d}"


def rows_by_shard(shards: list[int]) -> list[tuple[str, NDArray[np.intp]]]:
    """Return the rows of each shard that has some, by its key. shards: of each row"""
    if not shards:
        return []
    shard = np.array(shards, np.int64)
    order = np.argsort(shard, kind="stable")
    cuts = np.flatnonzero(np.diff(shard[order])) + 1
    return [(shard_key(int(shard[rows[0]])), rows) for rows in np.split(order, cuts)]


def offsets_of(messages: Sequence[Message]) -> Sequence[int]:
    """Return the offsets of a partition's messages, of which there is at least one, in offset order."""
    first, last = offset_of(messages[0]), offset_of(messages[-1])
    if last - first == len(messages) - 1:  # none is left out between, as almost always
        return range(first, last + 1)
    return messages.native.offsets() if isinstance(messages, MessageBatch) else list(map(offset_of, messages))


def headers_of(message: Message) -> Headers:
    """Return the headers of a message; an empty list if it has none."""
    headers = message.headers()
    return list(headers.items()) if isinstance(headers, dict) else list(headers or [])


def raw_message(message: Message) -> RawMessage:
    """Return key, value and headers of a message."""
    return RawMessage(message.key(), message.value(), headers_of(message))


def timestamp_of(message: Message) -> tuple[int, bool] | None:
    """Return a message's timestamp, ms, and whether the broker set it; None if the message has none."""
    kind, ms = message.timestamp()
    return None if kind == TIMESTAMP_NOT_AVAILABLE else (ms, kind == TIMESTAMP_LOG_APPEND_TIME)
