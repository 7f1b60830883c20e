"""Sends the recordings of the demonstration to their topics."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from ssm_stream.evaluate.recordings import Recording
from ssm_stream.flow.demonstration.streams import DemoStream
from ssm_stream.kafka.client import client_properties
from ssm_stream.kafka.replay import ReplayError, RowProducer, replay


@contextlib.contextmanager
def replaying(streams: list[DemoStream], rate: float) -> Iterator[list[str]]:
    """Send the recordings to their topics, a thread each; yields a list that receives an error, if any.

    Args:
        rate: events a second of all; each stream has its share, so that all end at the same time
    """
    stop, failed = threading.Event(), list[str]()
    total = sum(stream.rows for stream in streams)

    def send(stream: DemoStream) -> None:
        source, share = stream.config.source, rate * stream.rows / total
        try:
            producer = RowProducer(client_properties(source), source.topic, stream.config.event)
            replay(producer, iter(Recording(stream.recording)), rate=share, should_stop=stop.is_set)
        except ReplayError as error:
            failed.append(str(error))

    threads = [threading.Thread(target=send, args=(each,), name=f"replay-{each.name}", daemon=True) for each in streams]
    for thread in threads:
        thread.start()
    try:
        yield failed
    finally:
        stop.set()
        for thread in threads:
            thread.join(10)
