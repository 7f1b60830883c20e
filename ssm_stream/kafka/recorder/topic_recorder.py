"""Records what a topic holds, between two times, as a Parquet file."""

from __future__ import annotations

import contextlib
import gc
import time
from collections import Counter
from collections.abc import Callable, Iterator
from operator import methodcaller
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssm_stream.config import Config
from ssm_stream.evaluate.recordings import RecordingError
from ssm_stream.evaluate.recordings.context_files import file_to_write, write_facts
from ssm_stream.evaluate.recordings.topic_file import Places, TopicFile
from ssm_stream.kafka.cluster import check_broker
from ssm_stream.kafka.context.rows import row_facts
from ssm_stream.kafka.recorder.message_parser import MessageParser
from ssm_stream.kafka.records import Message, offset_of
from ssm_stream.kafka.topic_reader import Span, TopicReader, open_topic
from ssm_stream.kafka.wire.messages import keys_of

BATCH = 5000
"""Messages that are parsed at a time."""
Ints = NDArray[np.int64]


class Recorded(NamedTuple):
    """What was recorded.

    rows, columns: of the file; messages: read, the unreadable ones among them; partitions: of the topics
    unreadable: messages that are no JSON objects (or not in `event.format`), by fault; example: one of them in words
    facts: of context topics whose columns rows get: number by file next to the recording
    first, last: timestamps of the earliest and the latest message, ms; seconds: from the first request to the file
    held_back: what is missing as it waits for a transaction that is open, in words, with the cure
    """

    rows: int
    columns: int
    messages: int
    partitions: int
    unreadable: Counter[str]
    example: str
    first: int
    last: int
    seconds: float
    facts: dict[str, int]
    held_back: list[tuple[str, str]]

    @property
    def events_per_s(self) -> float:
        return self.rows / self.seconds if self.seconds > 0 else 0.0


class Progress(NamedTuple):
    """How far a recording is, in messages. total: between the offsets, some of which may hold none"""

    done: int
    total: int


def record_topic(
    config: Config,
    path: Path,
    *,
    since: int | None = None,
    until: int | None = None,
    on_progress: Callable[[Progress], object] = lambda _: None,
) -> Recorded:
    """Write what the events topics hold now to a file: committed messages, to the ends that the partitions have now.

    Args:
        path: of the Parquet file; it appears when it is complete
        since, until: timestamps of messages, ms: from the first message of each partition that is not earlier, up to
            the first that is not earlier than `until`
        on_progress: called after each batch

    Raises:
        BrokerError: the topic does not exist, or the broker refuses or does not answer.
        RecordingError: there is no event between the times.
    """
    began, source = time.perf_counter(), config.source
    cluster = check_broker(source)
    partitions = [partition for each in source.each for partition in cluster.source_partitions(each)]
    parse = MessageParser(config)
    first, last, messages, total = 2**62, -(2**62), 0, 0
    held_back = list[tuple[str, str]]()
    with _no_collections(), TopicFile(path) as file:
        for each in source.each:
            with open_topic(each) as reader:
                spans = reader.spans(cluster.source_partitions(each), since=since, until=until)
                # Not of those that `until` ends before.
                whole = [p for p, now in reader.spans(spans).items() if spans[p].end >= now.end]
                if held := reader.held_back(whole):
                    held_back.append(held)
                total += sum(span.end - span.begin for span in spans.values())
                for batch, places in _read(reader, spans):
                    messages += len(batch)
                    first, last = min(first, int(places.ts.min())), max(last, int(places.ts.max()))
                    numbers = places.partition + source.number(each.topic, 0)
                    file.add(*parse(batch, places._replace(partition=numbers)))
                    on_progress(Progress(messages, total))
        if not file.rows:
            found = f"none of its {messages:,} messages is an event" if messages else "it holds no message"
            names = ", ".join(map(repr, source.names))
            raise RecordingError(
                f"topic {names} on {source.brokers}: {found} between the times given; choose --since earlier, "
                "or send events first"
            )
        file.finish()
    facts = _record_facts(config, path)
    return Recorded(
        file.rows, len(file.columns), messages, len(partitions), parse.unreadable, parse.example, first, last,
        time.perf_counter() - began, facts, held_back,
    )  # fmt: skip


def _record_facts(config: Config, path: Path) -> dict[str, int]:
    """Write what the context topics hold whose columns rows get; return the number of facts by file."""
    found = row_facts(config)
    topics = zip(config.source.context, found.topics(), strict=True) if found is not None else ()
    return {
        file_to_write(path, section.topic).name: write_facts(path, section.topic, topic.table.facts())
        for section, topic in topics
    }


def _read(reader: TopicReader, spans: dict[int, Span]) -> Iterator[tuple[list[Message], Places]]:
    """Yield the messages of the spans and their places, those of a partition in order.

    Raises:
        BrokerError: nothing came for `source.wait` seconds.
    """
    left = {partition for partition, span in spans.items() if span.begin < span.end}
    if not left:
        return
    ends = np.zeros(max(spans) + 1, np.int64)
    for partition, span in spans.items():
        ends[partition] = span.end
    began = time.monotonic()
    for messages, ended in reader.poll({p: spans[p].begin for p in left}, BATCH):
        left -= ended
        if messages:
            number = np.fromiter(map(methodcaller("partition"), messages), np.int64, len(messages))
            offset = np.fromiter(map(offset_of, messages), np.int64, len(messages))
            inside = offset < ends[number]
            left.difference_update(np.unique(number[offset + 1 >= ends[number]]).tolist())
            if not inside.all():
                rows = np.flatnonzero(inside)
                messages, number, offset = [messages[i] for i in rows.tolist()], number[rows], offset[rows]
            if messages:
                ts = np.fromiter(
                    (stamp for _, stamp in map(methodcaller("timestamp"), messages)), np.int64, len(messages)
                )
                yield messages, Places(number, offset, ts, keys_of(messages))
        if not left:
            return
        if messages or ended:
            began = time.monotonic()
        elif time.monotonic() - began > reader.source.wait:
            raise reader.silence()


@contextlib.contextmanager
def _no_collections() -> Iterator[None]:
    """Pause the collection of cycles, which would visit each new document several times; documents have none."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
