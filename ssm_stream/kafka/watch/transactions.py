"""Transactions of other programs that stay open: nothing behind them is committed, so nothing behind them is read."""

from __future__ import annotations

import time

import structlog

from ssm_stream.config import Source

LOG = structlog.get_logger("ssm_stream.source")
LONG = 60.0
"""Seconds for which a transaction is open before that is in the log: a producer ends one sooner, by default."""


def describe_open(source: Source, partition: int, offset: int, messages: int) -> tuple[str, str]:
    """Return in words that so many messages wait behind a transaction, which begins at an offset; and the cure."""
    found = (
        f"topic {source.topic!r} partition {partition}: {messages:,} messages from offset {offset:,} on wait for a "
        "transaction of another program that is open there"
    )
    end = (
        f"kafka-transactions --bootstrap-server {source.brokers} abort --topic {source.topic} --partition {partition} "
        f"--start-offset {offset}"
    )
    return found, f"start the producer again that has begun it; or, if it is gone for good, end the transaction: {end}"


class TransactionWatch:
    """Puts into the log where a reader stands for long before a transaction, or ends there, once for each."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._standing: dict[int, tuple[int, float]] = {}

    def note(self, partition: int, offset: int, messages: int) -> None:
        """Note that a reader has come to this offset, and what waits behind it: nothing, mostly."""
        before, since = self._standing.get(partition, (-1, 0.0))
        now = time.monotonic()
        if not messages or before != offset:
            self._standing[partition] = offset, now
        elif now - since >= LONG:
            self._standing[partition] = offset, float("inf")
            self._warn(partition, offset, messages, "")

    def note_end(self, partition: int, offset: int, messages: int) -> None:
        """Note that a reader ends at this offset, and what it leaves there: nothing, mostly."""
        if messages:
            self._warn(partition, offset, messages, "; this run ends before them")

    def _warn(self, partition: int, offset: int, messages: int, more: str) -> None:
        found, cure = describe_open(self._source, partition, offset, messages)
        LOG.warning("open_transaction", topic=self._source.topic, partition=partition, error=found + more, cure=cure)
