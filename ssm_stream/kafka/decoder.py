"""Messages to events and labels. Each message of a chunk becomes an event, a label or a dead letter with its reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from operator import methodcaller
from typing import Any

import numpy as np

from ssm_stream.config import Config
from ssm_stream.engine.engine import shard_of
from ssm_stream.ingest.control import ControlWindow
from ssm_stream.ingest.events import Events, RefusedDocument
from ssm_stream.ingest.labels import LabelReader, label_test
from ssm_stream.ingest.message_fields import MessageFields
from ssm_stream.ingest.rows.reader import MessageReader
from ssm_stream.kafka.bounded_cache import BoundedCache
from ssm_stream.kafka.context.rows import RowFacts
from ssm_stream.kafka.dead_letters import make_dead_letter
from ssm_stream.kafka.fast_json import FastReader
from ssm_stream.kafka.formats.framing import FIRST_BYTES, strip_frame
from ssm_stream.kafka.formats.messages import max_size, message_format
from ssm_stream.kafka.records import (
    Chunk,
    LabelBatch,
    Message,
    OutputBatch,
    ProducerRecord,
    RawMessages,
    ShardBatch,
    headers_of,
    offset_of,
    offsets_of,
    raw_message,
    rows_by_shard,
    shard_key,
    timestamp_of,
)
from ssm_stream.kafka.wire.messages import MessageBatch, keys_of, values_of

TIMESTAMPS = 4
"""Messages of a chunk whose timestamps are kept."""
Decoded = tuple[str, ShardBatch | LabelBatch | OutputBatch]
"""A shard's key, and a batch of its events or labels, or dead letters, whose key goes by the source partition."""


class Decoder:
    """Decodes chunks of messages into batches of events or labels by shard, and dead letters.

    on_passed_by: takes the number of messages of a chunk whose entities `event.only` leaves out, or signals not used
    control: returns the planned stops of the control topic for the events of a partition, by its `Source.number`, from
        an offset on
    join: sets the columns of context topics of documents, by when the broker got the message of each; returns dead
        letters of facts
    facts: the context topics whose facts rows get in the shard: read as far as the rows of the messages may need
    inspect: takes each chunk of events before it is decoded, as long as it returns True
    """

    def __init__(
        self,
        config: Config,
        on_passed_by: Callable[[int], object] = lambda _: None,
        control: Callable[[int, int], tuple[ControlWindow, ...]] | None = None,
        inspect: Callable[[Chunk], bool] | None = None,
        join: Callable[[Sequence[Any], Sequence[int | None]], list[ProducerRecord]] | None = None,
        facts: RowFacts | None = None,
    ) -> None:
        self._join, self._of_facts, self._facts = join, list[Decoded](), facts
        self.config, self._on_passed_by, self._control, self._inspect = config, on_passed_by, control, inspect
        self._topics = config.source.names
        self.reader = MessageReader(config.event)
        fast = FastReader(self.reader.event)
        self._format = message_format(config)
        self._label_format = message_format(config, labels=True) if config.labels else self._format
        bare = config.labels is None and (config.event.makes_rows or not config.source.context)
        plain = config.event.format in ("json", "auto") and bare
        self._fast = fast if fast.supported and plain else None
        self._shards: BoundedCache[int] = BoundedCache(partial(shard_of, shards=config.state.shards))
        self._max_bytes = config.source.max_message_bytes
        self._framed = False  # whether messages with a schema registry's frame have come
        full = config.state.max_entities is not None and config.state.when_full == "refuse"
        self._keep_raw = full or config.event.makes_rows
        self._labels = LabelReader(config, config.labels) if config.labels else None
        self._fields = MessageFields(config)
        self._is_label = label_test(config.labels)

    def decode(self, chunk: Chunk) -> list[Decoded]:
        """Return the batches of a chunk by shard, and its dead letters."""
        if self._inspect is not None and chunk.topic in self._topics and not self._inspect(chunk):
            self._inspect = None
        out = self._decode(chunk)
        if self._control is not None and chunk.topic in self._topics:
            number = self.config.source.number(chunk.topic, chunk.partition)
            windows = self._control(number, offset_of(chunk.messages[0]))
            out = [(key, i._replace(control=windows) if isinstance(i, ShardBatch) else i) for key, i in out]
        if self.config.event.only or self.config.event.makes_rows:
            decoded = sum(_messages_of(item) for _, item in out)
            self._on_passed_by(len(chunk.messages) - decoded)
        of_facts, self._of_facts = self._of_facts, []
        return out + of_facts

    def _decode(self, chunk: Chunk) -> list[Decoded]:
        out: list[Decoded] = []
        if self._fast is not None and (plain := self._read_fast(self._fast, chunk)) is not None:
            events, refused = self.reader.translate(plain, [])
            out += self._split(chunk, events)
        else:
            refused = self._read_each(chunk, values_of(chunk.messages), out)
        if refused:
            refused.sort()
            records = [self._dead_letter(chunk, refusal) for refusal in refused]
            offsets = [offset_of(chunk.messages[r.position]) for r in refused]
            key = shard_key(chunk.partition % self.config.state.shards)
            out.append((key, OutputBatch(chunk.topic, chunk.partition, offsets[0], offsets[-1], records)))
        return out

    def _read_each(self, chunk: Chunk, values: list[bytes | None], out: list[Decoded]) -> list[RefusedDocument]:
        """Append the events and labels of messages of any kind to `out`, in the order of the messages; return the
        refusals.

        A run of labels between events is a batch of its own, so that no order depends on how messages are cut.
        """
        refused: list[RefusedDocument] = []
        is_label_topic = self.config.labels is not None and chunk.topic == self.config.labels.topic
        read = self._label_format if is_label_topic else self._format
        headers = list(map(methodcaller("headers"), chunk.messages)) if read.needs_headers else None
        documents, positions = read.parse(values, refused, headers)
        add_fields(self._fields, documents, chunk.messages, positions)
        if self._join is not None and not is_label_topic:
            self._join_facts(self._join, chunk, documents, positions)
        if self._labels is None:
            return refused + self._add_events(chunk, documents, positions, out)
        at = range(len(documents)) if positions is None else positions
        if is_label_topic:
            return refused + self._add_labels(chunk, self._labels, documents, at, out)
        if self._is_label is None:
            return refused + self._add_events(chunk, documents, at, out)
        end = 0
        for label, run in groupby(map(self._is_label, documents)):
            begin, end = end, end + len(list(run))
            some, their = documents[begin:end], at[begin:end]
            if label:
                refused += self._add_labels(chunk, self._labels, some, their, out)
            else:
                refused += self._add_events(chunk, some, their, out)
        return refused

    def _add_events(
        self, chunk: Chunk, documents: list[Any], positions: Sequence[int] | None, out: list[Decoded]
    ) -> list[RefusedDocument]:
        """Append the events of documents to `out`; return the refusals. positions: among the messages; None: all"""
        events, misfits = self.reader.read(documents)
        if self._labels is not None:
            events, nameless = self._labels.add_ids(documents, events)
            misfits += nameless
        if positions is not None:
            events = replace(events, position=np.array(positions, np.int64)[events.position])
            misfits = [m._replace(position=positions[m.position]) for m in misfits]
        out += self._split(chunk, events)
        return misfits

    def _join_facts(
        self,
        join: Callable[[Sequence[Any], Sequence[int | None]], list[ProducerRecord]],
        chunk: Chunk,
        documents: list[Any],
        positions: list[int] | None,
    ) -> None:
        """Set the context columns of documents; keep the dead letters of facts, as caused by the chunk."""
        stamps = map(timestamp_of, chunk.messages)
        came = [None if stamp is None else stamp[0] for stamp in stamps]
        letters = join(documents, came if positions is None else [came[i] for i in positions])
        if letters:
            first, key = offset_of(chunk.messages[0]), shard_key(chunk.partition % self.config.state.shards)
            caused = [letter._replace(offset=first) for letter in letters]
            self._of_facts.append((key, OutputBatch(chunk.topic, chunk.partition, first, first, caused)))

    def _read_fast(self, reader: FastReader, chunk: Chunk) -> Events | None:
        """Return the events of plain messages, with a schema registry's frame or without; None if one is not plain."""
        strips = self.config.event.format == "json"  # otherwise its schema decides what follows a frame
        messages = chunk.messages
        values = messages.native if isinstance(messages, MessageBatch) else values_of(messages)
        longest = max_size(values) if isinstance(values, list) else values.longest
        if longest > self._max_bytes or not (strips or (messages[0].value() or b"").startswith(b"{")):
            return None
        keys = keys_of(messages) if reader.by_key else None
        if not self._framed:
            plain = reader.read(values, keys)
            if plain is not None or not strips:
                return plain
        values = values if isinstance(values, list) else values_of(messages)
        self._framed = self._framed or any(value is not None and value[:1] in FIRST_BYTES for value in values)
        return reader.read(list(map(strip_frame, values)), keys) if self._framed else None

    def _split(self, chunk: Chunk, events: Events) -> list[tuple[str, ShardBatch]]:
        """Return the events by shard. The last batch has the timestamps."""
        messages = chunk.messages
        if len(events) < len(messages):
            messages = [messages[i] for i in events.position.tolist()]
        if not messages:
            return []
        if self.config.event.facts:
            stamps = map(timestamp_of, messages)
            came = np.array([0 if stamp is None else stamp[0] for stamp in stamps], np.int64)
            events = replace(events, came=came)
            if self._facts is not None:
                self._facts.read_to(events.ts, came)
        offsets = offsets_of(messages)
        raw = RawMessages(messages) if self._keep_raw else None
        some = map(timestamp_of, messages[:: -(-len(messages) // TIMESTAMPS)])
        timestamps = tuple(found[0] for found in some if found is not None)
        first, topic = offset_of(chunk.messages[0]), self._topic(chunk)
        if self.config.state.shards == 1:
            return [(shard_key(0), ShardBatch(chunk.partition, events, offsets, raw, timestamps, first, topic))]
        batches = [
            (
                key,
                ShardBatch(
                    chunk.partition,
                    events.take(rows),
                    [offsets[i] for i in rows.tolist()],
                    None if raw is None else raw.take(rows.tolist()),
                    chunk=first,
                    topic=topic,
                ),
            )
            for key, rows in rows_by_shard(self._shards.values_of(events.entity))
        ]
        key, last = batches[-1]
        return [*batches[:-1], (key, last._replace(timestamps=timestamps))]

    def _add_labels(
        self, chunk: Chunk, reader: LabelReader, documents: list[Any], positions: Sequence[int], out: list[Decoded]
    ) -> list[RefusedDocument]:
        """Append the labels of documents to `out`; return the refusals. positions: among the messages"""
        labels, misfits = reader.read(documents)
        messages = [chunk.messages[positions[i]] for i in labels.position.tolist()]
        # A position is an offset from here on.
        offsets = np.array([offset_of(message) for message in messages], np.int64)
        labels = replace(labels, position=offsets, raw=[(m.key(), m.value()) for m in messages])
        shards = self._shards.values_of(labels.entity)
        whole = LabelBatch(chunk.partition, labels, topic=self._topic(chunk))
        out += [(key, whole._replace(labels=labels.take(rows))) for key, rows in rows_by_shard(shards)]
        return [m._replace(position=positions[m.position]) for m in misfits]

    def _topic(self, chunk: Chunk) -> str | None:
        """Return the topic of a chunk as its batches have it: None with a single one."""
        return chunk.topic if len(self._topics) > 1 and chunk.topic in self._topics else None

    def _dead_letter(self, chunk: Chunk, refusal: RefusedDocument) -> ProducerRecord:
        message = chunk.messages[refusal.position]
        place = (chunk.topic, chunk.partition, offset_of(message))
        return make_dead_letter(self.config, raw_message(message), place, "decode", refusal.fault, refusal.reason)


def _messages_of(item: ShardBatch | LabelBatch | OutputBatch) -> int:
    """Return the number of messages that a batch has."""
    if isinstance(item, ShardBatch):
        return len(item.events)
    return len(item.labels) if isinstance(item, LabelBatch) else item.size


def add_fields(
    fields: MessageFields, documents: Sequence[Any], messages: Sequence[Message], positions: Sequence[int] | None
) -> None:
    """Add the fields of their messages to documents. positions: of the documents among the messages; None: all"""
    for i, document in enumerate(documents) if fields.paths else ():
        if type(document) is dict:
            message = messages[i if positions is None else positions[i]]
            document.update(fields.values(message.key(), headers_of(message) if fields.has_headers else ()))
