"""The dataflow: source → learn → sink. Source and sink have threads of their own, which decode and encode while the
worker learns.

events topic ─ source ─┬─ learn (state by shard) ─┬─ sink ─ predictions, alerts
                       └─ dead letters ───────────┤       └ dead letters
feedback topic, if any ┬─ dead letters ───────────┘
                       └─ count (log, state)
"""

from __future__ import annotations

from typing import TypeGuard, cast

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.operators import KeyedStream

from ssm_stream.config import Config
from ssm_stream.flow.feedback import FeedbackDecoder, FeedbackLogic, feedback_topic
from ssm_stream.ingest.verdicts import Verdict
from ssm_stream.kafka.decoder import Decoder
from ssm_stream.kafka.records import LabelBatch, OutputBatch, PredictedBatch, ShardBatch
from ssm_stream.operators.shard_operator import ShardLogic
from ssm_stream.operators.sink import KafkaSink, TransactionalSink
from ssm_stream.operators.source import KafkaSource, label_source, labels_topic
from ssm_stream.ops.observers import UNOBSERVED, RunObserver


def _is_batch(
    item: tuple[str, ShardBatch | LabelBatch | OutputBatch],
) -> TypeGuard[tuple[str, ShardBatch | LabelBatch]]:
    return not isinstance(item[1], OutputBatch)


def _is_verdict(item: tuple[str, list[Verdict] | OutputBatch]) -> TypeGuard[tuple[str, list[Verdict]]]:
    return not isinstance(item[1], OutputBatch)


def monitor_flow(
    config: Config,
    partitions: tuple[int, ...],
    labels: tuple[int, ...] = (),
    feedback: tuple[int, ...] = (),
    *,
    until_eof: bool = False,
    observers: RunObserver = UNOBSERVED,
) -> Dataflow:
    """Return the production dataflow.

    Args:
        partitions, labels, feedback: of the events topic, the labels topic and the feedback topic
        until_eof: end at the end of the topics instead of waiting for more
    """
    flow = Dataflow("monitor")
    label_partitions = label_source(config, labels, observers) if labels else None
    source = KafkaSource(
        config.source,
        partitions,
        label_partitions,
        decoder=lambda: Decoder(config).decode,
        until_eof=until_eof,
        observers=observers,
    )
    decoded = op.input("source", flow, source)
    split = op.branch("usable", decoded, _is_batch)
    learned = op.stateful_batch("learn", split.trues, lambda state: ShardLogic(config, state, observers))
    letters = cast("KeyedStream[PredictedBatch | OutputBatch]", split.falses)
    outputs = op.merge("outputs", learned, letters, *_feedback(flow, config, feedback, observers, until_eof=until_eof))
    op.output("sink", outputs, _sink(config, partitions, labels, feedback, observers))
    return flow


def _sink(
    config: Config, events: tuple[int, ...], labels: tuple[int, ...], feedback: tuple[int, ...], observers: RunObserver
) -> KafkaSink:
    """Return the sink that `delivery` requires; its transactions cover all topics that are read."""
    if config.delivery == "at_least_once":
        return KafkaSink(config, observers)
    sources = {config.source.topic: events}
    for source, partitions in ((labels_topic(config), labels), (feedback_topic(config), feedback)):
        if source is not None:
            sources[source.topic] = partitions
    return TransactionalSink(config, sources, observers)


def _feedback(
    flow: Dataflow, config: Config, partitions: tuple[int, ...], observers: RunObserver, *, until_eof: bool
) -> list[KeyedStream[PredictedBatch | OutputBatch]]:
    """Return the outputs of the feedback topic: its dead letters, and those of the count, which has none.

    Bytewax runs a step only if it leads to a sink.
    """
    source = feedback_topic(config)
    if source is None or not partitions:
        return []
    read = KafkaSource(
        source, partitions, decoder=lambda: FeedbackDecoder(config), until_eof=until_eof, observers=observers
    )
    decoded = op.input("feedback", flow, read)
    split = op.branch("is_verdict", decoded, _is_verdict)
    counted = op.stateful_batch("count_feedback", split.trues, lambda state: FeedbackLogic(state, observers))
    return [counted, cast("KeyedStream[PredictedBatch | OutputBatch]", split.falses)]
