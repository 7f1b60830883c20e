"""The dataflow: source → decode → learn → sink, dead letters beside it.

events topic ─ source ─ decode ─┬─ learn (state by shard) ─┬─ sink ─ predictions, alerts
                                └─ dead letters ───────────┘       └ dead letters
"""

from __future__ import annotations

from typing import TypeGuard, cast

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.operators import KeyedStream

from ssm_stream.config import Config
from ssm_stream.stream.codec import Decoder, LabelBatch, Output, ShardBatch
from ssm_stream.stream.operator import ShardLogic
from ssm_stream.stream.sink import KafkaSink
from ssm_stream.stream.source import KafkaSource, label_source


def _is_batch(item: tuple[str, ShardBatch | LabelBatch | Output]) -> TypeGuard[tuple[str, ShardBatch | LabelBatch]]:
    return not isinstance(item[1], Output)


def monitor_flow(
    config: Config, partitions: tuple[int, ...], labels: tuple[int, ...] = (), *, until_eof: bool = False
) -> Dataflow:
    """The production dataflow over these partitions of the events topic, and of the labels' where there is one."""
    flow = Dataflow("monitor")
    beside = label_source(config, labels) if labels else None
    chunks = op.input("source", flow, KafkaSource(config.source, partitions, beside, until_eof=until_eof))
    decoded = op.flat_map("decode", chunks, Decoder(config))
    split = op.branch("usable", decoded, _is_batch)
    learned = op.stateful_batch("learn", split.trues, lambda state: ShardLogic(config, state))
    letters = cast("KeyedStream[Output]", split.falses)
    outputs = op.merge("outputs", learned, letters)
    op.output("sink", outputs, KafkaSink(config))
    return flow
