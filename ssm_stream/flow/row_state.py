"""Rows of messages that are none yet, outside of a shard: for those who go through a topic again."""

from __future__ import annotations

import numpy as np

from ssm_stream.config import Config
from ssm_stream.engine.kernel_params import ttl_ms
from ssm_stream.ingest.context.facts import JoinFacts, unknown_facts
from ssm_stream.ingest.rows.builder import RowBuilder
from ssm_stream.ingest.rows.stage import row_builder
from ssm_stream.kafka.records import ShardBatch


def row_state(config: Config, state: bytes | None = None, join: JoinFacts | None = None) -> RowBuilder | None:
    """Return a builder of rows; None if messages are rows.

    Args:
        state: to begin with
        join: joins facts of context topics; None: they are unknown
    """
    builder = row_builder(config.event, ttl_ms(config))
    if builder is not None:
        builder.join_facts(join or unknown_facts(len(config.event.facts)))
    if builder is not None and state is not None:
        builder.load(state)
    return builder


def with_rows(batch: ShardBatch, builder: RowBuilder | None, source: int) -> ShardBatch:
    """Return a batch with the rows of its messages, if these are no rows yet. source: `Source.number`"""
    return batch if builder is None else batch.with_rows(builder.add(batch.events, batch.offsets, source))


def row_of(batch: ShardBatch, number: int) -> ShardBatch:
    """Return the row of a number, of those that one message has caused; the first if none has it."""
    numbers = batch.events.number
    own = [] if numbers is None else np.flatnonzero(numbers == number).tolist()
    at = own[0] if own else 0
    return batch.slice(at, at + 1) if len(batch.events) else batch
