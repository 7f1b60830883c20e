"""The dataflow of a member of a group: that of the service, of the partitions that it holds.

events topic ─ source ─┬─ learn (state by partition) ─┬─ sink ─ predictions, alerts
                       └─ dead letters ───────────────┘       └ dead letters
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import bytewax.operators as op
import structlog
from bytewax.dataflow import Dataflow
from bytewax.operators import KeyedStream

from ssm_stream.config import Config
from ssm_stream.flow.group.whole_topics import WholeTopics
from ssm_stream.kafka.decoder import Decoder
from ssm_stream.kafka.partition_queue import Decode
from ssm_stream.kafka.records import Chunk, OutputBatch, PredictedBatch, shard_key
from ssm_stream.kafka.topic_head import FirstMessages
from ssm_stream.operators.group.member import Member
from ssm_stream.operators.group.steps import WHOLE, GroupSink, GroupSource, MemberLogic
from ssm_stream.ops.observers import RunObserver

LOG = structlog.get_logger("ssm_stream.source")


def build_member_flow(member: Member) -> Dataflow:
    """Return the dataflow of a member. Nothing is opened before it runs."""
    flow = Dataflow("monitor")
    decoded = op.input("source", flow, GroupSource(member))
    split = op.branch("usable", decoded, lambda item: not isinstance(item[1], OutputBatch))
    together = op.map("together", split.trues, lambda item: (WHOLE, item[1]))  # not by partition: they go side by side
    learned = op.stateful_batch("learn", together, lambda _: MemberLogic(member))
    letters = cast("KeyedStream[PredictedBatch | OutputBatch]", split.falses)
    op.output("sink", op.merge("outputs", learned, letters), GroupSink(member))
    return flow


def decoders(config: Config, observers: RunObserver, topics: WholeTopics) -> Callable[[], Decode]:
    """Return what makes the decoder of a partition: the key of its batches is that of the partition."""

    def report_missing(paths: int, sentences: list[str]) -> None:
        observers.on_missing_paths(paths)
        for each in sentences:
            LOG.warning("path_missing", what=each)

    inspect = FirstMessages(config, report_missing, topics.partitions)

    def decoder() -> Decode:
        topics.open()
        control = None if topics.control is None else topics.control.windows
        decode = Decoder(config, observers.on_passed_by, control, inspect, topics.context, topics.facts).decode

        def by_partition(chunk: Chunk) -> list[Any]:
            key = shard_key(chunk.partition)
            return [(key, item) for _, item in decode(chunk)]

        return by_partition

    return decoder
