"""Follows a topic in a thread: what it holds at the start, then what comes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ssm_stream.config import Source
from ssm_stream.kafka.client import BrokerError
from ssm_stream.kafka.cluster import check_broker
from ssm_stream.kafka.records import Message, offset_of
from ssm_stream.kafka.topic_reader import TopicReader, open_topic

WAIT = 0.25
"""Seconds that one poll waits for messages."""
CHECK_EVERY, PARTITIONS_EVERY = 10.0, 60.0
"""Seconds between two checks of how far the reading is behind, and for partitions that were added."""
AGAIN = 5.0
"""Seconds after which a topic is read again that could not be read."""
MAX_WAIT = 10.0
"""Seconds that the broker has to answer."""
BATCH = 2000


class FollowedTopic:
    """A topic and how far it is read: committed messages, in no group.

    Args:
        source: with its name
        last: begin with the last so many messages, over all partitions; whoever is further behind leaves out the rest
        last_each: begin with the last so many of each partition
        since: begin with the first message that is not older, ms since 1970

    Attributes:
        loaded: set once what the topic held at the start is read
        error: why it cannot be read, empty if it can
        skipped: messages that were left out as more came than could be read
        received: when the last one came, ms
    """

    def __init__(
        self, source: Source, *, last: int | None = None, last_each: int | None = None, since: int | None = None
    ) -> None:
        self._source = source.model_copy(update={"wait": min(source.wait, MAX_WAIT)})
        self._last, self._last_each, self._since = last, last_each, since
        self._positions = dict[int, int]()
        self.topic = source.topic
        self.loaded = threading.Event()
        self.error = ""
        self.skipped = self.read = self.received = 0

    def start(self, add: Callable[[list[Message]], None], ended: threading.Event, name: str) -> None:
        """Follow in a thread of this name until `ended` is set. add: is called with messages as they come"""
        threading.Thread(target=self._follow, args=(add, ended), name=name, daemon=True).start()

    def _follow(self, add: Callable[[list[Message]], None], ended: threading.Event) -> None:
        while not ended.is_set():
            try:
                partitions = self._partitions()
                with open_topic(self._source) as reader:
                    while not ended.is_set() and self._partitions() == partitions:
                        self._read(reader, partitions, add, ended)
            except BrokerError as error:
                self.error = str(error)
                ended.wait(AGAIN)

    def _partitions(self) -> tuple[int, ...]:
        return check_broker(self._source).partitions_of(self.topic)

    def _read(
        self,
        reader: TopicReader,
        partitions: tuple[int, ...],
        add: Callable[[list[Message]], None],
        ended: threading.Event,
    ) -> None:
        """Read from the positions on, until they are to be determined anew."""
        each = None if self._last is None else max(self._last // len(partitions), 1)
        left, positions = set(partitions), self._positions
        for partition, span in reader.spans(partitions, last=each or self._last_each, since=self._since).items():
            begin = max(span.begin, min(positions.get(partition, span.begin), span.end))
            self.skipped += begin - positions.get(partition, begin)
            positions[partition] = begin
            if begin == span.end:
                left.discard(partition)
        began = checked = time.monotonic()
        self.error = ""
        for messages, at_end in reader.poll(dict(positions), BATCH, WAIT):
            if ended.is_set():
                return
            if messages:
                add(messages)
                self.read += len(messages)
                self.received = messages[-1].timestamp()[1]
            for message in messages:
                positions[message.partition() or 0] = offset_of(message) + 1
            left -= at_end
            if not left:
                self.loaded.set()
            if time.monotonic() - checked > CHECK_EVERY:
                checked = time.monotonic()
                late = {} if each is None else reader.spans(partitions, last=each)
                if any(span.begin > positions[partition] for partition, span in late.items()):
                    return
                if checked - began > PARTITIONS_EVERY:
                    return
