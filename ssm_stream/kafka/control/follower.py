"""Follows the control topic without applying anything: for those who show what it holds."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from ssm_stream.config import Config, Source
from ssm_stream.kafka.cluster import check_broker
from ssm_stream.kafka.control.topic import ControlMessages
from ssm_stream.kafka.topic_reader import open_topic

WAIT = 0.5
"""Seconds that one poll waits for messages."""


def follow_control(config: Config, source: Source, ended: threading.Event) -> Iterator[ControlMessages]:
    """Yield what the control topic holds now, and again after each change, until `ended` is set. source: that topic

    Raises:
        BrokerError: the topic does not exist, or the broker refuses or does not answer.
    """
    found = ControlMessages(config)
    with open_topic(source) as reader:
        spans = reader.spans(check_broker(source).partitions_of(source.topic))
        parts = [part for messages in reader.read(spans) for part in messages]
        coming = reader.poll({partition: span.end for partition, span in spans.items()}, wait=WAIT)
        while True:
            found.add(parts)
            yield found
            while not (parts := next(coming)[0]):
                if ended.is_set():
                    return
